"""Every flow that has secrets, with a canary planted in each; what came back is kept."""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.canaries import Canaries, files
from tests.integration.raw_http import Answer, asking
from tests.security.attacker import attacking, envelope, open_session
from tests.security.watched_bus import Said, WatchedBus

from sos.broker.nats.nkeys import KeyPair
from sos.sdk import AsyncAgent
from sos.sdk.credential import SessionKey
from sos.wire.errors import SosError
from sos.wire.nkeys import NkeyKind
from sos.wire.tokens import TokenKind, make

ERASED_WITHIN_S = 10.0
"""2 s are promised, and shown elsewhere; here a busy machine is no failure."""
LEAKS = 3 * 4
"""Each of three secrets is published and stored in four ways."""


class Heard(msgspec.Struct):
    """Everything that came back: what it was of, its bytes, and the canary it may show because it hands it out."""

    of: str
    content: bytes
    shows: tuple[str, ...] = ()


class Flows:
    """Plays them, plants the canaries, and keeps what came back."""

    def __init__(self, bus: WatchedBus) -> None:
        self.bus = bus
        self.canaries = Canaries()
        self.heard: list[Heard] = []
        self.codes: set[str] = set()
        self.tokens: dict[str, str] = {}
        self.tokens["operator"] = self.plant("operator", (bus.home / "operator.token").read_text().strip())
        for path in sorted((bus.home / "keys").glob("*.nk")):
            self.plant(path.name, path.read_text().strip())

    def plant(self, name: str, secret: str) -> str:
        return self.canaries.plant(name, secret)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def http(
        self, method: str, path: str, token: str = "", body: object = None, hands_out: str = "", **headers: str
    ) -> dict[str, Any]:
        """One call; a token in the answer is planted under `hands_out`, or is the one planted before under it."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await asking(self.bus.url, method, path, token, body, more=more)
        self._keep(f"{method} {len(self.heard)}", answer, hands_out)
        found = msgspec.json.decode(answer.body)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            self.codes.add(found["code"])
        elif hands_out:
            self.hand_out(hands_out, found.get("raw_token") or found["tenant_token"])
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    def _keep(self, of: str, answer: Answer, hands_out: str) -> None:
        shows = (hands_out,) if hands_out and answer.status < HTTPStatus.BAD_REQUEST else ()
        head = "\n".join(f"{k}: {v}" for k, v in answer.headers.items()).encode()
        self.heard.append(Heard(of, head + b"\n\n" + answer.body, shows))

    async def sos(self, *words: str, hands_out: str = "", home: Path | None = None, **environment: str) -> Said:
        """One command, whose output may show the canary that it hands out."""
        said = await self.bus.command(*words, home=home, **environment)
        self.heard.append(Heard(f"sos {said.words}: out", said.out, (hands_out,) if hands_out else ()))
        self.heard.append(Heard(f"sos {said.words}: err", said.err))
        return said

    def hand_out(self, name: str, token: str) -> None:
        """A token that was shown once: under this name, and the same as before if it was known."""
        assert self.tokens.setdefault(name, token) == token, name
        if name not in self.canaries:
            self.plant(name, token)

    def saved(self, name: str, home: Path | None = None) -> str:
        """The token that a home holds now."""
        return ((home or self.bus.home) / "agents" / "acme" / name / "token").read_text().strip()

    async def refused(self, doing: Any) -> None:
        """The SDK's refusal, kept."""
        try:
            await doing
        except SosError as e:
            self.codes.add(e.code)
            self.heard.append(Heard("SDK", f"{e}\n{e!r}\n{e.to_wire()}".encode()))
            return
        pytest.fail("the SDK has sent a secret")


AGENTS = "/api/tenants/acme/agents"


async def play(f: Flows) -> None:
    """All of them; the bus runs when they are over."""
    await tokens_are_given_out(f)
    await agents_join_and_work(f, f.bus.kept.parent / "second")
    await rights_are_taken(f)
    await wrong_tokens_are_shown(f)
    await tokens_stand_in_wrong_places(f)
    await clients_refuse_to_send(f)
    await secrets_are_published(f)
    await agents_ask_what_is_wrong(f)
    f.bus.list_processes()
    await the_bus_dies_and_is_rebuilt(f)


