"""Which client and model act here, as far as the environment says so.

The law: what a person set (`SOS_CLIENT`, `SOS_MODEL`) comes before what a client leaves in its children's environment,
and nothing is guessed: what no variable says stays empty. docs/joining.md shows the same table, and a test compares
them. The first row that fits is taken, so that a client inside another one's terminal is named and not the terminal.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sos.wire.errors import BadName
from sos.wire.names import normalise

CLIENT_VARIABLE = "SOS_CLIENT"
MODEL_VARIABLE = "SOS_MODEL"


class Trace(NamedTuple):
    """A client, the variables of which any one says that it runs here, and those that may say its model."""

    client: str
    variables: tuple[str, ...]
    models: tuple[str, ...]


TRACES: tuple[Trace, ...] = (
    Trace("claude-code", ("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT"), ("ANTHROPIC_MODEL",)),
    Trace("codex", ("CODEX_THREAD_ID", "CODEX_CI", "CODEX_SANDBOX", "CODEX_SANDBOX_NETWORK_DISABLED"), ()),
    Trace("gemini-cli", ("GEMINI_CLI",), ("GEMINI_MODEL",)),
    Trace("cursor", ("CURSOR_AGENT", "CURSOR_TRACE_ID"), ()),
)
"""Codex and Cursor tell their children that they are there, and not with which model."""

_NO_LABEL = re.compile(r"[^A-Za-z0-9 ._/:-]+")


def detect(env: Mapping[str, str]) -> tuple[str, str]:
    """(client, model) that act in the environment `env`; each is empty where nothing says it."""
    return named("", "", env)


def named(client: str, model: str, env: Mapping[str, str]) -> tuple[str, str]:
    """(client, model) with what is given first. A client's model variable speaks for that client alone."""
    trace = next((t for t in TRACES if any(env.get(v, "").strip() for v in t.variables)), Trace("", (), ()))
    client = client or env.get(CLIENT_VARIABLE, "").strip() or trace.client
    model = model or env.get(MODEL_VARIABLE, "").strip()
    if not model and client == trace.client:
        model = next((found for v in trace.models if (found := _label(env.get(v, "")))), "")
    return client, model


def _label(text: str) -> str:
    """What a variable of somebody else's says, as a session's stamp can hold it: `opus[1m]` is `opus-1m`. Empty if it
    cannot: an agent does not fail to start over what its client wrote there."""
    found = _NO_LABEL.sub("-", text).strip("- ")
    try:
        normalise(found, "model")
    except BadName:
        return ""
    return found
