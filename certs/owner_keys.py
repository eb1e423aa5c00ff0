"""Sealing keys of an owner: made, stated, rotated and destroyed at the adapter; verified by agents.

A key lives in two files of the adapter's state: `<key id>.key` (PEM, 0600) and `<key id>.owner_key` (the exact bytes of
the OwnerKey that is signed). The signature is made anew from them with whatever signing certificate is in force.
Who relays a statement need not be trusted.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from Crypto.PublicKey import ECC
from Crypto.PublicKey.ECC import EccKey
from google.protobuf.message import DecodeError

from certs.identity import Kind, read_private, write_private, write_public
from certs.signing import CertificateVerifier, Signer
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.commitments import owner_key_message
from zhiwang.wire.errors import FatalError, Reason, RefusedError

KEY_LIFE = 48 * 3600
"""Longest validity of a statement, in seconds."""

ROTATE_AFTER = 24 * 3600
"""Age of the newest key, in seconds, at which the next one is made."""

KEY_ALARM_DAYS = (0.75,)
"""A key has half its two days left when the next one is made; with less than this, that has failed for hours."""

SKEW = 5
"""Seconds by which clocks may differ."""

GRACE = 60 + SKEW
"""Seconds for which a private key outlives its statement: a request sealed at the last moment may live for 60."""

KEY_ID_SIZE = 16
PUBLIC_KEY_SIZE = 32


@dataclass(frozen=True, slots=True)
class VerifiedOwnerKey:
    """An owner key that its owner's adapter stated, within its time.

    Attributes:
        owner: Department.
        key_id: First 16 bytes of the SHA-256 of the public key.
        public_key: X25519; 32 bytes.
        serial: Rises with every key of one adapter.
        not_before: First second of its validity.
        not_after: Last second of its validity.
        adapter: Name of the adapter that stated it.
    """

    owner: str
    key_id: bytes
    public_key: bytes
    serial: int
    not_before: float
    not_after: float
    adapter: str


@dataclass(frozen=True, slots=True)
class _Held:
    private: EccKey
    raw: bytes
    key_id: bytes
    serial: int
    not_before: float
    not_after: float


class OwnerKeyStore:
    """The sealing keys of one adapter. Replicas on one host may share them: one makes the next key.

    `refresh` has to be called at start and then at least hourly; the other methods only read, and may be called from
    any thread.

    Args:
        directory: Where the keys lie; it must exist.
        signer: Gives the adapter's signer that is in force.
        clock: Gives the time.

    Raises:
        FatalError: INTERNAL, if a file there cannot be read or does not hold together.
    """

    def __init__(self, directory: Path, signer: Callable[[], Signer], clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._signer = signer
        self._clock = clock
        self._held: dict[bytes, _Held] = {}
        with self._turn():
            self._held = self._on_disk()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """No other replica makes, reads or destroys keys meanwhile."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _on_disk(self) -> dict[bytes, _Held]:
        """What is held, and what another replica has made since."""
        names = {f"{key_id.hex()}.key" for key_id in self._held}
        made = [self._load(path) for path in self._directory.glob("*.key") if path.name not in names]
        return self._held | {held.key_id: held for held in made}

    def refresh(self) -> bool:
        """Make the next key if it is time and no other replica has, and destroy those that are dead.

        Returns:
            Whether `statements` changed.

        Raises:
            FatalError: INTERNAL, if a file there cannot be read or does not hold together.
        """
        with self._turn():
            return self._refresh()

    def _refresh(self) -> bool:
        now = self._clock()
        known = self._on_disk()
        joined = len(known) > len(self._held)
        dead = [key_id for key_id, held in known.items() if now > held.not_after + GRACE]
        held = {key_id: key for key_id, key in known.items() if key_id not in dead}
        newest = max((key.not_before for key in held.values()), default=None)
        # A key from the future (a clock that was set back) counts as none.
        due = newest is None or not 0 <= now - newest < ROTATE_AFTER
        if due:
            fresh = self._make(now, held)
            held[fresh.key_id] = fresh
        # One assignment, since readers hold no lock.
        self._held = held
        for key_id in dead:
            for suffix in (".key", ".owner_key"):
                (self._directory / f"{key_id.hex()}{suffix}").unlink(missing_ok=True)
        return due or joined or bool(dead)

    def statements(self) -> list[sealed_pb2.OwnerKeyStatement]:
        """Statements of the keys that are valid, newest first, signed by the signer in force."""
        now = self._clock()
        signer = self._signer()
        valid = [key for key in self._held.values() if now <= key.not_after]
        return [
            sealed_pb2.OwnerKeyStatement(
                key=key.raw, signature=signer.sign(owner_key_message(key.raw)), certificate=signer.certificate_der
            )
            for key in sorted(valid, key=lambda key: -key.serial)
        ]

    @property
    def expires(self) -> float:
        """When the newest key's statement runs out; 0 if there is none."""
        return max((key.not_after for key in self._held.values()), default=0.0)

    def private(self, key_id: bytes) -> EccKey | None:
        """The private key of this id; None if it is unknown or dead."""
        held = self._held.get(key_id)
        if held is None or self._clock() > held.not_after + GRACE:
            return None
        return held.private

    def _make(self, now: float, known: dict[bytes, _Held]) -> _Held:
        private = ECC.generate(curve="Curve25519")
        public = private.public_key().export_key(format="raw")
        key_id = _key_id(public)
        # Seconds since the epoch rise by themselves, also after a long stop in which every key died.
        serial = max([int(now), *(key.serial + 1 for key in known.values())])
        start = int(now)
        message = sealed_pb2.OwnerKey(
            owner=self._signer().identity.department, key_id=key_id, public_key=public, serial=serial
        )
        message.start_time.seconds = start
        message.expire_time.seconds = start + KEY_LIFE
        raw = message.SerializeToString(deterministic=True)
        # The statement first: a private key without one could never be dated, and would live for ever.
        write_public(self._directory / f"{key_id.hex()}.owner_key", raw)
        pem = private.export_key(format="PEM")
        write_private(self._directory / f"{key_id.hex()}.key", pem.encode())
        return _Held(private, raw, key_id, serial, float(start), float(start + KEY_LIFE))

    def _load(self, path: Path) -> _Held:
        try:
            private = ECC.import_key(read_private(path))
            raw = path.with_suffix(".owner_key").read_bytes()
            key = sealed_pb2.OwnerKey.FromString(raw)
        except (OSError, ValueError, DecodeError) as error:
            raise FatalError(Reason.INTERNAL, f"owner key {path.name}: {type(error).__name__}") from None
        public = private.public_key().export_key(format="raw")
        if (key.public_key, key.key_id) != (public, _key_id(public)):
            raise FatalError(Reason.INTERNAL, f"owner key {path.name}: key and statement do not belong together")
        return _Held(
            private, raw, key.key_id, key.serial, float(key.start_time.seconds), float(key.expire_time.seconds)
        )


