"""Renewing the certificates of an identity directory while a process uses them.

A renewal is a request over a key, and later the installation of what was issued for it. The key is the one in use, or a
fresh one that waits as `auth.new.key` beside it. Installing has one decisive step, the replacement of the certificate's
file: whoever reads the directory takes the key that belongs to the certificate (`certs.credentials.find_key`), so at
every moment, and after a crash at any moment, certificate and key are found together. Then the fresh key gets the old
one's name; if that did not happen, the next renewal does it.

An admin's signing key also signs the directory's metadata, and other people pin it. It is never changed here.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from certs.credentials import find_key
from certs.identity import (
    AUTH_CERTIFICATE,
    AUTH_KEY,
    AUTH_NEW_KEY,
    AUTH_REQUEST,
    SIGNING_CERTIFICATE,
    SIGNING_KEY,
    SIGNING_NEW_KEY,
    SIGNING_REQUEST,
    Identity,
    Kind,
    server_name,
    write_public,
)
from certs.request import AnyKey, build_request, keep_or_write
from certs.signing import MALFORMED, CertificateVerifier, Purpose, subject_of
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.kept import sync_path


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate's file, its key's, and what stands beside them during a renewal.

    Attributes:
        purpose: What the certificate is good for.
        certificate: Name of its file.
        key: Name of the key's file.
        new_key: Name of the fresh key's file.
        request: Name of the request's file.
    """

    purpose: Purpose
    certificate: str
    key: str
    new_key: str
    request: str


AUTH = Pair("auth", AUTH_CERTIFICATE, AUTH_KEY, AUTH_NEW_KEY, AUTH_REQUEST)
SIGNING = Pair("signing", SIGNING_CERTIFICATE, SIGNING_KEY, SIGNING_NEW_KEY, SIGNING_REQUEST)
PAIRS = (AUTH, SIGNING)


@dataclass(frozen=True, slots=True)
class Renewal:
    """One request of a renewal.

    Attributes:
        identity: Whose certificate.
        purpose: What it is good for.
        request: The request's file.
        hosts: Further DNS names and addresses that the certificate in use has; the next one needs them too.
        fresh: Whether it is for a fresh key.
    """

    identity: Identity
    purpose: Purpose
    request: Path
    hosts: tuple[str, ...]
    fresh: bool


@dataclass(frozen=True, slots=True)
class Installed:
    """A certificate that was put in place.

    Attributes:
        identity: Whose.
        purpose: What it is good for.
        path: Its file.
        expires: Its last second.
        changed: Whether it was not there before.
    """

    identity: Identity
    purpose: Purpose
    path: Path
    expires: datetime
    changed: bool


def holder_of(directory: Path) -> Identity:
    """Whose certificates an identity directory holds, also if they have expired.

    Raises:
        FatalError: CERTIFICATE_INVALID, if it holds none.
        RefusedError: CERTIFICATE_INVALID, if they name nobody of ours.
    """
    return subject_of(_certificate(directory / AUTH_CERTIFICATE))


def request_renewal(directory: Path, *, new_keys: bool = False) -> list[Renewal]:
    """Write a request for each certificate of an identity directory; nothing that is in use changes.

    Asked again before anything was issued, it writes the same requests: a fresh key that waits already is kept.

    Args:
        directory: The identity directory.
        new_keys: Whether the certificates shall be for fresh keys (but never for an admin's signing key).

    Raises:
        FatalError: CERTIFICATE_INVALID, if there is no certificate to renew, or a key is missing or cannot be used.
    """
    identity = holder_of(directory)
    settle(directory)
    renewals = []
    for pair in PAIRS:
        if pair is SIGNING and not (directory / pair.certificate).exists():
            continue
        certificate = _certificate(directory / pair.certificate)
        fresh = new_keys and not (pair is SIGNING and identity.kind is Kind.ADMIN)
        key = keep_or_write(directory / pair.new_key, _fresh_key(pair)) if fresh else _key_in_use(directory, pair)
        if fresh:
            sync_path(directory)
        write_public(directory / pair.request, build_request(identity, key))
        hosts = _further_hosts(certificate, identity)
        renewals.append(Renewal(identity, pair.purpose, directory / pair.request, hosts, fresh))
    return renewals


