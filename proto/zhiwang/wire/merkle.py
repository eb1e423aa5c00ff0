"""RFC 6962 Merkle trees over bytes: roots, audit paths and consistency proofs, made and checked.

Pure functions of values. `audit` builds its log on them; the sealed protocol its request and answer roots. Hashes are
SHA-256; a leaf is hashed with the prefix 0x00, a node with 0x01 (RFC 6962 section 2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()


class ProofError(ValueError):
    """A proof does not prove what it should."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf's data."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def largest_power_of_two_below(n: int) -> int:
    """The largest power of two smaller than `n`, for `n` of at least 2: where RFC 6962 splits a tree."""
    return 1 << ((n - 1).bit_length() - 1)


class Tree:
    """A whole tree in memory, for the few leaves of one request.

    Levels are built once (n - 1 hashes), so that root and every path cost look-ups only.

    Args:
        leaves: Leaf hashes (32 bytes each), in order.
    """

    __slots__ = ("_levels", "size")

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.size = len(leaves)
        # A lone last node is carried up unhashed, which yields exactly the tree of RFC 6962.
        levels = [list(leaves)]
        while len(levels[-1]) > 1:
            below = levels[-1]
            # Of `node_hash` written out: this runs for every answer at both ends.
            nodes = iter(below)
            above = [sha256(b"\x01" + left + right).digest() for left, right in zip(nodes, nodes, strict=False)]
            if len(below) % 2:
                above.append(below[-1])
            levels.append(above)
        self._levels = levels

    @property
    def leaves(self) -> list[bytes]:
        """The leaf hashes. Not to be changed."""
        return self._levels[0]

    @property
    def root(self) -> bytes:
        """Root hash; the hash of the empty string for no leaves."""
        return self._levels[-1][0] if self.size else EMPTY_ROOT

    def path(self, index: int) -> list[bytes]:
        """Audit path of the leaf at `index`, from the lowest sibling up (RFC 6962 section 2.1.1)."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        path = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                path.append(level[sibling])
            index >>= 1
        return path


def root_from_path(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to (RFC 9162 section 2.1.3.2).

    Args:
        index: Of the leaf.
        size: Of the tree.
        leaf: Leaf hash.
        path: Audit path.

    Raises:
        ProofError: The path has the wrong length for this index and size.
    """
    if not 0 <= index < size:
        raise ProofError("index outside the tree")
    node, last = index, size - 1
    result = leaf
    for sibling in path:
        if last == 0:
            raise ProofError("path too long")
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = node_hash(result, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise ProofError("path too short")
    return result


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` (a leaf hash) stands at `index` in the tree of `size` with `root`.

    Raises:
        ProofError: It does not.
    """
    if root_from_path(index, size, leaf, path) != root:
        raise ProofError("inclusion proof does not lead to the root")


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check that the tree of `old_size` is a prefix of the tree of `new_size` (RFC 9162 section 2.1.4.2).

    Raises:
        ProofError: It is not, or the proof has the wrong length.
    """
    if not 0 <= old_size <= new_size:
        raise ProofError("the log has shrunk")
    if old_size == new_size:
        if path or old_root != new_root:
            raise ProofError("two roots of one size")
        return
    if old_size == 0:
        if path:
            raise ProofError("proof from the empty tree must be empty")
        return
    proof = list(path)
    if old_size & (old_size - 1) == 0:
        proof.insert(0, old_root)
    if not proof:
        raise ProofError("proof too short")
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old = new = proof[0]
    for sibling in proof[1:]:
        if last == 0:
            raise ProofError("proof too long")
        if node & 1 or node == last:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        node >>= 1
        last >>= 1
    if last != 0 or old != old_root or new != new_root:
        raise ProofError("consistency proof does not lead to both roots")


def inclusion_path(index: int, size: int, subtree: Callable[[int, int], bytes]) -> list[bytes]:
    """Audit path in a tree too large for memory.

    Args:
        index: Of the leaf.
        size: Of the tree.
        subtree: Gives the root over leaves [start, end), where start is a multiple of the power of two that end - start
            rounds up to.
    """
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + largest_power_of_two_below(end - start)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
    path.reverse()
    return path


def consistency_path(old_size: int, new_size: int, subtree: Callable[[int, int], bytes]) -> list[bytes]:
    """Consistency proof in a tree too large for memory (RFC 6962 section 2.1.2); `subtree` as in inclusion_path."""
    if not 0 < old_size < new_size:
        return []
    path: list[bytes] = []
    start, end = 0, new_size
    whole = True  # whether [start, old_size) is the whole old tree, whose root the verifier knows
    while end != old_size:
        middle = start + largest_power_of_two_below(end - start)
        if old_size <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
            whole = False
    if not whole:
        path.append(subtree(start, end))
    path.reverse()
    return path
