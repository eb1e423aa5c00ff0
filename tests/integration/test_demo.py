"""`zhiwang demo` as a person runs it: real processes, and none of them left behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
ZHIWANG = str(SCRIPTS / "zhiwang")
SMALL = ("--students", "20", "--residents", "1500")
pytestmark = pytest.mark.timeout(400)  # a city is eleven processes, and the machine may have other work

IDENTIFIER = re.compile(r"440399[0-9]{11}[0-9X]")


def run(
    command: Sequence[str], *, directory: Path = REPOSITORY, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own commands
        command, cwd=directory, capture_output=True, text=True, timeout=timeout, check=False
    )


def processes_of(directory: Path) -> list[int]:
    """Ids of the processes of a city: those whose command line names a profile in its directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if "run" in words and any(word.startswith(f"{directory}/") for word in words):
            found.append(int(path.parent.name))
    return found


def eventually(condition: Callable[[], bool], seconds: float = 200) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def city(tmp_path: Path) -> Iterator[Path]:
    """A directory for a city, which is stopped in the end whatever happens."""
    directory = tmp_path / "city"
    yield directory
    left = processes_of(directory)
    for pid in left:
        os.killpg(pid, signal.SIGKILL)
    assert not left


def check_that_nothing_names_anybody(city: Path) -> None:
    """Neither what the processes say, nor anything that the hub keeps."""
    for path in [*(city / "logs").glob("*.log"), *(city / "hub").rglob("*")]:
        if path.is_file():
            assert not IDENTIFIER.search(path.read_bytes().decode("latin-1")), path.name


def readme_commands() -> list[list[str]]:
    """Every command of README.md's shell blocks, with the scripts and examples of this checkout."""
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text("utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    return [
        [word.replace(".venv/bin", str(SCRIPTS)).replace("examples/", f"{REPOSITORY}/examples/") for word in words]
        for words in map(shlex.split, lines)
    ]


def test_a_city_that_is_kept_can_be_talked_to_as_the_readme_says(city: Path) -> None:
    first, *commands, stop = readme_commands()
    assert first[-3:] == ["--keep", "--dir", "city"]
    done = run(first, directory=city.parent)
    assert done.returncode == 0, done.stderr
    assert len(processes_of(city)) == 11
    agent = json.loads((city / "agent" / "state" / "address.json").read_text())["listen"]
    assert agent in done.stderr
    outputs = []
    for command in commands:
        answered = run([word.replace("AGENT", agent) for word in command], directory=city.parent)
        assert answered.returncode == 0, f"{command[1:3]}: {answered.stderr}"
        outputs.append(answered.stdout)
    assert outputs[0].count("YES") == outputs[1].count("YES") == 2

    # What the demo itself proposes works as well.
    proposed = [shlex.split(line) for line in done.stderr.splitlines() if line.startswith(f"    {ZHIWANG}")]
    verify, receipt, explain, audit, proposed_stop = proposed
    answered = run([*verify, "--json"])
    assert answered.returncode == 0, answered.stderr
    assert [claim["answer"] for claim in json.loads(answered.stdout)["claims"]] == ["YES", "YES"]
    assert run(receipt).returncode == 0
    explained = run([*explain, "--json"])
    assert explained.returncode == 1, explained.stderr
    assert not json.loads(explained.stdout)["allowed"]
    assert run(audit[audit.index("&&") + 1 :]).returncode == 0

    again = run(first, directory=city.parent)
    assert again.returncode == 2
    assert "not empty" in again.stderr

    stopped = run(stop, directory=city.parent)
    assert stopped.returncode == 0, stopped.stderr
    assert eventually(lambda: not processes_of(city), 10)
    assert run(proposed_stop).returncode == 2
    check_that_nothing_names_anybody(city)


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGINT, 1), (signal.SIGTERM, 6)])
def test_a_demo_that_is_interrupted_leaves_no_process(city: Path, number: signal.Signals, processes: int) -> None:
    command = [ZHIWANG, "demo", *SMALL, "--dir", str(city)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as demo:  # noqa: S603 - our own
        assert eventually(lambda: len(processes_of(city)) >= processes or demo.poll() is not None)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=200)
    assert demo.returncode == 128 + number, errors.decode()
    assert processes_of(city) == []


def test_a_wrong_answer_fails_the_demo_and_names_claim_and_application_only(city: Path) -> None:
    script = (
        "from dataclasses import replace; from exchange.demo import journey; from exchange.cli.main import main\n"
        "right = journey.expectations\n"
        "def wrong(*arguments):\n"
        "    outcomes = right(*arguments)\n"
        "    one = outcomes['2026-000007']\n"
        "    other = 'NO' if one.answers['aged', 0] == 'YES' else 'YES'\n"
        "    outcomes['2026-000007'] = replace(one, answers={**one.answers, ('aged', 0): other})\n"
        "    return outcomes\n"
        "journey.expectations = wrong\n"
        "main()"
    )
    done = run([sys.executable, "-c", script, "demo", *SMALL, "--json", "--dir", str(city)])
    assert done.returncode == 1, done.stderr
    assert "application 2026-000007: aged" in done.stderr
    assert not IDENTIFIER.search(done.stdout + done.stderr)
    summary = json.loads(done.stdout)
    assert list(summary) == [
        *("students", "claims", "answers", "denied", "unavailable", "seconds", "ms_per_student", "log_entries"),
        *("log_verified", "receipt_verified"),
    ]
    assert summary["students"] == 20
    assert sum(summary["answers"].values()) == summary["claims"]
    assert (summary["denied"], summary["unavailable"]) == (0, 0)
    assert summary["log_verified"]
    assert summary["receipt_verified"]
    assert summary["log_entries"] > 9


def test_too_few_residents_are_wrong_usage_and_leave_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(  # noqa: S603 - our own command
        [ZHIWANG, "demo", "--students", "500", "--residents", "500"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "residents" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []
