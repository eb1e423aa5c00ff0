"""What a department's own admins signed and put on their adapter's disk, for when hub and registrar cannot be reached.

It is exactly what would be published: the next metadata of the department's role (two sign; its document) or of its
suspensions (one signs), with the file that it lists. `LocalPolicy` takes it in if the directory in force delegates to
those keys, and if this installation pins them where it pins any; amends every directory by it; and lets go of it once
the directory says so itself.

Suspensions only add: whatever such a file leaves out stays. Each stands until the directory contains it, it ends, or a
document that two admins signed lifts it. Once taken in it is kept by these rules alone, so that it also stands when its
signer is an admin no longer. A document can grant, so its signatures are verified each time that it is applied.

That it came into force, and is so no longer, is told until the owner's log has it: a file that stands gets a mark once
its beginning is recorded, and stays on disk until its end is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, Final

import structlog
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from policy.crosscheck import check_document
from policy.document import parse_document, parse_suspensions
from policy.incoming import read_waiting, waiting
from policy.metadata import (
    CENTRE,
    DAY,
    SUSPEND,
    Publication,
    check_department,
    check_suspensions,
    document_path,
    moment,
    parse_metadata,
    raw_key,
    suspensions_path,
)
from policy.model import Directory, Document, Suspension
from policy.signed_file import parse_publication
from policy.standing import missing
from zhiwang.wire.archive import sync_directory
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.tomlfile import FileError

MAX_STANDING: Final = 64
"""Files that stand beside the directory at once; far more than admins sign while a city is cut off."""

RECORDED: Final = ".recorded"
"""Ending of the empty file beside one that stands: the owner's log has that it came into force."""

CLOCK_AHEAD: Final = DAY
"""Seconds by which the clock can be ahead of the registrar's while a directory counts as fresh: a timestamp's life. So
long after its end a suspension is kept, lest a clock that was wrong for a moment ends it for good."""

Roles = Mapping[str, Targets]
"""Verified metadata of centre and departments, by role: `DirectoryClient.roles`."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Local:
    """What one such file says.

    Attributes:
        role: The department's, or its suspensions'.
        metadata: As signed.
        content: The file that it lists.
        document: Of the department's role.
        suspensions: Of the role of suspensions.
    """

    role: str
    metadata: Metadata[Targets]
    content: bytes
    document: Document | None = None
    suspensions: tuple[Suspension, ...] = ()

    @property
    def version(self) -> int:
        """Of the metadata."""
        return int(self.metadata.signed.version)

    @property
    def content_hash(self) -> bytes:
        """SHA-256 of what is signed, which names every file by hash."""
        return sha256(self.metadata.signed_bytes).digest()


def read_local(publication: Publication, department: str) -> Local:
    """What a publication says, if it is the department's and whole; whether it counts is `check_local`'s to say.

    Raises:
        RefusedError: METADATA_INVALID or DOCUMENT_INVALID.
    """
    role = publication.role
    metadata = parse_metadata(publication.metadata, Targets)
    targets: Targets = metadata.signed
    if role == department:
        check_department(department, targets)
        path = document_path(department)
    elif role == department + SUSPEND:
        check_suspensions(department, targets)
        path = suspensions_path(department)
    else:
        raise RefusedError(Reason.METADATA_INVALID, f"{role!r} is no role of {department}")
    target, content = targets.targets.get(path), publication.files.get(path)
    if target is None or content is None or set(publication.files) != {path}:
        raise RefusedError(Reason.METADATA_INVALID, f"it has to hold {path} and nothing else")
    try:
        target.verify_length_and_hashes(content)
    except RepositoryError:
        raise RefusedError(Reason.METADATA_INVALID, f"{path} is not the file that was signed") from None
    try:
        if role == department:
            document = parse_document(content, version=targets.version)
            named, local = document.department, Local(role, metadata, content, document=document)
        else:
            named, entries = parse_suspensions(content)
            local = Local(role, metadata, content, suspensions=entries)
    except FileError as error:
        raise RefusedError(Reason.DOCUMENT_INVALID, str(error)) from None
    if named != department:
        raise RefusedError(Reason.DOCUMENT_INVALID, f'{path} says department = "{named}"')
    return local


def verify_local(local: Local, department: str, roles: Roles, pins: frozenset[bytes] | None) -> tuple[str, ...]:
    """Whether enough of the keys signed to which the directory delegates, and which are pinned here.

    Args:
        local: What was signed.
        department: Whose adapter this is.
        roles: Of the directory in force.
        pins: Raw keys of the department's admins that this installation pins; None if it pins none.

    Returns:
        TUF ids of those keys, in order. A signature that is not theirs, or does not verify, is passed over.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    delegator = roles.get(CENTRE if local.role == department else department)
    delegations = None if delegator is None else delegator.delegations
    if delegator is None or delegations is None or department not in roles:
        raise RefusedError(Reason.METADATA_INVALID, f"nothing of {department} is in force that delegates to its admins")
    counted = {
        key_id: signature
        for key_id, signature in local.metadata.signatures.items()
        if key_id in delegations.keys and (pins is None or raw_key(delegations.keys[key_id]) in pins)
    }
    try:
        result = delegator.get_verification_result(local.role, local.metadata.signed_bytes, counted)
    except ValueError:
        raise RefusedError(Reason.METADATA_INVALID, f"nobody delegates to {local.role}") from None
    if not result.verified:
        raise RefusedError(
            Reason.METADATA_INVALID, f"{local.role} is not signed by enough admins of {department} that count here"
        )
    return tuple(sorted(result.signed))


