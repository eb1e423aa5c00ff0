"""The registrar's repository: checks what departments sign, and signs the snapshot that makes it public.

Trusted with freshness and consistency only: its two keys sign snapshot and timestamp. It cannot grant anything, since
readers verify the departments' signatures themselves. A change is all or nothing: everything is checked in memory, a
real client reads the candidate in a scratch directory, then the files are written and last of all, in one rename, the
timestamp. Not safe for several processes: one registrar owns the directory.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import structlog
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from certs.revocation import RevocationList
from policy.assemble import Parts, assemble, parse_document_bytes
from policy.assertions import broken
from policy.crosscheck import check_document, check_matter, mistake_of_id
from policy.directory import DirectoryClient
from policy.document import Mistake, parse_activations, parse_suspensions
from policy.emergencies import counting, prepared, seen_of
from policy.keys import RegistrarKeys, load_key, new_key
from policy.metadata import (
    CENTRE,
    CENTRE_FILE,
    DAY,
    EMERGENCY,
    LIFETIMES,
    MATTERS,
    MAX_FILE,
    REVOCATIONS_FILE,
    SUSPEND,
    Publication,
    activations_path,
    check_activations,
    check_centre,
    check_department,
    check_root,
    check_suspensions,
    department_of,
    departments_of,
    document_path,
    matter_path,
    meta_file,
    moment,
    parse_metadata,
    signed,
    stored_path,
    suspensions_path,
)
from policy.model import Activation, Directory, Suspension
from policy.standing import missing
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.kept import PUBLIC, replace_durably, sweep
from zhiwang.wire.tomlfile import FileError

__all__ = ["RegistrarKeys", "Repository", "check_signed_root", "load_key", "new_key", "write_durably"]

TIMESTAMP_LIFETIME = DAY
SNAPSHOT_LIFETIME = 30 * DAY
"""Seconds for which what the registrar signs is good. The timestamp's is how long a change can be withheld."""

RESIGN_SECONDS = 6 * 3600
"""How old a timestamp gets before it is signed anew."""

MAX_FINDINGS = 50
MAX_FINDING = 500
"""Characters of one finding in the details of an error."""
MAX_FINDING_BYTES = 6_000
"""Of all of them: details travel as metadata, and what is longer than that may be is lost whole."""
"""Findings that one refusal tells."""

