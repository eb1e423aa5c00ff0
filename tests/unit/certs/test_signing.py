from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.identity import Kind
from certs.signing import SIGNING_USAGE, CertificateVerifier, Signer
from certs_support import City
from zhiwang.wire.errors import FatalError, Reason, RefusedError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = NOW.timestamp()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    return City.create(tmp_path_factory.mktemp("city"), now=NOW)


@pytest.fixture(scope="module")
def signer(city: City) -> Signer:
    return city.enrol("edu/system/enrolment", now=NOW).signer()


def verifier(city: City, *revoked: int) -> CertificateVerifier:
    return CertificateVerifier(city.ca_pem, lambda: frozenset(revoked))


def reason(city: City, der: bytes, at: float = AT, **how: object) -> Reason:
    with pytest.raises(RefusedError) as caught:
        verifier(city).verify(der, at, **how)  # type: ignore[arg-type]  # passed through as the caller wrote it
    return caught.value.reason


def test_a_signature_verifies_under_its_certificate_and_no_other_message_or_signer(city: City, signer: Signer) -> None:
    certificate = verifier(city).verify(signer.certificate_der, AT)
    assert certificate.identity == signer.identity
    assert certificate.fingerprint == signer.fingerprint
    assert certificate.public_key_raw == signer.public_key_raw
    signature = signer.sign(b"message")
    certificate.verify_signature(signature, b"message")
    other = city.enrol("hrss/adapter/main", now=NOW).signer()
    for wrong, message in ((signature, b"massage"), (other.sign(b"message"), b"message"), (b"", b"message")):
        with pytest.raises(RefusedError) as caught:
            certificate.verify_signature(wrong, message)
        assert caught.value.reason is Reason.SIGNATURE_INVALID


def test_time_and_revocation_are_checked_again_though_the_certificate_is_remembered(city: City, signer: Signer) -> None:
    revoked: set[int] = set()
    checker = CertificateVerifier(city.ca_pem, lambda: revoked)
    certificate = checker.verify(signer.certificate_der, AT)
    for at in (certificate.not_before - 1, certificate.not_after + 1):
        with pytest.raises(RefusedError) as caught:
            checker.verify(signer.certificate_der, at)
        assert caught.value.reason is Reason.CERTIFICATE_EXPIRED
    revoked.add(certificate.serial)
    with pytest.raises(RefusedError) as caught:
        checker.verify(signer.certificate_der, AT)
    assert caught.value.reason is Reason.CERTIFICATE_REVOKED


def test_a_certificate_is_good_for_its_purpose_and_kind_only(city: City, signer: Signer) -> None:
    auth = x509.load_pem_x509_certificate((city.path("edu/system/enrolment") / "auth.pem").read_bytes())
    der = auth.public_bytes(Encoding.DER)
    verifier(city).verify(der, AT, purpose="auth", kinds={Kind.SYSTEM})
    assert reason(city, der) is Reason.CERTIFICATE_INVALID
    assert reason(city, signer.certificate_der, purpose="auth") is Reason.CERTIFICATE_INVALID
    assert reason(city, signer.certificate_der, kinds={Kind.ADAPTER}) is Reason.CERTIFICATE_INVALID


def test_a_certificate_of_another_authority_is_refused_though_it_bears_the_same_names(
    city: City, signer: Signer, tmp_path: Path
) -> None:
    impostor = City.create(tmp_path, now=NOW)
    foreign = impostor.enrol("edu/system/enrolment", now=NOW).signer()
    assert reason(city, foreign.certificate_der) is Reason.CERTIFICATE_INVALID
    assert reason(impostor, signer.certificate_der) is Reason.CERTIFICATE_INVALID


def test_both_authorities_are_believed_while_a_city_changes_its_key(city: City, signer: Signer, tmp_path: Path) -> None:
    following = City.create(tmp_path, now=NOW)
    later = following.enrol("edu/system/enrolment", now=NOW).signer()
    both = CertificateVerifier(city.ca_pem + following.ca_pem, frozenset)
    for der in (signer.certificate_der, later.certificate_der):
        assert both.verify(der, AT).identity.name == "enrolment"


def test_a_root_of_two_cities_or_of_none_is_not_taken(city: City, tmp_path: Path) -> None:
    other = City.create(tmp_path, "guangzhou", now=NOW)
    leaf = (city.enrol("edu/system/enrolment", now=NOW).directory / "auth.pem").read_bytes()
    for pem in (city.ca_pem + other.ca_pem, b"", b"nothing", leaf, city.ca_pem + leaf):
        with pytest.raises(RefusedError):
            CertificateVerifier(pem, frozenset)


def test_a_certificate_flipped_anywhere_is_refused_or_says_the_same(city: City, signer: Signer) -> None:
    # An ECDSA signature can be written in more than one way; what it signs cannot.
    checker = verifier(city)
    der = signer.certificate_der
    good = checker.verify(der, AT)
    refused = 0
    for position in range(len(der)):
        broken = bytearray(der)
        broken[position] ^= 1
        try:
            found = checker.verify(bytes(broken), AT)
        except RefusedError:
            refused += 1
        else:
            assert replace(found, fingerprint=good.fingerprint) == good
    assert refused >= len(der) - 2
    for cut in (b"", der[:-1], der + b"\0", der * 20):
        with pytest.raises(RefusedError):
            checker.verify(cut, AT)


