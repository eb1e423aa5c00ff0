"""The hub asks an owner how heads are related that came with replies outstanding at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import audit_support as support
from audit.service import prove_consistency
from audit.store import LogStore
from audit.years import YearsView
from certs.identity import Kind
from exchange.owner_log import PATIENCE, PROOF_SECONDS, OwnerLog
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.wire.errors import RefusedError

LOG = support.ADAPTER.log_origin


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    store = support.make_store(tmp_path / "log.db", support.ADAPTER)
    yield store
    support.close(store)


class Way:
    """A link on which nothing comes back by itself."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.origins: set[str] = set()

    def send(self, tickets: list[Any]) -> None:
        raise NotImplementedError

    def relate(self, old_size: int, new_size: int, origin: str) -> None:
        self.asked.append((old_size, new_size))
        self.origins.add(origin)


def seen(store: LogStore, heads: int = 2) -> OwnerLog:
    """A log of which so many heads have come, each proved from the first."""
    log = OwnerLog(YearsView(support.checker(Kind.ADAPTER)))
    log.verify(store.head(), [])
    for _ in range(heads):
        support.append(store, 2)
        log.verify(store.head(1), [(LOG, 1)])
    return log


def answer(store: LogStore, old_size: int, new_size: int) -> adapter_pb2.Related:
    proof = prove_consistency(store, old_size, new_size)
    return adapter_pb2.Related(old_size=old_size, new_size=new_size, origin=LOG, proof=proof)


def test_heads_that_nothing_relates_are_asked_about_one_pair_at_a_time(store: LogStore) -> None:
    log, way = seen(store, 4), Way()
    while log.view.wanted_link:
        log.relate(way, 0.0)
        log.relate(way, 1.0)
        log.related(answer(store, *way.asked[-1]))
    assert way.asked == [(3, 9), (5, 9), (7, 9)]
    log.relate(way, 100.0)
    assert len(way.asked) == 3


def test_nothing_is_asked_while_each_head_extends_the_one_before(store: LogStore) -> None:
    log, way = seen(store, 1), Way()
    log.relate(way, 0.0)
    assert way.asked == []


def test_what_is_not_answered_is_asked_again_and_in_the_end_nothing_is_believed_until_it_is(store: LogStore) -> None:
    log, way = seen(store), Way()
    for number in range(PATIENCE):
        log.relate(way, number * PROOF_SECONDS)
        assert not log.overdue
    log.relate(way, PATIENCE * PROOF_SECONDS)
    assert len(way.asked) == PATIENCE + 1
    support.append(store, 1)
    with pytest.raises(RefusedError, match="does not say how"):
        log.verify(store.head(5), [(LOG, 5)])
    log.related(answer(store, 3, 5))
    assert log.verify(store.head(5), [(LOG, 5)]).size == 6


def test_an_answer_that_comes_late_is_not_taken_for_that_to_another_question(store: LogStore) -> None:
    log, way = seen(store, 3), Way()
    log.relate(way, 0.0)
    first = answer(store, *way.asked[0])
    log.related(first)
    log.relate(way, 0.0)
    log.related(first)
    assert (log.view.fork, log.view.wanted_link) == (None, way.asked[1])


def test_a_log_that_cannot_prove_what_it_has_shown_has_forked(store: LogStore) -> None:
    log, way = seen(store), Way()
    log.relate(way, 0.0)
    wrong = answer(store, *way.asked[0])
    wrong.proof.consistency_path[0] = bytes(32)
    with pytest.raises(RefusedError, match="audit office"):
        log.related(wrong)
    assert log.view.fork is not None
    for again in (wrong, answer(store, *way.asked[0])):
        with pytest.raises(RefusedError, match="audit office"):
            log.related(again)
    support.append(store, 1)
    with pytest.raises(RefusedError, match="audit office"):
        log.verify(store.head(5), [(LOG, 5)])


def test_heads_that_are_given_up_are_told_once(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.proofs.UNLINKED", 3)
    log = seen(store, 6)
    assert [log.given_up(), log.given_up()] == [2, 0]
