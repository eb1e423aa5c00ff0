"""Reading a log that one does not trust: is its head signed, does it extend what was seen, is the entry in it.

A `HeadChecker` answers the first question for the heads of one kind of log. A `HeadView` remembers one log and answers
the second. Both are used by one event loop or thread at a time.

A server proves each head of a stream from the head that it sent before on that stream (the first from what the reader
says it knows). Then every head extends the view's newest, and a log that forks is noticed at once. When several
replies are outstanding that were all proven from an older head, two of them may be related to it but not yet to each
other; such a head is accepted, remembered as unlinked, and `link` settles it with a proof between the two.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final

from audit.checkpoint import Checkpoint, CheckpointError, open_note
from audit.entry import EntryError, decode_entry
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
            checkpoint = open_note(head.checkpoint, identity.log_origin, certificate.public_key_raw)
        except CheckpointError as error:
            raise RefusedError(Reason.PROOF_INVALID, f"checkpoint of {identity.short}: {error}") from error
        self._last = (head.checkpoint, certificate.fingerprint, checkpoint)
        return checkpoint


class HeadView:
    """What one reader has seen of one log. `export` and `restore` carry it over a restart.

    Args:
        checker: Verifies the heads.
        origin: Of the log; the origin of the first head if None.

    Attributes:
        given_up: How many heads were never linked.
        restored_size: Size of the tree that `restore` took up; 0 if there was none.
    """

    def __init__(self, checker: HeadChecker, origin: str | None = None) -> None:
        self.origin = origin
        self.given_up = 0
        self.restored_size = 0
        self._checker = checker
        self._newest = Checkpoint("", 0, merkle.EMPTY_ROOT)
        # size → root; all of them, but for the unlinked, are known to be prefixes of the newest.
        self._seen: OrderedDict[int, bytes] = OrderedDict()
        self._unlinked: OrderedDict[int, bytes] = OrderedDict()

    @property
    def newest(self) -> Checkpoint:
        """The largest tree that was verified; of size 0 before the first."""
        return self._newest

    @property
    def known_tree_size(self) -> int:
        """What to tell the log's server."""
        return self._newest.size

    def verify_head(self, head: audit_pb2.LogHead) -> Checkpoint:
        """Check a head against what was seen, and remember it.

        Raises:
            RefusedError: PROOF_INVALID: not signed by its log, another log, not an extension of what was seen; or an
                error of the certificate. The view is as it was.
        """
        checkpoint = self._checker.check(head)
        if self.origin is not None and checkpoint.origin != self.origin:
            raise RefusedError(Reason.PROOF_INVALID, f"a head of {checkpoint.origin} where {self.origin} was expected")
        if checkpoint is self._newest:
            return checkpoint
        seen = self._seen.get(checkpoint.size)
        if seen is None:
            if self._newest.size:
                self._check_extension(checkpoint, head)
            self._remember(checkpoint, head.known_tree_size)
        elif seen != checkpoint.root:
            raise _forked(checkpoint.origin, checkpoint.size, checkpoint.size)
        elif checkpoint.size == self._newest.size:
            self._newest = checkpoint  # the same tree under another signature
        return checkpoint

    def _check_extension(self, checkpoint: Checkpoint, head: audit_pb2.LogHead) -> None:
        known = head.known_tree_size
        root = self._seen.get(known)
        if root is None:
            raise RefusedError(
                Reason.PROOF_INVALID,
                f"{checkpoint.origin}: a head of {checkpoint.size} entries comes without a proof from one that was "
                f"seen; the newest seen has {self._newest.size}",
            )
        _consistent(checkpoint.origin, known, checkpoint.size, root, checkpoint.root, head.consistency_path)

    def _remember(self, checkpoint: Checkpoint, known: int) -> None:
        """Take in a head of a size not seen before, proved to extend the one of size `known` (if any was seen)."""
        self.origin = checkpoint.origin
        newest = self._newest
        self._unlinked.pop(known, None)  # whatever relates this head to the newest relates that one too
        self._seen[checkpoint.size] = checkpoint.root
        if checkpoint.size < newest.size:
            self._wait_for_link(checkpoint.size, checkpoint.root)
        else:
            if newest.size not in {0, known}:
                self._wait_for_link(newest.size, newest.root)
            self._newest = checkpoint
        self._seen.move_to_end(self._newest.size)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _wait_for_link(self, size: int, root: bytes) -> None:
        self._unlinked[size] = root
        if len(self._unlinked) > UNLINKED:
            self._unlinked.popitem(last=False)
            self.given_up += 1

    @property
    def wanted_link(self) -> tuple[int, int] | None:
        """Two sizes between which a consistency proof is wanted (AuditService.GetConsistencyProof), if any."""
        size = next(iter(self._unlinked), None)
        return None if size is None else (size, self._newest.size)

    def link(self, old_size: int, new_size: int, path: Sequence[bytes]) -> None:
        """Relate two heads that were seen, by a proof that `wanted_link` asked for.

        Raises:
            RefusedError: PROOF_INVALID: the log has shown two histories.
        """
        old_root, new_root = self._unlinked.get(old_size), self._seen.get(new_size)
        if old_root is None or new_root is None:
            return
        _consistent(self.origin or "", old_size, new_size, old_root, new_root, path)
        del self._unlinked[old_size]

    def check_entry(self, logged: audit_pb2.LoggedEntry, checkpoint: Checkpoint) -> audit_pb2.Entry:
        """As the function `check_entry`."""
        return check_entry(logged, checkpoint)

    def export(self) -> bytes:
        """What has to be remembered over a restart."""
        state = {
            "origin": self.origin,
            "size": self._newest.size,
            "root": b64encode(self._newest.root).decode(),
            "unlinked": [[size, b64encode(root).decode()] for size, root in self._unlinked.items()],
        }
        return json.dumps(state).encode()

    def restore(self, data: bytes) -> None:
        """Take up what `export` gave.

        Raises:
            RefusedError: PROOF_INVALID: not from `export`, or of another log.
        """
        try:
            state = json.loads(data)
            origin, size, root = state["origin"], int(state["size"]), _root(state["root"])
            unlinked = [(int(size), _root(root)) for size, root in state["unlinked"]]
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(Reason.PROOF_INVALID, "the remembered state of a log is damaged") from error
        if self.origin is not None and origin not in {None, self.origin}:
            raise RefusedError(Reason.PROOF_INVALID, f"the remembered state is of {origin}, not of {self.origin}")
        if size:
            self.origin = origin
            self.restored_size = size
            self._newest = Checkpoint(origin, size, root)
            self._seen = OrderedDict([(size, root)])
            self._unlinked = OrderedDict(unlinked)


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


def _consistent(
    origin: str, old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> None:
    try:
        merkle.verify_consistency(old_size, new_size, old_root, new_root, path)
    except merkle.ProofError as error:
        raise _forked(origin, old_size, new_size) from error


def _forked(origin: str, old_size: int, new_size: int) -> RefusedError:
    return RefusedError(
        Reason.PROOF_INVALID,
        f"{origin}: the log of {new_size} entries does not extend the one of {old_size} that was seen; keep the "
        "state directory for the audit office",
    )


def _root(text: str) -> bytes:
    root = b64decode(text, validate=True)
    if len(root) != merkle.HASH_SIZE:
        raise ValueError("not a root")
    return root
