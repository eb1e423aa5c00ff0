"""The gathering of cosignatures, with real witnesses in this process; over the network in tests/integration."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import audit_support as support
import yearly_support
from audit.appended import Head
from audit.checkpoint import join_signatures, open_note, split_note
from audit.cosignature import WitnessPolicy, cosign
from audit.cosigning import Cosigning, CosigningMeter
from audit.submission import SIZE_TYPE
from audit.witness import Answer
from witness_support import ORIGIN, Kit, Near, policy, private_key, witness_key
from zhiwang.wire.errors import FatalError
from zhiwang.wire.kept import KeptFile


class Meter(CosigningMeter):
    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []
        self.changes: list[tuple[bool, int]] = []

    def failed(self, witness: str, kind: str) -> None:
        self.failures.append((witness, kind))

    def quorum_changed(self, *, held: bool, size: int, quorum: int) -> None:
        assert quorum == 2
        self.changes.append((held, size))


class World:
    """A log, three witnesses of which two are a quorum, and what gathers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = support.make_store(path / "log.db")
        support.append(self.log, 9)
        self.kits = [Kit(path / f"witness{number}", number) for number in (1, 2, 3)]
        self.near = {f"w{kit.number}": Near(kit) for kit in self.kits}
        self.policy: WitnessPolicy | None = policy(3, 2)
        self.meter = Meter()
        # Time stands still but for what a test adds, so that a slow machine changes nothing.
        self.began = time.time()
        self.offset = 0.0
        self.cosigning = self.make()

    def clock(self) -> float:
        return self.began + self.offset

    def make(self, *, stop_after: float | None = None) -> Cosigning:
        return Cosigning(
            lambda: self.log,
            lambda: self.policy,
            self.near,
            KeptFile(self.path / "cosigned.json"),
            self.clock,
            every=0.01,
            alarm_after=60,
            stop_after=stop_after,
            meter=self.meter,
        )

    async def round(self, cosigning: Cosigning | None = None) -> None:
        """One round, to its end."""
        cosigning = cosigning or self.cosigning
        for kit in self.kits:
            kit.now = self.clock()
        cosigning._check_policy()
        for asked in cosigning._asked.values():
            asked.after = 0.0
        cosigning.begin_round()
        while cosigning._tasks:
            await asyncio.gather(*cosigning._tasks)
            await asyncio.sleep(0)
        cosigning._look()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.cosigning.close()
    for kit in world.kits:
        kit.close()
    support.close(world.log)


def newest_of(cosigning: Cosigning) -> Head | None:
    """Asked anew each time, where a type checker would believe that nothing has changed."""
    return cosigning.newest


def names(world: World, cosigning: Cosigning | None = None) -> set[str]:
    newest = (cosigning or world.cosigning).newest
    assert newest is not None
    assert world.policy is not None
    return {one.name for one in world.policy.cosignatures(newest.checkpoint)}


async def test_all_witnesses_cosign_the_newest_checkpoint_and_it_stays_the_logs(world: World) -> None:
    assert newest_of(world.cosigning) is None
    await world.round()
    newest = newest_of(world.cosigning)
    assert newest is not None
    assert newest.size == 10
    assert open_note(newest.checkpoint, ORIGIN, support.signer().public_key_raw).root == world.log.newest.root
    assert names(world) == {"w1", "w2", "w3"}
    assert (world.cosigning.behind, world.meter.failures) == (0, [])
    support.append(world.log, 300)
    assert world.cosigning.behind == 300
    await world.round()
    assert world.cosigning.behind == 0
    # From its own memory each was asked once in each round.
    assert [near.asked for near in world.near.values()] == [2, 2, 2]


async def test_at_rest_the_cosignatures_are_renewed(world: World) -> None:
    await world.round()
    first = world.cosigning.time or 0
    world.offset = 30
    await world.round()
    assert (world.cosigning.time or 0) >= first + 29
    assert world.cosigning.age < 10


async def test_a_quorum_is_enough_and_less_is_not(world: World) -> None:
    world.near["w1"].down = True
    await world.round()
    assert names(world) == {"w2", "w3"}
    world.near["w2"].down = True
    support.append(world.log, 5)
    await world.round()
    # The older checkpoint, which a quorum cosigned, stays.
    older = newest_of(world.cosigning)
    assert older is not None
    assert (older.size, world.cosigning.behind) == (10, 5)
    assert {kind for _, kind in world.meter.failures} == {"unreachable"}
    world.near["w1"].down = False
    await world.round()
    assert (world.cosigning.behind, names(world)) == (0, {"w1", "w3"})


