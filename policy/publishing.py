"""The admin's side: which file belongs to which role, what that role's next metadata is, and who has to sign it.

Reads what is in force from the registrar, verified from the pinned root on; unlike a client it still reads metadata of
centre and departments that has expired, because renewing it is what it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.exceptions import UnverifiedSignatureError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from policy.centre import parse_centre, parse_matter
from policy.directory import Fetch
from policy.document import parse_activations, parse_document, parse_suspensions
from policy.metadata import (
    CENTRE,
    CENTRE_FILE,
    EMERGENCY,
    FOUR_EYES,
    REVOCATIONS_FILE,
    SUSPEND,
    Publication,
    RawSigner,
    TufSigner,
    activations_path,
    build_activations,
    build_centre,
    build_department,
    build_suspensions,
    department_of,
    departments_of,
    document_path,
    matter_path,
    moment,
    parse_metadata,
    role_keys,
    signed,
    stored_path,
    suspensions_path,
    tuf_key,
)
from policy.signed_file import is_publication, parse_publication
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.tomlfile import FileError, Finding, parse

_MAX_ROOTS = 256


@dataclass(frozen=True, slots=True)
class Current:
    """What is in force, as far as an admin needs it.

    Attributes:
        root: The newest root.
        roles: Metadata of centre, departments and suspensions; empty before the centre has published.
        lapsed: Those of the roles whose signatures no longer count. Their versions do, their contents do not.
        fetch: Gives the bytes at a path.
    """

    root: Root
    roles: Mapping[str, Targets] = field(default_factory=lambda: MappingProxyType({}))
    lapsed: frozenset[str] = frozenset()
    fetch: Fetch | None = None

    def content(self, role: str, path: str) -> bytes:
        """A published file.

        Raises:
            RefusedError: METADATA_INVALID, if it is not what was signed.
        """
        target = self.roles[role].targets[path]
        data = b"" if self.fetch is None else self.fetch(stored_path(path, target.hashes["sha256"]))
        try:
            target.verify_length_and_hashes(data)
        except RepositoryError:
            raise RefusedError(Reason.METADATA_INVALID, f"{path} is not what was signed") from None
        return data


@dataclass(frozen=True, slots=True)
class Draft:
    """A role's next metadata before it is signed.

    Attributes:
        keys: Raw public keys that may sign it.
        threshold: How many of them must.
    """

    role: str
    metadata: Metadata[Targets]
    files: Mapping[str, bytes]
    keys: frozenset[bytes]
    threshold: int


@dataclass(frozen=True, slots=True)
class Named:
    """A file to publish: where it came from, for messages, and its bytes."""

    name: str
    content: bytes


def read_current(fetch: Fetch, root_json: bytes, now: float) -> Current:
    """Reads and verifies what is in force.

    Args:
        fetch: Gives the bytes at a path.
        root_json: The pinned root.
        now: Seconds since the epoch; timestamp and snapshot must be fresh.

    Raises:
        RefusedError: METADATA_INVALID, or whatever `fetch` raises.
    """
    root = parse_metadata(root_json, Root).signed
    for version in range(root.version + 1, root.version + _MAX_ROOTS):
        data = _try(fetch, f"metadata/{version}.root.json")
        if data is None:
            break
        newer = parse_metadata(data, Root)
        _verify(root, "root", newer)
        _verify(newer.signed, "root", newer)
        if newer.signed.version != version:
            raise RefusedError(Reason.METADATA_INVALID, f"root {version} says that it is {newer.signed.version}")
        root = newer.signed
    data = _try(fetch, "metadata/timestamp.json")
    if data is None:
        return Current(root, fetch=fetch)
    timestamp = _top(root, "timestamp", parse_metadata(data, Timestamp), now)
    data = fetch(f"metadata/{timestamp.snapshot_meta.version}.snapshot.json")
    _match(timestamp.snapshot_meta, "snapshot", data)
    snapshot = _top(root, "snapshot", parse_metadata(data, Snapshot), now)
    centre = _read(fetch, snapshot, CENTRE)
    _verify(root, CENTRE, centre)
    roles: dict[str, Targets] = {CENTRE: centre.signed}
    lapsed = set()
    for department in departments_of(centre.signed):
        below = ((department, department + ending) for ending in (SUSPEND, EMERGENCY))
        for delegator, role in ((CENTRE, department), *below):
            if delegator in roles and f"{role}.json" in snapshot.meta:
                metadata = _read(fetch, snapshot, role)
                roles[role] = metadata.signed
                try:
                    _verify(roles[delegator], role, metadata)
                except RefusedError:
                    lapsed.add(role)
    return Current(root, MappingProxyType(roles), frozenset(lapsed), fetch)


def _read(fetch: Fetch, snapshot: Snapshot, role: str) -> Metadata[Targets]:
    """A role's metadata as the snapshot lists it; its signatures are still to be verified."""
    meta = snapshot.meta[f"{role}.json"]
    data = fetch(f"metadata/{meta.version}.{role}.json")
    _match(meta, role, data)
    return parse_metadata(data, Targets)


