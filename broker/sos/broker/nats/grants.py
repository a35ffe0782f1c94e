"""What a credential lets its holder publish and subscribe to (design, section 5).

The law: a list is never empty. NATS reads an absent allow list as 'everything'.
"""

from collections.abc import Iterable

import msgspec

from sos.wire import subjects
from sos.wire.scopes import Scope


class Grant(msgspec.Struct, frozen=True):
    """Subjects, possibly with wildcards, that the holder may publish to and subscribe to."""

    pub: tuple[str, ...]
    sub: tuple[str, ...]


GATEWAY = Grant((">",), (">",))
"""Everything, inside one account."""


def agent_grant(project: str, agent: str, scopes: Iterable[Scope], inbox_prefix: str) -> Grant:
    """The whole grant of one session of an agent. Without a scope it still beats, calls the API, resolves names."""
    held = frozenset(scopes)
    pub = [
        str(subjects.Beat(project, agent)),
        subjects.api_grant(project, agent),
        subjects.address_grant(project),
    ]
    if Scope.SEND in held:
        pub.append(subjects.send_pattern(project, agent))
    if Scope.BROADCAST in held:
        pub.append(subjects.broadcast_pattern(project, agent))
    if Scope.INBOX in held:
        pub += [subjects.pull(agent), subjects.ack_grant(agent)]
    return Grant(pub=tuple(pub), sub=(subjects.check_inbox_prefix(inbox_prefix) + ".>",))