async def test_a_slow_witness_keeps_nobody_waiting_and_its_late_line_counts(world: World) -> None:
    gate = asyncio.Event()
    slow, submit = world.near["w1"], world.near["w1"].submit
    world.near["w2"].down = True

    async def late(body: bytes, certificate: bytes) -> object:
        await gate.wait()
        return await submit(body, certificate)

    slow.submit = late  # type: ignore[method-assign,assignment]  # a witness that takes its time
    world.cosigning.begin_round()
    await world.until(lambda: len(world.cosigning._tasks) == 1)
    assert newest_of(world.cosigning) is None
    # The log goes on and further rounds begin; the slow one is not asked twice.
    support.append(world.log, 1)
    world.cosigning.begin_round()
    await world.until(lambda: len(world.cosigning._tasks) == 1)
    gate.set()
    await world.until(lambda: not world.cosigning._tasks)
    newest = newest_of(world.cosigning)
    assert newest is not None
    assert (newest.size, names(world)) == (10, {"w1", "w3"})


async def test_a_late_line_never_takes_the_newest_checkpoint_back(world: World) -> None:
    gate = asyncio.Event()
    slow, submit = world.near["w1"], world.near["w1"].submit

    async def late(body: bytes, certificate: bytes) -> object:
        await gate.wait()
        return await submit(body, certificate)

    slow.submit = late  # type: ignore[method-assign,assignment]  # a witness that takes its time
    world.cosigning.begin_round()
    await world.until(lambda: len(world.cosigning._tasks) == 1)
    support.append(world.log, 5)
    world.cosigning.begin_round()
    await world.until(lambda: world.cosigning.behind == 0 and len(world.cosigning._tasks) == 1)
    # Its clock is ahead, so the old tree's quorum would be the younger one.
    for kit in world.kits:
        kit.now = world.clock() + 30
    world.offset = 30
    gate.set()
    await world.until(lambda: not world.cosigning._tasks)
    newest = newest_of(world.cosigning)
    assert newest is not None
    assert (newest.size, names(world)) == (15, {"w2", "w3"})


async def test_a_witness_that_knows_more_or_less_than_we_believe_is_followed(world: World) -> None:
    await world.round()
    support.append(world.log, 20)
    fresh = world.make()
    # A hub that has forgotten everything asks from nothing, and is told.
    await world.round(fresh)
    shown = newest_of(fresh)
    assert shown is not None
    assert shown.size == 30
    assert {near.asked for near in world.near.values()} == {3}
    assert world.meter.failures == []


async def test_two_hubs_over_one_log_overtake_each_other_without_an_alarm(world: World, tmp_path: Path) -> None:
    await world.round()
    other = support.reopen(tmp_path / "log.db")
    ahead = Cosigning(
        lambda: other,
        lambda: world.policy,
        world.near,
        KeptFile(tmp_path / "other.json"),
        world.clock,
        every=1,
        alarm_after=60,
    )
    support.append(other, 5)
    await world.round(ahead)
    assert ahead.behind == 0
    # The first has not seen what the other appended, and asks for what the witnesses are beyond.
    with capture_logs() as logs:
        await world.round()
    assert (world.meter.failures, logs) == ([], [])
    shown = newest_of(world.cosigning)
    assert shown is not None
    assert shown.size == 10
    world.cosigning.begin_round()
    await world.until(lambda: not world.cosigning._tasks)
    newest = newest_of(world.cosigning)
    assert newest is not None
    assert (newest.size, world.cosigning.behind) == (15, 0)
    support.close(other)


async def test_a_witness_that_has_forgotten_is_told_of_and_goes_on(world: World) -> None:
    await world.round()
    support.append(world.log, 4)
    await world.round()
    # Its whole state is that of before, guard and all.
    world.kits[0].close()
    world.kits[0] = Kit(world.path / "again", 1)
    world.near["w1"].kit = world.kits[0]
    support.append(world.log, 4)
    with capture_logs() as logs:
        await world.round()
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["event"] == "a witness has forgotten what it signed"
    assert (line["witness"], line["signed"], line["says"]) == ("w1", 14, 0)
    assert names(world) == {"w1", "w2", "w3"}


