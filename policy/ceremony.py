"""The root ceremony: root keys are made, and the root that everybody pins is signed with them.

Done once, on a machine that is offline. Each root key belongs into other hands; whoever has a threshold of them can
replace the centre's admins and the registrar's keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tuf.api.metadata import Metadata, Root

from certs.identity import ROOT_METADATA, write_private
from policy.keys import load_key, new_key
from policy.metadata import (
    FOUR_EYES,
    build_root,
    check_root,
    check_signed_root,
    parse_metadata,
    raw_key,
    role_keys,
    signed,
)
from zhiwang.wire.errors import FatalError, Reason, RefusedError

DEFAULT_KEYS = 3
DEFAULT_THRESHOLD = 2


def make_root(
    directory: Path,
    *,
    registrar: tuple[bytes, bytes],
    admins: Sequence[bytes],
    keys: int = DEFAULT_KEYS,
    threshold: int = DEFAULT_THRESHOLD,
    now: float,
) -> Path:
    """Makes root keys (`root-1.key`, …, 0600) and a root signed by all of them.

    Args:
        directory: Where; made if missing.
        registrar: Raw public keys of snapshot and timestamp.
        admins: Raw signing keys of the centre's admins.
        keys: How many root keys.
        threshold: How many of them must sign a later root.
        now: Seconds since the epoch.

    Returns:
        The file `root.json`, which every installation pins.

    Raises:
        FatalError: INTERNAL, if there is a root already.
        RefusedError: METADATA_INVALID, if there are fewer than two admins or root keys than the threshold.
    """
    if len(set(admins)) < FOUR_EYES:
        raise RefusedError(Reason.METADATA_INVALID, f"the centre needs {FOUR_EYES} admins at least")
    if not 1 <= threshold <= keys:
        raise RefusedError(Reason.METADATA_INVALID, "the threshold must lie between 1 and the number of root keys")
    path = directory / ROOT_METADATA
    if path.exists():
        raise FatalError(Reason.INTERNAL, f"{directory} holds a root already; it is never replaced")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_files = [directory / f"root-{number}.key" for number in range(1, keys + 1)]
    try:
        for file in key_files:
            write_private(file, new_key())
    except FileExistsError:
        raise FatalError(Reason.INTERNAL, f"{directory} holds root keys already; they are never replaced") from None
    signers = [load_key(file) for file in key_files]
    root = build_root(
        root_keys=[raw_key(signer.public_key) for signer in signers],
        threshold=threshold,
        centre_keys=list(dict.fromkeys(admins)),
        snapshot_key=registrar[0],
        timestamp_key=registrar[1],
        now=now,
    )
    path.write_bytes(signed(root, signers))
    return path


def next_root(
    current: bytes,
    *,
    key_files: Iterable[Path],
    registrar: tuple[bytes, bytes] | None = None,
    admins: Sequence[bytes] | None = None,
    now: float,
) -> bytes:
    """The root after this one, with other admins of the centre or other keys of the registrar, or only a later expiry.

    The root keys stay; replacing them is a ceremony of its own. Publish the result as role "root".

    Args:
        current: The newest root.
        key_files: Of root keys; at least a threshold.
        registrar: Raw public keys of snapshot and timestamp, if they change.
        admins: Raw signing keys of all the centre's admins, if they change.
        now: Seconds since the epoch.

    Raises:
        RefusedError: METADATA_INVALID, if the keys are too few, or the centre would have fewer than two admins.
    """
    old: Root = parse_metadata(current, Root).signed
    check_root(old)
    snapshot, timestamp = registrar or (_only(old, "snapshot"), _only(old, "timestamp"))
    built: Metadata[Root] = build_root(
        root_keys=sorted(role_keys(old, "root")),
        threshold=old.roles["root"].threshold,
        centre_keys=sorted(role_keys(old, "targets")) if admins is None else list(dict.fromkeys(admins)),
        centre_threshold=old.roles["targets"].threshold,
        snapshot_key=snapshot,
        timestamp_key=timestamp,
        now=now,
        version=old.version + 1,
    )
    data = signed(built, [load_key(file) for file in key_files])
    check_signed_root(data)
    return data


def _only(root: Root, role: str) -> bytes:
    (key,) = role_keys(root, role)
    return key
