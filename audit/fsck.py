"""Everything in an exported log computed again from its entries, and every difference named with its place.

It goes on after a fault, since an auditor wants all of them: entries against the hashes of level 0, each tile against
the tiles below it, the root against the checkpoint, the checkpoint's signature, every entry read strictly. Only a
checkpoint that is not signed as it should be ends it at once: nothing that it says, its size least of all, is followed.
Memory: one hash for 256 entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from audit import layout, tiles
from audit.checkpoint import Checkpoint, CheckpointError
from audit.cosignature import Cosignature, WitnessPolicy
from audit.entry import EntryError, decode_entry
from audit.tiles import TILE_WIDTH
from zhiwang.wire import merkle
from zhiwang.wire.errors import RefusedError

MAX_FAULTS: Final = 1000
"""Faults that are named; beyond, they are only counted."""

_NOTHING: Final = bytes(merkle.HASH_SIZE)
"""In place of a hash that is not to be had; the root over it is wrong, as it should be."""

Fetch = Callable[[str], bytes | None]
"""Gives the file at a path of the layout; None if there is none."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that does not hold.

    Attributes:
        path: Of the file that is wrong.
        index: Of the entry, or of the first entry below the hash, that is concerned; None for the whole file.
        message: What is wrong.
    """

    path: str
    index: int | None
    message: str

    def __str__(self) -> str:
        place = self.path if self.index is None else f"{self.path}, entry {self.index}"
        return f"{place}: {self.message}"


@dataclass(slots=True)
class Examined:
    """What was found.

    Attributes:
        checkpoint: The signed head; None if it cannot be read.
        entries: How many entries were read; 0 where a log is kept without them.
        events: How many there are of each kind.
        faults: What does not hold, in the order of the entries; at most `MAX_FAULTS`.
        number: How many faults there are.
        cosigned: The checkpoint that witnesses cosigned; None if it was not asked for, or does not verify.
        cosignatures: Of it, by witnesses that are known.
    """

    checkpoint: Checkpoint | None = None
    entries: int = 0
    events: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    number: int = 0
    cosigned: Checkpoint | None = None
    cosignatures: tuple[Cosignature, ...] = ()

    def add(self, path: str, index: int | None, message: str) -> None:
        """Note a fault."""
        self.number += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(path, index, message))


def examine(
    fetch: Fetch,
    verify: Callable[[bytes], Checkpoint],
    *,
    entries: bool = True,
    extends: Sequence[Checkpoint] = (),
    witnesses: WitnessPolicy | None = None,
    progress: Callable[[int, int], None] = lambda _done, _size: None,
) -> Examined:
    """Recompute a log.

    Args:
        fetch: Reads its files.
        verify: Gives the checkpoint of a signed note; raises RefusedError or CheckpointError if it is not signed as it
            should be.
        entries: Whether the entries are expected, and not only the hashes. What is there does not say: whoever takes
            the entries away would take the comparison with them.
        extends: Checkpoints of this log that somebody kept: the log must extend each.
        witnesses: Of whom a quorum must have cosigned a checkpoint of this log, which the log must extend.
        progress: Told how many entries of how many are done.
    """
    found = Examined()
    note = fetch(layout.CHECKPOINT)
    if note is None:
        found.add(layout.CHECKPOINT, None, "is missing: this is no exported log, or its export never ended")
        return found
    try:
        found.checkpoint = verify(note)
    except (RefusedError, CheckpointError) as error:
        found.add(layout.CHECKPOINT, None, f"is not signed by this log's key: {getattr(error, 'detail', error)}")
        return found
    tree = _Tree(fetch, found, found.checkpoint)
    root = tree.compute(progress, entries=entries)
    if root != found.checkpoint.root:
        found.add(layout.CHECKPOINT, None, "signs another root than the entries have")
    for kept in extends:
        _check_extends(found, tree, found.checkpoint, kept)
    if witnesses is not None:
        _check_cosigned(found, tree, fetch(layout.COSIGNED), verify, witnesses)
    return found


def _check_cosigned(
    found: Examined, tree: _Tree, note: bytes | None, verify: Callable[[bytes], Checkpoint], witnesses: WitnessPolicy
) -> None:
    if note is None:
        found.add(layout.COSIGNED, None, "is missing: no checkpoint of this log is known to be cosigned")
        return
    try:
        checkpoint, cosignatures = verify(note), witnesses.cosignatures(note)
    except (RefusedError, CheckpointError) as error:
        found.add(layout.COSIGNED, None, f"does not verify: {getattr(error, 'detail', error)}")
        return
    if len(cosignatures) < witnesses.quorum:
        found.add(layout.COSIGNED, None, f"has {len(cosignatures)} of the {witnesses.quorum} witnesses that are needed")
    found.cosigned, found.cosignatures = checkpoint, cosignatures
    if found.checkpoint is None or checkpoint.origin != found.checkpoint.origin:
        found.add(layout.COSIGNED, None, f"is of another log, {checkpoint.origin}")
    elif checkpoint.size > found.checkpoint.size:
        found.add(layout.COSIGNED, None, f"is larger than the log: {checkpoint.size} entries were cosigned")
    elif tiles.root(checkpoint.size, tree.node) != checkpoint.root:
        found.add(layout.COSIGNED, None, f"is of another history: the first {checkpoint.size} entries are others")


def _check_extends(found: Examined, tree: _Tree, checkpoint: Checkpoint, kept: Checkpoint) -> None:
    if kept.origin != checkpoint.origin:
        found.add(layout.CHECKPOINT, None, f"is of another log than the checkpoint that was kept, {kept.origin}")
    elif kept.size > checkpoint.size:
        found.add(
            layout.CHECKPOINT, None, f"is older than the one that was kept: {checkpoint.size} entries, not {kept.size}"
        )
    elif tiles.root(kept.size, tree.node) != kept.root:
        found.add(
            layout.CHECKPOINT, None, f"does not extend the one that was kept: the first {kept.size} entries are others"
        )


class _Tree:
    """The tree of one checkpoint, computed level by level; `levels` holds the computed hashes of each tile level."""

    def __init__(self, fetch: Fetch, found: Examined, checkpoint: Checkpoint) -> None:
        self._fetch = fetch
        self._found = found
        self._checkpoint = checkpoint
        # Of level 0 only the tiles of its right edge are kept; they are read again for a node to the left of it.
        self._above: list[list[bytes]] = []
        self._edge: list[bytes] = []
        self._leaves = 0

    def compute(self, progress: Callable[[int, int], None], *, entries: bool) -> bytes:
        """The root, after every file has been looked at."""
        size = self._checkpoint.size
        roots: list[bytes] = []
        for index, width in _spans(size):
            hashes = self._leaf_tile(index, width, entries=entries)
            if width == TILE_WIDTH:
                roots.append(tiles.root_of_nodes(hashes))
            else:
                self._edge = hashes
            progress(index * TILE_WIDTH + width, size)
        level = 1
        while roots:
            self._above.append(roots)
            roots = self._check_level(level, roots)
            level += 1
        return tiles.root(size, self.node)

    def node(self, level: int, index: int) -> bytes:
        """A complete node of the computed tree."""
        tile_level, height = divmod(level, tiles.TILE_HEIGHT)
        first = index << height
        if tile_level:
            return tiles.root_of_nodes(self._above[tile_level - 1][first : first + (1 << height)])
        tile, place = divmod(first, TILE_WIDTH)
        hashes = self._edge
        if tile < self._checkpoint.size >> tiles.TILE_HEIGHT:
            stored = self._fetch(layout.tile_path(0, tile)) or b""
            hashes = tiles.split_tile(stored.ljust(tiles.TILE_SIZE, b"\0"))
        return tiles.root_of_nodes(hashes[place : place + (1 << height)])

    def _leaf_tile(self, index: int, width: int, *, entries: bool) -> list[bytes]:
        """The leaf hashes of one tile, from its entries if they are expected, held against what is stored."""
        path = layout.tile_path(0, index, width)
        stored = self._hashes(path, width)
        if not entries:
            return [one or _NOTHING for one in stored]
        computed = self._entries(index, width)
        for place, (one, other) in enumerate(zip(computed, stored, strict=True)):
            if one is not None and other is not None and one != other:
                self._found.add(path, index * TILE_WIDTH + place, "the hash is not that of the entry")
        return [one or other or _NOTHING for one, other in zip(computed, stored, strict=True)]

    def _hashes(self, path: str, width: int) -> list[bytes | None]:
        """The hashes of a tile; None for those that are not there."""
        data = self._fetch(path)
        if data is None:
            self._found.add(path, None, "is missing")
            return [None] * width
        if len(data) != width * merkle.HASH_SIZE:
            self._found.add(path, None, f"has {len(data)} bytes and not {width * merkle.HASH_SIZE}")
        whole = min(len(data) // merkle.HASH_SIZE, width)
        hashes: list[bytes | None] = [*tiles.split_tile(data[: whole * merkle.HASH_SIZE])]
        return hashes + [None] * (width - whole)

    def _entries(self, index: int, width: int) -> list[bytes | None]:
        """Leaf hashes of the entries of one bundle, each of which is read; None for those that are not there."""
        path = layout.tile_path(layout.ENTRIES, index, width)
        data = self._fetch(path)
        try:
            entries = layout.decode_bundle(data) if data is not None else []
        except layout.LayoutError as error:
            self._found.add(path, None, f"cannot be read: {error}")
            return [None] * width
        if data is None:
            self._found.add(path, None, "is missing")
        elif len(entries) != width:
            self._found.add(path, None, f"holds {len(entries)} entries and not {width}")
        for place, entry in enumerate(entries[:width]):
            self._read(path, index * TILE_WIDTH + place, entry)
        self._found.entries += min(len(entries), width)
        hashes: list[bytes | None] = [merkle.leaf_hash(entry) for entry in entries[:width]]
        return hashes + [None] * (width - len(hashes))

    def _read(self, path: str, index: int, data: bytes) -> None:
        try:
            entry = decode_entry(data)
        except EntryError as error:
            self._found.add(path, index, f"cannot be read: {error}")
            return
        kind = entry.WhichOneof("event") or ""
        self._found.events[kind] += 1
        if (index == 0) != (kind == "log_opened"):
            self._found.add(path, index, "a log is opened once, by its first entry")
        elif index == 0 and entry.log_opened.origin != self._checkpoint.origin:
            self._found.add(path, index, "opens a log of another name")

    def _check_level(self, level: int, computed: list[bytes]) -> list[bytes]:
        """Hold the tiles of one level against the level below; the roots of its full tiles."""
        roots = []
        span = 1 << tiles.TILE_HEIGHT * level
        for index, width in _spans(len(computed)):
            path = layout.tile_path(level, index, width)
            first = index * TILE_WIDTH
            for place, stored in enumerate(self._hashes(path, width)):
                if stored is not None and stored != computed[first + place]:
                    self._found.add(path, (first + place) * span, "the hash is not that of the tile below it")
            if width == TILE_WIDTH:
                roots.append(tiles.root_of_nodes(computed[first : first + TILE_WIDTH]))
        return roots


def _spans(count: int) -> Iterator[tuple[int, int]]:
    """(index, width) of the tiles over so many hashes; the last may be growing."""
    full, rest = divmod(count, TILE_WIDTH)
    for index in range(full):
        yield index, TILE_WIDTH
    if rest:
        yield full, rest
