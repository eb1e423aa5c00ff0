"""Education: pupils, school places by dwelling, degrees. The degrees were loaded last year and answer nothing."""

from __future__ import annotations

from exchange.demo import codes
from exchange.demo.model import City
from exchange.demo.stores.book import Book

SCHEMA = """
CREATE TABLE xs_xjxx (sfzjh TEXT NOT NULL, xm TEXT, rxrq TEXT, lxrq TEXT);
CREATE TABLE xw_sd (fwbm TEXT NOT NULL, sdzz TEXT);
CREATE TABLE xl_xx (sfzjh TEXT NOT NULL, xm TEXT, xl INTEGER);
CREATE TABLE sys_load (tab TEXT PRIMARY KEY, at TEXT);
CREATE INDEX xs_xjxx_sfzjh ON xs_xjxx (sfzjh);
CREATE INDEX xw_sd_fwbm ON xw_sd (fwbm);
CREATE INDEX xl_xx_sfzjh ON xl_xx (sfzjh);
"""
_STALE_DAYS = 400


def write(book: Book, city: City) -> None:
    """Write the education bureau's books."""
    records = city.records
    book.create(SCHEMA)
    book.fill(
        "xs_xjxx",
        (
            (r.child.identifier, r.child.name, r.entered.isoformat(), r.left.isoformat() if r.left else "")
            for r in records.enrolments
        ),
    )
    book.fill("xs_xjxx", [(codes.PROBE_CHILD, codes.PROBE_NAME, "2021-09-01", "")])
    book.fill("xw_sd", ((r.dwelling.code, r.until.isoformat()) for r in records.locks))
    book.fill("xl_xx", ((r.person.identifier, r.person.name, r.level) for r in records.degrees))
    book.fill("sys_load", [("xs_xjxx", book.loaded(3)), ("xw_sd", book.loaded(3)), ("xl_xx", book.loaded(_STALE_DAYS))])
