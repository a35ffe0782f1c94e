"""Loops that must outlive any single failure: an agent whose pull loop died in silence would be deaf and look well."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("sos.sdk")

PAUSE_S = 0.5


class _Never(Exception):
    """Raised by nobody."""


async def lasting(step: Callable[[], Awaitable[None]], what: str, unless: type[Exception] = _Never) -> None:
    """Run `step` again and again until cancelled. What it raises is logged, and after a pause it is run again; only
    `unless` ends it, and is raised."""
    while True:
        try:
            await step()
        except unless:
            raise
        except Exception:
            log.exception("%s failed; going on", what)
            await asyncio.sleep(PAUSE_S)
