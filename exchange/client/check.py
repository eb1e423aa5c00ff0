"""Whether a result is what it must be, before any of it is released. Pure.

The hub is not trusted: it could return another's reply, an entry that is not in its log, or none. So an answer counts
only with the owner's entry that commits to it, the hub's entry that names the owner's, and both proofs under heads that
were verified before (`Frame`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from audit.checkpoint import Checkpoint
from audit.entry import EntryError, decode_entry
from audit.proofs import check_included
from exchange.client.seal import Sealed
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2
from zhiwang.wire.commitments import answer_tree
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.merkle import Tree
from zhiwang.wire.records import Answers, Outcome, decode_answers


class Frame:
    """The heads that came with some results. Each owner's is verified once, when the first of its results is checked.

    Args:
        hub_log: Head of the hub's log; None if nothing was recorded.
        hub: Its checkpoint, verified against everything that was seen of this log before.
        owner_logs: Heads of owners' logs, as they came.
        check_owner: Verifies one for a department.
    """

    __slots__ = ("_check_owner", "_owners", "hub", "hub_log", "owner_logs")

    def __init__(
        self,
        hub_log: audit_pb2.LogHead | None,
        hub: Checkpoint | None,
        owner_logs: Sequence[audit_pb2.LogHead],
        check_owner: Callable[[str, audit_pb2.LogHead], Checkpoint],
    ) -> None:
        self.hub_log = hub_log
        self.hub = hub
        self.owner_logs = owner_logs
        self._check_owner = check_owner
        self._owners: dict[tuple[int, str], Checkpoint] = {}

    def owner(self, index: int, department: str) -> Checkpoint:
        """The verified checkpoint of one owner's log.

        Raises:
            RefusedError: PROOF_INVALID, or what is wrong with its certificate.
        """
        key = index, department
        checkpoint = self._owners.get(key)
        if checkpoint is None:
            if not 0 <= index < len(self.owner_logs):
                raise RefusedError(Reason.PROOF_INVALID, "no head of the owner's log")
            checkpoint = self._owners[key] = self._check_owner(department, self.owner_logs[index])
        return checkpoint


class Delivery(NamedTuple):
    """One result as it came, with the heads of its frame.

    Attributes:
        owner_log: Which of the frame's heads is its owner's.
        sendings: How often the request had been sent by then; earlier ones may have been answered, too.
    """

    result: exchange_pb2.ExchangeResult
    frame: Frame
    owner_log: int
    sendings: int = 1


class Answered(NamedTuple):
    """A result that holds, and all that a receipt needs.

    Attributes:
        sealed: The request.
        answers: What the owner answered.
        tree: Of the answers.
        delivery: With the entries and heads.
    """

    sealed: Sealed
    answers: Answers
    tree: Tree
    delivery: Delivery


def check_answer(sealed: Sealed, delivery: Delivery) -> Answered:
    """Check an answered result against its request.

    Raises:
        RefusedError: PROOF_INVALID, and nothing of it may be released.
    """
    result, frame = delivery.result, delivery.frame
    header, request = sealed.header, sealed.request
    if frame.hub is None or not result.HasField("reply"):
        raise _invalid("an answer without the hub's record or without a reply")
    checkpoint = frame.owner(delivery.owner_log, header.owner)
    check_included(result.hub_entry, frame.hub)
    hub = _decode(result.hub_entry)
    _check_hub(sealed, hub, audit_pb2.OUTCOME_ANSWERED)
    owner_leaf = check_included(result.owner_entry, checkpoint)
    owner = _decode(result.owner_entry).owner_access
    access = hub.hub_access
    if access.owner_leaf_hash != owner_leaf or access.owner_index != result.owner_entry.index:
        raise _invalid("the hub's entry names another entry of the owner")
    if access.owner_checkpoint != frame.owner_logs[delivery.owner_log].checkpoint:
        raise _invalid("the hub's entry names another checkpoint of the owner")
    if not (
        owner.header == request.header
        and owner.signature == request.signature
        and owner.sealed_hash == sealed.sealed_hash
        and owner.request_root == request.request_root
        and owner.cases == header.cases
        and owner.claims == len(header.claims)
    ):
        raise _invalid("the owner's entry is of another request")
    try:
        opened = sealed.context.open_reply(header.hash, result.reply.nonce, result.reply.ciphertext)
        answers = decode_answers(header, opened)
    except RefusedError as error:
        raise _invalid(f"the reply: {error}") from error
    tree = answer_tree(header, sealed.commitments, answers)
    if tree.root != owner.answer_root:
        raise _invalid("the owner's entry commits to other answers")
    _check_denied(access, answers, len(header.claims))
    return Answered(sealed, answers, tree, delivery)


def check_refusal(sealed: Sealed, delivery: Delivery) -> Reason:
    """The reason of a result without answers. If it comes with an entry of the hub, that must be of this request.

    Raises:
        RefusedError: PROOF_INVALID.
    """
    result, frame = delivery.result, delivery.frame
    reason = Reason.__members__.get(result.reason, Reason.OWNER_FAILED)
    if frame.hub is not None and result.HasField("hub_entry"):
        check_included(result.hub_entry, frame.hub)
        entry = _decode(result.hub_entry)
        if entry.WhichOneof("event") == "hub_access":
            _check_hub(sealed, entry, result.outcome)
            if entry.hub_access.reason != result.reason:
                raise _invalid("the hub recorded another reason than it gave")
    return reason


def _decode(logged: audit_pb2.LoggedEntry) -> audit_pb2.Entry:
    """An entry that is known to be in its log."""
    try:
        return decode_entry(logged.entry)
    except EntryError as error:
        raise _invalid(f"entry {logged.index}: {error}") from error


def _check_hub(sealed: Sealed, entry: audit_pb2.Entry, outcome: int) -> None:
    access, request = entry.hub_access, sealed.request
    if not (
        entry.WhichOneof("event") == "hub_access"
        and access.header == request.header
        and access.signature == request.signature
        and access.sealed_hash == sealed.sealed_hash
        and access.request_root == request.request_root
        and access.outcome == outcome
    ):
        raise _invalid("the hub's entry is of another request or outcome")


def _check_denied(access: audit_pb2.HubAccess, answers: Answers, columns: int) -> None:
    """What the hub masked is what its entry says, no more and no less: a denial cannot be hidden."""
    masked = frozenset(access.denied_claims)
    outcomes = answers.outcomes
    for column in range(columns):
        of_column = outcomes[column::columns]
        if column in masked:
            if of_column.count(Outcome.DENIED_BY_HUB) != len(of_column):
                raise _invalid("a claim that the hub denied was answered")
        elif Outcome.DENIED_BY_HUB in of_column:
            raise _invalid("a denial by the hub does not stand in its entry")


def _invalid(detail: str) -> RefusedError:
    return RefusedError(Reason.PROOF_INVALID, detail)
