"""A log as a directory of plain files, which any static file server can serve and other people's tools can verify.

The layout is that of `audit/layout.py`; beside it stand `certificate.pem`, the certificate of the key that signed the
checkpoint, and `log.vkey`, the same key as a note verifier takes it. A mirror grows: what was complete is never written
again. The checkpoint is written last, when everything else is on the disk, and a growing tile is taken away only once
the checkpoint that needs it is gone, so whoever reads meanwhile, or after a crash, finds everything that the checkpoint
in place stands for.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from audit import layout, tiles
from audit.checkpoint import Checkpoint, CheckpointError, open_note, parse_key, split_note
from audit.proofs import HeadChecker
from audit.tiles import TILE_WIDTH
from certs.identity import CA_CERTIFICATE
from certs.signing import MALFORMED, CertificateVerifier
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.identity import LOG_KEEPERS
from zhiwang.wire.kept import PUBLIC, sweep, sync_path, written_aside
from zhiwang.wire.vkey import VerifierKey

CERTIFICATE: Final = "certificate.pem"
VKEY: Final = "log.vkey"
PRIVATE: Final = 0o700
"""Of the directory with entries: they say who asked for what, the hashes say nothing."""


class Mirror:
    """A log in a directory, as far as it was written.

    Args:
        directory: Empty, or what was written before.
        entries: Whether the entries themselves are wanted, and not only the hashes.

    Attributes:
        edge: The right edge of the tree that is there, and what is added.

    Raises:
        FatalError: LOG_UNAVAILABLE: what is there does not hold, or is of the other kind.
    """

    def __init__(self, directory: Path, *, entries: bool) -> None:
        self._directory = directory
        self._keeps_entries = entries
        self._origin, self._written, self.edge = self._open()
        sweep(directory)
        # Entries of the bundle that is still growing.
        self._growing: list[bytes] = self._read_growing() if entries else []
        # Directories whose new names are not on the disk yet.
        self._touched: set[Path] = set()

    @property
    def origin(self) -> str:
        """Of the log that is there; empty for none."""
        return self._origin

    def take(self, entries: Sequence[bytes], edge: tiles.RightEdge) -> None:
        """Write what has become complete.

        Args:
            entries: That have just been added.
            edge: That they extended; `self.edge`.
        """
        for level, index in tiles.completed_tiles(edge.size - len(entries), edge.size):
            self._write(layout.tile_path(level, index), edge.tile(level, index))
        if not self._keeps_entries:
            return
        bundle = (edge.size - len(entries)) >> tiles.TILE_HEIGHT
        self._growing += entries
        while len(self._growing) >= TILE_WIDTH:
            self._write(layout.tile_path(layout.ENTRIES, bundle), layout.encode_bundle(self._growing[:TILE_WIDTH]))
            del self._growing[:TILE_WIDTH]
            bundle += 1

    def seal(self, head: audit_pb2.LogHead, checkpoint: Checkpoint, cosigned: bytes = b"") -> None:
        """Write what is growing, and the checkpoint over everything.

        Args:
            head: As it was signed; verified, and of exactly the tree that was taken.
            checkpoint: What it says.
            cosigned: The newest checkpoint that witnesses cosigned, of this tree or a smaller one, signed by the same
                key; empty to leave the one that is there.
        """
        if checkpoint.size != self.edge.size:
            raise ValueError("the checkpoint is not of the tree that was taken")
        for level, full, width in layout.widths(checkpoint.size):
            if width:
                first = full * TILE_WIDTH
                hashes = [self.edge.node(tiles.TILE_HEIGHT * level, first + i) for i in range(width)]
                self._write(layout.tile_path(level, full, width), b"".join(hashes))
        if self._growing:
            path = layout.tile_path(layout.ENTRIES, checkpoint.size >> tiles.TILE_HEIGHT, len(self._growing))
            self._write(path, layout.encode_bundle(self._growing))
        certificate = x509.load_der_x509_certificate(head.certificate)
        self._write(CERTIFICATE, certificate.public_bytes(Encoding.PEM))
        self._write(VKEY, f"{_vkey(checkpoint.origin, certificate)}\n".encode())
        self._settle()
        self._write(layout.CHECKPOINT, head.checkpoint)
        self._settle()
        if cosigned:
            self._write(layout.COSIGNED, cosigned)
            self._settle()
        self._forget_growing(self._written, checkpoint.size)
        self._origin, self._written = checkpoint.origin, checkpoint.size

    def _open(self) -> tuple[str, int, tiles.RightEdge]:
        path = self._directory / layout.CHECKPOINT
        if not path.exists():
            if any(path.parent.iterdir()) if path.parent.is_dir() else False:
                raise _wrong(f"{self._directory} is not empty and holds no log; give an empty directory")
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._keeps_entries:
                (path.parent / "tile" / layout.ENTRIES).mkdir(mode=PRIVATE, parents=True)
            return "", 0, tiles.RightEdge()
        has_entries = (self._directory / "tile" / layout.ENTRIES).is_dir()
        if has_entries != self._keeps_entries:
            kind = "with" if has_entries else "without"
            raise _wrong(f"{self._directory} is a log {kind} entries; go on as it was begun, or give another directory")
        try:
            checkpoint = Checkpoint.parse(split_note(path.read_bytes())[0])
            unfinished = []
            for level, full, width in layout.widths(checkpoint.size):
                tile = b""
                if width:
                    tile = (self._directory / layout.tile_path(level, full, width)).read_bytes()
                unfinished.append(tiles.split_tile(tile))
            edge = tiles.RightEdge(checkpoint.size, unfinished)
            whole = tiles.root(checkpoint.size, edge.node) == checkpoint.root
        except (OSError, CheckpointError, ValueError, KeyError):
            whole = False
        if not whole:
            raise _wrong(f"what is in {self._directory} does not hold; see: zhiwang audit fsck {self._directory}")
        return checkpoint.origin, checkpoint.size, edge

    def _read_growing(self) -> list[bytes]:
        width = self._written % TILE_WIDTH
        if not width:
            return []
        path = self._directory / layout.tile_path(layout.ENTRIES, self._written >> tiles.TILE_HEIGHT, width)
        try:
            entries = layout.decode_bundle(path.read_bytes())
            held = [merkle.leaf_hash(entry) for entry in islice(entries, width)]
            first = self._written - width
            whole = len(entries) == width and held == [self.edge.node(0, first + i) for i in range(width)]
        except (OSError, layout.LayoutError):
            whole = False
        if not whole:
            raise _wrong(f"{path} does not hold; see: zhiwang audit fsck {self._directory}")
        return entries

    def _write(self, name: str, data: bytes) -> None:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path, data, mode=PUBLIC) as aside:
            aside.replace(path)
        directory = path.parent
        while directory not in self._touched and directory.is_relative_to(self._directory):
            self._touched.add(directory)
            directory = directory.parent

    def _settle(self) -> None:
        """Bring the names of everything that was written to the disk."""
        for directory in self._touched:
            sync_path(directory)
        self._touched.clear()

    def _forget_growing(self, old: int, new: int) -> None:
        """Take away the growing tiles of the checkpoint before, but for those of the same width."""
        kept = {(level, full, width) for level, full, width in layout.widths(new)}
        for level, full, width in layout.widths(old):
            if not width or (level, full, width) in kept:
                continue
            for kind in (level, layout.ENTRIES) if level == 0 else (level,):
                path = self._directory / layout.tile_path(kind, full, width)
                path.unlink(missing_ok=True)
                if not any(path.parent.iterdir() if path.parent.is_dir() else ()):
                    shutil.rmtree(path.parent, ignore_errors=True)


def vkey_of(origin: str, certificate_pem: bytes) -> str:
    """What `log.vkey` must say of a log whose certificate this is; empty if it is no certificate of a log's key."""
    try:
        return _vkey(origin, x509.load_pem_x509_certificate(certificate_pem))
    except (*MALFORMED, FatalError):
        return ""


