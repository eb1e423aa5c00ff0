"""A directory of files as a source: what is taken, when, and that nothing bad takes the place of something good."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from adapter_drivers import write_csv, write_xlsx
from adapter_support import ANNA, BO, CHEN, NOW, attribute, document, resident
from adapters import extract_load, extracts
from adapters.database import Connections, connect_to
from adapters.extract_load import Job, Result, Stamp, Task, build, read_loads
from adapters.extract_model import ExtractFile
from adapters.extract_rows import read_rows
from adapters.extracts import ExtractMetrics, Extracts, taken_up
from adapters.mapping import Mapping, load_mapping
from adapters.sql import Source
from zhiwang.wire.tomlfile import FileError

MAPPING = """
department = "hrss"
[database]
url = "files:drop"
[file.person]
path = "person_*.csv"
columns = { id_card = "身份证号", months = "月数" }
settle = 0
[data.person]
table = "person"
subject = "id_card"
[attribute.months]
data = "person"
value = "months"
"""

HOUSE = """
[file.house]
path = "house.csv"
columns = ["code", "owner"]
index = ["owner"]
settle = 0
[data.house]
select = "SELECT owner, code FROM house JOIN person ON owner = id_card"
subject = "owner"
"""

HEADINGS = ("身份证号", "姓名", "月数")


class Drop:
    """A directory that files are dropped into, and who takes them up."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = directory / "drop"
        self.files.mkdir()
        self.now = NOW
        self.tick = 1000.0
        self.path = directory / "mapping.toml"
        self.path.write_text(MAPPING, "utf-8")
        self.extracts = self.another()
        self.connections: Connections | None = None

    def another(self) -> Extracts:
        """Who takes up after a restart."""
        return Extracts(self.directory / "private", lambda: self.now, lambda: self.tick)

    def write(self, name: str, *rows: tuple[object, ...], written: float = NOW - 3600) -> Path:
        path = write_csv(self.files / name, [HEADINGS, *rows])  # type: ignore[list-item]  # values of a test
        os.utime(path, (written, written))
        return path

    def begin(self, text: str = MAPPING) -> Mapping:
        self.path.write_text(text, "utf-8")
        mapping, self.warnings = self.extracts.begin(load_mapping(self.path), self.path)
        self.mapping = mapping
        return mapping

    def rows(self, table: str = "person") -> list[tuple[object, ...]]:
        """What is in force."""
        if self.connections is None:
            self.connections = connect_to(self.mapping.database, self.directory)
        with self.connections.lend() as lent:
            return lent.fetch(f"SELECT * FROM {table}")  # noqa: S608 - our own

    def close(self) -> None:
        self.extracts.close()
        if self.connections is not None:
            self.connections.close()


@pytest.fixture
def drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drop]:
    # In this process, since another one takes a third of a second to start; two tests below have the real one.
    monkeypatch.setattr(Extracts, "_run", lambda _self, job: build(job))
    one = Drop(tmp_path)
    yield one
    one.close()


def findings(drop: Drop, text: str = MAPPING) -> list[str]:
    with pytest.raises(FileError) as caught:
        drop.begin(text)
    return [f"{one.line} {one.key}: {one.message}" for one in caught.value.findings]


# What a mapping may say.


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"files:drop"', '"sqlite:///file:a.db?mode=ro&uri=true"'), "database.url: must be"),
        (('"files:drop"', '"files:"'), "database.url: names no directory"),
        (("[file.person]", "[file.people]"), "data.person.table: there is no [file.person]"),
        (("[file.person]", "[file.zw_person]"), "file.zw_person: is a name that our own statements use"),
        (('"person_*.csv"', '"../person.csv"'), "file.person.path: must be the name of a file"),
        (('"person_*.csv"', '"sub/person.csv"'), "file.person.path: must be the name of a file"),
        (('"person_*.csv"', '".person.csv"'), "file.person.path: must be the name of a file"),
        (('"person_*.csv"', '"person[1].csv"'), "file.person.path: must be the name of a file"),
        (("settle = 0", 'index = ["name"]'), "file.person.index: name is not among the columns"),
        (("settle = 0", 'sheet = "a"'), "file.person.sheet: is for XLSX files only"),
        (("settle = 0", 'encoding = "latin-1"'), "file.person.encoding: must be"),
        (('.csv"', '.xlsx"\nseparator = ";"'), "file.person.separator: is for CSV files only"),
        (('months = "月数"', 'ID_CARD = "月数"'), "file.person.columns: names a column twice"),
        (('months = "月数"', 'months = "身份证号"'), "file.person.columns: takes a heading twice"),
        (('subject = "id_card"', 'subject = "sfzh"'), "data.person.subject: sfzh is not among the columns"),
        (('subject = "id_card"', 'subject = "id_card"\nname = "xm"'), "data.person.name: xm is not among the columns"),
        (('url = "files:drop"', 'url = "files:drop"\npassword_file = "p"'), "database.password_file: is for databases"),
    ],
)
def test_a_mapping_over_files_that_cannot_hold_is_refused_by_key(
    drop: Drop, change: tuple[str, str], expected: str
) -> None:
    drop.path.write_text(MAPPING.replace(*change), "utf-8")
    with pytest.raises(FileError) as caught:
        load_mapping(drop.path)
    assert any(expected in str(one) for one in caught.value.findings), caught.value


def test_files_satisfy_what_max_age_and_absent_need(drop: Drop) -> None:
    published = document(attribute("months", 'type = "integer"\nat_least = [6]\nasks = ["absent"]\nmax_age = "2d"'))
    assert load_mapping(drop.path, published).data["person"].loaded is not None


# What is taken.


def test_only_the_mapped_columns_are_copied_and_the_database_is_private(drop: Drop) -> None:
    drop.write("person_20260920.csv", (ANNA, "安娜", 12))
    drop.begin()
    assert drop.rows() == [(ANNA, "12")]
    database = drop.directory / "private" / "extracts.db"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700
    assert "安娜".encode() not in database.read_bytes()
    assert [path.name for path in database.parent.iterdir()] == ["extracts.db"]


def test_subjects_and_named_columns_are_indexed(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "安娜", 12))
    (drop.files / "house.csv").write_text(f"code,owner\nH1,{ANNA}\n", "utf-8")
    drop.begin(MAPPING + HOUSE)
    indexed = {row[0] for row in drop.rows("(SELECT sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL)")}
    assert {str(text).rpartition(" ON ")[2] for text in indexed} == {'"person" ("id_card")', '"house" ("owner")'}


def test_the_name_that_sorts_last_is_taken_and_its_time_is_the_age_of_the_data(drop: Drop) -> None:
    drop.write("person_20260920.csv", (ANNA, "", 20), written=NOW - 7200)
    drop.write("person_20260919.csv", (ANNA, "", 19), written=NOW - 60)
    drop.begin()
    assert drop.rows() == [(ANNA, "20")]
    assert drop.rows("(SELECT file, written FROM zw_load)") == [("person", int(NOW) - 7200)]


def test_a_file_from_the_future_is_no_younger_than_now(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1), written=NOW + 86400)
    drop.begin()
    assert drop.rows("(SELECT written FROM zw_load)") == [(int(NOW),)]


def test_a_restart_with_the_same_files_loads_nothing(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.begin()

    def never(_self: Extracts, job: Job) -> Result:
        raise AssertionError(job.tasks)

    monkeypatch.setattr(Extracts, "_run", never)
    drop.extracts = drop.another()
    drop.begin()
    assert drop.rows() == [(ANNA, "1")]


def test_other_words_of_the_mapping_load_the_same_file_anew(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "安娜", 1))
    drop.begin()
    drop.extracts = drop.another()
    drop.begin(MAPPING.replace('months = "月数"', 'months = "月数", called = "姓名"'))
    assert drop.rows() == [(ANNA, "1", "安娜")]


