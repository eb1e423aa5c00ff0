"""Who asked about somebody, from the asking to the report: with the real store, log, seal and policy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import subject_support as support
from adapter_frames import EDU, Bureau
from adapter_support import ANNA, BO, CHEN, DING, document, resident
from audit.entry import decode_entry
from audit_support import close
from log_places import PostgresDatabase
from subject_support import DESK, MONTHS, PARENT, People, report_request, shown, told
from zhiwang.adapter.v1 import subject_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.header import parse_header
from zhiwang.wire.records import REPORT_SIZES, Outcome

BULK = {"priority": sealed_pb2.PRIORITY_BULK}


@pytest.fixture
def bureau(tmp_path: Path, store: PostgresDatabase | None) -> Iterator[Bureau]:
    bureau = support.bureau_in(tmp_path, store)
    bureau.directory_ = replace(bureau.directory_, expires=bureau.now + 400 * 86_400)
    yield bureau
    bureau.close()


def questions(row: subject_pb2.Lookups) -> set[tuple[str, bool]]:
    return {(one.attribute, one.compared) for one in row.asked}


TOLD = ("SELECT subject FROM trace", "SELECT hash, nonce, ciphertext FROM replay", "SELECT data FROM log_entry")


def everything(bureau: Bureau) -> bytes:
    """All bytes of the owner's state but its keys, and what a database has in its place."""
    files = [path for path in sorted(bureau.state.directory.rglob("*")) if path.is_file() and path.suffix != ".key"]
    rows = [] if bureau.place is None else [row for select in TOLD for row in bureau.stored(select)]
    return b"".join([*(path.read_bytes() for path in files), *(bytes(cell) for row in rows for cell in row)])


def test_a_report_holds_every_ask_about_a_person_and_nothing_else(bureau: Bureau) -> None:
    people = [ANNA, BO, CHEN, DING, *(resident(serial) for serial in range(10, 16))]
    oracle: dict[str, list[tuple[str, str, bool]]] = {one: [] for one in people}
    for number in range(30):
        who, other = people[number * 7 % 10], people[(number * 7 + 3) % 10]
        reference = f"2026-{number:06}"
        if number % 3:
            bureau.ask_all([MONTHS], {"child": who}, reference=reference, official=f"clerk-{number % 4}")
            oracle[who].append((reference, "hrss.months", False))
        else:
            bureau.ask_all([PARENT], {"child": who, "guardian": other}, reference=reference)
            oracle[who].append((reference, "hrss.parent", False))
            oracle[other].append(("", "hrss.parent", True))
    for who in people:
        bureau.now += 86_400  # four people may be looked up in a day
        report = People(bureau).read(who)
        found = [(row.reference, one.attribute, one.compared) for row in report.lookups for one in row.asked]
        assert sorted(found) == sorted(oracle[who])
        moments = [row.last_time.ToNanoseconds() for row in report.lookups]
        assert moments == sorted(moments, reverse=True)
        assert [row.read for row in report.lookups].count(True) == 1


def test_the_compared_person_is_told_of_the_ask_but_not_whose_case_it_was(bureau: Bureau) -> None:
    bureau.ask_all([PARENT, MONTHS], {"child": ANNA, "guardian": BO})
    (row,) = shown(told(bureau, BO))
    assert questions(row) == {("hrss.parent", True)}
    assert (row.reference, row.matter, row.official, row.system) == ("", "school", "clerk-17", "enrolment")
    (row,) = shown(told(bureau, ANNA))
    assert questions(row) == {("hrss.parent", False), ("hrss.months", False)}
    assert row.reference == "2026-000123"


def test_a_person_compared_by_a_typed_identifier_is_told_as_well(bureau: Bureau) -> None:
    bureau.ask_all([f"child: hrss.parent related {BO}"], {"child": ANNA})
    (row,) = shown(told(bureau, BO))
    assert questions(row) == {("hrss.parent", True)}


def test_what_policy_denied_of_an_opened_request_is_told_as_denied(bureau: Bureau) -> None:
    secret = "guardian: hrss.secret at_least 6"
    outcomes = bureau.ask_all([MONTHS, secret], {"child": ANNA, "guardian": BO})
    assert outcomes[1].name.startswith("DENIED")
    (row,) = shown(told(bureau, BO))
    assert [(one.attribute, one.fate) for one in row.asked] == [("hrss.secret", subject_pb2.FATE_DENIED)]
    (row,) = shown(told(bureau, ANNA))
    assert [one.fate for one in row.asked] == [subject_pb2.FATE_ALLOWED]


