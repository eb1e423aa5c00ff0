from __future__ import annotations

import base64
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.ca import Authority, parse_request
from certs.identity import Identity, Kind
from certs.request import make_requests
from certs.revocation import RevocationList
from certs.show import describe
from certs.signing import SIGNING_USAGE, subject_of
from certs_support import City
from zhiwang.wire.errors import FatalError, Reason, RefusedError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    return City.create(tmp_path_factory.mktemp("city"), now=NOW)


def issue(city: City, short: str, purpose: str, directory: Path) -> x509.Certificate:
    make_requests(directory, Identity.parse_short("shenzhen", short))
    return x509.load_pem_x509_certificate(city.authority.issue((directory / f"{purpose}.csr").read_bytes(), now=NOW))


def server_names(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return list(names.get_values_for_type(x509.DNSName))


def usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


@pytest.mark.parametrize("kind", Kind)
def test_a_tls_certificate_says_what_its_kind_may_do(city: City, kind: Kind, tmp_path: Path) -> None:
    certificate = issue(city, f"edu/{kind}/one", "auth", tmp_path)
    assert subject_of(certificate) == Identity("shenzhen", "edu", kind, "one")
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usages(certificate)
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usages(certificate)) is kind.serves
    expected = [f"{kind}.shenzhen.zhiwang.internal", f"one.edu.{kind}.shenzhen.zhiwang.internal"]
    assert server_names(certificate) == (expected if kind.serves else [])


def test_a_signing_certificate_is_for_signing_alone(city: City, tmp_path: Path) -> None:
    certificate = issue(city, "edu/hub/one", "signing", tmp_path)
    assert usages(certificate) == {SIGNING_USAGE}
    assert server_names(certificate) == []


def test_private_keys_stay_where_they_are_made_and_are_not_in_requests(city: City, tmp_path: Path) -> None:
    make_requests(tmp_path, Identity.parse_short("shenzhen", "edu/agent/one"))
    for key in tmp_path.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((city.directory / "authority" / "ca.key").stat().st_mode) == 0o600
    for request in tmp_path.glob("*.csr"):
        assert b"PRIVATE" not in request.read_bytes()


def test_renewal_keeps_the_keys(tmp_path: Path) -> None:
    identity = Identity.parse_short("shenzhen", "edu/admin/li")
    make_requests(tmp_path, identity)
    keys = {path.name: path.read_bytes() for path in tmp_path.glob("*.key")}
    make_requests(tmp_path, identity)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.key")} == keys


def test_a_request_gets_nothing_but_its_identity(city: City) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub main")]))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.UniformResourceIdentifier("spiffe://shenzhen/edu/adapter/one"),
                    x509.DNSName("hub.shenzhen.zhiwang.internal"),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate = x509.load_pem_x509_certificate(city.authority.issue(greedy.public_bytes(Encoding.PEM), now=NOW))
    assert "hub.shenzhen.zhiwang.internal" not in server_names(certificate)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "hub" not in certificate.subject.rfc4514_string()


@pytest.mark.parametrize(
    "uris",
    [
        ["spiffe://guangzhou/edu/system/one"],
        ["spiffe://shenzhen/edu/system/one", "spiffe://shenzhen/data/hub/main"],
        ["https://shenzhen/"],
        [],
    ],
)
def test_a_request_for_anything_but_one_identity_of_the_city_is_refused(city: City, uris: list[str]) -> None:
    names: list[x509.GeneralName] = [x509.DNSName("x"), *(x509.UniformResourceIdentifier(uri) for uri in uris)]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    with pytest.raises(RefusedError) as caught:
        city.authority.issue(request.public_bytes(Encoding.PEM), now=NOW)
    assert caught.value.reason is Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
