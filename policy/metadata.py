"""How the directory's roles look in The Update Framework, and how their metadata is built and signed.

| role            | signed by                        | lists                                                      |
|-----------------|----------------------------------|------------------------------------------------------------|
| root            | a threshold of the root keys     | the keys of the four top-level roles                       |
| targets         | a threshold of the centre        | centre.toml, matters/<name>.toml, crl.pem; the departments |
| <dept>          | two of the department's admins   | <dept>/document.toml; its two roles below                  |
| <dept>-suspend  | one of the department's admins   | <dept>/suspend/current.toml                                |
| <dept>-emergency| one of the department's admins   | <dept>/emergency/current.toml                              |
| snapshot        | the registrar                    | versions and hashes of all of the above                    |
| timestamp       | the registrar                    | version and hash of the snapshot                           |

A reader trusts no more than these shapes: `check_*` refuses a role that claims a path of another, so a file under
`hrss/` can only have come from hrss. Reference: TUF specification 1.0.33, sections 4 and 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import Key, Signature, Signer, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Role, Root, Signed, TargetFile, Targets

from zhiwang.wire.errors import Reason, RefusedError

CENTRE = "targets"
"""TUF's name of the centre's role."""

SUSPEND = "-suspend"
"""Ending of a department's role for suspensions; no department's name has a hyphen."""

EMERGENCY = "-emergency"
"""Ending of a department's role for the emergencies that its admins have opened."""

CENTRE_FILE = "centre.toml"
REVOCATIONS_FILE = "crl.pem"
MATTERS = "matters/"

FOUR_EYES = 2
"""Least threshold of centre and departments."""

MAX_METADATA = 1_000_000
"""Longest metadata in bytes."""

MAX_FILE = 2_000_000
"""Longest file in bytes."""

MAX_VERSION = 2**53 - 1
"""Largest version of metadata: what every reader of JSON takes for the number that it is (RFC 8259, section 6)."""

DAY = 86_400
LIFETIMES = {
    "root": 1825 * DAY,
    CENTRE: 365 * DAY,
    "department": 365 * DAY,
    "suspend": 3650 * DAY,
    "emergency": 30 * DAY,
}
"""Seconds for which signed metadata is good. A suspension must not end because somebody forgot to renew it."""


def document_path(department: str) -> str:
    """Where a department's document stands."""
    return f"{department}/document.toml"


def suspensions_path(department: str) -> str:
    """Where its suspensions stand."""
    return f"{department}/suspend/current.toml"


def activations_path(department: str) -> str:
    """Where the emergencies stand that its admins have opened."""
    return f"{department}/emergency/current.toml"


def department_of(role: str) -> str:
    """Whose role it is, itself or one that it delegates."""
    return role.removesuffix(SUSPEND).removesuffix(EMERGENCY)


def matter_path(matter: str) -> str:
    """Where a matter stands."""
    return f"{MATTERS}{matter}.toml"


def stored_path(path: str, content_hash: str) -> str:
    """Name of a target in a repository with consistent snapshots, e.g. "targets/hrss/<hash>.document.toml"."""
    folder, slash, name = path.rpartition("/")
    return f"targets/{folder}{slash}{content_hash}.{name}"


# Keys ----------------------------------------------------------------------------------------------------------------


class RawSigner(Protocol):
    """Something with an Ed25519 key, such as `certs.signing.Signer`."""

    @property
    def public_key_raw(self) -> bytes:
        """32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""


class TufSigner(Signer):
    """Signs metadata with the key of a signing certificate; the private half stays where it is."""

    def __init__(self, signer: RawSigner) -> None:
        self._signer = signer
        self._key = tuf_key(signer.public_key_raw)

    @property
    def public_key(self) -> Key:
        """As TUF writes it."""
        return self._key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> Signer:  # noqa: ARG003, D102 # the interface's
        raise RefusedError(Reason.METADATA_INVALID, "keys are not named by URI here")

    def sign(self, payload: bytes) -> Signature:
        """One signature."""
        return Signature(self._key.keyid, self._signer.sign(payload).hex())


def tuf_key(public_key_raw: bytes) -> SSlibKey:
    """An Ed25519 public key as TUF writes it; its id is the hash of that."""
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public_key_raw))


def raw_key(key: Key) -> bytes:
    """The 32 bytes of an Ed25519 key.

    Raises:
        RefusedError: METADATA_INVALID, if it is of another kind. We use no other.
    """
    try:
        raw = bytes.fromhex(key.keyval["public"])
    except (KeyError, ValueError, TypeError):
        raw = b""
    if key.keytype != "ed25519" or key.scheme != "ed25519" or len(raw) != 32:  # noqa: PLR2004 # of Ed25519
        _refuse("a key is not an Ed25519 key")
    return raw


def role_keys(delegator: Root | Targets, role: str) -> frozenset[bytes]:
    """Raw public keys that may sign a role.

    Raises:
        RefusedError: METADATA_INVALID: one of them is not there, or of another kind.
    """
    if isinstance(delegator, Root):
        return _keys_of(delegator.keys, delegator.roles[role])
    delegations = delegator.delegations
    if delegations is None or delegations.roles is None or role not in delegations.roles:
        return frozenset()
    return _keys_of(delegations.keys, delegations.roles[role])


def _keys_of(keys: Mapping[str, Key], role: Role) -> frozenset[bytes]:
    if not set(role.keyids) <= set(keys):
        _refuse("a role names a key that is not there")
    return frozenset(raw_key(keys[keyid]) for keyid in role.keyids)


# Shapes --------------------------------------------------------------------------------------------------------------


def parse_metadata(data: bytes, kind: type[Signed]) -> Metadata[Any]:
    """Metadata of a certain type, not verified.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    if len(data) > MAX_METADATA:
        _refuse("metadata is too long")
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except (RepositoryError, ValueError, TypeError, RecursionError):
        _refuse("not TUF metadata")
    if metadata.signed.version > MAX_VERSION:
        _refuse("a version is too large")
    if not isinstance(metadata.signed, kind):
        _refuse(f"metadata of type {metadata.signed.type}, not {kind.type}")
    return metadata


