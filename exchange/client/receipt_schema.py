"""Tables of the file in which receipts are kept."""

from __future__ import annotations

from typing import Final

VERSION: Final = 2
UPGRADE: Final = (
    "ALTER TABLE receipt ADD COLUMN completed INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX receipt_waiting ON receipt (number) WHERE completed = 0",
    f"PRAGMA user_version = {VERSION}",
)
"""What makes a store of version 1, whose receipts gained nothing afterwards, one of version 2."""
STATEMENTS: Final = (
    "CREATE TABLE year (year INTEGER PRIMARY KEY, proof BLOB NOT NULL, erased INTEGER) STRICT",
    """CREATE TABLE receipt (number INTEGER PRIMARY KEY, id BLOB NOT NULL, year INTEGER NOT NULL REFERENCES year,
        kept INTEGER NOT NULL, found BLOB NOT NULL, sealed BLOB NOT NULL) STRICT""",
    "CREATE INDEX receipt_found ON receipt (found)",
    "CREATE INDEX receipt_kept ON receipt (kept)",
    "CREATE INDEX receipt_year ON receipt (year)",
    *UPGRADE,
)
