"""The SDK: what an agent holds. `Agent` blocks, `AsyncAgent` does not; everything else is what they give and raise.

Names are loaded when they are first used, so that `sos --help` and the command line do not pay for nats-py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sos.sdk.aio import AsyncAgent
    from sos.sdk.blocking import Agent
    from sos.sdk.dispatch import HandBack
    from sos.sdk.message import Message, Receipt
    from sos.wire.errors import SosError

__all__ = ["Agent", "AsyncAgent", "HandBack", "Message", "Receipt", "SosError"]

_WHERE = {
    "Agent": "sos.sdk.blocking",
    "AsyncAgent": "sos.sdk.aio",
    "HandBack": "sos.sdk.dispatch",
    "Message": "sos.sdk.message",
    "Receipt": "sos.sdk.message",
    "SosError": "sos.wire.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
