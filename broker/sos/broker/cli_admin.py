"""`sos admin audit` and `sos admin escalate`: what the operator looks up and sets on a running bus, over HTTP.

The audit trusts nobody: it is given the registry's records as they are stored, to the byte, and verifies their chain
here. Tokens stand in no record; what is printed of one is its id, which opens nothing.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer

from sos.sdk.cli import JsonOption, failing, gateway, show_json, text
from sos.wire import api
from sos.wire.envelope import Moment
from sos.wire.errors import BadRequest
from sos.wire.names import normalise
from sos.wire.subjects import REGISTRY

if TYPE_CHECKING:
    from sos.broker.log.record import Reader

PAGE_RECORDS = 256
"""As many as the gateway gives in one answer: about 200 KB."""
HASH_CHARS = 64

admin = typer.Typer(help="The operator's tools.", no_args_is_help=True)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One fact as printed: who did what, when, with which token, by what right. `record` is the stored body. A record
    that cannot be read has no more than its place."""

    seq: int
    subject: str
    stored_at: Moment
    at: Moment | None = None
    actor: str = ""
    token_id: str = ""
    what: str = ""
    decision: str = ""
    record: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A chain that is whole: how many records, the hash of the last, and where the head that was noted earlier is."""

    records: int
    head: str
    noted_seq: int | None = None


class _Fact(msgspec.Struct, frozen=True):
    at: Moment
    actor: str
    type: str
    token_id: str = ""
    decision: str = ""


class _Body(msgspec.Struct, frozen=True):
    event: _Fact


@admin.command()
def audit(
    verify: Annotated[bool, typer.Option("--verify", help="Verify the hash chain, from the first record on.")] = False,
    after: Annotated[int, typer.Option("--after", min=0, help="Print facts behind this sequence only.")] = 0,
    project: Annotated[str, typer.Option("--project", "-p", help="Print facts of this project only.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="With --verify: print the verdict alone.")] = False,
    expect_head: Annotated[str, typer.Option(help="A head noted earlier, which must still be in the chain.")] = "",
    as_json: JsonOption = False,
) -> None:
    """The registry's facts: when, who, with which token, what, about what, by what right. One line a fact."""
    with failing(as_json=as_json):
        if (quiet or expect_head) and not verify:
            raise BadRequest(why="--quiet and --expect-head go with --verify")
        noted = _noted(expect_head)
        slug = normalise(project, "project slug") if project else ""
        chain = _Chain(noted) if verify else None
        for stored in _records(0 if chain else after):
            if chain is not None:
                chain.add(stored)
            if stored.seq > after and not quiet and (not slug or stored.subject.split(".")[1:2] == [slug]):
                _print(_shown(stored), as_json=as_json)
        if chain is not None:
            _tell(chain.verdict(), as_json=as_json)


@admin.command()
def escalate(
    target: Annotated[str, typer.Argument(help="SLUG/agent:NAME or SLUG/squad:ID.")] = "",
    none: Annotated[bool, typer.Option("--none", help="To nobody.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say where it is reported what the operator has to look at: a disk that fills, a secret that leaked."""
    with failing(as_json=as_json):
        if bool(target) == none:
            raise BadRequest(why="say where: SLUG/agent:NAME or SLUG/squad:ID, or --none")
        set_ = gateway().call_blocking("POST", "/api/escalation", api.Escalation, api.SetEscalation(to=target))
    show_json(set_) if as_json else text(f"The operator's matters are reported to: {set_.to or 'nobody'}.")


class _Chain:
    """Verifies records as they come, the first one first."""

    def __init__(self, noted: str) -> None:
        self._reader = _reader()
        self._noted = noted
        self._found: int | None = None
        self._head, self._seq, self._records = "", 0, 0

    def add(self, stored: api.AuditRecord) -> None:
        """`DataLoss`, naming the sequence, unless this record continues the one before it."""
        if stored.seq != self._seq + 1:
            _lost(f"sequence {self._seq + 1} is missing")
        body = stored.record.encode()
        if hashlib.sha256(body).hexdigest() != stored.sha256:
            _lost(f"sequence {stored.seq} holds bytes that are no text, or was changed on the way")
        read = self._reader.read(stored.seq, stored.subject, body)
        self._head, self._seq, self._records = read.hash, stored.seq, self._records + 1
        if read.hash == self._noted:
            self._found = read.seq

    def verdict(self) -> Verdict:
        """`DataLoss` if the noted head is nowhere in it: a chain that is cut off at its end is whole without."""
        if self._noted and self._found is None:
            _lost(f"the head {self._noted}, noted earlier, is not in it: it was cut off before that, or written anew")
        return Verdict(records=self._records, head=self._head, noted_seq=self._found)


def _reader() -> "Reader":
    from sos.broker.log.record import FIRST_PREV, Reader

    return Reader(REGISTRY, chained=True, after=FIRST_PREV)


def _lost(why: str) -> NoReturn:
    from sos.broker.errors import DataLoss

    raise DataLoss(stream=REGISTRY, why=why)


def _noted(given: str) -> str:
    head = given.strip().lower()
    if head and (len(head) != HASH_CHARS or set(head) - set("0123456789abcdef")):
        raise BadRequest(why=f"--expect-head is the {HASH_CHARS} hex characters that --verify prints")
    return head


def _records(after: int) -> Iterator[api.AuditRecord]:
    """What is stored behind `after`, page by page, up to where the registry ends at the first answer: one that grows
    meanwhile is not read for ever. `DataLoss` if the gateway has not what it says there is."""
    asked, end = gateway(), None
    while end is None or after < end:
        page = asked.call_blocking("GET", f"/api/audit?after={after}&limit={PAGE_RECORDS}", api.Audit)
        end = page.head if end is None else end
        if not page.records and after < end:
            _lost(f"it ends at sequence {end}, but nothing is stored behind {after}")
        for stored in page.records:
            if stored.seq <= end:
                yield stored
            after = stored.seq


def _shown(stored: api.AuditRecord) -> Shown:
    place = Shown(seq=stored.seq, subject=stored.subject, stored_at=stored.stored_at, record=stored.record)
    try:
        fact = msgspec.json.decode(stored.record, type=_Body).event
    except msgspec.MsgspecError:
        return place
    return msgspec.structs.replace(
        place, at=fact.at, actor=fact.actor, token_id=fact.token_id, what=fact.type, decision=fact.decision
    )


def _print(fact: Shown, *, as_json: bool) -> None:
    if as_json:
        show_json(fact)
        return
    when = f"{fact.at or fact.stored_at:%Y-%m-%d %H:%M:%S}"
    about = fact.subject.removeprefix("registry.")
    words = (
        f"{fact.seq:>6}",
        when,
        f"{fact.actor or '-':<18}",
        f"{fact.token_id or '-':<12}",
        f"{fact.what or 'unreadable':<20}",
        f"{about:<36}",
        fact.decision or "-",
    )
    text(_on_one_line("  ".join(words)))


def _on_one_line(words: str) -> str:
    """What somebody wrote into a damaged record moves no cursor here."""
    return "".join(c if c.isprintable() else "?" for c in words)


def _tell(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        show_json(verdict)
        return
    text(f"The chain is whole: {verdict.records} records.")
    text(f"  head: {verdict.head or 'none yet'}")
    if verdict.noted_seq is None:
        text("Note it elsewhere: with --expect-head HEAD a later --verify tells whether the end was cut off.")
    else:
        text(
            f"  the head noted earlier is sequence {verdict.noted_seq}; {verdict.records - verdict.noted_seq} more came"
        )
