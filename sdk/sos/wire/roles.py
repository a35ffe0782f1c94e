"""Mesh roles: what an agent is for, in one of seven words; and the free-form labels that mean each."""

import re
from typing import Literal, get_args

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


_WORD = re.compile(r"[a-z]+")


def mesh_role(label: str) -> tuple[Role, bool]:
    """The role that a free-form label means, and whether the label said so. What means none is a specialist."""
    for word in reversed(_WORD.findall(label.lower())):
        if word in ROLES:
            return word, True
        if word in LABELS:
            return LABELS[word], True
    return DEFAULT_ROLE, False
