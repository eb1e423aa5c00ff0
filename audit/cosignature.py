"""What witnesses say of a log's checkpoint: C2SP tlog-cosignature, version 1 with Ed25519, and how many must say it.

Pure functions of bytes. A cosignature is one more signature line below a checkpoint. It says that at the stated time
this was the largest tree of this log that the witness had seen, and that it extends all that it had seen before. A
log that shows two histories needs two quorums; as each is more than half of the witnesses, one witness at least would
have to sign both, and an honest one does not.

Sources: https://c2sp.org/tlog-cosignature, https://c2sp.org/signed-note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from audit.checkpoint import (
    SIGNATURE_SIZE,
    CheckpointError,
    Signature,
    join_note,
    parse_key,
    split_note,
    verify_signature,
)
from zhiwang.wire.vkey import ALGORITHM_COSIGNATURE, VerifierKey, policy_fault

TIME_SIZE: Final = 8
COSIGNATURE_SIZE: Final = TIME_SIZE + SIGNATURE_SIZE
MAX_TIME: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature that has been verified.

    Attributes:
        name: Of the witness, as whoever trusts it calls it.
        time: When the witness signed, by its own clock; seconds since the epoch.
    """

    name: str
    time: int


def parse_witness_key(text: str) -> VerifierKey:
    """The verifier key of a witness, "NAME+ID+KEY".

    Raises:
        CheckpointError: It is none, or the key of a log.
    """
    return parse_key(text, ALGORITHM_COSIGNATURE)


def cosign(text: str, key: VerifierKey, sign: Callable[[bytes], bytes], time: int) -> Signature:
    """The cosignature of a checkpoint.

    Args:
        text: The note's text, whole: a witness signs extension lines too, though it says nothing about them.
        key: The witness's.
        sign: Signs bytes with that key's private half.
        time: Seconds since the epoch.
    """
    if key.algorithm != ALGORITHM_COSIGNATURE:
        raise CheckpointError("not the key of a witness")
    if not 0 <= time <= MAX_TIME:
        raise CheckpointError("not a time of a cosignature")
    return key.name, key.id, time.to_bytes(TIME_SIZE, "big") + sign(_message(text, time))


def add_cosignatures(note: bytes, cosignatures: Iterable[Signature]) -> bytes:
    """The note with more lines; a line of a key that is already there takes the other's place.

    Raises:
        CheckpointError: Malformed.
    """
    text, signatures = split_note(note)
    lines = {(name, key): (name, key, signature) for name, key, signature in [*signatures, *cosignatures]}
    joined = join_note(text, list(lines.values()))
    split_note(joined)  # within the limits of a note
    return joined


class WitnessPolicy:
    """Which witnesses are trusted, and how many of them must have cosigned.

    Args:
        witnesses: Keys of each witness by its name; several while it changes its key.
        quorum: How many different ones are needed; more than half.

    Attributes:
        quorum: The same.
        keys: Name of the witness of each key.

    Raises:
        CheckpointError: The quorum cannot be reached, or two that do not meet could be; or two witnesses have one key,
            which would count twice, since a cosignature does not say under which name it was made.
    """

    def __init__(self, witnesses: Mapping[str, Sequence[VerifierKey]], quorum: int) -> None:
        self.quorum = quorum
        self.keys = {key: name for name, keys in witnesses.items() for key in keys}
        self._known = {(key.name, key.id): key for key in self.keys}
        fault = policy_fault(witnesses, quorum)
        if fault is not None:
            raise CheckpointError(fault)

    @classmethod
    def of_keys(cls, keys: Iterable[str], quorum: int | None = None) -> Self:
        """A policy of verifier keys alone, each witness called by its key's name; more than half of them if not said.

        Raises:
            CheckpointError: As above, or a text is no witness's key.
        """
        witnesses: dict[str, list[VerifierKey]] = {}
        for text in keys:
            key = parse_witness_key(text)
            witnesses.setdefault(key.name, []).append(key)
        return cls(witnesses, len(witnesses) // 2 + 1 if quorum is None else quorum)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the witnesses."""
        return tuple(dict.fromkeys(self.keys.values()))

    def cosignatures(self, note: bytes) -> tuple[Cosignature, ...]:
        """The newest cosignature of each witness that cosigned, newest first. Lines of unknown keys are passed over.

        Raises:
            CheckpointError: Malformed, or a line of a known key does not verify: the note is then worth nothing.
        """
        text, signatures = split_note(note)
        times: dict[str, int] = {}
        for signature in signatures:
            key = self._known.get(signature[:2])
            if key is not None:
                name = self.keys[key]
                times[name] = max(times.get(name, 0), verify_cosignature(text, key, signature[2]))
        found = [Cosignature(name, time) for name, time in times.items()]
        return tuple(sorted(found, key=lambda one: (-one.time, one.name)))

    def quorum_time(self, note: bytes) -> int | None:
        """Until when a quorum of witnesses vouched for this checkpoint; None if there is no quorum.

        A witness whose clock is ahead makes it no newer, as long as fewer than a quorum are.

        Raises:
            CheckpointError: As `cosignatures`.
        """
        found = self.cosignatures(note)
        return found[self.quorum - 1].time if len(found) >= self.quorum else None

    def satisfied_by(self, note: bytes) -> bool:
        """Whether a quorum of the witnesses cosigned.

        Raises:
            CheckpointError: As `cosignatures`.
        """
        return self.quorum_time(note) is not None


def verify_cosignature(text: str, key: VerifierKey, signature: bytes) -> int:
    """The time of a witness's cosignature below a note of this text.

    Raises:
        CheckpointError: It does not verify.
    """
    if len(signature) != COSIGNATURE_SIZE:
        raise CheckpointError("a cosignature is a time and an Ed25519 signature")
    time = int.from_bytes(signature[:TIME_SIZE], "big")
    if time > MAX_TIME:
        raise CheckpointError("a cosignature of no time")
    verify_signature(key.public_key_raw, signature[TIME_SIZE:], _message(text, time))
    return time


def _message(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()
