"""A sweep of a profile that keeps receipts: each answer has one, once, whatever ends the sweep."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from breaking_support import RealCity
from certs.signing import CertificateVerifier
from exchange.client.keeper import make_store, open_store, places
from exchange.client.receipt import read_receipt
from exchange.client.receipt_store import FILE
from exchange.client.receipt_verify import verify_receipt
from exchange.demo import build
from exchange.demo.build import ROLE, SYSTEM
from exchange.demo.processes import zhiwang
from sweep_processes import (
    IDENTIFIER,
    OWNERS,
    WAIT,
    Asked,
    asked_once,
    begin,
    check_whole,
    command,
    eventually,
    finish,
    write_roster,
)
from zhiwang.wire.header import parse_header
from zhiwang.wire.profile import Profile, load_profile

pytestmark = pytest.mark.timeout(400)  # real processes, and the machine may have other work

ROWS = 2000
FEW = 300


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("keeping"), OWNERS)
    yield city
    city.stop()


@pytest.fixture
def profile(city: RealCity) -> Iterator[Profile]:
    """Of a system that keeps its receipts, with an empty store."""
    layout = city.layout
    before = layout.system_profile.read_bytes()
    profile = build.write_profile_file(
        layout,
        layout.system_profile,
        SYSTEM,
        hub=city.hub_addresses,
        state=f"keeping-{time.monotonic_ns()}",
        defaults={"role": ROLE, "jurisdiction": "nbs:440306"},
        agent={"receipts": {"keep": "3650d", "keys": f"keys-{time.monotonic_ns()}"}},
    )
    profile.state.mkdir(mode=0o700)
    make_store(profile, time.time())
    yield profile
    layout.system_profile.write_bytes(before)


def kept(profile: Profile) -> Counter[tuple[str, str]]:
    """How many receipts there are, by key of the row and owner."""
    found: Counter[tuple[str, str]] = Counter()
    with closing(open_store(profile)) as store:
        for one in store.find("2026-000123"):
            assert one.receipt is not None
            for part in one.receipt.parts:
                found[one.key, parse_header(part.request.header).owner] += len(part.claims)
    return found


def count(profile: Profile) -> int:
    """How many receipts there are."""
    with closing(sqlite3.connect(places(profile)[0] / FILE, timeout=WAIT)) as connection:
        return int(connection.execute("SELECT count(*) FROM receipt").fetchone()[0])


def each_once(rows: int) -> dict[tuple[str, str], int]:
    return {(f"R{number}", owner): 1 for number in range(rows) for owner in OWNERS}


def test_a_killed_sweep_has_kept_the_receipt_of_each_answer_exactly_once(
    city: RealCity, profile: Profile, tmp_path: Path
) -> None:
    roster = write_roster(city, tmp_path / "roster.csv", ROWS)
    asked, words = Asked(city), command(city, roster)
    for killed in range(2):
        before = count(profile)
        process = begin(words)
        # As receipts appear: some of their rows are in the journal by then, and some are not.
        eventually(lambda least=before: count(profile) > least, process)  # type: ignore[misc]  # bound now
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not roster.with_name("results.csv").exists(), killed
    summary: dict[str, Any] = finish(words)
    assert summary["receipts_kept"] > 0
    check_whole(roster, ROWS)
    assert asked_once(asked) == dict.fromkeys(OWNERS, ROWS)
    assert kept(profile) == each_once(ROWS)
    out = tmp_path / "found"
    find = zhiwang("receipt", "find", "2026-000123", "--profile", str(profile.path), "--key", "R17", "--out", str(out))
    done = subprocess.run(find, capture_output=True, text=True, timeout=WAIT, check=True)  # noqa: S603 - our own
    assert not IDENTIFIER.search(done.stdout + done.stderr)
    verifier = CertificateVerifier((city.layout.root / "ca.pem").read_bytes(), frozenset)
    proved = [part for file in out.iterdir() for part in verify_receipt(read_receipt(file.read_bytes()), verifier)]
    assert sorted(part.header.owner for part in proved) == sorted(OWNERS)


def test_no_answer_is_written_down_whose_receipt_cannot_be_kept_and_none_is_lost(
    city: RealCity, profile: Profile, tmp_path: Path
) -> None:
    roster = write_roster(city, tmp_path / "roster.csv", FEW)
    asked, words = Asked(city), command(city, roster)
    _, keys = places(profile)
    away = keys.rename(keys.with_name("away"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT, check=False)  # noqa: S603 - our own
    assert (done.returncode, "Receipts cannot be kept" in done.stderr) == (1, True), done.stderr
    assert not roster.with_name("results.csv").exists()
    assert (sum(asked_once(asked).values()), count(profile)) == (FEW * len(OWNERS), 0)
    away.rename(keys)
    finish(words)
    check_whole(roster, FEW)
    assert asked_once(asked) == dict.fromkeys(OWNERS, FEW)
    assert kept(profile) == each_once(FEW)


def test_a_profile_whose_store_is_missing_asks_nobody(city: RealCity, profile: Profile, tmp_path: Path) -> None:
    roster, asked = write_roster(city, tmp_path / "roster.csv", 3), Asked(city)
    (places(profile)[0] / FILE).unlink()
    done = subprocess.run(command(city, roster), capture_output=True, text=True, timeout=WAIT, check=False)  # noqa: S603 - our own
    assert (done.returncode, "init" in done.stderr) == (1, True), done.stderr
    assert asked_once(asked) == dict.fromkeys(OWNERS, 0)
    assert load_profile(profile.path).agent.receipts is not None
    assert not json.dumps(done.stdout).count("440399")
