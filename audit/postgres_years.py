"""How logs in PostgreSQL go from year to year: which of them have ended, and of which the entries are gone or to go.

Two tables that only grow, as in a file (`audit.shards`). A log ends by a row that the function `log_head_end` of its
own tables writes. That a year may be removed is a row as well, which a hub's account can write together with the entry
that says so; to remove it takes the owner's rights, with which the tables are dropped and the row is marked.
"""

from __future__ import annotations

from typing import Final

from audit.postgres_tables import BEFORE, DELETE, INSERT, NEVER, ROW, TRUNCATE, UPDATE, Function, Part, Shape, Trigger

_TABLES: Final = """\
CREATE TABLE zhiwang.log_shard (
    year integer NOT NULL PRIMARY KEY,
    successor integer NOT NULL UNIQUE CHECK (successor > year) CHECK (successor >= 1000 AND successor <= 9999),
    size bigint NOT NULL CHECK (size > 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    checkpoint bytea NOT NULL,
    certificate bytea NOT NULL,
    opened bytea NOT NULL
);
CREATE TABLE zhiwang.log_shard_removed (
    year integer NOT NULL PRIMARY KEY,
    recorded_year integer NOT NULL,
    recorded_idx bigint NOT NULL CHECK (recorded_idx > 0),
    done integer NOT NULL CHECK (done >= 0 AND done <= 1)
);
"""

_FUNCTIONS: Final = {
    "log_shard_let_go": Function(
        "which integer, said_in integer, said_at bigint",
        "void",
        "sql",
        True,
        "INSERT INTO zhiwang.log_shard_removed (year, recorded_year, recorded_idx, done)"
        " VALUES (which, said_in, said_at, 0)",
    ),
    "log_shard_next": Function(
        "",
        "trigger",
        "plpgsql",
        False,
        """
BEGIN
    IF NEW.year <> (SELECT coalesce(max(s.successor), 0) FROM zhiwang.log_shard s) THEN
        RAISE EXCEPTION 'the log is append-only: its newest year ends next' USING ERRCODE = '23000';
    END IF;
    RETURN NEW;
END
""",
    ),
    "log_shard_never": NEVER,
    "log_shard_removed_grow": Function(
        "",
        "trigger",
        "plpgsql",
        False,
        """
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Not by a foreign key: a session that plays back what another server did would not look at that.
        IF NEW.done <> 0 OR NOT EXISTS (SELECT FROM zhiwang.log_shard s WHERE s.year = NEW.year) THEN
            RAISE EXCEPTION 'the log is append-only: a removal of a year that ended is recorded before it'
                USING ERRCODE = '23000';
        END IF;
        IF NEW.recorded_year <= NEW.year THEN
            RAISE EXCEPTION 'the log is append-only: a later year says that one is removed' USING ERRCODE = '23000';
        END IF;
    ELSIF NEW.year <> OLD.year OR NEW.recorded_year <> OLD.recorded_year OR NEW.recorded_idx <> OLD.recorded_idx
        OR NEW.done < OLD.done
    THEN
        RAISE EXCEPTION 'the log is append-only: a removal is only ever finished' USING ERRCODE = '23000';
    END IF;
    RETURN NEW;
END
""",
    ),
}

_TRIGGERS: Final = {
    "log_shard_next": Trigger("log_shard", "log_shard_next", BEFORE | ROW | INSERT),
    "log_shard_never": Trigger("log_shard", "log_shard_never", BEFORE | UPDATE | DELETE | TRUNCATE),
    "log_shard_removed_grow": Trigger("log_shard_removed", "log_shard_removed_grow", BEFORE | ROW | INSERT | UPDATE),
    "log_shard_removed_never": Trigger("log_shard_removed", "log_shard_never", BEFORE | DELETE | TRUNCATE),
}

_SHAPES: Final = {
    "log_shard": Shape(
        (
            "year integer",
            "successor integer",
            "size bigint",
            "root bytea",
            "checkpoint bytea",
            "certificate bytea",
            "opened bytea",
        ),
        (
            "CHECK ((octet_length(root) = 32))",
            "CHECK ((size > 0))",
            "CHECK ((successor > year))",
            "CHECK (((successor >= 1000) AND (successor <= 9999)))",
            "PRIMARY KEY (year)",
            "UNIQUE (successor)",
        ),
        ("log_shard_pkey", "log_shard_successor_key"),
    ),
    "log_shard_removed": Shape(
        ("year integer", "recorded_year integer", "recorded_idx bigint", "done integer"),
        ("CHECK (((done >= 0) AND (done <= 1)))", "CHECK ((recorded_idx > 0))", "PRIMARY KEY (year)"),
    ),
}

YEARS: Final = Part(_SHAPES, _TABLES, _FUNCTIONS, _TRIGGERS)
"""Which logs have ended."""