def _vkey(origin: str, certificate: x509.Certificate) -> str:
    """The key of a log as tools for signed notes take it (https://c2sp.org/signed-note, "verifier keys").

    Raises:
        FatalError: CERTIFICATE_INVALID: the certificate is not of an Ed25519 key.
    """
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{origin}: the log's key is not Ed25519")
    return str(VerifierKey(origin, key.public_bytes_raw()))


def verify_by_key(note: bytes, key: str) -> Checkpoint:
    """The checkpoint that a verifier key has signed.

    Raises:
        CheckpointError: It has not, or is no key.
    """
    parsed = parse_key(key)
    return open_note(note, parsed.name, parsed.public_key_raw)


def verify_by_root(note: bytes, certificate_pem: bytes | None, root: Path) -> Checkpoint:
    """The checkpoint that a hub or an adapter of this city signed while its certificate held.

    Revocation is not asked about: a log whose key was revoked later is still to be read.

    Args:
        note: Signed.
        certificate_pem: Of the key that signed it; None if it is missing.
        root: The pinned root directory.

    Raises:
        RefusedError: PROOF_INVALID, CERTIFICATE_INVALID.
        CheckpointError: There is no certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem or b"")
    except MALFORMED:
        raise CheckpointError(f"{CERTIFICATE} is missing or damaged") from None
    verifier = CertificateVerifier((root / CA_CERTIFICATE).read_bytes(), frozenset)
    # An old log's last checkpoint outlives the certificate: what counts is that it was this city's.
    at = certificate.not_valid_after_utc.timestamp() - 1
    checker = HeadChecker(verifier, kinds=LOG_KEEPERS, clock=lambda: at)
    return checker.check(audit_pb2.LogHead(checkpoint=note, certificate=certificate.public_bytes(Encoding.DER)))


def _wrong(detail: str) -> FatalError:
    return FatalError(Reason.INTERNAL, detail)
