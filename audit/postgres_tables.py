"""Tables of a log in PostgreSQL, the triggers that let them only grow, and the functions by which it grows and ends.

An entry or a tile can only be the next one: a statement's new rows must be neighbours, the first must follow a row
that is there, and nothing is changed or taken away. There is no index over `key`, as in `audit.schema`.

Tables of coming years are made beforehand, and one log of them takes entries: the one after which, by the table of
`audit.postgres_years`, no other comes. So a year ends by a row in that table, and no account of a process makes tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from zhiwang.wire import merkle

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
""".replace("$EMPTY", merkle.EMPTY_ROOT.hex())


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


NEVER: Final = Function(
    "",
    "trigger",
    "plpgsql",
    False,
    """
BEGIN
    RAISE EXCEPTION 'the log is append-only: no % on %', TG_OP, TG_TABLE_NAME USING ERRCODE = '23000';
END
""",
)
"""For what never happens to a table."""

_FUNCTIONS: Final = {
    "{head}_lock": Function(
        "",
        "TABLE(size bigint, root bytea, checkpoint bytea, certificate bytea, ended boolean)",
        "plpgsql",
        True,
        """
BEGIN
    PERFORM FROM zhiwang.{head} h FOR UPDATE;
    -- A statement of its own, so that it sees what was committed while that one waited for the head.
    RETURN QUERY SELECT h.size, h.root, h.checkpoint, h.certificate,
        EXISTS (SELECT FROM zhiwang.log_shard s WHERE s.year = {year}) FROM zhiwang.{head} h;
END
""",
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
    "{head}_end": Function(
        "next integer, old_size bigint, old_root bytea, old_checkpoint bytea, old_certificate bytea, first bytea",
        "void",
        "plpgsql",
        True,
        """
BEGIN
    -- Of a log that is copied without its entries, nothing stands here and its end is as told. Writing the row anew
    -- stops whoever has an older snapshot, in which the log goes on.
    UPDATE zhiwang.{head} h SET size = h.size WHERE h.size = 0 OR (h.size = old_size AND h.root = old_root
        AND h.checkpoint = old_checkpoint AND h.certificate = old_certificate);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the log is append-only: its head has moved' USING ERRCODE = '23000';
    END IF;
    INSERT INTO zhiwang.log_shard (year, successor, size, root, checkpoint, certificate, opened)
        VALUES ({year}, next, old_size, old_root, old_checkpoint, old_certificate, first);
END
""",
    ),
    "{entry}_newest": Function(
        "",
        "trigger",
        "plpgsql",
        False,
        """
BEGIN
    IF {year} <> (SELECT coalesce(max(s.successor), 0) FROM zhiwang.log_shard s) THEN
        RAISE EXCEPTION 'the log is append-only: % is not of the newest year', TG_TABLE_NAME USING ERRCODE = '23000';
    END IF;
    RETURN NULL;
END
""",
    ),
    "{entry}_never": NEVER,
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

ROW, BEFORE, INSERT, DELETE, UPDATE, TRUNCATE = 1, 2, 4, 8, 16, 32
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
        return not self.kind & (BEFORE | ROW)

    @property
    def statement(self) -> str:
        """What makes it, but for its name."""
        words = {INSERT: "INSERT", DELETE: "DELETE", UPDATE: "UPDATE", TRUNCATE: "TRUNCATE"}
        events = " OR ".join(word for bit, word in words.items() if self.kind & bit)
        when = "BEFORE" if self.kind & BEFORE else "AFTER"
        new = " REFERENCING NEW TABLE AS added" if self.takes_new_rows else ""
        each = "ROW" if self.kind & ROW else "STATEMENT"
        return (
            f"{when} {events} ON zhiwang.{self.table}{new} FOR EACH {each} EXECUTE FUNCTION zhiwang.{self.function}()"
        )


_TRIGGERS: Final = {
    "{entry}_newest": Trigger("{entry}", "{entry}_newest", BEFORE | INSERT),
    "{tile}_newest": Trigger("{tile}", "{entry}_newest", BEFORE | INSERT),
    "{head}_newest": Trigger("{head}", "{entry}_newest", BEFORE | UPDATE),
    "{entry}_next": Trigger("{entry}", "{entry}_next", INSERT),
    "{entry}_never": Trigger("{entry}", "{entry}_never", BEFORE | UPDATE | DELETE | TRUNCATE),
    "{tile}_next": Trigger("{tile}", "{tile}_next", INSERT),
    "{tile}_never": Trigger("{tile}", "{entry}_never", BEFORE | UPDATE | DELETE | TRUNCATE),
    "{head}_grow": Trigger("{head}", "{head}_grow", BEFORE | ROW | UPDATE),
    "{head}_never": Trigger("{head}", "{entry}_never", BEFORE | INSERT | DELETE | TRUNCATE),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """How a table is, as the catalogue writes it.

    Attributes:
        columns: Name and type of each; all are NOT NULL.
        constraints: Without NOT NULL.
        indexes: Their names; none for that of the primary key alone.
        writes: What the writer may do to its rows beside reading them, e.g. "UPDATE (at)". If it may, nobody else is
            given anything; a table of a log is written by functions only, and the reader may read it too.
    """

    columns: tuple[str, ...]
    constraints: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Tables that belong together, with what keeps them. Names and texts are filled by `audit.schema.Tables`.

    Attributes:
        tables: By their names.
        statements: What makes them.
        functions: By their names.
        triggers: By their names.
    """

    tables: Mapping[str, Shape]
    statements: str
    functions: Mapping[str, Function]
    triggers: Mapping[str, Trigger]


_SHAPES: Final = {
    "{entry}": Shape(
        ("idx bigint", "key bytea", "leaf_hash bytea", "data bytea"),
        ("CHECK ((octet_length(key) = 32))", "CHECK ((octet_length(leaf_hash) = 32))", "PRIMARY KEY (idx)"),
    ),
    "{tile}": Shape(
        ("level integer", "idx bigint", "hashes bytea"),
        (
            "CHECK ((idx >= 0))",
            "CHECK ((level >= 0))",
            "CHECK ((octet_length(hashes) = 8192))",
            "PRIMARY KEY (level, idx)",
        ),
    ),
    "{head}": Shape(
        ("id integer", "size bigint", "root bytea", "checkpoint bytea", "certificate bytea"),
        ("CHECK ((id = 1))", "CHECK ((octet_length(root) = 32))", "PRIMARY KEY (id)"),
    ),
}

LOG: Final = Part(_SHAPES, _TABLES, _FUNCTIONS, _TRIGGERS)
"""One log."""
