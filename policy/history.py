"""The directory as it was at some version: what an old entry of a log was decided by.

Everything is verified again as a reader did then, but for time: the snapshot is signed by the registrar's key under a
root that the pinned one leads to; each role's metadata is the one that the snapshot names by hash, and signed by a
threshold of the keys that this very version delegates to; each file is the one that its role names by hash. What is no
longer asked is whether it has expired since, and what a signature cannot say is that this was the newest version at
some moment: that says the log, which records the hash of each timestamp that came into force (`recorded`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NoReturn, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from policy.archive import timestamp_path
from policy.assemble import parse_document_bytes
from policy.centre import parse_centre, parse_matter
from policy.directory import Fetch
from policy.document import parse_activations, parse_suspensions
from policy.emergencies import counting
from policy.metadata import (
    CENTRE,
    CENTRE_FILE,
    EMERGENCY,
    MATTERS,
    REVOCATIONS_FILE,
    SUSPEND,
    activations_path,
    check_activations,
    check_centre,
    check_department,
    check_signed_root,
    check_suspensions,
    departments_of,
    document_path,
    matter_path,
    parse_metadata,
    role_keys,
    stored_path,
    suspensions_path,
)
from policy.model import Activation, Attribute, Centre, Directory, Document, Matter, Suspension
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.tomlfile import FileError

T = TypeVar("T")


class _LapsedError(RefusedError):
    """A role that its delegator's keys have not signed: other admins may speak for it by now."""


@dataclass(frozen=True, slots=True)
class PastDirectory:
    """What was asked for of one version of the directory, all of it verified.

    Attributes:
        version: Of the snapshot.
        versions: Version of each role's metadata, by role.
        centre: Membership and homes.
        documents: By department; those that had published nothing, or had lapsed, are missing.
        sources: Exact bytes of each document, by department.
        matters: By name; those that there were none of are missing.
        files: Every file that was read, by repository path: with the pinned root they verify again.
    """

    version: int
    versions: Mapping[str, int]
    centre: Centre
    documents: Mapping[str, Document] = field(default_factory=dict)
    sources: Mapping[str, bytes] = field(default_factory=dict)
    matters: Mapping[str, Matter] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    def attribute(self, owner: str, name: str) -> Attribute | None:
        """The published attribute, if its document was asked for and has it."""
        document = self.documents.get(owner)
        return None if document is None else document.attributes.get(name)


