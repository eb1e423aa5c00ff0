"""Handing names to another department: the key that their receiver makes, and the file that is sealed for it.

A receiver makes a key pair and states its public half under its signing certificate. The owner's admin seals a list for
that key (HPKE as for requests, `sealing.py`) and signs the file, so that its receiver knows from whom it is. Neither
travels through the exchange. Pure but for `make_key` and `private_of`, whose files are 0600.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from Crypto.PublicKey import ECC
from Crypto.PublicKey.ECC import EccKey
from google.protobuf.message import DecodeError

from certs.identity import Identity, Kind, read_private, write_private
from certs.sealing import Opener, SealingContext
from certs.signing import CertificateVerifier, Signer, VerifiedCertificate
from zhiwang.adapter.v1 import roster_pb2
from zhiwang.wire.errors import Reason, RefusedError

KEY_LIFE: Final = 31 * 86_400
"""Longest validity of a key, in seconds."""

MAX_FILE: Final = 128 << 20
"""Bytes of the largest file that is opened: a million people and more."""

SKEW: Final = 5
KEY_ID_SIZE: Final = 16
PUBLIC_KEY_SIZE: Final = 32
_KEY_LABEL: Final = b"zhiwang/referral-key/v1\0"
_FILE_LABEL: Final = b"zhiwang/referral/v1\0"


@dataclass(frozen=True, slots=True)
class ReferralKey:
    """A key that its holder stated, within its time.

    Attributes:
        holder: The system that can open what is sealed for it.
        key_id: First 16 bytes of the SHA-256 of the public key.
        public_key: X25519; 32 bytes.
    """

    holder: Identity
    key_id: bytes
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A file whose signature holds. Nothing of it was opened.

    Attributes:
        sender: Certificate of the admin who handed it over.
        head: What it says of itself.
        file: The file.
    """

    sender: VerifiedCertificate
    head: roster_pb2.ReferralHead
    file: roster_pb2.ReferralFile


def make_key(path: Path, signer: Signer, now: float) -> bytes:
    """Make a key pair.

    Args:
        path: Where its private half goes (0600); it never replaces anything.
        signer: Of the system that is to receive names.
        now: Seconds since the epoch.

    Returns:
        The signed statement, for the owner.

    Raises:
        OSError: It cannot be written, or is there.
    """
    private = ECC.generate(curve="Curve25519")
    key = roster_pb2.ReferralKey(holder=signer.identity.uri, public_key=private.public_key().export_key(format="raw"))
    key.start_time.seconds = int(now)
    key.expire_time.seconds = int(now) + KEY_LIFE
    raw = key.SerializeToString(deterministic=True)
    write_private(path, private.export_key(format="PEM").encode())
    statement = roster_pb2.ReferralKeyStatement(
        key=raw, signature=signer.sign(_KEY_LABEL + raw), certificate=signer.certificate_der
    )
    return statement.SerializeToString(deterministic=True)


def parse_key(data: bytes) -> roster_pb2.ReferralKeyStatement:
    """A statement's bytes.

    Raises:
        RefusedError: KEY_UNKNOWN: they are none.
    """
    try:
        return roster_pb2.ReferralKeyStatement.FromString(data)
    except DecodeError:
        raise RefusedError(Reason.KEY_UNKNOWN, "the file is no statement of a key") from None


def verify_key(statement: roster_pb2.ReferralKeyStatement, verifier: CertificateVerifier, now: float) -> ReferralKey:
    """The key of a statement, if a system of this city states it and it is within its time.

    Raises:
        RefusedError: KEY_UNKNOWN, CERTIFICATE_INVALID, CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED or SIGNATURE_INVALID.
    """
    certificate = verifier.verify(statement.certificate, now, kinds=(Kind.SYSTEM,))
    certificate.verify_signature(statement.signature, _KEY_LABEL + statement.key)
    try:
        key = roster_pb2.ReferralKey.FromString(statement.key)
    except DecodeError:
        raise RefusedError(Reason.KEY_UNKNOWN, "a stated key cannot be read") from None
    start, end = key.start_time.seconds, key.expire_time.seconds
    if key.holder != certificate.identity.uri or len(key.public_key) != PUBLIC_KEY_SIZE:
        raise RefusedError(Reason.KEY_UNKNOWN, f"a key of {certificate.identity.short} does not hold together")
    if not 0 < end - start <= KEY_LIFE or not start - SKEW <= now <= end:
        raise RefusedError(Reason.KEY_UNKNOWN, f"a key of {certificate.identity.short} is outside its time")
    return ReferralKey(certificate.identity, _key_id(key.public_key), key.public_key)