def test_a_guess_too_many_is_told_as_refused_to_both_whom_it_was_about(bureau: Bureau) -> None:
    for guess in (CHEN, DING, BO):
        last = bureau.ask_all([PARENT], {"child": ANNA, "guardian": guess}, reference="2026-000009")
    assert last == [Outcome.GUESSES_SPENT]
    fates = [row.asked[0].fate for row in shown(told(bureau, ANNA))]
    assert sorted(fates) == [subject_pb2.FATE_ALLOWED, subject_pb2.FATE_ALLOWED, subject_pb2.FATE_REFUSED]
    (row,) = shown(told(bureau, BO))
    assert row.asked[0].fate == subject_pb2.FATE_REFUSED


def test_only_what_was_refused_is_told_as_refused(bureau: Bureau) -> None:
    for street in range(1, 7):  # a department may assert five places of one person
        bureau.ask_all([MONTHS, PARENT], {"child": ANNA, "guardian": BO}, jurisdiction=f"nbs:44030600{street}")
    newest, *older = shown(told(bureau, ANNA))
    assert {one.attribute: one.fate for one in newest.asked} == {
        "hrss.months": subject_pb2.FATE_REFUSED,
        "hrss.parent": subject_pb2.FATE_ALLOWED,
    }
    assert {one.fate for row in older for one in row.asked} == {subject_pb2.FATE_ALLOWED}
    assert shown(told(bureau, BO))[0].asked[0].fate == subject_pb2.FATE_ALLOWED


def test_a_routine_job_is_one_row_with_its_count_and_period(bureau: Bureau) -> None:
    first = bureau.now
    for number in range(4):
        cases = [{"child": who} for who in (ANNA, BO, resident(20 + number))]
        bureau.ask_all([MONTHS], *cases, reference="2026-900000", **BULK)
        bureau.now += 60
    bureau.ask_all([MONTHS], {"child": ANNA}, reference="2026-900001", **BULK)
    bureau.ask_all([MONTHS], {"child": ANNA})
    rows = {row.reference: row for row in shown(told(bureau, ANNA))}
    assert {reference: row.entries for reference, row in rows.items()} == {
        "2026-900000": 4,
        "2026-900001": 1,
        "2026-000123": 1,
    }
    job = rows["2026-900000"]
    assert job.routine
    assert (job.first_time.seconds, job.last_time.seconds) == (int(first), int(first) + 180)


def test_no_other_person_and_no_place_below_the_city_stands_in_a_report(bureau: Bureau) -> None:
    bureau.directory_ = replace(
        bureau.directory_,
        documents={**bureau.directory_.documents, "edu": document(EDU, "edu")},
        matters={"school": replace(bureau.matter, reference="[0-9A-Z-]{4,20}", official="[0-9a-z-]{4,20}")},
    )
    cases = [{"child": ANNA, "guardian": BO}, {"child": CHEN, "guardian": DING}]
    bureau.ask_all([PARENT], *cases, jurisdiction="nbs:440306001", reference="NS-440305-17", official="clerk-440306")
    bureau.ask_all([MONTHS], {"child": ANNA}, short="edu/system/futian", jurisdiction="nbs:440304", official="clerk-9")
    report = told(bureau, ANNA)
    plain = report.SerializeToString() + str(report).encode()
    for hidden in (*support.EVERYBODY, "4403050", "440306", "440305", "440304", "futian", "clerk-9"):
        assert hidden.encode() not in plain, hidden
    assert [(row.department, row.city) for row in shown(report)] == [("edu", "nbs:4403"), ("edu", "nbs:4403")]
    assert all(row.matter == "school" for row in report.lookups)


def test_a_report_tells_of_the_desks_own_look_ups(bureau: Bureau) -> None:
    (row,) = told(bureau, ANNA).lookups
    assert row.this_request
    assert (row.department, row.system, row.reference) == ("civil", "cards", "2026-700001")
    second = told(bureau, ANNA, reference="2026-700002")
    assert [(row.reference, row.this_request) for row in second.lookups] == [
        ("2026-700002", True),
        ("2026-700001", False),
    ]
    People(bureau).read(ANNA, reference="2026-800001")
    read = [row for row in told(bureau, ANNA).lookups if row.read]
    assert [(row.department, row.official, row.reference) for row in read] == [("hrss", "wu", "2026-800001")]


