"""The rules: one file a noun, each with its commands, events, `decide` and `apply`. Pure: see `event`."""

from sos.broker.domain.event import BrokenHistory, Command, Event, UnknownFact
from sos.broker.domain.registry import AnyEvent, decode, encode, subject_of

__all__ = ["AnyEvent", "BrokenHistory", "Command", "Event", "UnknownFact", "decode", "encode", "subject_of"]
