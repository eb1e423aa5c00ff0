"""How long `zhiwang adapter check` and `adapter init --url` take over a schema of 200 tables.

    python -m bench.check                                  # SQLite, in a temporary directory
    python -m bench.check --admin URL --reader URL         # an empty database of PostgreSQL or MariaDB; it is filled

Every table has 1,000 people, an indexed identifier, a name and one value; a data set and an attribute lie over
each. Both commands are run in this process, once cold and once again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import create_engine

from adapters.check import inspect
from adapters.drafting import make_draft
from adapters.kinds import schemes_of

TABLES = 200
PEOPLE = 1000
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def resident(serial: int) -> str:
    """A person who does not exist: the prefix 440399 is not assigned."""
    digits = f"440399{1950 + serial // 1000}0101{serial % 1000:03d}"
    return digits + "10X98765432"[sum(w * int(d) for w, d in zip(WEIGHTS, digits, strict=True)) % 11]


def fill(url: str) -> None:
    """The tables."""
    engine = create_engine(url)
    people = [resident(serial) for serial in range(PEOPLE)]
    mark = "?" if engine.dialect.name == "sqlite" else "%s"
    with engine.begin() as connection:
        for number in range(TABLES):
            table = f"t{number}"
            connection.exec_driver_sql(
                f"CREATE TABLE {table} (id_card VARCHAR(18), full_name VARCHAR(60), months INTEGER)"
            )
            connection.exec_driver_sql(f"CREATE INDEX i{number} ON {table} (id_card)")
            rows = [(one, "某人", place % 40) for place, one in enumerate(people)]
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({mark}, {mark}, {mark})", rows)  # noqa: S608 - ours
    engine.dispose()


def write(directory: Path, url: str) -> tuple[Path, Path]:
    """Mapping and document over all of them."""
    mapping = [f'department = "bench"\n[database]\nurl = "{url}"\n']
    document = ['department = "bench"\ntitle = { zh = "测", en = "Bench" }\n']
    for number in range(TABLES):
        mapping.append(f'[data.t{number}]\ntable = "t{number}"\nsubject = "id_card"\nname = "full_name"\n')
        mapping.append(f'[attribute.a{number}]\ndata = "t{number}"\nvalue = "months"\n')
        document.append(
            f'[attribute.a{number}]\ntitle = {{ zh = "？", en = "?" }}\nsubject = "person"\ntype = "integer"\n'
            "at_least = [6, 12]\n"
        )
    (directory / "mapping.toml").write_text("".join(mapping), "utf-8")
    (directory / "document.toml").write_text("".join(document), "utf-8")
    return directory / "mapping.toml", directory / "document.toml"


def timed(word: str, run: Callable[[], object]) -> None:
    """Seconds of wall clock and of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    print(f"{word:32} {time.perf_counter() - wall:6.2f} s, {time.process_time() - cpu:6.2f} s of CPU")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--admin", help="URL of an empty database, of an account that may make tables")
    parser.add_argument("--reader", help="URL of the same, of an account that only reads")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        file = directory / "bench.db"
        fill(arguments.admin or f"sqlite:///{file}")
        reader = arguments.reader or f"sqlite:///file:{file}?mode=ro&uri=true"
        mapping, document = write(directory, reader)

        def check() -> None:
            report = inspect(mapping, document, schemes_of(None))[1]
            if report.findings or len(report.statements) != TABLES:
                raise SystemExit("\n".join(map(str, report.findings)) or "not everything was checked")

        for word in ("check, first", "check, again"):
            timed(f"{word}, {TABLES} tables", check)
        today = datetime.now(UTC).date()
        timed(
            f"init --url, {TABLES} tables",
            lambda: make_draft(
                reader, directory / "draft", department="bench", hub=None, password_file=None, today=today
            ),
        )


if __name__ == "__main__":
    main()
