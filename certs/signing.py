"""Signing with a signing certificate, and verifying what others signed.

A signing certificate (Ed25519) says who signed a request, a checkpoint, an owner key or a directory file. It is not
good for TLS, nor a TLS certificate for signing: the extended key usage tells them apart.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.identity import Identity, Kind
from zhiwang.wire.errors import Reason, RefusedError

SIGNING_USAGE = x509.ObjectIdentifier("2.25.147697136481953344232995254304830533185")
"""Extended key usage of signing certificates, under the arc of UUIDs (ITU-T X.667)."""

CACHED_CERTIFICATES = 2048
MAX_CERTIFICATE = 4096
"""Longest certificate in bytes; ours have about 600."""

Purpose = Literal["signing", "auth"]

MALFORMED = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the parser of other people's certificates, requests and lists may raise; it has no common base."""


class Signer:
    """One identity's signing key with its certificate. It does not change; a renewed certificate is another signer.

    Args:
        key: The private key.
        certificate: Certificate of that key.

    Raises:
        RefusedError: CERTIFICATE_INVALID, if the two do not belong together or it is no signing certificate.
    """

    __slots__ = ("_key", "certificate_der", "expires", "fingerprint", "identity", "public_key_raw")

    def __init__(self, key: Ed25519PrivateKey, certificate: x509.Certificate) -> None:
        public = certificate.public_key()
        if not isinstance(public, Ed25519PublicKey) or public != key.public_key():
            raise RefusedError(Reason.CERTIFICATE_INVALID, "the signing certificate is not that of the signing key")
        self._key = key
        self.certificate_der = certificate.public_bytes(Encoding.DER)
        self.fingerprint = hashlib.sha256(self.certificate_der).digest()
        self.public_key_raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.identity = subject_of(certificate)
        self.expires = certificate.not_valid_after_utc.timestamp()

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature; 64 bytes."""
        return self._key.sign(message)


@dataclass(frozen=True, slots=True)
class VerifiedCertificate:
    """A certificate that this city's authority issued. If `verify` handed it out, times and revocation held.

    Attributes:
        identity: Whom it names.
        purpose: What it is good for.
        public_key_raw: Ed25519 public key of 32 bytes; empty for an auth certificate.
        fingerprint: SHA-256 of the DER.
        serial: The authority's number of it.
        not_before: First second of its validity.
        not_after: Last second of its validity.
    """

    identity: Identity
    purpose: Purpose
    public_key_raw: bytes
    fingerprint: bytes
    serial: int
    not_before: float
    not_after: float
    _key: Ed25519PublicKey | None = field(repr=False, compare=False)

    def verify_signature(self, signature: bytes, message: bytes) -> None:
        """Check an Ed25519 signature.

        Raises:
            RefusedError: SIGNATURE_INVALID.
        """
        if self._key is None:
            raise RefusedError(Reason.SIGNATURE_INVALID, "the certificate is not for signing")
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            raise RefusedError(Reason.SIGNATURE_INVALID, f"signature of {self.identity.short}") from None


class CertificateVerifier:
    """Decides whether a certificate is this city's, and for what. Safe to use from several threads.

    Args:
        ca_pem: The pinned root: one or more certificates of the authority.
        revoked: Gives the serials that are revoked at the moment.
        cached: How many parsed certificates are kept. Only good ones are: what does not verify displaces nothing.
    """

    def __init__(
        self, ca_pem: bytes, revoked: Callable[[], Container[int]], *, cached: int = CACHED_CERTIFICATES
    ) -> None:
        self._authorities = load_authorities(ca_pem)
        self._revoked = revoked
        self._cached = cached
        self._known: OrderedDict[bytes, VerifiedCertificate] = OrderedDict()
        self._lock = Lock()

    @property
    def city(self) -> str:
        """The city whose certificates this verifies."""
        return authority_city(self._authorities[0])

    def verify(
        self, der: bytes, at: float, *, purpose: Purpose = "signing", kinds: Iterable[Kind] | None = None
    ) -> VerifiedCertificate:
        """Check a certificate.

        Args:
            der: Its bytes.
            at: The time at which it must be valid.
            purpose: What it must be good for.
            kinds: The kinds of identity that are welcome; every kind if None.

        Raises:
            RefusedError: CERTIFICATE_INVALID, CERTIFICATE_EXPIRED or CERTIFICATE_REVOKED.
        """
        certificate = self.known(der, purpose=purpose, kinds=kinds)
        if not certificate.not_before <= at <= certificate.not_after:
            raise RefusedError(Reason.CERTIFICATE_EXPIRED, certificate.identity.short)
        if certificate.serial in self._revoked():
            raise RefusedError(Reason.CERTIFICATE_REVOKED, certificate.identity.short)
        return certificate

    def known(
        self, der: bytes, *, purpose: Purpose = "signing", kinds: Iterable[Kind] | None = None
    ) -> VerifiedCertificate:
        """A certificate of this city. When it is or was valid, and whether it is revoked, is for the caller to judge.

        Args:
            der: Its bytes.
            purpose: What it must be good for.
            kinds: The kinds of identity that are welcome; every kind if None.

        Raises:
            RefusedError: CERTIFICATE_INVALID.
        """
        with self._lock:
            certificate = self._known.get(der)
            if certificate is not None:
                self._known.move_to_end(der)
        if certificate is None:
            certificate = self._parse(der)
            with self._lock:
                self._known[der] = certificate
                if len(self._known) > self._cached:
                    self._known.popitem(last=False)
        if certificate.purpose != purpose:
            _invalid(f"{certificate.identity.short}: a certificate for {certificate.purpose}, not for {purpose}")
        if kinds is not None and certificate.identity.kind not in kinds:
            _invalid(f"{certificate.identity.short}: the kind is not one that is expected here")
        return certificate

    def _parse(self, der: bytes) -> VerifiedCertificate:
        if len(der) > MAX_CERTIFICATE:
            _invalid("longer than any certificate of ours")
        try:
            parsed = x509.load_der_x509_certificate(der)
        except MALFORMED:
            _invalid("not a certificate")
        check_issued(parsed, self._authorities)
        try:
            return _describe(parsed, der, self.city)
        except MALFORMED:
            _invalid("extensions are missing or malformed")


def load_authorities(ca_pem: bytes) -> tuple[x509.Certificate, ...]:
    """The pinned certificates of an authority; several while it changes its key.

    Raises:
        RefusedError: CERTIFICATE_INVALID, if there is none, or one that is no authority's, or of another city.
    """
    try:
        authorities = tuple(x509.load_pem_x509_certificates(ca_pem))
        cities = {authority_city(authority) for authority in authorities}
        usages = [
            authority.extensions.get_extension_for_class(x509.BasicConstraints).value for authority in authorities
        ]
    except MALFORMED:
        _invalid("the pinned root is not a certificate of an authority")
    if len(cities) != 1 or not all(usage.ca for usage in usages):
        _invalid("the pinned root is not the certificate of one city's authority")
    return authorities


def authority_city(authority: x509.Certificate) -> str:
    """The city of an authority: the host of its only URI name, `spiffe://city`.

    Raises:
        ValueError: It has none.
        x509.ExtensionNotFound: The same.
    """
    names = authority.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    city = uri.removeprefix("spiffe://")
    if city == uri or "/" in city:
        raise ValueError("not an authority's name")
    return city


def check_issued(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> None:
    """Check that one of the authorities signed a certificate.

    Raises:
        RefusedError: CERTIFICATE_INVALID.
    """
    for authority in authorities:
        try:
            if not isinstance(authority.public_key(), ec.EllipticCurvePublicKey):
                continue
            certificate.verify_directly_issued_by(authority)
        except MALFORMED:
            continue
        return
    _invalid("not issued by this city's authority")


def subject_of(certificate: x509.Certificate) -> Identity:
    """The identity that a certificate names in its only URI.

    Raises:
        RefusedError: CERTIFICATE_INVALID, if there is not exactly one, or it is not of our form.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except MALFORMED:
        _invalid("the certificate must name exactly one URI")
    return Identity.parse(uri)


def _describe(certificate: x509.Certificate, der: bytes, city: str) -> VerifiedCertificate:
    """Read what matters; raises the parser's errors."""
    identity = subject_of(certificate)
    if identity.city != city:
        _invalid("an identity of another city")
    if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        _invalid("an authority's certificate signs certificates only")
    usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    key = certificate.public_key()
    purpose: Purpose
    if usages == {SIGNING_USAGE} and isinstance(key, Ed25519PublicKey):
        purpose = "signing"
    elif usages <= {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH} and usages:
        purpose = "auth"
    else:
        _invalid("neither for signing nor for TLS")
    return VerifiedCertificate(
        identity=identity,
        purpose=purpose,
        public_key_raw=key.public_bytes(Encoding.Raw, PublicFormat.Raw) if isinstance(key, Ed25519PublicKey) else b"",
        fingerprint=hashlib.sha256(der).digest(),
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        _key=key if isinstance(key, Ed25519PublicKey) else None,
    )


def _invalid(detail: str) -> NoReturn:
    raise RefusedError(Reason.CERTIFICATE_INVALID, detail)
