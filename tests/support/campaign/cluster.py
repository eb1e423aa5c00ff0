"""The PostgreSQL of one process of the campaign: logs in it, made once and copied for each case; and how it is healed.

Each process that tries cases has a server of its own, since it kills it.
"""

from __future__ import annotations

import multiprocessing.util
import os
import shutil
import signal
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from audit.checkpoint import Checkpoint
from audit.origins import year_at
from audit.schema import TABLES
from audit.shards import tables_of
from between import Between, signal_all
from campaign import judge
from campaign.child import Act, run
from campaign.scenes import URL, next_year
from log_places import WRITER, PostgresDatabase
from servers import MissingError, Postgresql

GUARD: Final = Path("guard") / "checkpoint"
AT_ONCE: Final = signal.SIGQUIT
"""Has a PostgreSQL end without waiting for anything, as `pg_ctl stop --mode=immediate` does."""


class Cluster:
    """One server, with the logs that cases begin from.

    Args:
        server: Belongs to this process, and ends with it.
    """

    def __init__(self, server: Postgresql) -> None:
        self.server = server
        multiprocessing.util.Finalize(self.server, self.server.remove, exitpriority=1)
        self._furnished: dict[str, tuple[PostgresDatabase, Path]] = {}

    def heal(self) -> None:
        """Have the server run and answer, whatever was done to it."""
        if self.server._process is None:
            self.server.start()
            return
        signal_all(self.server.pids(), signal.SIGCONT)
        if not self.server.answers():
            self.server.crash()
            self.server.start()

    def furnished(self, name: str, act: Act) -> tuple[PostgresDatabase, Path]:
        """Database and directory of a log that `act` made; once for each name."""
        if name not in self._furnished:
            directory = self.server.directory / f"furnished {len(self._furnished)}"
            directory.mkdir()
            place = self.empty(directory)
            said = run(act, directory)
            if said.broken or said.refusals:
                raise RuntimeError(f"{name} cannot be furnished: {said.broken or said.refusals}")
            self._furnished[name] = place, directory
        return self._furnished[name]

    def empty(self, directory: Path) -> PostgresDatabase:
        """A database in which a log may be made, named in a directory."""
        place = PostgresDatabase(self.server)
        self.server.execute("", f"CREATE DATABASE {place.name} TEMPLATE template0")
        place.install(TABLES, tables_of(year_at(next_year())))
        name(directory, place.url())
        return place

    def copy(self, furnished: tuple[PostgresDatabase, Path], scratch: Path) -> tuple[PostgresDatabase, Path]:
        """Another database and directory with the same in it."""
        place, source = furnished
        directory = scratch / "log"
        shutil.copytree(source, directory)
        copied = place.copy()
        name(directory, copied.url())
        return copied, directory


@cache
def _of(_process: int) -> Cluster:
    return Cluster(Postgresql())


def here() -> Cluster:
    """The cluster of this process, and its server runs."""
    cluster = _of(os.getpid())
    cluster.heal()
    return cluster


@lru_cache(maxsize=1)
def reason_missing() -> str:
    """Why no PostgreSQL can be had here; empty if one can."""
    try:
        here()
    except MissingError as error:
        return str(error)
    return ""


def name(directory: Path, url: str) -> None:
    """Say where the log of a directory stands."""
    (directory / URL).write_text(url, "utf-8")


def through(between: Between, place: PostgresDatabase, directory: Path) -> None:
    """Have the log of a directory be reached through what stands between."""
    name(directory, between.url(place.name, WRITER))


def read(place: PostgresDatabase) -> Mapping[str, judge.Stored] | None:
    """The logs in a database by their origins, as an administrator reads them; None if they cannot be read."""
    try:
        with place.raw("postgres") as connection:
            names = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'zhiwang' AND tablename LIKE 'log\\_head%'"
            ).fetchall()
            logs = [one for (name,) in names if (one := _read(connection, str(name).removeprefix("log_head")))]
    except (psycopg.Error, TypeError, ValueError):
        return None
    return {one.head.origin: one for one in logs}


def _read(connection: psycopg.Connection[Any], suffix: str) -> judge.Stored | None:
    """A log; None if it has not begun, in tables that are there for it. ValueError if it is not one list."""
    rows = connection.execute(
        sql.SQL("SELECT idx, leaf_hash, data FROM zhiwang.{} ORDER BY idx").format(sql.Identifier(f"log_entry{suffix}"))
    ).fetchall()
    head = connection.execute(
        sql.SQL("SELECT size, root, checkpoint FROM zhiwang.{}").format(sql.Identifier(f"log_head{suffix}"))
    ).fetchone()
    if head is None:
        raise ValueError("a log without a head")
    size, root, note = head
    if not size and not rows:
        return None
    log = judge.stored(rows, Checkpoint(bytes(note).decode().partition("\n")[0], size, root), note)
    if log is None:
        raise ValueError("not one list of entries")
    return log
