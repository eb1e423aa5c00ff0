"""A city's certificate authority: a directory on a machine that should be offline.

It holds `ca.key` (0600), `ca.pem`, which everybody pins, and `ledger.jsonl`, one line for each certificate issued or
revoked and each revocation list made; lines are only ever added. What a certificate says follows from the identity
in the request alone; nothing else that a request asks for is taken over.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.identity import CA_CERTIFICATE, Identity, read_private, server_name, write_private, write_public
from certs.signing import MALFORMED, SIGNING_USAGE, Purpose, authority_city
from zhiwang.wire.errors import FatalError, Reason, RefusedError

CA_KEY = "ca.key"
LEDGER = "ledger.jsonl"
CRL = "crl.pem"
"""The first revocation list, made with the authority: a directory has one from its first day."""

CA_DAYS = 3653
"""Validity of an authority's certificate: ten years."""

DEFAULT_DAYS = 365
"""Validity of the certificates that it issues."""

CRL_DAYS = 30
"""For how long a revocation list says that it is good; how fresh it is, the directory says."""

BACKDATED = timedelta(minutes=5)
"""Certificates begin a little before they are made, since clocks differ."""

_RESERVED = ".zhiwang.internal"


class Authority:
    """A certificate authority, opened. Make it with `create` once, later open it with `load`.

    Args:
        directory: Where it lies.
        key: Its private key.
        certificate: Its certificate.
    """

    def __init__(self, directory: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._directory = directory
        self._key = key
        self._certificate = certificate
        self.city = authority_city(certificate)
        self.certificate_pem = certificate.public_bytes(Encoding.PEM)

    @classmethod
    def create(cls, directory: Path, city: str, *, now: datetime | None = None) -> Self:
        """Make an authority in a directory that has none.

        Raises:
            RefusedError: CERTIFICATE_INVALID, if the city's name cannot stand in an identity.
            FatalError: INTERNAL, if there is an authority already.
        """
        Identity.parse(f"spiffe://{city}/x/hub/x")
        now = now or datetime.now(UTC)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Zhiwang authority of {city}"[:64])])
        certificate = (
            _builder(name, key.public_key(), now, CA_DAYS)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{city}")]), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            write_private(directory / CA_KEY, pem)
        except FileExistsError:
            raise FatalError(Reason.INTERNAL, f"{directory} holds an authority already; it is never replaced") from None
        write_public(directory / CA_CERTIFICATE, certificate.public_bytes(Encoding.PEM))
        authority = cls(directory, key, certificate)
        authority._note("created", now, city=city)
        return authority

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Open an authority.

        Raises:
            FatalError: INTERNAL, if it is not there, open to others, or its files do not belong together.
        """
        try:
            key = load_pem_private_key(read_private(directory / CA_KEY), None)
            certificate = x509.load_pem_x509_certificate((directory / CA_CERTIFICATE).read_bytes())
            if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
                _broken(f"{directory}: {CA_CERTIFICATE} is not the certificate of {CA_KEY}")
            return cls(directory, key, certificate)
        except FileNotFoundError:
            _broken(f"no authority in {directory}; make one with: zhiwang certs authority init")
        except PermissionError as error:
            _broken(str(error))
        except (OSError, *MALFORMED) as error:
            _broken(f"{directory}: the authority cannot be read: {type(error).__name__}")

    def examine(
        self, csr_pem: bytes, *, purpose: Purpose | None = None, hosts: Sequence[str] = ()
    ) -> tuple[Any, Identity, Purpose]:
        """Check that a request can be granted, without granting it; arguments and errors are those of `issue`.

        Returns:
            Public key, whom it names, and for what.
        """
        request, identity = parse_request(csr_pem)
        if identity.city != self.city:
            _refuse(f"{identity.uri} is not of {self.city}, whose authority this is")
        key = _public_key(request)
        if isinstance(key, Ed25519PublicKey):
            found: Purpose = "signing"
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            found = "auth"
        else:
            _refuse(f"{identity.short}: the key is neither P-256 (for TLS) nor Ed25519 (for signing)")
        if purpose not in {None, found}:
            _refuse(f"{identity.short}: a request for {found}, not for {purpose}")
        if hosts and (found == "signing" or not identity.kind.serves):
            _refuse(f"{identity.short}: only the TLS certificate of a server has host names")
        if any(host.lower().rstrip(".").endswith(_RESERVED) for host in hosts):
            _refuse(f"names under {_RESERVED} follow from the identity")
        for host in hosts:
            try:
                host_name(host)
            except ValueError:
                _refuse(f"{host!r} is neither a DNS name (in ASCII) nor an address")
        return key, identity, found

    def issue(
        self,
        csr_pem: bytes,
        *,
        now: datetime | None = None,
        days: float = DEFAULT_DAYS,
        purpose: Purpose | None = None,
        hosts: Sequence[str] = (),
    ) -> bytes:
        """Issue the certificate that a request asks for.

        Args:
            csr_pem: The request: an identity in its only URI, and a key: P-256 for TLS ("auth"), Ed25519 for signing.
            now: Beginning of its validity.
            days: Length of its validity; it ends with the authority's at the latest.
            purpose: What it must be for, if the caller knows.
            hosts: Further DNS names or addresses of a server, for clients that cannot override what they dial.

        Returns:
            PEM of the certificate.

        Raises:
            RefusedError: CERTIFICATE_INVALID, if the request cannot be granted.
        """
        now = now or datetime.now(UTC)
        key, identity, found = self.examine(csr_pem, purpose=purpose, hosts=hosts)
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.department),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{identity.kind} {identity.name}"),
            ]
        )
        days = min(days, (self._certificate.not_valid_after_utc - now) / timedelta(days=1))
        if days <= 0:
            _refuse("the authority's own certificate has expired, or the validity is not positive")
        certificate = (
            _builder(subject, key, now, days)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_extended_usage(identity, found)), critical=True)
            .add_extension(_names(identity, found, hosts), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._note(
            "issued",
            now,
            serial=f"{certificate.serial_number:x}",
            identity=identity.short,
            purpose=found,
            expires=certificate.not_valid_after_utc.isoformat(),
        )
        return certificate.public_bytes(Encoding.PEM)

    def revoke(self, serial: int, *, now: datetime | None = None) -> bool:
        """Revoke a certificate; takes effect when a new list is published.

        Returns:
            Whether it had not been revoked before.

        Raises:
            RefusedError: CERTIFICATE_INVALID, if this authority has issued no such certificate.
        """
        entries = list(self._entries())
        if not any(entry["event"] == "issued" and entry["serial"] == f"{serial:x}" for entry in entries):
            _refuse(f"this authority has issued no certificate with the serial {serial:x}")
        if serial in _revoked(entries):
            return False
        self._note("revoked", now or datetime.now(UTC), serial=f"{serial:x}")
        return True

    def crl(self, now: datetime | None = None, *, days: float = CRL_DAYS) -> bytes:
        """PEM of a revocation list with everything that is revoked; its number rises with each."""
        now = (now or datetime.now(UTC)).replace(microsecond=0)
        entries = list(self._entries())
        number = 1 + sum(entry["event"] == "crl" for entry in entries)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now)
            .next_update(now + timedelta(days=days))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for serial, moment in _revoked(entries).items():
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment).build()
            )
        self._note("crl", now, number=number)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _note(self, event: str, now: datetime, **facts: Any) -> None:
        """Add one line, durably, before its effect leaves this process."""
        line = json.dumps({"time": now.isoformat(), "event": event, **facts}, ensure_ascii=False)
        with _locked(self._directory / LEDGER) as descriptor:
            os.write(descriptor, line.encode() + b"\n")
            os.fsync(descriptor)

    def _entries(self) -> Iterator[dict[str, Any]]:
        try:
            for line in (self._directory / LEDGER).read_text("utf-8").splitlines():
                entry = json.loads(line)
                if entry["event"] in {"issued", "revoked"}:
                    int(entry["serial"], 16)
                yield entry
        except (OSError, ValueError, KeyError, TypeError):
            _broken(f"{self._directory / LEDGER} is missing or damaged; without it no revocation list can be made")


def parse_request(csr_pem: bytes) -> tuple[x509.CertificateSigningRequest, Identity]:
    """Read a certificate request and whom it is for; its self-signature is checked.

    Raises:
        RefusedError: CERTIFICATE_INVALID.
    """
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        valid = request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except MALFORMED:
        _refuse("not a certificate request with exactly one identity")
    if not valid:
        _refuse("the request is not signed by its own key")
    return request, Identity.parse(uri)


def _public_key(request: x509.CertificateSigningRequest) -> Any:
    try:
        return request.public_key()
    except MALFORMED:
        _refuse("the request's key cannot be read")


def _builder(subject: x509.Name, key: Any, now: datetime, days: float) -> x509.CertificateBuilder:
    now = now.replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(**granted: bool) -> x509.KeyUsage:
    nothing = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**{**nothing, **granted})


def _extended_usage(identity: Identity, purpose: Purpose) -> list[x509.ObjectIdentifier]:
    if purpose == "signing":
        return [SIGNING_USAGE]
    client = [ExtendedKeyUsageOID.CLIENT_AUTH]
    return [*client, ExtendedKeyUsageOID.SERVER_AUTH] if identity.kind.serves else client


def _names(identity: Identity, purpose: Purpose, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
    if purpose == "auth" and identity.kind.serves:
        own = (server_name(identity.city, identity.kind), identity.server_name)
        names.extend(host_name(name) for name in (*own, *hosts))
    return x509.SubjectAlternativeName(names)


def host_name(host: str) -> x509.GeneralName:
    """A host as certificates name it: clients look for an address among the addresses only (RFC 6125, appendix B.2)."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _revoked(entries: Sequence[dict[str, Any]]) -> dict[int, datetime]:
    return {
        int(entry["serial"], 16): datetime.fromisoformat(entry["time"])
        for entry in entries
        if entry["event"] == "revoked"
    }


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(Reason.CERTIFICATE_INVALID, detail)


def _broken(detail: str) -> NoReturn:
    raise FatalError(Reason.INTERNAL, detail)
