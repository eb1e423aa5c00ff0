"""What `zhiwang doctor` looks at on a hub's host beyond what every host has: the database of its log, if it has one.

It only reads; the hub that runs, and others that share the log, are not disturbed.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Engine

from audit.backend import backend_of
from audit.postgres import careless, is_encrypted, open_postgres
from exchange.store import using
from zhiwang.wire.diagnosis import Diagnosis, ok, safely, warning, wrong
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
    backend = backend_of(engine)
    with backend.reading.connect() as connection:
        backend.check(connection)
        head = backend.head(connection)
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
