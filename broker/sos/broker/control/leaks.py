"""What follows when secrets are found in stored messages: they are made worthless, erased, recorded, told.

The laws:

- The order: what can be made worthless first, for whoever read the message has the secret already; then the fact, while
  the message can still be found again after a crash; then the message is erased; then those concerned are told.
- Each step may be done again, by any gateway. A step that fails because NATS is away is tried until it is back.
- No secret goes into a fact, a log, a letter or an exception's text: its kind and its last four characters do.
- A flood is bounded, and keeps nothing that matters waiting. What opens something comes first and is always recorded
  and told; of what opens nothing, a budget is.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from time import monotonic

import msgspec

from sos.broker.control.escalations import Escalations
from sos.broker.control.journal import Journal
from sos.broker.control.leak_letters import Letter, ToAgent, about, letters
from sos.broker.control.letters import derived_id, tell, to_agent
from sos.broker.control.projects import Projects
from sos.broker.control.rates import Bucket
from sos.broker.control.tenant import Tenant
from sos.broker.control.voiding import OWN_KEY, Verdict, Voiding, Where, failed
from sos.broker.domain import leaks
from sos.broker.domain.leaks import Leak, ReportLeak
from sos.broker.nats.jetstream import StoredMessage
from sos.wire.errors import Internal, NatsUnreachable, SosError, StorageExhausted
from sos.wire.names import is_name
from sos.wire.secrets import Secret
from sos.wire.subjects import GATEWAY, MESSAGES

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Messages of one project that are erased and told at a time. More are no faster, as each waits for the server's disk,
and would be in the way of what is urgent [measured: 310 a second one at a time, 290 with 16, nats-server 2.15.0]."""
MAX_JUDGED = 256
"""Secrets of one message that are looked up. Nobody leaks more by accident; they are erased with the message."""
MAX_RECORDED = 32
"""Secrets named in one fact, those that opened something first: a fact must fit into a message."""
MAX_TRIES = 8
"""Of a step that fails although NATS is there. With the pauses below about 20 s; then the rest of the mail goes on."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
NOBODY = "?"
"""The sender of what was stored under a subject that ends in no name: JetStream wrote it for somebody."""
BUDGET = 100
"""Leaks of secrets that open nothing which a project may have recorded and told in a row: anybody can make up well
formed tokens, and facts are kept for ever."""
BUDGET_REFILL_S = 600.0
"""One more each ten minutes: 50,000 in a year, a part of the smallest project's EVENTS."""


class Found(msgspec.Struct, frozen=True):
    """A stored message and the secrets in it. Its repr shows neither."""

    message: StoredMessage
    secrets: tuple[Secret, ...]

    def __repr__(self) -> str:
        return f"Found({self.message.seq})"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A message with what was found out about its secrets, which are in here no more. `matters`: one opened something,
    or is a key of the bus."""

    report: ReportLeak
    stored_at: datetime
    matters: bool

    @property
    def seq(self) -> int:
        """The message's sequence."""
        return self.report.message_seq


