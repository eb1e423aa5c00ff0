"""What a log sends to a witness and what comes back: C2SP tlog-witness, add-checkpoint, as bytes.

Pure. A submission says what the witness knows of the log (`old`), proves that the new checkpoint extends it, and holds
the new checkpoint as the log signed it. Both ends of the wire use this module: `audit/witness.py` and
`audit/cosigning.py`.

Source: https://c2sp.org/tlog-witness.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit.checkpoint import MAX_NOTE_SIZE, MAX_SIZE, Checkpoint, CheckpointError, split_note
from zhiwang.wire.merkle import HASH_SIZE

PATH: Final = "/add-checkpoint"
"""Below the prefix of a witness's address."""
CERTIFICATE_HEADER: Final = "zhiwang-certificate"
"""Header of a submission: base64 of the DER of the certificate of the key that signed the checkpoint. Logs of a city
sign with keys of short-lived certificates; a witness of the city learns the key from it. Others pass it over."""
SIZE_TYPE: Final = "text/x.tlog.size"
"""Content type of a refusal that says what the witness has cosigned last."""
TEXT_TYPE: Final = "text/plain; charset=utf-8"

MAX_PROOF: Final = 63
"""Hashes of the longest proof."""
MAX_SUBMISSION: Final = len("old \n\n") + 20 + MAX_PROOF * (len(b64encode(bytes(HASH_SIZE))) + 1) + MAX_NOTE_SIZE
"""Bytes of the largest submission that is read."""
MAX_ANSWER: Final = 16_384

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")
_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,18})\n")


@dataclass(frozen=True, slots=True)
class Submission:
    """A checkpoint on its way to a witness.

    Attributes:
        old: Size of the checkpoint that the witness has cosigned last, as the log believes.
        proof: RFC 6962 consistency proof from there to the new checkpoint; empty if `old` is 0 or the new size.
        note: The new checkpoint, signed.
    """

    old: int
    proof: Sequence[bytes]
    note: bytes

    def encode(self) -> bytes:
        """As it is sent."""
        lines = [f"old {self.old}", *(b64encode(one).decode() for one in self.proof), "", ""]
        return "\n".join(lines).encode() + self.note

    @classmethod
    def parse(cls, body: bytes) -> Submission:
        """Read a submission. Of its note only the form is checked.

        Raises:
            CheckpointError: Malformed.
        """
        if len(body) > MAX_SUBMISSION:
            raise CheckpointError("a submission is larger than its limit")
        head, separator, note = body.partition(b"\n\n")
        if not separator or not head.isascii():
            raise CheckpointError("a submission is an old size, a proof, an empty line and a checkpoint")
        first, *lines = head.decode().split("\n")
        old = _OLD.fullmatch(first)
        if old is None or int(old[1]) > MAX_SIZE:
            raise CheckpointError('the first line is "old" and a size in decimal')
        if len(lines) > MAX_PROOF:
            raise CheckpointError("a proof is longer than any tree is high")
        return cls(int(old[1]), tuple(map(_hash, lines)), note)

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note says; nothing of it is verified.

        Raises:
            CheckpointError: It is no checkpoint.
        """
        return Checkpoint.parse(split_note(self.note)[0])


def parse_size(answer: bytes) -> int:
    """The size that a witness said it has cosigned last.

    Raises:
        CheckpointError: It is none.
    """
    match = _SIZE.fullmatch(answer.decode("ascii", "replace"))
    if match is None or int(match[1]) > MAX_SIZE:
        raise CheckpointError("a size is one decimal number and a line break")
    return int(match[1])


def _hash(line: str) -> bytes:
    try:
        decoded = b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != HASH_SIZE or b64encode(decoded).decode() != line:
        raise CheckpointError("a line of a proof is the base64 of a hash")
    return decoded
