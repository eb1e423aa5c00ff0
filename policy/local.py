"""What a department's own admins signed and put on their adapter's disk, for when hub and registrar cannot be reached.

It is exactly what would be published: the next metadata of the department's role (two sign; its document) or of its
suspensions (one signs), with the file that it lists. An adapter (`policy.beside`) takes it in if the directory in force
delegates to those keys, and if this installation pins them where it pins any; amends every directory by it; and lets go
of it once the directory says so itself.

Suspensions only add: whatever such a file leaves out stays. Each stands until the directory contains it, it ends, or a
document that two admins signed lifts it. Once taken in it is kept by these rules alone, so that it also stands when its
signer is an admin no longer. A document can grant, so its signatures are verified each time that it is applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from policy.crosscheck import check_document, mistake_of_id
from policy.document import parse_document, parse_suspensions
from policy.metadata import (
    CENTRE,
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
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.tomlfile import FileError

Roles = Mapping[str, Targets]
"""Verified metadata of centre and departments, by role: `DirectoryClient.roles`."""


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
        lifted = frozenset() if own is None else own.lifted
        # A list carries on what stands in the one before it, also what was lifted since.
        fresh = [entry for entry in local.suspensions if entry not in directory.suspensions]
        new = [entry for entry in fresh if entry.id not in lifted]
        if fresh and not new:
            raise RefusedError(
                Reason.DOCUMENT_INVALID, f"a suspension called {fresh[-1].id} was lifted once; take another id"
            )
        for mistake in filter(None, (mistake_of_id(entry.id) for entry in new)):
            raise RefusedError(Reason.DOCUMENT_INVALID, mistake)
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


def file_name(local: Local) -> str:
    """Under which name it stands."""
    return name_of(local.role, local.version, local.content_hash)


def name_of(role: str, version: int, content_hash: bytes) -> str:
    """Under which name a file stands, by what a log's entry has of it."""
    return f"{role}-{version}-{content_hash[:8].hex()}.json"
