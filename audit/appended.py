"""What goes into a log and what comes back: plain values, shared by store, sequencer and service.

Pure: the only work here is building messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from audit.origins import position, year_of
from zhiwang.audit.v1 import audit_pb2


class NewEntry(NamedTuple):
    """An entry to append.

    Attributes:
        key: 32 bytes that nobody uses twice (random, or a hash over something random): after a COMMIT of unknown
            outcome they tell whether the entry is in the log.
        data: From `audit.entry.encode_entry`.
    """

    key: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """A signed state of the log.

    Attributes:
        size: Number of entries.
        root: Root over them.
        checkpoint: Signed note of the two.
        certificate: DER of the certificate of the key that signed it.
    """

    size: int
    root: bytes
    checkpoint: bytes
    certificate: bytes

    def message(self, known_tree_size: int = 0, consistency_path: Sequence[bytes] = ()) -> audit_pb2.LogHead:
        """As shown to a reader that has verified the tree of `known_tree_size`."""
        return audit_pb2.LogHead(
            checkpoint=self.checkpoint,
            certificate=self.certificate,
            known_tree_size=known_tree_size,
            consistency_path=consistency_path,
        )


@dataclass(frozen=True, slots=True)
class Appended:
    """Neighbouring entries of one transaction, with their proofs. True only after that transaction's COMMIT.

    Attributes:
        first: Index of the first.
        entries: Their bytes.
        leaf_hashes: Their hashes.
        paths: Their audit paths in the tree of `head`.
        head: The signed state that the transaction left.
        origin: Of the log that they stand in.
    """

    first: int
    entries: Sequence[bytes]
    leaf_hashes: Sequence[bytes]
    paths: Sequence[Sequence[bytes]]
    head: Head
    origin: str

    @property
    def indexes(self) -> range:
        """Indexes of the entries."""
        return range(self.first, self.first + len(self.entries))

    @property
    def position(self) -> int:
        """Position of the first; those of the others follow."""
        return position(year_of(self.origin), self.first)

    @property
    def size(self) -> int:
        """Size of the tree that the paths lead to."""
        return self.head.size

    def part(self, start: int, count: int) -> Appended:
        """What belongs to one of several callers whose entries shared the transaction."""
        stop = start + count
        return Appended(
            self.first + start,
            self.entries[start:stop],
            self.leaf_hashes[start:stop],
            self.paths[start:stop],
            self.head,
            self.origin,
        )

    def logged(self) -> list[audit_pb2.LoggedEntry]:
        """The entries with their proofs under `head`."""
        return [
            audit_pb2.LoggedEntry(entry=data, index=index, inclusion_path=path)
            for index, data, path in zip(self.indexes, self.entries, self.paths, strict=True)
        ]
