"""The registrar's repository: takes in what departments sign, and signs the snapshot that makes it public.

Trusted with freshness and consistency only: its two keys sign snapshot and timestamp. It cannot grant anything, since
readers verify the departments' signatures themselves. A change is all or nothing: everything is checked in memory, a
real client reads the candidate in a scratch directory, then the files are written and last of all, in one rename, the
timestamp. What is checked stands in `admission.py` (the one role) and `coherence.py` (the whole). Not safe for several
processes: one registrar owns the directory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import structlog
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from policy.admission import Admission, Signed, opened
from policy.assemble import assemble
from policy.coherence import judge
from policy.contents import Contents
from policy.directory import DirectoryClient
from policy.findings import refuse
from policy.keys import RegistrarKeys
from policy.metadata import (
    CENTRE,
    DAY,
    EMERGENCY,
    Publication,
    activations_path,
    check_signed_root,
    meta_file,
    moment,
    parse_metadata,
    signed,
    stored_path,
)
from policy.model import Activation, Directory
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.kept import sweep, write_durably

TIMESTAMP_LIFETIME = DAY
SNAPSHOT_LIFETIME = 30 * DAY
"""Seconds for which what the registrar signs is good. The timestamp's is how long a change can be withheld."""

RESIGN_SECONDS = 6 * 3600
"""How old a timestamp gets before it is signed anew."""

_log = structlog.get_logger(__name__)