def test_a_key_of_another_sort_is_refused(city: City, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://shenzhen/edu/system/one")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(RefusedError, match="P-256"):
        city.authority.issue(request.public_bytes(Encoding.PEM), now=NOW)


def test_a_request_that_its_key_did_not_sign_is_refused(city: City, tmp_path: Path) -> None:
    (auth, _) = make_requests(tmp_path, Identity.parse_short("shenzhen", "edu/system/one"))
    request, _ = parse_request(auth.read_bytes())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    with pytest.raises(RefusedError):
        city.authority.issue(broken, now=NOW)


@pytest.mark.parametrize(
    "data", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_what_is_no_request_is_refused(city: City, data: bytes) -> None:
    with pytest.raises(RefusedError):
        city.authority.issue(data, now=NOW)


def test_host_names_are_for_servers_and_never_ours(city: City, tmp_path: Path) -> None:
    (auth, signing) = make_requests(tmp_path / "agent", Identity.parse_short("shenzhen", "edu/agent/one"))
    (system, _) = make_requests(tmp_path / "system", Identity.parse_short("shenzhen", "edu/system/one"))
    pem = city.authority.issue(auth.read_bytes(), now=NOW, hosts=["agent.edu.example"])
    assert "agent.edu.example" in server_names(x509.load_pem_x509_certificate(pem))
    for request, host in (
        (signing, "agent.edu.example"),
        (system, "agent.edu.example"),
        (auth, "hub.shenzhen.Zhiwang.internal"),
        (auth, "前置机.example"),
    ):
        with pytest.raises(RefusedError):
            city.authority.issue(request.read_bytes(), now=NOW, hosts=[host])


def test_an_address_is_certified_as_an_address_where_clients_look_for_it(city: City, tmp_path: Path) -> None:
    (auth, _) = make_requests(tmp_path / "agent", Identity.parse_short("shenzhen", "edu/agent/one"))
    pem = city.authority.issue(auth.read_bytes(), now=NOW, hosts=["192.0.2.7", "2001:db8::7"])
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "2001:db8::7"]
    assert not {"192.0.2.7", "2001:db8::7"} & set(names.get_values_for_type(x509.DNSName))


def test_no_certificate_outlives_the_authority(city: City, tmp_path: Path) -> None:
    (auth, _) = make_requests(tmp_path, Identity.parse_short("shenzhen", "edu/system/one"))
    pem = city.authority.issue(auth.read_bytes(), now=NOW, days=100_000)
    authority = x509.load_pem_x509_certificate(city.ca_pem)
    assert x509.load_pem_x509_certificate(pem).not_valid_after_utc <= authority.not_valid_after_utc
    with pytest.raises(RefusedError):
        city.authority.issue(auth.read_bytes(), now=NOW + timedelta(days=5000))


def test_an_authority_is_made_deliberately_and_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="authority init"):
        Authority.load(tmp_path / "ca")
    Authority.create(tmp_path / "ca", "shenzhen")
    before = {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()}
    with pytest.raises(FatalError):
        Authority.create(tmp_path / "ca", "shenzhen")
    assert {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()} == before


def test_an_authority_whose_key_others_can_read_is_not_opened(tmp_path: Path) -> None:
    Authority.create(tmp_path, "shenzhen")
    (tmp_path / "ca.key").chmod(0o644)
    with pytest.raises(FatalError, match="chmod 600"):
        Authority.load(tmp_path)


def test_what_was_revoked_is_in_every_later_list_and_numbers_rise(tmp_path: Path) -> None:
    city = City.create(tmp_path, now=NOW)
    certificates = [issue(city, f"edu/system/s{i}", "auth", tmp_path / str(i)) for i in range(3)]
    assert RevocationList.parse(city.authority.crl(NOW), city.ca_pem).serials == frozenset()
    assert city.authority.revoke(certificates[0].serial_number, now=NOW)
    assert not city.authority.revoke(certificates[0].serial_number, now=NOW)
    first = RevocationList.parse(city.authority.crl(NOW), city.ca_pem)
    reopened = Authority.load(tmp_path / "authority")
    reopened.revoke(certificates[2].serial_number, now=NOW)
    second = RevocationList.parse(reopened.crl(NOW), city.ca_pem)
    assert first.serials == {certificates[0].serial_number}
    assert second.serials == {certificates[0].serial_number, certificates[2].serial_number}
    assert second.number > first.number
    assert second.this_update == NOW.timestamp()


