"""What the demo does, in order. Every step is done by real agents through the SDK, or past it by an attacker."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic

import msgspec

from sos.sdk import AsyncAgent, Message
from sos.sdk.demo.bus import DemoBus, throw_away_bus
from sos.sdk.demo.traffic import Bell, Traffic
from sos.sdk.holding import Holding
from sos.sdk.link import Line
from sos.sdk.session import Session, Who
from sos.wire import subjects
from sos.wire.errors import Forbidden, Kind, NatsUnreachable, SosError, UnknownRecipient, UnknownToken

STEP_TIMEOUT_S = 20.0
TRAFFIC_SENDERS = 4
TRAFFIC_EACH = 300
KILL_AFTER_ACKED = 300

Say = Callable[[str], None]


class Outcome(msgspec.Struct, kw_only=True):
    """What the demo showed."""

    direct: bool = False
    reply: bool = False
    broadcast_received: int = 0
    offline_caught_up: bool = False
    unknown_recipient_refused: bool = False
    forged_sender_refused: bool = False
    cross_project_refused: bool = False
    revoked_is_cut: bool = False
    leaked_token_is_void: bool = False
    acked: int = 0
    acked_lost_after_kill9: int = -1
    handler_duplicates: int = -1
    order_breaks: int = -1
    elapsed_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether everything went as it should."""
        shown = (self.direct, self.reply, self.offline_caught_up, self.unknown_recipient_refused)
        kept_out = (
            self.forged_sender_refused,
            self.cross_project_refused,
            self.revoked_is_cut,
            self.leaked_token_is_void,
        )
        faults = (self.acked_lost_after_kill9, self.handler_duplicates, self.order_breaks)
        return all(shown) and all(kept_out) and self.broadcast_received == 3 and faults == (0, 0, 0)


class Story:
    """One telling."""

    def __init__(self, bus: DemoBus, say: Say, stack: AsyncExitStack) -> None:
        self._bus, self._say, self._stack = bus, say, stack
        self.out = Outcome()
        self._bell = Bell()
        self._got: list[Message] = []
        self._tokens: dict[str, str] = {}

    async def tell(self) -> None:
        """Everything."""
        await self._set_up()
        await self._direct()
        await self._squad()
        await self._refusals()
        await self._kill()
        await self._revoke()
        await self._leak()

    # ── the steps ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _set_up(self) -> None:
        await self._bus.project("acme")
        await self._bus.project("globex")
        for name in ("ann", "ben", "cat", "dan"):
            self._tokens[name] = await self._bus.mint("acme", name)
        self._tokens["eve"] = await self._bus.mint("globex", "eve")
        await self._bus.squad("acme", "sales")
        self._say("Two projects, acme and globex: each is a NATS account of its own.")
        self._say("  acme has the agents ann, ben, cat and dan, and a squad 'sales'; globex has eve.")

    async def _direct(self) -> None:
        self.ann, self.ben = await self._agent("ann"), await self._agent("ben", reviews=True)
        await self.ann.send("ben", "review this")
        await self._until(lambda: self._heard("ben", "review this"), "ben hears ann")
        self.out.direct = True
        self._say("ann → ben: 'review this' …stored by NATS, handled by ben.")
        await self._until(lambda: self._heard("ann", "I can take this."), "ann gets the reply")
        self.out.reply = True
        self._say("ben → ann: 'I can take this.' …the reply is in ann's inbox.")

    async def _squad(self) -> None:
        cat, dan = await self._agent("cat"), await self._agent("dan")
        for member in (self.ben, cat, dan):
            await member.join("sales")
        await self.ann.broadcast("sales", "new lead")
        await self._until(lambda: self._received("new lead") == 3, "three members get the broadcast")
        self.out.broadcast_received = self._received("new lead")
        self._say("ann → squad sales: 'new lead' …all 3 members have it.")
        await dan.stop()
        await self.ann.broadcast("sales", "second lead")
        await self._until(lambda: self._received("second lead") == 2, "two members get the second one")
        self._say("dan is down; ann → sales: 'second lead' …ben and cat have it.")
        await self._agent("dan")
        await self._until(lambda: self._heard("dan", "second lead"), "dan catches up")
        self.out.offline_caught_up = True
        self._say("dan is back …and has it too.")

    async def _refusals(self) -> None:
        try:
            await self.ann.send("bne", "hello?")
        except UnknownRecipient as e:
            self.out.unknown_recipient_refused = "ben" in e.close
            self._say(f"ann → bne: refused. {e.detail}")
        async with self._raw("ann") as ann:
            forged = str(subjects.ToAgent("acme", "ben", "cat"))
            self.out.forged_sender_refused = await _refused(ann, forged)
            self._say("ann writes to NATS directly, as if she were cat: the server refuses it.")
        async with self._raw("eve") as eve:
            foreign = (
                str(subjects.ToAgent("acme", "ben", "eve")),
                str(subjects.ApiCall("acme", "ann", "peers")),
                subjects.pull("ben"),
            )
            refused = [await _refused(eve, subject) for subject in foreign]
            self.out.cross_project_refused = all(refused)
            self._say("eve of globex tries to write to ben, to ask as ann, to read ben's inbox: refused, three times.")

    async def _kill(self) -> None:
        senders = [await self._minted(f"sender-{i}") for i in range(TRAFFIC_SENDERS)]
        receivers = [await self._minted(f"receiver-{i}") for i in range(2)]
        traffic = Traffic(senders, receivers, TRAFFIC_EACH)
        for agent in (*senders, *receivers):
            await self._stack.enter_async_context(agent)
        total = TRAFFIC_SENDERS * TRAFFIC_EACH
        self._say(f"{TRAFFIC_SENDERS} agents send {total} messages to 2 others…")
        running = asyncio.create_task(traffic.run())
        await traffic.bell.until(lambda: len(traffic.acked) >= KILL_AFTER_ACKED, STEP_TIMEOUT_S)
        at = len(traffic.acked)
        self._bus.kill_nats()
        self._say(f"  kill -9 of nats-server after {at} were acknowledged; the gateway starts it again…")
        await running
        tally = traffic.tally()
        self.out.acked = tally.acked
        self.out.acked_lost_after_kill9 = tally.lost
        self.out.handler_duplicates, self.out.order_breaks = tally.duplicates, tally.order_breaks
        self._say(
            f"  {tally.acked} acknowledged: {tally.lost} lost, {tally.duplicates} handled twice, "
            f"{tally.order_breaks} out of order."
        )

    async def _revoke(self) -> None:
        gone = await self._minted("gone")
        await gone.connect()
        cut = await self._bus.revoke("acme", "gone")
        try:
            await asyncio.wait_for(gone.wait(), STEP_TIMEOUT_S)
        except UnknownToken:
            self.out.revoked_is_cut = True
        finally:
            await gone.stop()
        self._say(f"The owner revokes an agent: the server confirms after {cut.took_ms:.0f} ms that it is cut off.")

    async def _leak(self) -> None:
        self._tokens["careless"] = token = await self._bus.mint("acme", "careless")
        async with self._raw("careless") as line:
            began = monotonic()
            await line.request(str(subjects.ToAgent("acme", "ben", "careless")), token.encode())
        while monotonic() < began + STEP_TIMEOUT_S and not self.out.leaked_token_is_void:
            self.out.leaked_token_is_void = await self._bus.is_void(token)
        took_ms = (monotonic() - began) * 1_000
        self._say(f"An agent writes its own token into a message, past the SDK: worthless after {took_ms:.0f} ms.")

    # ── the means ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _agent(self, name: str, *, reviews: bool = False) -> AsyncAgent:
        agent = AsyncAgent(self._tokens[name], name, url=self._bus.up.url)

        @agent.on_message
        async def take(message: Message) -> None:
            self._got.append(message)
            self._bell.ring()
            if reviews and message.text.startswith("review"):
                await agent.reply(message, "I can take this.")

        await self._stack.enter_async_context(agent)
        return agent

    async def _minted(self, name: str) -> AsyncAgent:
        return AsyncAgent(await self._bus.mint("acme", name), name, url=self._bus.up.url)

    def _raw(self, name: str) -> "_Raw":
        return _Raw(self._bus.up.url, self._tokens[name])

    def _heard(self, who: str, text: str) -> bool:
        return any(m.to == who and m.text == text for m in self._got)

    def _received(self, text: str) -> int:
        return len({m.to for m in self._got if m.text == text})

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        if not await self._bell.until(condition, STEP_TIMEOUT_S):
            raise StepFailed(what=what, timeout_s=STEP_TIMEOUT_S)


@dataclass(eq=False)
class StepFailed(
    SosError,
    kind=Kind.INTERNAL,
    says="The demo waited {timeout_s:g} s in vain for this: {what}.",
    cure="Run it again with nothing else on the machine; if it fails again, please report it.",
):
    """A step of the demo that did not happen."""

    what: str
    timeout_s: float


class _Raw:
    """An agent's own credential on a bare connection: what someone holds who does not use the SDK."""

    def __init__(self, url: str, token: str) -> None:
        self._session = Session(url, Holding(token), Who(), _nothing, STEP_TIMEOUT_S)

    async def __aenter__(self) -> Line:
        return await (await self._session.__aenter__()).line(STEP_TIMEOUT_S)

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()


async def _nothing(_new: Line, _old: Line | None) -> None:
    """A bare connection has nothing to move."""


async def _refused(line: Line, subject: str) -> bool:
    """Whether the server itself refused it: an answer or a silence is not a refusal."""
    try:
        await line.request(subject, b"{}", timeout_s=2.0)
    except Forbidden:
        return True
    except NatsUnreachable:
        return False
    return False


async def tell(say: Say) -> Outcome:
    """The demo, from nothing to nothing. `say` gets each line for a person."""
    begun = monotonic()
    say("Starting a bus of its own in a temporary folder…")
    async with throw_away_bus() as bus, AsyncExitStack() as stack:
        say(f"  gateway {bus.up.url}, nats-server {bus.up.nats_version}, every write synced to disk.")
        story = Story(bus, say, stack)
        await story.tell()
    story.out.elapsed_s = round(monotonic() - begun, 2)
    say(f"Done in {story.out.elapsed_s:g} s; the folder is gone. Next:  make up" if story.out.good else "It FAILED.")
    return story.out