def _try(fetch: Fetch, path: str) -> bytes | None:
    try:
        return fetch(path)
    except RefusedError as error:
        if error.reason is not Reason.FILE_UNKNOWN:
            raise
        return None


def _top(root: Root, role: str, metadata: Metadata[Any], now: float) -> Any:
    _verify(root, role, metadata)
    if metadata.signed.is_expired(moment(now)):
        raise RefusedError(Reason.METADATA_INVALID, f"the {role} has expired; is the registrar running?")
    return metadata.signed


def _match(meta: Any, role: str, data: bytes) -> None:
    try:
        meta.verify_length_and_hashes(data)
    except RepositoryError:
        raise RefusedError(Reason.METADATA_INVALID, f"{role} is not what was signed") from None


def _verify(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError):
        raise RefusedError(Reason.METADATA_INVALID, f"{role} is not signed by enough of its keys") from None


# Drafting ------------------------------------------------------------------------------------------------------------


def draft(
    files: Sequence[Named],
    current: Current,
    *,
    now: float,
    admins: Mapping[str, Sequence[bytes]] | None = None,
    removed: Iterable[str] = (),
) -> list[Draft]:
    """What has to be signed so that these files are published, in the order in which it has to be sent.

    Args:
        files: centre.toml, matters, crl.pem, documents and suspensions, told apart by what is in them.
        current: In force.
        now: Seconds since the epoch.
        admins: Raw signing keys of all admins of a department, for departments that are added or change admins.
        removed: Names of matters that go.

    Raises:
        FileError: With every finding in all of the files.
        RefusedError: METADATA_INVALID, if a department is no member, or a file stands twice.
    """
    groups = classify_all(files)
    centre, documents, suspensions = groups["centre"], groups["document"], groups["suspend"]
    drafts = []
    targets = current.roles.get(CENTRE)
    gone = [matter_path(name) for name in removed]
    if centre or gone or admins:
        built = build_centre(targets, changed=centre, removed=gone, admins=admins, now=now)
        role = current.root.roles[CENTRE]
        drafts.append(Draft(CENTRE, built, centre, role_keys(current.root, CENTRE), role.threshold))
        targets = built.signed
    for department, content in documents.items():
        drafts += _draft_document(department, content, current, targets, suspensions, now)
    drafts += [
        _draft_suspensions(department, content, current, drafts, now) for department, content in suspensions.items()
    ]
    return drafts


