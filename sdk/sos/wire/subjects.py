"""Every subject of the bus is built and parsed here, and nowhere else.

The law: a builder takes names, checks each, and returns a subject in which every name is exactly one token; `parse` is
its inverse and refuses everything else. So no name, however hostile, becomes a wildcard, a second token or another
project's subject. The sender is the last token of a message's subject: the server let only that agent write it.
"""

import re

import msgspec

from sos.wire import names
from sos.wire.errors import BadName, BadSubject

MESSAGES = "MESSAGES"
"""The stream of a project's messages."""
EVENTS = "EVENTS"
"""The stream of a project's facts."""
REGISTRY = "REGISTRY"
"""The stream of facts about all projects, in the account SOS."""
IDEMPOTENCY = "IDEMPOTENCY"
"""The stream of answers to requests that may be repeated, in the account SOS."""

GATEWAY = "gateway"
"""The sender of what the bus itself has to say. No agent may be called so."""
SYSTEM = "sos"
"""Stands for the whole bus where a fact of REGISTRY belongs to no project."""

INBOX_ROOT = "_INBOX_"
"""Reply subjects start with this and 32 random characters, new for each session: what cannot be guessed cannot be
written to. The underscore keeps them outside the `_INBOX.>` that other clients of an account may share."""

_INBOX = re.compile(r"_INBOX_[a-z0-9]{32}")
_REPLY_TOKENS = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_ACK = re.compile(r"\$JS\.ACK\.([^.]+)\.([^.]+)" + r"\.([0-9]{1,20})" * 5)
_NOUN = re.compile(r"[a-z][a-z_]{0,31}")
_VERB = re.compile(r"[a-z_]{1,32}(?:\.[a-z_]{1,32})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class _Subject(msgspec.Struct, frozen=True):
    """One parsed subject; `str()` builds it."""


class ToAgent(_Subject, frozen=True):
    """A message to one agent: `project.<project>.agent.<to>.<sender>`."""

    project: str
    to: str
    sender: str

    def __str__(self) -> str:
        return f"project.{_n(self.project)}.agent.{_n(self.to)}.{_sender(self.sender)}"


class ToSquad(_Subject, frozen=True):
    """A message to a squad: `project.<project>.squad.<squad>.<sender>`."""

    project: str
    squad: str
    sender: str

    def __str__(self) -> str:
        return f"project.{_n(self.project)}.squad.{_n(self.squad)}.{_sender(self.sender)}"


class Fact(_Subject, frozen=True):
    """A fact of a project, written by the gateway alone: `project.<project>.event.<noun>.<id>`."""

    project: str
    noun: str
    id: str

    def __str__(self) -> str:
        return f"project.{_n(self.project)}.event.{_noun(self.noun)}.{_n(self.id)}"


class Address(_Subject, frozen=True):
    """The last fact here says whether the address exists: `project.<project>.address.agent|squad.<name>`."""

    project: str
    of: str
    name: str

    def __str__(self) -> str:
        if self.of not in {"agent", "squad"}:
            raise BadSubject(subject=f"address.{self.of}")
        return f"project.{_n(self.project)}.address.{self.of}.{_n(self.name)}"


class Beat(_Subject, frozen=True):
    """A heartbeat, never stored: `project.<project>.beat.<agent>`."""

    project: str
    agent: str

    def __str__(self) -> str:
        return f"project.{_n(self.project)}.beat.{_n(self.agent)}"


class ApiCall(_Subject, frozen=True):
    """A request to the gateway: `project.<project>.api.<agent>.<verb>`, the verb one or two tokens."""

    project: str
    agent: str
    verb: str

    def __str__(self) -> str:
        if _VERB.fullmatch(self.verb) is None:
            raise BadSubject(subject=f"api.{self.verb}"[:256])
        return f"project.{_n(self.project)}.api.{_n(self.agent)}.{self.verb}"


class RegistryFact(_Subject, frozen=True):
    """A fact in the account SOS: `registry.<project>.<noun>.<id>`."""

    project: str
    noun: str
    id: str

    def __str__(self) -> str:
        return f"registry.{_n(self.project)}.{_noun(self.noun)}.{_n(self.id)}"


Subject = ToAgent | ToSquad | Fact | Address | Beat | ApiCall | RegistryFact
Message = ToAgent | ToSquad


def parse(subject: str) -> Subject:
    """The subject's parts, or `BadSubject`. The inverse of `str()` on every class above."""
    try:
        found = _shape(subject.split("."))
        if found is not None and str(found) == subject:
            return found
    except BadName:
        raise BadSubject(subject=subject[:256]) from None
    raise BadSubject(subject=subject[:256])


def parse_message(subject: str) -> Message:
    """Like `parse`, for subjects of the stream MESSAGES only."""
    found = parse(subject)
    if not isinstance(found, ToAgent | ToSquad):
        raise BadSubject(subject=subject[:256])
    return found


def parse_call(subject: str) -> ApiCall:
    """Like `parse`, for whatever `api_grant` lets an agent publish: the verb may be one that no gateway could serve.

    So that who asks for something impossible is answered and does not wait. `BadSubject` for anything else.
    """
    match subject.split("."):
        case ["project", project, "api", agent, *verb] if verb and names.is_name(project) and names.is_name(agent):
            return ApiCall(project, agent, ".".join(verb))
        case _:
            raise BadSubject(subject=subject[:256])


def _shape(tokens: list[str]) -> Subject | None:
    match tokens:
        case ["project", project, "agent", to, sender]:
            return ToAgent(project, to, sender)
        case ["project", project, "squad", squad, sender]:
            return ToSquad(project, squad, sender)
        case ["project", project, "event", noun, id_]:
            return Fact(project, noun, id_)
        case ["project", project, "address", of, name]:
            return Address(project, of, name)
        case ["project", project, "beat", agent]:
            return Beat(project, agent)
        case ["project", project, "api", agent, *verb] if verb:
            return ApiCall(project, agent, ".".join(verb))
        case ["registry", project, noun, id_]:
            return RegistryFact(project, noun, id_)
        case _:
            return None


# ── patterns: what streams store, consumers filter and grants allow ──────────────────────────────────────────────


def messages_of(project: str) -> tuple[str, str]:
    """What the stream MESSAGES of a project stores."""
    return (f"project.{_n(project)}.agent.*.*", f"project.{_n(project)}.squad.*.*")


def facts_of(project: str) -> tuple[str, str]:
    """What the stream EVENTS of a project stores."""
    return (f"project.{_n(project)}.event.*.*", f"project.{_n(project)}.address.*.*")


REGISTRY_FACTS = "registry.*.*.*"
"""What the stream REGISTRY stores."""

REPEATS = "idempotency.*"
"""What the stream IDEMPOTENCY stores."""


def repeat(digest: str) -> str:
    """Where the answer to one request that may be repeated is: `idempotency.<64 hex characters>`."""
    if _DIGEST.fullmatch(digest) is None:
        raise BadSubject(subject=f"idempotency.{digest}"[:256])
    return f"idempotency.{digest}"


def agents_of(project: str) -> str:
    """The facts of every agent of a project, in REGISTRY."""
    return f"registry.{_n(project)}.agent.*"


def inbox_filter(project: str, agent: str) -> str:
    """All that is sent to one agent."""
    return f"project.{_n(project)}.agent.{_n(agent)}.*"


def squad_filter(project: str, squad: str) -> str:
    """All that is sent to one squad."""
    return f"project.{_n(project)}.squad.{_n(squad)}.*"


def api_pattern(project: str) -> str:
    """Every agent's calls of every verb."""
    return f"project.{_n(project)}.api.*.>"


def send_pattern(project: str, agent: str) -> str:
    """To whichever agent, from this one."""
    return f"project.{_n(project)}.agent.*.{_n(agent)}"


def broadcast_pattern(project: str, agent: str) -> str:
    """To whichever squad, from this agent."""
    return f"project.{_n(project)}.squad.*.{_n(agent)}"


def api_grant(project: str, agent: str) -> str:
    """Every verb, as this agent."""
    return f"project.{_n(project)}.api.{_n(agent)}.>"


def address_grant(project: str) -> str:
    """Reading the last fact of any address of the project."""
    return f"$JS.API.DIRECT.GET.{EVENTS}.project.{_n(project)}.address.*.*"


def address_read(address: Address) -> str:
    """Where a request for an address's last fact goes."""
    return f"$JS.API.DIRECT.GET.{EVENTS}.{address}"


def pull(agent: str) -> str:
    """Where an agent asks for its next messages."""
    return f"$JS.API.CONSUMER.MSG.NEXT.{MESSAGES}.{_n(agent)}"


def ack_grant(agent: str) -> str:
    """Where an agent acknowledges what was delivered to it."""
    return f"$JS.ACK.{MESSAGES}.{_n(agent)}.>"


# ── reply subjects ───────────────────────────────────────────────────────────────────────────────────────────────


def inbox_prefix(random_hex32: str) -> str:
    """The prefix of a session's reply subjects, from 32 random hex characters."""
    prefix = INBOX_ROOT + random_hex32
    if _INBOX.fullmatch(prefix) is None:
        raise BadSubject(subject=prefix[:256])
    return prefix


def check_inbox_prefix(prefix: str) -> str:
    """`prefix` if it is a session's reply prefix, else `BadSubject`."""
    if _INBOX.fullmatch(prefix) is None:
        raise BadSubject(subject=prefix[:256])
    return prefix


def is_inbox_prefix(text: str) -> bool:
    """Whether `text` is a session's reply prefix."""
    return _INBOX.fullmatch(text) is not None


def is_reply(subject: str) -> bool:
    """Whether an answer may be sent to `subject`: below a session's reply prefix, and nothing else.

    Without this an agent could name a third party's address as its reply subject and have the gateway, which may
    write anywhere, write there for it.
    """
    prefix, dot, rest = subject.partition(".")
    return bool(dot) and _INBOX.fullmatch(prefix) is not None and _REPLY_TOKENS.fullmatch(rest) is not None


class Delivery(msgspec.Struct, frozen=True):
    """What a JetStream ack subject says of a delivery (NATS ADR-15)."""

    stream: str
    consumer: str
    deliveries: int
    """How many times this message was delivered, 1 for the first."""
    stream_seq: int
    consumer_seq: int
    """Counts every delivery of the consumer, so a step of more than one means that deliveries went elsewhere."""
    stored_ns: int
    """When the server stored it, Unix nanoseconds."""
    pending: int


def parse_ack(reply: str) -> Delivery:
    """The parts of `$JS.ACK.<stream>.<consumer>.<deliveries>.<sseq>.<cseq>.<ns>.<pending>`, or `BadSubject`."""
    found = _ACK.fullmatch(reply)
    if found is None:
        raise BadSubject(subject=reply[:256])
    return Delivery(found[1], found[2], *map(int, found.groups()[2:]))


def _n(name: str) -> str:
    return names.check(name)


def _noun(noun: str) -> str:
    if _NOUN.fullmatch(noun) is None:
        raise BadSubject(subject=noun[:256])
    return noun


def _sender(sender: str) -> str:
    """A name, or `<name>@<slug>` for what the gateway relayed from another project."""
    name, at, slug = sender.partition("@")
    _n(name)
    if at:
        _n(slug)
    return sender
