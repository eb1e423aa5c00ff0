"""An auditor before servers that lie. The servicer is the real one, asked without a socket between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import audit_support as support
from audit.auditor import Auditor
from audit.entry import decode_entry
from audit.log import AuditLog
from audit.service import AuditServicer
from audit.store import LogStore
from certs.identity import Identity, Kind
from zhiwang.audit.v1 import audit_pb2 as pb
from zhiwang.wire.call import Peer, PeerTable
from zhiwang.wire.errors import Reason, RefusedError

READER = Peer(Identity(support.CITY, "audit-office", Kind.AUDITOR, "one"), 1, b"", 0.0, 1e12, PeerTable(support.CITY))


class Server:
    """Answers as the servicer does, unless `bend` changes the answer."""

    def __init__(self, store: LogStore) -> None:
        self.log = AuditLog(store)
        self.servicer = AuditServicer(
            store, self.log.append, "centre", scope=support.see_everything, peer=lambda: READER
        )
        self.bend: Callable[[Any], None] = lambda _response: None

    def stub(self) -> Any:
        server = self

        class Stub:
            def __getattr__(self, method: str) -> Any:
                async def call(request: Any, **options: float) -> Any:
                    assert options["timeout"] > 0
                    response = await getattr(server.servicer, method)(request, None)
                    server.bend(response)
                    return response

                return call

        return Stub()


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr("audit.auditor.PAGE", 100)
    store = support.make_store(tmp_path / "log.db")
    support.append(store, 450)
    server = Server(store)
    yield server
    await server.log.close()
    store.engine.dispose()
    support.check_log(tmp_path / "log.db")


def auditor(server: Server, memory: dict[str, bytes] | None = None) -> Auditor:
    return Auditor(server.stub(), support.checker(), lambda origin: (memory or {}).get(origin, b""))


def refused(match: str) -> AbstractContextManager[object]:
    return pytest.raises(RefusedError, match=match, check=lambda error: error.reason is Reason.PROOF_INVALID)


async def test_a_log_that_holds_is_counted_from_its_first_entry_to_its_checkpoint(server: Server) -> None:
    steps: list[tuple[int, int]] = []
    found, view = await auditor(server).verify(lambda done, size: steps.append((done, size)))
    assert found.checkpoint.size == 451 == view.newest.size
    assert found.events == {"log_opened": 1, "audit_read": 450}
    assert steps == [(100, 451), (200, 451), (300, 451), (400, 451), (451, 451)]
    assert found.extends == 0
    assert 0 < found.first_time <= found.last_time


async def test_the_next_time_the_log_must_extend_what_was_seen(server: Server, tmp_path: Path) -> None:
    _, view = await auditor(server).verify()
    memory = {support.HUB.log_origin: view.export()}
    support.append(server.log.store, 5)
    found, view = await auditor(server, memory).verify()
    assert found.extends == 451
    assert found.checkpoint.size == 451 + 1 + 5
    other = support.make_store(tmp_path / "other.db")
    support.append(other, 1000)
    rewritten = Server(other)
    with refused("does not extend"):
        await auditor(rewritten, memory).verify()
    await rewritten.log.close()
    other.engine.dispose()


async def test_a_log_that_fell_back_below_what_was_seen_is_refused(server: Server, tmp_path: Path) -> None:
    _, view = await auditor(server).verify()
    short = support.make_store(tmp_path / "short.db")
    fallen = Server(short)
    with refused("without a proof"):
        await auditor(fallen, {support.HUB.log_origin: view.export()}).verify()
    await fallen.log.close()
    short.engine.dispose()


def drop(page: Any) -> None:
    if isinstance(page, pb.ListEntriesResponse) and page.start == 100:
        del page.entries[7]


def change(page: Any) -> None:
    if isinstance(page, pb.ListEntriesResponse) and page.start == 100:
        page.entries[7] = page.entries[8]


def swap(page: Any) -> None:
    if isinstance(page, pb.ListEntriesResponse) and page.start == 0:
        page.entries[7], page.entries[8] = page.entries[8], page.entries[7]


def end_early(page: Any) -> None:
    if isinstance(page, pb.ListEntriesResponse) and page.start == 300:
        page.next_page_token = ""


def say_nothing(page: Any) -> None:
    if isinstance(page, pb.ListEntriesResponse) and page.start == 200:
        del page.entries[:]


def nonsense(page: Any) -> None:
    if isinstance(page, pb.ListEntriesResponse) and page.start == 200:
        page.entries[0] = b"nonsense"


def no_opening(page: Any) -> None:
    if isinstance(page, pb.ListEntriesResponse) and page.start == 0:
        page.entries[0] = page.entries[1]


def forged_head(response: Any) -> None:
    if isinstance(response, pb.GetCheckpointResponse):
        response.head.checkpoint = response.head.checkpoint.replace(b"\n451\n", b"\n450\n")


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (drop, "leaves entries out|root over"),
        (change, "root over"),
        (swap, "root over"),
        (end_early, "ends before"),
        (say_nothing, "leaves entries out"),
        (nonsense, "entry 200 cannot be read"),
        (no_opening, "opened once"),
        (forged_head, "does not verify"),
    ],
)
async def test_a_server_that_lies_is_found_out(server: Server, bend: Callable[[Any], None], message: str) -> None:
    server.bend = bend
    with refused(message):
        await auditor(server).verify()


async def test_one_entry_is_shown_only_with_its_proof(server: Server) -> None:
    logged, head, entry, checkpoint = await auditor(server).logged(3)
    assert (entry.audit_read.start, checkpoint.size) == (2, 451)
    assert decode_entry(logged.entry) == entry
    assert head.checkpoint.decode().splitlines()[0] == checkpoint.origin

    def another(response: Any) -> None:
        response.entry.index = 4

    def changed(response: Any) -> None:
        response.entry.entry += b"\x00"

    for bend, message in ((another, "another entry"), (changed, "inclusion proof")):
        server.bend = bend
        with refused(message):
            await auditor(server).logged(3)
