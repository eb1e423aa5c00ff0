from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exchange.refusals import ENTRIES_PER_SECOND, MAX_PEERS, Refusals
from zhiwang.wire.errors import Reason

EDU = "spiffe://shenzhen/edu/system/enrolment"


def test_a_few_refusals_are_recorded_one_by_one_with_the_hash_of_the_header() -> None:
    refusals = Refusals()
    event = refusals.note(EDU, Reason.SIGNATURE_INVALID, b"h" * 32)
    assert event is not None
    assert (event.reason, event.peer, event.header_hash, event.count) == ("SIGNATURE_INVALID", EDU, b"h" * 32, 1)
    assert refusals.flush() == []


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([Reason.REPLAYED, Reason.CLOCK_SKEW]))))
def test_every_refusal_is_counted_in_some_entry_and_no_peer_gets_many(noted: list[tuple[str, Reason]]) -> None:
    refusals = Refusals()
    at_once = [event for peer, reason in noted if (event := refusals.note(peer, reason, b"")) is not None]
    later = refusals.flush()
    assert all(sum(event.peer == peer for event in at_once) <= ENTRIES_PER_SECOND for peer in ("a", "b"))
    total: dict[tuple[str, str], int] = {}
    for event in (*at_once, *later):
        total[event.peer, event.reason] = total.get((event.peer, event.reason), 0) + event.count
    for key in {(peer, reason.name) for peer, reason in noted}:
        assert total[key] == sum((peer, reason.name) == key for peer, reason in noted)
    assert len(later) <= 4


def test_a_new_second_brings_entries_of_their_own_again() -> None:
    refusals = Refusals()
    for _ in range(ENTRIES_PER_SECOND + 1):
        last = refusals.note(EDU, Reason.OVERLOADED, b"")
    assert last is None
    refusals.flush()
    assert refusals.note(EDU, Reason.OVERLOADED, b"") is not None


def test_many_peers_do_not_fill_the_memory() -> None:
    refusals = Refusals()
    for number in range(MAX_PEERS + 500):
        refusals.note(f"peer{number}", Reason.OVERLOADED, b"")
    counted = refusals.flush()
    assert sum(event.count for event in counted if event.peer == "") == 500 - ENTRIES_PER_SECOND
