"""Gives receipts the word of witnesses, afterwards and in the background; no answer waits for a hub or a witness.

A receipt is issued at once, with the checkpoint that came with its answer. A few seconds later witnesses have cosigned
a larger tree of the hub's log, which holds the entry too. What is fetched is verified before it is kept: the hub's
signature, a quorum of the witnesses whom the centre names, and the entry's place in that tree.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import grpc
import structlog

from audit.checkpoint import Checkpoint, CheckpointError, join_note, open_note, split_note
from audit.cosignature import WitnessPolicy
from audit.origins import log_of
from audit.proofs import check_included
from certs.signing import CertificateVerifier
from exchange.client.keeper import Keeper
from exchange.client.receipt_rows import Waiting
from exchange.client.receipt_verify import earlier_tree, origin_in
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.channel import refusal_of
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.identity import Kind

ROUND_SECONDS: Final = 10.0
"""Pause between two rounds."""
PATIENCE: Final = 7 * 86_400.0
"""How long after a receipt was kept each round looks for its cosignatures; older ones have their turns."""
OLD_BATCH: Final = 10
"""Older receipts of one round: those that can never be completed cost a hub no more than one call a second."""
BATCH: Final = 25
"""Receipts that are read and written at a time: an answer that is being kept waits no longer than that takes."""
ROUND_PROOFS: Final = 500
"""Proofs of one round, at most, of each hub: none is asked for more than fifty a second."""
ROUND_PATIENCE: Final = 30.0
"""Seconds that one round waits for each hub, and the call in which they run out: who hangs holds up no other."""
CALL_SECONDS: Final = 5.0
"""How long one call may take."""

log = structlog.get_logger(__name__)


class CosignedHead(NamedTuple):
    """A cosigned head of a hub's log, verified, and how to ask that hub for proofs.

    Attributes:
        origin: Of its log.
        note: With the signatures of the log and of witnesses that count, and no others.
        certificate: Of the key that signed it for the hub.
        tree: In which entries are proved: its own, or the final one of an earlier year's log, to which it leads back.
        opened: How it does: first entries of logs, as in `CosignedProof`.
        prove: Gives the audit path of an entry in that tree.
        earlier: Gives a head that leads back to the log of some origin.
    """

    origin: str
    note: bytes
    certificate: bytes
    tree: Checkpoint
    opened: Sequence[audit_pb2.LoggedEntry]
    prove: Callable[[int], Awaitable[Sequence[bytes]]]
    earlier: Callable[[str], Awaitable[CosignedHead]]


class _Budget:
    """What is left to be asked of one hub."""

    def __init__(self, proofs: int, seconds: float) -> None:
        self.proofs = proofs
        self._seconds = seconds

    @property
    def spent(self) -> bool:
        return self.proofs <= 0 or self._seconds <= 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds -= time.monotonic() - begun


class Round:
    """What can be completed at one time: the newest cosigned heads, and as much as is to be asked of each hub.

    Args:
        policy: Whose cosignatures count, and how many.
        heads: By the origins of the logs.
        proofs: How many each hub is asked for. Each is asked for once: the cases of a roster share their entries.
        seconds: How long each hub is waited for, in all.

    Attributes:
        cut: Whether the receipt that was tried last was left because a hub is not to be asked any more.
    """

    def __init__(
        self,
        policy: WitnessPolicy,
        heads: Mapping[str, CosignedHead],
        proofs: int = ROUND_PROOFS,
        seconds: float = ROUND_PATIENCE,
    ) -> None:
        self._policy = policy
        self._heads: dict[str, CosignedHead | None] = dict(heads)
        self._left = {log_of(origin): _Budget(proofs, seconds) for origin in heads}
        self._paths: dict[tuple[str, int], Sequence[bytes]] = {}
        self.cut = False

    @property
    def over(self) -> bool:
        """Whether nothing more can be completed."""
        return all(left.spent for left in self._left.values())

    async def complete(self, receipt: verification_pb2.Receipt) -> bool:
        """Give each part of a receipt its cosigned proof; whether all have one now. If not, the receipt is as it was.

        Raises:
            RefusedError: PROOF_INVALID: a hub's cosigned tree has not the entry that its log has shown; or why a hub
                refused to prove it.
        """
        gained, self.cut = [], False
        for part in receipt.parts:
            if part.HasField("hub_cosigned") and self._is_witnessed(part.hub_cosigned.checkpoint):
                continue
            head = await self._head(split_note(part.hub_log.checkpoint)[0].partition("\n")[0])
            if head is None or part.hub_entry.index >= head.tree.size:
                return False
            path = await self._path(head, part.hub_entry.index)
            if path is None:
                return False
            logged = audit_pb2.LoggedEntry(entry=part.hub_entry.entry, index=part.hub_entry.index, inclusion_path=path)
            check_included(logged, head.tree)
            proof = verification_pb2.CosignedProof(
                checkpoint=head.note, certificate=head.certificate, inclusion_path=path, opened=head.opened
            )
            gained.append((part, proof))
        for part, proof in gained:
            part.hub_cosigned.CopyFrom(proof)
        return True

    def _is_witnessed(self, note: bytes) -> bool:
        try:
            return self._policy.satisfied_by(note)
        except CheckpointError:
            return False

    async def _head(self, origin: str) -> CosignedHead | None:
        """The head by which entries of a log are proved; for one that has ended, one that leads back to it."""
        if origin not in self._heads:
            self._heads[origin] = None
            later = next(
                (one for one in self._heads.values() if one is not None and log_of(one.origin) == log_of(origin)), None
            )
            if later is not None:
                with self._left[log_of(origin)].waiting():
                    self._heads[origin] = await later.earlier(origin)
        return self._heads[origin]

    async def _path(self, head: CosignedHead, index: int) -> Sequence[bytes] | None:
        """The path of an entry; None if its hub was asked for enough."""
        key, left = (head.tree.origin, index), self._left[log_of(head.tree.origin)]
        if key not in self._paths:
            if left.spent:
                self.cut = True
                return None
            left.proofs -= 1
            with left.waiting():
                self._paths[key] = await head.prove(index)
        return self._paths[key]


class Completer:
    """Fetches cosigned heads of the hubs' logs, and proves the entries of receipts under them.

    Args:
        stubs: Gives the AuditService of each hub, at the moment.
        verifier: Of this city's certificates.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, stubs: Callable[[], Sequence[Any]], verifier: CertificateVerifier, clock: Callable[[], float]
    ) -> None:
        self._stubs = stubs
        self._verifier = verifier
        self._clock = clock
        self._told: dict[int, Reason] = {}

    async def begin(
        self, policy: WitnessPolicy, *, proofs: int = ROUND_PROOFS, seconds: float = ROUND_PATIENCE
    ) -> Round:
        """A round with the newest cosigned head of each hub's log. A hub that shows none is left out, and told of.

        Args:
            policy: Whose cosignatures count, and how many.
            proofs: How many each hub is asked for.
            seconds: How long each hub is waited for, in all.
        """
        found = {}
        for number, stub in enumerate(self._stubs()):
            try:
                head = await self._head(stub, policy)
            except ZhiwangError as error:
                # Once, as long as it stays the same: a hub that is away would fill the log otherwise.
                if self._told.get(number) is not error.reason:
                    log.warning("a hub shows no cosigned checkpoint", reason=error.reason.name, detail=error.detail)
                self._told[number] = error.reason
            else:
                self._told.pop(number, None)
                found[head.origin] = head
        return Round(policy, found, proofs, seconds)

    async def _head(self, stub: Any, policy: WitnessPolicy, wanted: str = "") -> CosignedHead:
        """The newest cosigned head of a hub; if wanted, one that leads back to the log of an earlier year."""
        request = audit_pb2.GetCheckpointRequest(cosigned=True, known_origin=wanted, known_tree_size=1 if wanted else 0)
        head = (await _call(stub.GetCheckpoint, request)).head
        certificate = self._verifier.verify(head.certificate, self._clock(), kinds=(Kind.HUB,))
        try:
            origin = origin_in(head.checkpoint, certificate.identity)
            checkpoint = open_note(head.checkpoint, origin, certificate.public_key_raw)
            note = _without_strangers(head.checkpoint, origin, policy)
            witnessed = policy.satisfied_by(note)
        except CheckpointError as error:
            raise RefusedError(Reason.PROOF_INVALID, f"{certificate.identity.short}: {error}") from None
        if not witnessed:
            raise RefusedError(Reason.NOT_WITNESSED, f"{origin}: called cosigned, and has no quorum")
        opened = tuple(head.link.opened) if wanted else ()
        tree = earlier_tree(checkpoint, opened)
        if wanted and tree.origin != wanted:
            raise RefusedError(Reason.NOT_WITNESSED, f"{origin} does not lead back to {wanted}")

        async def prove(index: int) -> Sequence[bytes]:
            asked = audit_pb2.GetInclusionProofRequest(index=index, tree_size=tree.size, origin=tree.origin)
            return tuple((await _call(stub.GetInclusionProof, asked)).inclusion_path)

        async def earlier(wanted: str) -> CosignedHead:
            return await self._head(stub, policy, wanted)

        return CosignedHead(origin, note, head.certificate, tree, opened, prove, earlier)


async def complete_kept(
    keeper: Keeper,
    completer: Completer,
    policy: Callable[[], WitnessPolicy | None],
    clock: Callable[[], float],
    completed: Callable[[int], None] = lambda _count: None,
) -> None:
    """Give kept receipts their cosignatures, round after round, until cancelled.

    Args:
        keeper: Of the receipts.
        completer: Of the hubs.
        policy: Gives whose cosignatures count; None while the centre names no witness.
        clock: Seconds since the epoch.
        completed: Told how many receipts have gained them.
    """
    trouble, turn, after = None, 0, 0
    while True:
        try:
            witnesses = policy()
            if witnesses is not None:
                now, old = await completer.begin(witnesses), clock() - PATIENCE
                count, after = await one_round(keeper, now, old, after)
                completed(count)
                count, turn = await old_ones(keeper, now, old, turn)
                completed(count)
            trouble = None
        except ZhiwangError as error:
            if trouble is not error.reason:
                log.warning("receipts gain no cosignatures", reason=error.reason.name, detail=error.detail)
            trouble = error.reason
        await asyncio.sleep(ROUND_SECONDS)


async def one_round(keeper: Keeper, now: Round, since: float, after: int = 0) -> tuple[int, int]:
    """Complete what can be completed now.

    Args:
        keeper: Of the receipts.
        now: What they can be completed by.
        since: Only those that were kept at this time or later, in seconds since the epoch.
        after: Where the round before this one said that this one begins; 0 for the first.

    Returns:
        How many were completed, and where the next round begins: with those that a hub was not asked for any more, so
        that those before them, which it may refuse for ever, do not stand in their way.

    Raises:
        ZhiwangError: The store cannot be read or written.
    """
    begun, count, cut = after, 0, 0
    while not now.over:
        waiting = await keeper.waiting_for_witnesses(since, after, BATCH)
        done = []
        for one in waiting:
            if await _completed(now, one):
                done.append(one)
            elif now.cut and not cut:
                # What takes more than a whole round is passed over.
                cut = max(one.number - 1, begun + 1)
        if done:
            await keeper.complete(done)
            count += len(done)
        if len(waiting) < BATCH:
            after = 0
            break
        after = waiting[-1].number
    return count, cut or after


