"""Labour and social security: identifiers with a lower-case x, a row for each insured month, nine-digit streets."""

from __future__ import annotations

from exchange.demo import codes
from exchange.demo.calendar import ENROLMENT_DAY, month_index, month_text
from exchange.demo.model import City
from exchange.demo.stores.book import Book

SCHEMA = """
CREATE TABLE person (acct_no INTEGER PRIMARY KEY, id_card TEXT NOT NULL, full_name TEXT, street_code TEXT);
CREATE TABLE payment (acct_no INTEGER NOT NULL, ym TEXT NOT NULL, pension INTEGER, medical INTEGER, arrears INTEGER,
    PRIMARY KEY (acct_no, ym)) WITHOUT ROWID;
CREATE TABLE employment (acct_no INTEGER NOT NULL, uscc TEXT NOT NULL, last_ym TEXT);
CREATE TABLE load_log (data_set TEXT, loaded_at TEXT);
CREATE INDEX person_id_card ON person (id_card);
CREATE INDEX employment_acct_no ON employment (acct_no);
"""


def write(book: Book, city: City) -> None:
    """Write the insurance's books, up to the last month that was completed by today."""
    accounts = list(enumerate(city.records.accounts, start=10_000_001))
    horizon = max(month_index(city.today), month_index(ENROLMENT_DAY)) - 1
    texts = [month_text(month) for month in range(horizon + 1)]
    book.create(SCHEMA)
    book.fill(
        "person",
        ((number, book.lower(a.person.identifier), a.person.name, a.street) for number, a in accounts),
    )
    book.fill(
        "payment",
        (
            (number, texts[m], int(m not in a.no_pension), int(m not in a.no_medical), int(m in a.arrears))
            for number, a in accounts
            for m in range(a.first, (horizon if a.last is None else min(a.last, horizon)) + 1)
        ),
    )
    book.fill(
        "employment",
        ((number, a.company.code, None if a.last is None else month_text(a.last)) for number, a in accounts),
    )
    book.fill("person", [(1, book.lower(codes.PROBE_ADULT), codes.PROBE_NAME, codes.PROBE_COMMUNITY[:9])])
    months = range(month_index(ENROLMENT_DAY) - 24, month_index(ENROLMENT_DAY))
    book.fill("payment", ((1, texts[month], 1, 1, 0) for month in months))
    book.fill("load_log", (("person", book.loaded(days)) for days in (40, 10, 3)))
