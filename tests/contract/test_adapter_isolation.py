"""What one request, one clock or one release before ours must not do to the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from adapter_frames import Bureau, grants
from adapter_support import ANNA, BO, attribute
from audit.entry import decode_entry
from audit_support import close
from log_places import PostgresDatabase
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.records import Outcome

YES, NO = Outcome.YES, Outcome.NO
MONTHS = "child: hrss.months at_least 12"
CARD = "child: hrss.card exists"
GUESS = "child: hrss.status equals {}"

MAPPING = """
[limits]
values = 1

[data.person]
table = "person"
subject = "id_card"

[attribute.months]
data = "person"
value = "months"

[attribute.status]
data = "person"
value = "employer"

[attribute.card]
data = "person"
"""


@pytest.fixture
def bureau(tmp_path: Path, store: PostgresDatabase | None) -> Iterator[Bureau]:
    bureau = Bureau(
        tmp_path,
        store=store,
        tables="CREATE TABLE person (id_card TEXT, months INTEGER, employer TEXT);",
        rows={"person": [(ANNA, 12, "A1"), (BO, 3, "B2")]},
        mapping=MAPPING,
        published=attribute("months", 'type = "integer"\nat_least = [12]')
        + attribute("status", 'type = "code"\nasks = ["equals"]')
        + attribute("card", 'asks = ["exists"]')
        + grants(["hrss.months at_least", "hrss.status equals", "hrss.card exists"]),
    )
    yield bureau
    bureau.close()


# An error that nobody foresaw concerns its request alone.


def _spoil(bureau: Bureau, monkeypatch: pytest.MonkeyPatch, stage: str, reference: str) -> None:
    """Have the adapter fail at a stage for requests with one reference."""
    owners: dict[str, object] = {
        "prepare": bureau.examiner,
        "evaluate": bureau.examiner,
        "_identify": bureau.frames,
        "_seal": bureau.frames,
    }
    owner = owners[stage]
    right = getattr(owner, stage)

    def failing(*arguments: object) -> object:
        if reference in _said(arguments):
            raise ZeroDivisionError("what nobody foresaw")
        return right(*arguments)

    monkeypatch.setattr(owner, stage, failing)


def _said(arguments: tuple[object, ...]) -> str:
    """References of the requests in a call of any stage."""
    first = arguments[1] if isinstance(arguments[0], int) else arguments[0]
    if isinstance(first, list):
        return " ".join(one.header.reference for one in first)
    header = getattr(getattr(first, "request", None), "header", first)
    return header.decode("latin-1") if isinstance(header, bytes) else str(getattr(header, "reference", ""))


@pytest.mark.parametrize("stage", ["_identify", "prepare", "evaluate", "_seal"])
def test_an_error_that_nobody_foresaw_fails_its_request_and_no_neighbour(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    bad = bureau.request([MONTHS], [{"child": ANNA}], reference="2026-666666")
    good = [bureau.request([MONTHS], [{"child": who}]) for who in (ANNA, BO)]
    _spoil(bureau, monkeypatch, stage, "2026-666666")
    size = bureau.log.newest.size
    items = bureau.send(good[0], bad, good[1], bad)
    assert [item.reason for item in items] == ["", "OWNER_FAILED", "", "OWNER_FAILED"]
    assert not items[1].HasField("reply")
    assert [bureau.open(good[0], items[0]), bureau.open(good[1], items[2])] == [[YES], [NO]]
    entries = [decode_entry(data) for data in bureau.log.entries(size, 100)]
    assert [entry.WhichOneof("event") for entry in entries].count("owner_access") == 2
    refused = [entry.refusal for entry in entries if entry.WhichOneof("event") == "refusal"]
    assert {one.reason for one in refused} == {"OWNER_FAILED"}
    assert sum(one.count for one in refused) >= 1


def test_a_request_that_failed_costs_no_guess_of_another(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = bureau.request([GUESS.format("X1")], [{"child": ANNA}], reference="2026-666666")
    good = bureau.request([GUESS.format("A1")], [{"child": ANNA}])
    _spoil(bureau, monkeypatch, "evaluate", "2026-666666")
    items = bureau.send(bad, good)
    assert items[0].reason == "OWNER_FAILED"
    assert bureau.open(good, items[1]) == [YES]


def test_the_same_bytes_after_those_that_failed_get_the_answer_that_was_recorded(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    seal = bureau.frames._seal
    failures = [ZeroDivisionError("once")]

    def failing(opened: object) -> object:
        if failures:
            raise failures.pop()
        return seal(opened)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(bureau.frames, "_seal", failing)
    items = bureau.send(request, request)
    assert items[0].reason == "OWNER_FAILED"
    assert bureau.open(request, items[1]) == [YES]


# Replays, whatever the clock does.


def test_a_clock_that_is_set_back_lets_nothing_be_answered_anew(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    start = bureau.now
    assert not bureau.send(request)[0].reason
    bureau.now += 60
    assert bureau.ask_all([MONTHS], {"child": BO}) == [NO]
    with bureau.log.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM replay").scalar_one() == 1
    bureau.now = start + 1
    assert bureau.send(request)[0].reason == "REQUEST_EXPIRED"
    # Also by a process that begins now, and what is new is answered once time has caught up.
    log = bureau.reopened()
    bureau.frames = bureau.processor(log)
    assert bureau.send(request)[0].reason == "REQUEST_EXPIRED"
    close(log)
    bureau.frames = bureau.processor(bureau.log)
    bureau.now = start + 61
    assert bureau.ask_all([MONTHS], {"child": ANNA}) == [YES]


def test_a_clock_that_leaps_ahead_and_returns_lets_nothing_be_answered_anew(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    assert not bureau.send(request)[0].reason
    start = bureau.now
    bureau.now += 1800
    assert bureau.ask_all([MONTHS], {"child": BO}) == [NO]
    bureau.frames.housekeep()
    bureau.now = start
    with structlog.testing.capture_logs() as lines:
        bureau.frames.housekeep()
        bureau.frames.housekeep()
    assert [line["seconds"] for line in lines if line["log_level"] == "error"] == [1800]
    assert bureau.send(request)[0].reason == "REQUEST_EXPIRED"
    assert bureau.send(bureau.request([MONTHS], [{"child": ANNA}]))[0].reason == "REQUEST_EXPIRED"


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_store_of_an_older_release_is_given_its_horizon_at_its_newest_entry(bureau: Bureau) -> None:
    early = bureau.request([MONTHS], [{"child": ANNA}])
    assert not bureau.send(early)[0].reason
    bureau.now += 60
    bureau.ask_all([MONTHS], {"child": BO})
    with sqlite3.connect(bureau.state.store) as connection:
        connection.execute("DROP TABLE replay_horizon")
    connection.close()
    bureau.now -= 59
    log = bureau.reopened()
    bureau.frames = bureau.processor(log)
    assert bureau.send(early)[0].reason == "REQUEST_EXPIRED"
    bureau.now += 60
    assert bureau.ask_all([MONTHS], {"child": ANNA}) == [YES]
    close(log)


def test_another_process_that_forgets_meanwhile_is_noticed(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    bureau.send(request)
    log = bureau.reopened()
    other = bureau.processor(log)
    mine, seal, start = bureau.frames, bureau.frames._seal, bureau.now
    fresh = bureau.request([MONTHS], [{"child": BO}])
    begun: list[bool] = []

    def sealing(opened: object) -> object:
        if not begun:
            begun.append(True)
            bureau.now = start + 60
            bureau.frames = other
            bureau.ask_all([MONTHS], {"child": ANNA})
            bureau.now, bureau.frames = start, mine
        return seal(opened)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(mine, "_seal", sealing)
    assert bureau.send(fresh)[0].reason == "REQUEST_EXPIRED"
    close(log)


# Hours of rosters.


def test_a_roster_outside_its_hours_is_refused_before_it_is_opened_and_a_single_case_never(tmp_path: Path) -> None:
    bureau = Bureau(
        tmp_path,
        tables="CREATE TABLE person (id_card TEXT, months INTEGER);",
        rows={"person": [(ANNA, 12)]},
        # NOW is 22:13:20 in the city.
        mapping='[limits]\nbulk_hours = "20:00-22:14"\n[data.person]\ntable = "person"\nsubject = "id_card"\n'
        '[attribute.months]\ndata = "person"\nvalue = "months"\n',
        published=attribute("months", 'type = "integer"\nat_least = [12]') + grants(["hrss.months at_least"]),
    )
    bulk: dict[str, Any] = {"priority": sealed_pb2.PRIORITY_BULK}
    bureau.now += 20
    within = bureau.request([MONTHS], [{"child": ANNA}], **bulk)
    first = bureau.send(within)[0]
    assert bureau.open(within, first) == [YES]
    bureau.now += 25
    after = bureau.request([MONTHS], [{"child": ANNA}], **bulk)
    disguised = bureau.request([MONTHS], [{"child": ANNA}] * 17)
    # Sealed to nobody's key: it would be KEY_UNKNOWN if anything were opened.
    unopened = bureau.request([MONTHS], [{"child": ANNA}], owner_key_id=b"k" * 16, **bulk)
    single = bureau.request([MONTHS], [{"child": ANNA}])
    items = bureau.send(after, disguised, unopened, single, within)
    assert [item.reason for item in items] == ["BULK_CLOSED", "BULK_CLOSED", "BULK_CLOSED", "", ""]
    assert bureau.open(single, items[3]) == [YES]
    # What was answered within the hours is so after them, in the same bytes.
    assert items[4].reply == first.reply
    assert sum(decode_entry(data).HasField("refusal") for data in bureau.log.entries(0, 100)) == 3
    bureau.close()
