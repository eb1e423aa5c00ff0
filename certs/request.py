"""Keys of an identity and the requests for their certificates, made where the keys will be used and never leave."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from certs.identity import (
    AUTH_KEY,
    AUTH_REQUEST,
    SIGNING_KEY,
    SIGNING_REQUEST,
    Identity,
    read_private,
    write_private,
    write_public,
)
from zhiwang.wire.errors import FatalError, Reason

AnyKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey


def make_requests(directory: Path, identity: Identity) -> list[Path]:
    """Make an identity directory with both keys and a request for each; keys that are there are kept (renewal).

    An admin's signing key is the key of the directory's metadata too, so renewal must not change it by itself.

    Returns:
        Paths of the two requests, to be carried to the authority.

    Raises:
        FatalError: CERTIFICATE_INVALID, if a key that is there cannot be used.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    pairs: tuple[tuple[str, str, AnyKey], ...] = (
        (AUTH_KEY, AUTH_REQUEST, ec.generate_private_key(ec.SECP256R1())),
        (SIGNING_KEY, SIGNING_REQUEST, Ed25519PrivateKey.generate()),
    )
    requests = []
    for key_name, request_name, fresh in pairs:
        key = keep_or_write(directory / key_name, fresh)
        write_public(directory / request_name, build_request(identity, key))
        requests.append(directory / request_name)
    return requests


def build_request(identity: Identity, key: AnyKey) -> bytes:
    """PEM of a request for an identity's certificate, signed by the key that it is for."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)]), critical=False)
        .sign(key, None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def keep_or_write(path: Path, fresh: AnyKey) -> AnyKey:
    """The key that is there; else the fresh one, once it has been written durably.

    Raises:
        FatalError: CERTIFICATE_INVALID, if a key that is there cannot be used.
    """
    try:
        write_private(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except FileExistsError:
        return _read(path, type(fresh))
    return fresh


def _read(path: Path, kind: type[AnyKey]) -> AnyKey:
    try:
        key = load_pem_private_key(read_private(path), None)
    except PermissionError as error:
        raise FatalError(Reason.CERTIFICATE_INVALID, str(error)) from None
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, kind):
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{path.name} is there but is not a key that we made")
    return key
