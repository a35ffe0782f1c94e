"""Checks of the gateway: it answers, its clock, its version."""

import http.client
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from time import monotonic

import msgspec

from sos.sdk.doctor.check import Says, critical, in_thread, ok, refused, warning
from sos.sdk.doctor.patient import Patient
from sos.sdk.gateway import check_url
from sos.wire import api
from sos.wire.errors import GatewayUnreachable

HEALTH_TIMEOUT_S = 6.5
"""Milliseconds where all is well. Where NATS hangs the gateway waits 5 s for it and then says so: that is worth more
than to give up before."""
MAX_HEALTH_BYTES = 64 * 1024
CLOCK_WARNING_S = 2.0
CLOCK_CRITICAL_S = 30.0
"""Deadlines of answers are 30 and 60 s; a clock that is wrong by as much makes every time it writes misleading."""
DISTRIBUTION = "sos-bus"


async def reachable(patient: Patient) -> Says:
    """`gateway.reachable`: GET /healthz, and its own words if it is not well."""
    local = patient.local
    if local.url_problem is not None:
        return refused(local.url_problem)
    url = check_url(local.url)
    began = monotonic()
    try:
        health = await in_thread(lambda: _health(url), HEALTH_TIMEOUT_S)
    except TimeoutError:
        raise GatewayUnreachable(url=url, why="it did not answer in time") from None
    timing_ms = (monotonic() - began) * 1e3
    patient.health = health
    if not health.ok:
        why = health.why or "it does not say why"
        return warning(f"{url} answers and is not well: {why}", "Look at the gateway's log, on its machine.", timing_ms)
    return ok(f"{url}, version {health.version}, NATS {health.nats}", timing_ms)


def clock(patient: Patient) -> Says:
    """`clock`: this machine's against the gateway's."""
    return clock_says(patient.clock_s, patient.clock_margin_s)


def clock_says(ahead_s: float, margin_s: float) -> Says:
    """What it means that the gateway's clock is `ahead_s` ahead, give or take `margin_s`."""
    off_s = abs(ahead_s)
    direction = "behind" if ahead_s > 0 else "ahead of"
    found = f"{off_s:.2f} s {direction} the gateway's, give or take {margin_s:.2f} s"
    cure = "Set this machine's clock by the network ('timedatectl set-ntp true'), or the gateway's if that is wrong."
    if off_s - margin_s > CLOCK_CRITICAL_S:
        return critical(found, cure)
    return warning(found, cure) if off_s - margin_s > CLOCK_WARNING_S else ok(found)


def skew(patient: Patient) -> Says:
    """`version.skew`: the SDK here against the gateway there."""
    theirs = patient.me.gateway_version if patient.me is not None else ""
    theirs = theirs or (patient.health.version if patient.health is not None else "")
    try:
        return skew_says(version(DISTRIBUTION), theirs)
    except PackageNotFoundError:
        return warning(f"{DISTRIBUTION} is not installed as a package", f"Install it: pip install {DISTRIBUTION}")


def skew_says(ours: str, theirs: str) -> Says:
    """What these two versions mean together. The third number is for what changes nothing between the two."""
    found = f"SDK {ours}, gateway {theirs}"
    mine, its = _numbers(ours), _numbers(theirs)
    if mine[:2] == its[:2]:
        return ok(found)
    older = f"pip install '{DISTRIBUTION}=={theirs}'" if mine < its else "Have the operator bring the gateway up to it."
    return warning(found, older)


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _health(url: str) -> api.Health:
    """The gateway's word on itself, which it gives with 503 too."""
    request = urllib.request.Request(f"{url}/healthz", headers={"Accept": "application/json"})  # noqa: S310 - check_url allowed http and https only
    try:
        with urllib.request.urlopen(request, timeout=HEALTH_TIMEOUT_S) as answer:  # noqa: S310 - as above
            body = answer.read(MAX_HEALTH_BYTES)
    except urllib.error.HTTPError as e:
        with e:
            body = e.read(MAX_HEALTH_BYTES)
    except urllib.error.URLError as e:
        raise GatewayUnreachable(url=url, why=_why(e.reason)) from None
    except (OSError, http.client.HTTPException) as e:
        raise GatewayUnreachable(url=url, why=_why(e)) from None
    try:
        return msgspec.json.decode(body, type=api.Health)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise GatewayUnreachable(url=url, why="what answers there is not an SOS gateway") from None


def _why(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "it did not answer in time"
    return reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason) or type(reason).__name__
