"""A log goes from one database into another, of either kind, and is the same log there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

import audit_support as support
import yearly_support as years
from audit import backup
from audit.checkpoint import Checkpoint
from audit.holds import HoldBook
from audit.retention import apply
from log_places import Place, PostgresDatabase, SqliteFile
from servers import Server
from yearly_support import Calendar
from zhiwang.wire.errors import FatalError, RefusedError

LOG = support.HUB.log_origin


@pytest.fixture
def new_place(postgresql: Server, tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    made: list[Place] = []

    def make(kind: str) -> Place:
        made.append(SqliteFile(tmp_path / f"{len(made)}.db") if kind == "sqlite" else PostgresDatabase(postgresql))
        return made[-1]

    yield make
    for place in made:
        place.drop()


def copied(source: Engine, place: Place) -> Any:
    engine = place.create()
    try:
        return backup.copy_log(source, engine)
    finally:
        engine.dispose()


def test_a_log_is_the_same_wherever_it_was_copied_to(
    new_place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.backup.COPIED", 300)
    places = [new_place(kind) for kind in ("sqlite", "postgresql", "postgresql", "sqlite")]
    store = support.make_store(places[0])
    done = [support.append(store, count) for count in (255, 800, 2)]
    support.close(store)
    for here, there in pairwise(places):
        store = support.reopen(here)
        assert copied(store.engine, there) == store.newest
        support.close(store)
        # It goes on there, and the next copy has that too.
        store = support.reopen(there)
        done.append(support.append(store, 3))
        support.close(store)
        assert support.check_log(there, *done) == done[-1].size


def test_a_copy_is_of_one_moment_while_the_log_goes_on(
    new_place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.backup.COPIED", 100)
    place, other = new_place("postgresql"), new_place("sqlite")
    store = support.make_store(place)
    support.append(store, 350)
    before = store.newest
    real = type(store._reader).part

    def part(*arguments: Any) -> Any:
        support.append(store, 7)
        return real(*arguments)

    monkeypatch.setattr("audit.reader.LogReader.part", part)
    assert copied(store.engine, other) == before
    monkeypatch.undo()
    assert store.newest.size == before.size + 4 * 7
    support.close(store)
    assert support.check_log(other) == before.size


def test_a_log_of_several_years_is_the_same_wherever_it_was_copied_to(new_place: Callable[[str], Place]) -> None:
    clock = Calendar("2015-06-01")
    places = [new_place(kind) for kind in ("sqlite", "postgresql", "postgresql", "sqlite")]
    log = years.make(places[0], clock)
    done = [years.append(log, 300)]
    for text in ("2016-01-01", "2019-03-01"):
        clock.set(text)
        done.append(years.append(log, 3))
    ended = log.ended
    years.close(log)
    for here, there in pairwise(places):
        log = years.reopen(here, clock)
        assert copied(log.engine, there) == log.newest
        years.close(log)
        log = years.reopen(there, clock)
        assert log.ended == ended
        done.append(years.append(log, 2))
        years.close(log)
        assert years.check(there, *done) == [f"{LOG}/2019", f"{LOG}/2016", LOG]
    clock.set("2020-01-01")
    log = years.reopen(places[-1], clock)
    assert years.append(log, 1).origin == f"{LOG}/2020"
    years.close(log)


def test_a_year_that_was_removed_stays_so_wherever_the_log_is_copied_to(new_place: Callable[[str], Place]) -> None:
    clock = Calendar("2015-06-01")
    places = [new_place(kind) for kind in ("sqlite", "postgresql", "postgresql", "sqlite")]
    log = years.make(places[0], clock)
    for text in ("2016-01-01", "2017-01-01", "2023-01-02"):
        clock.set(text)
        years.append(log, 3)
    assert apply(log, HoldBook(log), {}, years=5, now=clock.now, no_copy="x") == []
    assert [one.removal is None for one in log.ended] == [False, False, True]
    years.close(log)
    for here, there in pairwise(places):
        log = years.reopen(here, clock)
        copied(log.engine, there)
        heads = [one.head for one in log.ended]
        years.close(log)
        for again in (False, True):
            log = years.reopen(there, clock)
            assert [one.head for one in log.ended] == heads
            with pytest.raises(RefusedError, match="were removed"):
                log.shard(LOG)
            years.close(log)
            if there is places[1] and not again:
                there.remove(0)  # of the other year the administrator has not thought yet
        assert years.check(there) == [f"{LOG}/2023", f"{LOG}/2017"]
        engine = there.open()
        assert backup.has_begun(engine)
        engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_removal_stays_one_where_the_year_that_said_it_is_gone_too(
    new_place: Callable[[str], Place], kind: str
) -> None:
    clock, here, there = Calendar(), new_place("sqlite"), new_place(kind)
    log = years.make(here, clock)
    for day in ("2022-01-01", "2023-01-02"):
        clock.set(day)
        years.append(log, 1)
    for day in ("2023-01-03", "2025-01-03", "2026-01-04"):  # the first goes, and then the one that says so
        clock.set(day)
        years.append(log, 1)
        apply(log, HoldBook(log), {}, years=1, now=clock.now, no_copy="x")
    assert [one.removal is not None and one.removal.done for one in log.ended] == [True, True, True, False]
    copied(log.engine, there)
    years.close(log)
    years.close(years.reopen(there, clock))
    for year in (2022, 2023, 0):
        there.remove(year)
        assert years.check(there) == [f"{LOG}/2026", f"{LOG}/2025"]
    if isinstance(there, PostgresDatabase):
        there.unlocked(lambda admin: admin.execute("UPDATE zhiwang.log_shard_removed SET recorded_year = 0"))
        again = years.unopened(there, clock)
        with pytest.raises(FatalError, match="the log does not say so"):
            again.open()
        years.close(again)


def test_a_year_for_which_there_is_no_room_is_not_copied(new_place: Callable[[str], Place]) -> None:
    clock = Calendar("2013-06-01")
    source, target = new_place("sqlite"), new_place("postgresql")
    log = years.make(source, clock)
    clock.set("2014-01-01")
    years.append(log, 1)
    engine = target.create()
    with pytest.raises(FatalError, match="hub init --sql --year 2014"):
        backup.copy_log(log.engine, engine)
    assert not backup.has_begun(engine)
    engine.dispose()
    years.close(log)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_log_is_copied_over_another(new_place: Callable[[str], Place], kind: str) -> None:
    one, two = support.make_store(new_place("sqlite")), support.make_store(place := new_place(kind))
    support.append(two, 5)
    with pytest.raises(FatalError, match="holds a log already"):
        backup.copy_log(one.engine, two.engine)
    support.close(one, two)
    assert support.check_log(place) == 6


def test_a_copy_that_fails_leaves_nothing(new_place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.backup.COPIED", 100)
    source, place = support.make_store(new_place("sqlite")), new_place("postgresql")
    support.append(source, 350)
    engine = place.create()
    with source.engine.begin() as connection:
        for name in ("update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER log_entry_{name}")
        connection.exec_driver_sql("DELETE FROM log_entry WHERE idx = 310")
    with pytest.raises(FatalError, match="missing"):
        backup.copy_log(source.engine, engine)
    assert not backup.has_begun(engine)
    engine.dispose()
    support.close(source)


def test_what_an_administrator_dumped_and_restored_is_believed_as_far_as_nobody_has_seen_more(
    postgresql: Server,
) -> None:
    place, other = PostgresDatabase(postgresql), PostgresDatabase(postgresql)
    store = support.make_store(place)
    done = support.append(store, 700)
    bin_ = Path(postgresql.program).parent
    dump = subprocess.run(  # noqa: S603 - the server's own tools
        [bin_ / "pg_dump", "--dbname", place.url("postgres").replace("+psycopg", "")],
        check=True,
        capture_output=True,
    )
    later = support.append(store, 1)
    support.close(store)
    postgresql.execute("", f"CREATE DATABASE {other.name} TEMPLATE template0")
    subprocess.run(  # noqa: S603 - the same
        [bin_ / "psql", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", other.url("postgres").replace("+psycopg", "")],
        input=dump.stdout,
        check=True,
        capture_output=True,
    )
    assert support.check_log(other, done) == 701
    engine = other.open()
    seen = [backup.Seen("an agent", Checkpoint(support.HUB.log_origin, done.size, done.head.root))]
    assert backup.check_log(engine, support.signer(), support.verifier(), seen).size == 701
    seen.append(backup.Seen("an auditor", Checkpoint(support.HUB.log_origin, later.size, later.head.root)))
    with pytest.raises(FatalError, match=r"701 entries, but an auditor has seen 702: it must not be signed over"):
        backup.check_log(engine, support.signer(), support.verifier(), seen)
    engine.dispose()
    place.drop()
    other.drop()
