"""Mesh roles: what an agent is for, in one of seven words; and the free-form labels that mean each."""

from typing import Literal, get_args

from sos.wire.errors import BadRequest
from sos.wire.names import normalise

Role = Literal["coordinator", "executor", "specialist", "oracle", "medic", "service", "human"]
ROLES: tuple[Role, ...] = get_args(Role)
DEFAULT_ROLE: Role = "specialist"

LABELS: dict[str, Role] = {
    **dict.fromkeys(
        ("lead", "manager", "orchestrator", "planner", "dispatcher", "architect", "conductor"), "coordinator"
    ),
    **dict.fromkeys(("builder", "coder", "developer", "engineer", "implementer", "worker", "runner"), "executor"),
    **dict.fromkeys(("reviewer", "analyst", "designer", "writer", "researcher", "tester", "expert"), "specialist"),
    **dict.fromkeys(("advisor", "adviser", "judge", "critic", "validator", "auditor", "gate"), "oracle"),
    **dict.fromkeys(("healer", "debugger", "fixer", "responder", "sre", "watchdog", "recovery"), "medic"),
    **dict.fromkeys(("bot", "daemon", "bridge", "adapter", "connector", "integration", "server", "ci"), "service"),
    **dict.fromkeys(("person", "operator", "owner", "user", "founder"), "human"),
}
"""The last word of a label decides: `code-reviewer` is a reviewer, so a specialist; `lead engineer` is an engineer."""


def mesh_role(label: str) -> tuple[Role, bool]:
    """The role that a free-form label means, and whether the label said so. What means none is a specialist.

    `BadName` for a label that has anything but ASCII letters, digits and joiners in it, or is too long.
    """
    if not label.strip():
        return DEFAULT_ROLE, False
    words = normalise(label, "role").split("-")
    for word in (normalise(label, "role"), *reversed(words)):
        if word in ROLES:
            return word, True
        if word in LABELS:
            return LABELS[word], True
    return DEFAULT_ROLE, False


def check_role(role: str) -> Role:
    """`role` if it is a mesh role, else `BadRequest`."""
    for known in ROLES:
        if role == known:
            return known
    raise BadRequest(why=f"there is no role {role!r}: choose one of {', '.join(ROLES)}")
