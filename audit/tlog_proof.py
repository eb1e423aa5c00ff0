"""C2SP tlog-proof: that an entry stands in a log, as one text file that other people's tools verify offline. Pure.

The entry itself is not in it; whoever verifies has its bytes beside. Extra data, which the format permits, is neither
written nor read here: nothing vouches for it.

Source: https://c2sp.org/tlog-proof.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from audit.checkpoint import MAX_NOTE_SIZE, MAX_SIZE
from zhiwang.wire.merkle import HASH_SIZE

HEADER: Final = "c2sp.org/tlog-proof@v1"
SUFFIX: Final = ".tlog-proof"
MAX_PATH: Final = 63
"""Longest path: that of the largest tree that is read."""
MAX_PROOF_SIZE: Final = MAX_NOTE_SIZE + 4096
"""Bytes of the largest proof that is read: a note, and the lines before it."""


class TlogProofError(ValueError):
    """A file is no tlog-proof, or is not written as the format says."""


@dataclass(frozen=True, slots=True)
class TlogProof:
    """That an entry stands at an index in the tree of a checkpoint. None of it is verified.

    Attributes:
        index: Of the entry, from 0.
        inclusion_path: RFC 6962 audit path, from the lowest sibling up; 32 bytes each.
        checkpoint: The signed note, as the log or its witnesses gave it.
    """

    index: int
    inclusion_path: Sequence[bytes]
    checkpoint: bytes

    def encode(self) -> bytes:
        """The file."""
        path = "".join(f"{b64encode(sibling).decode()}\n" for sibling in self.inclusion_path)
        return f"{HEADER}\nindex {self.index}\n{path}\n".encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The proof in a file; each has one spelling.

        Raises:
            TlogProofError: It is none, or has extra data.
        """
        if len(data) > MAX_PROOF_SIZE:
            raise TlogProofError("larger than any proof")
        head, separator, checkpoint = data.partition(b"\n\n")
        try:
            header, index, *path = head.decode("ascii").split("\n")
        except ValueError:
            raise TlogProofError("not the lines of a proof") from None
        if header != HEADER or not separator or len(path) > MAX_PATH:
            raise TlogProofError(f"not a proof that begins with {HEADER}")
        if index.startswith("extra "):
            raise TlogProofError("extra data, for which nothing vouches")
        number = index.removeprefix("index ")
        if not number.isdigit() or len(number) > len(str(MAX_SIZE)):
            raise TlogProofError("not the index of an entry")
        proof = cls(int(number), tuple(_hash(line) for line in path), checkpoint)
        if proof.encode() != data:
            raise TlogProofError("not written as the format says")
        return proof


def _hash(line: str) -> bytes:
    try:
        sibling = b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise TlogProofError("not the hashes of a path") from None
    if len(sibling) != HASH_SIZE:
        raise TlogProofError("not the hashes of a path")
    return sibling
