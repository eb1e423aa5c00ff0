"""What a process does with a log when the fault strikes, and what the next one does over what is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

import audit_support as support
from audit import postgres, sqlite
from audit.appended import Appended
from audit.log import AuditLog
from audit.origins import end_of, year_at
from audit.yearly import YearlyLog
from campaign import judge
from campaign.child import Act, TellingSigner, Voice
from campaign.scene import Scene
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import FatalError

TRIES: Final = 3
"""How often a process tries to go on by itself, as hub and adapter do every few seconds."""
LARGE: Final = 30_000
"""Bytes of an entry that fills many pages: a thousand pages make SQLite fold its write-ahead log."""


URL: Final = "url"
"""File of a directory whose log stands in PostgreSQL: it says where."""


def engine(directory: Path, *, create: bool = False) -> Engine:
    """Of the database of the log in a directory."""
    try:
        url = (directory / URL).read_text("utf-8")
    except OSError:
        url = ""  # the campaign's own file: that it cannot be read is no fault of a log's
    if url:
        return postgres.open_postgres(url)
    return sqlite.open_sqlite(files(directory)[0], create=create)


def next_year() -> float:
    """The beginning of the next year. Certificates that were made for a year from now are still valid."""
    return end_of(year_at(time.time())) + 60


def files(directory: Path) -> tuple[Path, Path]:
    """Database and guard of the log in a directory."""
    return directory / "log.db", directory / "guard" / "checkpoint"


def opened(
    directory: Path,
    voice: Voice,
    *,
    number: int = 0,
    guard: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> YearlyLog:
    """The log in a directory, as a start opens it, with a signer that tells what it signs.

    Args:
        directory: Where it is.
        voice: Tells what is signed.
        number: Of the signing certificate.
        guard: Another guard than the usual one.
        clock: Another clock.
    """
    store = unopened(directory, voice, number, guard, clock)
    store.open()
    voice.shown(store.newest)
    return store


def unopened(
    directory: Path, voice: Voice, number: int = 0, guard: Path | None = None, clock: Callable[[], float] = time.time
) -> YearlyLog:
    """The same before it is opened."""
    _, usual = files(directory)
    signer = TellingSigner(support.signer(number=number), voice)
    return YearlyLog(engine(directory), signer, clock, guard=guard or usual, verifier=support.verifier())


def append(store: YearlyLog, voice: Voice, count: int = 1, size: int = 40) -> Appended:
    """Append entries of about a size, and tell that they are recorded."""
    event = audit_pb2.AuditRead(reader="r" * size, method="ListEntries", count=count)
    with store.transaction() as connection:
        appended = store.append(connection, [store.new_entry(event) for _ in range(count)])
    store.committed(appended)
    voice.acknowledged(appended)
    return appended


def create(directory: Path, voice: Voice) -> Iterator[None]:
    """`init` makes database, guard and first entry."""
    _, guard = files(directory)
    guard.parent.mkdir(exist_ok=True)
    yield
    signer = TellingSigner(support.signer(), voice)
    store = YearlyLog(engine(directory, create=True), signer, guard=guard, verifier=support.verifier())
    head = store.create()
    voice.shown(head)
    support.close(store)


def furnished(*counts: int, size: int = 40) -> Act:
    """A log of so many transactions, closed in order."""

    def act(directory: Path, voice: Voice) -> Iterator[None]:
        yield from create(directory, voice)
        store = opened(directory, voice)
        for count in counts:
            append(store, voice, count, size)
        support.close(store)

    return act


def left_behind(*counts: int) -> Act:
    """A log whose process was killed: its write-ahead log is still there, its guard is a moment behind."""

    def act(directory: Path, voice: Voice) -> Iterator[None]:
        yield from create(directory, voice)
        store = opened(directory, voice)
        for count in counts:
            append(store, voice, count)

    return act


def nothing(_directory: Path, _voice: Voice) -> Iterator[None]:
    """Nothing was there before."""
    yield


def start(directory: Path, voice: Voice) -> Iterator[None]:
    """A start, one entry, and an orderly end."""
    yield
    store = opened(directory, voice)
    append(store, voice)
    support.close(store)


def appending(*counts: int, size: int = 40) -> Act:
    """A process at work: each transaction is tried, and tried again after the log was opened anew."""

    def act(directory: Path, voice: Voice) -> Iterator[None]:
        store = opened(directory, voice)
        append(store, voice)
        yield
        for count in counts:
            insist(store, voice, lambda count=count: append(store, voice, count, size))  # type: ignore[misc]  # bound now

    return act


def insist(store: YearlyLog, voice: Voice, act: Callable[[], object]) -> None:
    """Do something, and if the log stops, open it and try again."""
    for _ in range(TRIES):
        try:
            if store.stopped is not None:
                store.open()
            act()
        except FatalError as error:
            voice.refused(error)
            continue
        return


def sequencing(directory: Path, voice: Voice) -> Iterator[None]:
    """The hub's sequencer: callers wait for futures, a thread writes, another keeps the guard."""
    store = opened(directory, voice)
    append(store, voice)
    yield

    async def call(log: AuditLog, number: int) -> None:
        for _ in range(TRIES):
            try:
                voice.acknowledged(await log.append(support.new_entries(store, 1 + number)))
            except FatalError as error:
                voice.refused(error)
                try:
                    await log.reload()
                except FatalError as again:
                    voice.refused(again)
                continue
            return

    async def main() -> None:
        log = AuditLog(store)
        await asyncio.gather(*(call(log, number) for number in range(3)))
        await log.close()

    asyncio.run(main())


