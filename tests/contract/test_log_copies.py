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
from audit import backup
from audit.checkpoint import Checkpoint
from log_places import Place, PostgresDatabase, SqliteFile
from servers import Server
from zhiwang.wire.errors import FatalError


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
