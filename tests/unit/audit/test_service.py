"""The servicer, called as the wrapper of `zhiwang.wire.server` calls it. The command line's tests go over the wire."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import audit_support as support
from audit.appended import Head
from audit.checkpoint import split_note
from audit.cosignature import WitnessPolicy, add_cosignatures, cosign
from audit.entry import decode_entry
from audit.log import AuditLog
from audit.proofs import HeadView, check_entry
from audit.search import SearchIndex
from audit.service import MAX_PAGE, MAX_WATCHERS, MAX_WATCHERS_EACH, RULES, AuditServicer
from certs.identity import Identity, Kind
from zhiwang.audit.v1 import audit_pb2 as pb
from zhiwang.wire import merkle
from zhiwang.wire.call import Peer, PeerTable
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.vkey import ALGORITHM_COSIGNATURE, VerifierKey

AUDITOR = Identity(support.CITY, "audit-office", Kind.AUDITOR, "one")
CONTEXT: Any = None


class Served:
    def __init__(self, path: Path) -> None:
        self.store = support.make_store(path)
        self.log = AuditLog(self.store)
        self.caller = AUDITOR
        self.revoked: set[int] = set()
        self.cosigned: Head | None = None
        self._table = PeerTable(support.CITY, lambda: self.revoked)
        self.servicer = AuditServicer(
            self.store,
            self.log.append,
            "centre",
            scope=support.see_everything,
            cosigned=lambda: self.cosigned,
            peer=self.peer,
            watch_seconds=0.01,
        )

    def peer(self) -> Peer:
        return Peer(self.caller, 77, b"", 0.0, 1e12, self._table)

    async def list_all(self, page_size: int = 0, start: int = 0) -> tuple[list[bytes], int]:
        """Every entry of a listing, and the number of pages."""
        found: list[bytes] = []
        token, pages = "", 0
        while True:
            request = pb.ListEntriesRequest(page_size=page_size, page_token=token, start=start)
            page = await self.servicer.ListEntries(request, CONTEXT)
            assert page.start == start + len(found)
            found += page.entries
            pages += 1
            token = page.next_page_token
            if not token:
                return found, pages

    async def reads(self) -> list[pb.AuditRead]:
        entries = [decode_entry(data) for data in self.store.entries(0, 100_000)]
        return [entry.audit_read for entry in entries if entry.audit_read.reader == self.caller.uri]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path / "log.db")
    yield served
    await served.log.close()
    served.store.engine.dispose()
    support.check_log(tmp_path / "log.db")


def refused(reason: Reason) -> AbstractContextManager[object]:
    return pytest.raises(RefusedError, check=lambda error: error.reason is reason)


async def test_the_whole_log_is_read_page_by_page_and_leads_to_the_checkpoint(served: Served) -> None:
    support.append(served.store, 700)
    response = await served.servicer.GetCheckpoint(pb.GetCheckpointRequest(), CONTEXT)
    checkpoint = HeadView(support.checker()).verify_head(response.head)
    entries, pages = await served.list_all(100)
    assert pages == 8
    assert merkle.Tree([merkle.leaf_hash(data) for data in entries[: checkpoint.size]]).root == checkpoint.root
    assert len(entries) == checkpoint.size


async def test_a_cosigned_checkpoint_is_shown_with_its_lines_and_its_consistency(served: Served) -> None:
    with refused(Reason.NOT_WITNESSED):
        await served.servicer.GetCheckpoint(pb.GetCheckpointRequest(cosigned=True), CONTEXT)
    older = support.append(served.store, 300).head
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    witness = VerifierKey("w", key.public_key().public_bytes_raw(), ALGORITHM_COSIGNATURE)
    note = add_cosignatures(older.checkpoint, [cosign(split_note(older.checkpoint)[0], witness, key.sign, 7)])
    served.cosigned = replace(older, checkpoint=note)
    support.append(served.store, 100)
    view = HeadView(support.checker())
    for known in (0, 100, 301):
        request = pb.GetCheckpointRequest(cosigned=True, known_tree_size=known)
        head = (await served.servicer.GetCheckpoint(request, CONTEXT)).head
        assert view.verify_head(head).size == 301
        assert WitnessPolicy.of_keys([str(witness)]).satisfied_by(head.checkpoint)
    assert len(head.consistency_path) == 0
    # Whoever has seen more learns from GetConsistencyProof that it is of the same log.
    ahead = (await served.servicer.GetCheckpoint(pb.GetCheckpointRequest(), CONTEXT)).head
    newest = support.checker().check(ahead)
    request = pb.GetCheckpointRequest(cosigned=True, known_tree_size=newest.size)
    assert not (await served.servicer.GetCheckpoint(request, CONTEXT)).head.consistency_path
    proof = await served.servicer.GetConsistencyProof(
        pb.GetConsistencyProofRequest(old_size=301, new_size=newest.size), CONTEXT
    )
    merkle.verify_consistency(301, newest.size, older.root, newest.root, proof.consistency_path)


async def test_an_entry_is_proved_under_any_checkpoint_by_hashes_alone(served: Served) -> None:
    appended = support.append(served.store, 300)
    newest = support.append(served.store, 77).head
    for size, root in ((301, appended.head.root), (378, newest.root), (0, newest.root)):
        request = pb.GetInclusionProofRequest(index=5, tree_size=size)
        proof = await served.servicer.GetInclusionProof(request, CONTEXT)
        leaf = merkle.leaf_hash(served.store.entries(5, 1)[0])
        merkle.verify_inclusion(5, proof.tree_size, leaf, proof.inclusion_path, root)
    for index, size in ((301, 301), (5, 379), (378, 0)):
        with refused(Reason.ENTRY_UNKNOWN):
            await served.servicer.GetInclusionProof(pb.GetInclusionProofRequest(index=index, tree_size=size), CONTEXT)
    # Nothing is recorded of it: it says nothing but hashes.
    assert served.store.newest.size == 378


async def test_a_listing_is_recorded_once_and_does_not_chase_its_own_tail(served: Served) -> None:
    support.append(served.store, 50)
    entries, _ = await served.list_all(10, start=5)
    assert len(entries) == 46
    (read,) = await served.reads()
    assert (read.method, read.start, read.count) == ("ListEntries", 5, 46)
    assert served.store.newest.size == 52


async def test_a_page_is_bounded_in_entries_and_bytes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    support.append(served.store, MAX_PAGE + 200)
    page = await served.servicer.ListEntries(pb.ListEntriesRequest(page_size=1_000_000), CONTEXT)
    assert len(page.entries) == MAX_PAGE
    page = await served.servicer.ListEntries(pb.ListEntriesRequest(), CONTEXT)
    assert len(page.entries) == 256
    monkeypatch.setattr("audit.service.MAX_PAGE_BYTES", 500)
    page = await served.servicer.ListEntries(pb.ListEntriesRequest(), CONTEXT)
    assert sum(map(len, page.entries)) <= 500
    assert len(page.entries) >= 1
    entries, _ = await served.list_all()
    assert len(entries) == 1 + MAX_PAGE + 200 + 3


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "AAAA",
        urlsafe_b64encode(b"zwa1" + bytes(15) + b"\x01").decode()[:-3],
        urlsafe_b64encode(b"else" + bytes(15) + b"\x01").decode().rstrip("="),
        urlsafe_b64encode(b"zwa1" + bytes(8) + b"\xff" * 8).decode().rstrip("="),
        urlsafe_b64encode(b"zwa1" + b"\xff" * 16).decode().rstrip("="),
        urlsafe_b64encode(b"zwa1" + bytes(16)).decode().rstrip("="),
    ],
)
async def test_a_page_token_that_was_not_given_is_refused(served: Served, token: str) -> None:
    with refused(Reason.PAGE_TOKEN_INVALID):
        await served.servicer.ListEntries(pb.ListEntriesRequest(page_token=token), CONTEXT)


async def test_a_listing_beyond_the_end_or_of_a_negative_size_is_refused(served: Served) -> None:
    with refused(Reason.ENTRY_UNKNOWN):
        await served.servicer.ListEntries(pb.ListEntriesRequest(start=2), CONTEXT)
    with refused(Reason.REQUEST_MALFORMED):
        await served.servicer.ListEntries(pb.ListEntriesRequest(page_size=-1), CONTEXT)
    page = await served.servicer.ListEntries(pb.ListEntriesRequest(start=1), CONTEXT)
    assert (list(page.entries), page.next_page_token) == ([], "")


async def test_one_entry_comes_with_its_proof_and_the_read_is_recorded(served: Served) -> None:
    support.append(served.store, 5)
    response = await served.servicer.GetEntry(pb.GetEntryRequest(index=3), CONTEXT)
    entry = check_entry(response.entry, support.checker().check(response.head))
    assert entry.audit_read.start == 2
    (read,) = await served.reads()
    assert (read.method, read.start, read.count) == ("GetEntry", 3, 1)
    with refused(Reason.ENTRY_UNKNOWN):
        await served.servicer.GetEntry(pb.GetEntryRequest(index=7), CONTEXT)


async def test_nothing_is_shown_when_the_read_cannot_be_recorded(served: Served) -> None:
    support.append(served.store, 5)
    served.store.stop(OSError())
    with pytest.raises(FatalError):
        await served.servicer.GetEntry(pb.GetEntryRequest(index=3), CONTEXT)
    with pytest.raises(FatalError):
        await served.servicer.ListEntries(pb.ListEntriesRequest(), CONTEXT)
    await served.log.reload()


@pytest.mark.parametrize(
    ("caller", "welcome"),
    [
        (Identity(support.CITY, "anything", Kind.AUDITOR, "x"), True),
        (Identity(support.CITY, "centre", Kind.ADMIN, "x"), True),
        (Identity(support.CITY, "edu", Kind.ADMIN, "x"), False),
    ],
)
async def test_entries_are_for_auditors_and_the_logs_own_admins(
    served: Served, caller: Identity, *, welcome: bool
) -> None:
    served.caller = caller
    with nullcontext() if welcome else refused(Reason.RPC_NOT_ALLOWED):
        await served.servicer.ListEntries(pb.ListEntriesRequest(), CONTEXT)
    with nullcontext() if welcome else refused(Reason.RPC_NOT_ALLOWED):
        await served.servicer.GetEntry(pb.GetEntryRequest(), CONTEXT)


def test_every_rpc_of_the_service_stands_in_the_table() -> None:
    service = pb.DESCRIPTOR.services_by_name["AuditService"]
    assert set(RULES) == {f"/{service.full_name}/{method.name}" for method in service.methods}
    # A system asks for what its receipts need: hashes. It neither reads entries nor takes a watcher's place.
    proofs = {"GetCheckpoint", "GetConsistencyProof", "GetInclusionProof"}
    assert {rpc.rpartition("/")[2] for rpc, callers in RULES.items() if Kind.SYSTEM in callers} == proofs


async def test_consistency_is_proved_between_any_two_sizes(served: Served) -> None:
    sizes = [support.append(served.store, count).size for count in (3, 400, 7)]
    leaves = [merkle.leaf_hash(data) for data in served.store.entries(0, 1000)]
    roots = {size: merkle.Tree(leaves[:size]).root for size in (1, *sizes)}
    for old, new in ((1, sizes[2]), (sizes[0], sizes[1]), (sizes[1], 0), (sizes[2], sizes[2])):
        request = pb.GetConsistencyProofRequest(old_size=old, new_size=new)
        response = await served.servicer.GetConsistencyProof(request, CONTEXT)
        new_size = new or sizes[2]
        merkle.verify_consistency(old, new_size, roots[old], roots[new_size], response.consistency_path)
    for old, new in ((0, 1), (2, 1), (1, 10_000), (10_000, 0)):
        with refused(Reason.ENTRY_UNKNOWN):
            await served.servicer.GetConsistencyProof(
                pb.GetConsistencyProofRequest(old_size=old, new_size=new), CONTEXT
            )


async def test_a_watcher_sees_every_step_proved_from_the_one_before(served: Served) -> None:
    view = HeadView(support.checker())
    stream = served.servicer.WatchCheckpoints(pb.WatchCheckpointsRequest(), CONTEXT)
    sizes = []
    async for response in stream:
        sizes.append(view.verify_head(response.head).size)
        if len(sizes) == 4:
            break
        await asyncio.to_thread(support.append, served.store, 5)
    await stream.aclose()
    assert sizes == [1, 6, 11, 16]


async def test_a_watcher_sees_what_another_process_appends(served: Served, tmp_path: Path) -> None:
    stream = served.servicer.WatchCheckpoints(pb.WatchCheckpointsRequest(known_tree_size=1), CONTEXT)
    view = HeadView(support.checker())
    view.verify_head((await anext(stream)).head)
    other = support.reopen(tmp_path / "log.db")
    await asyncio.to_thread(support.append, other, 300)
    assert view.verify_head((await anext(stream)).head).size == 301
    await stream.aclose()
    support.close(other)


async def test_a_watcher_is_sent_away_when_its_certificate_is_revoked(served: Served) -> None:
    stream = served.servicer.WatchCheckpoints(pb.WatchCheckpointsRequest(), CONTEXT)
    await anext(stream)
    served.revoked.add(77)
    with refused(Reason.CERTIFICATE_REVOKED):
        await anext(stream)


async def test_watchers_are_bounded_each_and_all_and_leave_their_places(served: Served) -> None:
    def watch() -> Any:
        return served.servicer.WatchCheckpoints(pb.WatchCheckpointsRequest(), CONTEXT)

    streams = []
    for number in range(MAX_WATCHERS // MAX_WATCHERS_EACH):
        served.caller = Identity(support.CITY, "audit-office", Kind.AUDITOR, f"watcher-{number}")
        for _ in range(MAX_WATCHERS_EACH):
            streams.append(watch())
            await anext(streams[-1])
        if number == 0:
            # One that takes all of its places takes nobody else's.
            with refused(Reason.OVERLOADED):
                await anext(watch())
    served.caller = AUDITOR
    with refused(Reason.OVERLOADED):
        await anext(watch())
    for stream in streams:
        await stream.aclose()
    again = watch()
    await anext(again)
    await again.aclose()


@pytest.fixture
def searchable(served: Served, tmp_path: Path) -> Iterator[Served]:
    """A log of 40 reads, with its search database."""
    support.append(served.store, 40)
    index = SearchIndex(tmp_path / "search.db", served.store)
    served.servicer._index = index
    yield served
    index.close()


async def pages(served: Served, **fields: Any) -> list[pb.SearchResponse]:
    return [page async for page in served.servicer.Search(pb.SearchRequest(event="audit_read", **fields), CONTEXT)]


async def test_a_search_that_goes_on_reads_no_more_than_its_entry_says(searchable: Served) -> None:
    first = (await pages(searchable, page_size=4, max_entries=10))[0]
    assert len(first.entries) == 4
    rest = await pages(searchable, page_size=4, max_entries=10, page_token=first.next_page_token)
    assert [len(page.entries) for page in rest] == [4, 2]
    assert rest[-1].next_page_token == ""
    # Nor with other words: the token is of that search.
    with refused(Reason.PAGE_TOKEN_INVALID):
        await pages(searchable, matter="other", page_token=first.next_page_token)
    more = await pages(searchable, page_token=first.next_page_token)
    assert sum(len(page.entries) for page in more) == 6
    reads = [read for read in await searchable.reads() if read.method == "Search"]
    assert [(read.count, read.query) for read in reads] == [(10, "event=audit_read")]


async def test_a_page_of_a_search_holds_no_more_bytes_than_a_message_may(
    searchable: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data,) = searchable.store.entries(5, 1)
    monkeypatch.setattr("audit.service.MAX_PAGE_BYTES", 3 * len(data))
    found = await pages(searchable, max_entries=12)
    assert [len(page.entries) for page in found] == [3, 3, 3, 3]
    indexes = [entry.index for page in found for entry in page.entries]
    assert indexes == list(range(indexes[0], indexes[0] - 12, -1))
