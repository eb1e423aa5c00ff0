"""Nobody reads entries of a log by a page token that no recorded listing gave."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import audit_support as support
from audit.log import AuditLog
from audit.service import AuditServicer
from certs.identity import Identity, Kind
from zhiwang.audit.v1 import audit_pb2 as pb
from zhiwang.wire.call import Peer, PeerTable
from zhiwang.wire.errors import Reason, RefusedError

CONTEXT: Any = None


class _Served:
    def __init__(self, path: Path) -> None:
        self.store = support.make_store(path)
        self.log = AuditLog(self.store)
        self.name = "one"
        self._table = PeerTable(support.CITY, frozenset)
        self.servicer = AuditServicer(
            self.store, self.log.append, "centre", scope=support.see_everything, peer=self.peer
        )

    def peer(self) -> Peer:
        return Peer(Identity(support.CITY, "audit-office", Kind.AUDITOR, self.name), 77, b"", 0.0, 1e12, self._table)

    async def page(self, token: str = "") -> pb.ListEntriesResponse:
        return await self.servicer.ListEntries(pb.ListEntriesRequest(page_size=10, page_token=token), CONTEXT)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[_Served]:
    served = _Served(tmp_path / "log.db")
    support.append(served.store, 50)
    yield served
    await served.log.close()
    served.store.engine.dispose()


async def _is_refused(served: _Served, token: str) -> None:
    size = served.store.newest.size
    with pytest.raises(RefusedError, check=lambda error: error.reason is Reason.PAGE_TOKEN_INVALID):
        await served.page(token)
    assert served.store.newest.size == size


async def test_a_token_that_somebody_made_up_reads_nothing(served: _Served) -> None:
    place = struct.pack(">4sQQ", b"zwa1", 3, 20)
    await _is_refused(served, urlsafe_b64encode(place).decode().rstrip("="))
    given = urlsafe_b64decode((await served.page()).next_page_token + "==")
    await _is_refused(served, urlsafe_b64encode(place + given[len(place) :]).decode().rstrip("="))


async def test_a_token_serves_only_the_reader_whose_listing_was_recorded(served: _Served) -> None:
    token = (await served.page()).next_page_token
    served.name = "two"
    await _is_refused(served, token)
    served.name = "one"
    assert (await served.page(token)).start == 10
