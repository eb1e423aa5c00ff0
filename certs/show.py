"""What a certificate, request or revocation list says, for a person. Nothing here is verified."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.signing import MALFORMED, SIGNING_USAGE
from zhiwang.wire.errors import Reason, RefusedError

_USAGES = {
    SIGNING_USAGE: "signing",
    ExtendedKeyUsageOID.CLIENT_AUTH: "TLS client",
    ExtendedKeyUsageOID.SERVER_AUTH: "TLS server",
}


def describe(data: bytes) -> dict[str, str]:
    """Facts about one PEM file of a certificate, a request or a revocation list, in the order to be shown.

    Raises:
        RefusedError: CERTIFICATE_INVALID, if it is none of these.
    """
    try:
        if b"BEGIN CERTIFICATE REQUEST" in data:
            return _request(x509.load_pem_x509_csr(data))
        if b"BEGIN X509 CRL" in data:
            return _list(x509.load_pem_x509_crl(data))
        if b"BEGIN CERTIFICATE" in data:
            return _certificate(x509.load_pem_x509_certificate(data))
    except MALFORMED:
        pass
    raise RefusedError(Reason.CERTIFICATE_INVALID, "neither a certificate nor a request nor a revocation list in PEM")


def _certificate(certificate: x509.Certificate) -> dict[str, str]:
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    return {
        "what": "certificate of an authority" if authority else "certificate",
        **_names(certificate),
        "for": _usage(certificate),
        "key": _key(certificate.public_key()),
        "serial": f"{certificate.serial_number:x}",
        "valid from": _time(certificate.not_valid_before_utc),
        "valid until": _time(certificate.not_valid_after_utc),
        "issued by": certificate.issuer.rfc4514_string(),
        "fingerprint": hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
    }


def _request(request: x509.CertificateSigningRequest) -> dict[str, str]:
    return {
        "what": "certificate request",
        **_names(request),
        "key": _key(request.public_key()),
        "signed by its own key": "yes" if request.is_signature_valid else "no",
    }


def _list(listed: x509.CertificateRevocationList) -> dict[str, str]:
    serials = [f"{entry.serial_number:x} at {_time(entry.revocation_date_utc)}" for entry in listed]
    return {
        "what": "revocation list",
        "issued by": listed.issuer.rfc4514_string(),
        "made": _time(listed.last_update_utc),
        "good until": _time(listed.next_update_utc),
        "revoked": "\n".join(serials) or "none",
    }


def _names(holder: x509.Certificate | x509.CertificateSigningRequest) -> dict[str, str]:
    try:
        names = holder.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {"identity": "none"}
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return {"identity": "\n".join(uris) or "none", **({"server names": "\n".join(hosts)} if hosts else {})}


def _usage(certificate: x509.Certificate) -> str:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "certificates and revocation lists"
    return ", ".join(_USAGES.get(usage, usage.dotted_string) for usage in usages)


def _key(key: Any) -> str:
    if isinstance(key, Ed25519PublicKey):
        return "Ed25519"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return type(key).__name__


def _time(moment: datetime | None) -> str:
    return "not said" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S %z}"
