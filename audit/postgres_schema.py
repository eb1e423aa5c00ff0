"""What an administrator of a database runs to make room for logs in PostgreSQL, and to take a year's away.

Three roles share the work. The owner has everything and cannot log in; the writer, the account of a process, can read,
lock the head and call the functions that append and end; the reader can read. So whoever steals the account's password
can append and end a year, as the process can, and do nothing else to the log; and the owner's triggers, which fire in
every session (ENABLE ALWAYS), stop whoever becomes the owner by mistake. Who removes them on purpose is found out by
`audit.postgres_check`, and whatever is done meanwhile by the signed tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from audit.postgres import SCHEMA
from audit.postgres_tables import LOG, SEARCH_PATH, Part
from audit.postgres_years import YEARS
from audit.schema import TABLES, Tables

_ROLE: Final = re.compile(r"[a-z_][a-z0-9_]{0,54}")

COMING_YEARS: Final = 10
"""For how many years after the present one, and for that, `hub init --sql` makes tables. Each takes 64 KiB."""

_LATER: Final = ("{head}_lock", "{head}_end", "{entry}_newest")
"""Functions that the log of a release has not, or not so, which knew of no years."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Who may do what with a log.

    Attributes:
        writer: The process's account. The others are named after it.
    """

    writer: str = "zhiwang_hub"

    def __post_init__(self) -> None:
        if not _ROLE.fullmatch(self.writer):
            raise ValueError("an account's name has small letters, digits and _")

    @property
    def owner(self) -> str:
        """Owns everything, and cannot log in."""
        return f"{self.writer}_owner"

    @property
    def reader(self) -> str:
        """May read. Give it to auditors' accounts."""
        return f"{self.writer}_reader"


def script(roles: Roles, *logs: Tables, beside: Part | None = None) -> str:
    """What an administrator signs and runs, as a superuser or a member of the owner, once for each log.

    Args:
        roles: Who may do what; made unless they are there.
        logs: The tables to be made, before or after their years have begun; those of the first log if there are none.
            With the first comes what tells from year to year which log is the newest.
        beside: Tables of the process's own, which stand beside its log; made with the first.
    """
    named = logs or (TABLES,)
    parts = (YEARS,) if beside is None else (YEARS, beside)
    made = [_statements(roles, part, TABLES) for part in parts] if TABLES in named else []
    return _signed(roles, *made, *(_statements(roles, LOG, tables) for tables in named))


def upgrade(roles: Roles, *logs: Tables) -> str:
    """What an administrator runs once in a database whose log an earlier release made, which knew of no years.

    Args:
        roles: Whose log it is.
        logs: The tables of coming years.
    """
    added = Part(
        {},
        f"DROP FUNCTION {SCHEMA}.{{head}}_lock();",
        {name: LOG.functions[name] for name in _LATER},
        {name: one for name, one in LOG.triggers.items() if one.function in _LATER},
    )
    rest = [_statements(roles, LOG, tables) for tables in logs]
    return _signed(roles, _statements(roles, YEARS, TABLES), _statements(roles, added, TABLES), *rest)


def removal(roles: Roles, year: int, tables: Tables) -> str:
    """What an administrator runs to take away a log whose removal is recorded.

    Args:
        roles: Whose log it is.
        year: Of the log; 0 for the first.
        tables: In which it stands.
    """
    names = ", ".join(f"{SCHEMA}.{tables.fill(name)}" for name in LOG.tables)
    recorded = f"SELECT FROM {SCHEMA}.log_shard_removed r WHERE r.year = {year:d} AND r.done = 0"
    functions = ", ".join(f"{SCHEMA}.{tables.fill(name)}" for name in LOG.functions)
    marked = f"UPDATE {SCHEMA}.log_shard_removed SET done = 1 WHERE year = {year:d}"  # noqa: S608 - a number
    return f"""\
-- For sign-off. An administrator of the database runs it, in the database of the log. It removes the entries of a year
-- for ever. That the log says that they may go was checked when this was printed; the database can only tell that it
-- was recorded. So run what was printed just now, by the process's own command.
BEGIN;
SET LOCAL ROLE "{roles.owner}";
DO $$ BEGIN
    IF NOT EXISTS ({recorded}) THEN
        RAISE EXCEPTION 'the log does not say that {tables.entry} may go, or it is gone';
    END IF;
END $$;
DROP TABLE {names};
DROP FUNCTION {functions};
{marked};
COMMIT;
"""


def _signed(roles: Roles, *parts: str) -> str:
    owner, writer, reader = (f'"{name}"' for name in (roles.owner, roles.writer, roles.reader))
    made = "\n\n".join(parts)
    return f"""\
-- For sign-off. An administrator of the database runs it, in the database of the log. It sets no password.
BEGIN;
{_role(roles.owner, "NOLOGIN")}
{_role(roles.writer, "LOGIN")}
{_role(roles.reader, "NOLOGIN")}
CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION {owner};
SET LOCAL ROLE {owner};
GRANT USAGE ON SCHEMA {SCHEMA} TO {writer}, {reader};

{made}

COMMIT;
-- Then, in psql, so that the password stands in no history: \\password {roles.writer}
"""


def _role(name: str, login: str) -> str:
    return (
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') "
        f'THEN CREATE ROLE "{name}" {login} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION; END IF; END $$;'
    )


def _statements(roles: Roles, part: Part, tables: Tables) -> str:
    lines = [tables.fill(part.statements)]
    for key, one in part.functions.items():
        name = f"{SCHEMA}.{tables.fill(key)}"
        lines.append(
            f"CREATE FUNCTION {name}({one.arguments}) RETURNS {one.returns} LANGUAGE {one.language} "
            f"{'SECURITY DEFINER ' if one.definer else ''}SET {SEARCH_PATH} AS $${tables.fill(one.body)}$$;"
        )
        lines.append(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC;")
        if one.definer:
            lines.append(f'GRANT EXECUTE ON FUNCTION {name} TO "{roles.writer}";')
    for key, trigger in part.triggers.items():
        name, table = tables.fill(key), tables.fill(trigger.table)
        lines.append(f"CREATE TRIGGER {name} {tables.fill(trigger.statement)};")
        lines.append(f"ALTER TABLE {SCHEMA}.{table} ENABLE ALWAYS TRIGGER {name};")
    if part.tables:
        names = ", ".join(f"{SCHEMA}.{tables.fill(name)}" for name in part.tables)
        lines.append(f"REVOKE ALL ON {names} FROM PUBLIC;")
    read = [f"{SCHEMA}.{tables.fill(name)}" for name, shape in part.tables.items() if not shape.writes]
    if read:
        lines.append(f'GRANT SELECT ON {", ".join(read)} TO "{roles.writer}", "{roles.reader}";')
    lines += [
        f'GRANT SELECT, {", ".join(shape.writes)} ON {SCHEMA}.{tables.fill(name)} TO "{roles.writer}";'
        for name, shape in part.tables.items()
        if shape.writes
    ]
    return "\n".join(lines)
