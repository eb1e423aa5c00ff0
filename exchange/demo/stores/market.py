"""Market supervision: the column names of the national register of enterprises."""

from __future__ import annotations

from exchange.demo import codes
from exchange.demo.model import City
from exchange.demo.stores.book import Book

SCHEMA = """
CREATE TABLE E_BASEINFO (UNISCID TEXT NOT NULL, ENTNAME TEXT, LEREP_CERNO TEXT, OPFROM TEXT, OPTO TEXT, REGSTATE TEXT,
    DOM_HOUSE TEXT);
CREATE TABLE S_EXT (S_EXT_DATETIME TEXT);
CREATE UNIQUE INDEX E_BASEINFO_UNISCID ON E_BASEINFO (UNISCID);
"""


def write(book: Book, city: City) -> None:
    """Write the register of enterprises."""
    book.create(SCHEMA)
    book.fill(
        "E_BASEINFO",
        (
            (
                c.code,
                c.name,
                book.lower(c.representative.identifier),
                c.licensed.isoformat(),
                c.expires.isoformat() if c.expires else None,
                "1" if c.active else "3",
                c.premises.code,
            )
            for c in city.companies
        ),
    )
    company = (codes.PROBE_COMPANY, codes.PROBE_NAME, codes.PROBE_ADULT)
    book.fill("E_BASEINFO", [(*company, "2020-01-01", None, "1", codes.PROBE_HOUSE)])
    book.fill("S_EXT", [(book.loaded(1),)])
