"""What the registrar takes in: new metadata of one role with its files, held against what is in force.

Signatures, version, lifetime, shape and files; that nobody who is revoked comes back, that nothing is lost which one
admin suspended and two have not lifted, and that only an emergency is opened which was prepared. Whether the whole then
still holds together is `coherence.py`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Root, Targets

from certs.revocation import RevocationList
from policy.assemble import parse_document_bytes
from policy.contents import Contents
from policy.crosscheck import mistake_of_id
from policy.document import parse_activations, parse_suspensions
from policy.emergencies import counting, prepared, seen_of
from policy.findings import refuse
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
    parse_metadata,
    suspensions_path,
)
from policy.model import Activation, Directory, Suspension
from policy.standing import missing
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.tomlfile import FileError

OPENING_SKEW = 300
"""Seconds by which the beginning of an opened emergency may differ from the registrar's clock."""


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


class Admission:
    """Judges one publication.

    Args:
        contents: In force.
        directory: What they say; None before the centre has published.
        ca_pem: The pinned authority, for revocation lists.
        now: Seconds since the epoch.
    """

    def __init__(self, contents: Contents, directory: Directory | None, ca_pem: bytes, now: float) -> None:
        self._contents = contents
        self._directory = directory
        self._ca_pem = ca_pem
        self._now = now

    def with_root(self, publication: Publication) -> Contents:
        """What is held with the next root.

        Raises:
            RefusedError: METADATA_INVALID.
        """
        metadata = parse_metadata(publication.metadata, Root)
        check_root(metadata.signed)
        old = self._contents.root
        if metadata.signed.version != old.version + 1 or publication.files:
            refuse(f"the next root has version {old.version + 1} and no files")
        try:
            old.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
            metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError as error:
            refuse(str(error))
        return replace(self._contents, roots=(*self._contents.roots, publication.metadata))

    def with_role(self, publication: Publication, *, whole: bool = True) -> Contents:
        """What is held with new metadata of another role, and its files.

        Args:
            publication: Of the role.
            whole: Whether enough admins must have signed it, and not only one of them.

        Raises:
            RefusedError: METADATA_INVALID.
        """
        role = publication.role
        metadata = parse_metadata(publication.metadata, Targets)
        delegator, shape = self._delegator(role)
        try:
            if whole:
                delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            elif not self.signed(publication).key_ids:
                refuse(f"{role} is signed by none of its admins")
        except (RepositoryError, ValueError) as error:
            refuse(str(error))
        current = self._contents.role(role)
        expected = 1 if current is None else current.version + 1
        if metadata.signed.version != expected:
            refuse(f"{role} must have version {expected}; somebody else published meanwhile, or this was sent twice")
        left = metadata.signed.expires.timestamp() - self._now
        if not DAY <= left <= max(LIFETIMES.values()) + DAY:
            refuse(f"{role} must expire between a day and ten years from now")
        shape(metadata.signed)
        useless = sorted(path for path in metadata.signed.targets if not _is_known(role, path))
        if useless:
            refuse(f"{role} lists files of no use: {', '.join(useless)}")
        targets = self._with_files(metadata.signed, current, publication.files)
        if role == CENTRE:
            self._check_revocations(targets)
        if role.endswith(SUSPEND):
            self._check_suspensions(role.removesuffix(SUSPEND), targets)
        if role.endswith(EMERGENCY):
            self._check_activations(role.removesuffix(EMERGENCY), targets)
        return replace(
            self._contents,
            metadata={**self._contents.metadata, role: publication.metadata},
            targets=targets,
        )

    def _delegator(self, role: str) -> tuple[Root | Targets, Callable[[Targets], None]]:
        if role == CENTRE:
            return self._contents.root, check_centre
        department = department_of(role)
        centre = self._contents.role(CENTRE)
        if centre is None or department not in departments_of(centre):
            refuse(f"nobody delegates to {role[:64]!r}")
        if role == department:
            return centre, lambda targets: check_department(department, targets)
        own = self._contents.role(department)
        if own is None:
            refuse(f"{department} has to publish its document first")
        if role.endswith(EMERGENCY):
            delegations = centre.delegations
            roles = {} if delegations is None or delegations.roles is None else delegations.roles
            if not roles[department].is_delegated_path(activations_path(department)):
                refuse("the centre has to publish centre.toml again before anybody can open an emergency")
            return own, lambda targets: check_activations(department, targets)
        return own, lambda targets: check_suspensions(department, targets)

    def _with_files(self, role: Targets, current: Targets | None, files: Mapping[str, bytes]) -> dict[str, bytes]:
        targets = dict(self._contents.targets)
        for path in set() if current is None else set(current.targets) - set(role.targets):
            targets.pop(path, None)
        for path, content in files.items():
            if path not in role.targets:
                refuse("a file was sent that the metadata does not list")
            if len(content) > MAX_FILE:
                refuse(f"{path} is longer than {MAX_FILE} bytes")
            targets[path] = content
        for path, target in role.targets.items():
            if path not in targets:
                refuse(f"{path} is listed but was not sent")
            try:
                target.verify_length_and_hashes(targets[path])
            except RepositoryError:
                refuse(f"{path} is not the file that was signed")
        return targets

    def _check_suspensions(self, department: str, targets: Mapping[str, bytes]) -> None:
        """Refuse to lose what two admins have not lifted, and what could not come into force."""
        own = targets.get(document_path(department))
        if own is None:
            return
        document = parse_document_bytes(own)
        before, after = (_listed(held.get(suspensions_path(department))) for held in (self._contents.targets, targets))
        for entry in missing(before, after, {department: document}, self._now):
            refuse(
                f"the suspension {entry.id} is in force. One admin suspends, two lift: zhiwang policy lift {entry.id}"
            )
        for entry in after:
            if entry not in before:
                _check_id(entry.id)
            if entry.id in document.lifted and entry not in before:
                refuse(f"a suspension called {entry.id} was lifted once; take another id")

    def _check_activations(self, department: str, targets: Mapping[str, bytes]) -> None:
        """Refuse what readers would pass over, and what was not signed just now: nobody keeps openings in store."""
        directory = self._directory
        before, after = (opened(held.get(activations_path(department))) for held in (self._contents.targets, targets))
        new = [entry for entry in after if entry not in before]
        lost = [entry for entry in _standing(directory, department, self._now) if entry not in after]
        if directory is None or lost or len(new) != 1:
            refuse("one emergency is opened at a time, and those that were opened stay as they are")
        (entry,) = new
        _check_id(entry.id)
        document = directory.documents.get(entry.owner)
        emergency = None if document is None else document.emergency(entry.emergency)
        if emergency is None or department not in emergency.admins:
            refuse(f"{entry.owner} has prepared no emergency {entry.emergency} that {department} may open")
        if prepared(directory.documents, entry) is None:
            refuse(f"{entry.owner}/{entry.emergency} can be opened for {emergency.hours} hours at most")
        if abs(entry.since - self._now) > OPENING_SKEW:
            refuse("an emergency is opened from now on; is this machine's clock right?")
        # As a reader that has seen what is there: an earlier beginning does not displace it.
        seen = map(seen_of, directory.activations)
        if entry not in counting(directory.documents, [*directory.activations, entry], seen):
            refuse(f"{entry.owner}/{entry.emergency} was opened less than a day before; what lasts longer is a grant")

    def _check_revocations(self, targets: Mapping[str, bytes]) -> None:
        """Refuse to lose the revocation list, or to go back to an older one: whoever was revoked would be back."""
        before, after = (held.get(REVOCATIONS_FILE) for held in (self._contents.targets, targets))
        if before is None or after == before:
            return
        if after is None:
            refuse(f"{REVOCATIONS_FILE} is in force and may only be replaced by a newer list")
        try:
            older = RevocationList.parse(before, self._ca_pem).age
        except RefusedError:
            return  # of an authority that is pinned no longer
        try:
            newer = RevocationList.parse(after, self._ca_pem).age
        except RefusedError as error:
            refuse(error.detail)
        if newer < older:
            refuse(f"{REVOCATIONS_FILE} is older than the list that is in force")

    def signed(self, publication: Publication) -> Signed:
        """Who has signed metadata of a role, by the keys that the directory in force delegates to.

        Raises:
            RefusedError: METADATA_INVALID: nobody delegates to the role, or it is no metadata.
        """
        metadata = parse_metadata(publication.metadata, Root if publication.role == "root" else Targets)
        delegator = self._contents.root if publication.role == "root" else self._delegator(publication.role)[0]
        result = delegator.get_verification_result(publication.role, metadata.signed_bytes, metadata.signatures)
        digest = sha256(metadata.signed_bytes).digest()
        return Signed(tuple(sorted(result.signed)), result.threshold, metadata.signed.version, digest)


