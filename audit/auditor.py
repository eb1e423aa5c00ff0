"""An auditor reads a log from its first entry to its signed checkpoint, over AuditService, and believes nobody.

An identity keeps a log for each year. The auditor remembers all of them as one (`audit/years.py`) and reads the newest,
or one that it is told, once that is proved to be one of those from which the newest goes on. It recomputes the root
from the entries' own bytes, reads every entry strictly, and checks that the log extends the checkpoint that it
remembers from the last time. Memory stays bounded: of the tree only the right edge is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from audit import tiles
from audit.asking import request_of
from audit.checkpoint import Checkpoint
from audit.entry import EntryError, decode_entry
from audit.holding import EvidenceClient
from audit.origins import FIRST, FIRST_SHARD, log_of, origin_of, year_of
from audit.proofs import HeadChecker, check_entry, check_included
from audit.query import Query
from audit.years import YearsView, predecessor_of
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire import merkle
from zhiwang.wire.channel import refusal_of
from zhiwang.wire.errors import Reason, RefusedError

PAGE: Final = 1000
SEARCH_PAGE: Final = 200
TIMEOUT: Final = 30.0
"""Seconds for one call."""


def _quiet(done: int, size: int) -> None:
    """Progress that nobody looks at."""


def _discard(entries: Sequence[bytes], edge: tiles.RightEdge) -> None:
    """Entries that nobody keeps."""


@dataclass(slots=True)
class ReadLog:
    """A log that was read whole and holds.

    Attributes:
        checkpoint: Its signed state; entries that came later are not counted.
        extends: Size of the remembered tree that it was proved to extend; 0 if none was remembered.
        events: How many entries there are of each kind.
        first_time: Time of the first entry, in seconds since the epoch.
        last_time: Time of the last.
        goes_on_from: How the log of the year before ended, as the first entry says; None if there is none, or if the
            first entry was not read.
    """

    checkpoint: Checkpoint
    extends: int
    events: Counter[str] = field(default_factory=Counter)
    first_time: int = 0
    last_time: int = 0
    goes_on_from: Checkpoint | None = None


class Auditor:
    """Reads one log.

    Args:
        stub: Of the process that keeps it.
        checker: Says which logs are welcome.
        recall: Gives what `YearsView.export` gave the last time, for the first log's origin; empty for nothing.
        evidence: Of the same process, for who holds and produces.
        shard: Which log to read: its year, or `FIRST_SHARD`; empty for the newest.

    Attributes:
        head: The head that `meet` verified, of the log that is read, as it was signed.
        checkpoint: What it says.
        origin: Of the log in which the entry is that `search` gave last.
        evidence: Holds and produces.
    """

    def __init__(
        self,
        stub: audit_pb2_grpc.AuditServiceStub,
        checker: HeadChecker,
        recall: Callable[[str], bytes] = lambda _origin: b"",
        evidence: audit_pb2_grpc.EvidenceServiceStub | None = None,
        shard: str = "",
    ) -> None:
        self.evidence = EvidenceClient(evidence, checker)
        self._stub = stub
        self._checker = checker
        self._recall = recall
        self._shard = shard
        self.head = audit_pb2.LogHead()
        self.checkpoint = Checkpoint("", 0, merkle.EMPTY_ROOT)
        self.origin = ""

    async def meet(self) -> YearsView:
        """A view of the identity's logs at the newest checkpoint, which goes on from what is remembered.

        Raises:
            RefusedError: PROOF_INVALID, or an error of the certificate.
            grpc.aio.AioRpcError: The call failed.
        """
        head, newest = await self._newest()
        view = YearsView(self._checker, newest.origin)
        remembered = self._recall(log_of(newest.origin))
        if remembered:
            # Only its origin is believed so far: which memory is this log's.
            view.restore(remembered)
            head, _ = await self._newest(view.known_tree_size, view.known_origin)
        self.head, self.checkpoint = head, view.verify_head(head)
        if self._shard and self._named(newest.origin) != newest.origin:
            self.head, self.checkpoint = await self._meet_ended(view, self._named(newest.origin))
        return view

    async def _meet_ended(self, view: YearsView, origin: str) -> tuple[audit_pb2.LogHead, Checkpoint]:
        """The final head of an earlier log, once the newest one is proved to go on from it."""
        request = audit_pb2.GetCheckpointRequest(origin=origin)
        head = (await self._stub.GetCheckpoint(request, timeout=TIMEOUT)).head
        alone = YearsView(self._checker, origin)
        checkpoint = alone.verify_head(head)
        if checkpoint.origin != origin:
            raise _broken(checkpoint, f"it was asked for {origin}")
        newest, _ = await self._newest(checkpoint.size, origin)
        alone.verify_head(newest)
        if alone.ended(origin) != checkpoint or view.ended(origin) not in {None, checkpoint}:
            raise _broken(checkpoint, "the newest log does not go on from this end of it")
        return head, checkpoint

    async def _newest(self, known_tree_size: int = 0, known_origin: str = "") -> tuple[audit_pb2.LogHead, Checkpoint]:
        request = audit_pb2.GetCheckpointRequest(known_tree_size=known_tree_size, known_origin=known_origin)
        head = (await self._stub.GetCheckpoint(request, timeout=TIMEOUT)).head
        return head, self._checker.check(head)

    def _named(self, newest: str) -> str:
        """Origin of the log that is to be read."""
        return origin_of(log_of(newest), FIRST if self._shard == FIRST_SHARD else int(self._shard))

    async def _wanted(self) -> str:
        """The same, before anything was met; empty for the newest."""
        return self._named((await self._newest())[1].origin) if self._shard else ""

    async def read(
        self,
        view: YearsView,
        progress: Callable[[int, int], None] = _quiet,
        *,
        edge: tiles.RightEdge | None = None,
        take: Callable[[Sequence[bytes], tiles.RightEdge], None] = _discard,
    ) -> ReadLog:
        """Read every entry under the checkpoint that was met and recompute its root.

        Args:
            view: From `meet`.
            progress: Told how many entries of how many have been read.
            edge: Of the tree that was read before; the reading goes on behind it, and the root is still that of all.
            take: Given each page of entries, with the edge that they have just extended.

        Raises:
            RefusedError: PROOF_INVALID: the entries are not those that the checkpoint signs.
            grpc.aio.AioRpcError: A call failed.
        """
        checkpoint = self.checkpoint
        found = ReadLog(checkpoint, 0)
        edge = tiles.RightEdge() if edge is None else edge
        if edge.size > checkpoint.size:
            raise _broken(checkpoint, f"it has {checkpoint.size} entries, and {edge.size} were read before")
        start, token = edge.size, ""
        while edge.size < checkpoint.size:
            request = audit_pb2.ListEntriesRequest(
                page_size=PAGE, page_token=token, start=start, origin=checkpoint.origin
            )
            page: audit_pb2.ListEntriesResponse = await self._stub.ListEntries(request, timeout=TIMEOUT)
            # Reading is recorded: what the listing itself added stands behind the checkpoint.
            entries = page.entries[: checkpoint.size - edge.size]
            if page.start != edge.size or not entries:
                raise _broken(checkpoint, "its listing leaves entries out")
            for index, data in enumerate(entries, edge.size):
                _count(found, checkpoint, index, data)
            edge.extend([merkle.leaf_hash(data) for data in entries])
            take(entries, edge)
            edge.trim()
            progress(edge.size, checkpoint.size)
            token = page.next_page_token
            if not token and edge.size < checkpoint.size:
                raise _broken(checkpoint, "its listing ends before the checkpoint")
        if tiles.root(edge.size, edge.node) != checkpoint.root:
            raise _broken(checkpoint, "the root over its entries is not the one that its checkpoint signs")
        former = found.goes_on_from
        if former is not None and view.ended(former.origin) not in {None, former}:
            raise _broken(checkpoint, f"its first entry names another end of {former.origin} than was proved")
        return found

    async def verify(
        self, progress: Callable[[int, int], None] = lambda _done, _size: None
    ) -> tuple[ReadLog, YearsView]:
        """`meet` and `read`; the view is to be remembered, by `YearsView.export`, once this has returned.

        Where nothing is remembered of the log before, its keeper must still say that it ended as the first entry says.
        """
        view = await self.meet()
        found = await self.read(view, progress)
        await self.settle(view, found)
        return found, view

    async def settle(self, view: YearsView, found: ReadLog) -> None:
        """Hold what was read against what was remembered, and against the end of the log before. Raises as `read`."""
        found.extends = view.restored_size if found.checkpoint == view.newest else 0
        former = found.goes_on_from
        if former is not None and view.ended(former.origin) is None:
            await self._check_former(found.checkpoint, former)

    async def cosigned(self) -> audit_pb2.LogHead | None:
        """The newest head that witnesses cosigned, as the keeper shows it; None if it has none. Ask before `meet`.

        Raises:
            RefusedError: The keeper refuses.
        """
        try:
            request = audit_pb2.GetCheckpointRequest(cosigned=True)
            response: audit_pb2.GetCheckpointResponse = await self._stub.GetCheckpoint(request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if refusal.reason is Reason.NOT_WITNESSED:
                return None
            raise refusal from None
        return response.head

    async def check_cosigned(self, head: audit_pb2.LogHead, newest: Checkpoint) -> Checkpoint | None:
        """A cosigned head, once it is proved to be of the same history as a checkpoint that was verified later.

        None if it is of the log of the year before: then the year has just turned.

        Raises:
            RefusedError: PROOF_INVALID, or an error of the certificate.
            grpc.aio.AioRpcError: The call failed.
        """
        checkpoint = self._checker.check(head)
        if checkpoint.origin != newest.origin:
            if log_of(checkpoint.origin) == log_of(newest.origin):
                return None
            raise _broken(newest, f"its witnesses cosigned {checkpoint.origin}")
        await self.check_extends(newest, checkpoint, "cosigned")
        return checkpoint

    async def check_extends(self, newest: Checkpoint, kept: Checkpoint, how: str = "seen") -> tuple[bytes, ...]:
        """The proof that a log extends a checkpoint of it, verified. Only hashes are asked for.

        Args:
            newest: That was verified.
            kept: What somebody kept of the same log.
            how: What was done with it, for the message.

        Raises:
            RefusedError: PROOF_INVALID: it does not.
            grpc.aio.AioRpcError: The call failed.
        """
        if not kept.size:
            return ()
        if kept.size > newest.size:
            raise _broken(newest, f"it has {newest.size} entries, and {kept.size} were {how}")
        path: tuple[bytes, ...] = ()
        if kept.size < newest.size:
            request = audit_pb2.GetConsistencyProofRequest(
                old_size=kept.size, new_size=newest.size, origin=newest.origin
            )
            response = await self._stub.GetConsistencyProof(request, timeout=TIMEOUT)
            path = tuple(response.consistency_path)
        try:
            merkle.verify_consistency(kept.size, newest.size, kept.root, newest.root, path)
        except merkle.ProofError:
            raise _broken(newest, f"its first {kept.size} entries are not those that were {how}") from None
        return path

    async def reaching(self, size: int, origin: str) -> tuple[audit_pb2.LogHead, Checkpoint, bool]:
        """A head of a log with at least `size` entries: what witnesses cosigned if it reaches so far, else the newest.

        Returns:
            The head, what it says, and whether witnesses cosigned it, as the log's keeper says.

        Raises:
            RefusedError: PROOF_INVALID, or an error of the certificate.
            grpc.aio.AioRpcError: The call failed.
        """
        cosigned = await self.cosigned()
        response = await self._stub.GetCheckpoint(audit_pb2.GetCheckpointRequest(origin=origin), timeout=TIMEOUT)
        newest = self._checker.check(response.head)
        if cosigned is not None and self._checker.check(cosigned).origin == newest.origin:
            checkpoint = await self.check_cosigned(cosigned, newest)
            if checkpoint is not None and checkpoint.size >= size:
                return cosigned, checkpoint, True
        return response.head, newest, False

    async def prove(self, index: int, data: bytes, checkpoint: Checkpoint) -> tuple[bytes, ...]:
        """The audit path of an entry in the tree of a checkpoint, verified. Raises as `reaching`."""
        request = audit_pb2.GetInclusionProofRequest(index=index, tree_size=checkpoint.size, origin=checkpoint.origin)
        response = await self._stub.GetInclusionProof(request, timeout=TIMEOUT)
        path = tuple(response.inclusion_path)
        check_included(audit_pb2.LoggedEntry(entry=data, index=index, inclusion_path=path), checkpoint)
        return path

    async def _check_former(self, checkpoint: Checkpoint, former: Checkpoint) -> None:
        request = audit_pb2.GetCheckpointRequest(origin=former.origin)
        try:
            head = (await self._stub.GetCheckpoint(request, timeout=TIMEOUT)).head
        except grpc.aio.AioRpcError as error:
            # Its entries are no longer kept. How it ended is proved all the same: the first entry says so.
            if refusal_of(error).reason is not Reason.ENTRY_UNKNOWN:
                raise
            return
        if self._checker.check(head) != former:
            raise _broken(checkpoint, f"its first entry names another end of {former.origin} than that has")

    async def logged(
        self, index: int, origin: str = ""
    ) -> tuple[audit_pb2.LoggedEntry, audit_pb2.LogHead, audit_pb2.Entry, Checkpoint]:
        """One entry, proved, and the head that proves it, each as it came and as it reads.

        Args:
            index: Of the entry.
            origin: Of its log; if it is empty, that of the auditor's year, or the newest.

        Raises:
            RefusedError: PROOF_INVALID, or an error of the certificate.
            grpc.aio.AioRpcError: The call failed, e.g. since there is no such entry.
        """
        response = await self._stub.GetEntry(
            audit_pb2.GetEntryRequest(index=index, origin=origin or await self._wanted()), timeout=TIMEOUT
        )
        checkpoint = self._checker.check(response.head)
        if response.entry.index != index:
            raise _broken(checkpoint, "it answers with another entry than was asked for")
        return response.entry, response.head, check_entry(response.entry, checkpoint), checkpoint

    async def search(
        self, query: Query, *, limit: int, proofs: bool, everywhere: bool = False, origin: str = ""
    ) -> AsyncGenerator[tuple[int, audit_pb2.Entry]]:
        """Entries that are looked for, newest first.

        Args:
            query: What is looked for.
            limit: At most so many; 0 for all.
            proofs: Whether each entry must be proved to be in the log.
            everywhere: In the logs of all years, also where the auditor was told one.
            origin: In the log of this origin; if it is empty, as above.

        Raises:
            RefusedError: PROOF_INVALID, or an error of the certificate.
            grpc.aio.AioRpcError: The call failed.
        """
        request = request_of(
            query,
            max_entries=limit,
            proofs=proofs,
            page_size=SEARCH_PAGE,
            origin=origin or ("" if everywhere else await self._wanted()),
        )
        call = self._stub.Search(request)
        try:
            async for response in call:
                checkpoint = self._checker.check(response.head)
                for logged in response.entries:
                    self.origin = checkpoint.origin
                    if proofs:
                        yield logged.index, check_entry(logged, checkpoint)
                        continue
                    try:
                        yield logged.index, decode_entry(logged.entry)
                    except EntryError as error:
                        raise _broken(checkpoint, f"entry {logged.index} cannot be read: {error}") from error
        finally:
            call.cancel()


def _count(found: ReadLog, checkpoint: Checkpoint, index: int, data: bytes) -> None:
    try:
        entry = decode_entry(data)
    except EntryError as error:
        raise _broken(checkpoint, f"entry {index} cannot be read: {error}") from error
    kind = entry.WhichOneof("event") or ""
    if (index == 0) != (kind == "log_opened") or (index == 0 and entry.log_opened.origin != checkpoint.origin):
        raise _broken(checkpoint, f"entry {index}: a log is opened once, by its first entry, under its own name")
    found.events[kind] += 1
    found.last_time = entry.time.seconds
    if index == 0:
        found.first_time = entry.time.seconds
        if year_of(checkpoint.origin) != FIRST:
            found.goes_on_from = predecessor_of(entry, index, checkpoint.origin)


def _broken(checkpoint: Checkpoint, what: str) -> RefusedError:
    return RefusedError(Reason.PROOF_INVALID, f"{checkpoint.origin}: {what}")
