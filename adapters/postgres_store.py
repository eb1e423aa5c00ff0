"""The adapter's own tables in PostgreSQL, beside the owner's log, as an administrator makes them.

Who is trusted with what: the log is kept append-only by its functions and triggers (`audit.postgres_schema`). These
tables hold what the ledger and the replay store have to write, forget and look up, so the adapter's account may insert
into them and delete from them, update two columns, and nothing else; keys' fingerprints it can only add. Whoever steals
its password can make the ledger forget guesses and people's index rows vanish, as who can write the file of SQLite can,
but learns nobody's name: scopes, guesses and subjects are keyed hashes, replies are sealed.
"""

from __future__ import annotations

from typing import Final

from audit.postgres_tables import Part, Shape

_TABLES: Final = """\
CREATE TABLE zhiwang.guess (
    scope bigint NOT NULL,
    value bigint NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (scope, value)
);
CREATE INDEX guess_at ON zhiwang.guess (at);
CREATE TABLE zhiwang.replay (
    key bytea NOT NULL PRIMARY KEY CHECK (octet_length(key) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    entry bigint NOT NULL,
    nonce bytea NOT NULL,
    ciphertext bytea NOT NULL,
    expires bigint NOT NULL
);
ALTER TABLE zhiwang.replay ALTER COLUMN ciphertext SET STORAGE EXTERNAL; -- what is sealed cannot be compressed
CREATE INDEX replay_expires ON zhiwang.replay (expires);
CREATE TABLE zhiwang.replay_horizon (
    id integer NOT NULL PRIMARY KEY CHECK (id = 1),
    time bigint NOT NULL
);
INSERT INTO zhiwang.replay_horizon VALUES (1, 0);
CREATE TABLE zhiwang.trace (
    year integer NOT NULL,
    subject bytea NOT NULL CHECK (octet_length(subject) = 16),
    entry bigint NOT NULL,
    part bigint NOT NULL,
    refused bigint NOT NULL,
    PRIMARY KEY (year, subject, entry)
);
CREATE TABLE zhiwang.delay (entry bigint NOT NULL PRIMARY KEY);
CREATE TABLE zhiwang.store_key (
    name text NOT NULL PRIMARY KEY,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16)
);
"""

_SHAPES: Final = {
    "guess": Shape(
        ("scope bigint", "value bigint", "at bigint"),
        ("PRIMARY KEY (scope, value)",),
        ("guess_pkey", "guess_at"),
        ("INSERT", "UPDATE (at)", "DELETE"),
    ),
    "replay": Shape(
        ("key bytea", "hash bytea", "entry bigint", "nonce bytea", "ciphertext bytea", "expires bigint"),
        ("CHECK ((octet_length(hash) = 32))", "CHECK ((octet_length(key) = 32))", "PRIMARY KEY (key)"),
        ("replay_pkey", "replay_expires"),
        ("INSERT", "DELETE"),
    ),
    "replay_horizon": Shape(
        ("id integer", "time bigint"), ("CHECK ((id = 1))", "PRIMARY KEY (id)"), writes=("UPDATE (time)",)
    ),
    "trace": Shape(
        ("year integer", "subject bytea", "entry bigint", "part bigint", "refused bigint"),
        ("CHECK ((octet_length(subject) = 16))", "PRIMARY KEY (year, subject, entry)"),
        writes=("INSERT", "DELETE"),
    ),
    "delay": Shape(("entry bigint",), ("PRIMARY KEY (entry)",), writes=("INSERT", "DELETE")),
    "store_key": Shape(
        ("name text", "fingerprint bytea"),
        ("CHECK ((octet_length(fingerprint) = 16))", "PRIMARY KEY (name)"),
        writes=("INSERT",),
    ),
}

STORE: Final = Part(_SHAPES, _TABLES, {}, {})
"""Ledger, replies, index of subjects, orders of delay, and fingerprints of the keys."""