def test_only_what_this_authority_issued_can_be_revoked(city: City) -> None:
    with pytest.raises(RefusedError):
        city.authority.revoke(12345, now=NOW)


def test_no_list_is_made_from_a_damaged_ledger(tmp_path: Path) -> None:
    city = City.create(tmp_path, now=NOW)
    ledger = tmp_path / "authority" / "ledger.jsonl"
    ledger.write_text(ledger.read_text("utf-8") + "{\n", "utf-8")
    with pytest.raises(FatalError):
        city.authority.crl(NOW)
    ledger.unlink()
    with pytest.raises(FatalError):
        city.authority.crl(NOW)


def test_the_ledger_names_everything_that_was_issued(tmp_path: Path) -> None:
    city = City.create(tmp_path, now=NOW)
    certificate = issue(city, "edu/system/one", "signing", tmp_path / "one")
    lines = [json.loads(line) for line in (tmp_path / "authority" / "ledger.jsonl").read_text("utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["created", "issued"]
    assert int(lines[1]["serial"], 16) == certificate.serial_number
    assert (lines[1]["identity"], lines[1]["purpose"]) == ("edu/system/one", "signing")


def test_a_list_of_another_authority_or_a_changed_one_is_refused(city: City, tmp_path: Path) -> None:
    other = City.create(tmp_path, now=NOW)
    good = city.authority.crl(NOW)
    RevocationList.parse(good, city.ca_pem)
    der = bytearray(x509.load_pem_x509_crl(good).public_bytes(Encoding.DER))
    der[-1] ^= 1
    broken = x509.load_der_x509_crl(bytes(der)).public_bytes(Encoding.PEM)
    for pem, root in ((good, other.ca_pem), (broken, city.ca_pem), (b"", city.ca_pem), (city.ca_pem, city.ca_pem)):
        with pytest.raises(RefusedError):
            RevocationList.parse(pem, root)


def test_show_says_who_and_what_for(city: City, tmp_path: Path) -> None:
    (auth, _) = make_requests(tmp_path, Identity.parse_short("shenzhen", "edu/agent/one"))
    assert describe(auth.read_bytes())["identity"] == "spiffe://shenzhen/edu/agent/one"
    shown = describe(city.authority.issue(auth.read_bytes(), now=NOW))
    assert shown["identity"] == "spiffe://shenzhen/edu/agent/one"
    assert shown["for"] == "TLS client, TLS server"
    assert describe(city.ca_pem)["what"] == "certificate of an authority"
    assert describe(city.authority.crl(NOW))["revoked"] == "none"
    with pytest.raises(RefusedError):
        describe(b"nothing")


def test_requests_and_lists_flipped_anywhere_are_refused_or_say_the_same(city: City, tmp_path: Path) -> None:
    # An ECDSA signature can be written in more than one way; what it signs cannot.
    (auth, _) = make_requests(tmp_path, Identity.parse_short("shenzhen", "edu/system/one"))
    request = x509.load_pem_x509_csr(auth.read_bytes()).public_bytes(Encoding.DER)
    listed = x509.load_pem_x509_crl(city.authority.crl(NOW)).public_bytes(Encoding.DER)

    def read_request(pem: bytes) -> object:
        parsed, identity = parse_request(pem)
        return identity, parsed.public_key()

    def read_list(pem: bytes) -> object:
        return RevocationList.parse(pem, city.ca_pem)

    for der, label, read in ((request, b"CERTIFICATE REQUEST", read_request), (listed, b"X509 CRL", read_list)):
        says: list[object] = []
        refused = 0
        for position in (None, *range(len(der))):
            changed = bytearray(der)
            if position is not None:
                changed[position] ^= 1
            pem = b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, base64.b64encode(changed), label)
            try:
                said = read(pem)
            except RefusedError:
                refused += 1
            else:
                says.append(said)
        assert refused >= len(der) - 2
        assert all(said == says[0] for said in says)
