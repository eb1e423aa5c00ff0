"""Two hubs share a log, and nobody depends on one: neither for the directory nor for a roster.

Real processes; the first hub of everybody's profile is the one that is frozen, killed, or cut off from the registrar.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from breaking_support import command as run_command
from exchange.demo import build
from exchange.demo.build import ADMINS
from hubs_support import SharedCity, hub_entries, shared_city
from log_places import PostgresDatabase
from ports import free_port
from servers import Postgresql
from sweep_processes import OWNERS, ROWS, WAIT, Asked, asked_once, begin, check_whole, command, eventually, write_roster
from zhiwang.audit.v1 import audit_pb2

FIRST, SECOND = "hub", "second"

pytestmark = pytest.mark.timeout(400)  # real processes, and the machine may have other work


@pytest.fixture(scope="module")
def place(own_postgresql: Postgresql) -> PostgresDatabase:
    return PostgresDatabase(own_postgresql)


@pytest.fixture(scope="module")
def city(place: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCity]:
    with shared_city(SharedCity, place, tmp_path_factory.mktemp("two-hubs"), OWNERS) as city:
        yield city


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def publish(city: SharedCity) -> int:
    """Publish a newer directory. Returns its version."""
    profile, admin = city.layout.directory / "hrss-admin.toml", f"hrss/admin/{ADMINS[0]}"
    build.write_profile_file(city.layout, profile, admin, registrar=city.address("registrar"))
    suspending = ("policy", "suspend", "--role", "edu/inspector", "--sign", str(city.layout.identity(admin)))
    done = run_command(*suspending, "--profile", str(profile))
    assert done.returncode == 0, done.stderr.decode()
    return decides_by(city, "registrar")


def decides_by(city: SharedCity, place: str) -> int:
    """The version of the directory that a process has put in force last, by its own word."""
    found = 0
    for line in city.fleet.log(place).read_text("utf-8").splitlines():
        # The last line may not be whole yet.
        if '"directory in force"' in line and line.endswith("}"):
            found = int(json.loads(line)["version"])
    return found


def all_decide_by(city: SharedCity, version: int, *more: str) -> bool:
    return all(decides_by(city, one) >= version for one in (SECOND, *OWNERS, "agent", *more))


def test_agent_and_adapters_take_a_new_directory_from_the_other_hub_while_the_first_is_frozen(city: SharedCity) -> None:
    city.fleet.signal(FIRST, signal.SIGSTOP)
    try:
        version = publish(city)
        until(lambda: all_decide_by(city, version))
        assert decides_by(city, FIRST) < version
    finally:
        city.fleet.signal(FIRST, signal.SIGCONT)
    until(lambda: decides_by(city, FIRST) == version)


def test_agent_and_adapters_take_a_new_directory_from_the_other_hub_while_the_first_is_down_or_cut_off(
    city: SharedCity,
) -> None:
    city.fleet.kill(FIRST)
    version = publish(city)
    until(lambda: all_decide_by(city, version))
    # It comes back, goes on from disk, and can no longer reach the registrar: it says that it serves, and lags.
    profile = city.layout.profile(FIRST)
    text = profile.read_text()
    lagging = decides_by(city, FIRST)
    profile.write_text(text.replace(city.address("registrar"), f"127.0.0.1:{free_port()}"))
    try:
        city.start(FIRST)
        city.wait_ready()
        version = publish(city)
        until(lambda: all_decide_by(city, version))
        # Who starts now, and finds both, decides by the newest; what lags takes nobody back.
        for one in ("agent", OWNERS[0]):
            city.fleet.kill(one)
            city.fleet.log(one).write_text("")
            city.start(one)
        until(lambda: all_decide_by(city, version))
        assert decides_by(city, FIRST) == lagging < version
    finally:
        profile.write_text(text)
        city.fleet.kill(FIRST)
        city.start(FIRST)
    city.wait_ready()
    until(lambda: all_decide_by(city, version, FIRST))


def test_a_sweep_loses_no_row_and_asks_none_twice_while_one_hub_after_the_other_is_killed(
    city: SharedCity, place: PostgresDatabase, tmp_path: Path
) -> None:
    roster, asked = write_roster(city, tmp_path / "名册.csv", 2 * ROWS), Asked(city)
    before = len(hub_entries(place))
    process = begin(command(city, roster, "--until", "5m"))

    def further(owner: str = OWNERS[0]) -> None:
        answered = len(asked.cases(owner))
        eventually(lambda: len(asked.cases(owner)) > answered, process)

    try:
        further()
        city.fleet.kill(FIRST)
        further()  # by the other
        city.start(FIRST)
        city.fleet.kill(SECOND)
        further()  # by the one that came back
        city.start(SECOND)
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    city.wait_ready()
    assert process.returncode == 0, (output, errors[-3000:])
    assert json.loads(output)["outcomes"] == {"ANSWERED": 2 * ROWS, "DENIED": 0, "UNAVAILABLE": 0, "NOT_ASKED": 0}
    check_whole(roster, 2 * ROWS)
    assert asked_once(asked) == dict.fromkeys(OWNERS, 2 * ROWS)
    # What the hubs' one log says of it, held against the owners': the same requests were answered. What was sealed
    # anew had reached no owner, and the log says why.
    passed: set[bytes] = set()
    failed: dict[bytes, str] = {}
    for entry in hub_entries(place)[before:]:
        if entry.WhichOneof("event") == "hub_access":
            header = sha256(entry.hub_access.header).digest()
            if entry.hub_access.outcome == audit_pb2.OUTCOME_ANSWERED:
                passed.add(header)
            else:
                failed[header] = entry.hub_access.reason
    recorded = asked.headers()
    assert passed == set(recorded), "answered at a hub and not at its owner, or the other way round"
    assert {failed[header] for header in failed.keys() - passed} <= {"OWNER_NOT_ATTACHED"}
    assert set(recorded.values()) == {1}, "answered twice by an owner"
