"""Tables of a log in PostgreSQL, the triggers that let them only grow, and the two functions through which it grows.

Three roles share the work. The owner has everything and cannot log in; the writer, a hub's account, can read, lock the
head and call the function that appends; the reader can read. So whoever steals the hub's password can append, as the
hub can, and nothing else; and the owner's triggers, which fire in every session (ENABLE ALWAYS), stop whoever becomes
the owner by mistake. Who removes them on purpose is found out by `check`, and whatever is done meanwhile by the
signed tree.

An entry or a tile can only be the next one: a statement's new rows must be neighbours, the first must follow a row
that is there, and nothing is changed or taken away. There is no index over `key`, as in `audit.schema`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from audit.postgres import SCHEMA
from audit.schema import TABLES, Tables
from zhiwang.wire import merkle

_ROLE: Final = re.compile(r"[a-z_][a-z0-9_]{0,54}")

_TABLES: Final = """\
CREATE TABLE zhiwang.{entry} (
    idx bigint NOT NULL PRIMARY KEY,
    key bytea NOT NULL CHECK (octet_length(key) = 32),
    leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    data bytea NOT NULL
);
CREATE TABLE zhiwang.{tile} (
    level integer NOT NULL CHECK (level >= 0),
    idx bigint NOT NULL CHECK (idx >= 0),
    hashes bytea NOT NULL CHECK (octet_length(hashes) = 8192),
    PRIMARY KEY (level, idx)
);
ALTER TABLE zhiwang.{tile} ALTER COLUMN hashes SET STORAGE EXTERNAL; -- hashes cannot be compressed
CREATE TABLE zhiwang.{head} (
    id integer NOT NULL PRIMARY KEY CHECK (id = 1),
    size bigint NOT NULL,
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    checkpoint bytea NOT NULL,
    certificate bytea NOT NULL
);
INSERT INTO zhiwang.{head} VALUES (1, 0, '\\x$EMPTY', '', '');
"""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the log.

    Attributes:
        arguments: Their names and types.
        returns: Type of the result.
        language: It is written in.
        definer: Whether it has the rights of its owner, whoever calls it.
        body: What it does.
    """

    arguments: str
    returns: str
    language: str
    definer: bool
    body: str


FUNCTIONS: Final = {
    "{head}_lock": Function(
        "",
        "TABLE(size bigint, root bytea, checkpoint bytea, certificate bytea)",
        "sql",
        True,
        "SELECT h.size, h.root, h.checkpoint, h.certificate FROM zhiwang.{head} h FOR UPDATE",
    ),
    "{entry}_append": Function(
        "old_size bigint, old_root bytea, new_size bigint, new_root bytea, new_checkpoint bytea, new_certificate bytea,"
        " keys bytea[], leaf_hashes bytea[], datas bytea[], levels integer[], indexes bigint[], tiles bytea[]",
        "void",
        "plpgsql",
        True,
        """
BEGIN
    PERFORM FROM zhiwang.{head} h WHERE h.size = old_size AND h.root = old_root FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the log is append-only: its head has moved' USING ERRCODE = '23000';
    END IF;
    INSERT INTO zhiwang.{entry} (idx, key, leaf_hash, data)
        SELECT old_size + n - 1, k, l, d FROM unnest(keys, leaf_hashes, datas) WITH ORDINALITY AS given (k, l, d, n);
    INSERT INTO zhiwang.{tile} (level, idx, hashes)
        SELECT l, i, h FROM unnest(levels, indexes, tiles) AS given (l, i, h);
    UPDATE zhiwang.{head}
        SET size = new_size, root = new_root, checkpoint = new_checkpoint, certificate = new_certificate;
END
""",
    ),
    "{entry}_never": Function(
        "",
        "trigger",
        "plpgsql",
        False,
        """
BEGIN
    RAISE EXCEPTION 'the log is append-only: no % on %', TG_OP, TG_TABLE_NAME USING ERRCODE = '23000';
END
""",
    ),
    "{entry}_next": Function(
        "",
        "trigger",
        "plpgsql",
        False,
        """
DECLARE
    low bigint;
    high bigint;
    number bigint;
BEGIN
    SELECT min(idx), max(idx), count(*) INTO low, high, number FROM added;
    IF number > 0 AND (
        high - low + 1 <> number
        OR (low <> 0 AND NOT EXISTS (SELECT FROM zhiwang.{entry} e WHERE e.idx = low - 1))
    ) THEN
        RAISE EXCEPTION 'the log is append-only: an entry has the next index' USING ERRCODE = '23000';
    END IF;
    RETURN NULL;
END
""",
    ),
    "{tile}_next": Function(
        "",
        "trigger",
        "plpgsql",
        False,
        """
BEGIN
    IF EXISTS (
        SELECT FROM added a WHERE a.idx <> 0
            AND NOT EXISTS (SELECT FROM zhiwang.{tile} t WHERE t.level = a.level AND t.idx = a.idx - 1)
    ) THEN
        RAISE EXCEPTION 'the log is append-only: a tile has the next index' USING ERRCODE = '23000';
    END IF;
    RETURN NULL;
END
""",
    ),
    "{head}_grow": Function(
        "",
        "trigger",
        "plpgsql",
        False,
        """
BEGIN
    IF NEW.id <> OLD.id OR NEW.size < OLD.size OR (NEW.size = OLD.size AND NEW.root <> OLD.root)
        OR NEW.size <> (SELECT coalesce(max(idx), -1) + 1 FROM zhiwang.{entry})
    THEN
        RAISE EXCEPTION 'the log is append-only: its head only grows, to the number of entries' USING ERRCODE = '23000';
    END IF;
    RETURN NEW;
END
""",
    ),
}

