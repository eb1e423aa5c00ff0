"""What a check of a bundle finds, and its first step: the files themselves, against the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from exchange.evidence import bundle

MAX_FILE: Final = 64 << 20
MAX_FILES: Final = 50_000
MAX_TOTAL: Final = 1 << 30
"""Bytes of all of them: they are held in memory."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that does not hold.

    Attributes:
        file: In which file.
        message: What is wrong.
    """

    file: str
    message: str


@dataclass(slots=True)
class Checked:
    """What a check found.

    Attributes:
        origin: Of the log.
        order: Number of the order.
        selected: What was selected, in words.
        manifest_hash: SHA-256 of its manifest.
        previous: That of the bundle before it, where several were made together; else empty.
        entries: How many entries were proved.
        production_index: Of the log's entry about the bundle; None if that does not hold.
        signatures: How many requesters' signatures were verified.
        witnesses: Who cosigned the checkpoint, of those whom the directory names.
        faults: What does not hold.
        notes: What one should know, and is no fault.
    """

    origin: str = ""
    order: str = ""
    selected: str = ""
    manifest_hash: bytes = b""
    previous: bytes = b""
    entries: int = 0
    production_index: int | None = None
    signatures: int = 0
    witnesses: tuple[str, ...] = ()
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fault(self, file: str, message: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(file, message))


class BrokenError(Exception):
    """Without this file nothing else can be checked."""

    def __init__(self, file: str, message: str) -> None:
        super().__init__(message)
        self.file = file
        self.message = message


def read_files(directory: Path) -> dict[str, bytes]:
    """Every file of a bundle, by name.

    Raises:
        BrokenError: Something in it is neither a file nor a directory, or is larger than any bundle.
    """
    files: dict[str, bytes] = {}
    total = 0
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise BrokenError(name, "is neither a file nor a directory")
        if path.is_file():
            total += path.stat().st_size
            if path.stat().st_size > MAX_FILE or len(files) >= MAX_FILES or total > MAX_TOTAL:
                raise BrokenError(name, "is larger, or one of more files, than any bundle has")
            files[name] = path.read_bytes()
    return files


def check_manifest(files: Mapping[str, bytes], found: Checked) -> None:
    """Hold the files against the manifest.

    Raises:
        BrokenError: There is none.
    """
    manifest = files.get(bundle.MANIFEST)
    if manifest is None:
        raise BrokenError(bundle.MANIFEST, "is missing: this is no bundle of evidence, or it never became whole")
    listed: dict[str, str] = {}
    for line in manifest.decode("utf-8", "replace").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    for name in sorted(listed.keys() | (files.keys() - bundle.AFTER)):
        if name not in files:
            found.fault(name, "is missing")
        elif name not in listed:
            found.fault(name, "is not listed in the manifest")
        elif sha256(files[name]).hexdigest() != listed[name]:
            found.fault(name, "is not the file that the manifest lists")
