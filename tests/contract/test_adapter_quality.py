"""`zhiwang adapter check --quality`: what is wrong with the data is counted, and no value of it is shown."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapter_support import ANNA, BO, CHEN, DING, NOW, SCHEMES, WEIGHTS, attribute, make_database
from adapters import quality
from adapters.cli import app
from adapters.quality import DataQuality, measure
from policy.document import parse_document
from servers import Server, fresh_name

MAPPING = """
department = "hrss"

[database]
url = "URL"

[data.person]
table = "person"
subject = "id_card"
name = "full_name"
region = { column = "region", codes = "nbs" }
loaded = "SELECT max(at_time) FROM loads"

[attribute.months]
data = "person"
value = "months"

[attribute.fresh]
data = "person"
"""
PUBLISHED = (
    'department = "hrss"\ntitle = { zh = "部门", en = "Department" }\n'
    + attribute("months", 'type = "integer"\nat_least = [6]\nmax_age = "45d"')
    + attribute("fresh", 'asks = ["exists"]\nmax_age = "12h"')
)
TABLES = (
    "CREATE TABLE person (id_card VARCHAR(40), full_name VARCHAR(60), region VARCHAR(12), months INTEGER)",
    "CREATE TABLE loads (at_time VARCHAR(30))",
)
WIDE = str.maketrans({code: code + 0xFEE0 for code in range(0x21, 0x7F)})


def with_x() -> str:
    for serial in range(100, 200):
        digits = f"44039919900101{serial}"
        if sum(w * int(d) for w, d in zip(WEIGHTS, digits, strict=True)) % 11 == 2:
            return digits + "X"
    raise AssertionError


X = with_x()
PEOPLE: Sequence[tuple[str | None, str | None, str | None, int]] = (
    (ANNA, "安娜", "440306", 1),
    (ANNA, "安娜", "440306", 1),
    (BO, "波", "440305001", 1),
    (BO[:6] + BO[8:17], "波", "440305", 1),
    (CHEN[:17] + ("0" if CHEN[17] != "0" else "1"), "陈", "4403", 1),
    (CHEN.translate(WIDE), "陈", "440", 1),
    (X.lower(), "阿里•买买提", "440306", 1),
    (f" {X}", "王 ", "990099", 1),
    ("not one", "李\u200b四", None, 1),
    (None, None, "", 1),
    ("  ", "", "440306", 1),
    (DING, "Ａ", "440306", 1),
)
EXPECTED = {
    "subject_missing": 2,
    "subject_duplicate": 1,
    "subject_15_digits": 1,
    "subject_bad_check": 1,
    "subject_invalid": 1,
    "subject_full_width": 1,
    "subject_lower_case": 1,
    "subject_not_found": 1,
    "name_missing": 2,
    "name_not_canonical": 4,
    "name_not_found": 2,
    "region_missing": 2,
    "region_malformed": 1,
    "region_unknown": 2,
    "stale": 12,
}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    rows = {"person": PEOPLE, "loads": [("2026-09-20 12:00:00",)]}
    (tmp_path / "document.toml").write_text(PUBLISHED, "utf-8")
    if request.param == "sqlite":
        make_database(tmp_path / "data.db", ";".join(TABLES), rows)
        url, server, name = "sqlite:///file:data.db?mode=ro&uri=true", None, ""
    else:
        server = request.getfixturevalue(request.param)
        assert isinstance(server, Server)
        name = fresh_name()
        server.create(name)
        server.execute(name, *TABLES, rows=rows)
        url = server.url(name)
    (tmp_path / "mapping.toml").write_text(MAPPING.replace("URL", url), "utf-8")
    yield tmp_path / "mapping.toml", tmp_path / "document.toml"
    if server is not None:
        server.drop(name)


def measured(files: tuple[Path, Path], divisions: frozenset[str] | None = None) -> DataQuality:
    (one,) = measure(files[0], parse_document(files[1]), SCHEMES, clock=lambda: NOW, divisions=divisions)
    return one


def test_everything_that_is_wrong_is_counted_on_every_database(files: tuple[Path, Path]) -> None:
    known = frozenset({"4403", "440305", "440306"})
    found = measured(files, known)
    assert (found.rows, found.counts) == (len(PEOPLE), EXPECTED)
    assert found.stale == ("fresh",)


def test_without_a_list_of_divisions_unknown_ones_are_not_counted(files: tuple[Path, Path]) -> None:
    assert "region_unknown" not in measured(files).counts


def test_a_record_that_is_counted_as_not_found_never_answers_and_the_others_do(files: tuple[Path, Path]) -> None:
    # What "not found" says is what the statements do: ask for each person by the very plan of a request.
    for subject, answer in ((ANNA, "YES"), (X, "YES"), (DING, "YES")):
        text = files[0].read_text("utf-8")
        probe = f'\n[[probe]]\nclaim = "hrss.fresh exists"\nsubject = "{subject}"\nanswer = "{answer}"\n'
        files[0].write_text(text + probe, "utf-8")
        result = CliRunner().invoke(app, ["check", *map(str, files), "--json"])
        files[0].write_text(text, "utf-8")
        assert [one["found"] for one in json.loads(result.stdout)["probes"]] == [answer]


def test_no_value_is_printed(files: tuple[Path, Path], tmp_path: Path) -> None:
    divisions = tmp_path / "divisions.csv"
    divisions.write_text("level,code,name\ncity,4403,某市\ndistrict,440306,某区\n", "utf-8")
    for arguments in ([], ["--json"]):
        result = CliRunner().invoke(
            app, ["check", *map(str, files), "--quality", "--divisions", str(divisions), *arguments]
        )
        assert result.exit_code == 0, result.output
        for row in PEOPLE:
            for value in row[:3]:
                assert value is None or len(value.strip()) < 6 or value.strip() not in result.output


def test_a_list_without_a_column_of_codes_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n", "utf-8")
    result = CliRunner().invoke(app, ["check", *map(str, files), "--quality", "--divisions", str(tmp_path / "bad.csv")])
    assert (result.exit_code, "must name a column" in result.output) == (2, True)


@pytest.mark.parametrize("family", ["sqlite", "mariadb"])
def test_memory_does_not_grow_with_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, family: str
) -> None:
    # Both drivers keep what they hold where it can be seen; PyMySQL holds everything unless it is told to stream.
    monkeypatch.setattr(quality, "CHUNK", 100)
    (tmp_path / "document.toml").write_text(PUBLISHED, "utf-8")
    document = parse_document(tmp_path / "document.toml")
    peaks = []
    for number in (10, 1_000, 80_000):
        url, name = "sqlite:///file:data.db?mode=ro&uri=true", fresh_name()
        if family == "sqlite":
            (tmp_path / "data.db").unlink(missing_ok=True)
            rows = [(ANNA, "安娜", f"{place}", 1) for place in range(number)]
            make_database(tmp_path / "data.db", ";".join(TABLES), {"person": rows, "loads": [("2026-09-20",)]})
        else:
            server: Server = request.getfixturevalue(family)
            server.create(name)
            many = f"INSERT INTO person SELECT '{ANNA}', 'x', seq, 1 FROM seq_1_to_{number}"  # noqa: S608 - our own
            server.execute(name, *TABLES, many, "INSERT INTO loads VALUES ('2026-09-20')")
            url = server.url(name)
        (tmp_path / "mapping.toml").write_text(MAPPING.replace("URL", url), "utf-8")
        seen: list[tuple[int, ...]] = []

        def progress(*done: int, seen: list[tuple[int, ...]] = seen) -> None:
            seen.append(done)

        tracemalloc.start()
        measure(tmp_path / "mapping.toml", document, SCHEMES, clock=lambda: NOW, progress=progress)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seen[-1] == (number, number)
        if family != "sqlite":
            server.drop(name)
    # The first run also pays for what is imported and compiled once.
    assert peaks[2] < peaks[1] + 500_000
