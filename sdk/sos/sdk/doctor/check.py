"""The machinery of a check: a stable id, what it needs, a bound in time; and what it says: verdict, finding, cure.

The law: each check gives exactly one finding. One that fails, hangs or stands on another that failed says so in its own
finding and stops no other.
"""

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Any, Literal

import msgspec

from sos.wire.errors import SosError
from sos.wire.tokens import redact

Verdict = Literal["ok", "warning", "critical", "skipped"]
_WORST_FIRST: tuple[Verdict, ...] = ("critical", "warning", "ok", "skipped")
LOOK_S = 2.0
"""A look at this machine takes milliseconds; a home on a network disk that is away would take for ever."""


class Says(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found, before it has an id."""

    verdict: Verdict
    found: str
    cure: str = ""
    timing_ms: float | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found. `id` is stable and is what programs match; `timing_ms` is set where time was measured."""

    id: str
    verdict: Verdict
    found: str
    cure: str
    timing_ms: float | None


class Check[P](msgspec.Struct, frozen=True, kw_only=True):
    """One check. `look` is called with the patient: a plain function in a thread, an `async` one in the loop.

    `needs` are the ids of checks without which this one says nothing; `bound_s` is the longest it may take.
    """

    id: str
    look: Callable[[P], Says] | Callable[[P], Awaitable[Says]]
    needs: tuple[str, ...] = ()
    bound_s: float = LOOK_S


def ok(found: str, timing_ms: float | None = None) -> Says:
    """Nothing to do."""
    return Says(verdict="ok", found=found, timing_ms=timing_ms)


def warning(found: str, cure: str, timing_ms: float | None = None) -> Says:
    """It works, and somebody should look at it."""
    return Says(verdict="warning", found=found, cure=cure, timing_ms=timing_ms)


def critical(found: str, cure: str, timing_ms: float | None = None) -> Says:
    """It does not work, or not for long."""
    return Says(verdict="critical", found=found, cure=cure, timing_ms=timing_ms)


def skipped(why: str, cure: str = "") -> Says:
    """It was not looked at."""
    return Says(verdict="skipped", found=why, cure=cure)


def refused(error: SosError) -> Says:
    """A refusal or failure of the bus, with its own cure."""
    return critical(error.detail, error.remedy)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of what was looked at; `skipped` if nothing was."""
    found = set(verdicts)
    for verdict in _WORST_FIRST:
        if verdict in found:
            return verdict
    return "skipped"


async def run[P](
    checks: Iterable[Check[P]], patient: P, total_s: float, told: Callable[[Finding], None]
) -> tuple[Finding, ...]:
    """Every check in its order, all within `total_s`; `told` hears of each finding as it is made."""
    deadline = monotonic() + total_s
    findings: dict[str, Finding] = {}
    for check in checks:
        says = await _outcome(check, patient, findings, deadline - monotonic(), total_s)
        found, cure = redact(says.found), redact(says.cure)
        finding = Finding(id=check.id, verdict=says.verdict, found=found, cure=cure, timing_ms=says.timing_ms)
        findings[check.id] = finding
        told(finding)
    return tuple(findings.values())


async def in_thread[T](work: Callable[[], T], bound_s: float) -> T:
    """`work` in a thread of its own; `TimeoutError` past the bound.

    The thread is a daemon: one that is stuck in a resolver or on a disk is left behind and does not hold up the exit,
    as one of the loop's own pool would.
    """
    done: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run_it() -> None:
        done.set_running_or_notify_cancel()
        try:
            done.set_result(work())
        except BaseException as e:  # noqa: BLE001 - it is raised again where it is awaited
            done.set_exception(e)

    threading.Thread(target=run_it, name="sos-doctor", daemon=True).start()
    return await asyncio.wait_for(asyncio.wrap_future(done), bound_s)


async def _outcome(
    check: Check[Any], patient: object, findings: dict[str, Finding], left_s: float, total_s: float
) -> Says:
    if lacking := [n for n in check.needs if findings[n].verdict in {"critical", "skipped"}]:
        return skipped(f"it needs {' and '.join(lacking)}")
    if left_s <= 0:
        return skipped(f"the time is up: the whole examination has {total_s:g} s")
    bound_s = min(check.bound_s, left_s)
    try:
        return await _look(check, patient, bound_s)
    except SosError as e:
        return refused(e)
    except TimeoutError:
        return critical(f"no answer in {bound_s:.1f} s", "See whether this machine, its disk and its network are well.")
    except Exception as e:  # noqa: BLE001 - one failing check never stops the others
        what = f"the check itself failed: {type(e).__name__}: {e}"
        return critical(what, "If what it says does not explain it, please report it.")


async def _look(check: Check[Any], patient: object, bound_s: float) -> Says:
    if inspect.iscoroutinefunction(check.look):
        async with asyncio.timeout(bound_s):
            return await check.look(patient)
    look: Callable[[object], Any] = check.look
    return await in_thread(lambda: look(patient), bound_s)
