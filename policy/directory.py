"""The directory as a reader has it: fetched from whoever mirrors it, believed only as far as it verifies.

`DirectoryClient` runs The Update Framework's client (`tuf.ngclient`) over a function that fetches bytes, remembers on
disk what it saw, so that versions never fall even across restarts, and turns the verified files into a `Directory`.
`DirectoryHolder` has the one in force. `follower.py` keeps a holder fresh over gRPC.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib import parse

import structlog
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from policy import emergencies
from policy.assemble import Parts, assemble
from policy.enforcer import Enforcer
from policy.metadata import (
    CENTRE,
    EMERGENCY,
    MAX_FILE,
    MAX_METADATA,
    SUSPEND,
    activations_path,
    check_activations,
    check_centre,
    check_department,
    check_suspensions,
    departments_of,
    document_path,
    role_keys,
    stored_path,
    suspensions_path,
)
from policy.model import AuditorInfo, Directory
from policy.standing import lost, unseen
from policy.whole import keep_whole, read_whole
from zhiwang.wire.errors import FatalError, Reason, RefusedError, ZhiwangError
from zhiwang.wire.identity import Identity
from zhiwang.wire.kept import PUBLIC, replace_durably

Fetch = Callable[[str], bytes]
"""Gives the bytes at a path ("metadata/timestamp.json"). Raises RefusedError(FILE_UNKNOWN) if there is no such file,
and anything else if it could not be had."""

SEEN: Final = "emergencies.json"
"""What a reader remembers of openings, in its state directory; it outlives what it was read from."""

WHOLE: Final = "directory.json"
"""The files of the directory that was verified last, in its state directory: `policy.whole`."""

_NOT_FOUND = 404
_log = structlog.get_logger(__name__)


def nobody(path: str) -> bytes:
    """A `Fetch` without a source.

    Raises:
        RefusedError: HUB_UNREACHABLE, always.
    """
    raise RefusedError(Reason.HUB_UNREACHABLE, path)


class _Fetcher(FetcherInterface):
    """Lends our fetch function to TUF and keeps what came, for those who mirror."""

    def __init__(self, fetch: Fetch) -> None:
        self._function = fetch
        self.seen: dict[str, bytes] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            content = self._function(url)
        except ZhiwangError as error:
            if error.reason is Reason.FILE_UNKNOWN:
                raise DownloadHTTPError(f"no {url}", _NOT_FOUND) from None
            raise DownloadError(f"{url}: {error.reason.name}") from error
        except Exception as error:
            # Whatever a channel or a disk can raise: not to be had, and the last good directory stays.
            raise DownloadError(f"{url}: {type(error).__name__}") from error
        self.seen[url] = content
        yield content


def copy_seen(old: Path, new: Path) -> None:
    """Take over what another reader remembers of openings, if it has seen any; or what it kept out would count anew.

    Args:
        old: Its state directory.
        new: The successor's.

    Raises:
        OSError: It cannot be copied.
    """
    if (old / SEEN).is_file():
        replace_durably(new / SEEN, (old / SEEN).read_bytes(), mode=PUBLIC)


class DirectoryClient:
    """Fetches and verifies the directory. Calls block; one thread at a time may be in `refresh` or `load`.

    Trusted with: nothing but the pinned root. Its state directory keeps the newest verified metadata; deleting it
    forgets which versions were seen, so it belongs to the process alone.

    Args:
        root_json: Bytes of the pinned root metadata.
        ca_pem: The pinned authority, for the revocation list.
        state: Directory of this client alone; made if missing.
        fetch: Gives the bytes at a path; without one, each `refresh` is told whom to ask.
        pins: Raw keys of departments' admins that this installation pins itself (an adapter: its own department's).
            A directory that delegates such a department to any other key is refused.
    """

    def __init__(
        self,
        root_json: bytes,
        ca_pem: bytes,
        state: Path,
        fetch: Fetch = nobody,
        *,
        pins: Mapping[str, frozenset[bytes]] = MappingProxyType({}),
    ) -> None:
        self._root_json = root_json
        self._ca_pem = ca_pem
        self._metadata = state / "metadata"
        self._targets = state / "targets"
        self._state = state
        self._seen = state / SEEN
        self._fetch = fetch
        self._pins = pins
        self._running = threading.Lock()
        self._files: Mapping[str, bytes] = {}
        self._roles: Mapping[str, Targets] = {}
        for directory in (self._metadata, self._targets):
            directory.mkdir(parents=True, exist_ok=True)

    @property
    def files(self) -> Mapping[str, bytes]:
        """Exactly the files of the last verified directory, by repository path: what a mirror may serve."""
        return self._files

    @property
    def roles(self) -> Mapping[str, Targets]:
        """Metadata of centre and departments in the last verified directory, by role; without what lapsed."""
        return self._roles

    def refresh(self, fetch: Fetch | None = None) -> Directory:
        """Fetches what is new and verifies the whole. What of it was verified before it failed is not fetched again.

        Args:
            fetch: From whom; by default from whom this client was made for.

        Raises:
            RefusedError: HUB_UNREACHABLE, if something could not be fetched.
            FatalError: METADATA_INVALID or DOCUMENT_INVALID, if it does not verify or does not hold together.
        """
        return self._run(fetch or self._fetch, offline=False)

    def load(self) -> Directory:
        """The directory that was verified last, from disk: for a start while nobody can be reached.

        Of a newer one that never came whole nothing is taken, and `refresh` still takes nothing older than that.

        Raises:
            RefusedError: HUB_UNREACHABLE, if there is none.
            FatalError: As `refresh`; also if it has expired.
        """
        try:
            whole = read_whole(self._state / WHOLE)
        except RefusedError:  # a state from before there was such a file
            return self._run(self._on_disk, offline=True)
        # TUF's own files may be of a newer one already that never came whole.
        try:
            with tempfile.TemporaryDirectory(prefix="zhiwang-directory-") as scratch:
                other = DirectoryClient(self._root_json, self._ca_pem, Path(scratch), pins=self._pins)
                other._seen = self._seen
                directory = other._run(whole, offline=True)
        except OSError as error:
            raise FatalError(Reason.INTERNAL, f"directory state: {type(error).__name__}") from error
        self._files, self._roles = other.files, other.roles
        return directory

    def _on_disk(self, path: str) -> bytes:
        """Only the timestamp is asked for: everything else TUF and we find in our own files first."""
        name = path.removeprefix("metadata/")
        if name != "timestamp.json" or not (self._metadata / name).is_file():
            raise RefusedError(Reason.FILE_UNKNOWN, name)
        return (self._metadata / name).read_bytes()

    def _run(self, fetch: Fetch, *, offline: bool) -> Directory:
        if not self._running.acquire(blocking=False):
            raise RefusedError(Reason.OVERLOADED, "the directory is being refreshed already")
        try:
            fetcher = _Fetcher(fetch)
            updater = Updater(
                str(self._metadata),
                "metadata/",
                str(self._targets),
                "targets/",
                fetcher,
                UpdaterConfig(root_max_length=MAX_METADATA, targets_max_length=MAX_METADATA),
                bootstrap=self._root_json,
            )
            return self._verify(updater, fetcher, offline=offline)
        except DownloadError as error:
            raise RefusedError(Reason.HUB_UNREACHABLE, f"directory: {_told(error)}") from error
        except RepositoryError as error:
            raise FatalError(Reason.METADATA_INVALID, _told(error)) from error
        except OSError as error:
            raise FatalError(Reason.INTERNAL, f"directory state: {type(error).__name__}") from error
        finally:
            self._running.release()

    def _verify(self, updater: Updater, fetcher: _Fetcher, *, offline: bool) -> Directory:
        updater.refresh()
        # The client has just verified these and written them down; it has no public way to hand them over.
        root = Metadata[Root].from_file(str(self._metadata / "root.json")).signed
        timestamp_bytes = (self._metadata / "timestamp.json").read_bytes()
        timestamp = Metadata[Timestamp].from_bytes(timestamp_bytes).signed
        snapshot = Metadata[Snapshot].from_file(str(self._metadata / "snapshot.json")).signed
        roles = {CENTRE: self._role(CENTRE)}
        lapsed: dict[str, str] = {}
        targets = roles[CENTRE]
        try:
            check_centre(targets)
            for department in departments_of(targets):
                self._visit(updater, department, snapshot, roles, lapsed, offline=offline)
        except RefusedError as error:
            raise FatalError(Reason.METADATA_INVALID, error.detail) from error
        content = {path: self._download(updater, path) for role in roles.values() for path in role.targets}
        parts = Parts(root, timestamp, snapshot, roles, content.__getitem__, timestamp_bytes, lapsed)
        seen = self._read_seen()
        directory = assemble(parts, self._ca_pem, seen)
        self._check_pins(directory)
        self._remember(seen, directory)
        files = self._collect(parts, content, fetcher)
        if not offline and files != self._files:
            keep_whole(self._state / WHOLE, files)
        self._files = files
        self._roles = MappingProxyType(roles)
        self._prune(content)
        return directory

    def _visit(
        self,
        updater: Updater,
        department: str,
        snapshot: Snapshot,
        roles: dict[str, Targets],
        lapsed: dict[str, str],
        *,
        offline: bool,
    ) -> None:
        """Has TUF verify a department's roles, and takes them up; or notes why it lapsed.

        The snapshot's hash has been compared before a signature or date is judged, so it is the department or the
        centre that let it lapse, never whoever carried the bytes.
        """
        if not _listed(snapshot, department):
            return
        found = {}
        try:
            updater.get_targetinfo(document_path(department))
            found[department] = self._role(department)
            check_department(department, found[department])
            suspend = department + SUSPEND
            if role_keys(found[department], suspend) and _listed(snapshot, suspend):
                updater.get_targetinfo(suspensions_path(department))
                found[suspend] = self._role(suspend)
                check_suspensions(department, found[suspend])
        except (ExpiredMetadataError, UnsignedMetadataError) as error:
            lapsed[department] = _told(error)
        except DownloadError:
            if not offline:
                raise
            lapsed[department] = "had lapsed when it was seen last"
        else:
            roles.update(found)
            self._visit_emergencies(updater, department, snapshot, roles, offline=offline)

    def _visit_emergencies(
        self, updater: Updater, department: str, snapshot: Snapshot, roles: dict[str, Targets], *, offline: bool
    ) -> None:
        """As `_visit`; but what expired or is signed by a former admin opens nothing, and nobody lapses by it."""
        role = department + EMERGENCY
        if not role_keys(roles[department], role) or not _listed(snapshot, role):
            return
        try:
            listed = updater.get_targetinfo(activations_path(department))
        except (ExpiredMetadataError, UnsignedMetadataError):
            return
        except DownloadError:
            if not offline:
                raise
            return
        if listed is None:  # nothing is open, or the centre delegates no emergencies
            return
        found = self._role(role)
        check_activations(department, found)
        roles[role] = found

    def _read_seen(self) -> frozenset[emergencies.Seen]:
        if not self._seen.exists():
            return frozenset()
        try:
            return emergencies.load(self._seen.read_bytes())
        except ValueError as error:
            # To forget would let an emergency be opened again; the operator has to look.
            raise FatalError(Reason.INTERNAL, f"{self._seen}: {error}; move it away to begin anew") from error

    def _remember(self, seen: frozenset[emergencies.Seen], directory: Directory) -> None:
        kept = emergencies.remembered(seen, directory.activations, time.time())
        if kept != seen:
            replace_durably(self._seen, emergencies.dump(kept), mode=PUBLIC)

    def _role(self, role: str) -> Targets:
        return Metadata[Targets].from_file(str(self._metadata / f"{parse.quote(role, '')}.json")).signed

    def _download(self, updater: Updater, path: str) -> bytes:
        info = updater.get_targetinfo(path)
        if info is None:
            raise RepositoryError(f"{path} is listed by a role that may not list it")
        if info.length > MAX_FILE:
            raise RepositoryError(f"{path} is too long")
        found = updater.find_cached_target(info) or updater.download_target(info)
        return Path(found).read_bytes()

    def _check_pins(self, directory: Directory) -> None:
        for department, keys in self._pins.items():
            if not directory.admin_keys.get(department, frozenset()) <= keys:
                raise FatalError(
                    Reason.METADATA_INVALID, f"the centre delegates {department} to keys that are not pinned here"
                )

    def _collect(self, parts: Parts, content: Mapping[str, bytes], fetcher: _Fetcher) -> Mapping[str, bytes]:
        files = {"metadata/timestamp.json": parts.timestamp_bytes}
        for root in (self._metadata / "root_history").iterdir():
            files[f"metadata/{root.name}"] = root.read_bytes()
        names = {"snapshot": parts.snapshot.version}
        names |= {name.removesuffix(".json"): meta.version for name, meta in parts.snapshot.meta.items()}
        for role, version in names.items():
            stored = f"metadata/{version}.{parse.quote(role, '')}.json"
            own = self._metadata / f"{parse.quote(role, '')}.json"
            if role == "snapshot" or role in parts.roles:
                files[stored] = own.read_bytes()
            elif stored in fetcher.seen:  # it has lapsed, or opens nothing: others have to see that as well
                files[stored] = fetcher.seen[stored]
            elif own.is_file() and _is_listed(parts.snapshot, role, data := own.read_bytes()):
                files[stored] = data  # the same, while nobody can be reached
        for listing in parts.roles.values():
            for path, target in listing.targets.items():
                files[stored_path(path, target.hashes["sha256"])] = content[path]
        return MappingProxyType(files)

    def _prune(self, content: Mapping[str, bytes]) -> None:
        kept = {parse.quote(path, "") for path in content}
        for path in self._targets.iterdir():
            if path.name not in kept:
                path.unlink()


def _listed(snapshot: Snapshot, role: str) -> bool:
    """Whether the snapshot lists a role. Without a hash, whoever carries the bytes could make it look lapsed."""
    meta = snapshot.meta.get(f"{role}.json")
    if meta is not None and not meta.hashes:
        raise RepositoryError(f"the snapshot has no hash of {role}")
    return meta is not None


def _is_listed(snapshot: Snapshot, role: str, data: bytes) -> bool:
    """Whether these are the very bytes that the snapshot lists for a role."""
    try:
        snapshot.meta[f"{role}.json"].verify_length_and_hashes(data)
    except RepositoryError:
        return False
    return True


def _told(error: Exception) -> str:
    """What TUF says; it speaks of roles, versions and paths only."""
    return f"{type(error).__name__}: {error}"


class DirectoryHolder:
    """The directory in force, and the enforcer over it; both change by one reference. Reading is safe from any thread.

    Args:
        clock: Gives the time.
        amend: What a directory is decided by here, if not as it stands (an adapter: `policy.local`). It must be quick.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, amend: Callable[[Directory], Directory] = lambda found: found
    ) -> None:
        self._clock = clock
        self._amend = amend
        self._verified: Directory | None = None
        self._enforcer: Enforcer | None = None
        self._listeners: list[Callable[[Directory], None]] = []
        self.problem: str | None = None
        """Why the newest directory could not be taken, for operators; None if all is well."""

    @property
    def current(self) -> Directory:
        """The directory in force.

        Raises:
            RefusedError: DIRECTORY_EXPIRED, if there is none that still holds.
        """
        return self.enforcer.directory

    @property
    def enforcer(self) -> Enforcer:
        """Decides by the directory in force.

        Raises:
            RefusedError: DIRECTORY_EXPIRED, if there is none that still holds.
        """
        enforcer = self._enforcer
        if enforcer is None or self._clock() >= enforcer.directory.expires:
            raise RefusedError(Reason.DIRECTORY_EXPIRED)
        return enforcer

    @property
    def fresh(self) -> bool:
        """Whether a directory is in force: a condition of readiness."""
        enforcer = self._enforcer
        return enforcer is not None and self._clock() < enforcer.directory.expires

    @property
    def latest(self) -> Directory | None:
        """The newest directory seen, even if it has expired; to look at, never to decide by."""
        enforcer = self._enforcer
        return None if enforcer is None else enforcer.directory

    @property
    def verified(self) -> Directory | None:
        """The newest directory seen as it was verified, before it was amended."""
        return self._verified

    def revoked(self) -> frozenset[int]:
        """Serial numbers of revoked certificates as last known; a deny-list outlives the directory's expiry."""
        enforcer = self._enforcer
        return frozenset() if enforcer is None else enforcer.directory.revoked

    def auditor(self, identity: Identity) -> AuditorInfo:
        """What an auditor sees beyond its department's own; nothing more without a directory in force."""
        if not self.fresh:
            return AuditorInfo()
        return self.current.centre.auditor(identity.department, identity.name)

    def on_change(self, listener: Callable[[Directory], None]) -> None:
        """Has `listener` called with each newer directory, in the thread that sets it."""
        self._listeners.append(listener)

    def set(self, directory: Directory) -> None:
        """Puts a directory in force. It must come from a `DirectoryClient`, which sees to it that versions rise.

        A suspension that it has lost, though nobody lifted it, stays in force here.
        """
        self._verified = directory
        directory = self._amend(directory)
        kept = lost(self.latest, directory, self._clock())
        for entry in kept:
            _log.error(
                "a suspension was taken away by one admin alone and stays in force",
                department=entry.department,
                suspension=entry.id,
            )
        known = frozenset() if self.latest is None else self.latest.lapsed.keys()
        for department in directory.lapsed.keys() - known:
            _log.error(
                "a department has lapsed and neither asks nor answers",
                department=department,
                why=directory.lapsed[department],
            )
        # A department that has lapsed shows none; what it had must still be known when it is back.
        kept += unseen(self.latest, directory)
        if kept:
            directory = replace(directory, suspensions=(*directory.suspensions, *kept))
        self._enforcer = Enforcer(directory)
        self.problem = None
        _log.info(
            "directory in force",
            version=directory.version,
            expires=directory.expires,
            departments=len(directory.documents),
            revoked=len(directory.revoked),
            lapsed=dict(directory.lapsed),
        )
        for listener in self._listeners:
            listener(directory)

    def again(self) -> None:
        """Puts the directory in force anew, since what amends it has changed."""
        if self._verified is not None:
            problem = self.problem
            self.set(self._verified)
            self.problem = problem

    def failed(self, problem: str) -> None:
        """Notes that a newer directory could not be taken; the last good one stays until it expires."""
        self.problem = problem
        _log.error("directory not taken", problem=problem, fresh=self.fresh)
