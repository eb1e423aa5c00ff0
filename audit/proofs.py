"""Reading a log that one does not trust: is its head signed, does it extend what was seen, is the entry in it.

A `HeadChecker` answers the first question for the heads of one kind of log. A `HeadView` remembers one log and answers
the second; `audit/years.py` does so for the logs of one identity, year after year. All are used by one event loop or
thread at a time.

A server proves each head of a stream from the head that it sent before on that stream (the first from what the reader
says it knows). Then every head extends the view's newest, and a log that forks is noticed at once. When several
replies are outstanding that were all proven from an older head, two of them may be related to it but not yet to each
other; such a head is accepted, remembered as unlinked, and `link` settles it with a proof between the two.

Two heads that the log signed and that no tree has both of are a fork. A view that has seen one believes nothing more
of that log, over restarts too, and keeps both heads: they are signed, so they convince others.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from audit.checkpoint import Checkpoint, CheckpointError, open_note, split_note
from audit.entry import EntryError, decode_entry
from audit.origins import log_of
from certs.identity import Identity, Kind
from certs.signing import CertificateVerifier
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import merkle
from zhiwang.wire.errors import Reason, RefusedError

REMEMBERED: Final = 1024
"""Heads of one log that a view remembers."""
UNLINKED: Final = 1024
"""Heads that may wait for a proof that relates them to the newest; beyond, the oldest are given up and counted."""


class HeadChecker:
    """Verifies heads of logs: the certificate of the key, the kind of its holder, the note and its origin.

    Args:
        verifier: Of this city's certificates.
        kinds: Which kinds of identity keep the logs that are read.
        expected: Which of these identities are welcome; all if None. E.g. those of one department.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        verifier: CertificateVerifier,
        *,
        kinds: Collection[Kind],
        expected: Callable[[Identity], bool] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._kinds = frozenset(kinds)
        self._expected = expected
        self._clock = clock
        # The checkpoint that was verified last; one frame after another carries the same.
        self._last: tuple[bytes, bytes, Checkpoint] | None = None

    def check(self, head: audit_pb2.LogHead) -> Checkpoint:
        """The checkpoint of a head.

        Raises:
            RefusedError: PROOF_INVALID; or CERTIFICATE_INVALID, _EXPIRED or _REVOKED.
        """
        # Looked up at each call: a certificate expires and is revoked while checkpoints stay the same.
        certificate = self._verifier.verify(head.certificate, self._clock(), kinds=self._kinds)
        if self._last is not None and self._last[0] == head.checkpoint and self._last[1] == certificate.fingerprint:
            return self._last[2]
        identity = certificate.identity
        if self._expected is not None and not self._expected(identity):
            raise RefusedError(Reason.PROOF_INVALID, f"a log of {identity.short} is not the one that was asked for")
        try:
            origin = split_note(head.checkpoint)[0].partition("\n")[0]
            if log_of(origin) != identity.log_origin:
                origin = identity.log_origin
            checkpoint = open_note(head.checkpoint, origin, certificate.public_key_raw)
        except CheckpointError as error:
            raise RefusedError(Reason.PROOF_INVALID, f"checkpoint of {identity.short}: {error}") from error
        self._last = (head.checkpoint, certificate.fingerprint, checkpoint)
        return checkpoint


class Shown(NamedTuple):
    """A head as the log showed it.

    Attributes:
        root: Of its tree.
        checkpoint: The signed note.
        certificate: DER of the certificate of the key that signed it.
    """

    root: bytes
    checkpoint: bytes
    certificate: bytes


BEFORE_REMOVAL: Final = "restore it, and ask the audit office before removing it: what the log was is in it"
"""What to do about a memory that cannot be taken up."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Two heads of one log that do not belong together.

    Attributes:
        old_size: Entries of the smaller tree.
        new_size: Of the larger one, or of the other tree of the same size.
        old: The head of the smaller.
        new: The head of the larger.
        path: What the log gave as the proof between them; nothing if the sizes are the same.
    """

    old_size: int
    new_size: int
    old: Shown
    new: Shown
    path: tuple[bytes, ...] = ()


