"""Cases of stored files that rot: one bit is flipped, or a file is cut short, while nobody has the log open."""

# S608: names of tables and columns are this module's own.
# ruff: noqa: S608

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from campaign import judge, memories
from campaign.case import Case
from campaign.child import Voice, run
from campaign.judge import Verdict
from campaign.scenes import append, create, going_on, opened

COUNTS: Final = (250, 300, 40, 1)
"""Entries of the transactions before: two tiles are complete, and some entries follow."""
SEED: Final = 20260901
WAL: Final = 5
"""How many of the last transactions are still in the write-ahead log only, where there is one."""

Damage = Callable[[Path], None]


def left(directory: Path, voice: Voice) -> Iterator[None]:
    """A log whose process was killed, part of it in the file and part in the WAL; its guard has seen all."""
    yield from create(directory, voice)
    store = opened(directory, voice)
    for count in COUNTS:
        append(store, voice, count)
    store.close()
    store.engine.dispose()
    store = opened(directory, voice)
    for _ in range(WAL):
        append(store, voice, 2)
    guard = store._guard
    assert guard is not None
    guard.write()


def ended(directory: Path, voice: Voice) -> Iterator[None]:
    """The same, ended in order: everything is in the file."""
    yield from left(directory, voice)
    store = opened(directory, voice)
    store.close()
    store.engine.dispose()


def plan_bits(scratch: Path, _only: str) -> Iterator[Case]:
    """One bit of each kind of stored thing."""
    rng = random.Random(SEED)  # noqa: S311 - places, no secret
    log = _made(scratch / "ended", ended)
    for table, column, place in _COLUMNS:
        for bit in rng.sample(range(8 * 24), 8):
            yield _case(
                "bit", f"{table}.{column}", f"{place}, bit {bit}", log, partial(_flip_column, table, column, place, bit)
            )
    for name in sorted(name for name in _objects(log) if name.startswith("log_")):
        for bit in rng.sample(range(8 * 40, 8 * 60), 2):
            yield _case("bit", "schema", f"{name}, bit {bit}", log, partial(_flip_schema, name, bit))
    killed = _made(scratch / "left", left)
    for source, file, count in (
        (log, "log.db", 160), (log, "guard/checkpoint", 90), (killed, "log.db-wal", 100), (killed, "log.db-shm", 30),
    ):  # fmt: skip
        size = (source / file).stat().st_size
        for bit in sorted(rng.sample(range(8 * size), min(count, 8 * size))):
            yield _case("bit", file, f"bit {bit} of {8 * size}", source, partial(flip, file, bit))
    yield from plan_memories("bit", scratch)


def plan_truncations(scratch: Path, _only: str) -> Iterator[Case]:
    """Every file at many lengths."""
    log, killed = _made(scratch / "ended", ended), _made(scratch / "left", left)
    for source, file, step in (
        (log, "log.db", 4096 * 3), (log, "guard/checkpoint", 7), (killed, "log.db", 4096 * 5),
        (killed, "log.db-wal", 4120), (killed, "log.db-shm", 4096),
    ):  # fmt: skip
        size = (source / file).stat().st_size
        lengths = {0, 1, 16, 31, 32, 100, 511, 512, size - 1}
        lengths |= {length + more for length in range(0, size, step) for more in (-1, 0, 32, 60)}
        state = "after a kill" if source == killed else "at rest"
        for length in sorted(one for one in lengths if 0 <= one < size):
            yield _case(
                "truncation", f"{file} {state}", f"to {length} of {size} bytes", source, partial(cut, file, length)
            )
    yield from plan_memories("truncation", scratch)


def plan_memories(kind: str, scratch: Path) -> Iterator[Case]:
    """Files in which others remember logs."""
    for number, rotting in enumerate(memories.ROTTING):
        source = _made(scratch / f"memory {number}", rotting.scene.furnish)
        size = (source / rotting.file).stat().st_size
        rng = random.Random(SEED)  # noqa: S311 - places, no secret
        name = rotting.scene.name
        if kind == "bit":
            for bit in sorted(rng.sample(range(8 * size), min(150, 8 * size))):
                case = partial(_forgotten, rotting, source, partial(flip, rotting.file, bit))
                yield Case(kind, name, f"bit {bit} of {8 * size}", case)
        else:
            for length in range(0, size, 9):
                case = partial(_forgotten, rotting, source, partial(cut, rotting.file, length))
                yield Case(kind, name, f"to {length} of {size} bytes", case)


def _forgotten(rotting: memories.Rotting, source: Path, damage: Damage, scratch: Path) -> Verdict:
    directory = scratch / "damaged"
    shutil.copytree(source, directory)
    damage(directory)
    return rotting.scene.judge(directory, [run(rotting.scene.recover, directory)])


def _made(directory: Path, act: Callable[[Path, Voice], Iterator[None]]) -> Path:
    directory.mkdir(parents=True)
    said = run(act, directory)
    if said.broken or said.refusals:
        raise RuntimeError(f"what is to be damaged cannot be made: {said.broken or said.refusals}")
    return directory


def _case(kind: str, scene: str, name: str, source: Path, damage: Damage) -> Case:
    return Case(kind, scene, name, partial(damaged, source, damage))


def damaged(source: Path, damage: Damage, scratch: Path) -> Verdict:
    """One case: a copy is damaged, and a process starts over it."""
    directory = scratch / "damaged"
    shutil.copytree(source, directory)
    stored = judge.read(source / "log.db")
    assert stored is not None
    damage(directory)
    after = run(going_on, directory)
    return judge.log(directory, [after], judge.leaves_of(stored))


def flip(file: str, bit: int, directory: Path) -> None:
    """Flip one bit of a file."""
    path = directory / file
    path.write_bytes(flipped(path.read_bytes(), bit))


def flipped(content: bytes, bit: int) -> bytes:
    """The same with one bit flipped."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def cut(file: str, length: int, directory: Path) -> None:
    """Cut a file short."""
    with (directory / file).open("r+b") as opened_file:
        opened_file.truncate(length)


_COLUMNS: Final = (
    *(("log_entry", column, f"idx = {i}") for column in ("key", "leaf_hash", "data") for i in (0, 7, 300, 591, 601)),
    *(("log_tile", "hashes", f"level = 0 AND idx = {index}") for index in (0, 1)),
    *(("log_head", column, "id = 1") for column in ("size", "root", "checkpoint", "certificate")),
)  # fmt: skip


def _flip_column(table: str, column: str, place: str, bit: int, directory: Path) -> None:
    def change(connection: sqlite3.Connection) -> None:
        ((value,),) = connection.execute(f"SELECT {column} FROM {table} WHERE {place}")
        if isinstance(value, int):
            changed: int | bytes = value ^ 1 << bit % 8
        else:
            # Spread over the value: the first bits of an entry are not more likely to rot than its last.
            changed = flipped(value, bit * len(value) // 24)
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {place}", (changed,))

    _behind_triggers(directory / "log.db", change)


def _flip_schema(name: str, bit: int, directory: Path) -> None:
    with closing(sqlite3.connect(directory / "log.db", isolation_level=None)) as connection:
        ((text,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,))
        changed = flipped(text.encode(), bit % (8 * len(text)))
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = CAST(? AS TEXT) WHERE name = ?", (changed, name))


def _objects(directory: Path) -> dict[str, str]:
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def _behind_triggers(path: Path, change: Callable[[sqlite3.Connection], None]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        change(connection)
        for _, statement in triggers:
            connection.execute(statement)
