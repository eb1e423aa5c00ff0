from __future__ import annotations

from pathlib import Path

import pytest

from zhiwang.wire.profile import load_profile
from zhiwang.wire.tomlfile import FileError

EXAMPLE = """
hub       = ["hub.city:7440"]
registrar = "registrar.city:7443"
root      = "root"
identity  = "identity"
state     = "/var/lib/zhiwang"

[defaults]
role         = "edu/enrolment-clerk"
jurisdiction = "nbs:440306"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "edu.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_profile_of_the_files_page_is_read_and_its_paths_are_beside_it(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, EXAMPLE))
    assert profile.hub == ("hub.city:7440",)
    assert profile.registrar == "registrar.city:7443"
    assert profile.root == tmp_path / "root"
    assert profile.identity == tmp_path / "identity"
    assert profile.state == Path("/var/lib/zhiwang")
    assert (profile.defaults.role, profile.defaults.jurisdiction) == ("edu/enrolment-clerk", "nbs:440306")


def test_an_empty_profile_has_its_defaults(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, ""))
    assert (profile.hub, profile.registrar, profile.adapter) == ((), None, None)
    assert [profile.root, profile.identity, profile.state] == [tmp_path / n for n in ("root", "identity", "state")]


def test_an_adapters_files_are_beside_its_profile(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, '[adapter]\nmapping = "m.toml"\ndocument = "../d.toml"'))
    assert profile.adapter is not None
    assert profile.adapter.mapping == tmp_path / "m.toml"
    assert profile.adapter.document.resolve() == tmp_path.parent / "d.toml"


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:7440", "hub.city:7440", "unix:/run/zhiwang/agent"])
def test_addresses_of_every_kind_are_taken(tmp_path: Path, address: str) -> None:
    assert load_profile(write(tmp_path, f'listen = "{address}"')).listen == address


def test_mistakes_are_named_all_at_once(tmp_path: Path) -> None:
    text = 'hubs = ["hub:7440"]\nlisten = "nowhere"\n[defaults]\nrol = "clerk"\n[[agent.caller]]\nroles = ["a/b"]\n'
    with pytest.raises(FileError) as refused:
        load_profile(write(tmp_path, text))
    found = [(finding.line, finding.key) for finding in refused.value.findings]
    assert found == [(1, "hubs"), (2, "listen"), (4, "defaults.rol"), (5, "agent.caller[0].certificate")]


def test_a_hubs_log_may_stand_in_a_database_and_its_password_beside_the_profile(tmp_path: Path) -> None:
    text = '[log]\nurl = "postgresql+psycopg://hub@/log?host=/run/postgresql"\npassword_file = "log.password"\n'
    log = load_profile(write(tmp_path, text)).log
    assert log is not None
    assert log.url == "postgresql+psycopg://hub@/log?host=/run/postgresql"
    assert log.password_file == tmp_path / "log.password"
    assert load_profile(write(tmp_path, "")).log is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hub:secret@db/log",
        "postgresql://hub:secret@x@db/log",
        "postgresql://db/log",
        "postgresql://hub@db",
        "postgresql+asyncpg://hub@db/log",
        "sqlite:///log.db",
    ],
)
def test_a_url_with_a_password_or_of_another_database_is_a_finding_that_does_not_repeat_it(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(FileError) as caught:
        load_profile(write(tmp_path, f'[log]\nurl = "{url}"\n'))
    assert "log.url" in str(caught.value)
    assert "secret" not in str(caught.value)