def test_a_report_is_as_long_for_who_was_asked_about_often_as_for_who_never_was(bureau: Bureau) -> None:
    for number in range(40):
        bureau.ask_all([MONTHS], {"child": ANNA}, reference=f"2026-{number:06}")
    sizes = {len(bureau.send(report_request(bureau, who))[0].reply.ciphertext) for who in (ANNA, BO)}
    assert len(sizes) == 1
    assert REPORT_SIZES[0] < sizes.pop() < REPORT_SIZES[0] + 200


def test_an_official_and_a_department_have_reports_about_so_many_people_a_day(bureau: Bureau) -> None:
    people = [resident(serial) for serial in range(30, 36)]
    for who in (*people[:3], people[0]):  # the same person again costs nothing
        told(bureau, who)
    refused = support.opened(bureau, report_request(bureau, people[3]))
    assert (list(refused.outcomes), refused.report) == ([Outcome.REPORTS_SPENT], b"")
    told(bureau, people[3], official="clerk-18")
    refused = support.opened(bureau, report_request(bureau, people[4], official="clerk-19"))
    assert list(refused.outcomes) == [Outcome.REPORTS_SPENT]
    # The refused one was recorded about that person, and is told.
    bureau.now += 86_400
    assert [row.asked[0].fate for row in told(bureau, people[4]).lookups if not row.this_request] == [
        subject_pb2.FATE_REFUSED
    ]


def test_the_same_bytes_get_the_same_reply_once_and_none_after_their_time(bureau: Bureau) -> None:
    request = report_request(bureau, ANNA)
    first, second = bureau.send(request)[0], bureau.send(request)[0]
    assert first.reply == second.reply
    assert first.entry.entry == second.entry.entry
    other = sealed_pb2.SealedRequest()
    other.CopyFrom(request)
    other.request_root = b"r" * 32
    assert bureau.send(other)[0].reason == "SIGNATURE_INVALID"
    bureau.now += 60
    assert bureau.send(request)[0].reason == "REQUEST_EXPIRED"


def test_one_who_is_not_granted_a_report_gets_none_and_is_recorded(bureau: Bureau) -> None:
    request = bureau.request([support.REPORT], [{"child": ANNA}])
    size = bureau.log.newest.size
    assert bureau.send(request)[0].reason == "NOT_GRANTED"
    (entry,) = bureau.log.entries(size, 1)
    assert decode_entry(entry).refusal.header_hash == parse_header(request.header).hash


def test_the_reply_to_one_session_opens_for_no_other(bureau: Bureau) -> None:
    request = report_request(bureau, ANNA)
    item = bureau.send(request)[0]
    header = parse_header(request.header)
    other = bureau.requester("edu/system/enrolment").context
    with pytest.raises(RefusedError, match="SEAL_BROKEN"):
        other.open_reply(header.hash, item.reply.nonce, item.reply.ciphertext)


def test_a_delay_hides_until_its_date_and_not_a_second_longer(bureau: Bureau) -> None:
    bureau.ask_all([MONTHS], {"child": ANNA}, reference="2026-000001")
    bureau.ask_all([MONTHS], {"child": ANNA}, reference="2026-000002")
    admin = People(bureau, "hrss/admin/one")
    size = bureau.log.newest.size
    assert admin.delay(86_400 * 10, reference="2026-000001") == size
    order = decode_entry(bureau.log.entries(size, 1)[0]).entries_delayed
    assert (order.order, order.reference, order.by) == (
        "2026-D-1",
        "2026-000001",
        "spiffe://shenzhen/hrss/admin/one",
    )
    bureau.ask_all([MONTHS], {"child": ANNA}, reference="2026-000001")  # later ones, too
    assert [row.reference for row in shown(told(bureau, ANNA))] == ["2026-000002"]
    # The owner's auditors and the audit office see through it, and it is marked for them.
    for caller in ("hrss/auditor/wu", "office/auditor/zhao"):
        whole = [row for row in People(bureau, caller).read(ANNA, whole=True).lookups if row.delayed]
        assert [row.reference for row in whole] == ["2026-000001"] * 2
        assert all(row.reference != "2026-000001" for row in People(bureau, caller).read(ANNA).lookups)

    def count() -> int:
        return sum(row.matter == "school" for row in shown(People(bureau).read(ANNA)))

    bureau.now += 86_400 * 10 - 1
    assert count() == 1
    bureau.now += 1
    assert count() == 3


