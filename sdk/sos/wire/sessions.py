"""A session's stamp: which run, of which client and model, acted under an agent's name."""

import secrets
from datetime import datetime

from sos.wire.names import normalise

RANDOM_CHARS = 8


def stamp(project: str, agent: str, client: str, model: str, at: datetime) -> str:
    """`<project>-<agent>-<client>-<model>-<YYYYMMDD-HHMM>-<8 random hex>`, `at` in UTC."""
    parts = (project, agent, label(client), label(model), at.strftime("%Y%m%d-%H%M"))
    return "-".join((*parts, secrets.token_hex(RANDOM_CHARS // 2)))


def label(text: str) -> str:
    """A client's or model's free-form name as one word of a stamp; 'unknown' if none was given."""
    return normalise(text, "client or model") if text.strip() else "unknown"
