"""Real-estate registration: shares as text with a percent sign, some holders with identifiers of 15 digits."""

from __future__ import annotations

from exchange.demo import codes
from exchange.demo.model import City
from exchange.demo.stores.book import Book

SCHEMA = """
CREATE TABLE BDC_QL (BDCDYH TEXT PRIMARY KEY, FWBM TEXT NOT NULL, DJSJ TEXT);
CREATE TABLE BDC_QLR (BDCDYH TEXT NOT NULL, FWBM TEXT NOT NULL, ZJH TEXT NOT NULL, QLRMC TEXT, QLBL TEXT, DJSJ TEXT,
    QH TEXT);
CREATE TABLE BDC_TB (TBSJ TEXT);
CREATE INDEX BDC_QLR_FW ON BDC_QLR (FWBM);
CREATE INDEX BDC_QLR_ZJH ON BDC_QLR (ZJH);
"""


def write(book: Book, city: City) -> None:
    """Write the register of titles."""
    titles = [(f"440399{number:012d}F0001", title) for number, title in enumerate(city.records.titles)]
    book.create(SCHEMA)
    book.fill("BDC_QL", ((unit, title.dwelling.code, title.registered.isoformat()) for unit, title in titles))
    book.fill(
        "BDC_QLR",
        (
            (
                unit,
                title.dwelling.code,
                book.old(holder.identifier),
                holder.name,
                "按份共有" if share is None else f"{share}%",
                f"{title.registered.isoformat()} 09:30:00",
                title.dwelling.community,
            )
            for unit, title in titles
            for holder, share in title.holders
        ),
    )
    unit, holder = "440399999999999999F0001", codes.fifteen(codes.PROBE_ADULT)
    registered = "2020-01-01"
    book.fill("BDC_QL", [(unit, codes.PROBE_HOUSE, registered)])
    book.fill(
        "BDC_QLR",
        [(unit, codes.PROBE_HOUSE, holder, codes.PROBE_NAME, "100%", registered, codes.PROBE_COMMUNITY)],
    )
    book.fill("BDC_TB", [(book.loaded(0.5),)])
