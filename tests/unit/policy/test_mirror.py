"""A mirror serves whole sets and tells every watcher of newer ones."""

from __future__ import annotations

import asyncio

from policy.mirror import KEPT_SETS, TIMESTAMP, Mirror


def files(version: int) -> dict[str, bytes]:
    return {TIMESTAMP: b"%d" % version, f"metadata/{version}.snapshot.json": b"snapshot %d" % version}


def test_a_reader_on_its_way_still_finds_its_set() -> None:
    assert Mirror().timestamp is None
    assert Mirror().read(TIMESTAMP) is None
    mirror = Mirror()
    for version in range(20):
        mirror.publish(files(version))
    assert mirror.timestamp == b"19"
    assert mirror.read(TIMESTAMP) == b"19"
    kept = [version for version in range(20) if mirror.read(f"metadata/{version}.snapshot.json")]
    assert kept == list(range(20 - KEPT_SETS, 20))
    assert mirror.read("../etc/passwd") is None


async def test_a_watcher_hears_the_newest_at_once_and_each_newer_one() -> None:
    mirror = Mirror()
    mirror.publish(files(1))
    watch = mirror.watch()
    assert await anext(watch) == b"1"
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    mirror.publish(files(1))
    await asyncio.sleep(0)
    assert not waiting.done(), "the same set is no news"
    mirror.publish(files(2))
    assert await waiting == b"2"


async def test_a_slow_watcher_skips_what_was_overtaken() -> None:
    mirror = Mirror()
    watch = mirror.watch()
    for version in range(5):
        mirror.publish(files(version))
    assert await anext(watch) == b"4"


async def test_a_watcher_that_leaves_disturbs_no_other() -> None:
    mirror = Mirror()
    leaving, staying = (asyncio.ensure_future(anext(mirror.watch())) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    mirror.publish(files(1))
    assert await staying == b"1"