async def tokens_are_given_out(f: Flows) -> None:
    operator = f.tokens["operator"]
    said = await f.sos("project", "create", "acme", "--json", hands_out="tenant-1")
    f.hand_out("tenant-1", msgspec.json.decode(said.out)["tenant_token"])
    rotate = "/api/projects/acme/rotate"
    for _ in range(2):  # the second is a repetition, and shows the same one again
        await f.http("POST", rotate, operator, hands_out="tenant-2", Idempotency_Key="key-of-a-rotation")
    owner = f.tokens["tenant-2"]
    for _ in range(2):
        ask = {"agent_name": "cy", "charter": "helps"}
        await f.http("POST", f"{AGENTS}/mint", owner, ask, hands_out="cy", Idempotency_Key="key-of-a-mint")
    for name in ("bob", "dee", "eve", "vera"):
        await f.http("POST", f"{AGENTS}/mint", owner, {"agent_name": name}, hands_out=name)
    said = await f.sos("agent", "mint", "ann", "--project", "acme", "--save", hands_out="ann")
    f.hand_out("ann", f.saved("ann"))
    assert f.tokens["ann"].encode() in said.out
    await f.http("POST", "/api/catalog", operator, {"name": "kasra"})
    await f.http("POST", f"{AGENTS}/activate", operator, {"agent_name": "kasra"}, hands_out="kasra")
    await f.http("POST", "/api/tenants/acme/squads", owner, {"squad": "ops"})
    await f.http("POST", "/api/projects/acme/escalation", owner, {"to": "agent:eve"})


async def agents_join_and_work(f: Flows, second: Path) -> None:
    """From a second home; sessions are opened, renewed and ended."""
    join = (
        "agent",
        "join",
        "--name",
        "Code.Check",
        "--role",
        "code-reviewer",
        "--project",
        "acme",
        "--skill",
        "review",
    )
    for _ in range(2):
        said = await f.sos(*join, home=second, SOS_ADMIN_TOKEN=f.tokens["tenant-2"])
        assert said.code == 0, said.err
    f.hand_out("joined", f.saved("code-check", second))
    _, opened = await open_session(f.bus.url, f.tokens["dee"])
    f.plant("jwt", opened.jwt)
    f.plant("signature of the jwt", opened.jwt.rpartition(".")[2])
    ask = SessionKey().request(f.tokens["dee"], session=opened.session)
    renewed = await f.http("POST", "/api/session", f.tokens["dee"], ask, Idempotency_Key="key-of-a-session")
    f.plant("jwt of a renewal", renewed["jwt"])
    f.heard.pop()  # that answer is the one place of this JWT
    async with AsyncAgent(f.tokens["bob"], "bob", url=f.bus.url, home=second) as bob:
        await bob.join("ops", "works")
        await bob.send("vera", "nothing secret")
        await bob.peers()


async def rights_are_taken(f: Flows) -> None:
    owner = f.tokens["tenant-2"]
    said = await f.sos("agent", "rotate", "ann", "--grace-s", "60", "--json")
    assert said.code == 0, said.err
    f.hand_out("ann rotated", f.saved("ann"))
    for _ in range(2):
        ask = {"grace_s": 30}
        await f.http("POST", f"{AGENTS}/bob/rotate", owner, ask, hands_out="bob rotated", Idempotency_Key="of-bob")
    for _ in range(2):  # the repetition comes with a token that is not good any more
        own = {"grace_s": 0}
        key = "key-of-an-own-rotation"
        await f.http("POST", "/api/agent/rotate", f.tokens["cy"], own, hands_out="cy rotated", Idempotency_Key=key)
    for what in ("disable", "enable", "release"):
        await f.http("POST", f"{AGENTS}/cy/{what}", owner)
    await f.http("DELETE", f"{AGENTS}/cy", owner)
    for gone in ("cy", "cy rotated"):
        await f.http("GET", "/api/agent", f.tokens[gone])
    assert f.codes == {"unknown_token"}  # of the two that are gone; everything before was done


