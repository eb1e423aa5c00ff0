"""`zhiwang adapter check --sql`: one SQL script for a security officer to sign.

It makes the account, grants it what the mapping uses and nothing else, and holds every statement that the adapter can
send, as prepared statements that a database accepts without running them. The account has no password until an
administrator gives it one, so that running the script as it is opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Dictionary

from sqlalchemy.engine import make_url

from adapters.dialects import names_of
from adapters.mapping import Mapping
from adapters.usage import Use

ACCOUNT = "zhiwang_reader"
"""Name of the account where the mapping's URL names none."""

SPARE = 2
"""Connections beyond the adapter's own, for `adapter check` beside it."""

Quote = Callable[[str], str]
"""A name as the database wants it in SQL."""

_NAMED = re.compile(r"%\((\w+)\)s")


def script(
    mapping: Mapping, uses: Sequence[Use], statements: Dictionary[str, str], *, account: str | None = None
) -> str:
    """The whole script.

    Args:
        mapping: The mapping.
        uses: Every table that it uses, once.
        statements: By what they are for; in the driver's form, for one subject.
        account: Name of the account; that of the mapping's URL if left out.
    """
    url = make_url(mapping.database.url)
    dialect = url.get_dialect()()
    quote = names_of(dialect).quote_identifier
    name = account or url.username or ACCOUNT
    lines = [
        f"-- 织网 Zhiwang: what the adapter of {mapping.department} may read, and every statement that it can send.",
        "-- For sign-off. An administrator of the database runs it. It changes no data and sets no password.",
        "",
        "-- 1. 账号与授权  The account and what it may read",
    ]
    if dialect.name == "sqlite":
        lines += [
            "-- SQLite has no accounts: the adapter opens the file for reading only (mode=ro). Let the file and its",
            "-- directory belong to another account, and let the adapter's only read them.",
            *(f"-- reads {use.table.title}: {_listed(use)}" for use in uses),
        ]
    elif dialect.name == "postgresql":
        lines += _postgresql(name, quote, url.database or "", uses, mapping.database.connections)
    else:
        lines += _mysql(name, quote, uses, mapping.database.connections)
    lines += ["", "-- 2. 语句  Every statement, for one subject. Several subjects only make its lists longer"]
    for number, (title, statement) in enumerate(statements.items(), 1):
        lines += ["", f"-- {_comment(title)}", _prepared(statement, dialect.name, number)]
    return "\n".join(lines) + "\n"


def _postgresql(name: str, quote: Quote, database: str, uses: Sequence[Use], connections: int) -> Iterator[str]:
    role = quote(name)
    rights = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT"
    yield f"CREATE ROLE {role} LOGIN CONNECTION LIMIT {connections + SPARE} {rights};"
    yield f"-- then, in psql, so that the password stands in no history: \\password {_comment(name)}"
    yield f"ALTER ROLE {role} SET default_transaction_read_only = on;"
    yield f"GRANT CONNECT ON DATABASE {quote(database)} TO {role};"
    for schema in dict.fromkeys(use.table.schema for use in uses):
        yield f"GRANT USAGE ON SCHEMA {quote(schema)} TO {role};"
    for use in uses:
        place = f"{quote(use.table.schema)}.{quote(use.table.name)}"
        yield from _grant(use, place, role, quote)


def _mysql(name: str, quote: Quote, uses: Sequence[Use], connections: int) -> Iterator[str]:
    account = f"{quote(name)}@'%'"
    yield "-- '%' is any host: write the adapter's own in its place."
    yield f"CREATE USER {account} WITH MAX_USER_CONNECTIONS {connections + SPARE} ACCOUNT LOCK;"
    yield f"-- then: ALTER USER {_comment(account)} IDENTIFIED BY '…' ACCOUNT UNLOCK;"
    for use in uses:
        place = f"{quote(use.table.schema)}.{quote(use.table.name)}"
        yield from _grant(use, place, account, quote)


def _grant(use: Use, place: str, account: str, quote: Quote) -> Iterator[str]:
    if use.whole:
        yield f"-- all of {_comment(use.table.title)}: the mapping says * of it. Name its columns there to grant less"
        yield f"GRANT SELECT ON {place} TO {account};"
    else:
        columns = ", ".join(map(quote, use.in_order()))
        yield f"GRANT SELECT ({columns}) ON {place} TO {account};"


def _listed(use: Use) -> str:
    return "every column (the mapping says *)" if use.whole else _comment(", ".join(use.in_order()))


def _prepared(sql: str, family: str, number: int) -> str:
    """A statement whose parameters have no value, so that a database takes it and nobody is asked about."""
    if family == "sqlite":
        return f"EXPLAIN QUERY PLAN\n{sql};"
    # Drivers that write parameters as %(name)s double every other percent sign.
    if family == "postgresql":
        numbers: dict[str, str] = {}
        body = _NAMED.sub(lambda match: numbers.setdefault(match[1], f"${len(numbers) + 1}"), sql)
        return f"PREPARE zw_{number} AS\n{body.replace('%%', '%')};\nDEALLOCATE zw_{number};"
    names = dict.fromkeys(match[1] for match in _NAMED.finditer(sql))
    # A variable that was never set is binary, and is compared as such.
    unset = "SET " + ", ".join(f"@{name} = ''" for name in names) + ";\n" if names else ""
    return f"{unset}EXPLAIN\n{_NAMED.sub(lambda match: f'@{match[1]}', sql).replace('%%', '%')};"


def _comment(text: str) -> str:
    """A text within a comment: on one line, whatever it is."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
