"""An owner's answers, charges and index go on when its log's year turns, and go with a year that is removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import subject_support as support
from adapter_frames import Bureau
from adapter_support import ANNA, BO, CHEN
from adapters.retention import forget_entries, forget_keys
from adapters.rows import Snapshots, fetch
from audit.entry import decode_entry
from audit.origins import position, year_at
from audit.proofs import HeadChecker
from audit.years import YearsView
from certs.identity import Kind
from certs.signing import CertificateVerifier
from log_places import PostgresDatabase
from subject_support import MONTHS, PARENT, People
from zhiwang.wire.records import Outcome


@pytest.fixture
def bureau(tmp_path: Path, store: PostgresDatabase | None) -> Iterator[Bureau]:
    bureau = support.bureau_in(tmp_path, store)
    bureau.directory_ = replace(bureau.directory_, expires=bureau.now + 400 * 86_400)
    yield bureau
    bureau.close()


def turn(bureau: Bureau) -> str:
    """The year of the first log is over. Its origin."""
    bureau.log._ends = 0.0
    return bureau.log.log


def the_hub(bureau: Bureau) -> YearsView:
    verifier = CertificateVerifier(bureau.city.ca_pem, frozenset)
    return YearsView(HeadChecker(verifier, kinds={Kind.ADAPTER}, clock=lambda: bureau.now))


def test_a_request_of_last_year_gets_the_same_reply_from_the_log_that_ended(bureau: Bureau) -> None:
    view, request = the_hub(bureau), bureau.request([MONTHS], [{"child": ANNA}])
    first = bureau.send(request)[0]
    view.verify_head(bureau.last.log)
    old = turn(bureau)
    bureau.ask_all([MONTHS], {"child": BO})
    size = bureau.log.newest.size
    again = bureau.send(request, known=view.known_tree_size, origin=view.known_origin)[0]
    assert (again.reply, again.entry.entry, again.entry.index) == (first.reply, first.entry.entry, first.entry.index)
    assert not again.former
    assert view.verify_head(bureau.last.log).origin == old
    assert bureau.log.newest.size == size, "nothing is recorded twice"


def test_a_repeat_of_last_year_and_a_fresh_request_stand_in_one_frame_under_two_heads(bureau: Bureau) -> None:
    view, request = the_hub(bureau), bureau.request([MONTHS], [{"child": ANNA}])
    first = bureau.send(request)[0]
    view.verify_head(bureau.last.log)
    bureau.ask_all([MONTHS], {"child": ANNA})
    old = turn(bureau)
    fresh = bureau.request([MONTHS], [{"child": BO}])
    items = bureau.send(request, fresh, known=view.known_tree_size, origin=view.known_origin)
    assert [item.former for item in items] == [True, False]
    assert items[0].reply == first.reply
    former = view.verify_head(bureau.last.former_log)
    newest = view.verify_head(bureau.last.log)
    assert (former.origin, newest.origin) == (old, f"{old}/{year_at(bureau.now)}")
    assert view.ended(old) == former
    view.check_entry(items[0].entry, former)
    view.check_entry(items[1].entry, newest)
    assert view.wanted_link is None


def test_a_year_that_turns_while_a_frame_is_answered_changes_no_answer(bureau: Bureau) -> None:
    bureau.ask_all([MONTHS], {"child": ANNA})
    seal = bureau.frames._seal

    def sealing(opened: object) -> object:
        turn(bureau)
        return seal(opened)  # type: ignore[arg-type]  # passed on as it came

    bureau.frames._seal = sealing  # type: ignore[assignment,method-assign]  # the very moment matters
    request = bureau.request([MONTHS], [{"child": BO}])
    (item,) = bureau.send(request)
    assert bureau.open(request, item) == [Outcome.NO]
    assert bureau.log.origin != bureau.log.log
    with Snapshots(bureau.log.engine).read() as reading:
        newest = max(entry for (entry,) in fetch(reading, "SELECT entry FROM trace"))
    assert newest == position(year_at(bureau.now), 1)


def test_guesses_of_last_year_stay_spent(bureau: Bureau) -> None:
    def guess(identifier: str) -> Outcome:
        return bureau.ask_all([f"child: hrss.parent related {identifier}"], {"child": ANNA})[0]

    assert guess(BO) == Outcome.YES
    turn(bureau)
    assert guess(ANNA) == Outcome.NO
    assert guess(CHEN) == Outcome.GUESSES_SPENT
    assert bureau.log.origin != bureau.log.log


def test_the_index_tells_of_both_years_and_loses_only_the_one_that_goes(bureau: Bureau) -> None:
    bureau.ask_all([MONTHS], {"child": ANNA}, reference="2026-000001")
    bureau.ask_all([PARENT], {"child": BO, "guardian": ANNA})
    turn(bureau)
    bureau.ask_all([MONTHS], {"child": ANNA}, reference="2026-000002")
    report = People(bureau).read(ANNA)
    year = year_at(bureau.now)
    rows = {(row.reference, row.log_year, row.index) for row in report.lookups if not row.read}
    assert {one[:2] for one in rows} == {("2026-000001", 0), ("", 0), ("2026-000002", year)}
    for reference, log_year, index in rows:
        store = bureau.log.shard(f"{bureau.log.log}/{log_year}" if log_year else bureau.log.log)
        assert decode_entry(store.entries(index, 1)[0]).WhichOneof("event") == "owner_access", reference
    engine, keys = bureau.log.engine, bureau.directory / "state" / "keys"
    forget_entries(engine, position(0, 0), position(0, 10**6))
    with Snapshots(engine).read() as reading:
        left = {entry for (entry,) in fetch(reading, "SELECT entry FROM trace")}
        assert left
        assert all(entry >= position(year, 0) for entry in left)
        assert all(entry >= position(year, 0) for (entry,) in fetch(reading, "SELECT entry FROM replay"))
    old = keys / "trace-1999.key"
    old.write_bytes(bytes(32))
    forget_keys(engine, keys, bureau.now)
    assert not old.exists()
    assert (keys / f"trace-{year}.key").exists()


def test_another_replica_goes_on_in_the_year_that_the_first_began(bureau: Bureau) -> None:
    other = bureau.reopened()
    mine, theirs = bureau.frames, bureau.processor(other)
    bureau.ask_all([MONTHS], {"child": ANNA})
    turn(bureau)
    bureau.ask_all([MONTHS], {"child": ANNA})
    bureau.frames = theirs
    request = bureau.request([MONTHS], [{"child": BO}])
    (item,) = bureau.send(request)
    assert item.entry.index == 2
    assert other.origin == bureau.log.origin
    bureau.frames = mine
    assert bureau.send(request)[0].reply == item.reply
    other.close()
    other.engine.dispose()