def install(
    directory: Path,
    ca_pem: bytes,
    certificates: Sequence[bytes],
    *,
    now: datetime | None = None,
    revoked: Container[int] = frozenset(),
) -> list[Installed]:
    """Put issued certificates in the place of those in use: all of them, or none if one does not fit.

    Args:
        directory: The identity directory.
        ca_pem: The pinned authority.
        certificates: PEM of each; one of them or both of the identity's.
        now: When they must be valid.
        revoked: Serials that are known to be revoked.

    Raises:
        RefusedError: CERTIFICATE_INVALID, CERTIFICATE_EXPIRED or CERTIFICATE_REVOKED: one is not this authority's, not
            this identity's, not that of a key here, not valid now, or revoked.
        FatalError: CERTIFICATE_INVALID, if the directory cannot be read.
    """
    identity = holder_of(directory)
    verifier = CertificateVerifier(ca_pem, lambda: revoked)
    found: dict[Pair, x509.Certificate] = {}
    for pem in certificates:
        certificate = _parse(pem)
        pair = SIGNING if isinstance(certificate.public_key(), Ed25519PublicKey) else AUTH
        named = verifier.verify(
            certificate.public_bytes(Encoding.DER), (now or datetime.now(UTC)).timestamp(), purpose=pair.purpose
        ).identity
        if named != identity:
            _refuse(f"{named.short}: a certificate of somebody else; {directory} is that of {identity.short}")
        if pair in found:
            _refuse(f"two certificates for {pair.purpose} of {identity.short}; which of them?")
        if _find(directory, pair, certificate) is None:
            _refuse(
                f"{identity.short}: this certificate for {pair.purpose} belongs to no key in {directory}; "
                "was it issued for the last request made here?"
            )
        found[pair] = certificate
    return [_replace(directory, pair, certificate, identity) for pair, certificate in found.items()]


def settle(directory: Path) -> None:
    """Give fresh keys whose certificates are in place the names of the old ones, which are destroyed by it.

    Does nothing to a directory without fresh keys.

    Raises:
        FatalError: CERTIFICATE_INVALID, if the directory cannot be read.
    """
    for pair in PAIRS:
        if (directory / pair.new_key).exists() and (directory / pair.certificate).exists():
            _settle(directory, pair)


def _settle(directory: Path, pair: Pair) -> None:
    path = directory / pair.certificate
    if _find(directory, pair, _certificate(path)) != pair.new_key:
        return
    # On disk before the old key goes: the old certificate could not be used any more.
    sync_path(path)
    sync_path(directory)
    (directory / pair.new_key).replace(directory / pair.key)
    sync_path(directory)


def _replace(directory: Path, pair: Pair, certificate: x509.Certificate, identity: Identity) -> Installed:
    path = directory / pair.certificate
    changed = not path.exists() or _certificate(path) != certificate
    if changed:
        write_public(path, certificate.public_bytes(Encoding.PEM))
    _settle(directory, pair)
    (directory / pair.request).unlink(missing_ok=True)
    return Installed(identity, pair.purpose, path, certificate.not_valid_after_utc, changed)


def _key_in_use(directory: Path, pair: Pair) -> AnyKey:
    found = _look(directory, pair, _certificate(directory / pair.certificate))
    if found is None:
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{pair.certificate} is not the certificate of {pair.key}")
    key: AnyKey = found[1]
    return key


def _find(directory: Path, pair: Pair, certificate: x509.Certificate) -> str | None:
    """Name of the file with a certificate's key."""
    found = _look(directory, pair, certificate)
    return None if found is None else found[0]


def _look(directory: Path, pair: Pair, certificate: x509.Certificate) -> tuple[str, AnyKey, bytes] | None:
    try:
        return find_key(directory, certificate, pair.key, pair.new_key)
    except PermissionError as error:
        raise FatalError(Reason.CERTIFICATE_INVALID, str(error)) from None
    except FileNotFoundError:
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{directory / pair.key} is missing") from None
    except (OSError, *MALFORMED):
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{directory / pair.key} cannot be read") from None


def _fresh_key(pair: Pair) -> AnyKey:
    return Ed25519PrivateKey.generate() if pair is SIGNING else ec.generate_private_key(ec.SECP256R1())


def _certificate(path: Path) -> x509.Certificate:
    try:
        return _parse(path.read_bytes())
    except FileNotFoundError:
        raise FatalError(
            Reason.CERTIFICATE_INVALID, f"there is no {path}; the first certificates are made by: zhiwang certs request"
        ) from None


def _parse(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except MALFORMED:
        _refuse("not a certificate in PEM")


def _further_hosts(certificate: x509.Certificate, identity: Identity) -> tuple[str, ...]:
    """DNS names and addresses that do not follow from the identity."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except MALFORMED:
        return ()
    own = {server_name(identity.city, identity.kind), identity.server_name}
    further = [name for name in names.get_values_for_type(x509.DNSName) if name not in own]
    return (*further, *map(str, names.get_values_for_type(x509.IPAddress)))


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(Reason.CERTIFICATE_INVALID, detail)