SEARCH_PATH: Final = "search_path = pg_catalog, pg_temp"
"""Of every function, so that no caller decides what a name or an operator means."""

_ROW, _BEFORE, _INSERT, _DELETE, _UPDATE, _TRUNCATE = 1, 2, 4, 8, 16, 32
"""Bits of pg_trigger.tgtype."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger of the log.

    Attributes:
        table: On which.
        function: What it calls.
        kind: Bits of when and for what.
    """

    table: str
    function: str
    kind: int

    @property
    def takes_new_rows(self) -> bool:
        """Whether it sees all the rows that a statement added."""
        return not self.kind & (_BEFORE | _ROW)

    @property
    def statement(self) -> str:
        """What makes it, but for its name."""
        words = {_INSERT: "INSERT", _DELETE: "DELETE", _UPDATE: "UPDATE", _TRUNCATE: "TRUNCATE"}
        events = " OR ".join(word for bit, word in words.items() if self.kind & bit)
        when = "BEFORE" if self.kind & _BEFORE else "AFTER"
        new = " REFERENCING NEW TABLE AS added" if self.takes_new_rows else ""
        each = "ROW" if self.kind & _ROW else "STATEMENT"
        return (
            f"{when} {events} ON zhiwang.{self.table}{new} FOR EACH {each} EXECUTE FUNCTION zhiwang.{self.function}()"
        )


TRIGGERS: Final = {
    "{entry}_next": Trigger("{entry}", "{entry}_next", _INSERT),
    "{entry}_never": Trigger("{entry}", "{entry}_never", _BEFORE | _UPDATE | _DELETE | _TRUNCATE),
    "{tile}_next": Trigger("{tile}", "{tile}_next", _INSERT),
    "{tile}_never": Trigger("{tile}", "{entry}_never", _BEFORE | _UPDATE | _DELETE | _TRUNCATE),
    "{head}_grow": Trigger("{head}", "{head}_grow", _BEFORE | _ROW | _UPDATE),
    "{head}_never": Trigger("{head}", "{entry}_never", _BEFORE | _INSERT | _DELETE | _TRUNCATE),
}


@dataclass(frozen=True, slots=True)
class Roles:
    """Who may do what with a log.

    Attributes:
        writer: The hub's account. The others are named after it.
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


def script(roles: Roles, *logs: Tables) -> str:
    """What an administrator of the database signs and runs, once for each log, as a superuser.

    Args:
        roles: Who may do what; made unless they are there.
        logs: The tables to be made; those of the first log if there are none.
    """
    owner, writer, reader = (f'"{name}"' for name in (roles.owner, roles.writer, roles.reader))
    made = "\n\n".join(_of_one(roles, tables) for tables in logs or (TABLES,))
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


def _of_one(roles: Roles, tables: Tables) -> str:
    names = [f"{SCHEMA}.{name}" for name in (tables.entry, tables.tile, tables.head)]
    lines = [tables.fill(_TABLES).replace("$EMPTY", merkle.EMPTY_ROOT.hex())]
    for key, one in FUNCTIONS.items():
        name = f"{SCHEMA}.{tables.fill(key)}"
        lines.append(
            f"CREATE FUNCTION {name}({one.arguments}) RETURNS {one.returns} LANGUAGE {one.language} "
            f"{'SECURITY DEFINER ' if one.definer else ''}SET {SEARCH_PATH} AS $${tables.fill(one.body)}$$;"
        )
        lines.append(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC;")
        if one.definer:
            lines.append(f'GRANT EXECUTE ON FUNCTION {name} TO "{roles.writer}";')
    for key, trigger in TRIGGERS.items():
        name, table = tables.fill(key), tables.fill(trigger.table)
        lines.append(f"CREATE TRIGGER {name} {tables.fill(trigger.statement)};")
        lines.append(f"ALTER TABLE {SCHEMA}.{table} ENABLE ALWAYS TRIGGER {name};")
    lines.append(f"REVOKE ALL ON {', '.join(names)} FROM PUBLIC;")
    lines.append(f'GRANT SELECT ON {", ".join(names)} TO "{roles.writer}", "{roles.reader}";')
    return "\n".join(lines)