class HeadView:
    """What one reader has seen of one log. `export` and `restore` carry it over a restart.

    Args:
        checker: Verifies the heads.
        origin: Of the log; the origin of the first head if None.

    Attributes:
        given_up: How many heads were never linked.
        fork: How the log contradicted itself; None if it has not. Then no head of it is believed any more.
        ended: Whether the newest tree is the last one: a larger one is a contradiction.
        revision: Rises with each change of what `export` gives.
        restored_size: Size of the tree that `restore` took up; 0 if there was none.
        held: Sizes from which servers still prove what they show next: remembered, however many came since.
    """

    def __init__(self, checker: HeadChecker, origin: str | None = None) -> None:
        self.origin = origin
        self.given_up = 0
        self.fork: Fork | None = None
        self.ended = False
        self.revision = 0
        self.restored_size = 0
        self.held: Collection[int] = ()
        self._checker = checker
        self._newest = Checkpoint("", 0, merkle.EMPTY_ROOT)
        # By size; all of them, but for the unlinked, are known to be prefixes of the newest.
        self._seen: OrderedDict[int, Shown] = OrderedDict()
        self._unlinked: OrderedDict[int, Shown] = OrderedDict()

    @property
    def newest(self) -> Checkpoint:
        """The largest tree that was verified; of size 0 before the first."""
        return self._newest

    @property
    def known_tree_size(self) -> int:
        """What to tell the log's server."""
        return self._newest.size

    @property
    def unlinked(self) -> int:
        """How many heads wait for a proof that relates them to the newest."""
        return len(self._unlinked)

    def verify_head(self, head: audit_pb2.LogHead, known_tree_size: int = 0, *, linked: bool = False) -> Checkpoint:
        """Check a head against what was seen, and remember it.

        Args:
            head: As it came.
            known_tree_size: What its server had been told, or showed last on the same stream: the head has to be proved
                from there or from later. Proved from anything older, two histories could go on side by side.
            linked: Whether it is proved to go on from the log before, when nothing more was known.

        Raises:
            RefusedError: PROOF_INVALID: not signed by its log, another log, not an extension of what was seen, or of a
                log that forked before; or an error of the certificate. Unless the head shows a fork, the view is as
                it was.
        """
        self._check_whole()
        checkpoint = self._checker.check(head)
        if self.origin is not None and checkpoint.origin != self.origin:
            raise RefusedError(Reason.PROOF_INVALID, f"a head of {checkpoint.origin} where {self.origin} was expected")
        if checkpoint is self._newest:
            return checkpoint
        shown = Shown(checkpoint.root, head.checkpoint, head.certificate)
        seen = self._seen.get(checkpoint.size)
        if seen is None and self.ended and checkpoint.size > self._newest.size:
            raise self._forked(Fork(self._newest.size, checkpoint.size, self._seen[self._newest.size], shown))
        if seen is None:
            if head.known_tree_size < known_tree_size:
                raise RefusedError(
                    Reason.PROOF_INVALID,
                    f"{checkpoint.origin}: proved from {head.known_tree_size} where {known_tree_size} had been seen",
                )
            if self._newest.size and not linked:
                self._check_extension(checkpoint, head)
            self._remember(checkpoint, head.known_tree_size, shown)
        elif seen.root != checkpoint.root:
            raise self._forked(Fork(checkpoint.size, checkpoint.size, seen, shown))
        elif checkpoint.size == self._newest.size:
            self._newest = checkpoint  # the same tree under another signature
        return checkpoint

    def end(
        self, final: Checkpoint, note: bytes, known: int = 0, path: Sequence[bytes] = (), *, at_least: int = 0
    ) -> None:
        """The log goes on in another one, which names its last head.

        Args:
            final: That head,
            note: as it stands there.
            known: Size of a tree that was seen, from which it is proved,
            path: by this; of no use where none was seen.
            at_least: It has to be proved from there or from later.

        Raises:
            RefusedError: PROOF_INVALID: it does not extend what was seen, or less than that is its end: a fork.
        """
        self._check_whole()
        shown = Shown(final.root, note, b"")
        seen, newest = self._seen.get(final.size), self._newest
        if self.ended and (final.size, final.root) == (newest.size, newest.root):
            return
        if seen is not None and seen.root != final.root:
            raise self._forked(Fork(final.size, final.size, seen, shown))
        if self.ended and final.size > newest.size:
            raise self._forked(Fork(newest.size, final.size, self._seen[newest.size], shown))
        if final.size < self._newest.size:
            raise self._forked(Fork(final.size, self._newest.size, shown, self._seen[self._newest.size]))
        if seen is None:
            before = self._seen.get(known) if known >= at_least else None
            if self._newest.size and (
                before is None or not _consistent(known, final.size, before.root, final.root, path)
            ):
                raise RefusedError(
                    Reason.PROOF_INVALID, f"{final.origin}: its end comes without a proof from what was seen of it"
                )
            self._remember(final, known, shown)
        self.ended = True
        self.revision += 1

    def _check_whole(self) -> None:
        if self.fork is not None:
            raise contradiction(self.origin or "", self.fork.old_size, self.fork.new_size)

    def _forked(self, fork: Fork) -> RefusedError:
        self.fork = fork
        self.revision += 1
        return contradiction(self.origin or "", fork.old_size, fork.new_size)

    def _check_extension(self, checkpoint: Checkpoint, head: audit_pb2.LogHead) -> None:
        known = head.known_tree_size
        seen = self._seen.get(known)
        if seen is None:
            raise RefusedError(
                Reason.PROOF_INVALID,
                f"{checkpoint.origin}: a head of {checkpoint.size} entries comes without a proof from one that was "
                f"seen; the newest seen has {self._newest.size}",
            )
        # A path that does not hold says nothing of what the log is: another one may.
        if not _consistent(known, checkpoint.size, seen.root, checkpoint.root, head.consistency_path):
            raise contradiction(checkpoint.origin, known, checkpoint.size)

    def _remember(self, checkpoint: Checkpoint, known: int, shown: Shown) -> None:
        """Take in a head of a size not seen before, proved to extend the one of size `known` (if any was seen)."""
        self.origin = checkpoint.origin
        self.revision += 1
        newest = self._newest
        self._unlinked.pop(known, None)  # whatever relates this head to the newest relates that one too
        self._seen[checkpoint.size] = shown
        if checkpoint.size < newest.size:
            self._wait_for_link(checkpoint.size, shown)
        else:
            if newest.size not in {0, known}:
                self._wait_for_link(newest.size, self._seen[newest.size])
            self._newest = checkpoint
        self._seen.move_to_end(self._newest.size)
        if len(self._seen) > REMEMBERED:
            del self._seen[next(size for size in self._seen if size not in self.held)]

    def _wait_for_link(self, size: int, shown: Shown) -> None:
        self._unlinked[size] = shown
        if len(self._unlinked) > UNLINKED:
            self._unlinked.popitem(last=False)
            self.given_up += 1

    @property
    def wanted_link(self) -> tuple[int, int] | None:
        """Two sizes between which a consistency proof is wanted (AuditService.GetConsistencyProof), if any."""
        size = next(iter(self._unlinked), None)
        return None if size is None or self.fork is not None else (size, self._newest.size)

    def link(self, old_size: int, new_size: int, path: Sequence[bytes]) -> None:
        """Relate two heads that were seen, by the answer of their log to what `wanted_link` asked for.

        It counts as well where a later head of the same server has taken the old one's place meanwhile: under load that
        is always so, and a fork must not go unnoticed for it.

        Raises:
            RefusedError: PROOF_INVALID: the log was asked and cannot prove what it has signed: it has shown two
                histories. Nothing of it is believed from now on.
        """
        self._check_whole()
        old, new = self._unlinked.get(old_size) or self._seen.get(old_size), self._seen.get(new_size)
        if old is None or new is None:
            return
        if not _consistent(old_size, new_size, old.root, new.root, path):
            raise self._forked(Fork(old_size, new_size, old, new, tuple(path)))
        if self._unlinked.pop(old_size, None) is not None:
            self.revision += 1

    def settle(self, old_size: int, new_size: int, answer: audit_pb2.GetConsistencyProofResponse) -> None:
        """As `link`, with what the log's server answers.

        Raises:
            RefusedError: As `link`; or, while `fork` is None, this answers nothing: it is of another log, or of one
                that does not have so many entries.
        """
        self._check_whole()
        checkpoint = self._checker.check(answer.head)
        if checkpoint.origin != self.origin or checkpoint.size < new_size:
            raise RefusedError(
                Reason.PROOF_INVALID,
                f"{self.origin}: asked about {new_size} entries, {checkpoint.origin} answers of {checkpoint.size}",
            )
        self.link(old_size, new_size, answer.consistency_path)

    def check_entry(self, logged: audit_pb2.LoggedEntry, checkpoint: Checkpoint) -> audit_pb2.Entry:
        """As the function `check_entry`."""
        return check_entry(logged, checkpoint)

    def export(self) -> bytes:
        """What has to be remembered over a restart."""
        newest = self._seen.get(self._newest.size, Shown(self._newest.root, b"", b""))
        state: dict[str, Any] = {
            "origin": self.origin,
            "size": self._newest.size,
            **_written(newest),
            "unlinked": [{"size": size, **_written(shown)} for size, shown in self._unlinked.items()],
            "ended": self.ended,
        }
        if self.fork is not None:
            state["fork"] = {
                "old": {"size": self.fork.old_size, **_written(self.fork.old)},
                "new": {"size": self.fork.new_size, **_written(self.fork.new)},
                "path": [b64encode(node).decode() for node in self.fork.path],
            }
        return json.dumps(state).encode()

    def restore(self, data: bytes) -> None:
        """Take up what `export` gave.

        Raises:
            RefusedError: PROOF_INVALID: not from `export`, or of another log.
        """
        try:
            state = json.loads(data)
            origin, size, newest = state["origin"], int(state["size"]), _read(state)
            unlinked = [_sized(one) for one in state["unlinked"]]
            ended = bool(state.get("ended"))  # what a release without yearly logs wrote says nothing
            fork = None
            if "fork" in state:
                (old_size, old), (new_size, new) = _sized(state["fork"]["old"]), _sized(state["fork"]["new"])
                path = tuple(b64decode(node, validate=True) for node in state["fork"]["path"])
                fork = Fork(old_size, new_size, old, new, path)
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(
                Reason.PROOF_INVALID, f"the remembered state of a log is damaged; {BEFORE_REMOVAL}"
            ) from error
        if self.origin is not None and origin not in {None, self.origin}:
            raise RefusedError(
                Reason.PROOF_INVALID, f"the remembered state is of {origin}, not of {self.origin}; {BEFORE_REMOVAL}"
            )
        if size:
            self.origin = origin
            self.fork = fork
            self.ended = ended
            self.revision += 1
            self.restored_size = size
            self._newest = Checkpoint(origin, size, newest.root)
            self._seen = OrderedDict([(size, newest)])
            self._unlinked = OrderedDict(unlinked)


