"""Several hubs serve the directory, and a reader depends on none: the newest that verifies is taken, whoever has it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.typing import EventDict

import policy_support as support
from policy import follower as module
from policy.directory import WHOLE, DirectoryClient, DirectoryHolder, Fetch
from policy.follower import Follower
from policy.mirror import TIMESTAMP
from policy.model import Directory
from policy.source import Source, newest_first, version_of
from policy_liars import LyingRegistrar
from policy_support import DirectoryKit
from source_support import ServedHub
from zhiwang.exchange.v1 import exchange_pb2
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError

PASSED_OVER = "directory: a source is passed over"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return support.make_directory(tmp_path_factory.mktemp("follower"))


@pytest.fixture
def kit(original: DirectoryKit, tmp_path: Path) -> DirectoryKit:
    return original.copy(tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is tried in vain is tried again soon."""
    monkeypatch.setattr(module, "MAX_BACKOFF", 0.05)
    monkeypatch.setattr(module, "BEHIND_SECONDS", 0.0)


def serving(files: Mapping[str, bytes]) -> Fetch:
    """A mirror of these files and no others."""

    def fetch(path: str) -> bytes:
        if path not in files:
            raise RefusedError(Reason.FILE_UNKNOWN, path)
        return files[path]

    return fetch


def mirror(kit: DirectoryKit) -> ServedHub:
    """A hub that has what is published now, and nothing that comes later."""
    return ServedHub(serving(dict(kit.repository.files)))


def _itself(hub: ServedHub) -> ServedHub:
    return hub


class Flapping(ServedHub):
    """Each of its watches tells of what is in force and then lies."""

    def __init__(self, kit: DirectoryKit) -> None:
        super().__init__(serving(dict(kit.repository.files)))
        self.watched = 0

    def Watch(self, request: Any) -> Any:  # noqa: N802  gRPC's
        del request
        self.watched += 1
        return _Flaps([self.serve(TIMESTAMP), timestamp(1_000_000)])


class _Flaps:
    def __init__(self, told: list[bytes]) -> None:
        self._told = told

    async def read(self) -> exchange_pb2.WatchResponse:
        return exchange_pb2.WatchResponse(timestamp=self._told.pop(0))

    def cancel(self) -> None:
        self._told.clear()


class Reader:
    """Whoever follows these hubs.

    Attributes:
        lines: What operators are told.
    """

    def __init__(self, kit: DirectoryKit, state: Path, hubs: Mapping[str, ServedHub]) -> None:
        self.holder = DirectoryHolder(kit.clock)
        sources = {name: partial(_itself, hub) for name, hub in hubs.items()}
        self.follower = Follower(kit.client(state), self.holder, sources)
        self.lines: list[EventDict] = []

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        with structlog.testing.capture_logs() as lines:
            self.lines = lines
            task = asyncio.create_task(self.follower.follow())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def told(self) -> list[tuple[str, str]]:
        return [(line["source"], line["why"]) for line in self.lines if line["event"] == PASSED_OVER]

    def troubled(self, name: str) -> bool:
        return any(one.trouble is not None for one in self.follower._sources if one.name == name)

    async def reaches(self, version: int) -> None:
        await until(lambda: self.holder.latest is not None and self.holder.latest.version == version)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for is the state of a thread
            await asyncio.sleep(0.01)


async def turns(hub: ServedHub, number: int = 3) -> None:
    """Until a hub that is tried again and again was asked so often more."""
    before = len(hub.asked)
    await until(lambda: len(hub.asked) >= before + number)


# The choice.


def timestamp(version: object) -> bytes:
    return json.dumps({"signed": {"version": version}}).encode()


@given(st.lists(st.one_of(st.integers(), st.none())))
def test_who_claims_the_newest_is_read_first_and_who_says_nothing_readable_last(versions: list[int | None]) -> None:
    offers = {Source(str(place), lambda: None): timestamp(version) for place, version in enumerate(versions)}
    order = [version_of(offers[source]) for source in newest_first(offers)]
    claimed = [version for version in order if version is not None]
    assert claimed == sorted(claimed, reverse=True)
    assert order == claimed + [None] * versions.count(None)