def forged(city: City, *, uris: list[str], usages: list[x509.ObjectIdentifier], ca: bool = False) -> bytes:
    """A certificate that the authority's key signed although the authority would not have."""
    key = load_pem_private_key((city.directory / "authority" / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(city.ca_pem).subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer)
        .public_key(Ed25519PrivateKey.generate().public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_certificate_must_name_one_identity_of_the_city_for_one_purpose(city: City) -> None:
    one = "spiffe://shenzhen/edu/system/one"
    verifier(city).verify(forged(city, uris=[one], usages=[SIGNING_USAGE]), AT)
    bad = [
        forged(city, uris=[], usages=[SIGNING_USAGE]),
        forged(city, uris=[one, "spiffe://shenzhen/edu/system/two"], usages=[SIGNING_USAGE]),
        forged(city, uris=["spiffe://guangzhou/edu/system/one"], usages=[SIGNING_USAGE]),
        forged(city, uris=["https://shenzhen/"], usages=[SIGNING_USAGE]),
        forged(city, uris=[one], usages=[]),
        forged(city, uris=[one], usages=[SIGNING_USAGE, ExtendedKeyUsageOID.CLIENT_AUTH]),
        forged(city, uris=[one], usages=[ExtendedKeyUsageOID.CODE_SIGNING]),
        forged(city, uris=[one], usages=[SIGNING_USAGE], ca=True),
    ]
    for der in bad:
        assert reason(city, der) is Reason.CERTIFICATE_INVALID


def test_what_does_not_verify_displaces_no_remembered_certificate(city: City, signer: Signer, tmp_path: Path) -> None:
    checker = CertificateVerifier(city.ca_pem, frozenset, cached=2)
    checker.verify(signer.certificate_der, AT)
    impostor = City.create(tmp_path, now=NOW)
    for index in range(4):
        with pytest.raises(RefusedError):
            checker.verify(impostor.enrol(f"edu/system/s{index}", now=NOW).signer().certificate_der, AT)
    assert list(checker._known) == [signer.certificate_der]


def test_the_memory_for_certificates_is_bounded(city: City) -> None:
    checker = CertificateVerifier(city.ca_pem, frozenset, cached=2)
    ders = [city.enrol(f"edu/system/s{index}", now=NOW).signer().certificate_der for index in range(4)]
    for der in ders:
        checker.verify(der, AT)
    assert list(checker._known) == ders[2:]


def test_a_signer_needs_the_certificate_of_its_own_key(city: City) -> None:
    certificate = x509.load_der_x509_certificate(city.enrol("edu/system/enrolment", now=NOW).signer().certificate_der)
    with pytest.raises(RefusedError):
        Signer(Ed25519PrivateKey.generate(), certificate)


def test_files_that_do_not_belong_together_are_not_loaded(tmp_path: Path) -> None:
    city = City.create(tmp_path, now=NOW)
    one, two = city.enrol("edu/system/one", now=NOW), city.enrol("edu/system/two", now=NOW)
    good = {path.name: path.read_bytes() for path in one.directory.iterdir()}

    def reload_with(**changes: bytes | None) -> None:
        for name, content in good.items():
            path = one.directory / name
            path.write_bytes(content)
        for name, changed in changes.items():
            path = one.directory / name.replace("_", ".")
            path.unlink() if changed is None else path.write_bytes(changed)
        type(one)(one.directory, city.root)

    reload_with()
    reload_with(signing_pem=None)
    for changes in (
        {"auth_pem": (two.directory / "auth.pem").read_bytes()},
        {"auth_key": (two.directory / "auth.key").read_bytes()},
        {"signing_pem": (two.directory / "signing.pem").read_bytes()},
        {"auth_key": None},
        {"auth_pem": None},
        {"signing_key": None},
        {"auth_pem": b"nothing"},
        {"signing_pem": good["auth.pem"]},
    ):
        with pytest.raises((FatalError, RefusedError)):
            reload_with(**changes)


def test_a_reload_keeps_what_works_until_the_files_belong_together_again(tmp_path: Path) -> None:
    city = City.create(tmp_path, now=NOW)
    files = city.enrol("edu/system/one", now=NOW)
    changes: list[bytes] = []
    files.on_change(lambda: changes.append(files.signer().fingerprint))
    first = files.signer()
    assert not files.reload()
    good = (files.directory / "signing.pem").read_bytes()
    (files.directory / "signing.pem").write_bytes(b"half of a")
    assert not files.reload()
    assert files.signer() is first
    (files.directory / "signing.pem").write_bytes(good)
    assert not files.reload()
    city.enrol("edu/system/one", now=NOW + timedelta(days=1))
    assert files.reload()
    assert changes == [files.signer().fingerprint]
    assert files.signer().fingerprint != first.fingerprint
    assert files.signer().public_key_raw == first.public_key_raw


def test_a_reload_never_turns_one_identity_into_another(tmp_path: Path) -> None:
    city = City.create(tmp_path, now=NOW)
    files, other = city.enrol("edu/system/one", now=NOW), city.enrol("data/hub/main", now=NOW)
    for path in other.directory.iterdir():
        (files.directory / path.name).write_bytes(path.read_bytes())
    assert not files.reload()
    assert files.identity.short == "edu/system/one"
