"""The SDK: what an agent holds. `Agent` blocks, `AsyncAgent` does not; everything else is what they give and raise."""

from sos.sdk.aio import AsyncAgent
from sos.sdk.blocking import Agent
from sos.sdk.dispatch import HandBack
from sos.sdk.message import Message, Receipt
from sos.wire.errors import SosError

__all__ = ["Agent", "AsyncAgent", "HandBack", "Message", "Receipt", "SosError"]