OPENING_SKEW = 300
"""Seconds by which the beginning of an opened emergency may differ from the registrar's clock."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """One version of everything. `metadata` has the exact bytes of each role but snapshot and timestamp."""

    roots: tuple[bytes, ...]
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    targets: Mapping[str, bytes] = field(default_factory=dict)
    snapshot: bytes | None = None
    timestamp: bytes | None = None

    @property
    def root(self) -> Root:
        signed_root: Root = parse_metadata(self.roots[-1], Root).signed
        return signed_root

    def role(self, name: str) -> Targets | None:
        data = self.metadata.get(name)
        return None if data is None else parse_metadata(data, Targets).signed

    def files(self) -> dict[str, bytes]:
        """By repository path."""
        files = {f"metadata/{parse_metadata(root, Root).signed.version}.root.json": root for root in self.roots}
        for name, data in self.metadata.items():
            role = parse_metadata(data, Targets).signed
            files[f"metadata/{role.version}.{name}.json"] = data
            for path, target in role.targets.items():
                if path in self.targets:
                    files[stored_path(path, target.hashes["sha256"])] = self.targets[path]
        if self.snapshot is not None and self.timestamp is not None:
            version = parse_metadata(self.snapshot, Snapshot).signed.version
            files[f"metadata/{version}.snapshot.json"] = self.snapshot
            files["metadata/timestamp.json"] = self.timestamp
        return files


class Signed(NamedTuple):
    """Who has signed some metadata.

    Attributes:
        key_ids: TUF ids of the keys that may and did, in order.
        threshold: How many must.
        version: Of the role's metadata.
        content_hash: SHA-256 of what is signed.
    """

    key_ids: tuple[str, ...]
    threshold: int
    version: int
    content_hash: bytes

    @property
    def enough(self) -> bool:
        """Whether they are enough."""
        return len(self.key_ids) >= self.threshold


class Repository:
    """The directory's files on disk and the checks before they change.

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
        self._directory: Directory | None = None
        self._state = self._read(root_json)
        for place, _, _ in os.walk(directory):
            sweep(Path(place))

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
        return MappingProxyType(self._state.files())

    @property
    def timestamp_age(self) -> float | None:
        """Seconds since the timestamp was signed; None before the first."""
        if self._state.timestamp is None:
            return None
        expires = parse_metadata(self._state.timestamp, Timestamp).signed.expires.timestamp()
        return float(self._clock() - (expires - TIMESTAMP_LIFETIME))

    def publish(self, publication: Publication) -> Directory:
        """Takes new metadata of one role and its files, if everything holds, and makes it public.

        Returns:
            What is in force from here on.

        Raises:
            RefusedError: METADATA_INVALID, DOCUMENT_INVALID or ASSERTION_FAILED. Nothing has changed then.
        """
        now = self._clock()
        is_root = publication.role == "root"
        candidate = self._with_root(publication) if is_root else self._with_role(publication, now)
        if CENTRE not in candidate.metadata:
            _refuse("the centre has to publish first")
        candidate = self._sign(candidate, now, snapshot=True)
        directory = self._judge(candidate, publication.role, now)
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
            _refuse("a root is signed offline and published at once")
        now = self._clock()
        candidate = self._with_role(publication, now, whole=False)
        if CENTRE not in candidate.metadata:
            _refuse("the centre has to publish first")
        self._judge(self._sign(candidate, now, snapshot=True), publication.role, now, unsigned=publication.role)
        return self.signed(publication)

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
            _refuse(f"{role[:64]!r} opens no emergency")
        self.examine(publication)
        path = activations_path(department)
        before = _opened(self._state.targets.get(path))
        (found,) = (entry for entry in _opened(publication.files.get(path)) if entry not in before)
        return found

    @property
    def openings(self) -> list[Activation]:
        """What departments list as opened, in force, shut or over."""
        files = self._state.targets
        departments = [role.removesuffix(EMERGENCY) for role in self._state.metadata if role.endswith(EMERGENCY)]
        return [entry for name in sorted(departments) for entry in _opened(files.get(activations_path(name)))]

    def publications(self) -> list[Publication]:
        """The metadata of each role that is in force, without files; the newest root first."""
        found = [Publication("root", self._state.roots[-1], {})]
        return found + [Publication(role, data, {}) for role, data in self._state.metadata.items()]

    def signed(self, publication: Publication) -> Signed:
        """Who has signed metadata of a role, by the keys that the directory in force delegates to.

        Raises:
            RefusedError: METADATA_INVALID: nobody delegates to the role, or it is no metadata.
        """
        metadata = parse_metadata(publication.metadata, Root if publication.role == "root" else Targets)
        delegator = self._state.root if publication.role == "root" else self._delegator(publication.role)[0]
        result = delegator.get_verification_result(publication.role, metadata.signed_bytes, metadata.signatures)
        digest = sha256(metadata.signed_bytes).digest()
        return Signed(tuple(sorted(result.signed)), result.threshold, metadata.signed.version, digest)

    def resign(self) -> None:
        """Signs a newer timestamp (and snapshot, if it gets old) over what is in force; nothing before the first."""
        state = self._state
        if state.snapshot is None:
            return
        now = self._clock()
        expires = parse_metadata(state.snapshot, Snapshot).signed.expires.timestamp()
        candidate = self._sign(state, now, snapshot=expires - now < SNAPSHOT_LIFETIME / 2)
        directory = assemble(self._parts(candidate), self._ca_pem)
        self._rehearse(candidate)
        self._write(candidate)
        self._directory = directory

    # Checks ----------------------------------------------------------------------------------------------------------

    def _with_root(self, publication: Publication) -> _State:
        metadata = parse_metadata(publication.metadata, Root)
        check_root(metadata.signed)
        old = self._state.root
        if metadata.signed.version != old.version + 1 or publication.files:
            _refuse(f"the next root has version {old.version + 1} and no files")
        try:
            old.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
            metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError as error:
            _refuse(str(error))
        return replace(self._state, roots=(*self._state.roots, publication.metadata))

    def _with_role(self, publication: Publication, now: float, *, whole: bool = True) -> _State:
        role = publication.role
        metadata = parse_metadata(publication.metadata, Targets)
        delegator, shape = self._delegator(role)
        try:
            if whole:
                delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            elif not self.signed(publication).key_ids:
                _refuse(f"{role} is signed by none of its admins")
        except (RepositoryError, ValueError) as error:
            _refuse(str(error))
        current = self._state.role(role)
        expected = 1 if current is None else current.version + 1
        if metadata.signed.version != expected:
            _refuse(f"{role} must have version {expected}; somebody else published meanwhile, or this was sent twice")
        left = metadata.signed.expires.timestamp() - now
        if not DAY <= left <= max(LIFETIMES.values()) + DAY:
            _refuse(f"{role} must expire between a day and ten years from now")
        shape(metadata.signed)
        useless = sorted(path for path in metadata.signed.targets if not _is_known(role, path))
        if useless:
            _refuse(f"{role} lists files of no use: {', '.join(useless)}")
        targets = self._with_files(metadata.signed, current, publication.files)
        if role == CENTRE:
            self._check_revocations(targets)
        if role.endswith(SUSPEND):
            self._check_suspensions(role.removesuffix(SUSPEND), targets, now)
        if role.endswith(EMERGENCY):
            self._check_activations(role.removesuffix(EMERGENCY), targets, now)
        return replace(
            self._state,
            metadata={**self._state.metadata, role: publication.metadata},
            targets=targets,
        )

    def _delegator(self, role: str) -> tuple[Root | Targets, Callable[[Targets], None]]:
        if role == CENTRE:
            return self._state.root, check_centre
        department = department_of(role)
        centre = self._state.role(CENTRE)
        if centre is None or department not in departments_of(centre):
            _refuse(f"nobody delegates to {role[:64]!r}")
        if role == department:
            return centre, lambda targets: check_department(department, targets)
        own = self._state.role(department)
        if own is None:
            _refuse(f"{department} has to publish its document first")
        if role.endswith(EMERGENCY):
            delegations = centre.delegations
            roles = {} if delegations is None or delegations.roles is None else delegations.roles
            if not roles[department].is_delegated_path(activations_path(department)):
                _refuse("the centre has to publish centre.toml again before anybody can open an emergency")
            return own, lambda targets: check_activations(department, targets)
        return own, lambda targets: check_suspensions(department, targets)

    def _with_files(self, role: Targets, current: Targets | None, files: Mapping[str, bytes]) -> dict[str, bytes]:
        targets = dict(self._state.targets)
        for path in set() if current is None else set(current.targets) - set(role.targets):
            targets.pop(path, None)
        for path, content in files.items():
            if path not in role.targets:
                _refuse("a file was sent that the metadata does not list")
            if len(content) > MAX_FILE:
                _refuse(f"{path} is longer than {MAX_FILE} bytes")
            targets[path] = content
        for path, target in role.targets.items():
            if path not in targets:
                _refuse(f"{path} is listed but was not sent")
            try:
                target.verify_length_and_hashes(targets[path])
            except RepositoryError:
                _refuse(f"{path} is not the file that was signed")
        return targets

    def _check_suspensions(self, department: str, targets: Mapping[str, bytes], now: float) -> None:
        """Refuse to lose what two admins have not lifted, and what could not come into force."""
        own = targets.get(document_path(department))
        if own is None:
            return
        document = parse_document_bytes(own)
        before, after = (_listed(held.get(suspensions_path(department))) for held in (self._state.targets, targets))
        for entry in missing(before, after, {department: document}, now):
            _refuse(
                f"the suspension {entry.id} is in force. One admin suspends, two lift: zhiwang policy lift {entry.id}"
            )
        for entry in after:
            if entry not in before:
                _check_id(entry.id)
            if entry.id in document.lifted and entry not in before:
                _refuse(f"a suspension called {entry.id} was lifted once; take another id")

    def _check_activations(self, department: str, targets: Mapping[str, bytes], now: float) -> None:
        """Refuse what readers would pass over, and what was not signed just now: nobody keeps openings in store."""
        directory = self._directory
        before, after = (_opened(held.get(activations_path(department))) for held in (self._state.targets, targets))
        new = [entry for entry in after if entry not in before]
        lost = [entry for entry in _standing(directory, department, now) if entry not in after]
        if directory is None or lost or len(new) != 1:
            _refuse("one emergency is opened at a time, and those that were opened stay as they are")
        (entry,) = new
        _check_id(entry.id)
        document = directory.documents.get(entry.owner)
        emergency = None if document is None else document.emergency(entry.emergency)
        if emergency is None or department not in emergency.admins:
            _refuse(f"{entry.owner} has prepared no emergency {entry.emergency} that {department} may open")
        if prepared(directory.documents, entry) is None:
            _refuse(f"{entry.owner}/{entry.emergency} can be opened for {emergency.hours} hours at most")
        if abs(entry.since - now) > OPENING_SKEW:
            _refuse("an emergency is opened from now on; is this machine's clock right?")
        # As a reader that has seen what is there: an earlier beginning does not displace it.
        seen = map(seen_of, directory.activations)
        if entry not in counting(directory.documents, [*directory.activations, entry], seen):
            _refuse(f"{entry.owner}/{entry.emergency} was opened less than a day before; what lasts longer is a grant")

    def _check_revocations(self, targets: Mapping[str, bytes]) -> None:
        """Refuse to lose the revocation list, or to go back to an older one: whoever was revoked would be back."""
        before, after = (held.get(REVOCATIONS_FILE) for held in (self._state.targets, targets))
        if before is None or after == before:
            return
        if after is None:
            _refuse(f"{REVOCATIONS_FILE} is in force and may only be replaced by a newer list")
        try:
            older = RevocationList.parse(before, self._ca_pem).age
        except RefusedError:
            return  # of an authority that is pinned no longer
        try:
            newer = RevocationList.parse(after, self._ca_pem).age
        except RefusedError as error:
            _refuse(error.detail)
        if newer < older:
            _refuse(f"{REVOCATIONS_FILE} is older than the list that is in force")

    def _judge(self, candidate: _State, role: str, now: float, *, unsigned: str = "") -> Directory:
        """Whether the whole still holds together. `unsigned` is a role that still lacks signatures."""
        directory = self._assembled(candidate, unsigned)
        judged = directory
        if role in directory.lapsed:
            # The role itself has been verified: it delegates its suspensions to other admins, who sign them next.
            metadata = {name: data for name, data in candidate.metadata.items() if name != role + SUSPEND}
            judged = self._assembled(replace(candidate, metadata=metadata), unsigned)
            _log.warning("lapsed until its suspensions are signed again", role=role)
        found = _beside_others(candidate, judged, role)
        if found:
            raise RefusedError(Reason.DOCUMENT_INVALID, "; ".join(found), metadata=findings_metadata(found))
        if role == CENTRE or role in judged.documents:
            flipped = broken(self._directory, judged, None if role == CENTRE else role, now)
            if flipped:
                told = [f"{department}: {assertion}" for department, assertion in flipped]
                raise RefusedError(Reason.ASSERTION_FAILED, "; ".join(told), metadata=findings_metadata(told))
        return directory

    def _assembled(self, state: _State, unsigned: str = "") -> Directory:
        try:
            return assemble(self._parts(state, unsigned), self._ca_pem)
        except FatalError as error:
            raise RefusedError(error.reason, error.detail, metadata=findings_metadata([error.detail])) from error

    def _parts(self, state: _State, unsigned: str = "") -> Parts:
        """Verified by us: what a lapsed department is, is decided as a reader would."""
        centre = state.role(CENTRE)
        if centre is None or state.snapshot is None or state.timestamp is None:
            raise FatalError(Reason.INTERNAL, "the centre has not published")
        roles = {CENTRE: centre}
        lapsed = {}
        now = moment(self._clock())
        for department in departments_of(centre):
            if department not in state.metadata:
                continue
            try:
                if department == unsigned:
                    own = parse_metadata(state.metadata[department], Targets).signed
                else:
                    own = _verified(centre, department, state.metadata[department], now)
                found = {department: own}
                suspend = department + SUSPEND
                delegations = own.delegations
                if suspend in state.metadata and delegations is not None and suspend in (delegations.roles or {}):
                    found[suspend] = _verified(own, suspend, state.metadata[suspend], now)
            except RepositoryError as error:
                lapsed[department] = f"{type(error).__name__}: {error}"
            else:
                roles |= found
                emergency = department + EMERGENCY
                # What expired or is signed by a former admin opens nothing, and nobody lapses by it.
                with suppress(RepositoryError, ValueError):
                    if emergency in state.metadata:
                        roles[emergency] = _verified(own, emergency, state.metadata[emergency], now)
        return Parts(
            root=state.root,
            timestamp=parse_metadata(state.timestamp, Timestamp).signed,
            snapshot=parse_metadata(state.snapshot, Snapshot).signed,
            roles=roles,
            content=state.targets.__getitem__,
            timestamp_bytes=state.timestamp,
            lapsed=lapsed,
        )

    def _sign(self, state: _State, now: float, *, snapshot: bool) -> _State:
        if snapshot or state.snapshot is None:
            version = 1 if state.snapshot is None else parse_metadata(state.snapshot, Snapshot).signed.version + 1
            meta = {
                f"{name}.json": meta_file(parse_metadata(data, Targets).signed.version, data)
                for name, data in state.metadata.items()
            }
            new = Snapshot(version=version, expires=moment(now + SNAPSHOT_LIFETIME), meta=meta)
            state = replace(state, snapshot=signed(Metadata(new), [self._keys.snapshot]))
        version = 1 if state.timestamp is None else parse_metadata(state.timestamp, Timestamp).signed.version + 1
        assert state.snapshot is not None  # noqa: S101 # signed above; this only tells mypy
        of = meta_file(parse_metadata(state.snapshot, Snapshot).signed.version, state.snapshot)
        timestamp = Timestamp(version=version, expires=moment(now + TIMESTAMP_LIFETIME), snapshot_meta=of)
        return replace(state, timestamp=signed(Metadata(timestamp), [self._keys.timestamp]))

    def _rehearse(self, candidate: _State) -> None:
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

    def _write(self, state: _State) -> None:
        """Writes what is missing, the timestamp last; then forgets files that nothing lists any more."""
        files = state.files()
        before = self._state.files()
        for path, content in files.items():
            target = self._path / path
            if path != "metadata/timestamp.json" and (before.get(path) != content or not target.exists()):
                write_durably(target, content)
        if state.timestamp is not None:
            write_durably(self._path / "metadata" / "timestamp.json", state.timestamp)
        self._state = state
        try:
            for path in set(before) - set(files):
                (self._path / path).unlink(missing_ok=True)
        except OSError as error:
            # The change is public; a file that nothing lists any more does no harm.
            _log.warning("an old file of the repository cannot be removed", error=type(error).__name__)

    def _read(self, root_json: bytes) -> _State:
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
        state = _State(roots)
        if not (metadata / "timestamp.json").exists():
            return state
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
        state = replace(state, metadata=roles, targets=targets, snapshot=snapshot, timestamp=timestamp)
        # Signed anew at once: the registrar may have been down for longer than a timestamp lives.
        self._state = state
        self._directory = assemble(self._parts(state), self._ca_pem)
        return state


