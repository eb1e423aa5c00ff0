"""What `zhiwang doctor` says of a log that stands in a database.

It only reads; the process that runs, and others that share the log, are not disturbed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sqlalchemy import Connection, Engine

from audit.backend import backend_of
from audit.origins import FIRST, end_of, year_at
from audit.places import using
from audit.postgres import careless, is_encrypted, open_postgres
from audit.postgres_check import check_years, members
from audit.shards import tables_of
from audit.yearly import NOTICE_SECONDS
from zhiwang.wire.diagnosis import Diagnosis, ok, safely, warning, wrong
from zhiwang.wire.errors import FatalError
from zhiwang.wire.profile import LogDatabase, Profile

AREA = "log"


Beside = Callable[[Connection], Iterator[Diagnosis]]
"""Looks at what stands beside a log, in a transaction."""


def _nothing(_connection: Connection) -> Iterator[Diagnosis]:
    """Nothing stands beside the log."""
    yield from ()


def diagnose(profile: Profile, process: str = "hub", beside: Beside = _nothing) -> Iterator[Diagnosis]:
    """How the database of a log stands; nothing where the log is a file in the state.

    Args:
        profile: Of the process that keeps it.
        process: Its command, as in `zhiwang hub init`.
        beside: Looks at the process's own tables, once the log is as it was made.
    """
    database = profile.log
    if database is not None:
        init = f"zhiwang {process} init --profile {profile.path}"
        remedy = f"see docs/log-store.md; the script is: {init} --sql"
        yield from safely(AREA, lambda: _database(database, profile, init, beside), remedy)


def _database(database: LogDatabase, profile: Profile, init: str, beside: Beside) -> Iterator[Diagnosis]:
    with using(open_postgres(database.url, database.password_file)) as engine:
        yield from _log(engine, init, beside)
        with engine.connect() as connection:
            forgets, encrypted = careless(connection), is_encrypted(connection)
    for name in forgets:
        yield warning(
            AREA,
            f"数据库设置 {name} = off，主机掉电会丢失已提交的记录",
            f"the database has {name} = off: a crash of its machine loses or damages what was committed",
            f"ALTER SYSTEM SET {name} = on; then restart the server",
        )
    if not encrypted:
        yield warning(
            AREA,
            "与数据库的连接未加密",
            "the connection to the database goes over a network and is not encrypted",
            f"edit {profile.path}: [log] url, add ?sslmode=verify-full&sslrootcert=FILE",
        )


def _log(engine: Engine, init: str, beside: Beside) -> Iterator[Diagnosis]:
    first = backend_of(engine)
    with first.reading.connect() as connection:
        check_years(connection)
        ended = first.logs(connection)
        backend = backend_of(engine, tables_of(ended[-1].successor if ended else FIRST))
        backend.check(connection)
        head = backend.head(connection)
        accounts = members(connection)
        found = list(beside(connection))
    if head is None or not head.size:
        yield wrong(
            AREA,
            "数据库中的日志尚未建立",
            "the log in the database has not begun",
            init,
        )
        return
    yield ok(
        AREA,
        f"数据库中的日志有 {head.size} 条，表、触发器和权限完好",
        f"the log in the database has {head.size} entries; tables, triggers and rights are as they were made",
    )
    for account in accounts:
        yield warning(
            AREA,
            f"账号 {account} 可成为日志表的所有者，能解除触发器",
            f"the account {account} can become the owner of the log's tables, and take their triggers away",
            "REVOKE what makes it a member, unless it is an administrator's: docs/log-store.md",
        )
    yield from found
    yield from _next_year(engine, init)


def _next_year(engine: Engine, init: str) -> Iterator[Diagnosis]:
    """Whether the log of the next year can begin. From December on its absence is an error."""
    now = time.time()
    year = year_at(now) + 1
    backend = backend_of(engine, tables_of(year))
    try:
        with backend.reading.connect() as connection:
            backend.check_prepared(connection)
    except FatalError as error:
        say = wrong if now >= end_of(year - 1) - NOTICE_SECONDS else warning
        yield say(
            AREA,
            f"数据库中没有 {year} 年日志的表，到时将继续写入旧日志",
            f"the log of {year} cannot begin, and what it should hold will stand in the old one: {error.detail}",
            f"an administrator runs: {init} --sql --year {year} | psql -v ON_ERROR_STOP=1 …",
        )