class Leaks:
    """For messages of all projects."""

    def __init__(
        self,
        registry: Journal,
        projects: Projects,
        escalations: Escalations,
        voiding: Voiding,
        key: bytes,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._registry = registry
        self._views = registry.views
        self._projects = projects
        self._escalations = escalations
        self._voiding = voiding
        self._key = key
        self._now = now
        self._budgets: dict[str, Bucket] = {}
        self._judged: dict[tuple[str, int], list[Verdict]] = {}

    async def answer(self, tenant: Tenant, found: Sequence[Found]) -> list[Case]:
        """Make worthless what can be, and do all the rest for those messages. Returns the others, in order, for
        `close`: what opens nothing can wait, and erasing is slower than publishing."""
        await _persist("reading the registry", self._registry.catch_up)
        cases = [await self._void(tenant, one) for one in found]
        urgent = [case for case in cases if case.matters]
        await self.close(tenant, urgent)
        return [case for case in cases if not case.matters]

    async def close(self, tenant: Tenant, cases: Sequence[Case]) -> None:
        """Record, erase and tell. When this returns it is done, or the log says what could not be."""
        room, silent = asyncio.Semaphore(AT_ONCE), 0

        async def one(case: Case) -> None:
            nonlocal silent
            async with room:
                silent += not await self._close(tenant, case)

        async with asyncio.TaskGroup() as under_way:
            for case in cases:
                under_way.create_task(one(case))
        if silent:
            log.warning(
                "%d more messages of %s held made-up secrets and were erased, not recorded", silent, tenant.slug
            )

    async def tell_again(self, tenant: Tenant, after_seq: int) -> None:
        """Tell what is on record beyond the cursor: a gateway that died may have erased the message and told nobody.
        What was told already is stored once."""
        for leak in await self._views.leaks(tenant.slug):
            if leak.message_seq > after_seq:
                await self._tell(leak)

    # ── in this order ────────────────────────────────────────────────────────────────────────────────────────────

    async def _void(self, tenant: Tenant, found: Found) -> Case:
        """Whatever is tried again, by this tap or by the next, stands on what was found out the first time: a secret
        that was made void looks like one that never opened anything."""
        where = Where(project=tenant.slug, seq=found.message.seq)
        verdicts = self._judged.setdefault((where.project, where.seq), [])
        for secret in found.secrets[len(verdicts) : MAX_JUDGED]:
            shown = f"the {secret.kind} ending in {secret.tail} of {where.project}, message {where.seq}"
            verdict = await _persist(f"looking up {shown}", lambda s=secret: self._voiding.judge(s, where))
            verdicts.append(await self._carried_out(secret, verdict or failed(secret), shown))
        matters = any(_matters(v) for v in verdicts)
        if not matters:
            del self._judged[where.project, where.seq]  # nothing was done that another look would miss
        return Case(report=_report(where, found.message, verdicts), stored_at=found.message.time, matters=matters)

    async def _carried_out(self, secret: Secret, verdict: Verdict, shown: str) -> Verdict:
        """What became of it in truth."""
        act = verdict.act
        if act is None:
            return verdict

        async def done() -> bool:
            await act()
            return True

        return verdict if await _persist(f"making void {shown}", done) else failed(secret, verdict.leaked.of)

    async def _close(self, tenant: Tenant, case: Case) -> bool:
        """Whether it was recorded and told, not only erased."""
        report = case.report
        slug, seq = report.project, report.message_seq
        reported, leak = case.matters or self._in_budget(slug), None
        if reported:
            leak = await _persist(f"recording a leak in message {seq} of {slug}", lambda: self._record(tenant, report))
        await _persist(f"erasing message {seq} of {slug}", lambda: tenant.connection.erase(MESSAGES, seq))
        if reported:
            _log(report)
            await self._tell(_fuller(leak, case))
        self._judged.pop((slug, seq), None)
        return reported

    async def _record(self, tenant: Tenant, report: ReportLeak) -> Leak | None:
        slug, seq = report.project, report.message_seq
        await tenant.journal.execute(
            leaks.subject(slug, seq), lambda: self._views.leak(slug, seq), leaks.decide, report
        )
        return (await self._views.leak(slug, seq))[0]

    async def _tell(self, leak: Leak) -> None:
        for letter in letters(leak):
            await _persist(
                f"telling of message {leak.message_seq} of {leak.project}", lambda w=letter: self._send(leak, w)
            )

    async def _send(self, leak: Leak, letter: Letter) -> None:
        to = f"agent {letter.project}/{letter.name}" if isinstance(letter, ToAgent) else f"target {letter.of}"
        id_ = derived_id(self._key, leak.found_at, "leak", leak.project, leak.message_seq, to)
        if isinstance(letter, ToAgent):
            tenant = await self._projects.tenant(letter.project)
            data = about(leak, letter.project)
            await tell(tenant.connection, to_agent(letter.project, letter.name), letter.text, data, id_)
        else:
            sent = await self._escalations.report(letter.of, letter.text, about(leak, letter.of), id_)
            if not sent and await self._has_target(letter.of):
                raise Internal(what=f"the report of a leak to {to}")

    async def _has_target(self, of: str) -> bool:
        targets = [(await self._views.escalation(one))[0] for one in (of, "")]
        return any(target is not None and target.to for target in targets)

    def _in_budget(self, slug: str) -> bool:
        now = self._now()
        bucket = self._budgets.setdefault(slug, Bucket(1 / BUDGET_REFILL_S, BUDGET, now))
        return bucket.take(now) == 0


def _matters(verdict: Verdict) -> bool:
    return verdict.leaked.action != "none" or verdict.leaked.of.startswith(OWN_KEY)


def _report(where: Where, message: StoredMessage, verdicts: Sequence[Verdict]) -> ReportLeak:
    ordered = sorted(verdicts, key=_matters, reverse=True)
    sender = message.subject.rpartition(".")[2]
    return ReportLeak(
        at=datetime.now(UTC),
        actor=GATEWAY,
        token_id=next((v.token_id for v in ordered if v.token_id), ""),
        decision=where.decision,
        project=where.project,
        message_seq=where.seq,
        sender=sender if is_name(sender) else NOBODY,
        secrets=tuple(v.leaked for v in ordered[:MAX_RECORDED]),
    )


def _fuller(recorded: Leak | None, case: Case) -> Leak:
    """What to tell: the fact, or what was found if there was no room for a fact, or if another gateway, which came
    a moment later, was first to record it and had found everything void already."""
    report = case.report
    if recorded is not None and any(s.action != "none" for s in recorded.secrets):
        return recorded
    return Leak(
        project=report.project,
        message_seq=report.message_seq,
        sender=report.sender,
        secrets=report.secrets,
        found_at=recorded.found_at if recorded else case.stored_at,
    )


def _log(report: ReportLeak) -> None:
    shown = ", ".join(f"{s.kind} ending in {s.tail} of {s.of or 'nobody'}: {s.action}" for s in report.secrets)
    text = "message %d of project %s from %s held secrets and was erased: %s"
    log.warning(text, report.message_seq, report.project, report.sender, shown)
    for secret in report.secrets:
        if secret.of.startswith(OWN_KEY):
            key = secret.of.removeprefix(OWN_KEY)
            log.error("a key of the bus leaked (%s): nothing can be done automatically, see docs/operations.md", key)


async def _persist[T](what: str, step: Callable[[], Awaitable[T]]) -> T | None:
    """`step`, until it worked. While NATS is away there is nothing else to do, so that has no end; a disk or stream
    that is full is not waited for; anything else is given up in the end. The log says so."""
    failed, pause_s = 0, FIRST_PAUSE_S
    while True:
        try:
            return await step()
        except NatsUnreachable as e:
            log.warning("%s is tried again: %s", what, e)
        except StorageExhausted as e:
            log.error("%s was given up: %s", what, e)  # noqa: TRY400 - no defect of ours
            return None
        except Exception as e:  # noqa: BLE001 - the text of an error that nobody foresaw may hold the secret
            failed += 1
            why = str(e) if isinstance(e, SosError) else type(e).__name__
            log.error("%s failed %d of %d times: %s", what, failed, MAX_TRIES, why)  # noqa: TRY400 - for the same reason
            if failed == MAX_TRIES:
                return None
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