def closing(directory: Path, voice: Voice) -> Iterator[None]:
    """The last connection closes: SQLite folds its write-ahead log and takes it away; the guard is written."""
    store = opened(directory, voice)
    append(store, voice, 20)
    yield
    support.close(store)


def guarding(directory: Path, voice: Voice) -> Iterator[None]:
    """The guard is written, again and again."""
    store = opened(directory, voice)
    guard = store._guard
    assert guard is not None
    guard.close()
    append(store, voice)
    yield
    for _ in range(TRIES):
        append(store, voice)
        if not guard._try():
            voice.say("refused", detail=f"the guard: {guard.failure}; it is tried again after the interval")


def reopening(directory: Path, voice: Voice) -> Iterator[None]:
    """A log that has stopped is checked anew."""
    store = opened(directory, voice)
    append(store, voice, 3)
    store.stop(OSError())
    yield
    insist(store, voice, lambda: append(store, voice))


def going_on(directory: Path, voice: Voice) -> Iterator[None]:
    """The next start. It opens the log, appends, checks everything from its first entry, and ends in order."""
    yield
    store = opened(directory, voice)
    append(store, voice)
    append(store, voice, 3)
    store.verify_all()
    voice.say("verified")
    support.close(store)


def going_on_after_init(directory: Path, voice: Voice) -> Iterator[None]:
    """The next start after an `init` that did not end well: as `going_on`, having done what the refusal says."""
    yield
    for advised in ("", "remove", "guard"):
        database, guard = files(directory)
        if advised == "remove":
            for path in directory.glob("log.db*"):
                path.unlink()
        try:
            if not database.exists():
                for _ in create(directory, voice):
                    pass
            yield from going_on(directory, voice)
        except FatalError as error:
            voice.say("advised", detail=error.detail)
            if "make an empty file in its place" in error.detail:
                guard.touch()
            elif "Remove the file" in error.detail:
                continue
            else:
                raise
        else:
            return
    yield from going_on(directory, voice)


def rolling(directory: Path, voice: Voice) -> Iterator[None]:
    """The year is over: the next transaction begins the log of the new one, and the one after it goes on there."""
    now = time.time()
    store = opened(directory, voice, clock=lambda: now)
    append(store, voice)
    yield
    now = next_year()
    for count in (1, 2):
        insist(store, voice, lambda count=count: append(store, voice, count))  # type: ignore[misc]  # bound now


def going_on_next_year(directory: Path, voice: Voice) -> Iterator[None]:
    """The next start, when the new year has begun."""
    yield
    store = opened(directory, voice, clock=next_year)
    append(store, voice)
    append(store, voice, 3)
    if len(store.shards()) != 2:
        voice.say("broken", error="AssertionError: no year has begun")
    store.verify_all()
    voice.say("verified")
    support.close(store)


SCENES: Final = (
    Scene("init", nothing, create, going_on_after_init, judge.log),
    Scene("start", furnished(300, 5), start, going_on, judge.log),
    Scene("start after a kill", left_behind(300, 5), start, going_on, judge.log),
    Scene("commit", furnished(20), appending(1), going_on, judge.log),
    Scene("commit of a group that completes tiles", furnished(250), appending(300), going_on, judge.log),
    Scene("commit that folds the WAL", furnished(20), appending(70, 70, size=LARGE), going_on, judge.log),
    Scene("roll to the next year", furnished(250, 20), rolling, going_on_next_year, judge.log),
    Scene("sequencer", furnished(20), sequencing, going_on, judge.log),
    Scene("guard", furnished(20), guarding, going_on, judge.log),
    Scene("reload", furnished(250, 20), reopening, going_on, judge.log),
    Scene("end", furnished(20), closing, going_on, judge.log),
)
"""Of a log by itself."""
