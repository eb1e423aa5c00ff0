"""Whether logs in PostgreSQL are as `audit.postgres_schema` makes them, and their rights as narrow.

What the catalogue says is compared piece by piece with what should stand there: each table with its columns and
constraints, each trigger with when it fires, each function with its body, and who may do what. Nothing may be missing
and nothing may be there besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection

from audit.origins import FIRST
from audit.postgres import SCHEMA
from audit.postgres_tables import LOG, SEARCH_PATH, Part
from audit.postgres_years import YEARS
from audit.schema import TABLES, Tables
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError, Reason

_PLAIN_TABLE: Final = "rp"
_HOW: Final = """'(' || pg_get_function_arguments(p.oid) || ')',
    l.lanname || ' ' || p.prosecdef || ' ' || coalesce(array_to_string(p.proconfig, '; '), '')
    || ' ' || p.provolatile::text || ' ' || pg_get_function_result(p.oid) || ' ' || coalesce(p.prosrc, '')
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang"""
"""Of a function: its arguments, and all else by which it does what it does."""
_INSTALLED: Final = f"""
SELECT c.relname, '', c.relkind::text || c.relpersistence::text
    || CASE WHEN c.relrowsecurity OR c.relforcerowsecurity THEN ' row security' ELSE '' END
    || CASE WHEN c.relhasrules THEN ' rules' ELSE '' END
    || CASE WHEN EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))
        THEN ' inheritance' ELSE '' END
FROM pg_class c WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = ANY(%(tables)s)
UNION ALL
SELECT c.relname, 'column ' || a.attname, a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN '' ELSE ' NULL' END
    || CASE WHEN a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' THEN ' DEFAULT' ELSE '' END
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = ANY(%(tables)s)
UNION ALL
SELECT c.relname, 'constraint ' || pg_get_constraintdef(k.oid), CASE WHEN k.convalidated THEN '' ELSE 'not valid' END
FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype <> 'n'
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = ANY(%(tables)s)
UNION ALL
SELECT c.relname, 'index ' || x.relname, CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE 'not valid' END
FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class x ON x.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = ANY(%(tables)s)
UNION ALL
SELECT c.relname, 'trigger ' || t.tgname,
    t.tgenabled::text || ' ' || t.tgtype || ' ' || n.nspname || '.' || p.proname || ' ' || coalesce(t.tgnewtable, '')
    || CASE WHEN t.tgqual IS NOT NULL OR t.tgnargs > 0 OR t.tgattr::text <> '' OR t.tgdeferrable THEN ' if' ELSE '' END
FROM pg_class c JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = ANY(%(tables)s)
UNION ALL
SELECT p.proname, {_HOW}
WHERE p.pronamespace = to_regnamespace(%(schema)s) AND p.proname = ANY(%(functions)s)
"""  # noqa: S608 - a text of this module
"""Name of a table or function, part of it, and how it is."""
_FUNCTIONS: Final = f"""
SELECT CASE WHEN n.nspname = %(schema)s THEN '' ELSE n.nspname || '.' END || p.proname, {_HOW}
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s
    OR p.proowner = (SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass(%(schema)s || '.log_shard'))
"""  # noqa: S608 - the same
"""All that stand beside the logs, and all that have the rights of the logs' owner, wherever they stand."""
_OF_A_YEAR: Final = re.compile(r"log_(?:entry|tile|head)_([0-9]{4})_")

_RIGHTS: Final = """
WITH held AS (
    SELECT c.relname AS name, c.relowner AS owner, a.grantee, a.privilege_type AS privilege
    FROM pg_class c CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
    WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = ANY(%(tables)s)
    UNION ALL
    SELECT c.relname || '.' || t.attname, c.relowner, a.grantee, a.privilege_type
    FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN aclexplode(t.attacl) a
    WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = ANY(%(tables)s)
    UNION ALL
    SELECT p.proname, p.proowner, a.grantee, a.privilege_type
    FROM pg_proc p CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    WHERE p.pronamespace = to_regnamespace(%(schema)s) AND p.proname = ANY(%(functions)s)
    UNION ALL
    SELECT n.nspname, n.nspowner, a.grantee, a.privilege_type
    FROM pg_namespace n CROSS JOIN aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    WHERE n.nspname = %(schema)s
)
SELECT h.name, h.privilege, o.rolname, o.rolcanlogin OR o.rolsuper, h.grantee = h.owner,
    coalesce(g.rolname, 'PUBLIC')
FROM held h JOIN pg_roles o ON o.oid = h.owner LEFT JOIN pg_roles g ON g.oid = h.grantee
"""