def opened(content: bytes | None) -> tuple[Activation, ...]:
    """Openings that a file lists; none of one that cannot be read, which is refused elsewhere."""
    if content is None:
        return ()
    try:
        return parse_activations(content)[1]
    except FileError:
        return ()


def _listed(content: bytes | None) -> tuple[Suspension, ...]:
    """Suspensions of a file; none of one that cannot be read, which is refused elsewhere."""
    if content is None:
        return ()
    try:
        return parse_suspensions(content)[1]
    except FileError:
        return ()


def _standing(directory: Directory | None, department: str, now: float) -> list[Activation]:
    """What a department's admins have opened and what has not ended."""
    activations = () if directory is None else directory.activations
    return [entry for entry in activations if entry.department == department and now < entry.until]


def _check_id(name: str) -> None:
    mistake = mistake_of_id(name)
    if mistake is not None:
        refuse(mistake)


def _is_known(role: str, path: str) -> bool:
    """Whether readers make anything of a file; they pass over what they do not know below a role's own prefix."""
    if role == CENTRE:
        name = path.removeprefix(MATTERS)
        is_matter = path.startswith(MATTERS) and "/" not in name and name.endswith(".toml")
        return path in {CENTRE_FILE, REVOCATIONS_FILE} or is_matter
    return role.endswith((SUSPEND, EMERGENCY)) or path == document_path(role)
