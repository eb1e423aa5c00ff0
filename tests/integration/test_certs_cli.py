"""`zhiwang certs` from the authority to the revocation list, and what the command line itself promises."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import grpc
import pytest
import typer
from rich.cells import cell_len

from certs.credentials import IdentityFiles
from certs.revocation import RevocationList
from exchange.cli import main as command
from logging_support import logging_restored
from zhiwang.wire import output
from zhiwang.wire.errors import Reason, RefusedError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs `zhiwang` in this process, in a directory of its own: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZHIWANG_CITY", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zhiwang", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int | None)
        return ended.value.code or 0, said.out, said.err

    with logging_restored():
        yield call


def test_a_city_gets_its_certificates_and_its_revocation_list(run: Run, tmp_path: Path) -> None:
    code, _, said = run("certs", "authority", "init", "ca", "--city", "shenzhen")
    assert code == 0
    assert "ca/ca.pem" in said
    names = ["edu/system/enrolment", "data/hub/main"]
    code, out, said = run("certs", "request", *names, "--city", "shenzhen", "--out", "ids")
    assert code == 0
    assert all(name in out for name in names)
    assert "certs issue" in said
    requests = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("ids/*/*/*/*.csr"))
    assert len(requests) == 4
    assert run("certs", "issue", *requests, "--authority", "ca", "--days", "30")[0] == 0
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "ca.pem").write_bytes((tmp_path / "ca" / "ca.pem").read_bytes())
    for name in names:
        files = IdentityFiles(tmp_path / "ids" / name, tmp_path / "root")
        assert files.identity.short == name
        assert files.signer().sign(b"x")
    for key in tmp_path.rglob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    pems = sorted(str(path) for path in tmp_path.glob("ids/edu/system/enrolment/*.pem"))
    assert run("certs", "revoke", *pems, "--authority", "ca")[0] == 0
    assert run("certs", "crl", "--authority", "ca", "--out", "crl.pem")[0] == 0
    listed = RevocationList.parse((tmp_path / "crl.pem").read_bytes(), (tmp_path / "ca" / "ca.pem").read_bytes())
    assert len(listed.serials) == 2
    code, out, said = run("certs", "show", "--json", "crl.pem", "ca/ca.pem", *pems)
    assert code == 0
    assert said == ""
    assert [item["what"] for item in json.loads(out)] == [
        "revocation list",
        "certificate of an authority",
        "certificate",
        "certificate",
    ]
    code, out, _ = run("certs", "show", *pems)
    assert "spiffe://shenzhen/edu/system/enrolment" in out


def test_a_certificate_whose_file_is_lost_is_revoked_by_its_serial(run: Run, tmp_path: Path) -> None:
    run("certs", "authority", "init", "ca", "--city", "shenzhen")
    run("certs", "request", "edu/system/one", "--city", "shenzhen", "--out", "ids", "--authority", "ca")
    ledger = [json.loads(line) for line in (tmp_path / "ca" / "ledger.jsonl").read_text("utf-8").splitlines()]
    serials = [entry["serial"] for entry in ledger if entry["event"] == "issued"]
    assert run("certs", "revoke", "--serial", serials[0], "--serial", serials[1], "--authority", "ca")[0] == 0
    assert run("certs", "crl", "--authority", "ca", "--out", "crl.pem")[0] == 0
    listed = RevocationList.parse((tmp_path / "crl.pem").read_bytes(), (tmp_path / "ca" / "ca.pem").read_bytes())
    assert listed.serials == {int(serial, 16) for serial in serials}
    assert run("certs", "revoke", "--serial", "1234", "--authority", "ca")[0] == 1
    assert run("certs", "revoke", "--serial", "nonsense", "--authority", "ca")[0] == 2
    assert run("certs", "revoke", "--authority", "ca")[0] == 2


def test_issued_elsewhere_certificates_lie_under_their_identity(run: Run, tmp_path: Path) -> None:
    run("certs", "authority", "init", "ca", "--city", "shenzhen")
    run("certs", "request", "edu/agent/one", "--city", "shenzhen", "--out", "ids")
    requests = [str(path) for path in tmp_path.glob("ids/*/*/*/*.csr")]
    assert run("certs", "issue", *requests, "--authority", "ca", "--out", "issued")[0] == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("issued/**/*.pem")}
    assert found == {"issued/edu/agent/one/auth.pem", "issued/edu/agent/one/signing.pem"}
    assert not list(tmp_path.glob("ids/**/*.pem"))


def test_nothing_is_issued_if_one_request_cannot_be_granted(run: Run, tmp_path: Path) -> None:
    run("certs", "authority", "init", "ca", "--city", "shenzhen")
    run("certs", "request", "edu/system/one", "--city", "shenzhen", "--out", "ids")
    run("certs", "request", "edu/system/one", "--city", "guangzhou", "--out", "foreign")
    before = (tmp_path / "ca" / "ledger.jsonl").read_bytes()
    requests = [str(path) for path in (*tmp_path.glob("ids/**/*.csr"), *tmp_path.glob("foreign/**/*.csr"))]
    code, _, said = run("certs", "issue", *requests, "--authority", "ca")
    assert code == 1
    assert "spiffe://guangzhou/edu/system/one" in said
    assert not list(tmp_path.glob("**/auth.pem"))
    assert (tmp_path / "ca" / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["certs", "request", "edu/system/one", "--out", "ids"], "--city"),
        (["certs", "request", "edu/nonsense/one", "--out", "ids", "--city", "shenzhen"], "registrar"),
        (["certs", "request", "--out", "ids", "--city", "shenzhen"], "NAME"),
        (["certs", "issue", "missing.csr", "--authority", "ca"], "does not"),
        (["certs", "nonsense"], "nonsense"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_says_what_is_wrong(run: Run, arguments: list[str], words: str) -> None:
    code, out, said = run(*arguments)
    assert code == 2
    assert words in said
    assert out == ""


def test_a_failure_ends_with_status_1_and_says_what_to_do(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, said = run("certs", "crl", "--authority", "empty", "--out", "crl.pem")
    assert (code, out) == (1, "")
    assert "zhiwang certs authority init" in said
    run("certs", "authority", "init", "ca", "--city", "shenzhen")
    code, _, said = run("certs", "authority", "init", "ca", "--city", "shenzhen")
    assert code == 1
    assert "never replaced" in said


def fake(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A noun that fails."""
    module = ModuleType("fake_noun")
    app = typer.Typer()

    @app.command()
    def go() -> None:
        raise error

    module.app = app  # type: ignore[attr-defined]  # a module made for the test
    monkeypatch.setitem(sys.modules, "fake_noun", module)
    module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("fake_noun", None)
    monkeypatch.setattr(command, "NOUNS", {**command.NOUNS, "fake": ("fake_noun:app", "a noun")})