async def test_the_new_years_log_is_cosigned_as_a_log_of_its_own(world: World, tmp_path: Path) -> None:
    calendar = yearly_support.Calendar("2021-12-31T12:00")
    yearly = yearly_support.make(tmp_path / "yearly.db", calendar)
    yearly_support.append(yearly, 20)
    gathering = Cosigning(
        yearly.shard,
        lambda: world.policy,
        world.near,
        KeptFile(tmp_path / "yearly.json"),
        world.clock,
        every=1,
        alarm_after=60,
    )
    await world.round(gathering)
    old = newest_of(gathering)
    assert old is not None
    calendar.set("2022-01-01T00:00:01")
    yearly_support.append(yearly, 3)
    # What was cosigned of the old log says nothing of the new one.
    assert newest_of(gathering) is None
    with capture_logs() as logs:
        await world.round(gathering)
    assert [line for line in logs if line["log_level"] == "error"] == []
    new = newest_of(gathering)
    assert new is not None
    assert new.checkpoint.startswith(f"{ORIGIN}/2022\n".encode())
    assert (new.size, gathering.behind) == (yearly.newest.size, 0)
    assert [kit.store.logs().keys() for kit in world.kits] == [{ORIGIN, f"{ORIGIN}/2022"}] * 3
    # A line that comes late, for the log of the year before, changes nothing any more.
    gathering._take(yearly.shard(ORIGIN), old, split_note(old.checkpoint)[1][1:])
    assert newest_of(gathering) == new
    again = Cosigning(yearly.shard, lambda: world.policy, {}, gathering._kept, world.clock, every=1, alarm_after=60)
    again.recall()
    again._check_policy()
    assert newest_of(again) == new
    yearly_support.close(yearly)


