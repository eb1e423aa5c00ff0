"""What `zhiwang doctor` looks at on a hub's host beyond what every host has: the database of its log, if it has one.

It only reads; the hub that runs, and others that share the log, are not disturbed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import Engine

from audit.backend import backend_of
from audit.origins import FIRST, end_of, year_at
from audit.postgres import careless, is_encrypted, open_postgres
from audit.postgres_check import check_years, members
from audit.shards import tables_of
from audit.yearly import NOTICE_SECONDS
from exchange.store import using
from zhiwang.wire.diagnosis import Diagnosis, ok, safely, warning, wrong
from zhiwang.wire.errors import FatalError
from zhiwang.wire.profile import LogDatabase, Profile

AREA = "log"


def diagnose(profile: Profile) -> Iterator[Diagnosis]:
    """How the database of a hub's log stands; nothing where the log is a file in the state.

    Args:
        profile: The hub's.
    """
    database = profile.log
    if database is not None:
        remedy = f"see docs/log-store.md; the script is: zhiwang hub init --profile {profile.path} --sql"
        yield from safely(AREA, lambda: _database(database, profile), remedy)


def _database(database: LogDatabase, profile: Profile) -> Iterator[Diagnosis]:
    with using(open_postgres(database.url, database.password_file)) as engine:
        yield from _log(engine, profile)
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


def _log(engine: Engine, profile: Profile) -> Iterator[Diagnosis]:
    first = backend_of(engine)
    with first.reading.connect() as connection:
        check_years(connection)
        ended = first.logs(connection)
        backend = backend_of(engine, tables_of(ended[-1].successor if ended else FIRST))
        backend.check(connection)
        head = backend.head(connection)
        accounts = members(connection)
    if head is None or not head.size:
        yield wrong(
            AREA,
            "数据库中的日志尚未建立",
            "the log in the database has not begun",
            f"zhiwang hub init --profile {profile.path}",
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
    yield from _next_year(engine, profile)


def _next_year(engine: Engine, profile: Profile) -> Iterator[Diagnosis]:
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
            f"an administrator runs: zhiwang hub init --profile {profile.path} --sql --year {year} "
            "| psql -v ON_ERROR_STOP=1 …",
        )