_LACKING: Final = """
SELECT current_user || ' may not SELECT from ' || c.relname FROM pg_class c
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = ANY(%(tables)s)
    AND NOT has_table_privilege(c.oid, 'SELECT')
UNION ALL
SELECT current_user || ' may not EXECUTE ' || p.proname FROM pg_proc p
WHERE p.pronamespace = to_regnamespace(%(schema)s) AND p.proname = ANY(%(called)s)
    AND NOT has_function_privilege(p.oid, 'EXECUTE')
UNION ALL
SELECT 'the owner of ' || c.relname || ' has no ' || privilege || ' on it'
FROM pg_class c CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) privilege
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = ANY(%(tables)s)
    AND NOT has_table_privilege(c.relowner, c.oid, privilege)
"""
"""What keeps this account from ending a year in favour of these tables, and from appending to them."""
_VACANT: Final = """
SELECT EXISTS (SELECT FROM log_shard WHERE successor = %(year)s),
    EXISTS (SELECT FROM {head} WHERE size = 0 AND root = %(root)s),
    EXISTS (SELECT FROM {entry}) OR EXISTS (SELECT FROM {tile})
"""

_SELF: Final = """
SELECT current_user, r.rolsuper, r.rolcreaterole, pg_has_role(c.relowner, 'MEMBER'),
    pg_has_role('pg_write_all_data', 'MEMBER') OR pg_has_role('pg_write_server_files', 'MEMBER')
        OR pg_has_role('pg_execute_server_program', 'MEMBER'),
    pg_has_role(d.datdba, 'MEMBER'), current_setting('session_replication_role') <> 'origin', pg_is_in_recovery()
FROM pg_class c, pg_roles r, pg_database d
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = %(head)s AND r.rolname = current_user
    AND d.datname = current_database()
"""


_SCRIPT: Final = "zhiwang hub init --sql"
_OF_ADAPTERS: Final = " (of an adapter: `zhiwang adapter init --sql`, with the same options)"
_THERE: Final = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relkind = 'r' AND c.relname ~ ('^' || %(name)s || '$')
"""
_MEMBERS: Final = """
SELECT DISTINCT m.rolname FROM pg_class c JOIN pg_auth_members a ON pg_has_role(a.member, c.relowner, 'MEMBER')
JOIN pg_roles m ON m.oid = a.member
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relname = %(table)s
    AND NOT m.rolsuper AND m.oid <> c.relowner ORDER BY m.rolname
"""
"""Roles that are members of a table's owner, of themselves or by others."""


def check(connection: Connection, tables: Tables) -> None:
    """Check a log's tables, triggers, functions and rights, and that this session cannot do more than it needs.

    Raises:
        FatalError: LOG_UNAVAILABLE: there is no log, or something is not as the script makes it; says what.
    """
    script = f"{_SCRIPT} --year {tables.suffix}" if tables.suffix else _SCRIPT
    remedy = f"An administrator runs, in this database, the script that `{script}` prints{_OF_ADAPTERS}"
    check_part(connection, LOG, tables, remedy)
    _check_session(connection, {"schema": SCHEMA, "head": tables.head})


def check_years(connection: Connection) -> None:
    """Check what tells which log is the newest, in the same way.

    Raises:
        FatalError: LOG_UNAVAILABLE: it is not there, or not as the script makes it; says what.
    """
    remedy = (
        f"An administrator runs, in this database, the script that `{_SCRIPT}` prints; if an earlier release has made "
        f"the log, that of `{_SCRIPT} --upgrade`{_OF_ADAPTERS}"
    )
    check_part(connection, YEARS, TABLES, remedy)
    strangers = sorted(_strangers(connection))
    if strangers:
        raise _changed([f"{name} is none of the log's functions, or not as it was made" for name in strangers])


