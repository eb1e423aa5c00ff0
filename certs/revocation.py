"""The authority's list of revoked certificates (RFC 5280 section 5), as the directory carries it.

Python's gRPC credentials take no such list, so its serials are looked up at each call and each frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs.signing import MALFORMED, load_authorities
from zhiwang.wire.errors import Reason, RefusedError


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A list whose signature has been verified.

    Attributes:
        serials: Of the certificates that are revoked.
        times: When each of them was, in seconds since the epoch.
        number: Rises with each list of one authority.
        this_update: When it was made.
        next_update: When a newer one must have been made; the directory's own freshness is much stricter.
    """

    serials: frozenset[int]
    times: Mapping[int, float]
    number: int
    this_update: float
    next_update: float

    @property
    def age(self) -> tuple[float, int]:
        """Orders the lists of a city; times are whole seconds, and within one of them the number tells."""
        return self.this_update, self.number

    @classmethod
    def parse(cls, pem: bytes, ca_pem: bytes) -> Self:
        """Read and verify a list.

        Args:
            pem: The list.
            ca_pem: The pinned root: certificates of the authority.

        Raises:
            RefusedError: CERTIFICATE_INVALID, if it is not one of this authority's.
        """
        authorities = load_authorities(ca_pem)
        try:
            listed = x509.load_pem_x509_crl(pem)
            number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            this_update, next_update = listed.last_update_utc, listed.next_update_utc
            partial = any(extension.critical for extension in listed.extensions)
            times = {entry.serial_number: entry.revocation_date_utc.timestamp() for entry in listed}
        except MALFORMED:
            _invalid("the revocation list cannot be read")
        if not any(_signed(listed, authority) for authority in authorities):
            _invalid("the revocation list is not signed by this city's authority")
        if next_update is None:
            _invalid("the revocation list does not say until when it is good")
        if partial:
            _invalid("the revocation list is partial, or says something that we do not understand")
        return cls(
            serials=frozenset(times),
            times=MappingProxyType(times),
            number=number,
            this_update=this_update.timestamp(),
            next_update=next_update.timestamp(),
        )


def _signed(listed: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        key = authority.public_key()
        if listed.issuer != authority.subject or not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        return listed.is_signature_valid(key)
    except MALFORMED:
        return False


def _invalid(detail: str) -> NoReturn:
    raise RefusedError(Reason.CERTIFICATE_INVALID, detail)