def classify_all(files: Sequence[Named]) -> dict[str, dict[str, bytes]]:
    """Files by what they are: "centre" by path, "document" and "suspend" by department. Each is parsed.

    Raises:
        FileError: With every finding in all of the files.
        RefusedError: METADATA_INVALID, if a file stands twice.
    """
    groups: dict[str, dict[str, bytes]] = {"centre": {}, "document": {}, "suspend": {}}
    findings: list[Finding] = []
    for file in files:
        try:
            group, name, path = _classify(file)
        except FileError as error:
            findings += [replace(found, file=file.name) for found in error.findings]
            continue
        if name in groups[group]:
            raise RefusedError(Reason.METADATA_INVALID, f"{path} stands twice among the files")
        groups[group][name] = file.content
    if findings:
        raise FileError(findings)
    return groups


def split_signed(files: Sequence[Named]) -> tuple[list[Publication], list[Named]]:
    """What is signed already among the files (roots, and what `--out` wrote), sent as it is; and the rest."""
    publications, rest = [], []
    for file in files:
        if not file.content.lstrip().startswith(b"{"):
            rest.append(file)
        elif is_publication(file.content):
            publications.append(parse_publication(file.content))
        else:
            publications.append(Publication("root", file.content, {}))
    return publications, rest


def _classify(file: Named) -> tuple[str, str, str]:
    """Group, key within the group, and path of a file; parsed, so that nothing malformed is ever signed."""
    content = file.content
    if content.lstrip().startswith(b"-----BEGIN X509 CRL-----"):
        return "centre", REVOCATIONS_FILE, REVOCATIONS_FILE
    try:
        keys = set(parse(content))
    except FileError:
        keys = set()  # what it is not, the parser below says by line
    if "city" in keys:
        parse_centre(content)
        return "centre", CENTRE_FILE, CENTRE_FILE
    if "matter" in keys:
        path = matter_path(parse_matter(content).name)
        return "centre", path, path
    if "department" in keys and "title" not in keys:
        department, _ = parse_suspensions(content)
        return "suspend", department, suspensions_path(department)
    department = parse_document(content).department
    return "document", department, document_path(department)


def _draft_document(
    department: str,
    content: bytes,
    current: Current,
    targets: Targets | None,
    suspensions: dict[str, bytes],
    now: float,
) -> list[Draft]:
    keys = frozenset() if targets is None else role_keys(targets, department)
    if not keys:
        raise RefusedError(Reason.METADATA_INVALID, f"the centre delegates nothing to {department}")
    own = current.roles.get(department)
    built = build_department(department, own, document=content, admins=keys, now=now)
    suspend = department + SUSPEND
    stands = suspend in current.roles and suspend not in current.lapsed
    if stands and department not in suspensions and own is not None and role_keys(own, suspend) != keys:
        # Other admins: they sign the standing suspensions again, or those would lapse and the department with them.
        suspensions[department] = current.content(suspend, suspensions_path(department))
    return [Draft(department, built, {document_path(department): content}, keys, FOUR_EYES)]


def _draft_suspensions(department: str, content: bytes, current: Current, drafts: Sequence[Draft], now: float) -> Draft:
    suspend = department + SUSPEND
    drafted = [found.metadata.signed for found in drafts if found.role == department]
    own = drafted[0] if drafted else current.roles.get(department)
    if own is None:
        raise RefusedError(Reason.METADATA_INVALID, f"{department} has to publish its document before it can suspend")
    built = build_suspensions(department, current.roles.get(suspend), suspensions=content, now=now)
    return Draft(suspend, built, {suspensions_path(department): content}, role_keys(own, suspend), 1)


def draft_activations(department: str, content: bytes, current: Current, now: float) -> Draft:
    """What one admin of a department signs to open an emergency.

    Raises:
        FileError: What is wrong with emergency.toml.
        RefusedError: METADATA_INVALID: nobody delegates the emergencies of this department.
    """
    named, _ = parse_activations(content)
    role, own = department + EMERGENCY, current.roles.get(department)
    keys = frozenset() if own is None else role_keys(own, role)
    if not keys or named != department:
        raise RefusedError(
            Reason.METADATA_INVALID,
            f"{department} can open no emergency: centre.toml and the document of {department} have to be published by "
            "this version of zhiwang first",
        )
    built = build_activations(department, current.roles.get(role), content=content, now=now)
    return Draft(role, built, {activations_path(department): content}, keys, 1)


