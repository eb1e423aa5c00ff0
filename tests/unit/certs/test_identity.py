from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.identity import Identity, Kind, read_private, server_name, write_private, write_public
from zhiwang.wire.errors import Reason, RefusedError

PART = st.from_regex(r"[a-z]([a-z0-9_-]{0,46}[a-z0-9])?", fullmatch=True)


@given(PART, PART, st.sampled_from(Kind), PART)
def test_an_identity_survives_its_uri_and_its_short_form(city: str, department: str, kind: Kind, name: str) -> None:
    identity = Identity(city, department, kind, name)
    assert Identity.parse(identity.uri) == identity
    assert Identity.parse_short(city, identity.short) == identity
    assert all(len(label) <= 63 for label in identity.server_name.split("."))
    assert len(identity.server_name) <= 253


@given(st.text())
def test_any_other_text_is_no_identity(text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        Identity.parse(text)
    assert caught.value.reason is Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://shenzhen/edu/system/enrolment/",
        "spiffe://shenzhen/edu/system/enrolment\n",
        "spiffe://shenzhen/edu/SYSTEM/enrolment",
        "spiffe://shenzhen/edu/root/enrolment",
        "spiffe://shenzhen/edu/system/",
        "spiffe://shenzhen/edu//enrolment",
        "spiffe://shenzhen:443/edu/system/enrolment",
        "spiffe://shenzhen/edu/system/enrolment?x=1",
        "https://shenzhen/edu/system/enrolment",
        "spiffe://shenzhen/edu/system/\u0435nrolment",
        "spiffe://shenzhen/edu/system/" + "a" * 49,
    ],
)
def test_what_only_looks_like_an_identity_is_refused(uri: str) -> None:
    with pytest.raises(RefusedError):
        Identity.parse(uri)


def test_names_of_servers_tell_kinds_and_cities_apart() -> None:
    names = {server_name(city, kind) for city in ("shenzhen", "guangzhou") for kind in Kind}
    assert len(names) == 2 * len(Kind)
    exact = Identity("shenzhen", "hrss", Kind.ADAPTER, "main").server_name
    assert exact not in names


def test_a_private_file_is_for_its_owner_only_and_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "auth.key"
    before = os.umask(0)
    try:
        write_private(path, b"secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_private(path, b"other")
    assert read_private(path) == b"secret"


def test_of_a_private_file_that_cannot_be_written_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "auth.key"
    for call in ("fsync", "link"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(OSError, match="No space"):
                write_private(path, b"secret")
        assert list(tmp_path.iterdir()) == []
    write_private(path, b"secret")
    assert [entry.name for entry in tmp_path.iterdir()] == ["auth.key"]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileExistsError):
        write_private(path, b"other")


def full(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606])
def test_a_private_file_that_others_can_reach_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "auth.key"
    write_private(path, b"secret")
    path.chmod(mode)
    with pytest.raises(PermissionError, match="chmod 600"):
        read_private(path)


def test_a_public_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "auth.pem"
    write_public(path, b"one")
    write_public(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["auth.pem"]
