"""A backup of one process's state: a single tar file that names and hashes everything in it.

The first member is `manifest.json`; it says whose state this is, when it was taken, and size and SHA-256 of every other
member. Any `tar` can list it, and nothing is ever unpacked but what the manifest names. What belongs into a backup and
what a restored state may be used for is decided by whoever keeps that state (`audit/backup.py`, `policy/backup.py`).

Who is trusted with what: whoever reads a backup has what it holds, so it is made readable by its owner only (0600) and
belongs on storage that is trusted as much as the state itself. Whoever can write it can change it and its manifest
alike; a log in it is believed because it is signed, not because its hash is right.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, NoReturn

from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.kept import sync_path

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST = 16 * 1024 * 1024
"""Longest manifest in bytes."""

KEPT = frozenset({"guard", "lock", "lost+found"})
"""What may stand in a state directory that counts as empty: the guard is best on storage of its own, mounted there.

What stays there in a restore is in no backup."""

_STAGE = ".restoring"
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
_NAME = re.compile(r"(?:[A-Za-z0-9_%+-][A-Za-z0-9._%+-]*/)*[A-Za-z0-9_%+-][A-Za-z0-9._%+-]*")
"""Names of members: no leading dot, so nothing climbs out of a directory or hides in it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a backup.

    Attributes:
        size: In bytes.
        sha256: In hex.
    """

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        kind: Of the process: "hub", "adapter", "registrar", "agent".
        identity: Whose state this is, as a log's origin is written: "shenzhen/hrss/adapter/main".
        time: When it was taken, in seconds since the epoch.
        files: By name.
        facts: What else the person should see, e.g. size of the log; decides nothing.
    """

    kind: str
    identity: str
    time: int
    files: Mapping[str, Member]
    facts: Mapping[str, str | int]


def pack(
    out: Path, fill: Callable[[Path], Mapping[str, str | int]], *, kind: str, identity: str, now: float
) -> Manifest:
    """Write a backup of the files that `fill` puts into a directory; whole and durable, or not at all.

    Args:
        out: The file to make; nothing is ever overwritten. The space of two backups is needed beside it meanwhile.
        fill: Puts copies of the files into the directory that it is given, and returns the manifest's facts.
        kind: Of the process.
        identity: Whose state it is.
        now: Seconds since the epoch.

    Raises:
        FatalError: INTERNAL: `out` exists, also if it was made meanwhile; a file has a name that no backup may hold; or
            the file system of `out` knows no hard links.
        OSError: It cannot be written.
    """
    if out.exists():
        _fail(f"{out} exists; a backup never overwrites anything. Name another file")
    with _scratch(out.with_name(f".{out.name}.{secrets.token_hex(4)}")) as scratch:
        stage = scratch / "files"
        stage.mkdir(mode=_DIRECTORY_MODE)
        facts = fill(stage)
        names = sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file())
        if odd := [name for name in names if not _allowed(name)]:
            _fail(f"{odd[0]} is a name that no backup may hold")
        manifest = Manifest(kind, identity, int(now), {name: _measured(stage / name) for name in names}, dict(facts))
        draft = scratch / "draft"
        with _created(draft) as file:
            _write_tar(file, stage, manifest)
        _publish(draft, out)
    sync_path(out.parent)
    return manifest


def read_manifest(source: Path) -> Manifest:
    """What a backup says of itself.

    Raises:
        FatalError: INTERNAL: it is none.
        OSError: It cannot be read.
    """
    with _opened(source) as tar:
        return _manifest(tar, source)


def unpack(source: Path, into: Path) -> Manifest:
    """Unpack a backup into an empty directory; every file is what the manifest says, or nothing is left.

    Args:
        source: The backup.
        into: To be made.

    Raises:
        FatalError: INTERNAL: it is no backup, or damaged.
        OSError: It cannot be read, or written.
    """
    into.mkdir(mode=_DIRECTORY_MODE)
    try:
        with _opened(source) as tar:
            manifest = _manifest(tar, source)
            missing = dict(manifest.files)
            while (info := tar.next()) is not None:
                member = missing.pop(info.name, None)
                content = _content(tar, info)
                if member is None or content is None or info.size != member.size:
                    _fail(f"{source.name} is damaged: it holds something that its manifest does not name")
                for parent in reversed((into / info.name).relative_to(into).parents):
                    (into / parent).mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
                _unpack_one(content, into / info.name, member, source)
            if missing:
                _fail(f"{source.name} is damaged: {min(missing)} is missing")
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return manifest


@contextmanager
def restoring(source: Path, state: Path, *, kind: str, identity: str) -> Iterator[Path]:
    """A directory within an empty state with the files of a backup, to be judged; then they become the state.

    What the caller raises leaves the state as it was. What makes the process able to start should be written to the
    state only after this has returned.

    Args:
        source: The backup.
        state: The state directory, held by us; empty but for what `KEPT` names.
        kind: Of the process.
        identity: Whose state it must be.

    Raises:
        FatalError: INTERNAL: no backup, a damaged one, or one of another process; or the state is not empty.
        OSError: Something cannot be read or written.
    """
    manifest = read_manifest(source)
    if (manifest.kind, manifest.identity) != (kind, identity):
        _fail(
            f"{source.name} is the backup of {manifest.kind} {manifest.identity}, and this profile is that of "
            f"{kind} {identity}"
        )
    with installing(state) as stage:
        unpack(source, stage)
        yield stage