def check_prepared(connection: Connection, tables: Tables) -> None:
    """Check that a log can begin in its tables, by this account; or that it has begun.

    Raises:
        FatalError: LOG_UNAVAILABLE: it cannot; says why.
    """
    check(connection, tables)
    asked = {
        "schema": SCHEMA,
        "tables": [tables.fill(name) for name in LOG.tables],
        "called": [tables.fill(name) for name, one in LOG.functions.items() if one.definer],
    }
    # First: of what this account may not read, nothing could be asked.
    wrong = sorted(str(one) for one in connection.exec_driver_sql(_LACKING, asked).scalars())
    if not wrong:
        sql = tables.fill(_VACANT)
        begun, head, rest = connection.exec_driver_sql(
            sql, {"year": int(tables.suffix or FIRST), "root": merkle.EMPTY_ROOT}
        ).one()
        if not begun and not head:
            wrong.append(f"{tables.head} has not the head of an empty log")
        if not begun and rest:
            wrong.append(f"{tables.entry} or {tables.tile} has rows, and no log has begun there")
    if wrong:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"no log can begin in {', '.join(asked['tables'])}: {'; '.join(wrong)}. An administrator gives back "
            "what is missing, or drops these tables and their functions and runs what "
            f"`{_SCRIPT} --year {tables.suffix}` prints{_OF_ADAPTERS}",
        )


def there(connection: Connection) -> set[int]:
    """Years for whose logs there are tables of entries; 0 for the first."""
    asked = {"schema": SCHEMA, "name": "log_entry(_[0-9]{4})?"}
    names = connection.exec_driver_sql(_THERE, asked).scalars()
    return {int(str(name).removeprefix(TABLES.entry).removeprefix("_") or FIRST) for name in names}


def members(connection: Connection) -> list[str]:
    """Accounts that can become the logs' owner, superusers apart: they can take triggers away, as those can."""
    asked = {"schema": SCHEMA, "table": next(iter(YEARS.tables))}
    return list(connection.exec_driver_sql(_MEMBERS, asked).scalars())


def check_part(connection: Connection, part: Part, tables: Tables, remedy: str) -> None:
    """Check that tables, with what keeps them and who may do what to them, are as the script makes them.

    Args:
        connection: In a transaction.
        part: Of the script.
        tables: Of which log.
        remedy: What is to be done where there are none.

    Raises:
        FatalError: LOG_UNAVAILABLE: they are not there, or something is not as the script makes it; says what.
    """
    names = [tables.fill(name) for name in part.tables]
    functions = {tables.fill(key): one for key, one in part.functions.items()}
    asked = {"schema": SCHEMA, "tables": names, "functions": list(functions)}
    found = {(str(row[0]), str(row[1])): str(row[2]) for row in connection.exec_driver_sql(_INSTALLED, asked)}
    if not found:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"the database holds no tables {', '.join(names)}, or this account may not see them. " + remedy,
        )
    made = _made(part, tables)
    wrong = sorted({" ".join(key).strip() for key in made.keys() | found.keys() if found.get(key) != made.get(key)})
    for_the_writer = {(name, "EXECUTE") for name, one in functions.items() if one.definer}
    writes = set(_writes(part, tables))
    wrong += sorted(_wide(connection, asked, for_the_writer | writes))
    # Of what is not there, nothing could be asked.
    wrong = wrong or sorted(_narrow(connection, writes))
    if wrong:
        raise _changed(wrong)


def _writes(part: Part, tables: Tables) -> Iterator[tuple[str, str]]:
    """Tables, or columns as TABLE.COLUMN, with what the writer may do to their rows."""
    for key, shape in part.tables.items():
        for right in shape.writes:
            privilege, _, column = right.rstrip(")").partition(" (")
            yield f"{tables.fill(key)}.{column}" if column else tables.fill(key), privilege


def _narrow(connection: Connection, writes: set[tuple[str, str]]) -> Iterator[str]:
    """Rights that this account needs and has not."""
    for name, privilege in writes:
        table, _, column = name.partition(".")
        kind = "column" if column else "table"
        asked = (f"{SCHEMA}.{table}", *([column] if column else []), privilege)
        sql = f"SELECT has_{kind}_privilege({', '.join(['%s'] * len(asked))})"
        if not connection.exec_driver_sql(sql, asked).scalar_one():
            yield f"this account has no {privilege} on {name}"