@pytest.mark.parametrize(
    ("seconds", "fields"),
    [
        (367 * 86_400, {"reference": "2026-000001"}),
        (0, {"reference": "2026-000001"}),
        (60, {"department": "edu"}),
        (60, {"reference": "2026-000001", "order": ""}),
        (60, {"reference": ANNA}),
    ],
)
def test_no_delay_is_longer_than_a_year_or_hides_a_whole_department(
    bureau: Bureau, seconds: float, fields: dict[str, str]
) -> None:
    size = bureau.log.newest.size
    with pytest.raises(RefusedError, match=r"(DELAY|ORDER)_INVALID"):
        People(bureau, "hrss/admin/one").delay(seconds, **fields)
    assert bureau.log.newest.size == size


def test_only_the_owners_own_admins_order_and_only_who_may_read_the_log_is_told(bureau: Bureau) -> None:
    stranger = People(bureau, "edu/admin/one")
    for act in (lambda: stranger.delay(60, reference="2026-000001"), lambda: stranger.erase(ANNA)):
        with pytest.raises(RefusedError, match="RPC_NOT_ALLOWED"):
            act()
    with pytest.raises(RefusedError, match="RPC_NOT_ALLOWED"):
        People(bureau, "edu/auditor/one").read(ANNA)


def test_an_erased_person_leaves_no_byte_in_the_index_and_every_proof_still_holds(bureau: Bureau) -> None:
    crowd = [resident(serial) for serial in range(100, 500)]
    for start in range(0, len(crowd), 100):
        cases = [{"child": who} for who in [ANNA, BO, *crowd[start : start + 98]]]
        bureau.ask_all([MONTHS], *cases, reference="2026-900000", **BULK)
    trace = People(bureau).reader._trace
    (anna,) = trace.subjects("person", ANNA).values()
    (bo,) = trace.subjects("person", BO).values()
    assert anna in everything(bureau)
    size = bureau.log.newest.size
    erased = People(bureau, "hrss/admin/one").erase(ANNA)
    assert (erased.index, erased.overwritten, erased.in_database) == (
        size,
        bureau.place is None,
        bureau.place is not None,
    )
    assert anna not in everything(bureau)
    assert bo in everything(bureau)
    entry = decode_entry(bureau.log.entries(size, 1)[0])
    assert entry.subject_erased.order == "2026-E-1"
    assert anna not in entry.SerializeToString()
    assert bureau.log.verify_all().size == size + 1
    bureau.now += 60
    assert shown(told(bureau, ANNA)) == []
    (row,) = shown(told(bureau, BO))
    assert row.entries == 4


def test_what_is_held_is_not_erased(bureau: Bureau) -> None:
    bureau.ask_all([MONTHS], {"child": ANNA})
    admin = People(bureau, "hrss/admin/one")
    admin.hold(matter="school")
    size = bureau.log.newest.size
    with pytest.raises(RefusedError, match="SUBJECT_HELD"):
        admin.erase(ANNA)
    assert bureau.log.newest.size == size
    assert len(shown(told(bureau, ANNA))) == 1


def test_a_year_whose_key_is_destroyed_tells_nothing_any_more(bureau: Bureau) -> None:
    bureau.ask_all([MONTHS], {"child": ANNA})
    bureau.now += 86_400 * 366
    reader = People(bureau)
    assert list(reader.read(ANNA).years) == [2026, 2027]
    assert any(row.matter for row in reader.read(ANNA).lookups)
    (bureau.state.keys / "trace-2026.key").unlink()
    report = reader.read(ANNA)
    assert list(report.years) == [2027]
    assert not any(row.matter for row in report.lookups)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_rows_of_an_older_release_are_still_told(bureau: Bureau) -> None:
    bureau.ask_all([PARENT], {"child": ANNA, "guardian": BO})
    close(bureau.log)
    with closing(sqlite3.connect(bureau.state.store)) as connection:
        connection.executescript(
            "ALTER TABLE trace DROP COLUMN part; ALTER TABLE trace DROP COLUMN refused; DROP TABLE delay;"
        )
    bureau.log = bureau.reopened()
    bureau.frames = bureau.processor(bureau.log)
    (row,) = shown(told(bureau, BO))
    assert questions(row) == {("hrss.parent", False)}
    assert shown(told(bureau, DING)) == []


def test_the_log_says_who_looked_whom_up_but_not_whom(bureau: Bureau) -> None:
    People(bureau).read(ANNA)
    told(bureau, ANNA)
    assert ANNA.encode() not in everything(bureau)
    events = [decode_entry(data).WhichOneof("event") for data in bureau.log.entries(0, 10)]
    assert events.count("subject_read") == 1
    assert DESK == "civil/system/cards"
