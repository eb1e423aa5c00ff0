"""The sealed protocol a second time, written from docs/protocol.md alone: no code of ours, HPKE by hand.

It shows that the page suffices, and that the vectors are not only what our own code happens to say.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from hashlib import sha256
from struct import pack

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEM = b"KEM" + pack(">H", 0x0020)
HPKE = b"HPKE" + pack(">HHH", 0x0020, 0x0001, 0xFFFF)


def _extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + key, "sha256")


def _expand(suite: bytes, key: bytes, label: bytes, info: bytes) -> bytes:
    return hmac.digest(key, pack(">H", 32) + b"HPKE-v1" + suite + label + info + b"\x01", "sha256")


def exported_secret(private: bytes, enc: bytes, *, sender_of: bytes | None = None) -> bytes:
    """RFC 9180: Base mode, export-only. With `sender_of`, `private` is ephemeral and that the owner's public key."""
    key = X25519PrivateKey.from_private_bytes(private)
    owner = sender_of or key.public_key().public_bytes_raw()
    shared = key.exchange(X25519PublicKey.from_public_bytes(sender_of or enc))
    secret = _expand(KEM, _extract(KEM, b"", b"eae_prk", shared), b"shared_secret", enc + owner)
    context = b"\x00" + _extract(HPKE, b"", b"psk_id_hash", b"") + _extract(HPKE, b"", b"info_hash", b"zhiwang/1/seal")
    exporter = _expand(HPKE, _extract(HPKE, secret, b"secret", b""), b"exp", context)
    return _expand(HPKE, exporter, b"sec", b"zhiwang/1/secret")


def derived_key(secret: bytes, label: bytes, header_hash: bytes) -> bytes:
    return hmac.digest(secret, label + header_hash, "sha256")


def opened(key: bytes, nonce: bytes, ciphertext: bytes, header_hash: bytes) -> bytes:
    return AESGCM(key).decrypt(nonce, ciphertext, header_hash)


def verified(public: bytes, signature: bytes, message: bytes) -> bool:
    Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    return True


def text_at(data: bytes, place: int) -> tuple[str, int]:
    size = int.from_bytes(data[place : place + 2], "big")
    return data[place + 2 : place + 2 + size].decode(), place + 2 + size


def subject_bytes(kind: str, identifier: str, name: str) -> bytes:
    return b"".join(pack(">H", len(part.encode())) + part.encode() for part in (kind, identifier, name))


def leaf(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def commitment(salt: bytes, subject: bytes, value: bytes) -> bytes:
    return leaf(b"zhiwang/1/claim" + salt + subject + pack(">I", len(value)) + value)


def answer(claim: bytes, salt: bytes, outcome: bytes) -> bytes:
    return leaf(b"zhiwang/1/answer" + claim + sha256(b"zhiwang/1/outcome" + salt + outcome).digest())


def salt_of(salt: bytes, index: int) -> bytes:
    return hmac.digest(salt, pack(">I", index), "sha256")


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + root(leaves[:split]) + root(leaves[split:])).digest()


def checkpoint(note: str, public: bytes) -> tuple[str, int, bytes]:
    """C2SP signed note of one signature."""
    text, _, line = note.partition("\n\n")
    origin, size, encoded = text.split("\n")
    dash, name, signature = line.rstrip("\n").split(" ")
    raw = b64decode(signature)
    assert (dash, name) == ("—", origin)
    assert raw[:4] == sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    assert verified(public, raw[4:], text.encode() + b"\n")
    return origin, int(size), b64decode(encoded)