def departments_of(targets: Targets) -> tuple[str, ...]:
    """Departments that the centre delegates to."""
    if targets.delegations is None or targets.delegations.roles is None:
        return ()
    return tuple(targets.delegations.roles)


def check_root(root: Root) -> None:
    """Four eyes for the centre, distinct keys for everybody, consistent snapshots.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    if root.consistent_snapshot is not True:
        _refuse("the root does not ask for consistent snapshots")
    for role in root.roles:
        _check_distinct(role_keys(root, role), root.roles[role])
    if root.roles[CENTRE].threshold < FOUR_EYES:
        _refuse("the centre must sign with at least two keys")


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


def check_centre(targets: Targets) -> None:
    """The centre lists nothing below a department's prefix and delegates each prefix whole, to two keys at least.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    _check_files(targets)
    delegations = targets.delegations
    if delegations is not None:
        if delegations.roles is None:
            _refuse("delegations without names")
        for name, role in delegations.roles.items():
            if not _is_department(name):
                _refuse(f"delegates to {name!r}, which is no name of a department")
            # Centres that signed before there were emergencies delegate the first two; nothing can be opened there.
            if role.paths not in (_prefixes(name)[:2], _prefixes(name)) or not role.terminating:
                _refuse(f"delegates to {name} something else than its own prefix")
            if role.threshold < FOUR_EYES:
                _refuse(f"{name} must sign with at least two keys")
            _check_distinct(role_keys(targets, name), role)
    prefixes = {f"{department}/" for department in departments_of(targets)}
    for path in targets.targets:
        if any(path.startswith(prefix) for prefix in prefixes):
            _refuse("the centre lists a department's file")


def check_department(department: str, targets: Targets) -> None:
    """A department lists its document only and delegates only its suspensions and emergencies.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    _check_files(targets)
    for path in targets.targets:
        if not path.startswith(f"{department}/") or path.count("/") != 1:
            _refuse(f"{department} lists a file that is not its document")
    delegations = targets.delegations
    if delegations is None:
        return
    below = {department + SUSPEND: "suspend", department + EMERGENCY: "emergency"}
    if not delegations.roles or not set(delegations.roles) <= set(below):
        _refuse(f"{department} delegates something else than its suspensions and emergencies")
    for name, role in delegations.roles.items():
        if role.paths != [f"{department}/{below[name]}/*"] or not role.terminating:
            _refuse(f"{department} delegates something else than its suspensions and emergencies")
        _check_distinct(role_keys(targets, name), role)


def check_suspensions(department: str, targets: Targets) -> None:
    """Suspensions stand in one file and nothing is delegated further.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    _check_files(targets)
    if set(targets.targets) - {suspensions_path(department)} or targets.delegations is not None:
        _refuse(f"the suspensions of {department} list something else")