def test_an_unexpected_error_is_told_without_its_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, ValueError("plain guess 11010519491231002X"))
    code, out, said = run("fake")
    assert (code, out) == (1, "")
    assert "ValueError" in said
    assert "guess" not in said
    assert "11010519491231002X" not in said


@pytest.mark.parametrize(
    ("reason", "code"), [(Reason.IDENTIFIER_INVALID, 2), (Reason.CLAIM_SYNTAX, 2), (Reason.NOT_GRANTED, 1)]
)
def test_a_refusal_says_both_languages_and_whether_the_person_typed_it_wrong(
    run: Run, monkeypatch: pytest.MonkeyPatch, reason: Reason, code: int
) -> None:
    fake(monkeypatch, RefusedError(reason, "and this [detail]", field="subject.child"))
    found, _, said = run("fake")
    assert found == code
    for text in (reason.name, reason.value.zh, "and this [detail]", "subject.child"):
        assert text in said


def test_an_error_of_a_server_is_told_by_its_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = grpc.aio.Metadata()
    fake(
        monkeypatch, grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details="connect to 10.0.0.1")
    )
    code, _, said = run("fake")
    assert code == 1
    assert Reason.HUB_UNREACHABLE.value.zh in said
    assert "10.0.0.1" not in said


def test_a_noun_that_is_not_installed_or_broken_spoils_no_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_noun.py").write_text("raise RuntimeError('on import')", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    nouns = {"gone": ("no.such.module:app", ""), "broken": ("broken_noun:app", "is broken"), **command.NOUNS}
    monkeypatch.setattr(command, "NOUNS", nouns)
    code, out, _ = run("--help")
    assert code == 0
    assert "certs" in out
    assert "is broken" in out
    assert "gone" not in out
    assert run("certs", "--help")[0] == 0
    assert run("broken")[0] == 1
    assert run("gone")[0] == 2


