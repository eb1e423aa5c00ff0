"""From verified metadata and files to one `Directory`. No I/O: the client and the registrar give it what they have.

All or nothing: if one file does not hold together there is no directory. Only a department whose metadata expired or
lost its signatures is left out by itself (`lapsed`): it neither asks nor answers, and nobody else is disturbed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from certs.revocation import RevocationList
from policy.centre import parse_centre, parse_matter
from policy.document import parse_activations, parse_document, parse_suspensions
from policy.emergencies import Seen, counting
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
    check_root,
    check_suspensions,
    departments_of,
    document_path,
    matter_path,
    role_keys,
    suspensions_path,
)
from policy.model import Activation, Centre, Directory, Document, Matter, Suspension
from zhiwang.wire.errors import FatalError, Reason, ZhiwangError
from zhiwang.wire.tomlfile import FileError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a directory is made of; every signature, version and hash has been verified.

    Attributes:
        roles: Metadata of the centre and of the departments, by role. Departments that lapsed are missing.
        content: Bytes of a listed file, by path.
        lapsed: Why a department is missing although it is delegated and has published.
        timestamp_bytes: Bytes of the timestamp metadata.
    """

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    roles: Mapping[str, Targets]
    content: Callable[[str], bytes]
    timestamp_bytes: bytes
    lapsed: Mapping[str, str] = field(default_factory=dict)


def assemble(parts: Parts, ca_pem: bytes, seen: Collection[Seen] = ()) -> Directory:
    """The directory.

    Args:
        parts: Verified.
        ca_pem: The pinned authority, for the revocation list.
        seen: Openings of emergencies that counted before.

    Raises:
        FatalError: METADATA_INVALID or DOCUMENT_INVALID, with what is wrong and where.
    """
    try:
        return _assemble(parts, ca_pem, seen)
    except FileError as error:
        raise FatalError(Reason.DOCUMENT_INVALID, str(error)) from error
    except FatalError:
        raise
    except ZhiwangError as error:
        raise FatalError(Reason.METADATA_INVALID, error.detail or error.reason.name) from error


def _assemble(parts: Parts, ca_pem: bytes, seen: Collection[Seen]) -> Directory:
    targets = parts.roles[CENTRE]
    check_root(parts.root)
    check_centre(targets)
    centre = _file(parts, CENTRE_FILE, _centre)
    matters = {}
    for path in targets.targets:
        if path.startswith(MATTERS):
            matter = _file(parts, path, _matter)
            if path != matter_path(matter.name):
                raise FatalError(Reason.DOCUMENT_INVALID, f"{path} calls itself {matter.name}")
            matters[matter.name] = matter
    signed = {"root": parts.root, "timestamp": parts.timestamp, "snapshot": parts.snapshot, **parts.roles}
    expiries = {role: metadata.expires.timestamp() for role, metadata in signed.items()}
    listed = None
    if REVOCATIONS_FILE in targets.targets:
        listed = RevocationList.parse(parts.content(REVOCATIONS_FILE), ca_pem)
        expiries[REVOCATIONS_FILE] = listed.next_update
    documents: dict[str, Document] = {}
    suspensions: list[Suspension] = []
    for department in departments_of(targets):
        metadata = parts.roles.get(department)
        if metadata is None:
            continue
        document = _document(parts, department, metadata)
        if document is not None:
            documents[department] = document
        lifted = frozenset() if document is None else document.lifted
        suspensions += [entry for entry in _suspensions(parts, department) if entry.id not in lifted]
    openings = [entry for department in documents for entry in _activations(parts, department)]
    return Directory(
        version=parts.snapshot.version,
        role_versions=MappingProxyType(
            {
                "root": parts.root.version,
                "timestamp": parts.timestamp.version,
                **{name.removesuffix(".json"): meta.version for name, meta in parts.snapshot.meta.items()},
            }
        ),
        expires=min(expiries[role] for role in ("root", "timestamp", "snapshot", CENTRE)),
        centre=centre,
        documents=MappingProxyType(documents),
        matters=MappingProxyType(matters),
        suspensions=tuple(suspensions),
        revoked=frozenset() if listed is None else listed.serials,
        revocation_times=MappingProxyType({}) if listed is None else listed.times,
        revocations_as_of=0.0 if listed is None else listed.this_update,
        admin_keys=MappingProxyType({name: role_keys(targets, name) for name in departments_of(targets)}),
        lapsed=MappingProxyType(dict(parts.lapsed)),
        timestamp_hash=hashlib.sha256(parts.timestamp_bytes).digest(),
        expiries=MappingProxyType(expiries),
        activations=counting(documents, openings, seen),
    )


def _document(parts: Parts, department: str, metadata: Targets) -> Document | None:
    check_department(department, metadata)
    path = document_path(department)
    if path not in metadata.targets:
        return None
    document = _file(parts, path, parse_document_bytes)
    if document.department != department:
        raise FatalError(Reason.DOCUMENT_INVALID, f'{path} says department = "{document.department}"')
    return replace(document, version=metadata.version)


def _suspensions(parts: Parts, department: str) -> tuple[Suspension, ...]:
    metadata = parts.roles.get(department + SUSPEND)
    path = suspensions_path(department)
    if metadata is None:
        return ()
    check_suspensions(department, metadata)
    if path not in metadata.targets:
        return ()
    named, entries = _file(parts, path, _suspended)
    if named != department:
        raise FatalError(Reason.DOCUMENT_INVALID, f'{path} says department = "{named}"')
    return entries


def _activations(parts: Parts, department: str) -> tuple[Activation, ...]:
    metadata = parts.roles.get(department + EMERGENCY)
    path = activations_path(department)
    if metadata is None:
        return ()
    check_activations(department, metadata)
    if path not in metadata.targets:
        return ()
    named, entries = _file(parts, path, _activated)
    if named != department:
        raise FatalError(Reason.DOCUMENT_INVALID, f'{path} says department = "{named}"')
    return entries


def _file(parts: Parts, path: str, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(parts.content(path))
    except KeyError:
        raise FatalError(Reason.DOCUMENT_INVALID, f"the centre has published no {path}") from None
    except FileError as error:
        raise FatalError(Reason.DOCUMENT_INVALID, f"{path}: {error}") from error


# Most files of a new snapshot are those of the last one; what they say depends on their bytes alone.


@lru_cache(maxsize=4)
def _centre(content: bytes) -> Centre:
    return parse_centre(content)


@lru_cache(maxsize=256)
def _matter(content: bytes) -> Matter:
    return parse_matter(content)


@lru_cache(maxsize=256)
def parse_document_bytes(content: bytes) -> Document:
    """`parse_document`, remembering what it parsed. The version is still to be set."""
    return parse_document(content)


@lru_cache(maxsize=256)
def _suspended(content: bytes) -> tuple[str, tuple[Suspension, ...]]:
    return parse_suspensions(content)


@lru_cache(maxsize=256)
def _activated(content: bytes) -> tuple[str, tuple[Activation, ...]]:
    return parse_activations(content)
