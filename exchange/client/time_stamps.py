"""Time stamps over receipts (RFC 3161): what is asked, and what an answer proves.

A time stamp says that a third party saw the hub's proofs of a receipt at its time, whatever the city's own keys do
later. The authority learns a hash and nothing else. The format is left to rfc3161-client, an extra dependency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from exchange.client.receipt_files import MAX_RESPONSE, part_hash, stamped_text
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError

EXTRA: Final = "pip install 'zhiwang[timestamps]'"

_MALFORMED = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.ExtensionNotFound)


class Stamped(NamedTuple):
    """A time stamp that has been verified.

    Attributes:
        time: The receipt was there at this time, by the authority's clock, in seconds since the epoch: the latest that
            its stated accuracy admits.
        authority: Subject of the certificate that signed.
        serial: The authority's number of the time stamp.
        policy: Under which policy of the authority, as an object identifier.
    """

    time: float
    authority: str
    serial: int
    policy: str


def load_roots(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The pinned certificates of time-stamping authorities.

    Raises:
        RefusedError: CERTIFICATE_INVALID: there is none.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except _MALFORMED:
        raise RefusedError(Reason.CERTIFICATE_INVALID, "the pinned time-stamping authority is no certificate") from None


def add_stamp(
    receipt: verification_pb2.Receipt, roots: Sequence[x509.Certificate], ask: Callable[[bytes], bytes]
) -> Stamped:
    """Have a receipt stamped, check the answer, and put it into the receipt.

    Args:
        receipt: Verified; it gains the time stamp.
        roots: Pinned certificates of time-stamping authorities.
        ask: Sends a TimeStampReq to an authority, and gives what it answers.

    Raises:
        RefusedError: PROOF_INVALID: the answer does not hold, or was not given.
        FatalError: INTERNAL: the extra dependency is missing.
    """
    rfc3161 = _library()
    hashes = [part_hash(part) for part in receipt.parts]
    asking = rfc3161.TimestampRequestBuilder().data(stamped_text(hashes)).hash_algorithm(rfc3161.HashAlgorithm.SHA256)
    request = asking.build()
    stamp = verification_pb2.TimeStamp(part_hashes=hashes, response=ask(request.as_bytes()))
    stamped = _verify(stamp, roots, request.nonce)
    receipt.time_stamps.append(stamp)
    return stamped


def verify_stamps(receipt: verification_pb2.Receipt, roots: Sequence[x509.Certificate]) -> tuple[Stamped, ...]:
    """What the time stamps of a receipt prove. That they are over its parts, `verify_receipt` has checked.

    Certificates of an authority are judged at the time that it stamped; whether one was revoked is not asked.

    Raises:
        RefusedError: PROOF_INVALID: one of them does not hold by these roots.
        FatalError: INTERNAL: the extra dependency is missing.
    """
    return tuple(_verify(stamp, roots) for stamp in receipt.time_stamps)


def _verify(stamp: verification_pb2.TimeStamp, roots: Sequence[x509.Certificate], nonce: int | None = None) -> Stamped:
    rfc3161 = _library()
    if len(stamp.response) > MAX_RESPONSE:
        raise RefusedError(Reason.PROOF_INVALID, "a time stamp larger than any")
    try:
        response = rfc3161.decode_timestamp_response(stamp.response)
        if rfc3161.PKIStatus(response.status) is not rfc3161.PKIStatus.GRANTED:
            raise RefusedError(Reason.PROOF_INVALID, f"the authority granted no time stamp: status {response.status}")
        verifier = rfc3161.VerifierBuilder(roots=list(roots), nonce=nonce).build()
        verifier.verify_message(response, stamped_text(stamp.part_hashes))
        return _describe(response)
    except rfc3161.VerificationError as error:
        raise RefusedError(Reason.PROOF_INVALID, f"the time stamp: {error}") from None
    except _MALFORMED:
        raise RefusedError(Reason.PROOF_INVALID, "the time stamp cannot be read") from None


def _describe(response: Any) -> Stamped:
    """Times and names of an answer that holds; raises the parser's errors."""
    info = response.tst_info
    accuracy = info.accuracy
    late = 0.0
    if accuracy is not None:
        late = accuracy.seconds + (accuracy.millis or 0) / 1e3 + (accuracy.micros or 0) / 1e6
    (signer,) = response.signed_data.signer_infos
    certificates = map(x509.load_der_x509_certificate, response.signed_data.certificates)
    (authority,) = {
        one.subject.rfc4514_string()
        for one in certificates
        if (one.issuer, one.serial_number) == (signer.issuer, signer.serial_number)
    }
    return Stamped(info.gen_time.timestamp() + late, authority, info.serial_number, info.policy.dotted_string)


def _library() -> ModuleType:
    try:
        import rfc3161_client  # noqa: PLC0415  an extra: who uses no time stamps need not install it
    except ImportError:
        raise FatalError(Reason.INTERNAL, f"time stamps need an extra that is not installed: {EXTRA}") from None
    return rfc3161_client
