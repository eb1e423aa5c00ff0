"""Sealing a request for its owner and the reply for its requester (DESIGN §5, docs/protocol.md).

HPKE (RFC 9180), Base mode, export-only, DHKEM(X25519, HKDF-SHA256), gives both sides one exported secret. Each request
has an AES-256-GCM key of its own, derived from that secret and the header's hash, so that a context serves many
requests without a counter that somebody would have to keep, and neither side needs a session.

Contexts come from pycryptodome, which alone exports secrets; the AEAD calls from `cryptography`, which is fast.
"""

from __future__ import annotations

import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from Crypto.Protocol import HPKE
from Crypto.Protocol.DH import import_x25519_public_key
from Crypto.PublicKey.ECC import EccKey
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from zhiwang.wire.commitments import REPLY_KEY_LABEL, REQUEST_KEY_LABEL, SEAL_EXPORT_LABEL, SEAL_INFO
from zhiwang.wire.errors import Reason, RefusedError

CONTEXT_LIFE = 600.0
"""Seconds for which a requester may use one context."""

MAX_SECRETS = 4096
"""Exported secrets that an owner keeps."""

MAX_SECRETS_OF_ONE = 32
"""Exported secrets that an owner keeps for one requester, so that one cannot push out the others'."""

NONCE_SIZE = 12
SECRET_SIZE = 32