def is_memory(data: bytes) -> bool:
    """Whether a file is what somebody remembers of logs, and not a signed note."""
    return data.lstrip().startswith(b"{")


def checkpoints_in(data: bytes) -> Iterator[Checkpoint]:
    """Checkpoints of a signed note, of `HeadView.export`, or of an agent's `heads.json`; no signature is verified.

    Raises:
        CheckpointError, ValueError, KeyError, TypeError: It is none of them.
    """
    if not is_memory(data):
        yield Checkpoint.parse(split_note(data)[0])
        return
    content: dict[str, Any] = json.loads(data)
    for log in content.get("logs", [content]):
        if log["size"]:
            yield Checkpoint(str(log["origin"]), int(log["size"]), b64decode(log["root"], validate=True))


def check_entry(logged: audit_pb2.LoggedEntry, checkpoint: Checkpoint) -> audit_pb2.Entry:
    """The entry, once it is proved to be in the tree of a verified checkpoint.

    Raises:
        RefusedError: PROOF_INVALID: it is not, or it cannot be read.
    """
    check_included(logged, checkpoint)
    try:
        return decode_entry(logged.entry)
    except EntryError as error:
        raise RefusedError(Reason.PROOF_INVALID, f"{checkpoint.origin}: entry {logged.index}: {error}") from error