@contextmanager
def installing(state: Path) -> Iterator[Path]:
    """A directory within an empty state that the caller makes and fills; then what it holds becomes the state, durably.

    What the caller raises leaves the state as it was. What lies beside that directory is thrown away in any case.

    Args:
        state: The state directory, held by us; empty but for what `KEPT` names.

    Raises:
        FatalError: INTERNAL: the state is not empty.
        OSError: Something cannot be written.
    """
    there = sorted(path.name for path in state.iterdir() if path.name not in KEPT)
    if there:
        _fail(
            f"{state} is not empty ({', '.join(there[:3])}); a state is made from a backup in an empty directory only. "
            "Move what is there away, and keep it: it may be newer than the backup"
        )
    # Within the state, since the directory that holds the state is often not ours to write to.
    with _scratch(state / _STAGE) as scratch:
        stage = scratch / "files"
        yield stage
        _sync_tree(stage)
        # Databases last: a state that is half in place must not start.
        for path in sorted(stage.iterdir(), key=lambda path: (path.suffix == ".db", path.name)):
            path.rename(state / path.name)
    sync_path(state)


def copy_tree(source: Path, target: Path, *, skip: Collection[str] = ()) -> None:
    """Copy the regular files of a directory, if it exists. One that is replaced meanwhile is copied before or after.

    Files whose names begin with a dot are drafts of files that are being replaced; they are left out.

    Args:
        source: Directory.
        target: Directory to be made.
        skip: Names to leave out, at any depth, e.g. "lock".
    """
    target.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        if path.name.startswith(".") or path.name in skip:
            continue
        try:
            if path.is_symlink() and path.is_file():
                # TUF's client points to its newest root this way; what it points to is what counts.
                shutil.copyfile(path.resolve(strict=True), target / path.name)
            elif path.is_file():
                shutil.copyfile(path, target / path.name)
            elif path.is_dir():
                copy_tree(path, target / path.name, skip=skip)
        except FileNotFoundError:
            continue  # taken away since the directory was listed


# Inside --------------------------------------------------------------------------------------------------------------


def _write_tar(file: IO[bytes], stage: Path, manifest: Manifest) -> None:
    head = {"format": FORMAT, "zhiwang": version("zhiwang"), **asdict(manifest)}
    text = json.dumps(head, ensure_ascii=False, indent=1).encode() + b"\n"
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, MANIFEST, len(text), manifest.time, io.BytesIO(text))
        for name, member in manifest.files.items():
            with (stage / name).open("rb") as content:
                _add(tar, name, member.size, manifest.time, content)


def _add(tar: tarfile.TarFile, name: str, size: int, time: int, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, time, _FILE_MODE
    tar.addfile(info, content)


@contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        # Not "r:*": what decompresses can grow without bound, and we write none.
        with tarfile.open(source, mode="r:") as tar:
            yield tar
    # `tarfile` lets the others through where a header holds a number that is none, or one beyond every file.
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise FatalError(Reason.INTERNAL, f"{source.name} is no backup, or it is damaged: {error}") from None


def _manifest(tar: tarfile.TarFile, source: Path) -> Manifest:
    first = tar.next()
    content = _content(tar, first) if first is not None and first.size <= MAX_MANIFEST else None
    if first is None or first.name != MANIFEST or content is None:
        _fail(f"{source.name} is no backup of ours: its first member is not {MANIFEST}")
    try:
        head = json.loads(content.read())
        if head["format"] != FORMAT:
            _fail(f"{source.name} has format {head['format']}; this release reads format {FORMAT}")
        files = {str(name): Member(int(one["size"]), str(one["sha256"])) for name, one in head["files"].items()}
        manifest = Manifest(str(head["kind"]), str(head["identity"]), int(head["time"]), files, dict(head["facts"]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        _fail(f"{source.name} is damaged: its manifest cannot be read")
    if not all(map(_allowed, files)):
        _fail(f"{source.name} names a file that no backup may hold")
    if sum(member.size for member in files.values()) > source.stat().st_size:
        _fail(f"{source.name} is damaged: its manifest names more than it can hold")
    return manifest


def _allowed(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name.partition("/")[0] not in KEPT


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes] | None:
    """What a member holds; None for all but plain files. A sparse one would grow on its way out, and we write none."""
    return tar.extractfile(info) if info.isreg() and not info.issparse() else None


def _publish(draft: Path, out: Path) -> None:
    """Give a whole file its name, if nothing has it: a link fails where a renaming would replace."""
    try:
        os.link(draft, out)
    except FileExistsError:
        _fail(f"{out} was made by somebody else meanwhile; a backup never overwrites anything. Name another file")
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
            raise
        _fail(f"the file system of {out.parent} knows no hard links; write the backup to another one, and copy it")


def _unpack_one(content: IO[bytes], target: Path, member: Member, source: Path) -> None:
    with _created(target) as file:
        shutil.copyfileobj(content, file)
    if _measured(target) != member:
        _fail(f"{source.name} is damaged: {target.name} is not what the manifest says")


def _measured(path: Path) -> Member:
    with path.open("rb") as file:
        return Member(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())


@contextmanager
def _created(path: Path) -> Iterator[IO[bytes]]:
    """A new file, readable by its owner only, durable when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        yield file
        file.flush()
        os.fsync(descriptor)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    path.mkdir(mode=_DIRECTORY_MODE)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sync_tree(directory: Path) -> None:
    """Make names durable, and what was changed since it was unpacked (a database that was opened and closed)."""
    for path in (directory, *directory.rglob("*")):
        sync_path(path)


def _fail(detail: str) -> NoReturn:
    raise FatalError(Reason.INTERNAL, detail)
