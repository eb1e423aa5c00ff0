"""`zhiwang certs renew`: in one go beside the authority, in two steps with it elsewhere, and what it refuses."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from certs.credentials import IdentityFiles
from exchange.cli import main as command
from logging_support import logging_restored
from policy_support import make_directory

Run = Callable[..., tuple[int, str, str]]
NAMES = ("data/hub/main", "hrss/adapter/main")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs `zhiwang` in this process, in a directory of its own: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zhiwang", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int | None)
        return ended.value.code or 0, said.out, said.err

    with logging_restored():
        assert call("certs", "authority", "init", "ca", "--city", "shenzhen", "--pin", "root")[0] == 0
        assert call("certs", "request", *NAMES, "--city", "shenzhen", "--out", "ids", "--authority", "ca")[0] == 0
        yield call


def serials(name: str) -> tuple[int, float]:
    files = IdentityFiles(Path("ids") / name, Path("root"))
    return hash(files.signer().fingerprint), files.expires


def test_beside_the_authority_one_command_renews_several_with_fresh_keys(run: Run) -> None:
    before = [serials(name) for name in NAMES]
    keys = {path: path.read_bytes() for path in Path("ids").rglob("*.key")}
    code, out, _ = run(
        "certs", "renew", *(f"ids/{name}" for name in NAMES), "--new-keys", "--authority", "ca", "--days", "30"
    )
    assert code == 0
    assert all(name in out for name in NAMES)
    for name, (fingerprint, expires) in zip(NAMES, before, strict=True):
        assert serials(name)[0] != fingerprint
        assert serials(name)[1] < expires
    assert keys.keys() == set(Path("ids").rglob("*.key"))
    assert all(path.read_bytes() != content for path, content in keys.items())


def commands(said: str) -> list[list[str]]:
    """The commands that a person is told to run next."""
    return [found.split() for found in re.findall(r"zhiwang (certs [^\n]*)", said)]


@pytest.mark.parametrize("new_keys", [(), ("--new-keys",)])
def test_with_the_authority_elsewhere_the_commands_that_it_prints_renew(run: Run, new_keys: tuple[str, ...]) -> None:
    before = serials("data/hub/main")
    code, _, said = run("certs", "renew", "ids/data/hub/main", *new_keys)
    assert code == 0
    assert serials("data/hub/main") == before, "nothing changes until a certificate is installed"
    issue, renew = commands(said)
    assert run(*[{"DIR": "ca"}.get(word, word) for word in issue])[0] == 0
    assert serials("data/hub/main") == before
    code, out, _ = run(*[{"ROOT": "root"}.get(word, word) for word in renew])
    assert code == 0
    assert "data/hub/main" in out
    assert serials("data/hub/main") != before


def test_the_profile_says_what_to_renew_and_by_which_root_to_check(run: Run) -> None:
    Path("hub.toml").write_text('root = "root"\nidentity = "ids/data/hub/main"\n', "utf-8")
    before = serials("data/hub/main")
    assert run("certs", "renew", "--profile", "hub.toml", "--authority", "ca")[0] == 0
    assert serials("data/hub/main") != before


def test_a_certificate_of_somebody_else_or_of_another_authority_replaces_nothing(run: Run) -> None:
    run("certs", "authority", "init", "other", "--city", "shenzhen")
    run("certs", "renew", "ids/data/hub/main")
    run("certs", "issue", "ids/data/hub/main/auth.csr", "--out", "foreign", "--authority", "other")
    before = serials("data/hub/main")
    for certificate, words in (
        ("ids/hrss/adapter/main/auth.pem", "whose directory is not given"),
        ("foreign/data/hub/main/auth.pem", "not issued by this city's authority"),
        ("hub.toml", "not a certificate"),
    ):
        Path("hub.toml").write_text("", "utf-8")
        code, _, said = run("certs", "renew", "ids/data/hub/main", "--install", certificate, "--root", "root")
        assert code == 1
        assert words in said
        assert serials("data/hub/main") == before


def test_a_certificate_that_the_directory_at_hand_says_is_revoked_is_not_installed(run: Run, tmp_path: Path) -> None:
    kit = make_directory(tmp_path / "made")
    kit.city.enrol("data/hub/main")
    identity = kit.city.path("data/hub/main")
    Path("hub.toml").write_text(f'root = "{kit.city.root}"\nidentity = "{identity}"\nstate = "state"\n', "utf-8")
    run("certs", "renew", "--profile", "hub.toml")
    Path("issued.pem").write_bytes(kit.city.authority.issue((identity / "auth.csr").read_bytes()))
    before = (identity / "auth.pem").read_bytes()
    kit.city.authority.revoke(x509.load_pem_x509_certificate(Path("issued.pem").read_bytes()).serial_number)
    kit.publish(kit.city.authority.crl())
    kit.client(Path("state") / "directory").refresh()
    install = ("certs", "renew", "--profile", "hub.toml", "--install", "issued.pem")
    code, _, said = run(*install)
    assert code == 1
    assert "CERTIFICATE_REVOKED" in said
    assert (identity / "auth.pem").read_bytes() == before
    # One that cannot be read keeps nobody from renewing, and is remarked.
    (Path("state") / "directory" / "directory.json").write_text("{}")
    code, _, said = run(*install)
    assert code == 0
    assert "not known what is revoked" in " ".join(said.split())


def test_what_renew_did_can_be_read_by_programs(run: Run) -> None:
    _, out, said = run("certs", "renew", "ids/data/hub/main", "--new-keys", "--json")
    requests = json.loads(out)
    assert {(one["identity"], one["for"], one["key"]) for one in requests} == {
        ("data/hub/main", "auth", "fresh"), ("data/hub/main", "signing", "fresh"),
    }  # fmt: skip
    assert said == ""
    run("certs", "issue", *(one["request"] for one in requests), "--out", "issued", "--authority", "ca")
    files = [option for path in Path("issued").rglob("*.pem") for option in ("--install", str(path))]
    _, out, _ = run("certs", "renew", "ids/data/hub/main", *files, "--root", "root", "--json")
    assert {(one["for"], one["changed"]) for one in json.loads(out)} == {("auth", True), ("signing", True)}
    _, out, _ = run("certs", "renew", "ids/data/hub/main", "--authority", "ca", "--json")
    assert [datetime.fromisoformat(one["valid until"]).tzinfo for one in json.loads(out)] == [UTC, UTC]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--profile"),
        (("ids/data/hub/main", "--install", "ids/data/hub/main/auth.pem"), "--root"),
        (("ids/data/hub/main", "--install", "x.pem", "--root", "root", "--new-keys"), "belong to the request"),
    ],
)
def test_wrong_usage_of_renew_ends_with_status_2(run: Run, arguments: tuple[str, ...], words: str) -> None:
    code, _, said = run("certs", "renew", *arguments)
    assert code == 2
    assert words in said
