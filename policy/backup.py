"""Backup and restore of the registrar's state, so that a restored registrar never signs numbers that readers have seen.

What the registrar keeps beside its keys is public and signed, and every reader has it: whoever would refuse an older
directory is the one who has the newer. So a registrar is restored from a backup and from what readers have, and begins
with the newest that any of them has seen. Its two keys are in a backup only if that is asked for; without them new keys
are made, which the root keys must put in force (`zhiwang policy renew-root`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib import parse

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from certs.credentials import IdentityFiles
from certs.identity import CA_CERTIFICATE, ROOT_METADATA, Kind
from policy import guard
from policy.guard import GUARD
from policy.keys import RegistrarKeys
from policy.metadata import check_signed_root, parse_metadata, stored_path
from policy.registrar import KEYS, PUBLIC_KEYS, REPOSITORY, write_public_keys
from policy.repository import Repository
from zhiwang.wire import archive
from zhiwang.wire.archive import Manifest
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.process import ADDRESS_FILE, locked_state
from zhiwang.wire.profile import Profile

_REGISTRAR = "registrar"
_TIMESTAMP = "metadata/timestamp.json"
_ATTEMPTS = 10
_PAUSE = 0.2
"""How often, and after how many seconds, a repository is read anew because the registrar published meanwhile."""

Source = Callable[[str], Path]
"""Where a copy of the directory keeps the file of a repository path; it may not be there."""


@dataclass(frozen=True, slots=True)
class SignedSet:
    """One version of the whole directory, every byte of which the pinned root leads to.

    Attributes:
        files: By repository path.
        timestamp: Version of the timestamp.
        snapshot: Version of the snapshot.
    """

    files: dict[str, bytes]
    timestamp: int
    snapshot: int


def repository_at(directory: Path) -> Source:
    """A registrar's repository."""
    return lambda path: directory / path


def reader_at(directory: Path) -> Source:
    """The directory as a hub, an adapter or an agent keeps it: `directory` in its state."""

    def place(path: str) -> Path:
        folder, _, name = path.partition("/")
        if folder == "targets":
            within, _, hashed = name.rpartition("/")
            plain = hashed.partition(".")[2]
            return directory / "targets" / parse.quote(f"{within}/{plain}" if within else plain, "")
        if name.endswith(".root.json"):
            return directory / "metadata" / "root_history" / name
        return directory / "metadata" / (name if path == _TIMESTAMP else name.partition(".")[2])

    return place


def newest_set(root_json: bytes, sources: Sequence[Source]) -> SignedSet | None:
    """The newest set that any of these copies has seen, put together from all of them.

    Expiry is no matter here: the registrar may have been away for longer than a timestamp lives.

    Args:
        root_json: The pinned root.
        sources: Copies; none is trusted.

    Returns:
        None if nobody has a timestamp: nothing was ever published.

    Raises:
        FatalError: METADATA_INVALID: no root verifies, two timestamps of one version were signed, or the newest set
            cannot be completed.
    """
    roots = list(_roots(root_json, sources))
    root: Root = parse_metadata(roots[-1], Root).signed
    newest: tuple[int, bytes] | None = None
    for data in _found(_TIMESTAMP, sources):
        try:
            metadata = parse_metadata(data, Timestamp)
            root.verify_delegate("timestamp", metadata.signed_bytes, metadata.signatures)
        except (RefusedError, RepositoryError):
            continue  # half a file, or of keys that the root names no longer
        version = metadata.signed.version
        if newest is not None and version == newest[0] and data != newest[1]:
            raise FatalError(
                Reason.METADATA_INVALID,
                f"two timestamps of version {version} were signed; ask the centre's admins and the audit office",
            )
        if newest is None or version > newest[0]:
            newest = version, data
    if newest is None:
        return None
    files = {f"metadata/{parse_metadata(data, Root).signed.version}.root.json": data for data in roots}
    listed = parse_metadata(newest[1], Timestamp).signed.snapshot_meta
    snapshot_path = f"metadata/{listed.version}.snapshot.json"
    files[snapshot_path] = _matching(snapshot_path, sources, listed.verify_length_and_hashes)
    snapshot = parse_metadata(files[snapshot_path], Snapshot)
    root.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
    for name, meta in snapshot.signed.meta.items():
        path = f"metadata/{meta.version}.{name}"
        files[path] = _matching(path, sources, meta.verify_length_and_hashes)
        for target_path, target in parse_metadata(files[path], Targets).signed.targets.items():
            stored = stored_path(target_path, target.hashes["sha256"])
            files[stored] = _matching(stored, sources, target.verify_length_and_hashes)
    files[_TIMESTAMP] = newest[1]
    return SignedSet(files, newest[0], snapshot.signed.version)


def _roots(root_json: bytes, sources: Sequence[Source]) -> Iterator[bytes]:
    """The pinned root and each later one that the one before it signed."""
    try:
        check_signed_root(root_json)
    except RefusedError as error:
        raise FatalError(error.reason, error.detail) from error
    while True:
        yield root_json
        old: Root = parse_metadata(root_json, Root).signed
        for data in _found(f"metadata/{old.version + 1}.root.json", sources):
            try:
                metadata = parse_metadata(data, Root)
                old.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
                metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
            except (RefusedError, RepositoryError):
                continue
            if metadata.signed.version == old.version + 1:
                root_json = data
                break
        else:
            return


