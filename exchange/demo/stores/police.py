"""Police: pinyin initials for column names, dates as YYYYMMDD in one table and with hyphens in another."""

from __future__ import annotations

from exchange.demo import codes
from exchange.demo.model import City
from exchange.demo.stores.book import Book

SCHEMA = """
CREATE TABLE T_SYRK (GMSFHM TEXT NOT NULL, XM TEXT, XB TEXT, CSRQ TEXT, XZZ_QH TEXT);
CREATE TABLE T_CZRK (HH TEXT, GMSFHM TEXT NOT NULL, XM TEXT, CYM TEXT, YHZGX TEXT, HJD_QH TEXT, ZXBZ TEXT);
CREATE TABLE T_SFZ (GMSFHM TEXT NOT NULL, XM TEXT, QFRQ TEXT, YXQZ TEXT);
CREATE TABLE T_JZZ (ZJHM TEXT NOT NULL, XM TEXT, JZD_QH TEXT, QFRQ TEXT, YXQZ TEXT, ZT TEXT);
CREATE TABLE T_JZDJ (ZJHM TEXT NOT NULL, XM TEXT, JZD_QH TEXT, DJRQ TEXT, ZXRQ TEXT);
CREATE TABLE T_FZJL (ZJHM TEXT NOT NULL, XM TEXT, AJLB TEXT);
CREATE TABLE T_SJJZ (SJB TEXT PRIMARY KEY, JZSJ TEXT);
CREATE INDEX I_SYRK ON T_SYRK (GMSFHM);
CREATE INDEX I_CZRK ON T_CZRK (GMSFHM);
CREATE INDEX I_CZRK_HH ON T_CZRK (HH);
CREATE INDEX I_SFZ ON T_SFZ (GMSFHM);
CREATE INDEX I_JZZ ON T_JZZ (ZJHM);
CREATE INDEX I_JZDJ ON T_JZDJ (ZJHM);
CREATE INDEX I_FZJL ON T_FZJL (ZJHM);
"""


def write(book: Book, city: City) -> None:
    """Write the police's books."""
    records = city.records
    book.create(SCHEMA)
    book.fill(
        "T_SYRK",
        (
            (
                r.person.identifier,
                book.dotted(r.person.name),
                "1" if r.person.sex == "M" else "2",
                f"{r.born:%Y%m%d}" if r.born else book.rng.choice(("不详", "", "00000000")),
                r.community,
            )
            for r in records.population
        ),
    )
    book.fill(
        "T_CZRK",
        (
            (h.number, p.identifier, book.dotted(p.name), p.former_name, code, h.community, "0")
            for h in records.households
            for p, code in h.members
        ),
    )
    book.fill(
        "T_SFZ",
        (
            (r.person.identifier, r.person.name, f"{r.issued:%Y%m%d}", f"{r.expires:%Y%m%d}" if r.expires else "长期")
            for r in records.cards
        ),
    )
    book.fill(
        "T_JZZ",
        (
            (
                r.person.identifier,
                book.dotted(r.person.name),
                r.community,
                r.issued.isoformat(),
                r.expires.isoformat(),
                "正常" if r.functional else "功能中止",
            )
            for r in records.permits
        ),
    )
    book.fill(
        "T_JZDJ",
        (
            (
                r.person.identifier,
                r.person.name,
                r.community,
                r.registered.isoformat(),
                r.ended.isoformat() if r.ended else None,
            )
            for r in records.registrations
        ),
    )
    book.fill("T_SYRK", [(codes.PROBE_ADULT, codes.PROBE_NAME, "2", "19900101", codes.PROBE_COMMUNITY)])
    book.fill("T_SFZ", [(codes.PROBE_ADULT, codes.PROBE_NAME, "20200101", "长期")])
    book.fill("T_FZJL", ((p.identifier, p.name, "01") for p in records.convicted))
    book.fill(
        "T_SJJZ", ((table, book.loaded(1)) for table in ("T_SYRK", "T_CZRK", "T_SFZ", "T_JZZ", "T_JZDJ", "T_FZJL"))
    )