def test_what_was_loaded_by_other_words_of_the_mapping_is_never_kept(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "安娜", 1))
    drop.begin()
    before = drop.extracts.database.read_bytes()
    drop.write("person_2.csv")
    drop.extracts = drop.another()
    text = MAPPING.replace('months = "月数"', 'months = "姓名"')
    assert findings(drop, text) == ["5 file.person: person_2.csv: has 0 rows, fewer than the 1 that it must have"]
    assert drop.extracts.database.read_bytes() == before


def test_a_table_that_the_mapping_no_longer_has_does_not_stay(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    (drop.files / "house.csv").write_text(f"code,owner\nH1,{ANNA}\n", "utf-8")
    drop.begin(MAPPING + HOUSE)
    drop.extracts = drop.another()
    drop.begin()
    assert set(read_loads(drop.extracts.database)) == {"person"}
    assert b"H1" not in drop.extracts.database.read_bytes()


def test_a_damaged_private_database_is_built_anew(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.begin()
    drop.extracts.database.write_bytes(b"no database at all" * 100)
    drop.extracts = drop.another()
    drop.begin()
    assert drop.rows() == [(ANNA, "1")]


def _torn(database: Path) -> None:
    """Spoil every page behind the first two."""
    raw = database.read_bytes()
    database.write_bytes(raw[:8192] + b"\xff" * (len(raw) - 8192))


def _many(drop: Drop, name: str, value: int) -> None:
    drop.write(name, *((resident(serial), "", value) for serial in range(100, 999)))


def test_a_private_database_with_damaged_pages_is_built_anew_at_a_start(drop: Drop) -> None:
    _many(drop, "person_1.csv", 1)
    drop.begin()
    _torn(drop.extracts.database)
    assert read_loads(drop.extracts.database)
    drop.extracts = drop.another()
    drop.begin()
    assert len(drop.rows()) == 899


def test_a_private_database_that_is_damaged_while_it_is_used_is_built_anew(drop: Drop) -> None:
    _many(drop, "person_1.csv", 1)
    house = drop.files / "house.csv"
    house.write_text(f"code,owner\nH1,{ANNA}\n", "utf-8")
    drop.begin(MAPPING + HOUSE)
    _torn(drop.extracts.database)
    house.write_text(f"code,owner\nH2,{ANNA}\n", "utf-8")
    with capture_logs() as logs:
        drop.extracts.look()
        drop.extracts.look()
    assert (len(drop.rows()), drop.rows("house")) == (899, [("H2", ANNA)])
    assert drop.extracts.problems == {}
    assert [one["event"] for one in logs if one["log_level"] == "error"] == [
        "the private database is damaged; every file is loaded anew"
    ]


def test_a_deleted_database_beside_a_bad_file_is_not_built_in_vain_again_and_again(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    house = drop.files / "house.csv"
    house.write_text(f"code,owner\nH1,{ANNA}\n", "utf-8")
    drop.begin(MAPPING + HOUSE)
    house.write_text("code,owner\nH2\n", "utf-8")
    drop.extracts.look()
    drop.extracts.database.unlink()
    jobs: list[Job] = []

    def counted(_self: Extracts, job: Job) -> Result:
        jobs.append(job)
        return build(job)

    monkeypatch.setattr(Extracts, "_run", counted)
    for _ in range(4):
        drop.extracts.look()
    assert len(jobs) == 1
    # Mended, it is taken at once.
    house.write_text(f"code,owner\nH3,{ANNA}\n", "utf-8")
    drop.extracts.look()
    assert (len(jobs), drop.rows(), drop.rows("house")) == (2, [(ANNA, "1")], [("H3", ANNA)])


# What is not taken, and what then stays.


def test_a_bad_file_changes_nothing_and_alarms_once_without_a_value(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.begin()
    drop.write("person_2.csv", (ANNA, "", 2), (BO, "", 2, "beyond"))
    with capture_logs() as logs:
        for _ in range(3):
            drop.extracts.look()
    assert drop.rows() == [(ANNA, "1")]
    (alarm,) = [one for one in logs if one["log_level"] == "error"]
    assert alarm["detail"] == "person_2.csv: row 3: has 4 fields where the headings are 3"
    assert alarm["extract"] == "person"
    assert ANNA not in str(logs)
    assert drop.extracts.counts == {("person", "loaded"): 1, ("person", "refused"): 1}
    # Mended, it is taken.
    drop.write("person_2.csv", (ANNA, "", 2))
    drop.extracts.look()
    assert (drop.rows(), drop.extracts.problems) == ([(ANNA, "2")], {})


def test_a_restart_beside_a_bad_file_goes_on_with_the_last_good_load_and_warns(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.begin()
    drop.write("person_2.csv")
    drop.extracts = drop.another()
    drop.begin()
    assert drop.rows() == [(ANNA, "1")]
    (warning,) = drop.warnings
    assert (warning.key, warning.line) == ("file.person", 5)
    assert warning.message == (
        "person_2.csv: has 0 rows, fewer than the 1 that it must have; the load before it is in force"
    )


def test_a_bad_file_beside_a_good_one_keeps_its_own_table_only(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    house = drop.files / "house.csv"
    house.write_text(f"code,owner\nH1,{ANNA}\n", "utf-8")
    drop.begin(MAPPING + HOUSE)
    drop.write("person_2.csv", (BO, "", 2))
    house.write_text("code,owner\nH2\n", "utf-8")
    drop.extracts.look()
    assert (drop.rows(), drop.rows("house")) == ([(BO, "2")], [("H1", ANNA)])
    assert drop.extracts.problems == {"house": "house.csv: row 2: has 1 fields where the headings are 2"}
    # Nothing of what was refused, nor of what was replaced, is left in the file.
    assert b"H2" not in drop.extracts.database.read_bytes()


def test_at_the_first_start_every_bad_file_is_named_by_line(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, ""))
    assert findings(drop, MAPPING + HOUSE) == [
        "5 file.person: person_1.csv: row 2: has 2 fields where the headings are 3",
        "16 file.house: there is no file house.csv",
    ]


def test_fewer_rows_than_there_must_be_are_refused(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1), (BO, "", 1))
    text = MAPPING.replace("settle = 0", "settle = 0\nleast_rows = 3")
    assert findings(drop, text) == ["5 file.person: person_1.csv: has 2 rows, fewer than the 3 that it must have"]


def test_links_pipes_and_directories_are_not_followed(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.begin()
    secret = write_csv(drop.directory / "secret.csv", [HEADINGS, (BO, "", 9)])
    (drop.files / "person_2.csv").symlink_to(secret)
    drop.extracts.look()
    assert drop.extracts.problems == {"person": "person_2.csv: is a link; links are not followed"}
    os.mkfifo(drop.files / "person_3.csv")
    drop.extracts.look()
    assert drop.extracts.problems == {"person": "person_3.csv: is no plain file"}
    (drop.files / "person_4.csv").mkdir()
    drop.extracts.look()
    assert drop.extracts.problems == {"person": "person_4.csv: is no plain file"}
    assert drop.rows() == [(ANNA, "1")]


def test_a_file_that_disappears_alarms_and_its_load_stays(drop: Drop) -> None:
    path = drop.write("person_1.csv", (ANNA, "", 1))
    drop.begin()
    path.unlink()
    drop.extracts.look()
    assert drop.extracts.problems == {"person": "there is no file person_*.csv"}
    assert drop.rows() == [(ANNA, "1")]
    drop.files.rename(drop.directory / "gone")
    drop.extracts.look()
    assert drop.extracts.problems == {"person": "the directory of the files cannot be read: No such file or directory"}


# When it is taken.


def test_a_file_that_still_grows_is_not_taken(drop: Drop) -> None:
    text = MAPPING.replace("settle = 0", "settle = 10")
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.now = time.time() + 60
    drop.begin(text)
    path = drop.write("person_2.csv", (ANNA, "", 2), written=time.time())
    drop.now = time.time()
    assert drop.extracts.look()
    drop.tick += 9
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{BO},,3\n")
    assert drop.extracts.look()
    drop.tick += 9
    assert drop.extracts.look()
    assert drop.rows() == [(ANNA, "1")]
    # By our own clock it has stood for ten seconds, whatever its time says.
    drop.tick += 2
    assert not drop.extracts.look()
    assert drop.rows() == [(ANNA, "2"), (BO, "3")]


def test_a_start_waits_for_a_file_that_still_grows(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.now = time.time()

    def pass_by(_seconds: float) -> bool:
        drop.tick += 1
        return False

    monkeypatch.setattr(drop.extracts._closing, "wait", pass_by)
    drop.begin(MAPPING.replace("settle = 0", "settle = 30"))
    assert drop.tick == 1030
    assert drop.rows() == [(ANNA, "1")]


def test_a_file_that_changes_while_it_is_read_is_not_taken(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drop.write("person_1.csv", (ANNA, "", 1))

    def meddled(*given: object) -> Iterator[object]:
        yield from read_rows(*given)  # type: ignore[arg-type]  # as given
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{BO},,3\n")

    monkeypatch.setattr(extract_load, "read_rows", meddled)
    assert findings(drop) == ["5 file.person: person_1.csv: was changed while it was read"]


def test_a_file_waits_for_its_companion_and_must_have_its_hash(drop: Drop) -> None:
    text = MAPPING.replace("settle = 0", 'settle = 0\ncompanion = "sha256"')
    path = drop.write("person_1.csv", (ANNA, "", 1))
    assert findings(drop, text) == ["5 file.person: there is no file person_*.csv with its companion .sha256"]
    beside = drop.files / "person_1.csv.sha256"
    beside.write_text(f"{hashlib.sha256(b'other').hexdigest()}  person_1.csv\n", "ascii")
    drop.extracts = drop.another()
    assert "does not have the hash that its companion .sha256 says" in findings(drop, text)[0]
    beside.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  person_1.csv\n", "ascii")
    drop.begin(text)
    assert drop.rows() == [(ANNA, "1")]
    # The next one is not there yet for as long as its companion is not.
    drop.write("person_2.csv", (ANNA, "", 2))
    drop.extracts.look()
    assert (drop.rows(), drop.extracts.problems) == ([(ANNA, "1")], {})


def test_a_companion_from_yesterday_does_not_bless_the_file_of_today(drop: Drop) -> None:
    text = MAPPING.replace("settle = 0", 'settle = 0\ncompanion = "done"')
    drop.write("person_1.csv", (ANNA, "", 1), written=NOW - 60)
    done = drop.files / "person_1.csv.done"
    done.touch()
    os.utime(done, (NOW - 86400, NOW - 86400))
    assert "is younger than its companion .done" in findings(drop, text)[0]
    os.utime(done, (NOW, NOW))
    drop.extracts = drop.another()
    drop.begin(text)
    assert drop.rows() == [(ANNA, "1")]


def test_names_on_their_way_to_another_name_are_not_looked_at(drop: Drop) -> None:
    drop.write("-person_1.csv", (ANNA, "", 1))
    drop.write(".person_9.csv", (ANNA, "", 9))
    drop.write("person_9.csv.part", (ANNA, "", 9))
    # A pattern that a dot in front would fit too.
    drop.begin(MAPPING.replace("person_*.csv", "*person_*.csv"))
    assert drop.rows() == [(ANNA, "1")]


# What readers see.


def test_whoever_reads_an_old_load_ends_with_it(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    mapping = drop.begin()
    connections = connect_to(mapping.database, drop.directory)
    with connections.lend() as reader:
        assert reader.fetch("SELECT months FROM person") == [("1",)]
        drop.write("person_2.csv", (ANNA, "", 2))
        drop.extracts.look()
        assert reader.fetch("SELECT months FROM person") == [("1",)]
        with connections.lend() as other:
            assert other.fetch("SELECT months FROM person") == [("2",)]
    with connections.lend() as reader:
        assert reader.fetch("SELECT months FROM person") == [("2",)]
    connections.close()


def test_an_answer_from_an_old_load_is_told_as_old_as_it_is(drop: Drop) -> None:
    drop.write("person_1.csv", (ANNA, "", 1), written=NOW - 7200)
    mapping = drop.begin()
    connections = connect_to(mapping.database, drop.directory)
    published = document(attribute("months", 'type = "integer"\nat_least = [6]'))
    source = Source(connections, mapping, published.attributes, clock=lambda: NOW)
    with source.lend() as old:
        drop.write("person_2.csv", (ANNA, "", 2), written=NOW - 60)
        drop.extracts.look()
        with source.lend() as new:
            assert source.loaded(new, "person").time == int(NOW) - 60
            assert source.loaded(old, "person").time == int(NOW) - 7200
            assert source.loaded(new, "person").time == int(NOW) - 60
    source.close()


def test_readers_never_see_half_a_load(drop: Drop) -> None:
    """Each load has one number in all its rows; nobody may ever read two."""
    drop.write("person_0.csv", *((f"{ANNA}{i}", "", 0) for i in range(300)))
    mapping = drop.begin()
    seen: list[tuple[object, ...]] = []
    stop = threading.Event()

    def read() -> None:
        connections = connect_to(mapping.database, drop.directory)
        while not stop.is_set():
            with connections.lend() as lent:
                seen.extend(lent.fetch("SELECT count(*), min(months), max(months) FROM person"))
        connections.close()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 8):
        drop.write(f"person_{number}.csv", *((f"{ANNA}{i}", "", number) for i in range(300)))
        drop.extracts.look()
    stop.set()
    for reader in readers:
        reader.join()
    assert len(seen) > 1
    assert all(count == 300 and least == most for count, least, most in seen), seen


def test_values_are_never_statements(drop: Drop) -> None:
    evil = "'); DROP TABLE person; --"
    drop.write("person_1.csv", (ANNA, "", evil), (evil, '"', "1"))
    drop.begin()
    assert drop.rows() == [(ANNA, evil), (evil, "1")]


# The machine.


def test_without_space_the_last_load_stays_and_it_is_tried_again_later(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.begin()
    drop.write("person_2.csv", (ANNA, "", 2))
    calls: list[Job] = []

    def full(_self: Extracts, job: Job) -> Result:
        calls.append(job)
        return Result(outcome="no space")

    with monkeypatch.context() as patch:
        patch.setattr(Extracts, "_run", full)
        drop.extracts.look()
        drop.extracts.look()
    assert (len(calls), drop.rows()) == (1, [(ANNA, "1")])
    assert drop.extracts.problems == {"person": "there is no space for the private database"}
    drop.extracts.look()
    assert drop.rows() == [(ANNA, "1")]
    drop.tick += extracts.RETRY_SECONDS + 1
    drop.extracts.look()
    assert (drop.rows(), drop.extracts.problems) == ([(ANNA, "2")], {})


def test_metrics_tell_age_size_and_failure_of_each_file(drop: Drop) -> None:
    registry = CollectorRegistry()
    ExtractMetrics(drop.extracts, registry)
    drop.write("person_1.csv", (ANNA, "", 1), (BO, "", 1))
    drop.begin()
    drop.write("person_2.csv")
    drop.extracts.look()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"zhiwang_adapter_extract_{name}", {"extract": "person"} | labels)

    assert value("rows") == 2
    assert value("written_seconds") == int(NOW) - 3600
    assert value("failing") == 1
    assert value("loads_total", result="loaded") == 1
    assert value("loads_total", result="refused") == 1


async def test_the_watch_takes_up_a_file_and_says_so_and_no_error_ends_it(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extracts, "LOOK_SECONDS", 0.01)
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.begin()
    look, broken = drop.extracts.look, asyncio.Event()

    def fragile() -> bool:
        if not broken.is_set():
            broken.set()
            raise RuntimeError(ANNA)
        return look()

    monkeypatch.setattr(drop.extracts, "look", fragile)
    told = asyncio.Event()

    async def loaded() -> None:
        told.set()

    with capture_logs() as logs:
        watch = asyncio.create_task(drop.extracts.watch(loaded))
        drop.write("person_2.csv", (ANNA, "", 2))
        async with asyncio.timeout(30):
            await told.wait()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    assert drop.rows() == [(ANNA, "2")]
    assert ANNA not in str(logs)


# The process that loads.


def test_another_process_loads_and_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    drop = Drop(tmp_path)
    drop.write("person_1.csv", (ANNA, "", 1))
    write_xlsx(drop.files / "cards.xlsx", [("id", "n"), (CHEN, 7)])
    drop.path.write_text(MAPPING + '[file.card]\npath = "cards.xlsx"\ncolumns = ["id", "n"]\nsettle = 0\n', "utf-8")
    with taken_up(load_mapping(drop.path), drop.path, None) as (mapping, warnings):
        assert not warnings
        database = Path(mapping.database.url.removeprefix("sqlite:///file:").partition("?")[0])
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT id, n FROM card").fetchall() == [(CHEN, "7")]
    assert not database.parent.exists()


def test_a_workbook_that_needs_too_much_memory_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "big.xlsx", [("text",), *((f"{number:0400d}",) for number in range(25_000))])
    file = ExtractFile(path=path.name, columns=("text",))
    job = Job(
        directory=str(tmp_path),
        target=str(tmp_path / "new.db"),
        current=None,
        now=int(NOW),
        tasks={"big": Task(file=file, index=(), stamp=Stamp.of(path.name, path.stat()))},
    )
    program = "import adapters.extract_load as loading; loading.MEMORY = 40 << 20; loading.main()"
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, input=job.model_dump_json().encode(), stdout=subprocess.PIPE, check=True).stdout  # noqa: S603 - ours
    result = Result.model_validate_json(said)
    assert (result.outcome, list(result.refused)) == ("incomplete", ["big"])
    assert "of memory; deliver it as CSV" in result.refused["big"]
    assert not (tmp_path / "new.db").exists()


def test_closing_ends_a_load_that_is_running(tmp_path: Path) -> None:
    drop = Drop(tmp_path)
    drop.write("person_1.csv", (ANNA, "", 1))
    drop.begin()
    with (drop.files / "person_2.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(HEADINGS) + "\n")
        file.writelines(f"{i},,{i}\n" for i in range(500_000))
    looking = threading.Thread(target=drop.extracts.look)
    looking.start()
    deadline = time.monotonic() + 60
    while drop.extracts._process is None and looking.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    process = drop.extracts._process
    assert process is not None
    drop.extracts.close()
    looking.join(60)
    assert process.returncode == -signal.SIGKILL
    assert drop.rows() == [(ANNA, "1")]
    assert [path.name for path in (tmp_path / "private").iterdir()] == ["extracts.db"]
    drop.close()


def test_a_process_that_ends_early_is_a_failure_of_the_machine_not_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = Drop(tmp_path)
    drop.write("person_1.csv", (ANNA, "", 1))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert findings(drop) == [
        "5 file.person: the load failed for a reason of this machine; it is tried again within a minute"
    ]
    drop.close()