def _strangers(connection: Connection) -> Iterator[str]:
    """Functions that no script made, or not so; those of years that have not begun as well."""
    found = {
        (str(name), str(part)): str(how)
        for name, part, how in connection.exec_driver_sql(_FUNCTIONS, {"schema": SCHEMA})
    }
    years = {of_a_year[1] for name, _ in found if (of_a_year := _OF_A_YEAR.match(name))}
    made = _functions(YEARS, TABLES)
    for suffix in ("", *years):
        made |= _functions(LOG, Tables(suffix))
    for key, how in found.items():
        if made.get(key) != how:
            yield "".join(key)


def _changed(wrong: list[str]) -> FatalError:
    return FatalError(
        Reason.LOG_UNAVAILABLE,
        f"the log's database is not as it was made: {'; '.join(wrong)}. Somebody changed it: keep a copy for the "
        "audit office, then put back what is missing and take away what is too much (docs/log-store.md)",
    )


def _made(part: Part, tables: Tables) -> dict[tuple[str, str], str]:
    """What `_INSTALLED` finds in a part that nobody has touched."""
    made: dict[tuple[str, str], str] = {}
    for key in part.tables:
        name, shape = tables.fill(key), part.tables[key]
        made[name, ""] = _PLAIN_TABLE
        made |= {(name, f"column {column.split()[0]}"): column for column in shape.columns}
        made |= {(name, f"constraint {constraint}"): "" for constraint in shape.constraints}
        made |= {(name, f"index {index}"): "" for index in shape.indexes or (f"{name}_pkey",)}
    for key, trigger in part.triggers.items():
        new = "added" if trigger.takes_new_rows else ""
        made[tables.fill(trigger.table), f"trigger {tables.fill(key)}"] = (
            f"A {trigger.kind} {SCHEMA}.{tables.fill(trigger.function)} {new}"
        )
    return made | _functions(part, tables)


def _functions(part: Part, tables: Tables) -> dict[tuple[str, str], str]:
    return {
        (tables.fill(key), f"({one.arguments})"): (
            f"{one.language} {'true' if one.definer else 'false'} {SEARCH_PATH.replace(' = ', '=')} v "
            f"{one.returns} {tables.fill(one.body)}"
        )
        for key, one in part.functions.items()
    }


def _wide(connection: Connection, asked: dict[str, Any], for_the_writer: set[tuple[str, str]]) -> Iterator[str]:
    """Rights that are not as the script gives them."""
    owners, writers = set(), set()
    for name, privilege, owner, able, own, grantee in connection.exec_driver_sql(_RIGHTS, asked):
        owners.add(owner)
        if able:
            yield f"{name} belongs to {owner}, which can log in or is a superuser"
        if own:
            continue
        if (name, privilege) in for_the_writer and grantee != "PUBLIC":
            writers.add(grantee)
        elif privilege != ("USAGE" if name == SCHEMA else "SELECT"):
            yield f"{grantee} has {privilege} on {name}"
    if len(owners) > 1:
        yield f"it belongs to several owners: {', '.join(sorted(owners))}"
    if len(writers) > 1:
        yield f"several accounts may append: {', '.join(sorted(writers))}"


def _check_session(connection: Connection, asked: dict[str, Any]) -> None:
    account, superuser, creates, owns, writes, database, replica, standby = connection.exec_driver_sql(
        _SELF, asked
    ).one()
    if standby:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            "the server is a standby, which takes no entries. If it is to take over, promote it; the log then goes on "
            "if nothing that was seen is missing",
        )
    powers = {
        "is a superuser": superuser,
        "can make roles": creates,
        "is a member of the log's owner": owns,
        "may write to every table or file of the server": writes,
        "owns the database": database,
        "has session_replication_role set": replica,
    }
    held = [power for power, has in powers.items() if has]
    if held:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"the account {account} could do more to the log than append: it {', '.join(held)}. Use the account that "
            "`zhiwang hub init --sql` makes, and take from it what it does not need",
        )
