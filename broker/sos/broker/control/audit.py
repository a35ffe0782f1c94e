"""The registry as it is stored, to the byte, for whoever wants to verify its chain."""

import hashlib

from sos.broker.control.tokens import Principal
from sos.broker.log.jetstream import JetStreamLog
from sos.broker.nats.jetstream import StoredMessage
from sos.wire import api
from sos.wire.errors import BadRequest

MAX_RECORDS = 256
"""In one answer."""


class Auditing:
    """Reads REGISTRY."""

    def __init__(self, registry: JetStreamLog) -> None:
        self._log = registry

    async def read(self, who: Principal, after: int, limit: int) -> api.Audit:
        """The facts after a sequence, in order."""
        who.may_operate("read the registry")
        if after < 0 or not 1 <= limit <= MAX_RECORDS:
            raise BadRequest(why=f"after is 0 or more, limit 1 to {MAX_RECORDS}")
        head = await self._log.head()
        stored = await self._log.stored(after + 1, limit) if after < head else []
        return api.Audit(head=head, records=tuple(map(_shown, stored)))


def _shown(m: StoredMessage) -> api.AuditRecord:
    return api.AuditRecord(
        seq=m.seq,
        subject=m.subject,
        stored_at=m.time,
        record=m.body.decode("utf-8", "replace"),
        sha256=hashlib.sha256(m.body).hexdigest(),
    )
