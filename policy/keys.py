"""Private keys of the directory: the registrar's two, and the root keys. Each lies in a file of its own, 0600."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from securesystemslib.signer import CryptoSigner

from certs.identity import read_private, write_private
from policy.metadata import raw_key
from zhiwang.wire.errors import FatalError, Reason


@dataclass(frozen=True, slots=True)
class RegistrarKeys:
    """The keys of snapshot and timestamp. Private halves live in files that only the registrar reads (0600)."""

    snapshot: CryptoSigner
    timestamp: CryptoSigner

    @classmethod
    def create(cls, directory: Path) -> RegistrarKeys:
        """Makes both keys.

        Raises:
            FileExistsError: There are keys already.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("snapshot", "timestamp"):
            write_private(directory / f"{name}.key", new_key())
        return cls.load(directory)

    @classmethod
    def load(cls, directory: Path) -> RegistrarKeys:
        """Reads both keys.

        Raises:
            OSError: They are missing, or others can read them.
        """
        return cls(*(load_key(directory / f"{name}.key") for name in ("snapshot", "timestamp")))

    @property
    def public(self) -> tuple[bytes, bytes]:
        """Raw public keys of snapshot and timestamp, for the root."""
        return raw_key(self.snapshot.public_key), raw_key(self.timestamp.public_key)


def new_key() -> bytes:
    """An Ed25519 private key as unencrypted PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(path: Path) -> CryptoSigner:
    """A TUF signer from a private key file that only its owner can read.

    Raises:
        OSError: It is missing, or others can read it.
        FatalError: INTERNAL, if it holds no Ed25519 key.
    """
    try:
        key = load_pem_private_key(read_private(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise FatalError(Reason.INTERNAL, f"{path.name} is not an Ed25519 private key")
    return CryptoSigner(key)