def check_local(
    local: Local, directory: Directory, roles: Roles, pins: frozenset[bytes] | None, department: str, now: float
) -> None:
    """Whether it may come into force beside this directory.

    Args:
        local: What was signed.
        directory: In force, with what stands locally already.
        roles: Its metadata.
        pins: As `verify_local`.
        department: Whose adapter this is.
        now: Seconds since the epoch.

    Raises:
        RefusedError: METADATA_INVALID or DOCUMENT_INVALID, with what is wrong.
    """
    verify_local(local, department, roles, pins)
    standing = roles[local.role].version if local.role in roles else 0
    if local.document is not None and department in directory.documents:
        standing = max(standing, directory.documents[department].version)
    if local.version <= standing:
        raise RefusedError(
            Reason.METADATA_INVALID, f"{local.role} {local.version} is no newer than {standing}, which is in force"
        )
    if local.metadata.signed.is_expired(moment(now)):
        raise RefusedError(Reason.METADATA_INVALID, f"{local.role} {local.version} has expired")
    if local.document is None:
        own = directory.documents.get(department)
        for entry in local.suspensions:
            if own is not None and entry.id in own.lifted and entry not in directory.suspensions:
                raise RefusedError(
                    Reason.DOCUMENT_INVALID, f"a suspension called {entry.id} was lifted once; take another id"
                )
        return
    mistakes = check_document(local.document, directory)
    if mistakes:
        told = "; ".join(f"{'.'.join(map(str, mistake.key))} {mistake.message}" for mistake in mistakes)
        raise RefusedError(Reason.DOCUMENT_INVALID, told)


def amended(directory: Directory, department: str, standing: Sequence[Local], now: float) -> Directory:
    """A directory with what stands locally: the newest document if it is newer, and every suspension that still holds.

    Args:
        directory: As it was verified.
        department: Whose adapter this is.
        standing: Taken in; documents among them verified against this directory.
        now: Seconds since the epoch.
    """
    own = directory.documents.get(department)
    if own is not None:
        newest = max((local.document for local in standing if local.document), key=_version, default=own)
        if newest.version > own.version:
            own = newest
            directory = replace(
                directory,
                documents=MappingProxyType({**directory.documents, department: own}),
                suspensions=tuple(
                    entry
                    for entry in directory.suspensions
                    if entry.department != department or entry.id not in newest.lifted
                ),
            )
    lifted = frozenset() if own is None else own.lifted
    more = dict.fromkeys(
        entry
        for local in standing
        for entry in local.suspensions
        if entry.id not in lifted and (entry.not_after is None or entry.not_after > now)
    )
    there = set(directory.suspensions)
    return replace(directory, suspensions=(*directory.suspensions, *(entry for entry in more if entry not in there)))


def _version(document: Document) -> int:
    return document.version


@dataclass(frozen=True, slots=True)
class Change:
    """That something came into force beside the directory, or is so no longer.

    Attributes:
        local: What it says.
        in_force: Whether it is from now on.
        key_ids: TUF ids of the keys that signed it and count by the directory at this time, in order.
    """

    local: Local
    in_force: bool
    key_ids: tuple[str, ...]