def test_the_overview_imports_no_noun() -> None:
    program = (
        "import sys; from exchange.cli.main import main; sys.argv = ['zhiwang', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'grpc', 'cryptography', 'sqlalchemy', 'casbin', 'tuf', 'pydantic'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603  our own interpreter and program
    assert said.stdout.splitlines()[-1] == "[]"
    assert "certs" in said.stdout


def test_the_version_is_told(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("zhiwang ")


def test_every_command_of_certs_has_an_example(run: Run) -> None:
    for name in ("authority init", "request", "issue", "renew", "revoke", "crl", "show"):
        code, out, _ = run("certs", *name.split(), "--help")
        assert code == 0
        assert f"Example: zhiwang certs {name}" in " ".join(out.split())


def test_columns_stand_under_one_another_in_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("养老保险是否已连续缴费满十二个月？", "YES", None), ("short [bold]", "无法核实", 3)]
    output.print_table(("核验项", "结果", "n"), rows, title="一次核验", styles={"YES": "green"})
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:1] in "│┃┏┡└"]
    assert len({cell_len(line) for line in lines}) == 1
    assert any("short [bold]" in line for line in lines)


def test_json_is_one_value_with_chinese_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"结果": ["YES", None]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"结果": ["YES", None]}
    assert "结果" in out


def test_on_one_machine_keys_and_certificates_come_with_one_command(run: Run, tmp_path: Path) -> None:
    assert run("certs", "authority", "init", "ca", "--city", "shenzhen", "--pin", "root")[0] == 0
    assert (tmp_path / "root" / "ca.pem").read_bytes() == (tmp_path / "ca" / "ca.pem").read_bytes()
    names = ["edu/system/enrolment", "edu/admin/li"]
    code, out, _ = run("certs", "request", *names, "--city", "shenzhen", "--out", "ids", "--authority", "ca")
    assert code == 0
    assert all(name in out for name in names)
    for name in names:
        assert IdentityFiles(tmp_path / "ids" / name, tmp_path / "root").signer().identity.short == name
    # Nothing is made for an authority that is not there.
    assert run("certs", "request", "edu/admin/wu", "--city", "shenzhen", "--out", "ids", "--authority", "no")[0] == 1
    assert not (tmp_path / "ids" / "edu" / "admin" / "wu").exists()


def test_an_authority_begins_with_an_empty_revocation_list_that_later_ones_follow(run: Run, tmp_path: Path) -> None:
    run("certs", "authority", "init", "ca", "--city", "shenzhen")
    run("certs", "crl", "--authority", "ca", "--out", "next.pem")
    first, later = (
        RevocationList.parse((tmp_path / name).read_bytes(), (tmp_path / "ca" / "ca.pem").read_bytes())
        for name in ("ca/crl.pem", "next.pem")
    )
    assert (first.number, first.serials, later.number) == (1, frozenset(), 2)


def test_what_is_pinned_is_never_replaced(run: Run, tmp_path: Path) -> None:
    run("certs", "authority", "init", "ca", "--city", "shenzhen", "--pin", "root")
    before = (tmp_path / "root" / "ca.pem").read_bytes()
    code, _, said = run("certs", "authority", "init", "other", "--city", "shenzhen", "--pin", "root")
    assert code == 1
    assert "never replaced" in said
    assert (tmp_path / "root" / "ca.pem").read_bytes() == before