async def wrong_tokens_are_shown(f: Flows) -> None:
    for kind in TokenKind:
        wrong = f.plant(f"unknown {kind.name}", make(kind))
        mistyped = f.plant(f"mistyped {kind.name}", wrong[:-7] + "zzzzzzz")
        f.tokens |= {f"unknown {kind.name}": wrong, f"mistyped {kind.name}": mistyped}
        for token in (wrong, mistyped):
            await f.http("GET", "/api/agent", token)
            await f.http("GET", "/api/projects", token)
            await f.http("POST", f"{AGENTS}/mint", token, {"agent_name": "x"}, Idempotency_Key="key-of-a-thief")
    await f.http("POST", "/api/session", f.tokens["ann rotated"], {"public_nkey": f.tokens["ann rotated"]})
    said = await asyncio.gather(
        f.sos("project", "list", SOS_ADMIN_TOKEN=f.tokens["unknown TENANT"]),
        f.sos("project", "list", SOS_ADMIN_TOKEN=f.tokens["mistyped OPERATOR"]),
        f.sos("agent", "inbox", SOS_TOKEN=f.tokens["unknown AGENT"]),
        f.sos("agent", "inbox", "--json", SOS_TOKEN=f.tokens["mistyped AGENT"]),
    )
    assert [one.words for one in said if one.code == 0] == []


async def tokens_stand_in_wrong_places(f: Flows) -> None:
    owner = f.tokens["tenant-2"]
    for n, secret in enumerate([f.tokens["ann rotated"], f.plant("seed", KeyPair.generate(NkeyKind.USER).seed)]):
        escaped = "".join(f"%{byte:02X}" for byte in secret.encode())
        for path in (secret, escaped, f"api/{secret}", f"api/tenants/{secret}/agents", f"api/catalog/{secret}"):
            await f.http("DELETE" if "catalog" in path else "GET", f"/{path}", owner)
        for query in (f"after={secret}", f"token={secret}", f"limit={escaped}"):
            await f.http("GET", f"/api/audit?{query}", f.tokens["operator"])
        for field in ("agent_name", "model", "charter", "role", "install", secret):
            await f.http("POST", f"{AGENTS}/mint", owner, {"agent_name": f"wrong{n}", field: secret})
        for body in ([secret], secret, {"scopes": [secret]}, {"agent_name": "x", "skills": [{"id": secret}]}):
            await f.http("POST", f"{AGENTS}/mint", owner, body)
        unicoded = '{"agent_name":"' + "".join(f"\\u{ord(char):04x}" for char in secret) + '"}'
        await f.http("POST", f"{AGENTS}/mint", owner, unicoded.encode())
        await f.http("POST", f"{AGENTS}/mint", owner, b"{" + secret.encode())
        await f.http("POST", "/api/tenants/acme/squads", owner, {"squad": f"s{n}", "purpose": f"for {secret}"})
        await f.http("POST", "/api/projects/acme/escalation", owner, {"to": f"agent:{secret}"})
        await f.http("POST", f"{AGENTS}/mint", owner, {"agent_name": "y"}, Idempotency_Key=secret)
        await f.http("GET", "/api/agent", "", User_Agent=secret, X_Token=secret, Cookie=f"token={secret}")
        await f.http("GET", "/api/agent", f"{secret} {secret}")
        said = await asyncio.gather(
            f.sos("agent", "mint", secret, "--project", "acme"),
            f.sos("agent", "mint", "x", "--project", secret),
            f.sos("project", "create", secret, "--json"),
            f.sos("agent", "mint", "x", "--scope", secret),
            f.sos("agent", "mint", "x", secret),
            f.sos(secret),
        )
        assert [one.words for one in said if one.code == 0] == []
    assert f.codes >= {"secret_in_message", "malformed_token", "missing_token"}


