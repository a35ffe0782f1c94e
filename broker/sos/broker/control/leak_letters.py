"""What the bus writes to those whom a leak concerns. Pure: from the fact to the letters.

The law: a letter holds what the fact holds, so a secret's kind and its last four characters, and to another project no
more than that something of its own leaked.
"""

from typing import Any

import msgspec

from sos.broker.domain.leaks import Leak, Leaked
from sos.wire.names import is_name
from sos.wire.subjects import GATEWAY

MAX_TOLD = 8
"""Secrets named one by one in a letter; the fact and `data` hold more."""

_DONE = {
    "rotated": "it opens nothing any more; another one lies in rotated/{project}.{name}.token of the gateway's home, "
    "for the operator to hand over",
    "revoked": "its agent was revoked for good",
    "cut": "the sessions that it belonged to were cut; the agent's token opens new ones",
    "none": "it opens nothing here",
    "failed": "it could NOT be made void and may still be good: the gateway's log says why",
}
_AGENT_VOIDED = "it opens nothing any more and what it had opened was cut; `sos agent rotate {name}` gives out another"
_TENANT_VOIDED = "it opens nothing any more; the operator gives out another: `sos project rotate {name}`"
_OPERATOR = "it opens nothing any more; another one is in operator.token of the gateway's home"
_OWN_KEY = (
    "it is a key of this bus ({name}), about which NOTHING can be done automatically: whoever has it can sign or read. "
    "docs/operations.md tells how to get new keys after a leak"
)


_ELSEWHERE = "those whose it is were told"


class ToAgent(msgspec.Struct, frozen=True, kw_only=True):
    """For an agent's inbox; it reads it when it is back."""

    project: str
    name: str
    text: str


class ToTarget(msgspec.Struct, frozen=True, kw_only=True):
    """For the escalation target of a project, the operator's if `of` is empty."""

    of: str
    text: str


Letter = ToAgent | ToTarget


def letters(leak: Leak) -> list[Letter]:
    """To the sender, to the agents whose tokens or sessions they were, and to whoever looks after their projects."""
    written: dict[tuple[str, str], Letter] = {}

    def put(letter: Letter) -> None:
        key = (letter.project, letter.name) if isinstance(letter, ToAgent) else (letter.of, "")
        written.setdefault(key, letter)

    gone = {s.of for s in leak.secrets if s.action == "revoked"}
    if is_name(leak.sender) and leak.sender != GATEWAY and f"agent:{leak.sender}" not in gone:
        put(ToAgent(project=leak.project, name=leak.sender, text=_to_sender(leak)))
    for secret in leak.secrets:
        project, name = holder(leak, secret)
        if name and secret.action != "revoked":
            put(ToAgent(project=project, name=name, text=_to_holder(leak, secret, project)))
        if project != leak.project:
            put(ToTarget(of=project, text=_to_other_project(leak, secret, project)))
    put(ToTarget(of=leak.project, text=_to_target(leak)))
    return list(written.values())


def about(leak: Leak, project: str) -> dict[str, Any]:
    """The letter's `data`, for programs. `project` is that of the reader."""
    secrets = [s for s in leak.secrets if project in {leak.project, "", holder(leak, s)[0]}]
    told = [{"kind": s.kind, "tail": s.tail, "action": s.action} for s in secrets]
    if project not in {leak.project, ""}:
        return {"leak": {"secrets": told}}
    return {"leak": {"project": leak.project, "message_seq": leak.message_seq, "sender": leak.sender, "secrets": told}}


def holder(leak: Leak, secret: Leaked) -> tuple[str, str]:
    """Whose it is: the project, empty for the bus itself, and the agent, empty for a project's owner. A secret that
    opens nothing counts as the leaking project's."""
    kind, _, rest = secret.of.partition(":")
    name, _, elsewhere = rest.partition("@")
    if kind == "agent":
        return elsewhere or leak.project, name
    if kind == "tenant":
        return rest, ""
    return ("", "") if kind in {"operator", "bus"} else (leak.project, "")


def _to_sender(leak: Leak) -> str:
    return (
        f"Your message {leak.message_seq} held {_listed(leak)}. It was erased. Never put a secret into a message: "
        "whoever has read it, has it."
    )


def _to_holder(leak: Leak, secret: Leaked, project: str) -> str:
    where = (
        f"message {leak.message_seq} of {leak.sender}" if project == leak.project else "a message of another project"
    )
    return f"{_begun(_named(secret))} of yours was found in {where}, which was erased: {_done(leak, secret, project)}."


def _to_other_project(leak: Leak, secret: Leaked, project: str) -> str:
    whose = secret.of.partition("@")[0]
    named, done = _begun(_named(secret)), _done(leak, secret, project)
    return f"{named}, of {whose}, was found in a message of another project, which was erased: {done}."


def _to_target(leak: Leak) -> str:
    return f"Message {leak.message_seq} of {leak.sender} held {_listed(leak)}. It was erased."


def _listed(leak: Leak) -> str:
    """Each secret with what was done, for readers of the project in which it leaked."""
    shown = [f"{_named(s)} ({_done(leak, s, leak.project)})" for s in leak.secrets[:MAX_TOLD]]
    more = len(leak.secrets) - MAX_TOLD
    return "; ".join([*shown, *([f"and {more} more"] if more > 0 else [])])


def _named(secret: Leaked) -> str:
    article = "an" if secret.kind[0] in "ao" else "a"
    kind = {"nats_seed": "NATS seed", "jwt": "JWT"}.get(secret.kind, secret.kind.replace("_", " "))
    return f"{article} {kind} ending in {secret.tail}"


def _begun(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _done(leak: Leak, secret: Leaked, reader: str) -> str:
    """What was done about it, as readers of that project may know it."""
    project, name = holder(leak, secret)
    if project != reader:
        return _ELSEWHERE
    kind, _, rest = secret.of.partition(":")
    if kind == "bus":
        return _OWN_KEY.format(name=rest)
    if kind == "operator":
        return _OPERATOR
    if secret.action == "voided":
        return (_AGENT_VOIDED if kind == "agent" else _TENANT_VOIDED).format(name=name or project)
    return _DONE[secret.action].format(project=project, name=name)
