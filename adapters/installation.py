"""What an installation of an adapter is: identity, files and pinned admins by its profile; and its state, made once.

The process (`app.py`) and the commands beside it find everything by this.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from adapters.config import ADMINS, StateFiles
from adapters.store import create_store, join_store
from certs.credentials import IdentityFiles
from certs.identity import Kind
from certs.signing import CertificateVerifier
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.profile import AdapterPaths, Profile


def adapter_identity(profile: Profile) -> IdentityFiles:
    """The certificates of the profile, which must be an adapter's.

    Raises:
        FatalError: CERTIFICATE_INVALID.
    """
    return check_identity(profile.identity, profile.root)


def check_identity(directory: Path, root: Path, department: str | None = None) -> IdentityFiles:
    """The certificates in a directory, which must be an adapter's, and of this department if one is named.

    Raises:
        FatalError: CERTIFICATE_INVALID.
    """
    files = IdentityFiles(directory, root)
    if files.identity.kind is not Kind.ADAPTER:
        raise FatalError(
            Reason.CERTIFICATE_INVALID, f"{files.identity.short} is no adapter; is this the right directory?"
        )
    if department is not None and files.identity.department != department:
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{files.identity.short} is not of {department}")
    return files


def adapter_paths(profile: Profile) -> AdapterPaths:
    """Mapping and document of the profile.

    Raises:
        FatalError: INTERNAL: the profile names none.
    """
    if profile.adapter is None:
        raise FatalError(
            Reason.INTERNAL, f'{profile.path.name}: an adapter needs [adapter] with mapping = "…" and document = "…"'
        )
    return profile.adapter


def state_files(profile: Profile) -> StateFiles:
    """Where an adapter's files lie.

    Raises:
        FatalError: The profile is not an adapter's.
    """
    return StateFiles(profile.state, adapter_paths(profile).store)


def init(profile: Profile, *, join: bool = False) -> None:
    """Make the state of an adapter: directories, keys and an empty log. Once, deliberately.

    A further replica, whose profile names the store of the first, gets directories of its own and joins that store.

    Args:
        profile: The adapter's.
        join: The store stands in a database, and other replicas keep it already.

    Raises:
        FatalError: There is one already, or the certificates are not an adapter's.
    """
    files = adapter_identity(profile)
    state = state_files(profile)
    verifier = CertificateVerifier(files.ca_pem, frozenset)
    if join and profile.log is None and state.shared == state.directory:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            "there is nothing to join: name the database of the store in [log], or the state of another replica on "
            "this host as adapter.store",
        )
    if join or state.shared != state.directory:
        join_store(state, files.signer(), database=profile.log, verifier=verifier)
        return
    log = create_store(state, files.signer(), database=profile.log, verifier=verifier)
    log.close()
    log.engine.dispose()


def pinned_admins(profile: Profile, department: str) -> dict[str, frozenset[bytes]]:
    """Keys of the department's own admins, if this installation pins their certificates.

    Raises:
        FatalError: CERTIFICATE_INVALID: one of the files is no signing certificate.
    """
    paths = sorted((profile.root / ADMINS).glob("*.pem"))
    if not paths:
        return {}
    keys = set()
    for path in paths:
        try:
            key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise FatalError(Reason.CERTIFICATE_INVALID, f"{path.name} is no signing certificate of an admin")
        keys.add(key.public_bytes_raw())
    return {department: frozenset(keys)}
