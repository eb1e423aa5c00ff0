"""Housing: dates with slashes, some identifiers in full-width digits, several lessees to a contract."""

from __future__ import annotations

from exchange.demo import codes
from exchange.demo.model import City
from exchange.demo.stores.book import Book

SCHEMA = """
CREATE TABLE fw_contract (contract_no TEXT PRIMARY KEY, house_code TEXT NOT NULL, use_code TEXT, registered_on TEXT,
    start_on TEXT, end_on TEXT, state TEXT);
CREATE TABLE fw_lessee (contract_no TEXT NOT NULL, certificate_no TEXT, full_name TEXT);
CREATE TABLE gz_contract (certificate_no TEXT NOT NULL, start_on TEXT, end_on TEXT);
CREATE TABLE etl_job (job TEXT, finished_at TEXT, ok INTEGER);
CREATE INDEX fw_contract_house ON fw_contract (house_code);
CREATE INDEX fw_lessee_contract ON fw_lessee (contract_no);
CREATE INDEX gz_contract_person ON gz_contract (certificate_no);
"""


def write(book: Book, city: City) -> None:
    """Write the housing bureau's books."""
    leases = [(f"深租{number:08d}", lease) for number, lease in enumerate(city.records.leases)]
    book.create(SCHEMA)
    book.fill(
        "fw_contract",
        (
            (
                number,
                lease.dwelling.code,
                "10" if lease.residential else "20",
                f"{lease.registered:%Y/%m/%d}" if lease.registered else "见合同",
                f"{lease.start:%Y/%m/%d}",
                f"{lease.end:%Y/%m/%d}",
                "注销" if lease.cancelled else "备案",
            )
            for number, lease in leases
        ),
    )
    book.fill(
        "fw_lessee",
        ((number, book.wide(lessee.identifier), lessee.name) for number, lease in leases for lessee in lease.lessees),
    )
    probe = ("深租99999999", codes.PROBE_HOUSE, "10", "2024/01/01", "2024/01/01", "2099/12/31", "备案")
    book.fill("fw_contract", [probe])
    book.fill("fw_lessee", [(probe[0], codes.full_width(codes.PROBE_ADULT), codes.PROBE_NAME)])
    book.fill(
        "gz_contract",
        ((book.wide(r.person.identifier), f"{r.start:%Y/%m/%d}", f"{r.end:%Y/%m/%d}") for r in city.records.rentals),
    )
    book.fill(
        "etl_job", (("leases", book.loaded(1), 1), ("rentals", book.loaded(1), 1), ("leases", book.loaded(0.2), 0))
    )
