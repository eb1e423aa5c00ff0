from __future__ import annotations

import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.credentials import IdentityFiles
from certs.identity import Identity
from certs.renewal import Renewal, holder_of, install, request_renewal, settle
from certs.request import make_requests
from certs_support import City
from zhiwang.wire.errors import FatalError, Reason, RefusedError

SHORT = "data/hub/main"


@pytest.fixture
def city(tmp_path: Path) -> City:
    city = City.create(tmp_path)
    city.enrol(SHORT)
    return city


def issued(city: City, renewals: Sequence[Renewal], **options: float) -> list[bytes]:
    return [
        city.authority.issue(one.request.read_bytes(), hosts=one.hosts, **options)  # type: ignore[arg-type]
        for one in renewals
    ]


def public_keys(directory: Path) -> dict[str, bytes]:
    return {
        name: x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for name in ("auth", "signing")
    }


@pytest.mark.parametrize("new_keys", [False, True])
def test_a_renewed_certificate_is_taken_up_with_its_key_and_the_old_key_is_gone(city: City, *, new_keys: bool) -> None:
    directory = city.path(SHORT)
    files = IdentityFiles(directory, city.root)
    before, signer = public_keys(directory), files.signer()
    renewals = request_renewal(directory, new_keys=new_keys)
    assert [one.fresh for one in renewals] == [new_keys, new_keys]
    assert not files.reload(), "a request changes nothing that is in use"
    done = install(directory, city.ca_pem, issued(city, renewals))
    assert [(one.purpose, one.changed) for one in done] == [("auth", True), ("signing", True)]
    assert files.reload()
    assert (public_keys(directory) != before) is new_keys
    assert files.signer().fingerprint != signer.fingerprint
    assert sorted(path.name for path in directory.iterdir()) == ["auth.key", "auth.pem", "signing.key", "signing.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("*.key")} == {0o600}


def test_at_every_moment_of_a_swap_somebody_who_starts_finds_a_certificate_with_its_key(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = city.path(SHORT)
    pems = issued(city, request_renewal(directory, new_keys=True))
    moments = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        IdentityFiles(directory, city.root).signer()
        replaced = replace(self, target)
        IdentityFiles(directory, city.root).signer()
        moments.append(target.name)
        return replaced

    monkeypatch.setattr(Path, "replace", watched)
    install(directory, city.ca_pem, pems)
    assert moments == ["auth.pem", "auth.key", "signing.pem", "signing.key"]


def test_a_swap_that_was_cut_short_is_used_as_it_is_and_completed_by_the_next_renewal(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = city.path(SHORT)
    pems = issued(city, request_renewal(directory, new_keys=True))
    replace = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if target.suffix == ".key":
            raise OSError("power cut")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut)
        with pytest.raises(OSError, match="power cut"):
            install(directory, city.ca_pem, pems)
    assert (directory / "auth.new.key").exists()
    IdentityFiles(directory, city.root)
    after = public_keys(directory)["auth"]
    settle(directory)
    assert not (directory / "auth.new.key").exists()
    (renewal, _) = request_renewal(directory)
    assert not renewal.fresh
    install(directory, city.ca_pem, issued(city, [renewal]))
    assert public_keys(directory)["auth"] == after


def test_a_certificate_that_is_put_beside_a_fresh_key_by_hand_is_taken_with_that_key(city: City) -> None:
    """As `zhiwang certs issue` does it, which writes beside the request."""
    directory = city.path(SHORT)
    files = IdentityFiles(directory, city.root)
    renewals = request_renewal(directory, new_keys=True)
    for one, pem in zip(renewals, issued(city, renewals), strict=True):
        one.request.with_suffix(".pem").write_bytes(pem)
        assert files.reload()
        assert IdentityFiles(directory, city.root).signer()


def test_a_request_made_again_is_for_the_fresh_key_that_waits_already(city: City) -> None:
    directory = city.path(SHORT)
    first = [one.request.read_bytes() for one in request_renewal(directory, new_keys=True)]
    keys = {path.name: path.read_bytes() for path in directory.glob("*.key")}
    second = request_renewal(directory, new_keys=True)
    assert {path.name: path.read_bytes() for path in directory.glob("*.key")} == keys
    # Issued for the first request, the certificate fits after the second.
    pems = [city.authority.issue(request) for request in first]
    assert all(one.changed for one in install(directory, city.ca_pem, pems))
    assert second


def test_an_admins_signing_key_is_never_changed(city: City) -> None:
    short = "hrss/admin/li"
    city.enrol(short)
    before = public_keys(city.path(short))
    renewals = request_renewal(city.path(short), new_keys=True)
    assert [(one.purpose, one.fresh) for one in renewals] == [("auth", True), ("signing", False)]
    install(city.path(short), city.ca_pem, issued(city, renewals))
    after = public_keys(city.path(short))
    assert after["signing"] == before["signing"]
    assert after["auth"] != before["auth"]


def test_further_host_names_of_a_server_are_asked_for_again(city: City) -> None:
    directory = city.path(SHORT)
    make_requests(directory, Identity.parse_short("shenzhen", SHORT))
    pem = city.authority.issue((directory / "auth.csr").read_bytes(), hosts=["hub.city.example", "192.0.2.7"])
    (directory / "auth.pem").write_bytes(pem)
    auth, signing = request_renewal(directory)
    assert (auth.hosts, signing.hosts) == (("hub.city.example", "192.0.2.7"), ())


def test_installing_the_same_certificate_again_changes_nothing(city: City) -> None:
    directory = city.path(SHORT)
    pems = issued(city, request_renewal(directory))
    install(directory, city.ca_pem, pems)
    assert not any(one.changed for one in install(directory, city.ca_pem, pems))


def wrong_certificates(city: City, tmp_path: Path) -> dict[str, list[bytes]]:
    directory = city.path(SHORT)
    good = issued(city, request_renewal(directory))
    other = City.create(tmp_path / "other")
    city.enrol("hrss/adapter/main")
    foreign = [other.authority.issue(one.request.read_bytes()) for one in request_renewal(directory)]
    copy = tmp_path / "elsewhere"
    unknown = [
        city.authority.issue(path.read_bytes()) for path in make_requests(copy, Identity.parse_short("shenzhen", SHORT))
    ]
    past = datetime.now(UTC) - timedelta(days=2)
    expired = city.authority.issue(request_renewal(directory)[0].request.read_bytes(), now=past, days=1)
    return {
        "belongs to no key": [good[0], unknown[1]],
        "not issued by this city's authority": [good[0], foreign[1]],
        "somebody else": [good[0], (city.path("hrss/adapter/main") / "signing.pem").read_bytes()],
        "which of them": [good[0], good[0]],
        "not a certificate": [good[0], b"nonsense"],
        "data/hub/main": [good[1], expired],
    }


def test_a_certificate_that_does_not_fit_replaces_nothing_and_neither_do_those_beside_it(
    city: City, tmp_path: Path
) -> None:
    wrong = wrong_certificates(city, tmp_path)
    directory = city.path(SHORT)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    for words, pems in wrong.items():
        with pytest.raises(RefusedError, match=words):
            install(directory, city.ca_pem, pems)
        assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_a_directory_without_certificates_is_told_how_the_first_are_made(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="zhiwang certs request") as refused:
        request_renewal(tmp_path)
    assert refused.value.reason is Reason.CERTIFICATE_INVALID


def test_a_key_that_is_gone_is_named(city: City) -> None:
    (city.path(SHORT) / "signing.key").unlink()
    with pytest.raises(FatalError, match=r"signing\.key is missing"):
        request_renewal(city.path(SHORT))
    assert holder_of(city.path(SHORT)).short == SHORT