def check_signed_root(root_json: bytes) -> None:
    """Whether a root is of our shape and signed by enough of its own keys.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    root = parse_metadata(root_json, Root)
    check_root(root.signed)
    try:
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except RepositoryError:
        _refuse("the root is not signed by enough of its keys")


def _listed(content: bytes | None) -> tuple[Suspension, ...]:
    """Suspensions of a file; none of one that cannot be read, which is refused elsewhere."""
    if content is None:
        return ()
    try:
        return parse_suspensions(content)[1]
    except FileError:
        return ()


def _opened(content: bytes | None) -> tuple[Activation, ...]:
    """Openings of a file; none of one that cannot be read, which is refused elsewhere."""
    if content is None:
        return ()
    try:
        return parse_activations(content)[1]
    except FileError:
        return ()


def _standing(directory: Directory | None, department: str, now: float) -> list[Activation]:
    """What a department's admins have opened and what has not ended."""
    activations = () if directory is None else directory.activations
    return [entry for entry in activations if entry.department == department and now < entry.until]


def _check_id(name: str) -> None:
    mistake = mistake_of_id(name)
    if mistake is not None:
        _refuse(mistake)


def _is_known(role: str, path: str) -> bool:
    """Whether readers make anything of a file; they pass over what they do not know below a role's own prefix."""
    if role == CENTRE:
        name = path.removeprefix(MATTERS)
        is_matter = path.startswith(MATTERS) and "/" not in name and name.endswith(".toml")
        return path in {CENTRE_FILE, REVOCATIONS_FILE} or is_matter
    return role.endswith((SUSPEND, EMERGENCY)) or path == document_path(role)