def check_activations(department: str, targets: Targets) -> None:
    """Opened emergencies stand in one file and nothing is delegated further.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    _check_files(targets)
    if set(targets.targets) - {activations_path(department)} or targets.delegations is not None:
        _refuse(f"the emergencies of {department} list something else")


def _prefixes(department: str) -> list[str]:
    """What the centre delegates to a department; a pattern does not cross a slash."""
    return [f"{department}/*", f"{department}/suspend/*", f"{department}/emergency/*"]


def _check_files(targets: Targets) -> None:
    for path, target in targets.targets.items():
        if set(target.hashes) != {"sha256"} or target.length > MAX_FILE:
            _refuse(f"{path} must have a SHA-256 and at most {MAX_FILE} bytes")


def _check_distinct(keys: frozenset[bytes], role: Role) -> None:
    """One key under two ids would make one signer count as two."""
    if len(keys) != len(role.keyids) or len(keys) < role.threshold:
        _refuse("a role has the same key twice, or fewer keys than it needs")


def _is_department(name: str) -> bool:
    return name.isascii() and name.replace("_", "a").isalnum() and name.islower() and name[0].isalpha()


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(Reason.METADATA_INVALID, detail)


# Building ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publication:
    """Signed metadata of one role and the files that changed with it, as `PolicyAdminService.Publish` takes them."""

    role: str
    metadata: bytes
    files: Mapping[str, bytes]


def build_root(
    *,
    root_keys: Sequence[bytes],
    threshold: int,
    centre_keys: Sequence[bytes],
    centre_threshold: int = FOUR_EYES,
    snapshot_key: bytes,
    timestamp_key: bytes,
    now: float,
    version: int = 1,
) -> Metadata[Root]:
    """A root that is not signed yet. Keys are raw Ed25519 public keys."""
    roles = {
        "root": (root_keys, threshold),
        CENTRE: (centre_keys, centre_threshold),
        "snapshot": ([snapshot_key], 1),
        "timestamp": ([timestamp_key], 1),
    }
    keys: dict[str, Key] = {key.keyid: key for raws, _ in roles.values() for key in map(tuf_key, raws)}
    root = Root(
        version=version,
        expires=moment(now + LIFETIMES["root"]),
        keys=keys,
        roles={name: Role([tuf_key(raw).keyid for raw in raws], count) for name, (raws, count) in roles.items()},
        consistent_snapshot=True,
    )
    check_root(root)
    return Metadata(root)


def build_centre(
    current: Targets | None,
    *,
    changed: Mapping[str, bytes],
    removed: Iterable[str] = (),
    admins: Mapping[str, Sequence[bytes]] | None = None,
    now: float,
) -> Metadata[Targets]:
    """The centre's next metadata, not signed yet.

    Args:
        current: In force; None for the first.
        changed: Files by path.
        removed: Paths of files that go.
        admins: Raw signing keys of departments' admins, for departments that are added or get other admins; an empty
            list ends a membership.
        now: Seconds since the epoch.
    """
    files = {} if current is None else dict(current.targets)
    for path in removed:
        files.pop(path, None)
    files.update({path: target_file(path, content) for path, content in changed.items()})
    keys: dict[str, Sequence[bytes]] = {}
    if current is not None:
        keys = {department: sorted(role_keys(current, department)) for department in departments_of(current)}
    keys.update(admins or {})
    roles = {
        department: _delegated(department, _prefixes(department), raws, FOUR_EYES)
        for department, raws in sorted(keys.items())
        if raws
    }
    delegations = Delegations(_by_id(raw for raws in keys.values() for raw in raws), roles) if roles else None
    targets = Targets(
        version=1 if current is None else current.version + 1,
        expires=moment(now + LIFETIMES[CENTRE]),
        targets=files,
        delegations=delegations,
    )
    check_centre(targets)
    return Metadata(targets)


def build_department(
    department: str, current: Targets | None, *, document: bytes, admins: Iterable[bytes], now: float
) -> Metadata[Targets]:
    """A department's next metadata, not signed yet. Any one of `admins` may suspend, and open emergencies."""
    keys = sorted(admins)
    roles = {
        name: _delegated(name, [f"{department}/{folder}/*"], keys, 1)
        for name, folder in ((department + SUSPEND, "suspend"), (department + EMERGENCY, "emergency"))
    }
    targets = _next_of_one(current, "department", document_path(department), document, now)
    targets.delegations = Delegations(_by_id(keys), roles)
    check_department(department, targets)
    return Metadata(targets)


def _next_of_one(current: Targets | None, kind: str, path: str, content: bytes, now: float) -> Targets:
    """The next metadata of a role that lists one file."""
    return Targets(
        version=1 if current is None else current.version + 1,
        expires=moment(now + LIFETIMES[kind]),
        targets={path: target_file(path, content)},
    )


def build_suspensions(department: str, current: Targets | None, *, suspensions: bytes, now: float) -> Metadata[Targets]:
    """A department's next suspensions, not signed yet."""
    targets = _next_of_one(current, "suspend", suspensions_path(department), suspensions, now)
    check_suspensions(department, targets)
    return Metadata(targets)


def build_activations(department: str, current: Targets | None, *, content: bytes, now: float) -> Metadata[Targets]:
    """A department's next opened emergencies, not signed yet."""
    targets = _next_of_one(current, "emergency", activations_path(department), content, now)
    check_activations(department, targets)
    return Metadata(targets)


def signed(metadata: Metadata[Any], signers: Iterable[Signer]) -> bytes:
    """Metadata with a signature of each signer."""
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def target_file(path: str, content: bytes) -> TargetFile:
    """Length and hash of a file."""
    return TargetFile.from_data(path, content, ["sha256"])


def meta_file(version: int, content: bytes) -> MetaFile:
    """Version, length and hash of metadata."""
    return MetaFile(version, len(content), {"sha256": hashlib.sha256(content).hexdigest()})


def moment(time: float) -> datetime:
    """As TUF writes times: whole seconds, UTC."""
    return datetime.fromtimestamp(int(time), UTC)


def _by_id(raws: Iterable[bytes]) -> dict[str, Key]:
    return {key.keyid: key for key in map(tuf_key, raws)}


def _delegated(name: str, paths: list[str], raws: Iterable[bytes], threshold: int) -> DelegatedRole:
    return DelegatedRole(name, [tuf_key(raw).keyid for raw in raws], threshold, terminating=True, paths=paths)
