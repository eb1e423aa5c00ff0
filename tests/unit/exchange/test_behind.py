"""What waits at a hub for a newer directory: a department that names one which never comes leaves room for others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from exchange.behind import MAX_BEHIND, MAX_BEHIND_EACH, Behind


def ticket(version: int = 2**62) -> Any:
    return SimpleNamespace(settled=False, access=SimpleNamespace(header=SimpleNamespace(min_policy_version=version)))


def test_a_department_has_one_share_and_the_others_have_theirs() -> None:
    behind = Behind()
    held = [behind.take(ticket(), "edu") for _ in range(MAX_BEHIND)]
    assert sum(held) == MAX_BEHIND_EACH
    assert behind.take(ticket(), "hrss")


def test_all_together_are_bounded() -> None:
    behind = Behind()
    for number in range(MAX_BEHIND // MAX_BEHIND_EACH):
        assert all(behind.take(ticket(), f"d{number}") for _ in range(MAX_BEHIND_EACH))
    assert not behind.take(ticket(), "hrss")
    assert len(behind) == MAX_BEHIND


def test_what_is_settled_or_due_makes_room() -> None:
    behind = Behind()
    settled, due = ticket(), ticket(8)
    others = [ticket() for _ in range(MAX_BEHIND_EACH - 2)]
    assert all(behind.take(one, "edu") for one in (settled, due, *others))
    assert not behind.take(ticket(), "edu")
    settled.settled = True
    assert behind.take(ticket(), "edu")
    assert behind.reached(8) == [due]
    assert behind.take(ticket(), "edu")
    assert not behind.take(ticket(), "edu")