# Signing -------------------------------------------------------------------------------------------------------------


def sign(drafted: Draft, signers: Iterable[RawSigner]) -> Publication:
    """Signs a draft with those of the signers whose keys count.

    Raises:
        RefusedError: METADATA_INVALID, if they are too few.
    """
    publication = sign_some(drafted, signers)
    count = len(parse_metadata(publication.metadata, Targets).signatures)
    if count < drafted.threshold:
        raise _too_few(drafted, count)
    return publication


def sign_some(drafted: Draft, signers: Iterable[RawSigner]) -> Publication:
    """As `sign`, but fewer will do: the others sign later.

    Raises:
        RefusedError: METADATA_INVALID, if none of them counts.
    """
    counted = {signer.public_key_raw: signer for signer in signers if signer.public_key_raw in drafted.keys}
    if not counted:
        raise _too_few(drafted, 0)
    return Publication(drafted.role, signed(drafted.metadata, map(TufSigner, counted.values())), drafted.files)


def _too_few(drafted: Draft, count: int) -> RefusedError:
    whose = "the centre" if drafted.role == CENTRE else department_of(drafted.role)
    return RefusedError(
        Reason.METADATA_INVALID,
        f"{drafted.role} needs {drafted.threshold} signatures of admins of {whose}, and here are {count}",
    )


def countersign(publication: Publication, current: Current, signer: RawSigner, now: float) -> Publication:
    """Adds a signature to what another admin has signed, if it says what its files say and nothing else.

    Args:
        publication: As it was handed over.
        current: In force.
        signer: An admin of the same role.
        now: Seconds since the epoch.

    Raises:
        RefusedError: METADATA_INVALID: it is not what these files alone would change (its delegations say who may
            suspend), or the key does not count.
    """
    role = publication.role
    metadata = parse_metadata(publication.metadata, Targets)
    drafts = draft([Named(path, content) for path, content in publication.files.items()], current, now=now)
    mine = next((drafted for drafted in drafts if drafted.role == role), None)
    if mine is None or signer.public_key_raw not in mine.keys:
        raise RefusedError(Reason.METADATA_INVALID, f"this admin does not sign for {role}")
    theirs, expected = metadata.signed.to_dict(), mine.metadata.signed.to_dict()
    latest = mine.metadata.signed.expires
    for said in (theirs, expected):
        said.pop("expires")
    if theirs != expected or metadata.signed.expires > latest:
        raise RefusedError(
            Reason.METADATA_INVALID, f"the proposal says more than its files, or is not the next version of {role}"
        )
    metadata.sign(TufSigner(signer), append=True)
    return Publication(role, metadata.to_bytes(), publication.files)


def count_signers(publication: Publication, drafted: Draft) -> int:
    """How many of the admins who sign for a role have signed; a signature that does not verify is none.

    Args:
        publication: As it was signed so far.
        drafted: Of the same role, as it would be now.

    Raises:
        RefusedError: METADATA_INVALID: it is no metadata.
    """
    metadata = parse_metadata(publication.metadata, Targets)
    keys = {key.keyid: key for key in map(tuf_key, drafted.keys)}
    count = 0
    for key_id, signature in metadata.signatures.items():
        with suppress(UnverifiedSignatureError):
            if key_id in keys:
                keys[key_id].verify_signature(signature, metadata.signed_bytes)
                count += 1
    return count


def certificate_key(pem: bytes) -> bytes:
    """Raw key of an admin's signing certificate.

    Raises:
        RefusedError: CERTIFICATE_INVALID.
    """
    try:
        key = x509.load_pem_x509_certificate(pem).public_key()
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise RefusedError(Reason.CERTIFICATE_INVALID, "not a signing certificate (signing.pem) of an admin")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