class History:
    """Reads old versions of the directory. Blocks as `fetch` does.

    Args:
        root_json: The pinned root.
        fetch: Gives the bytes at a path, from whoever keeps what was published; not trusted.
    """

    def __init__(self, root_json: bytes, fetch: Fetch) -> None:
        self._root_json = root_json
        self._fetch = fetch
        self._roots: list[tuple[Root, dict[str, bytes]]] = []

    def directory(self, version: int, departments: Iterable[str] = (), matters: Iterable[str] = ()) -> PastDirectory:
        """One version, with the documents of these departments and these matters.

        Raises:
            RefusedError: FILE_UNKNOWN: it is no longer kept. METADATA_INVALID, DOCUMENT_INVALID: it does not verify or
                cannot be read. Others, as `fetch` raises them.
        """
        files: dict[str, bytes] = {}
        snapshot, centre_role = self._opened(version, files)
        centre = self._parsed(centre_role, CENTRE_FILE, files, parse_centre)
        if REVOCATIONS_FILE in centre_role.targets:
            self._content(centre_role, REVOCATIONS_FILE, files)
        return PastDirectory(
            version,
            {name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()},
            centre,
            *self._documents(departments, centre_role, snapshot, files),
            {
                name: self._parsed(centre_role, matter_path(name), files, parse_matter)
                for name in dict.fromkeys(matters)
                if matter_path(name) in centre_role.targets
            },
            files,
        )

    def whole(self, version: int) -> Directory:
        """One version with everything that can be decided by: to look at, never to decide by.

        A department whose signatures no longer counted in it had lapsed, as it had for readers then. Whether one had
        expired depends on the day within the version, so that is not asked.

        Raises:
            RefusedError: As `directory`.
        """
        files: dict[str, bytes] = {}
        snapshot, centre = self._opened(version, files)
        documents: dict[str, Document] = {}
        suspensions: list[Suspension] = []
        openings: list[Activation] = []
        lapsed: dict[str, str] = {}
        for department in departments_of(centre):
            try:
                texts = self._texts_of(department, centre, snapshot, files)
            except _LapsedError as error:
                lapsed[department] = error.detail
                continue
            path = document_path(department)
            if path not in texts:
                continue
            document = _read(path, texts, parse_document_bytes)
            if document.department != department:
                _refuse(f"{path} says that it is of {document.department}")
            documents[department] = replace(document, version=snapshot.meta[f"{department}.json"].version)
            stopped = _listed(department, suspensions_path(department), texts, parse_suspensions)
            suspensions += [entry for entry in stopped if entry.id not in document.lifted]
            openings += _listed(department, activations_path(department), texts, parse_activations)
        matters = [path for path in centre.targets if path.startswith(MATTERS)]
        parsed = [self._parsed(centre, path, files, parse_matter) for path in matters]
        return Directory(
            version=version,
            role_versions={name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()},
            expires=float("inf"),
            centre=self._parsed(centre, CENTRE_FILE, files, parse_centre),
            documents=documents,
            matters={matter.name: matter for matter in parsed},
            suspensions=tuple(suspensions),
            lapsed=lapsed,
            activations=counting(documents, openings),
        )

    def texts(self, version: int) -> dict[str, bytes]:
        """Every file of one version exactly as it was signed, by path: the centre's and the departments'.

        A department that had lapsed is left out.

        Raises:
            RefusedError: As `directory`.
        """
        files: dict[str, bytes] = {}
        snapshot, centre = self._opened(version, files)
        texts: dict[str, bytes] = {}
        for path in centre.targets:
            name = path.removeprefix(MATTERS).removesuffix(".toml")
            if path in {CENTRE_FILE, REVOCATIONS_FILE} or (path == matter_path(name) and "/" not in name):
                texts[path] = self._content(centre, path, files)
        for department in departments_of(centre):
            with suppress(_LapsedError):
                texts |= self._texts_of(department, centre, snapshot, files)
        return texts

    def _texts_of(
        self, department: str, centre: Targets, snapshot: Snapshot, files: dict[str, bytes]
    ) -> dict[str, bytes]:
        if f"{department}.json" not in snapshot.meta:
            return {}
        own = self._role(department, centre, snapshot, files)
        check_department(department, own)
        listed = {document_path(department): own}
        for ending, path, check in (
            (SUSPEND, suspensions_path(department), check_suspensions),
            (EMERGENCY, activations_path(department), check_activations),
        ):
            role = department + ending
            if role_keys(own, role) and f"{role}.json" in snapshot.meta:
                listed[path] = self._role(role, own, snapshot, files)
                check(department, listed[path])
        return {path: self._content(role, path, files) for path, role in listed.items() if path in role.targets}

    def recorded(self, version: int, timestamp_hash: bytes) -> dict[str, bytes]:
        """The timestamp that a log recorded when it came into force, which must name this version's snapshot.

        Returns:
            Its file, by path.

        Raises:
            RefusedError: As `directory`; METADATA_INVALID also if it is another one's.
        """
        path = timestamp_path(timestamp_hash)
        data = self._fetch(path)
        if sha256(data).digest() != timestamp_hash:
            _refuse(f"{path} is not the timestamp that the log recorded")
        listed = parse_metadata(data, Timestamp).signed.snapshot_meta
        snapshot = self._fetch(f"metadata/{version}.snapshot.json")
        _check_hash(listed, snapshot, f"the snapshot of version {version}")
        if listed.version != version:
            _refuse(f"the timestamp that the log recorded is of version {listed.version}")
        return {path: data}

    def _opened(self, version: int, files: dict[str, bytes]) -> tuple[Snapshot, Targets]:
        """The snapshot of a version and the centre's role in it."""
        path = f"metadata/{version}.snapshot.json"
        data = files[path] = self._fetch(path)
        metadata = parse_metadata(data, Snapshot)
        root = self._signing_root(metadata, files)
        snapshot: Snapshot = metadata.signed
        if snapshot.version != version:
            _refuse(f"{path} calls itself version {snapshot.version}")
        centre = self._role(CENTRE, root, snapshot, files)
        check_centre(centre)
        return snapshot, centre

    def _signing_root(self, metadata: Metadata[Snapshot], files: dict[str, bytes]) -> Root:
        """The newest root under which the snapshot verifies."""
        if not self._roots:
            self._roots = list(self._chain())
        for root, chain in reversed(self._roots):
            try:
                root.verify_delegate("snapshot", metadata.signed_bytes, metadata.signatures)
            except RepositoryError:
                continue
            files.update(chain)
            return root
        raise _refusal("a snapshot is not signed by the registrar under any root that the pinned one leads to")

    def _chain(self) -> Iterator[tuple[Root, dict[str, bytes]]]:
        """The pinned root and each later one that the one before it signed, with the files that lead there."""
        check_signed_root(self._root_json)
        root: Root = parse_metadata(self._root_json, Root).signed
        chain = {f"metadata/{root.version}.root.json": self._root_json}
        while True:
            yield root, dict(chain)
            path = f"metadata/{root.version + 1}.root.json"
            try:
                data = self._fetch(path)
            except RefusedError as error:
                if error.reason is Reason.FILE_UNKNOWN:
                    return
                raise
            metadata = parse_metadata(data, Root)
            for signer in (root, metadata.signed):
                _check_signed(signer, "root", metadata)
            if metadata.signed.version != root.version + 1:
                _refuse(f"{path} is another version")
            root = metadata.signed
            chain[path] = data

    def _documents(
        self, departments: Iterable[str], centre: Targets, snapshot: Snapshot, files: dict[str, bytes]
    ) -> tuple[dict[str, Document], dict[str, bytes]]:
        documents: dict[str, Document] = {}
        sources: dict[str, bytes] = {}
        members = departments_of(centre)
        for department in dict.fromkeys(departments):
            path = document_path(department)
            if department not in members or f"{department}.json" not in snapshot.meta:
                continue
            role = self._role(department, centre, snapshot, files)
            check_department(department, role)
            if path in role.targets:
                document = self._parsed(role, path, files, parse_document_bytes)
                if document.department != department:
                    _refuse(f"{path} says that it is of {document.department}")
                documents[department] = replace(document, version=role.version)
                sources[department] = self._content(role, path, files)
        return documents, sources

    def _role(self, role: str, delegator: Root | Targets, snapshot: Snapshot, files: dict[str, bytes]) -> Targets:
        meta = snapshot.meta.get(f"{role}.json")
        if meta is None or not meta.hashes:
            _refuse(f"the snapshot does not name {role} by hash")
        path = f"metadata/{meta.version}.{role}.json"
        data = files[path] = self._fetch(path)
        _check_hash(meta, data, path)
        metadata = parse_metadata(data, Targets)
        _check_signed(delegator, role, metadata)
        if metadata.signed.version != meta.version:
            _refuse(f"{path} is another version")
        targets: Targets = metadata.signed
        return targets

    def _content(self, role: Targets, path: str, files: dict[str, bytes]) -> bytes:
        target = role.targets[path]
        stored = stored_path(path, target.hashes["sha256"])
        if stored not in files:
            data = self._fetch(stored)
            _check_hash(target, data, stored)
            files[stored] = data
        return files[stored]

    def _parsed(self, role: Targets, path: str, files: dict[str, bytes], parse: Callable[[bytes], T]) -> T:
        if path not in role.targets:
            _refuse(f"there is no {path}")
        try:
            return parse(self._content(role, path, files))
        except FileError as error:
            # It was good once: a later version of this program reads less, or it was never this program's.
            raise RefusedError(Reason.DOCUMENT_INVALID, f"{path}: {error}") from error


def _read(path: str, texts: Mapping[str, bytes], parse: Callable[[bytes], T]) -> T:
    try:
        return parse(texts[path])
    except FileError as error:
        raise RefusedError(Reason.DOCUMENT_INVALID, f"{path}: {error}") from error


def _listed(
    department: str, path: str, texts: Mapping[str, bytes], parse: Callable[[bytes], tuple[str, tuple[T, ...]]]
) -> tuple[T, ...]:
    """Entries of a list of a department's; none if there is no list."""
    if path not in texts:
        return ()
    named, entries = _read(path, texts, parse)
    if named != department:
        _refuse(f"{path} says that it is of {named}")
    return entries


def _check_signed(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise _LapsedError(
            Reason.METADATA_INVALID, f"{role} is not signed as it was delegated: {type(error).__name__}"
        ) from error


def _check_hash(listed: MetaFile | TargetFile, data: bytes, path: str) -> None:
    try:
        listed.verify_length_and_hashes(data)
    except RepositoryError as error:
        raise _refusal(f"{path} is not the file that was signed") from error


def _refuse(detail: str) -> NoReturn:
    raise _refusal(detail)


def _refusal(detail: str) -> RefusedError:
    return RefusedError(Reason.METADATA_INVALID, detail)
