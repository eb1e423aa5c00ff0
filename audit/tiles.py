"""The shape of a log's tree: tiles of 256 hashes, and the right edge that is still growing.

Pure: no I/O. A node is named by its level (0 for leaves) and its index on that level; it is *complete* when all of its
2^level leaves exist. Complete nodes never change. A tile of tile level L holds 256 neighbouring nodes of level 8 L, and
is stored once all of them are complete (https://c2sp.org/tlog-tiles); nodes between are hashed from it when needed.

`RightEdge` keeps in memory the nodes of every tile that is not yet complete, and those of the last few complete ones,
so that appending and proving what is recent needs no reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from zhiwang.wire import merkle

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
TILE_SIZE: Final = TILE_WIDTH * merkle.HASH_SIZE
KEPT_TILES: Final = (32, 2)
"""Complete tiles kept in memory, of tile level 0 and above: what is newer than 8,192 leaves needs no I/O."""

NodeReader = Callable[[int, int], bytes]
"""Gives the complete node of a level and index."""


def root_of_nodes(nodes: Sequence[bytes]) -> bytes:
    """Root over 2^k neighbouring nodes of one level."""
    level = list(nodes)
    while len(level) > 1:
        level = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
    return level[0]


def split_tile(tile: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [tile[i : i + merkle.HASH_SIZE] for i in range(0, len(tile), merkle.HASH_SIZE)]


def node_in_tile(tile: bytes, level: int, index: int) -> bytes:
    """The node of a level and index (of the whole tree), from the complete tile that holds it."""
    width = 1 << (level % TILE_HEIGHT)
    first = (index * width) % TILE_WIDTH
    return root_of_nodes(split_tile(tile[first * merkle.HASH_SIZE : (first + width) * merkle.HASH_SIZE]))


def completed_tiles(old_size: int, new_size: int) -> list[tuple[int, int]]:
    """(tile level, index) of the tiles that become complete when a tree grows from one size to the other."""
    tiles: list[tuple[int, int]] = []
    tile_level = 0
    while new_size >> TILE_HEIGHT * (tile_level + 1):
        shift = TILE_HEIGHT * (tile_level + 1)
        tiles.extend((tile_level, index) for index in range(old_size >> shift, new_size >> shift))
        tile_level += 1
    return tiles


def ragged(size: int, node: NodeReader) -> list[bytes | None]:
    """For each level, the root over the leaves right of its last complete node; None where there are none.

    The last item is the root of the tree. As in RFC 6962 a lone node is carried up as it is.
    """
    rest: list[bytes | None] = []
    last: bytes | None = None
    for level in range(size.bit_length()):
        rest.append(last)
        count = size >> level
        if count & 1:
            complete = node(level, count - 1)
            last = complete if last is None else sha256(b"\x01" + complete + last).digest()
    rest.append(last)
    return rest


def root(size: int, node: NodeReader) -> bytes:
    """Root of the tree of `size`."""
    return ragged(size, node)[-1] or merkle.EMPTY_ROOT


def paths(
    first: int, count: int, size: int, node: NodeReader, rest: Sequence[bytes | None] | None = None
) -> list[list[bytes]]:
    """Audit paths of `count` neighbouring leaves in the tree of `size`; the upper parts are worked out once.

    Args:
        first: Index of the first leaf.
        count: Of leaves.
        size: Of the tree.
        node: Gives its complete nodes.
        rest: `ragged(size, node)`, if it is at hand.

    Raises:
        IndexError: Not all of these leaves are in the tree.
    """
    if count <= 0:
        return []
    if not 0 <= first <= first + count <= size:
        raise IndexError(first)
    if rest is None:
        rest = ragged(size, node)
    last = first + count - 1
    above: list[list[bytes]] = [[]]
    above_first = 0
    for level in range((size - 1).bit_length() - 1, -1, -1):
        complete = size >> level
        tail = rest[level]
        start = first >> level
        here = []
        for index in range(start, (last >> level) + 1):
            up = above[(index >> 1) - above_first]
            sibling = index ^ 1
            if sibling < complete:
                here.append([node(level, sibling), *up])
            elif sibling == complete and tail is not None:
                here.append([tail, *up])
            else:
                here.append(up)
        above, above_first = here, start
    return above


def consistency(old_size: int, new_size: int, node: NodeReader) -> list[bytes]:
    """Consistency proof between two sizes (RFC 6962 section 2.1.2); empty if they are equal or the older is 0.

    Raises:
        ValueError: The sizes fall.
    """
    if old_size > new_size:
        raise ValueError("sizes fall")
    return merkle.consistency_path(old_size, new_size, subtrees(node))


def subtrees(node: NodeReader) -> Callable[[int, int], bytes]:
    """The reader of subtrees that `merkle` asks for, over a reader of complete nodes."""

    def subtree(start: int, end: int) -> bytes:
        result: bytes | None = None
        at = end
        # From the right: the complete nodes of which the subtree is made, the smallest first.
        while at > start:
            level = min((at & -at).bit_length() - 1, (at - start).bit_length() - 1)
            at -= 1 << level
            complete = node(level, at >> level)
            result = complete if result is None else sha256(b"\x01" + complete + result).digest()
        return result or merkle.EMPTY_ROOT

    return subtree


class RightEdge:
    """The nodes of a log's growing right edge.

    Owned by whoever holds the log's write transaction: only the owner calls `extend`, `truncate` and `trim`. Others may
    read nodes of sizes that are committed at any time: lists grow at their ends, `truncate` takes away only what was
    never committed, and `trim` puts a new pair in place of a level.

    Args:
        size: Leaves of the tree.
        unfinished: For each tile level from 0, the nodes of its unfinished tile: `(size >> 8 L) % 256` hashes.
    """

    __slots__ = ("_levels", "_trimmed", "size")

    def __init__(self, size: int = 0, unfinished: Sequence[Sequence[bytes]] = ()) -> None:
        self.size = size
        self._trimmed = 0  # complete tiles when `trim` looked last
        self._levels: list[tuple[int, list[bytes]]] = []
        for tile_level, hashes in enumerate(unfinished):
            first = (size >> TILE_HEIGHT * (tile_level + 1)) << TILE_HEIGHT
            if len(hashes) != (size >> TILE_HEIGHT * tile_level) - first:
                raise ValueError("an unfinished tile has another number of hashes than its tree")
            self._levels.append((first, list(hashes)))
            for height in range(1, TILE_HEIGHT):
                below_first, below = self._levels[-1]
                pairs = (size >> TILE_HEIGHT * tile_level + height) - (below_first >> 1)
                above = [merkle.node_hash(below[2 * i], below[2 * i + 1]) for i in range(pairs)]
                self._levels.append((below_first >> 1, above))
        if size and not self._levels:
            raise ValueError("the unfinished tiles are missing")

    def node(self, level: int, index: int) -> bytes:
        """A complete node.

        Raises:
            KeyError: It is not in memory, or not complete.
        """
        try:
            first, nodes = self._levels[level]
        except IndexError:
            raise KeyError((level, index)) from None
        place = index - first
        if 0 <= place < len(nodes):
            return nodes[place]
        raise KeyError((level, index))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append leaf hashes."""
        if not leaves:
            return
        if not self._levels:
            self._levels.append((0, []))
        self._levels[0][1].extend(leaves)
        self.size += len(leaves)
        level = 0
        while self.size >> level + 1:
            if level + 1 == len(self._levels):
                self._levels.append((0, []))
            first, below = self._levels[level]
            above_first, above = self._levels[level + 1]
            for index in range(above_first + len(above), self.size >> level + 1):
                place = 2 * index - first
                above.append(sha256(b"\x01" + below[place] + below[place + 1]).digest())
            level += 1

    def truncate(self, size: int) -> None:
        """Take away leaves that were extended but not committed.

        Raises:
            KeyError: The smaller tree's edge is no longer in memory.
        """
        for level, (first, _) in enumerate(self._levels):
            if first > (size >> TILE_HEIGHT * (level // TILE_HEIGHT + 1)) << TILE_HEIGHT - level % TILE_HEIGHT:
                raise KeyError(size)
        for level, (first, nodes) in enumerate(self._levels):
            del nodes[(size >> level) - first :]
        self.size = size

    def trim(self) -> None:
        """Forget complete tiles but the last few. To be called only when the whole edge is committed."""
        complete = self.size >> TILE_HEIGHT
        if complete == self._trimmed:
            return
        self._trimmed = complete
        for level, (first, nodes) in enumerate(self._levels):
            tile_level, height = divmod(level, TILE_HEIGHT)
            kept = KEPT_TILES[min(tile_level, 1)]
            tile_first = (self.size >> TILE_HEIGHT * (tile_level + 1)) - kept
            wanted = max(tile_first << TILE_HEIGHT - height, 0)
            # Half as much again before anything is copied, so that trimming costs nothing for each append.
            if wanted - first > (kept << TILE_HEIGHT - height) // 2:
                self._levels[level] = (wanted, nodes[wanted - first :])

    def tile(self, tile_level: int, index: int) -> bytes:
        """The bytes of a tile that has just become complete.

        Raises:
            KeyError: It is not in memory, or not complete.
        """
        level = TILE_HEIGHT * tile_level
        first, nodes = self._levels[level]
        place = (index << TILE_HEIGHT) - first
        if place < 0 or place + TILE_WIDTH > len(nodes):
            raise KeyError((tile_level, index))
        return b"".join(nodes[place : place + TILE_WIDTH])


def edge_bytes(edge: RightEdge) -> bytes:
    """A right edge, to be kept: its size, and the hashes of each unfinished tile from the leaves up."""
    parts = [edge.size.to_bytes(8, "big")]
    level = 0
    while edge.size >> TILE_HEIGHT * level:
        nodes = edge.size >> TILE_HEIGHT * level
        first = nodes >> TILE_HEIGHT << TILE_HEIGHT
        parts += [edge.node(TILE_HEIGHT * level, index) for index in range(first, nodes)]
        level += 1
    return b"".join(parts)


def edge_of(data: bytes) -> RightEdge:
    """What `edge_bytes` gave.

    Raises:
        ValueError: It is none.
    """
    size, at = int.from_bytes(data[:8], "big"), 8
    unfinished: list[list[bytes]] = []
    while size >> TILE_HEIGHT * len(unfinished):
        end = at + (size >> TILE_HEIGHT * len(unfinished)) % TILE_WIDTH * merkle.HASH_SIZE
        unfinished.append(split_tile(data[at:end]))
        at = end
    if len(data) != at:
        raise ValueError("not a right edge")
    return RightEdge(size, unfinished)