def verify_statement(
    statement: sealed_pb2.OwnerKeyStatement, verifier: CertificateVerifier, owner: str, now: float
) -> VerifiedOwnerKey:
    """Check that an adapter of `owner` stated a sealing key, and that it may be used.

    Raises:
        RefusedError: KEY_UNKNOWN, CERTIFICATE_INVALID, CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED or SIGNATURE_INVALID.
    """
    certificate = verifier.verify(statement.certificate, now, kinds=(Kind.ADAPTER,))
    if certificate.identity.department != owner:
        raise RefusedError(Reason.KEY_UNKNOWN, f"{certificate.identity.short} states a key for {owner}")
    certificate.verify_signature(statement.signature, owner_key_message(statement.key))
    try:
        key = sealed_pb2.OwnerKey.FromString(statement.key)
    except DecodeError:
        raise RefusedError(Reason.KEY_UNKNOWN, f"a key of {certificate.identity.short} cannot be read") from None
    start, end = _seconds(key.start_time), _seconds(key.expire_time)
    if key.owner != owner or len(key.public_key) != PUBLIC_KEY_SIZE or key.key_id != _key_id(key.public_key):
        raise RefusedError(Reason.KEY_UNKNOWN, f"a key of {certificate.identity.short} does not hold together")
    if not 0 < end - start <= KEY_LIFE or not start - SKEW <= now <= end:
        raise RefusedError(Reason.KEY_UNKNOWN, f"a key of {certificate.identity.short} is outside its time")
    return VerifiedOwnerKey(
        owner=owner,
        key_id=key.key_id,
        public_key=key.public_key,
        serial=key.serial,
        not_before=start,
        not_after=end,
        adapter=certificate.identity.name,
    )


def _key_id(public: bytes) -> bytes:
    return hashlib.sha256(public).digest()[:KEY_ID_SIZE]


def _seconds(timestamp: object) -> float:
    seconds: int = timestamp.seconds  # type: ignore[attr-defined]  # a Timestamp; its stub hides behind a mixin
    nanos: int = timestamp.nanos  # type: ignore[attr-defined]  # the same
    return seconds + nanos / 1e9
