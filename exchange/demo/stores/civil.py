"""Civil affairs: every marriage twice, once for each party; old identifiers; benefits with their last day."""

from __future__ import annotations

from exchange.demo import codes
from exchange.demo.model import City
from exchange.demo.stores.book import Book

SCHEMA = """
CREATE TABLE marriage_party (registration_no TEXT, party_id TEXT NOT NULL, spouse_id TEXT, married_on TEXT,
    divorced_on TEXT);
CREATE TABLE adoption (child_id TEXT NOT NULL, parent_id TEXT NOT NULL, registered_on TEXT);
CREATE TABLE benefit (holder_id TEXT NOT NULL, holder_name TEXT, kind TEXT, first_day TEXT, last_day TEXT);
CREATE TABLE loads (loaded_at TEXT);
CREATE INDEX marriage_party_id ON marriage_party (party_id);
CREATE INDEX adoption_child ON adoption (child_id);
CREATE INDEX benefit_holder ON benefit (holder_id);
"""


def write(book: Book, city: City) -> None:
    """Write the civil affairs bureau's books."""
    records = city.records
    book.create(SCHEMA)
    book.fill(
        "marriage_party",
        (
            (
                f"J440399-{r.registered.year}-{number:06d}",
                book.old(party.identifier),
                book.old(spouse.identifier),
                r.registered.isoformat(),
                r.ended.isoformat() if r.ended else None,
            )
            for number, r in enumerate(records.marriages)
            for party, spouse in ((r.husband, r.wife), (r.wife, r.husband))
        ),
    )
    couple = ((codes.PROBE_ADULT, codes.PROBE_SPOUSE), (codes.PROBE_SPOUSE, codes.PROBE_ADULT))
    book.fill("marriage_party", (("J440399-2014-999999", *pair, "2014-01-01", None) for pair in couple))
    book.fill(
        "adoption",
        (
            (r.child.identifier, parent.identifier, r.registered.isoformat())
            for r in records.adoptions
            for parent in (r.mother, r.father)
            if parent is not None
        ),
    )
    book.fill(
        "benefit",
        (
            (book.old(r.person.identifier), r.person.name, kind, r.start.isoformat(), r.end.isoformat())
            for kind, benefits in (("senior", records.senior_cards), ("allowance", records.allowances))
            for r in benefits
        ),
    )
    book.fill("loads", [(book.loaded(5),), (book.loaded(2),)])
