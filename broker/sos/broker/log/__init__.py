"""Append and read: the log is the commit. Here the port and its twin in memory; the real one is `log.jetstream`."""

from sos.broker.log.log import Log, verify_log
from sos.broker.log.memory import MemoryLog, MemoryStream
from sos.broker.log.record import Head, Record, Recorded, verify

__all__ = ["Head", "Log", "MemoryLog", "MemoryStream", "Record", "Recorded", "verify", "verify_log"]
