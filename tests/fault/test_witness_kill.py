"""A witness is killed, and must never sign anything older than what it could have signed before."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import audit_support as support
from audit.appended import Head
from audit.checkpoint import split_note, split_signatures
from audit.cosignature import verify_cosignature
from audit.submission import SIZE_TYPE, parse_size
from audit.witness_client import HttpWitness, Reply
from audit.witness_store import WitnessStore
from witness_city import WitnessCity
from witness_support import Kit, submission
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.vkey import VerifierKey

pytestmark = pytest.mark.timeout(300)

KILLED = Path(__file__).parents[1] / "support" / "witness_killed.py"


class Log:
    """A log that the witness follows by its key, so that no directory is needed."""

    def __init__(self, path: Path) -> None:
        self.store = support.make_store(path / "log.db")
        self.heads: list[Head] = [support.append(self.store, 7).head for _ in range(4)]
        self.key = VerifierKey(self.store.origin, support.signer().public_key_raw)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    support.close(log.store)


async def ask(city: WitnessCity, log: Log, head: Head, old: int) -> Reply:
    client = HttpWitness(f"127.0.0.1:{city.ports['office']}", city.city.ca_pem, "shenzhen")
    try:
        return await client.submit(submission(log.store, head, old), b"")
    finally:
        await client.close()


async def test_killed_between_remembering_and_signing_it_signs_nothing_older(tmp_path: Path, log: Log) -> None:
    city = WitnessCity(tmp_path / "city", ("office",), 1)
    profile = (tmp_path / "city" / "office.toml").read_text().partition("[[witness.log]]")[0]
    city.write("office", f'{profile}[[witness.log]]\norigin = "{log.store.origin}"\nkey = "{log.key}"\n')
    first, second, third, _ = log.heads
    with city.running("office"):
        assert (await ask(city, log, first, 0)).status == 200
    killed = city.start("office", [sys.executable, str(KILLED), str(tmp_path / "city" / "office.toml")])
    with pytest.raises(RefusedError):
        await ask(city, log, third, first.size)
    assert killed.wait(60) == -signal.SIGKILL
    # It may have signed the third: whatever it is asked now, that is where it stands.
    with city.running("office"):
        for head, old in ((second, first.size), (first, 0), (first, first.size)):
            reply = await ask(city, log, head, old)
            assert (reply.status, reply.content_type, parse_size(reply.body)) == (409, SIZE_TYPE, third.size)
        assert (await ask(city, log, third, third.size)).status == 200
    # What stands in store and guard is the same after an end as hard as any.
    state = city.states["office"]
    store = WitnessStore.open(state / "witness.db", state / "guard" / "sizes.json")
    assert store.logs()[log.store.origin].size == third.size
    store.close()


def test_a_store_cut_off_anywhere_in_a_write_has_the_old_or_the_new_and_its_guard_never_more(
    tmp_path: Path, log: Log
) -> None:
    """The database file with every prefix of its write-ahead log, as a machine that lost its power could leave it."""
    kit = Kit(tmp_path / "witness")
    assert kit.add(log.store, log.heads[0], 0).status == 200
    guard = (kit.path / "guard" / "sizes.json").read_bytes()
    before = (kit.path / "witness.db-wal").read_bytes()
    assert kit.add(log.store, log.heads[1], log.heads[0].size).status == 200
    database, wal = (kit.path / "witness.db").read_bytes(), (kit.path / "witness.db-wal").read_bytes()
    kit.close()
    found = set()
    for number, length in enumerate([*range(len(before), len(wal), 509), len(wal)]):
        place = tmp_path / f"cut{number}"
        (place / "guard").mkdir(parents=True)
        (place / "evidence").mkdir()
        (place / "witness.db").write_bytes(database)
        (place / "witness.db").chmod(0o600)
        (place / "witness.db-wal").write_bytes(wal[:length])
        # The guard of before: the new one is only written when the store has it for certain.
        (place / "guard" / "sizes.json").write_bytes(guard)
        cut = Kit(place)
        size = cut.store.logs()[log.store.origin].size
        found.add(size)
        answer = cut.add(log.store, log.heads[2], size)
        assert answer.status == 200
        cut.close()
    assert found == {log.heads[0].size, log.heads[1].size}


def test_kill_9_in_the_middle_of_racing_submissions_leaves_a_witness_that_agrees_with_what_it_signed(
    tmp_path: Path, log: Log
) -> None:
    city = WitnessCity(tmp_path / "city", ("office",), 1)
    profile = (tmp_path / "city" / "office.toml").read_text().partition("[[witness.log]]")[0]
    city.write("office", f'{profile}[[witness.log]]\norigin = "{log.store.origin}"\nkey = "{log.key}"\n')
    (witness,) = city.policy.keys
    signed: list[int] = []
    in_this_life: list[int] = []

    async def hammer(number: int, kill: Callable[[], None]) -> None:
        old = 0
        for _ in range(200):
            head = log.heads[number % len(log.heads)]
            try:
                reply = await ask(city, log, head, min(old, head.size))
            except RefusedError:
                return
            if reply.status == 200:
                for line in split_signatures(reply.body.decode()):
                    verify_cosignature(split_note(head.checkpoint)[0], witness, line[2])
                if not in_this_life:
                    # Once it signs, however slow the machine is, and while others are still being answered.
                    asyncio.get_running_loop().call_later(0.2, kill)
                in_this_life.append(head.size)
                signed.append(head.size)
                old = head.size
            elif reply.content_type == SIZE_TYPE:
                old = parse_size(reply.body)

    async def all_of_them(kill: Callable[[], None]) -> None:
        await asyncio.gather(*(hammer(number, kill) for number in range(6)))
        await asyncio.sleep(0.3)

    for _ in range(2):
        process = city.start("office")
        in_this_life.clear()
        asyncio.run(all_of_them(process.kill))
        assert in_this_life, "nothing was signed before the kill"
        assert process.wait(60) == -signal.SIGKILL
        with closing(sqlite3.connect(city.states["office"] / "witness.db")) as connection:
            rows = connection.execute("SELECT size FROM witness_log").fetchall()
        remembered = rows[0][0] if rows else 0
        assert max(signed, default=0) <= remembered
        with contextlib.suppress(FileNotFoundError):
            (city.states["office"] / "address.json").unlink()