def _found(path: str, sources: Sequence[Source]) -> Iterator[bytes]:
    for source in sources:
        try:
            yield source(path).read_bytes()
        except OSError:
            continue


def _matching(path: str, sources: Sequence[Source], check: Callable[[bytes], None]) -> bytes:
    for data in _found(path, sources):
        try:
            check(data)
        except RepositoryError:
            continue
        return data
    raise FatalError(
        Reason.METADATA_INVALID,
        f"{path} belongs to the newest set that was seen, and nobody has it; give the copies of more readers",
    )


# Backup and restore --------------------------------------------------------------------------------------------------


def back_up(
    profile: Profile,
    out: Path,
    *,
    with_keys: bool,
    skip: Collection[str] = (),
    more: Callable[[Path], Mapping[str, str | int]] = lambda _: {},
) -> Manifest:
    """Write a backup of the registrar, while it runs or not.

    Args:
        profile: The registrar's.
        out: The file to make.
        with_keys: Whether the keys of snapshot and timestamp go into it.
        skip: Names in the state that are not copied as they are.
        more: Puts further files into the directory that it is given, and says what is to be known of them.

    Raises:
        FatalError: There is no such state, what it holds does not verify, or `out` exists.
        OSError: `out` cannot be written.
    """
    identity = _identity(profile)
    root_json = (profile.root / ROOT_METADATA).read_bytes()

    def fill(stage: Path) -> dict[str, str | int]:
        found = _consistent(root_json, profile.state / REPOSITORY)
        _write_set(stage / REPOSITORY, found)
        archive.copy_tree(profile.state, stage, skip={REPOSITORY, KEYS, ADDRESS_FILE, *skip, *archive.KEPT})
        if with_keys:
            RegistrarKeys.load(profile.state / KEYS)  # they are there, and nobody else can read them
            archive.copy_tree(profile.state / KEYS, stage / KEYS)
        facts: dict[str, str | int] = {"keys": "included" if with_keys else "not included", **more(stage)}
        return facts if found is None else {**facts, "timestamp": found.timestamp, "snapshot": found.snapshot}

    return archive.pack(out, fill, kind=_REGISTRAR, identity=identity, now=time.time())


def restore(
    profile: Profile,
    source: Path,
    readers: Sequence[Path],
    *,
    predecessor: str = "",
    take: Callable[[Path], None] = lambda _: None,
) -> tuple[SignedSet | None, bool]:
    """Restore the registrar into an empty state, at the newest directory that backup or readers have seen.

    Args:
        profile: The registrar's; its certificates are there already, renewed or new.
        source: The backup.
        readers: `directory` in the states of readers, best of every hub.
        predecessor: Whose backup it is, if this registrar goes on under another name.
        take: Is given the directory with the backup's files, checks the rest of them, and raises if they do not hold.

    Returns:
        What it goes on from, and whether new keys were made: the next root must put them in force.

    Raises:
        FatalError: The state is not empty, the backup does not hold, or the newest set cannot be put together. Nothing
            has changed then.
        OSError: Something cannot be read or written.
    """
    identity = _identity(profile)
    root_json = (profile.root / ROOT_METADATA).read_bytes()
    for reader in readers:
        if not (reader / "metadata").is_dir():
            raise FatalError(Reason.INTERNAL, f"{reader} is not the `directory` of a hub, an adapter or an agent")
    profile.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        locked_state(profile.state),
        archive.restoring(source, profile.state, kind=_REGISTRAR, identity=predecessor or identity) as stage,
    ):
        kept = stage / "kept"
        if (stage / REPOSITORY).exists():
            (stage / REPOSITORY).rename(kept)
        found = newest_set(root_json, [*map(reader_at, readers), repository_at(kept)])
        _write_set(stage / REPOSITORY, found)
        shutil.rmtree(kept, ignore_errors=True)
        renewed = not (stage / KEYS).exists()
        keys = RegistrarKeys.create(stage / KEYS) if renewed else RegistrarKeys.load(stage / KEYS)
        write_public_keys(stage / PUBLIC_KEYS, keys)
        # Holds together as the registrar itself reads it, and reaches what its guard remembers, if that is left.
        Repository(stage / REPOSITORY, root_json, keys, (profile.root / CA_CERTIFICATE).read_bytes())
        newest = b"" if found is None else found.files[_TIMESTAMP]
        if (profile.state / GUARD).exists():
            guard.check(profile.state / GUARD, newest or None)
        take(stage)
    guard.make(profile.state / GUARD, newest)
    return found, renewed


def _identity(profile: Profile) -> str:
    identity = IdentityFiles(profile.identity, profile.root).identity
    if identity.kind is not Kind.REGISTRAR:
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{identity.short} is no registrar; is this the right profile?")
    return identity.log_origin


def _consistent(root_json: bytes, repository: Path) -> SignedSet | None:
    """The set in a repository whose registrar may be publishing: it writes the timestamp last, then removes files."""
    if not repository.is_dir():
        raise FatalError(Reason.INTERNAL, f"there is no repository at {repository}")
    for _ in range(_ATTEMPTS):
        try:
            return newest_set(root_json, [repository_at(repository)])
        except FatalError:
            time.sleep(_PAUSE)
    return newest_set(root_json, [repository_at(repository)])


def _write_set(repository: Path, found: SignedSet | None) -> None:
    Repository.create(repository)
    for path, content in ({} if found is None else found.files).items():
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_bytes(content)