async def clients_refuse_to_send(f: Flows) -> None:
    secret = f.tokens["vera"]
    async with AsyncAgent(f.tokens["vera"], "vera", url=f.bus.url, home=f.bus.kept.parent / "vera") as vera:
        await f.refused(vera.send("eve", f"take this: {secret}"))
        await f.refused(vera.send("eve", "in the data", data={"token": [secret]}))
        await f.refused(vera.send(secret, "as a name"))
        await f.refused(vera.broadcast("ops", secret))
        await f.refused(vera.broadcast(secret, "as a squad"))
        await f.refused(vera.join("ops", f"summary {secret}"))
        await f.refused(vera.join(secret))
        await f.refused(vera.members(secret))
        await f.refused(vera.card(secret))
        await f.refused(vera.send("eve", "in the thread", thread=secret))
    given = [("eve", f"take this: {secret}"), (secret, "hello"), ("eve", "x", "--data", secret), ("eve", "x", secret)]
    who = ("--as", "ann", "--project", "acme", "--json")
    said = await asyncio.gather(*(f.sos("agent", "send", *words, *who) for words in given))
    assert [one.code for one in said] == [2] * len(given)


async def secrets_are_published(f: Flows) -> None:
    """Raw, by a client that checks nothing. What is not stored is never seen again; what is stored is erased."""
    seed = f.plant("published seed", KeyPair.generate(NkeyKind.USER).seed)
    async with attacking(f.bus.url, f.tokens["dee"]) as dee:
        to_eve = f"project.acme.agent.eve.{dee.name}"
        for secret in (f.tokens["bob"], f.tokens["kasra"], seed):
            await dee.publish(to_eve, envelope(f"here: {secret}"))
            await dee.publish(to_eve, secret.encode())
            await dee.publish(to_eve, envelope(), headers={"X-Token": secret})
            await dee.publish(to_eve, b'{"x":"' + "".join(f"\\u{ord(c):04x}" for c in secret).encode() + b'"}')
            await dee.publish(f"project.acme.beat.{dee.name}", secret.encode())
            for verb in ("peers", "squad.join", secret, "nonsense"):
                answer = await dee.ask(f"project.acme.api.{dee.name}.{verb}", b'{"squad":"' + secret.encode() + b'"}')
                f.heard.append(Heard("NATS API", answer.body + repr(answer.headers).encode()))
    async with asyncio.timeout(ERASED_WITHIN_S):
        while (reported(f), left(f)) != (LEAKS, []):
            await asyncio.sleep(0.1)


def left(f: Flows) -> list[str]:
    """The canaries in the streams."""
    return [n for _, content in streams(f) for n in f.canaries.found_in(content)]


def reported(f: Flows) -> int:
    """How many facts of leaks there are."""
    return sum(content.count(b'"leak.found"') for _, content in streams(f))


def streams(f: Flows) -> Iterator[tuple[str, bytes]]:
    """The files of all streams."""
    return files(f.bus.home / "nats" / "jetstream")


async def agents_ask_what_is_wrong(f: Flows) -> None:
    ann = ("--as", "ann")
    for as_json in ((), ("--json",)):
        await asyncio.gather(
            f.sos("agent", "doctor", *ann, *as_json),
            f.sos("agent", "whoami", *ann, *as_json),
            f.sos("agent", "recover", *ann, *as_json),
            f.sos("agent", "sessions", "ann", *as_json),
            f.sos("agent", "list", "--project", "acme", *as_json),
            f.sos("admin", "audit", "--verify", *as_json),
        )
    for name in ("unknown AGENT", "mistyped AGENT", "bob"):
        token = f.tokens[name]
        await asyncio.gather(
            f.sos("agent", "doctor", "--json", SOS_TOKEN=token), f.sos("agent", "whoami", SOS_TOKEN=token)
        )


async def the_bus_dies_and_is_rebuilt(f: Flows) -> None:
    await f.bus.kill()
    exported = f.plant("exported", make(TokenKind.TENANT))
    await f.bus.start({"SOS_ADMIN_TOKEN": exported, "SOS_TOKEN": f.tokens["vera"]})
    f.bus.list_processes()
    f.bus.listings = [
        (what, content) for what, content in f.bus.listings if what != f"environ of {f.bus.pid}"
    ]  # what somebody exports stands in the environment of what they start; it is handed on to nobody
    await f.http("GET", "/api/agent", f.tokens["ann rotated"])
    await f.bus.stop()
    said = await f.sos("admin", "rebuild", "--json")
    assert said.code == 0, said.err
    await f.bus.start()
    f.bus.list_processes()
    said = await f.sos("admin", "audit", "--verify", "--quiet", "--json")
    assert said.code == 0, said.err
