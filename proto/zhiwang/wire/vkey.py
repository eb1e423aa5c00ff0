"""Public keys of logs and witnesses as text, and which sets of witnesses can be trusted together.

A verifier key is "NAME+ID+KEY": the key's name, eight hexadecimal digits that tell it from others of its name, and
base64 of one byte for the algorithm and the key. Pure. It stands here since the centre publishes witnesses' keys and
the readers of logs use them.

Source: https://c2sp.org/signed-note, "verifier keys"; https://c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

ALGORITHM_ED25519: Final = b"\x01"
"""Signs the text of a note: a log's key."""
ALGORITHM_COSIGNATURE: Final = b"\x04"
"""Signs the text of a checkpoint with the time: a witness's key."""
PUBLIC_KEY_SIZE: Final = 32
KEY_ID_SIZE: Final = 4


class VerifierKeyError(ValueError):
    """A text is not the verifier key that is expected."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name.

    Attributes:
        name: Of the key; of a log, its origin.
        public_key_raw: Ed25519 public key, 32 bytes.
        algorithm: One byte that says what the key signs, and how.
    """

    name: str
    public_key_raw: bytes
    algorithm: bytes = ALGORITHM_ED25519

    @property
    def id(self) -> bytes:
        """The four bytes that stand before each signature by this key."""
        return key_id(self.name, self.public_key_raw, self.algorithm)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(self.algorithm + self.public_key_raw).decode()}"

    @classmethod
    def parse(cls, text: str, algorithm: bytes = ALGORITHM_ED25519) -> VerifierKey:
        """Read a verifier key for one algorithm.

        Raises:
            VerifierKeyError: It is none, or of another algorithm.
        """
        text = text.strip()
        name, _, rest = text.partition("+")
        try:
            decoded = b64decode(rest.partition("+")[2], validate=True)
        except (binascii.Error, ValueError):
            decoded = b""
        if not is_name(name) or len(decoded) != 1 + PUBLIC_KEY_SIZE:
            raise VerifierKeyError("not a verifier key: NAME+ID+KEY of an Ed25519 key")
        key = cls(name, decoded[1:], algorithm)
        # The text is compared whole: id, algorithm and the one spelling of each.
        if str(key) != text:
            raise VerifierKeyError("the verifier key is of another use than the one expected here, or its id is wrong")
        return key


def is_name(name: str) -> bool:
    """Whether a key can be called so: not empty, and neither space nor plus."""
    return "+" not in name and name.split() == [name]


@lru_cache(maxsize=256)
def key_id(name: str, public_key_raw: bytes, algorithm: bytes = ALGORITHM_ED25519) -> bytes:
    """First four bytes of SHA-256(name, line break, algorithm, key): tells which of several signatures to try."""
    return sha256(name.encode() + b"\n" + algorithm + public_key_raw).digest()[:KEY_ID_SIZE]


def policy_fault(witnesses: Mapping[str, Sequence[VerifierKey]], quorum: int) -> str | None:
    """What is wrong with witnesses and the quorum that is asked of them; None if they can be trusted together.

    Args:
        witnesses: Keys of each witness by its name; several while it changes its key.
        quorum: How many different ones are needed.
    """
    keys = [key for some in witnesses.values() for key in some]
    if not all(witnesses.values()) or any(key.algorithm != ALGORITHM_COSIGNATURE for key in keys):
        return "each witness has a key of its own, one for cosignatures"
    # A cosignature does not say under which name it was made.
    if len({key.public_key_raw for key in keys}) != len(keys) or len({(key.name, key.id) for key in keys}) != len(keys):
        return "two witnesses have the same key; it would count twice"
    if not len(witnesses) < 2 * quorum <= 2 * len(witnesses):
        return (
            f"a quorum of {quorum} among {len(witnesses)} witnesses; it must be more than half of them, or two "
            "histories could each find one, and no more than all"
        )
    return None