@given(st.one_of(st.binary(), st.builds(timestamp, st.one_of(st.floats(), st.booleans(), st.text(), st.none()))))
def test_whatever_a_hub_offers_reading_its_claim_raises_nothing(offered: bytes) -> None:
    assert version_of(offered) is None


def test_a_claim_that_is_nested_without_end_is_no_claim() -> None:
    assert version_of(b"[" * 500_000) is None


# At the start.


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_start_takes_the_newest_of_all_hubs_wherever_it_stands(
    kit: DirectoryKit, tmp_path: Path, place: int
) -> None:
    hubs = [mirror(kit), mirror(kit)]
    newest = kit.publish(support.HRSS)
    hubs.insert(place, mirror(kit))
    reader = Reader(kit, tmp_path / "state", dict(zip("abc", hubs, strict=True)))
    await reader.follower.begin()
    assert reader.holder.current == newest
    assert [hub.asked == [TIMESTAMP] for hub in hubs].count(True) == 2, "of the others nothing else was read"


@pytest.mark.parametrize("fault", ["is down", "hangs", "hangs in the middle", "lies"])
async def test_a_start_passes_over_a_hub_that_is_of_no_use(kit: DirectoryKit, tmp_path: Path, fault: str) -> None:
    bad, good = mirror(kit), mirror(kit)
    match fault:
        case "is down":
            bad.down = True
        case "hangs":
            bad.hangs = lambda _path: True
        case "hangs in the middle":
            bad.hangs = lambda path: path != TIMESTAMP
        case _:
            bad.serve = serving({TIMESTAMP: timestamp(1_000_000)})
    reader = Reader(kit, tmp_path / "state", {"bad": bad, "good": good})
    async with asyncio.timeout(60):
        await reader.follower.begin()
    assert reader.holder.current == kit.directory


async def test_a_start_waits_for_an_honest_hub_that_is_slower_than_one_that_lies(
    kit: DirectoryKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OTHERS_SECONDS", 0.05)
    liar, slow, dead = ServedHub(serving({TIMESTAMP: timestamp(1_000_000)})), mirror(kit), mirror(kit)
    slow.delay, dead.down = 0.3, True
    reader = Reader(kit, tmp_path / "state", {"liar": liar, "slow": slow, "dead": dead})
    await reader.follower.begin()
    assert reader.holder.current == kit.directory


async def test_a_start_without_any_hub_goes_on_from_disk(kit: DirectoryKit, tmp_path: Path) -> None:
    hubs = {"one": mirror(kit), "two": mirror(kit)}
    await Reader(kit, tmp_path / "state", hubs).follower.begin()
    for hub in hubs.values():
        hub.down = True
    reader = Reader(kit, tmp_path / "state", hubs)
    await reader.follower.begin()
    assert reader.holder.current == kit.directory
    assert str(reader.holder.problem).startswith("unreachable: HUB_UNREACHABLE")
    other = Reader(kit, tmp_path / "other", hubs)
    with pytest.raises(RefusedError) as caught:
        await other.follower.begin()
    assert caught.value.reason is Reason.HUB_UNREACHABLE


@pytest.mark.parametrize("last", ["root", "snapshot", "targets"])
async def test_a_reading_that_was_broken_off_leaves_what_was_in_force_on_disk_and_lets_nothing_older_in(
    kit: DirectoryKit, tmp_path: Path, last: str
) -> None:
    old, state = mirror(kit), tmp_path / "state"
    first = kit.directory
    before = Reader(kit, state, {"old": old})
    await before.follower.begin()
    newest = kit.publish(support.HRSS)
    files = dict(kit.repository.files)
    breaks = ServedHub(serving({TIMESTAMP: files[TIMESTAMP]} | {path: files[path] for path in files if last in path}))
    with pytest.raises(RefusedError):
        await Reader(kit, state, {"breaks": breaks}).follower.look()
    breaks.down = True
    for hubs in ({"breaks": breaks}, {"breaks": breaks, "old": old}):
        reader = Reader(kit, state, hubs)
        await reader.follower.begin()
        assert reader.holder.current == first
        assert reader.holder.problem
    with pytest.raises(ZhiwangError):
        kit.client(state, fetch=old.serve).refresh()
    old.serve = mirror(kit).serve
    await reader.follower.look()
    assert reader.holder.current == newest


async def test_what_is_kept_whole_is_believed_no_longer_than_it_holds(kit: DirectoryKit, tmp_path: Path) -> None:
    hub, state = mirror(kit), tmp_path / "state"
    await Reader(kit, state, {"hub": hub}).follower.begin()
    hub.down = True
    for path in (state / "metadata").glob("*snapshot*"):
        path.unlink()
    assert kit.client(state).load() == kit.directory
    kept = state / WHOLE
    content = json.loads(kept.read_bytes())
    for spoilt in (b"", b"[]", json.dumps(content | {TIMESTAMP: "e30="}).encode()):
        kept.write_bytes(spoilt)
        with pytest.raises(ZhiwangError):
            kit.client(state).load()


# From then on.


async def test_the_newest_comes_from_whichever_hub_has_it_and_one_that_stays_behind_is_told_of_once(
    kit: DirectoryKit, tmp_path: Path
) -> None:
    frozen, other = mirror(kit), mirror(kit)
    reader = Reader(kit, tmp_path / "state", {"frozen": frozen, "other": other})
    async with reader.following():
        await reader.reaches(kit.directory.version)
        for text in (support.HRSS, 'department = "hrss"\n', support.HRSS):
            newest = kit.publish(text)
            other.serve = mirror(kit).serve
            await reader.reaches(newest.version)
            # It comes back with what it had, as after a restart, and again and again.
            frozen.down = True
            await asyncio.sleep(0.05)
            frozen.down = False
            await turns(frozen)
            assert reader.holder.current == newest, "versions never fall"
        assert reader.holder.problem is None
        frozen.serve = other.serve
        await until(lambda: "again" in str(reader.lines[-1]["event"]))
    assert [why for _, why in reader.told()].count("behind") <= 3
    assert {source for source, _ in reader.told()} == {"frozen"}
    assert not [line for line in reader.lines if line["event"] == "directory not taken"]


async def test_a_hub_that_lies_is_told_of_once_and_keeps_nothing_from_anybody(
    kit: DirectoryKit, tmp_path: Path
) -> None:
    honest = mirror(kit)
    forged = LyingRegistrar(kit)
    forged.timestamp.version += 1000
    bad = json.loads(forged.files[TIMESTAMP])
    bad["signed"]["version"] += 1000
    liar = ServedHub(serving({**kit.repository.files, TIMESTAMP: json.dumps(bad).encode()}))
    reader = Reader(kit, tmp_path / "state", {"liar": liar, "honest": honest})
    async with reader.following():
        await reader.reaches(kit.directory.version)
        await turns(liar, 8)
        newest = kit.publish(support.HRSS)
        honest.serve = mirror(kit).serve
        await reader.reaches(newest.version)
        assert reader.holder.current == newest
        await turns(liar, 8)
        await until(lambda: reader.holder.problem is None)
    assert reader.told() == [("liar", "refused: METADATA_INVALID")]
    (line,) = [line for line in reader.lines if line["event"] == PASSED_OVER]
    assert line["log_level"] == "error"


async def test_a_hub_that_hangs_while_it_is_read_delays_nobody_else(
    kit: DirectoryKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAME_SECONDS", 3.0)
    hanging, other = mirror(kit), mirror(kit)
    reader = Reader(kit, tmp_path / "state", {"hanging": hanging, "other": other})
    async with reader.following():
        await reader.reaches(kit.directory.version)
        newest = kit.publish(support.HRSS)
        hanging.hangs = lambda path: "snapshot" in path
        hanging.serve = mirror(kit).serve
        await until(lambda: hanging.asked and "snapshot" in hanging.asked[-1])
        other.serve = hanging.serve
        await reader.reaches(newest.version)
        assert reader.holder.problem is None


async def test_of_several_slow_hubs_that_have_the_same_none_is_broken_off_for_the_other(
    kit: DirectoryKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN_SECONDS", 0.1)
    hubs = {"one": mirror(kit), "two": mirror(kit)}
    reader = Reader(kit, tmp_path / "state", hubs)
    async with reader.following():
        await reader.reaches(kit.directory.version)
        newest = kit.publish(support.HRSS)
        for hub in hubs.values():
            hub.asked.clear()
            hub.delay = 0.5
            hub.serve = mirror(kit).serve
        await reader.reaches(newest.version)
        asked = [path for hub in hubs.values() for path in hub.asked if "snapshot" in path]
        assert len(asked) == 1, "and each file is read once"
    assert reader.told() == []


async def test_a_hub_that_alternates_lies_and_what_is_in_force_has_nothing_verified_again(
    kit: DirectoryKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar, honest = mirror(kit), mirror(kit)
    reader = Reader(kit, tmp_path / "state", {"liar": liar, "honest": honest})
    verified = DirectoryClient._verify
    whole: list[Directory] = []

    def counted(client: DirectoryClient, *args: Any, **options: Any) -> Directory:
        whole.append(verified(client, *args, **options))
        return whole[-1]

    monkeypatch.setattr(DirectoryClient, "_verify", counted)
    async with reader.following():
        await reader.reaches(kit.directory.version)
        good, lies = liar.serve, serving({TIMESTAMP: timestamp(1_000_000)})
        for _ in range(3):
            liar.serve = lies
            await until(lambda: reader.troubled("liar"))
            liar.serve = good
            await until(lambda: not reader.troubled("liar"))
        assert len(whole) == 1, "once, when it was new"


async def test_a_hub_that_lies_between_what_is_in_force_is_tried_ever_more_seldom(
    kit: DirectoryKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BACKOFF", 1_000_000.0)
    monkeypatch.setattr(module, "FIRST_BACKOFF", 0.01)
    liar, honest = Flapping(kit), mirror(kit)
    reader = Reader(kit, tmp_path / "state", {"liar": liar, "honest": honest})
    await reader.follower.begin()
    begun = asyncio.get_running_loop().time()
    async with reader.following():
        await until(lambda: liar.watched >= 4)
        await asyncio.sleep(2)
    took = asyncio.get_running_loop().time() - begun
    # Pauses double from 0.01 s on; jitter halves them at most.
    assert liar.watched <= math.log2(took / 0.005 + 1) + 2


async def test_what_was_read_before_a_hub_was_broken_off_is_not_read_again(kit: DirectoryKit, tmp_path: Path) -> None:
    slow, good = mirror(kit), mirror(kit)
    slow.hangs = lambda path: "hrss" in path
    reader = Reader(kit, tmp_path / "state", {"slow": slow, "good": good})
    await reader.follower.begin()
    assert reader.holder.current == kit.directory
    read = [path for path in slow.asked if not slow.hangs(path)]
    assert len([path for path in read if path.startswith("metadata/")]) > 3
    # The end of the chain of roots, and what it claims to have, is asked of everybody.
    assert not {path for path in read if path != TIMESTAMP and "root" not in path} & set(good.asked)


async def test_a_look_that_runs_out_of_time_gives_up_its_turn_at_once(kit: DirectoryKit, tmp_path: Path) -> None:
    hub = mirror(kit)
    reader = Reader(kit, tmp_path / "state", {"hub": hub})
    hub.hangs = lambda path: "snapshot" in path
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reader.follower.look()
    hub.hangs = lambda _path: False
    async with asyncio.timeout(60):
        await reader.follower.look()
    assert reader.holder.current == kit.directory


async def test_when_nobody_has_anything_good_that_is_an_alarm_and_what_is_in_force_stays(
    kit: DirectoryKit, tmp_path: Path
) -> None:
    hubs = {"one": mirror(kit), "two": mirror(kit)}
    reader = Reader(kit, tmp_path / "state", hubs)
    async with reader.following():
        await reader.reaches(kit.directory.version)
        hubs["one"].down = True
        await until(lambda: reader.told() == [("one", "unreachable: HUB_UNREACHABLE")])
        assert reader.holder.problem is None
        hubs["two"].down = True
        await until(lambda: reader.holder.problem)
        assert reader.holder.current == kit.directory
        hubs["two"].down = False
        await until(lambda: reader.holder.problem is None)
