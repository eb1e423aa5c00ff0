"""Whose names tell no place, and how rows become one report."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from adapters.delays import Delays
from adapters.report import Names, compile_report, row_of
from adapters.trace import SCHEMA, Stand, Trace, slot_part, value_part
from policy.model import DepartmentInfo, Title
from zhiwang.adapter.v1 import subject_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.header import MAX_SLOTS, MAX_VALUES
from zhiwang.wire.places import Jurisdiction

NOW = 1_790_000_000.0


def member(name: str, home: str, **systems: str) -> DepartmentInfo:
    homes = {system: Jurisdiction.parse(place) for system, place in systems.items()}
    return DepartmentInfo(name, Title(name, name), Jurisdiction.parse(home), homes)


CITY = Names(
    {one.name: one for one in (member("edu", "nbs:4403", a="nbs:4403", b="nbs:440305"), member("bao", "nbs:440306"))}
)


def test_who_is_at_home_below_the_city_is_not_named() -> None:
    assert CITY.department("edu")
    assert CITY.system("edu", "a")
    assert not CITY.system("edu", "b")
    assert not CITY.department("bao")


def test_who_is_no_member_is_not_named() -> None:
    assert not CITY.department("gone")
    assert not CITY.system("edu", "gone")
    assert not Names.of(None).department("edu")


def test_in_a_district_by_itself_a_home_tells_nothing() -> None:
    district = Names(
        {
            one.name: one
            for one in (member("edu", "nbs:440305", a="nbs:440305", b="nbs:440305001"), member("health", "nbs:440305"))
        }
    )
    assert district.department("edu")
    assert district.system("edu", "a")
    assert not district.system("edu", "b")


def access(*claims: sealed_pb2.ClaimShape, denied: int | None = None) -> audit_pb2.Entry:
    header = sealed_pb2.Header(
        system="spiffe://shenzhen/edu/system/a", owner="hrss", jurisdiction="nbs:440305001", claims=claims
    )
    owner = audit_pb2.OwnerAccess(header=header.SerializeToString(), denied_claims=[] if denied is None else [denied])
    return audit_pb2.Entry(owner_access=owner)


@given(slot=st.integers(0, MAX_SLOTS - 1), value=st.integers(0, MAX_VALUES - 1))
def test_every_place_in_a_request_has_a_part_of_its_own(slot: int, value: int) -> None:
    asked = sealed_pb2.ClaimShape(slot=slot, attribute="a", predicate=sealed_pb2.PREDICATE_EXISTS)
    compared = sealed_pb2.ClaimShape(
        slot=(slot + 1) % MAX_SLOTS, attribute="b", predicate=sealed_pb2.PREDICATE_RELATED, compared_value=value
    )
    entry = access(asked, compared)
    for part, expected in ((slot_part(slot), [("hrss.a", False)]), (value_part(value), [("hrss.b", True)])):
        row = row_of(entry, 7, Stand(part), CITY, Delays())
        assert row is not None
        assert [(one.attribute, one.compared) for one in row.asked] == expected
        assert row.city == "nbs:4403"


def test_an_entry_that_is_about_nobody_is_no_row() -> None:
    assert row_of(audit_pb2.Entry(log_opened=audit_pb2.LogOpened(origin="x")), 0, Stand(1), CITY, Delays()) is None
    broken = audit_pb2.Entry(owner_access=audit_pb2.OwnerAccess(header=b"\xff"))
    assert row_of(broken, 0, Stand(1), CITY, Delays()) is None


@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans(), st.sampled_from("abc")), max_size=40), st.integers(200, 4000)
)
def test_no_entry_is_lost_between_rows_and_what_was_left_out(rows: list[tuple[int, bool, str]], room: int) -> None:
    made = []
    for place, (second, routine, reference) in enumerate(rows):
        row = subject_pb2.Lookups(entries=1, index=place, routine=routine, reference=reference)
        row.first_time.seconds = row.last_time.seconds = second
        made.append(row)
    report = compile_report("hrss", NOW, [2026], made, whole=False, max_bytes=room)
    assert report.ByteSize() <= room + 8
    full = compile_report("hrss", NOW, [2026], made, whole=False, max_bytes=1 << 20)
    assert sum(row.entries for row in full.lookups) == len(rows)
    assert len(report.lookups) + report.left_out == len(full.lookups)
    assert list(report.lookups) == list(full.lookups)[: len(report.lookups)]
    times = [row.last_time.seconds for row in full.lookups]
    assert times == sorted(times, reverse=True)


@given(st.integers(0, (1 << 64) - 1))
def test_every_claim_of_a_request_can_be_marked_as_refused(refused: int) -> None:
    with TemporaryDirectory() as directory, closing(sqlite3.connect(":memory:")) as connection:
        trace = Trace(Path(directory), lambda: NOW)
        connection.execute(SCHEMA[0])
        row = trace.row("person", "x", 5, Stand(3, refused))
        connection.execute("INSERT INTO trace VALUES (?, ?, ?, ?, ?)", row)
        assert trace.find(connection, "person", "x") == [(5, (3, refused))]