class SealingContext:
    """A requester's side: seals requests under one owner key, and opens their replies.

    Setting one up costs 0.4 ms or more; use it for `CONTEXT_LIFE` at most (`expired`), and never longer than the key
    is valid.

    Args:
        owner: Department of the key.
        key_id: Of the key.
        public_key_raw: X25519 public key; 32 bytes.
        clock: Gives the time.

    Raises:
        RefusedError: KEY_UNKNOWN, if it is not a usable public key.
    """

    __slots__ = ("_secret", "created", "enc", "key_id", "owner")

    def __init__(
        self, owner: str, key_id: bytes, public_key_raw: bytes, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.owner = owner
        self.key_id = key_id
        self.created = clock()
        try:
            context = HPKE.new(
                receiver_key=import_x25519_public_key(public_key_raw), aead_id=HPKE.AEAD.EXPORT_ONLY, info=SEAL_INFO
            )
        except ValueError:
            raise RefusedError(Reason.KEY_UNKNOWN, f"the sealing key of {owner} is not a point of X25519") from None
        self.enc = context.enc
        self._secret = context.export(SEAL_EXPORT_LABEL, SECRET_SIZE)

    @classmethod
    def restored(cls, owner: str, key_id: bytes, enc: bytes, secret: bytes) -> SealingContext:
        """A context whose process has died, for the replies to what it sealed. It must seal nothing more.

        Args:
            owner: Department of the key.
            key_id: Of the key.
            enc: Of the context.
            secret: Of the context.
        """
        context = cls.__new__(cls)
        context.owner, context.key_id, context.enc = owner, key_id, enc
        context.created = -CONTEXT_LIFE
        context._secret = secret  # noqa: SLF001  of our own class
        return context

    @property
    def secret(self) -> bytes:
        """What opens the requests and replies of this context; 32 bytes. Kept as safely as what it seals."""
        return self._secret

    def expired(self, now: float) -> bool:
        """Whether a new context has to take its place."""
        return not 0 <= now - self.created < CONTEXT_LIFE

    def seal(self, header_hash: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
        """Seal case records. Must be called once for a header; a retry sends the same bytes again.

        Returns:
            Nonce of 12 bytes; ciphertext with its tag.
        """
        nonce = os.urandom(NONCE_SIZE)
        key = hmac.digest(self._secret, REQUEST_KEY_LABEL + header_hash, "sha256")
        return nonce, AESGCM(key).encrypt(nonce, plaintext, header_hash)

    def open_request(self, header_hash: bytes, nonce: bytes, ciphertext: bytes) -> bytes:
        """Open a request that this context sealed.

        Raises:
            RefusedError: SEAL_BROKEN.
        """
        return _open(
            hmac.digest(self._secret, REQUEST_KEY_LABEL + header_hash, "sha256"), nonce, ciphertext, header_hash
        )

    def open_reply(self, header_hash: bytes, nonce: bytes, ciphertext: bytes) -> bytes:
        """Open the reply to the request with this header.

        Raises:
            RefusedError: SEAL_BROKEN.
        """
        return _open(hmac.digest(self._secret, REPLY_KEY_LABEL + header_hash, "sha256"), nonce, ciphertext, header_hash)


class ReplySealer:
    """Seals the reply to one request."""

    __slots__ = ("_header_hash", "_key")

    def __init__(self, secret: bytes, header_hash: bytes) -> None:
        self._header_hash = header_hash
        self._key = hmac.digest(secret, REPLY_KEY_LABEL + header_hash, "sha256")

    def seal(self, plaintext: bytes) -> tuple[bytes, bytes]:
        """Nonce of 12 bytes; ciphertext with its tag."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce, AESGCM(self._key).encrypt(nonce, plaintext, self._header_hash)


class Opener:
    """An owner's side: opens requests. Safe to use from several threads.

    Decapsulation costs 0.3 ms or more and is remembered by (requester's certificate, key, enc), within bounds for each
    requester. A remembered secret is used only while its private key is alive.

    Args:
        private_keys: Gives the X25519 private key of a key id, None if there is none or it is dead.
        cached: How many secrets are kept.
        cached_of_one: How many of them for one requester.
    """

    def __init__(
        self,
        private_keys: Callable[[bytes], EccKey | None],
        *,
        cached: int = MAX_SECRETS,
        cached_of_one: int = MAX_SECRETS_OF_ONE,
    ) -> None:
        self._private_keys = private_keys
        self._cached = cached
        self._cached_of_one = cached_of_one
        # Requesters in the order of their last use, each with its secrets in the order of theirs.
        self._secrets: OrderedDict[bytes, OrderedDict[bytes, bytes]] = OrderedDict()
        self._count = 0
        self._lock = Lock()

    def open(
        self, fingerprint: bytes, key_id: bytes, enc: bytes, header_hash: bytes, nonce: bytes, ciphertext: bytes
    ) -> tuple[bytes, ReplySealer]:
        """Open one request.

        Args:
            fingerprint: Of the requester's signing certificate, whose signature has been verified.
            key_id: Owner key for which it was sealed.
            enc: HPKE encapsulated key; 32 bytes.
            header_hash: Hash of the header's exact bytes.
            nonce: Of the request; 12 bytes.
            ciphertext: With its tag.

        Returns:
            The case records, and what seals the reply.

        Raises:
            RefusedError: KEY_UNKNOWN or SEAL_BROKEN.
        """
        secret = self.secret(fingerprint, key_id, enc)
        key = hmac.digest(secret, REQUEST_KEY_LABEL + header_hash, "sha256")
        return _open(key, nonce, ciphertext, header_hash), ReplySealer(secret, header_hash)

    def secret(self, fingerprint: bytes, key_id: bytes, enc: bytes) -> bytes:
        """The exported secret of a context; 32 bytes.

        Raises:
            RefusedError: KEY_UNKNOWN, or SEAL_BROKEN if `enc` is no point of X25519.
        """
        private = self._private_keys(key_id)
        if private is None:
            raise RefusedError(Reason.KEY_UNKNOWN, "the request is sealed for a key that is not here")
        place = key_id + enc
        with self._lock:
            own = self._secrets.get(fingerprint)
            if own is not None and (secret := own.get(place)) is not None:
                own.move_to_end(place)
                self._secrets.move_to_end(fingerprint)
                return secret
        try:
            context = HPKE.new(receiver_key=private, aead_id=HPKE.AEAD.EXPORT_ONLY, enc=enc, info=SEAL_INFO)
        except ValueError:
            raise RefusedError(Reason.SEAL_BROKEN, "the encapsulated key is not a point of X25519") from None
        secret = context.export(SEAL_EXPORT_LABEL, SECRET_SIZE)
        with self._lock:
            self._remember(fingerprint, place, secret)
        return secret

    def forget(self) -> None:
        """Drop every remembered secret, as when a key dies."""
        with self._lock:
            self._secrets.clear()
            self._count = 0

    def _remember(self, fingerprint: bytes, place: bytes, secret: bytes) -> None:
        """Under the lock."""
        own = self._secrets.setdefault(fingerprint, OrderedDict())
        self._secrets.move_to_end(fingerprint)
        if place not in own:
            self._count += 1
        own[place] = secret
        if len(own) > self._cached_of_one:
            own.popitem(last=False)
            self._count -= 1
        while self._count > self._cached:
            longest_unused = next(iter(self._secrets.values()))
            longest_unused.popitem(last=False)
            self._count -= 1
            if not longest_unused:
                self._secrets.popitem(last=False)


def _open(key: bytes, nonce: bytes, ciphertext: bytes, header_hash: bytes) -> bytes:
    if len(nonce) != NONCE_SIZE:
        raise RefusedError(Reason.SEAL_BROKEN, "the nonce does not have 12 bytes")
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, header_hash)
    except InvalidTag:
        raise RefusedError(Reason.SEAL_BROKEN, "the sealed part does not open under its header") from None
