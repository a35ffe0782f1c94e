"""Scopes: what a token lets its agent do."""

from enum import StrEnum


class Scope(StrEnum):
    """One right. Where it has a NATS subject it is a permission in the JWT; where it is a verb, the gateway checks."""

    SEND = "mcp:send"
    INBOX = "mcp:inbox"
    BROADCAST = "mcp:broadcast"
    WORKSPACE_JOIN = "mcp:workspace_join"
    RECALL = "mcp:recall"
    REMEMBER = "mcp:remember"
    TASKS = "mcp:tasks"
    GOALS = "mcp:goals"


ALL: tuple[Scope, ...] = tuple(Scope)

RESERVED: dict[str, Scope] = {
    "recall": Scope.RECALL,
    "remember": Scope.REMEMBER,
    "tasks": Scope.TASKS,
    "goals": Scope.GOALS,
}
"""First words of verbs that need a scope before the gateway says whether it serves them."""