class LocalPolicy:
    """What stands beside the directory at one adapter. Any thread may call it; `look` and `recorded` block.

    Args:
        place: Directory of the files that stand.
        department: Whose adapter this is.
        pins: As `verify_local`.
        clock: Seconds since the epoch.
    """

    def __init__(self, place: Path, department: str, pins: frozenset[bytes] | None, clock: Callable[[], float]) -> None:
        self._place = place
        self._department = department
        self._pins = pins
        self._clock = clock
        self._standing: Mapping[str, Local] = MappingProxyType({})  # by file name; replaced as one
        self._announced: set[str] = set()  # of those that stand, which have been told to be in force
        self._failing: dict[str, str] = {}  # what waits and cannot be read, and why
        self._lock = Lock()

    def load(self) -> None:
        """Take up what stood when the process ended.

        Raises:
            FatalError: INTERNAL: a file is damaged, so it is not known what was stopped.
        """
        found = {}
        for path in sorted(self._place.glob("*.json")):
            try:
                found[path.name] = read_local(parse_publication(path.read_bytes()), self._department)
            except (RefusedError, OSError) as error:
                raise FatalError(
                    Reason.INTERNAL,
                    f"{path} is damaged ({error}), and nothing else says what it suspended. Load the signed file again "
                    "in its place; or remove it, if the directory has what it said",
                ) from None
        self._standing = MappingProxyType(found)
        self._announced = {name for name in found if self._mark(name).exists()}

    @property
    def standing(self) -> tuple[Local, ...]:
        """What stands beside the directory."""
        return tuple(self._standing.values())

    def over(self, directory: Directory, roles: Roles) -> Directory:
        """A directory as it is decided by here.

        Args:
            directory: As it was verified.
            roles: Its metadata.
        """
        return amended(directory, self._department, self._counted(directory, roles), self._clock())

    def _counted(self, directory: Directory, roles: Roles) -> list[Local]:
        counted = []
        for local in self._standing.values():
            if local.document is not None:
                own = directory.documents.get(self._department)
                if own is None or local.version <= own.version:
                    continue
                try:
                    verify_local(local, self._department, roles, self._pins)
                except RefusedError as error:
                    _log.error("a local document no longer counts", version=local.version, detail=error.detail)
                    continue
            counted.append(local)
        return counted

    def look(self, directory: Directory | None, roles: Roles) -> list[Change]:
        """Take in what was put here, and let go of what the directory says by itself.

        Args:
            directory: As it was verified, without what stands here. While there is none, or it has expired, nothing
                is answered and everything waits: a clock that is wrong must not end what stands.
            roles: Its metadata.

        Returns:
            What changed, and what stands that was not recorded before the process ended; the directory has to be
            amended anew if there is anything. Each has to be recorded, and then told to `recorded`.

        Raises:
            OSError: The place cannot be read or written.
        """
        if directory is None or self._clock() >= directory.expires:
            return []
        with self._lock:
            failing = {}
            for path in waiting(self._place):
                try:
                    self._take(path, directory, roles)
                except OSError as error:
                    failing[path.name] = error.strerror or str(error)
                    if self._failing.get(path.name) != failing[path.name]:
                        _log.error("a local file cannot be taken in", file=path.name, detail=failing[path.name])
            self._failing = failing
            begun = [local for name, local in self._standing.items() if name not in self._announced]
            self._announced.update(self._standing)
            ended = self._settled(directory, roles)
        changes = [*((local, True) for local in begun), *((local, False) for local in ended)]
        return [Change(local, in_force, self._signers(local, roles)) for local, in_force in changes]

    def recorded(self, name: str, *, in_force: bool) -> None:
        """The owner's log has a change, so it need not be told again.

        Args:
            name: Of the file, as `file_name` gives it.
            in_force: Of the change.

        Raises:
            OSError: The place cannot be written; then it is told again after a restart.
        """
        with self._lock:
            if in_force:
                self._mark(name).touch()
            elif name not in self._standing:
                self._mark(name).unlink(missing_ok=True)
                (self._place / name).unlink(missing_ok=True)

    def _mark(self, name: str) -> Path:
        return self._place / f"{name}{RECORDED}"

    def _signers(self, local: Local, roles: Roles) -> tuple[str, ...]:
        try:
            return verify_local(local, self._department, roles, self._pins)
        except RefusedError:
            return ()  # whoever signed what stands may be an admin no longer

    def _take(self, path: Path, directory: Directory, roles: Roles) -> None:
        try:
            local = read_local(parse_publication(read_waiting(path)), self._department)
            name = file_name(local)
            if name in self._standing:
                path.unlink()
                return
            check_local(local, self.over(directory, roles), roles, self._pins, self._department, self._clock())
            self._check_room()
        except RefusedError as error:
            _log.error("a local file changes nothing", file=path.name, reason=error.reason.name, detail=error.detail)
            path.unlink()
            return
        # In place of a copy: a full disk must not keep something from being stopped.
        path.replace(self._place / name)
        sync_directory(self._place)
        self._standing = MappingProxyType({**self._standing, name: local})
        _log.warning("in force beside the directory", **_told(local))

    def _check_room(self) -> None:
        if len(self._standing) >= MAX_STANDING:
            raise RefusedError(Reason.OVERLOADED, f"{MAX_STANDING} files stand here already; publish some")

    def _settled(self, directory: Directory, roles: Roles) -> list[Local]:
        """Let go of those that stand no longer; all of a department stay that has lapsed, as nothing is known of it."""
        own = directory.documents.get(self._department)
        if own is None or not self._standing:
            return []
        surely, documents = self._clock() - CLOCK_AHEAD, self.over(directory, roles).documents
        done = {
            name: local
            for name, local in self._standing.items()
            if (
                local.version <= own.version
                if local.document is not None
                else not missing(local.suspensions, directory.suspensions, documents, surely)
            )
        }
        for local in done.values():
            _log.info("no longer beside the directory", **_told(local))
        if done:
            left = {name: local for name, local in self._standing.items() if name not in done}
            self._standing = MappingProxyType(left)
            self._announced &= left.keys()
        return list(done.values())


def file_name(local: Local) -> str:
    """Under which name it stands."""
    return name_of(local.role, local.version, local.content_hash)


def name_of(role: str, version: int, content_hash: bytes) -> str:
    """Under which name a file stands, by what a log's entry has of it."""
    return f"{role}-{version}-{content_hash[:8].hex()}.json"


def _told(local: Local) -> dict[str, Any]:
    return {"role": local.role, "version": local.version, "suspensions": [entry.id for entry in local.suspensions]}
