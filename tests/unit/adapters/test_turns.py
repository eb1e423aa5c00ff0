"""Turns to write: one at a time, a person's before a roster's."""

from __future__ import annotations

import threading
import time

import pytest

from adapters.turns import Turns

PATIENCE = 60.0


def test_a_person_who_comes_last_writes_before_the_rosters_that_wait() -> None:
    turns = Turns()
    order: list[str] = []

    def write(name: str, *, bulk: bool) -> None:
        with turns.take(bulk=bulk):
            order.append(name)

    with turns.take(bulk=True):
        rosters = [
            threading.Thread(target=write, args=(f"roster{number}",), kwargs={"bulk": True}) for number in range(3)
        ]
        person = threading.Thread(target=write, args=("person",), kwargs={"bulk": False})
        for thread in (*rosters, person):
            thread.start()
        deadline = time.monotonic() + PATIENCE
        while len(turns._condition._waiters) < 4 and time.monotonic() < deadline:  # type: ignore[attr-defined]  # all of them
            time.sleep(0.01)
        assert order == []
    for thread in (*rosters, person):
        thread.join(PATIENCE)
    assert order[0] == "person"
    assert sorted(order[1:]) == ["roster0", "roster1", "roster2"]


def test_a_turn_that_fails_is_over() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.take(bulk=False):
        _ = 1 // 0
    with turns.take(bulk=True):
        pass
