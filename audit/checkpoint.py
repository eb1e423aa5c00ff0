"""The signed head of a log: C2SP tlog-checkpoint in a C2SP signed note, with Ed25519.

Pure functions of bytes. A checkpoint's text is three lines (origin, size in decimal, root in base64); a note is a text,
an empty line, and signature lines "— NAME BASE64(key id, signature)". So other people's tools read our checkpoints, and
witnesses can add lines of their own, which `open_note` passes over.

Sources: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint, golang.org/x/mod/sumdb/note.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from zhiwang.wire.merkle import HASH_SIZE
from zhiwang.wire.vkey import ALGORITHM_ED25519, KEY_ID_SIZE, VerifierKey, VerifierKeyError, is_name, key_id

SIGNATURE_SIZE: Final = 64
MAX_NOTE_SIZE: Final = 16_384
"""Bytes of the largest note that is read: three lines and some dozens of signatures."""
MAX_SIGNATURES: Final = 100
MAX_SIZE: Final = (1 << 63) - 1
"""Largest tree size that is read; SQLite's and most languages' signed 64-bit integers hold it."""

_SIGNATURE_PREFIX: Final = "— "  # em dash and a space


Signature = tuple[str, bytes, bytes]
"""One line below a note's text: name of the key, its id, and what it signed with."""


class CheckpointError(ValueError):
    """A note or checkpoint is malformed, or not signed by the expected key."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log's key signs.

    Attributes:
        origin: Unique name of the log; no line break.
        size: Number of entries.
        root: RFC 6962 root over them; 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text of the note, with its final line break."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint in a note's text. Extension lines are passed over, as tlog-checkpoint says.

        Raises:
            CheckpointError: It is none.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1]:  # noqa: PLR2004 - three lines and what follows the last line break
            raise CheckpointError("a checkpoint has three lines")
        origin, size, root = lines[:3]
        if not origin or not all(lines[:-1]):
            raise CheckpointError("a checkpoint has no empty line")
        if not size.isascii() or not size.isdigit() or (size[0] == "0" and size != "0") or int(size) > MAX_SIZE:
            raise CheckpointError("a checkpoint's second line is its size in decimal")
        return cls(origin, int(size), _unbase64(root, HASH_SIZE))


def sign(checkpoint: Checkpoint, key_name: str, public_key_raw: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The signed note of a checkpoint, as it is stored and shown.

    Args:
        checkpoint: What to sign.
        key_name: Name of the key; a log's origin.
        public_key_raw: Ed25519 public key, 32 bytes.
        sign: Signs bytes with that key's private half.
    """
    return sign_note(checkpoint.body, key_name, public_key_raw, sign)


def open_note(note: bytes, key_name: str, public_key_raw: bytes) -> Checkpoint:
    """The checkpoint in a note that the named key has signed, for the log of that name.

    Raises:
        CheckpointError: Malformed, not signed by this key, or of another log.
    """
    checkpoint = Checkpoint.parse(verify_note(note, key_name, public_key_raw))
    if checkpoint.origin != key_name:
        raise CheckpointError("the checkpoint is of another log than its key")
    return checkpoint


def parse_key(text: str, algorithm: bytes = ALGORITHM_ED25519) -> VerifierKey:
    """The verifier key in a text, of a log or for another algorithm.

    Raises:
        CheckpointError: It is none, or of another algorithm.
    """
    try:
        return VerifierKey.parse(text, algorithm)
    except VerifierKeyError as error:
        raise CheckpointError(str(error)) from None


def sign_note(text: str, key_name: str, public_key_raw: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """A signed note of any text that ends with a line break."""
    return join_note(text, [(key_name, key_id(key_name, public_key_raw), sign(text.encode()))])


def verify_note(note: bytes, key_name: str, public_key_raw: bytes) -> str:
    """The text of a note, if the named key has signed it. Signatures by other keys are passed over.

    Raises:
        CheckpointError: Malformed, no signature by this key, or a wrong one.
    """
    text, signatures = split_note(note)
    wanted = key_id(key_name, public_key_raw)
    for name, identifier, signature in signatures:
        if name == key_name and identifier == wanted:
            verify_signature(public_key_raw, signature, text.encode())
            return text
    raise CheckpointError("not signed by the expected key")


def verify_signature(public_key_raw: bytes, signature: bytes, message: bytes) -> None:
    """Check an Ed25519 signature.

    Raises:
        CheckpointError: It does not verify.
    """
    try:
        _public_key(public_key_raw).verify(signature, message)
    except InvalidSignature:
        raise CheckpointError("the signature does not verify") from None


def join_note(text: str, signatures: Sequence[Signature]) -> bytes:
    """The note of a text and its signatures.

    Raises:
        CheckpointError: It would not be one.
    """
    if not text.endswith("\n"):
        raise CheckpointError("a note's text ends with a line break")
    return f"{text}\n{join_signatures(signatures)}".encode()


def join_signatures(signatures: Sequence[Signature]) -> str:
    """The lines of signatures, as they stand below a note's text.

    Raises:
        CheckpointError: A name could not be read back.
    """
    for name, _, _ in signatures:
        _check_name(name)
    lines = [
        f"{_SIGNATURE_PREFIX}{name} {b64encode(key + signature).decode()}\n" for name, key, signature in signatures
    ]
    return "".join(lines)


def split_note(note: bytes) -> tuple[str, list[Signature]]:
    """Text and signatures of a note, none of them verified.

    Raises:
        CheckpointError: Malformed.
    """
    if len(note) > MAX_NOTE_SIZE:
        raise CheckpointError("a note is larger than its limit")
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError("a note is UTF-8") from error
    if any(character < " " and character != "\n" for character in whole):
        raise CheckpointError("a note has no control characters")
    text, separator, tail = whole.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise CheckpointError("a note has a text, an empty line and signature lines")
    return text + "\n", split_signatures(tail)


def split_signatures(lines: str) -> list[Signature]:
    """What `join_signatures` joined; at least one.

    Raises:
        CheckpointError: Malformed.
    """
    if lines.count("\n") > MAX_SIGNATURES:
        raise CheckpointError("a note has too many signatures")
    if not lines.endswith("\n"):
        raise CheckpointError("a signature line ends with a line break")
    return [_signature_line(line) for line in lines[:-1].split("\n")]


def _signature_line(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    if not line.startswith(_SIGNATURE_PREFIX) or not space:
        raise CheckpointError("a signature line is an em dash, a name and base64")
    _check_name(name)
    decoded = _unbase64(encoded)
    if len(decoded) <= KEY_ID_SIZE:
        raise CheckpointError("a signature is too short")
    return name, decoded[:KEY_ID_SIZE], decoded[KEY_ID_SIZE:]


def _check_name(name: str) -> None:
    if not is_name(name):
        raise CheckpointError("a key's name is not empty and has neither space nor plus")


def _unbase64(text: str, size: int | None = None) -> bytes:
    try:
        decoded = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError("not base64") from error
    if b64encode(decoded).decode() != text or (size is not None and len(decoded) != size):
        raise CheckpointError("not the base64 of a value of this size")
    return decoded


@lru_cache(maxsize=256)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise CheckpointError("not an Ed25519 public key") from error
