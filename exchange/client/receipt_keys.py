"""Keys under which kept receipts are encrypted: one for each year, in files of their own (`2026.key`, 0600).

Apart from the receipts, so that a copy of the one is worth nothing without the other; and one a year, so that a year
is erased, in every backup of the receipts too, by destroying its file.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certs.identity import read_private, write_private
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.kept import sync_path

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12

_LOST: Final = "If it is lost for good, so are its receipts: zhiwang receipt purge --year {}"
_FILE = re.compile(rb"[0-9a-f]{64}\n")
_SEAL_LABEL: Final = b"zhiwang receipt seal v1"
_INDEX_LABEL: Final = b"zhiwang receipt index v1"
_CASE_LABEL: Final = b"zhiwang receipt case v1"
_PROOF_LABEL: Final = b"zhiwang receipt key v1"


class Sealed(NamedTuple):
    """A receipt as it is kept.

    Attributes:
        id: 16 random bytes.
        year: Of its key.
        kept: When, in milliseconds since the epoch.
        found: Its reference under the year's key, by which it is found; 32 bytes.
        sealed: Nonce and ciphertext.
        by_case: Its reference and its case, under the year's key, by which the one case is found; 32 bytes, or None in
            what an older release kept.
    """

    id: bytes
    year: int
    kept: int
    found: bytes
    sealed: bytes
    by_case: bytes | None

    @property
    def bound(self) -> bytes:
        """What the ciphertext is bound to: everything that stands beside it."""
        return (
            self.id + self.year.to_bytes(4, "big") + self.kept.to_bytes(8, "big") + self.found + (self.by_case or b"")
        )


class YearKey:
    """The key of one year. Never printed.

    Args:
        year: In the city's time.
        key: 32 random bytes.
    """

    __slots__ = ("_aead", "_cases", "_index", "proof", "year")

    def __init__(self, year: int, key: bytes) -> None:
        self.year = year
        # A random nonce is good for 2³² receipts under one key: a year of more than a hundred a second.
        self._aead = AESGCM(hmac.digest(key, _SEAL_LABEL, "sha256"))
        self._index = hmac.digest(key, _INDEX_LABEL, "sha256")
        self._cases = hmac.digest(key, _CASE_LABEL, "sha256")
        self.proof = hmac.digest(key, _PROOF_LABEL, "sha256")
        """Tells this key from another, and nothing about it."""

    def found(self, reference: str) -> bytes:
        """Where the receipts of a reference stand; 32 bytes that only this key can make."""
        return hmac.digest(self._index, reference.encode(), "sha256")

    def by_case(self, reference: str, case: str) -> bytes:
        """Where the receipts of one case of a reference stand; 32 bytes that only this key can make."""
        return hmac.digest(self._cases, self.found(reference) + case.encode(), "sha256")

    def seal(self, plaintext: bytes, reference: str, case: str, kept: int) -> Sealed:
        """Encrypt one receipt."""
        found, by_case = self.found(reference), self.by_case(reference, case)
        return self.seal_again(plaintext, Sealed(secrets.token_bytes(16), self.year, kept, found, b"", by_case))

    def seal_again(self, plaintext: bytes, row: Sealed) -> Sealed:
        """Encrypt what a receipt has become, in the place of what it was."""
        nonce = os.urandom(NONCE_SIZE)
        return row._replace(sealed=nonce + self._aead.encrypt(nonce, plaintext, row.bound))

    def open(self, row: Sealed) -> bytes | None:
        """What a receipt says; None if the row, or any of it, is not as it was kept."""
        try:
            return self._aead.decrypt(row.sealed[:NONCE_SIZE], row.sealed[NONCE_SIZE:], row.bound)
        except (InvalidTag, OverflowError, ValueError):
            return None


class LostKeyError(FatalError):
    """INTERNAL: the file of a key is missing, broken or another's; nothing but its backup can help."""


class KeyFiles:
    """The directory of the keys.

    Args:
        directory: It must exist before a key is made.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, year: int) -> Path:
        """File of a year's key."""
        return self._directory / f"{year}.key"

    def make(self, year: int) -> YearKey:
        """A new key, durable before it is used; or the one that is there already.

        Raises:
            FatalError: INTERNAL: it cannot be made or read.
        """
        try:
            write_private(self.path(year), secrets.token_bytes(KEY_SIZE).hex().encode() + b"\n")
        except FileExistsError:
            pass
        except OSError as error:
            raise _broken(self.path(year), f"cannot be made: {error.strerror}") from None
        return self.read(year)

    def read(self, year: int) -> YearKey:
        """A key that must be there.

        Raises:
            LostKeyError: It is not there, or is no key.
            FatalError: INTERNAL: it can be read by others, or not at all.
        """
        try:
            content = read_private(self.path(year))
        except FileNotFoundError:
            raise _lost(self.path(year), "is not there", year) from None
        except PermissionError as error:
            raise FatalError(Reason.INTERNAL, str(error)) from None
        except OSError as error:
            raise _broken(self.path(year), f"cannot be read: {error.strerror}") from None
        if _FILE.fullmatch(content) is None:
            raise _lost(self.path(year), "is no key of ours", year)
        return YearKey(year, bytes.fromhex(content.decode()))

    def matching(self, year: int, proof: bytes) -> YearKey:
        """The key under which the receipts of a year were kept.

        Args:
            year: Of the receipts.
            proof: Of the key that is wanted.

        Raises:
            LostKeyError: It is not there, is no key, or is another.
            FatalError: INTERNAL: it can be read by others, or not at all.
        """
        key = self.read(year)
        if key.proof != proof:
            raise _lost(self.path(year), f"is another key than that of the receipts of {year}", year)
        return key

    def destroy(self, year: int) -> None:
        """Overwrite and remove a key, if it is there. What a disk or a backup keeps of it is theirs to erase.

        Raises:
            FatalError: INTERNAL: it cannot be removed.
        """
        path = self.path(year)
        try:
            with path.open("r+b") as file:
                file.write(os.urandom(2 * KEY_SIZE + 1))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            sync_path(self._directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _broken(path, f"cannot be removed: {error.strerror}") from None


def _lost(path: Path, what: str, year: int) -> LostKeyError:
    detail = f"the receipts' key {path} {what}; bring it back from its backup. {_LOST.format(year)}"
    return LostKeyError(Reason.INTERNAL, detail)


def _broken(path: Path, what: str) -> FatalError:
    return FatalError(Reason.INTERNAL, f"the receipts' key {path} {what}")