def _beside_others(candidate: _State, directory: Directory, role: str) -> list[str]:
    """What is wrong with what a role publishes, beside everything else."""
    mistakes: list[tuple[str, list[Mistake]]] = []
    if role == CENTRE:
        centre = directory.centre
        mistakes += [(matter_path(matter.name), check_matter(matter, centre)) for matter in directory.matters.values()]
        delegated = set(departments_of(parse_metadata(candidate.metadata[CENTRE], Targets).signed))
        mistakes += [
            (CENTRE_FILE, [Mistake(("department", name), "a member needs admins' keys, and only a member has them")])
            for name in sorted(delegated ^ set(centre.departments))
        ]
    elif role in directory.documents:
        mistakes.append((document_path(role), check_document(directory.documents[role], directory)))
    return [
        f"{path}: {'.'.join(map(str, mistake.key))}: {mistake.message}" for path, found in mistakes for mistake in found
    ]


def _verified(delegator: Targets, role: str, data: bytes, now: Any) -> Targets:
    metadata = parse_metadata(data, Targets)
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    if metadata.signed.is_expired(now):
        raise RepositoryError(f"{role} is expired")
    targets: Targets = metadata.signed
    return targets


def findings_metadata(found: list[str]) -> dict[str, str]:
    """Findings for the details of an error, as many as it may carry."""
    lines = [line for text in found for line in text.splitlines()]
    told: dict[str, str] = {}
    room = MAX_FINDING_BYTES
    for number, line in enumerate(lines[:MAX_FINDINGS], 1):
        text = line[:MAX_FINDING]
        room -= len(text.encode())
        if room < 0:
            break
        told[f"finding-{number:02d}"] = text
    return told


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(Reason.METADATA_INVALID, detail, metadata=findings_metadata([detail]))


def write_durably(path: Path, content: bytes) -> None:
    """Durable, and never half; directories above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, content, mode=PUBLIC)
