"""Cases of a log in PostgreSQL whose server is whole: rows and files that rot, older copies, clocks, hubs that race.

As `damage` and `histories` do it to files. Copies are made as administrators make them: by `pg_dump`, or of the data
directory of a server that was stopped.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

import audit_support as support
from audit import postgres
from audit.proofs import HeadView
from campaign import cluster, judge
from campaign.case import Case, concerns
from campaign.child import Running, Voice, run
from campaign.damage import COUNTS, SEED, flipped
from campaign.histories import STATES, clocks, raced, races, with_wrong_clock
from campaign.judge import Outcome, Verdict
from campaign.scenes import append, create, going_on, opened
from campaign.statements import KIND, judged, persist
from log_places import PostgresDatabase
from servers import copy_data
from zhiwang.wire.errors import FatalError, RefusedError

Change = Callable[[PostgresDatabase], None]

_COLUMNS: Final = (
    *(("log_entry", column, f"idx = {i}") for column in ("key", "leaf_hash", "data") for i in (0, 7, 300, 591, 601)),
    *(("log_tile", "hashes", f"level = 0 AND idx = {index}") for index in (0, 1)),
    *(("log_head", column, "true") for column in ("size", "root", "checkpoint", "certificate")),
)
_FILES: Final = ("log_entry", "log_entry_pkey", "log_tile", "log_tile_pkey", "log_head")
"""Tables and indexes whose files rot."""
_ASIDE: Final = "hashes of log_tile"
"""What PostgreSQL keeps in a table of its own (TOAST), since it is long."""
_DUMPS: Final = "pg_dump"
_DIRECTORIES: Final = "a copied data directory"


def plan(only: str) -> Iterator[Case]:
    """All of them."""
    for scene, cases in (
        ("rows", _plan_rows),
        ("functions", _plan_functions),
        ("files", _plan_files),
        ("restored", _plan_restores),
        ("clock", _plan_clocks),
        ("hubs that race", _plan_races),
    ):
        if concerns(only, KIND, scene):
            for name, run_case in cases():
                yield Case(KIND, scene, name, run_case)


Planned = Iterator[tuple[str, Callable[[Path], Verdict]]]


# What rots.


def grown(directory: Path, voice: Voice) -> Iterator[None]:
    """A log of two complete tiles and some entries."""
    yield from create(directory, voice)
    store = opened(directory, voice)
    for count in (*COUNTS, 2, 2, 2, 2, 2):
        append(store, voice, count)
    support.close(store)


def _plan_rows() -> Planned:
    """One bit of each kind of stored thing, by a superuser's UPDATE."""
    rng = random.Random(SEED)  # noqa: S311 - places, no secret
    for table, column, place in _COLUMNS:
        for bit in rng.sample(range(8 * 24), 4):
            yield f"{table}.{column}, {place}, bit {bit}", partial(_damaged, partial(_flip, table, column, place, bit))


def _damaged(change: Change, scratch: Path) -> Verdict:
    """A copy is damaged, and a process starts over it."""
    here = cluster.here()
    furnished = here.furnished("grown", grown)
    history = judge.leaves_of(cluster.read(furnished[0]))
    place, directory = here.copy(furnished, scratch)
    change(place)
    verdict = judged(place, directory, [run(going_on, directory)], history)
    here.heal()
    place.drop()
    return verdict