def check_included(logged: audit_pb2.LoggedEntry, checkpoint: Checkpoint) -> bytes:
    """The leaf hash of an entry, once it is proved to be in the tree; its bytes are not read.

    Raises:
        RefusedError: PROOF_INVALID: it is not in the tree.
    """
    leaf = merkle.leaf_hash(logged.entry)
    try:
        merkle.verify_inclusion(logged.index, checkpoint.size, leaf, logged.inclusion_path, checkpoint.root)
    except merkle.ProofError as error:
        raise RefusedError(Reason.PROOF_INVALID, f"{checkpoint.origin}: entry {logged.index}: {error}") from error
    return leaf


def _consistent(old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    try:
        merkle.verify_consistency(old_size, new_size, old_root, new_root, path)
    except merkle.ProofError:
        return False
    return True


def contradiction(origin: str, old_size: int, new_size: int) -> RefusedError:
    """The log has shown two histories."""
    return RefusedError(
        Reason.PROOF_INVALID,
        f"{origin}: the log of {new_size} entries does not extend the one of {old_size} that was seen; keep the "
        "state directory for the audit office",
    )


def _written(shown: Shown) -> dict[str, str]:
    return {name: b64encode(value).decode() for name, value in shown._asdict().items()}


def _read(written: dict[str, Any]) -> Shown:
    """What `_written` wrote. Before heads were kept whole, only the root was written."""
    root, checkpoint, certificate = (b64decode(written.get(name, ""), validate=True) for name in Shown._fields)
    if len(root) != merkle.HASH_SIZE:
        raise ValueError("not a root")
    return Shown(root, checkpoint, certificate)


def _sized(written: dict[str, Any] | list[Any]) -> tuple[int, Shown]:
    if isinstance(written, list):
        size, root = written
        written = {"size": size, "root": root}
    return int(written["size"]), _read(written)