async def old_ones(keeper: Keeper, now: Round, before: float, turn: int) -> tuple[int, int]:
    """Complete a few of the receipts that were kept long ago, all of them in turn.

    Args:
        keeper: Of the receipts.
        now: What they can be completed by.
        before: Only those that were kept before this time, in seconds since the epoch.
        turn: Where the turn before this one ended; 0 to begin.

    Returns:
        How many were completed, and where this turn has ended.

    Raises:
        ZhiwangError: The store cannot be read or written.
    """
    if now.over:
        return 0, turn
    waiting = await keeper.waiting_long(before, turn, OLD_BATCH)
    done = [one for one in waiting if await _completed(now, one)]
    if done:
        await keeper.complete(done)
    return len(done), waiting[-1].number if len(waiting) == OLD_BATCH else 0


async def _completed(now: Round, waiting: Waiting) -> bool:
    try:
        return await now.complete(waiting.receipt)
    except RefusedError as error:
        if error.reason is Reason.PROOF_INVALID:
            # Worse than bad luck: the tree that witnesses cosigned is not the one that this agent was shown.
            log.error("a cosigned log lacks a receipt's entry; call the audit office", detail=error.detail)  # noqa: TRY400  no trace
        return False


def _without_strangers(note: bytes, origin: str, policy: WitnessPolicy) -> bytes:
    """A note with the signatures of its log and of witnesses that count: whoever adds lines must not fill our disk."""
    text, signatures = split_note(note)
    known = {(key.name, key.id) for key in policy.keys}
    return join_note(text, [one for one in signatures if one[0] == origin or one[:2] in known])


async def _call(method: Callable[..., Any], request: Any) -> Any:
    try:
        return await method(request, timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise refusal_of(error) from None