def _flip(table: str, column: str, where: str, bit: int, place: PostgresDatabase) -> None:
    names = {"table": sql.Identifier("zhiwang", table), "column": sql.Identifier(column), "where": sql.SQL(where)}

    def change(connection: psycopg.Connection[Any]) -> None:
        row = connection.execute(sql.SQL("SELECT {column} FROM {table} WHERE {where}").format(**names)).fetchone()
        assert row is not None
        (value,) = row
        # Spread over the value: the first bits of an entry are not more likely to rot than its last.
        changed = value ^ 1 << bit % 8 if isinstance(value, int) else flipped(value, bit * len(value) // 24)
        connection.execute(sql.SQL("UPDATE {table} SET {column} = %s WHERE {where}").format(**names), (changed,))

    place.unlocked(change)


def _plan_functions() -> Planned:
    """One bit of the source of a function that keeps the log append-only."""
    here = cluster.here()
    place, _ = here.furnished("grown", grown)
    rng = random.Random(SEED)  # noqa: S311 - places, no secret
    with place.raw("postgres") as connection:
        sources = connection.execute(
            "SELECT proname, length(prosrc) FROM pg_proc WHERE pronamespace = 'zhiwang'::regnamespace ORDER BY 1"
        ).fetchall()
    for name, length in sources:
        for letter in rng.sample(range(length), min(4, length)):
            bit = rng.randrange(7)  # the eighth would make it no text
            yield f"{name}, letter {letter}, bit {bit}", partial(_damaged, partial(_flip_source, name, letter, bit))


def _flip_source(name: str, letter: int, bit: int, place: PostgresDatabase) -> None:
    with place.raw("postgres") as connection:
        connection.execute(
            "UPDATE pg_proc SET prosrc = overlay(prosrc PLACING chr(greatest(1, ascii(substr(prosrc, %(at)s, 1)) # "
            "%(bit)s)) FROM %(at)s FOR 1) WHERE proname = %(name)s AND pronamespace = 'zhiwang'::regnamespace",
            {"name": name, "at": letter + 1, "bit": 1 << bit},
        )


def _plan_files() -> Planned:
    """One bit of the server's own files, while it is stopped."""
    for name in (*_FILES, _ASIDE):
        for turn in range(10):
            yield f"{name}, turn {turn}", partial(_damaged, partial(_flip_file, name, turn))


def _flip_file(name: str, turn: int, place: PostgresDatabase) -> None:
    with place.raw("postgres") as connection:
        row = connection.execute(
            "SELECT pg_relation_filepath(CASE WHEN %s THEN reltoastrelid ELSE oid END) FROM pg_class "
            "WHERE oid = %s::regclass",
            (name == _ASIDE, f"zhiwang.{'log_tile' if name == _ASIDE else name}"),
        ).fetchone()
    assert row is not None
    server = cluster.here().server
    path = server.directory / "data" / row[0]
    server.stop()
    content = path.read_bytes()
    chance = random.Random(f"{SEED} {name} {turn}")  # noqa: S311 - a place, no secret
    path.write_bytes(flipped(content, chance.randrange(8 * len(content))))
    server.start()


# Copies of several moments.


def _moments() -> Sequence[Path]:
    """A log of which copies are kept while it grows: directories, each with its guard, a dump and a data directory."""
    here = cluster.here()
    place, live = here.furnished("moments", create)
    kept = [here.server.directory / f"moment {number}" for number in range(STATES)]
    if kept[-1].exists():
        return kept

    def more(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        store = opened(directory, voice)
        append(store, voice, 120)
        support.close(store)

    for moment in kept:
        run(more, live)
        shutil.copytree(live, moment)
        _tool("pg_dump", "--format=custom", f"--file={moment / 'dump'}", f"--dbname={_dsn(place)}")
        here.server.stop()
        copy_data(here.server.directory / "data", moment / "data")
        here.server.start()
    return kept


def _dsn(place: PostgresDatabase) -> str:
    return place.url("postgres").replace("+psycopg", "")


def _tool(name: str, *arguments: str) -> None:
    program = Path(cluster.here().server.program).with_name(name)
    subprocess.run([program, *arguments], check=True, capture_output=True)  # noqa: S603 - the server's own


def _plan_restores() -> Planned:
    for log, guard in product(range(STATES), range(STATES)):
        yield f"{_DUMPS}: log {log}, guard {guard}", partial(_dumped, log, guard)
    for log, guard in product(range(STATES), range(STATES)):
        yield f"{_DIRECTORIES}: log {log}, guard {guard}", partial(_copied, log, guard)
    for lost in ("missing", "empty"):
        yield f"{_DUMPS}: guard {lost}", partial(_dumped, 1, lost)
    for log, more in product(range(STATES - 1), (1, 400)):
        yield f"{_DUMPS}: log {log}, grew {more} entries past its guard", partial(_overtaken, log, more)
    for log in range(STATES - 1):
        yield f"{_DUMPS}: log {log} with a guard as old, seen by others", partial(_seen_by_others, log)


def _restored(log: int, guard: int | str, scratch: Path) -> tuple[PostgresDatabase, Path]:
    """A database from a dump, and the directory with a guard."""
    moments = _moments()
    directory = scratch / "restored"
    (directory / "guard").mkdir(parents=True)
    if isinstance(guard, int):
        shutil.copy(moments[guard] / cluster.GUARD, directory / cluster.GUARD)
    elif guard == "empty":
        (directory / cluster.GUARD).touch()
    place = PostgresDatabase(cluster.here().server)
    place.server.execute("", f"CREATE DATABASE {place.name} TEMPLATE template0")
    _tool("pg_restore", "--exit-on-error", f"--dbname={_dsn(place)}", str(moments[log] / "dump"))
    cluster.name(directory, place.url())
    return place, directory


def _dumped(log: int, guard: int | str, scratch: Path) -> Verdict:
    place, directory = _restored(log, guard, scratch)
    verdict = _went_on_rightly(place, directory, log, guard)
    place.drop()
    return verdict


def _went_on_rightly(place: PostgresDatabase, directory: Path, log: int, guard: int | str) -> Verdict:
    """It goes on from what was restored, unless its guard has seen more; or has seen nothing and is missing."""
    history = judge.leaves_of(cluster.read(place))
    verdict = judged(place, directory, [run(going_on, directory)], history)
    behind = log < guard if isinstance(guard, int) else guard == "missing"
    wanted = Outcome.REFUSED if behind else Outcome.SURVIVED
    if verdict.outcome not in {wanted, Outcome.FAILED}:
        return Verdict(Outcome.FAILED, f"{verdict.outcome} with log {log} and guard {guard}: {verdict.detail}")
    return verdict


def _copied(log: int, guard: int, scratch: Path) -> Verdict:
    """The whole server is put back; then it is what it was."""
    moments = _moments()
    here = cluster.here()
    place, _ = here.furnished("moments", create)
    directory = scratch / "restored"
    shutil.copytree(moments[guard], directory, ignore=shutil.ignore_patterns("data", "dump"))
    data, aside = here.server.directory / "data", here.server.directory / "aside"
    here.server.stop()
    data.rename(aside)
    try:
        copy_data(moments[log] / "data", data)
        here.server.start()
        return _went_on_rightly(place, directory, log, guard)
    finally:
        here.server.stop()
        shutil.rmtree(data)
        aside.rename(data)
        here.server.start()


def _overtaken(log: int, more: int, scratch: Path) -> Verdict:
    """Somebody restored an older copy without its guard and went on, past what the guard has seen; then it is found."""
    place, directory = _restored(log, "empty", scratch)

    def careless(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        store = opened(directory, voice)
        append(store, voice, more)
        support.close(store)

    run(careless, directory)
    shutil.copy(_moments()[-1] / cluster.GUARD, directory / cluster.GUARD)
    after = run(going_on, directory)
    verdict = judged(place, directory, [after], {})
    place.drop()
    if after.of("signed"):
        return Verdict(Outcome.FAILED, "a log that does not extend its guard was signed over")
    return verdict


def _seen_by_others(log: int, scratch: Path) -> Verdict:
    """Log and guard are both restored: the process cannot know; whoever was shown more refuses what it shows."""
    place, directory = _restored(log, log, scratch)
    newest, _ = cluster.here().furnished("moments", create)
    live = support.reopen(newest)
    view = HeadView(support.checker())
    view.verify_head(live.head())
    support.close(live)

    def shows(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        store = opened(directory, voice)
        for count in (1, 600):
            append(store, voice, count)
            try:
                view.verify_head(store.head(view.known_tree_size))
            except RefusedError as error:
                voice.refused(error)
            else:
                voice.say("broken", error=f"AssertionError: a head of {store.newest.size} entries was believed")
        support.close(store)

    shown = run(shows, directory)
    place.drop()
    if shown.broken or len(shown.refusals) < 2:
        return Verdict(Outcome.FAILED, "; ".join(shown.broken) or "a head was believed")
    return Verdict(Outcome.REFUSED, shown.refusals[0])


# Clocks, and hubs at the same time.


def _plan_clocks() -> Planned:
    for name, ahead, number in clocks():
        yield name, partial(_clock, ahead, number)


def _clock(ahead: float, number: int, scratch: Path) -> Verdict:
    directory = scratch / "log"
    directory.mkdir()
    place = cluster.here().empty(directory)
    verdict = judged(place, directory, with_wrong_clock(directory, ahead, number))
    place.drop()
    return verdict


def _plan_races() -> Planned:
    for hubs, killed, turn in races():
        yield f"{hubs} hubs, {killed} killed, turn {turn}", partial(_race, hubs, killed, turn)
    for way, turn in product(("killed", "shut down at once", "its sessions ended"), range(3)):
        yield f"3 hubs, the server {way}, turn {turn}", partial(_race_over_a_crash, way, turn)
    for moment in ("when it has read the head", "when it has appended"):
        yield f"2 hubs, one frozen {moment}", partial(_race_past_a_frozen_one, "appended" in moment)


def _race(hubs: int, killed: int, turn: int, scratch: Path) -> Verdict:
    place, directory = _fresh(scratch)
    said = raced(directory, hubs, killed, turn)
    if sum(one.killed for one in said) > killed:
        return Verdict(Outcome.FAILED, "another process ended too")
    verdict = judged(place, directory, [*said, run(going_on, directory)])
    place.drop()
    return verdict


def _fresh(scratch: Path) -> tuple[PostgresDatabase, Path]:
    here = cluster.here()
    return here.copy(here.furnished("fresh", create), scratch)


def _race_over_a_crash(way: str, turn: int, scratch: Path) -> Verdict:
    """The server goes down and comes back while hubs append; each goes on by itself."""
    place, directory = _fresh(scratch)
    here = cluster.here()

    def hub(number: int) -> Running:
        def act(directory: Path, voice: Voice) -> Iterator[None]:
            store = opened(directory, voice, guard=_guard(directory, str(number)))
            yield
            for count in range(12):
                persist(store, voice, 1 + count % 3)
            support.close(store)

        return Running(act, directory)

    running = [hub(number) for number in range(3)]
    for one in running:
        one.go()
    running[0].until("acknowledged", 3 * (turn + 1))
    if way == "its sessions ended":
        with place.raw("postgres") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                (place.name,),
            )
    elif way == "killed":
        here.server.crash()
    else:
        here.server.stop(cluster.AT_ONCE)
    here.heal()
    said = [one.end() for one in running]
    verdict = judged(place, directory, [*said, run(going_on, directory)])
    place.drop()
    return verdict


def _race_past_a_frozen_one(appended: bool, scratch: Path) -> Verdict:  # noqa: FBT001 - one of two cases
    """A hub stands still in its turn; the server gives that to another one, and what it began is never committed."""
    place, directory = _fresh(scratch)

    def still(directory: Path, voice: Voice) -> Iterator[None]:
        postgres.IDLE_SECONDS = 1  # type: ignore[misc]  # in a process of its own
        store = opened(directory, voice, guard=_guard(directory, "one"))
        yield
        try:
            with store.transaction() as connection:
                store.catch_up(connection)
                if appended:
                    store.append(connection, support.new_entries(store, 2))
                voice.say("still")
                os.kill(os.getpid(), signal.SIGSTOP)
                if not appended:
                    store.append(connection, support.new_entries(store, 2))
        except FatalError as error:
            voice.refused(error)
        persist(store, voice, 3)
        support.close(store)

    def other(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        store = opened(directory, voice, guard=_guard(directory, "two"))
        persist(store, voice, 4)
        support.close(store)

    running = Running(still, directory)
    running.go()
    running.until("still", 1)
    said = [run(other, directory)]
    os.kill(running.pid, signal.SIGCONT)
    said.append(running.end())
    if not said[0].of("acknowledged") or not said[1].refusals:
        return Verdict(Outcome.FAILED, "a hub that stood still kept its turn")
    verdict = judged(place, directory, [*said, run(going_on, directory)])
    place.drop()
    return verdict


def _guard(directory: Path, name: str) -> Path:
    path = directory / "guard" / f"of {name}"
    path.touch()
    return path