class Repository:
    """The directory's files on disk.

    Args:
        directory: Made by `create`.
        root_json: The pinned root; an empty repository begins under it.
        keys: Of snapshot and timestamp.
        ca_pem: The pinned authority, for revocation lists.
        clock: Gives the time.

    Raises:
        FatalError: INTERNAL, if there is no repository, or what lies on disk does not verify.
    """

    def __init__(
        self,
        directory: Path,
        root_json: bytes,
        keys: RegistrarKeys,
        ca_pem: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = directory
        self._keys = keys
        self._ca_pem = ca_pem
        self._clock = clock
        self._contents = self._read(root_json)
        # Whatever its age: the registrar may have been down for longer than a timestamp lives, and signs anew at once.
        self._directory = None if self._contents.timestamp is None else self._assembled(self._contents)
        sweep(directory)

    @staticmethod
    def create(directory: Path) -> None:
        """Makes an empty repository.

        Raises:
            FileExistsError: There is something already.
        """
        (directory / "metadata").mkdir(parents=True)
        (directory / "targets").mkdir()

    @property
    def directory(self) -> Directory | None:
        """What is in force; None before the centre has published."""
        return self._directory

    @property
    def files(self) -> Mapping[str, bytes]:
        """All files that a reader needs, by repository path."""
        return MappingProxyType(self._contents.files())

    def publish(self, publication: Publication) -> Directory:
        """Takes new metadata of one role and its files, if everything holds, and makes it public.

        Returns:
            What is in force from here on.

        Raises:
            RefusedError: METADATA_INVALID, DOCUMENT_INVALID or ASSERTION_FAILED. Nothing has changed then.
        """
        now = self._clock()
        is_root = publication.role == "root"
        admission = self._admission(now)
        candidate = admission.with_root(publication) if is_root else admission.with_role(publication)
        if CENTRE not in candidate.metadata:
            refuse("the centre has to publish first")
        candidate = self._sign(candidate, now, snapshot=True)
        directory = judge(candidate, self._directory, publication.role, self._ca_pem, now)
        self._rehearse(candidate)
        self._write(candidate)
        self._directory = directory
        _log.info(
            "published",
            role=publication.role,
            version=directory.role_versions.get(publication.role),
            directory=directory.version,
        )
        return directory

    def examine(self, publication: Publication) -> Signed:
        """Checks new metadata of one role as `publish` does, but for the number of signatures. Changes nothing.

        Raises:
            RefusedError: As `publish`; METADATA_INVALID also if no key of the role has signed it.
        """
        if publication.role == "root":
            refuse("a root is signed offline and published at once")
        now = self._clock()
        admission = self._admission(now)
        candidate = admission.with_role(publication, whole=False)
        if CENTRE not in candidate.metadata:
            refuse("the centre has to publish first")
        candidate = self._sign(candidate, now, snapshot=True)
        judge(candidate, self._directory, publication.role, self._ca_pem, now, unsigned=publication.role)
        return admission.signed(publication)

    def opening(self, publication: Publication) -> Activation:
        """Checks what would open an emergency, as `examine` does.

        Returns:
            What it opens.

        Raises:
            RefusedError: As `examine`.
        """
        role = publication.role
        department = role.removesuffix(EMERGENCY)
        if role == department:
            refuse(f"{role[:64]!r} opens no emergency")
        self.examine(publication)
        path = activations_path(department)
        before = opened(self._contents.targets.get(path))
        (found,) = (entry for entry in opened(publication.files.get(path)) if entry not in before)
        return found

    @property
    def openings(self) -> list[Activation]:
        """What departments list as opened, in force, shut or over."""
        files = self._contents.targets
        departments = [role.removesuffix(EMERGENCY) for role in self._contents.metadata if role.endswith(EMERGENCY)]
        return [entry for name in sorted(departments) for entry in opened(files.get(activations_path(name)))]

    def publications(self) -> list[Publication]:
        """The metadata of each role that is in force, without files; the newest root first."""
        found = [Publication("root", self._contents.roots[-1], {})]
        return found + [Publication(role, data, {}) for role, data in self._contents.metadata.items()]

    def resign(self) -> None:
        """Signs a newer timestamp (and snapshot, if it gets old) over what is in force; nothing before the first."""
        contents = self._contents
        if contents.snapshot is None:
            return
        now = self._clock()
        expires = parse_metadata(contents.snapshot, Snapshot).signed.expires.timestamp()
        candidate = self._sign(contents, now, snapshot=expires - now < SNAPSHOT_LIFETIME / 2)
        directory = self._assembled(candidate)
        self._rehearse(candidate)
        self._write(candidate)
        self._directory = directory

    def signed(self, publication: Publication) -> Signed:
        """Who has signed metadata of a role, by the keys that the directory in force delegates to.

        Raises:
            RefusedError: METADATA_INVALID: nobody delegates to the role, or it is no metadata.
        """
        return self._admission(self._clock()).signed(publication)

    def _admission(self, now: float) -> Admission:
        return Admission(self._contents, self._directory, self._ca_pem, now)

    def _assembled(self, contents: Contents) -> Directory:
        return assemble(contents.parts(self._clock()), self._ca_pem)

    def _sign(self, contents: Contents, now: float, *, snapshot: bool) -> Contents:
        if snapshot or contents.snapshot is None:
            version = 1 if contents.snapshot is None else parse_metadata(contents.snapshot, Snapshot).signed.version + 1
            meta = {
                f"{name}.json": meta_file(parse_metadata(data, Targets).signed.version, data)
                for name, data in contents.metadata.items()
            }
            new = Snapshot(version=version, expires=moment(now + SNAPSHOT_LIFETIME), meta=meta)
            contents = replace(contents, snapshot=signed(Metadata(new), [self._keys.snapshot]))
        version = 1 if contents.timestamp is None else parse_metadata(contents.timestamp, Timestamp).signed.version + 1
        assert contents.snapshot is not None  # noqa: S101 # signed above; this only tells mypy
        of = meta_file(parse_metadata(contents.snapshot, Snapshot).signed.version, contents.snapshot)
        timestamp = Timestamp(version=version, expires=moment(now + TIMESTAMP_LIFETIME), snapshot_meta=of)
        return replace(contents, timestamp=signed(Metadata(timestamp), [self._keys.timestamp]))

    def _rehearse(self, candidate: Contents) -> None:
        """Lets a real client read the candidate, so that nothing goes out that readers would refuse."""
        files = candidate.files()

        def fetch(path: str) -> bytes:
            if path not in files:
                raise RefusedError(Reason.FILE_UNKNOWN, path)
            return files[path]

        with tempfile.TemporaryDirectory(prefix="rehearsal-", dir=self._path) as scratch:
            try:
                DirectoryClient(candidate.roots[0], self._ca_pem, Path(scratch), fetch).refresh()
            except (FatalError, RefusedError) as error:
                raise RefusedError(Reason.METADATA_INVALID, f"a reader would refuse it: {error.detail}") from error

    # Disk ------------------------------------------------------------------------------------------------------------

    def _write(self, contents: Contents) -> None:
        """Writes what is missing, the timestamp last; then forgets files that nothing lists any more."""
        files = contents.files()
        before = self._contents.files()
        for path, content in files.items():
            target = self._path / path
            if path != "metadata/timestamp.json" and (before.get(path) != content or not target.exists()):
                write_durably(target, content)
        if contents.timestamp is not None:
            write_durably(self._path / "metadata" / "timestamp.json", contents.timestamp)
        self._contents = contents
        try:
            for path in set(before) - set(files):
                (self._path / path).unlink(missing_ok=True)
        except OSError as error:
            # The change is public; a file that nothing lists any more does no harm.
            _log.warning("an old file of the repository cannot be removed", error=type(error).__name__)

    def _read(self, root_json: bytes) -> Contents:
        metadata = self._path / "metadata"
        if not metadata.is_dir():
            raise FatalError(Reason.INTERNAL, "there is no repository; `zhiwang registrar init` makes one")
        roots = tuple(
            path.read_bytes() for path in sorted(metadata.glob("*.root.json"), key=lambda p: int(p.name.split(".")[0]))
        )
        if not roots:
            check_signed_root(root_json)
            roots = (root_json,)
            write_durably(metadata / f"{parse_metadata(root_json, Root).signed.version}.root.json", root_json)
        contents = Contents(roots)
        if not (metadata / "timestamp.json").exists():
            return contents
        timestamp = (metadata / "timestamp.json").read_bytes()
        version = parse_metadata(timestamp, Timestamp).signed.snapshot_meta.version
        snapshot = (metadata / f"{version}.snapshot.json").read_bytes()
        roles = {}
        targets = {}
        for name, meta in parse_metadata(snapshot, Snapshot).signed.meta.items():
            role = name.removesuffix(".json")
            roles[role] = (metadata / f"{meta.version}.{name}").read_bytes()
            for path, target in parse_metadata(roles[role], Targets).signed.targets.items():
                targets[path] = (self._path / stored_path(path, target.hashes["sha256"])).read_bytes()
        return replace(contents, metadata=roles, targets=targets, snapshot=snapshot, timestamp=timestamp)
