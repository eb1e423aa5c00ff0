"""The sample units of systemd: they are valid, hardened, call commands that exist, and give them time to end."""

from __future__ import annotations

import configparser
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import adapters.config
import exchange.config
from audit import witness_http
from dev import make_cli_docs
from exchange.client import agent
from policy import registrar

UNITS = sorted((Path(__file__).parents[3] / "examples" / "systemd").glob("*.service"))
COMMANDS = dict(make_cli_docs.commands())
ENDING = {
    "registrar": registrar.STOP_GRACE,
    "hub": exchange.config.DRAIN_SECONDS + exchange.config.STOP_GRACE,
    "adapter": adapters.config.DRAIN_SECONDS + adapters.config.STOP_GRACE,
    "agent": agent.STOP_GRACE,
    "witness": witness_http.STOP_SECONDS,
}
EXPOSURE = 20
"""Highest rating of `systemd-analyze security`, in tenths; 100 is a service without any protection."""

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (Debian: systemd)")


class Unit(configparser.RawConfigParser):
    """A unit; of a key that stands several times the last is kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None)
        self.read_string(path.read_text("utf-8"))

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def kind(path: Path) -> str:
    return path.stem.removeprefix("zhiwang-").rstrip("@")


def test_every_process_has_a_unit() -> None:
    assert {kind(path) for path in UNITS} == set(ENDING)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_calls_a_command_with_arguments_that_it_takes(path: Path) -> None:
    program, *arguments = shlex.split(Unit(path)["Service"]["ExecStart"])
    assert program == "/opt/zhiwang/bin/zhiwang"
    command = COMMANDS[" ".join(arguments[:2])]
    command.make_context("run", arguments[2:])
    assert arguments[:2] == [kind(path), "run"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_gives_its_process_the_time_to_finish(path: Path) -> None:
    given = float(Unit(path)["Service"]["TimeoutStopSec"].removesuffix("s"))
    assert given >= ENDING[kind(path)] * 1.5


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_leaves_no_core_and_no_file_open_to_others(path: Path) -> None:
    service = Unit(path)["Service"]
    wanted = {
        "Type": "notify",
        "LimitCORE": "0",
        "WatchdogSignal": "SIGKILL",
        "UMask": "0077",
        "StateDirectoryMode": "0700",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
    }
    assert wanted.items() <= dict(service).items()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_no_two_processes_share_an_account_a_state_or_a_profile(path: Path) -> None:
    service = Unit(path)["Service"]
    place = f"{kind(path)}/%i" if "@" in path.name else kind(path)
    assert service["User"] == f"zhiwang-{place.replace('/', '-')}"
    assert service["StateDirectory"] == f"zhiwang/{place}"
    assert service["ExecStart"].endswith(f" --profile /etc/zhiwang/{place}/profile.toml")
    accounts = [
        line.split()[1]
        for line in (path.parent / "zhiwang.sysusers").read_text("utf-8").splitlines()
        if line.startswith("u ")
    ]
    assert [account for account in accounts if account.startswith(service["User"].removesuffix("%i"))]
    assert all(len(account) < 32 for account in accounts)  # what systemd takes


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units, over the program that is there, so that systemd finds it."""
    program = Path(sys.executable).parent / "zhiwang"
    found = []
    for path in UNITS:
        name = path.name.replace("@", "@hrss")
        text = path.read_text("utf-8").replace("/opt/zhiwang/bin/zhiwang", str(program))
        for one in {path.name, name}:
            (tmp_path / one).write_text(text)
        found.append(tmp_path / name)
    return found


@needs_systemd
def test_systemd_accepts_the_units_without_a_warning(installed: list[Path]) -> None:
    assert ANALYZE is not None
    done = subprocess.run([ANALYZE, "verify", "--man=no", *installed], capture_output=True, text=True, check=False)  # noqa: S603 - our own files
    if "not supported" in done.stderr or "Failed to" in done.stderr.partition("\n")[0]:
        pytest.skip(f"systemd-analyze cannot verify here: {done.stderr.strip()[:200]}")
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_the_units_are_hardened(installed: list[Path]) -> None:
    assert ANALYZE is not None
    for unit in installed:
        done = subprocess.run(  # noqa: S603 - our own file
            [ANALYZE, "security", "--offline=true", "--json=short", f"--threshold={EXPOSURE}", unit],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "unrecognized option" in done.stderr:
            pytest.skip("this systemd-analyze rates no files (before systemd 250)")
        assert done.returncode == 0, [one for one in json.loads(done.stdout) if one["exposure"]]
