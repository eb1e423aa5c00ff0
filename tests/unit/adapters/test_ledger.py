"""Guesses are counted, whatever order and frame they come in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ledger import DAY, SCHEMA, Bill, Ledger
from adapters.limits import Limits
from adapters.store_keys import open_key
from adapters.trace import Stand, Trace

LIMITS = Limits(values=3, names=2, places=2, days=30)


@pytest.fixture
def store() -> Iterator[sqlite3.Connection]:
    connection = _store()
    yield connection
    connection.close()


def _store() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    for statement in SCHEMA:
        connection.execute(statement)
    return connection


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def ask(ledger: Ledger, store: sqlite3.Connection, guess: str, *, subject: str = "s", attribute: str = "a") -> bool:
    bill = Bill(claims=[(0, (ledger.value("edu", "person", subject, attribute, guess),))])
    fresh = ledger.review(store, [bill])
    ledger.charge(store, fresh)  # type: ignore[arg-type]  # a bare connection does as well
    return not bill.spent


@given(st.lists(st.integers(0, 6), max_size=40))
def test_at_most_the_cap_of_distinct_guesses_passes_and_repeats_always_do(guesses: list[int]) -> None:
    store = _store()
    ledger = Ledger(b"k" * 32, LIMITS, Clock())
    passed: set[int] = set()
    for guess in guesses:
        allowed = ask(ledger, store, str(guess))
        assert allowed == (guess in passed or len(passed) < LIMITS.values)
        if allowed:
            passed.add(guess)
    store.close()


def test_scopes_do_not_touch_each_other(store: sqlite3.Connection) -> None:
    ledger = Ledger(b"k" * 32, LIMITS, Clock())
    for guess in "xyz":
        assert ask(ledger, store, guess)
    assert not ask(ledger, store, "w")
    assert ask(ledger, store, "w", subject="other")
    assert ask(ledger, store, "w", attribute="other")


def test_a_window_forgets_and_then_charges_anew(store: sqlite3.Connection) -> None:
    clock = Clock()
    ledger = Ledger(b"k" * 32, LIMITS, clock)
    for guess in "xyz":
        assert ask(ledger, store, guess)
    clock.now += LIMITS.days * DAY + 1
    assert ask(ledger, store, "w")
    assert ask(ledger, store, "x")
    assert ask(ledger, store, "y")
    assert not ask(ledger, store, "z")


def test_a_bill_whose_shared_charge_cannot_be_paid_charges_nothing_else(store: sqlite3.Connection) -> None:
    ledger = Ledger(b"k" * 32, LIMITS, Clock())

    def bill(name: str, guess: str) -> Bill:
        return Bill(
            shared=[ledger.name("edu", "person", "s", name)],
            claims=[(0, (ledger.value("edu", "person", "s", "a", guess),))],
        )

    bills = [bill("甲", "x"), bill("乙", "y"), bill("丙", "z")]
    fresh = ledger.review(store, bills)
    assert [one.closed for one in bills] == [False, False, True]
    assert bills[2].spent == {0}
    assert len(fresh) == 4


def test_of_two_charges_both_are_paid_or_neither(store: sqlite3.Connection) -> None:
    ledger = Ledger(b"k" * 32, LIMITS, Clock())
    for guess in "xyz":
        assert ask(ledger, store, guess, subject="parent")
    bill = Bill(
        claims=[
            (
                0,
                (
                    ledger.value("edu", "person", "child", "a", "parent"),
                    ledger.value("edu", "person", "parent", "a", "child"),
                ),
            )
        ]
    )
    assert ledger.review(store, [bill]) == []
    assert bill.spent == {0}


def test_the_index_of_subjects_has_a_key_for_each_year(tmp_path: Path) -> None:
    clock = Clock()
    trace = Trace(tmp_path, clock)
    first = trace.row("person", "440399199001010011", 1, Stand(1))
    clock.now += 366 * DAY
    second = trace.row("person", "440399199001010011", 1, Stand(1))
    assert (first[0], second[0]) == (2026, 2027)
    assert first[1] != second[1]
    assert {path.name for path in tmp_path.iterdir()} == {"trace-2026.key", "trace-2027.key"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    # Another process finds the same key.
    assert Trace(tmp_path, clock).row("person", "440399199001010011", 1, Stand(1)) == second


def test_a_key_is_made_once_and_never_because_it_was_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_key(tmp_path / "ledger.key", create=False)
    key = open_key(tmp_path / "ledger.key", create=True)
    assert open_key(tmp_path / "ledger.key", create=True) == key
    (tmp_path / "ledger.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="no key"):
        open_key(tmp_path / "ledger.key", create=False)
