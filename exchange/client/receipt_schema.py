"""Tables of the file in which receipts are kept."""

from __future__ import annotations

from typing import Final

VERSION: Final = 3
_SECOND: Final = (
    "ALTER TABLE receipt ADD COLUMN completed INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX receipt_waiting ON receipt (number) WHERE completed = 0",
)
_THIRD: Final = (
    # Null in what an older release kept, whose cases are known only once they are opened.
    "ALTER TABLE receipt ADD COLUMN by_case BLOB",
    "CREATE INDEX receipt_case ON receipt (by_case) WHERE by_case IS NOT NULL",
    "CREATE INDEX receipt_caseless ON receipt (found) WHERE by_case IS NULL",
)
UPGRADES: Final = {
    1: (*_SECOND, *_THIRD, f"PRAGMA user_version = {VERSION}"),
    2: (*_THIRD, f"PRAGMA user_version = {VERSION}"),
}
"""What makes a store of an older version one of this version."""
STATEMENTS: Final = (
    "CREATE TABLE year (year INTEGER PRIMARY KEY, proof BLOB NOT NULL, erased INTEGER) STRICT",
    """CREATE TABLE receipt (number INTEGER PRIMARY KEY, id BLOB NOT NULL, year INTEGER NOT NULL REFERENCES year,
        kept INTEGER NOT NULL, found BLOB NOT NULL, sealed BLOB NOT NULL) STRICT""",
    "CREATE INDEX receipt_found ON receipt (found)",
    "CREATE INDEX receipt_kept ON receipt (kept)",
    "CREATE INDEX receipt_year ON receipt (year)",
    *UPGRADES[1],
)