def seal(key: ReferralKey, head: roster_pb2.ReferralHead, content: bytes, signer: Signer) -> bytes:
    """A file that only the key's holder can open.

    Args:
        key: Verified.
        head: Recipient and key id are filled in.
        content: The list.
        signer: Of the admin who hands it over.
    """
    head.recipient, head.key_id = key.holder.uri, key.key_id
    raw = head.SerializeToString(deterministic=True)
    context = SealingContext(key.holder.department, key.key_id, key.public_key)
    nonce, ciphertext = context.seal(_hash(raw), content)
    file = roster_pb2.ReferralFile(
        head=raw,
        enc=context.enc,
        nonce=nonce,
        ciphertext=ciphertext,
        signature=signer.sign(_message(raw, context.enc, nonce, ciphertext)),
        certificate=signer.certificate_der,
    )
    return file.SerializeToString(deterministic=True)


def read_file(data: bytes, verifier: CertificateVerifier) -> Received:
    """What a file says of itself, and who signed it. Whether that one may is `policy.referrals.check_received`'s.

    Args:
        data: The file.
        verifier: Of the sender's certificate, at the time at which the file says that it was made.

    Raises:
        RefusedError: REQUEST_TOO_LARGE, SEAL_BROKEN, SIGNATURE_INVALID, or an error of the certificate.
    """
    if len(data) > MAX_FILE:
        raise RefusedError(Reason.REQUEST_TOO_LARGE, "larger than any file of names")
    try:
        file = roster_pb2.ReferralFile.FromString(data)
        head = roster_pb2.ReferralHead.FromString(file.head)
    except DecodeError:
        raise RefusedError(Reason.SEAL_BROKEN, "it is no file of names") from None
    certificate = verifier.verify(file.certificate, float(head.time.seconds), kinds=(Kind.ADMIN,))
    certificate.verify_signature(file.signature, _message(file.head, file.enc, file.nonce, file.ciphertext))
    return Received(certificate, head, file)


def open_file(received: Received, private: EccKey, receiver: Identity) -> bytes:
    """The list of a file that was sealed for a system: CSV in UTF-8.

    Args:
        received: From `read_file`.
        private: The key for which it was sealed.
        receiver: The system.

    Raises:
        RefusedError: IDENTITY_MISMATCH, KEY_UNKNOWN or SEAL_BROKEN.
    """
    file, head = received.file, received.head
    if head.recipient != receiver.uri:
        raise RefusedError(Reason.IDENTITY_MISMATCH, f"it is for another system than {receiver.short}")
    key_id = _key_id(private.public_key().export_key(format="raw"))
    if head.key_id != key_id:
        raise RefusedError(Reason.KEY_UNKNOWN, "it is sealed for another key; look for the one that was stated")
    opener = Opener(lambda wanted: private if wanted == key_id else None)
    sender = received.sender.fingerprint
    content, _ = opener.open(sender, key_id, file.enc, _hash(file.head), file.nonce, file.ciphertext)
    return content


def private_of(path: Path) -> EccKey:
    """The private half of a key.

    Raises:
        RefusedError: KEY_UNKNOWN: the file holds none.
        OSError: It cannot be read, or others may read it.
    """
    try:
        return ECC.import_key(read_private(path))
    except ValueError:
        raise RefusedError(Reason.KEY_UNKNOWN, f"{path.name} holds no private key") from None


def _message(head: bytes, enc: bytes, nonce: bytes, ciphertext: bytes) -> bytes:
    return _FILE_LABEL + _hash(head) + _hash(enc + nonce + ciphertext)


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _key_id(public: bytes) -> bytes:
    return hashlib.sha256(public).digest()[:KEY_ID_SIZE]