async def test_a_log_restored_from_an_older_copy_is_alarmed_of(world: World, tmp_path: Path) -> None:
    support.close(world.log)
    copy = (tmp_path / "log.db").read_bytes()
    world.log = support.reopen(tmp_path / "log.db")
    support.append(world.log, 20)
    await world.round()
    support.close(world.log)
    for name in ("log.db-wal", "log.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "log.db").write_bytes(copy)
    world.log = support.reopen(tmp_path / "log.db")
    with pytest.raises(FatalError, match="rolled back or rewritten"):
        world.make().recall()
    # One that has lost that memory too is told by the witnesses: first that they have seen more,
    lost = world.make()
    with capture_logs() as logs:
        await world.round(lost)
    assert {kind for _, kind in world.meter.failures} == {"ahead"}
    assert newest_of(lost) is None
    assert any("another history" in line["event"] and line["log_level"] == "error" for line in logs)
    # and once it has grown beyond, that it is another history.
    world.meter.failures.clear()
    support.append(world.log, 50)
    await world.round(lost)
    assert world.meter.failures == [("w1", "forked"), ("w2", "forked"), ("w3", "forked")]
    assert newest_of(lost) is None


@pytest.mark.parametrize("lie", ["another key", "bad signature", "no line", "rubbish", "future", "other text", "size"])
async def test_a_witness_that_lies_adds_nothing_and_spoils_nothing(world: World, lie: str) -> None:
    def change(answer: Answer) -> Answer:
        line = answer.body.decode()
        text = split_note(world.log.newest.checkpoint)[0]
        if lie == "another key":
            key = replace(witness_key(9), name=witness_key(1).name)
            made = cosign(text, key, private_key(9).sign, int(world.clock()))
        elif lie == "future":
            made = cosign(text, witness_key(1), private_key(1).sign, int(world.clock()) + 3600)
        elif lie == "other text":
            made = cosign(text.replace("\n10\n", "\n11\n"), witness_key(1), private_key(1).sign, int(world.clock()))
        elif lie == "size":
            return Answer(409, b"-5\n", SIZE_TYPE)
        else:
            body = {"bad signature": line[:-8] + "AAAAAA=\n", "no line": "", "rubbish": "\u2014 x y\n"}[lie]
            return Answer(200, body.encode())
        return Answer(200, join_signatures([made]).encode())

    world.near["w1"].change = change
    await world.round()
    assert names(world) == {"w2", "w3"}
    assert world.meter.failures == [("w1", "malformed")]


async def test_witnesses_that_claim_a_larger_log_alarm_and_do_not_stop_the_others(world: World) -> None:
    world.near["w1"].change = lambda _: Answer(409, b"4000000\n", SIZE_TYPE)
    world.near["w2"].change = lambda _: Answer(422, b"no\n")
    support.append(world.log, 1)
    with capture_logs() as logs:
        await world.round()
    assert sorted(world.meter.failures) == [("w1", "ahead"), ("w2", "forked")]
    assert sum(line["log_level"] == "error" for line in logs) == 2
    assert newest_of(world.cosigning) is None


async def test_a_witness_that_fails_is_asked_less_often(world: World) -> None:
    world.near["w1"].down = True
    task = asyncio.create_task(world.cosigning.run())
    await world.until(lambda: world.near["w2"].asked >= 20)
    task.cancel()
    assert world.near["w1"].asked <= 8


async def test_the_cosigned_checkpoint_outlives_a_restart(world: World) -> None:
    await world.round()
    newest = newest_of(world.cosigning)
    again = world.make()
    again.recall()
    assert newest_of(again) is None, "whose cosignatures count is not known before there is a directory"
    again._check_policy()
    assert newest is not None
    assert newest_of(again) == newest


@pytest.mark.parametrize("content", ["", "{", "[]", '{"note": "x"}', '{"note": "x\\n", "certificate": "AA=="}'])
async def test_a_damaged_memory_is_gathered_anew(world: World, content: str) -> None:
    (world.path / "cosigned.json").write_text(content)
    again = world.make()
    again.recall()
    again._check_policy()
    assert newest_of(again) is None
    await world.round(again)
    gathered = newest_of(again)
    assert gathered is not None
    assert json.loads((world.path / "cosigned.json").read_text())["note"] == gathered.checkpoint.decode()


async def test_other_witnesses_make_the_old_quorum_worth_nothing(world: World) -> None:
    await world.round()
    assert newest_of(world.cosigning) is not None
    world.policy = WitnessPolicy({f"w{n}": [witness_key(n)] for n in (3, 4, 5)}, 2)
    await world.round()
    assert newest_of(world.cosigning) is None
    world.policy = None
    await world.round()
    assert newest_of(world.cosigning) is None
    world.policy = policy(3, 2)
    await world.round()
    assert names(world) == {"w1", "w2", "w3"}


async def test_the_loss_of_the_quorum_is_alarmed_of_once_and_its_return_told(world: World) -> None:
    await world.round()
    for name in ("w1", "w2"):
        world.near[name].down = True
    with capture_logs() as logs:
        world.offset = 59
        await world.round()
        assert world.meter.changes == []
        world.offset = 62
        for _ in range(3):
            await world.round()
        for name in ("w1", "w2"):
            world.near[name].down = False
        await world.round()
    told = [(line["log_level"], line["event"]) for line in logs if "quorum" in line["event"]]
    assert told == [
        ("error", "no quorum of witnesses cosigns the log"),
        ("info", "a quorum of witnesses cosigns the log again"),
    ]
    assert world.meter.changes == [(False, 10), (True, 10)]


async def test_a_clock_that_leaped_and_came_back_silences_no_alarm(world: World) -> None:
    for name in ("w1", "w2"):
        world.near[name].down = True
    with capture_logs() as logs:
        for world.offset in (10_000_000, 100):
            await world.round()
    assert [line["event"] for line in logs].count("no quorum of witnesses cosigns the log") == 2
    silent = [line["witness"] for line in logs if line["event"] == "a witness gave no cosignature"]
    assert [silent.count(name) for name in ("w1", "w2")] == [2, 2]


async def test_witnesses_without_an_address_are_an_alarm(world: World) -> None:
    world.near.clear()
    alone = world.make()
    world.offset = 100
    with capture_logs() as logs:
        await world.round(alone)
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["not_in_profile"] == ["w1", "w2", "w3"]


async def test_a_hub_that_demands_witnesses_where_there_are_none_says_so(world: World) -> None:
    world.policy = None
    strict = world.make(stop_after=600)
    with capture_logs() as logs:
        await world.round(strict)
        assert logs == [], "perhaps there is no directory yet"
        for world.offset in (61, 62, 400):
            await world.round(strict)
    assert [line["log_level"] for line in logs] == ["error", "error"]
    assert strict.withheld


async def test_release_stops_only_where_it_is_asked_for_and_beyond_its_bound(world: World) -> None:
    strict = world.make(stop_after=600)
    withheld = [strict.withheld]  # nothing is known of witnesses yet
    await world.round(strict)
    for world.offset in (0, 590, 700):
        withheld.append(strict.withheld)
    assert withheld == [True, False, False, True]
    assert not world.cosigning.withheld
