"""Answers that go wrong: closed for the department that got them, and read off from no metric."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from adapter_frames import Bureau, grants
from adapter_support import ANNA, BO, attribute, document, mapping_text, resident
from adapters.ledger import Ledger
from adapters.mapping import load_mapping
from adapters.measures import AdapterMetrics
from adapters.standpoint import Standpoints
from policy.directory import DirectoryHolder
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.records import Outcome
from zhiwang.wire.tomlfile import FileError

YES, NO, UNKNOWN, CLOSED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.PROBE_FAILED
MONTHS = "child: hrss.months at_least 12"
CIVIL = "civil/system/cards"
BULK: dict[str, Any] = {"priority": sealed_pb2.PRIORITY_BULK}

MAPPING = """
[data.person]
table = "person"
subject = "id_card"
loaded = "SELECT max(at) FROM load"

[attribute.months]
data = "person"
value = "months"
watch = { unknown = [0, 0.3], least = 100, suspend = true }
"""


@pytest.fixture
def bureau(tmp_path: Path) -> Iterator[Bureau]:
    bureau = Bureau(
        tmp_path,
        tables="CREATE TABLE person (id_card TEXT, months INTEGER); CREATE TABLE load (at INTEGER);",
        rows={"person": [(ANNA, 12), (BO, 3)], "load": [(1_780_000_000,)]},
        mapping=MAPPING,
        published=attribute("months", 'type = "integer"\nat_least = [12]') + grants(["hrss.months at_least"]),
    )
    yield bureau
    bureau.close()


def standpoints_of(bureau: Bureau) -> Standpoints:
    return Standpoints(
        DirectoryHolder(lambda: bureau.now),
        bureau.connections,
        bureau.mapping,
        Ledger(b"k" * 32, bureau.mapping.limits, lambda: bureau.now),
        bureau.document,
        bureau.answers,
        lambda: bureau.now,
    )


def test_a_load_that_lost_everybody_is_unavailable_for_whom_it_failed_until_the_next_load(bureau: Bureau) -> None:
    standpoints = standpoints_of(bureau)
    nobody = [{"child": resident(number)} for number in range(100, 200)]
    assert bureau.ask_all([MONTHS], *nobody, **BULK) == [UNKNOWN] * 100
    assert bureau.ask_all([MONTHS], {"child": ANNA}) == [CLOSED]
    # Whoever asks for people who do not exist does so at its own cost.
    assert bureau.ask_all([MONTHS], {"child": ANNA}, short=CIVIL) == [YES]
    standpoints.look_at_answers()
    assert bureau.ask_all([MONTHS], {"child": ANNA}) == [CLOSED]
    bureau.now += 10
    bureau.insert("load", [(1_780_000_001,)])
    standpoints.look_at_answers()
    assert bureau.ask_all([MONTHS], {"child": ANNA}) == [YES]


def test_an_alarm_of_answers_has_every_probe_asked_at_once(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    standpoints = standpoints_of(bureau)
    asked: list[bool] = []
    monkeypatch.setattr(standpoints, "probe", lambda: asked.append(True))
    standpoints.look_at_answers()
    assert asked == []
    bureau.ask_all([MONTHS], *[{"child": resident(number)} for number in range(100, 200)], **BULK)
    standpoints.look_at_answers()
    standpoints.look_at_answers()
    assert asked == [True]


def test_no_metric_tells_what_one_request_was_answered(bureau: Bureau) -> None:
    registry = CollectorRegistry()
    AdapterMetrics(bureau.frames, bureau.log, lambda: 1, standpoints_of(bureau), bureau.answers, registry)

    def moved(subject: str) -> set[tuple[str, float]]:
        def scrape() -> dict[str, float]:
            lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
            return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

        before = scrape()
        bureau.ask_all([MONTHS], {"child": subject})
        return {(name, value - before.get(name, 0)) for name, value in scrape().items() if value != before.get(name)}

    moved(ANNA)
    steps = [moved(subject) for subject in (ANNA, BO, resident(300))]
    assert steps[0] == steps[1] == steps[2]
    assert ('zhiwang_adapter_claims_total{outcome="ANSWERED"}', 1.0) in steps[0]
    # Shares are told of a full window only.
    assert "answer_share{" not in generate_latest(registry).decode()
    bureau.ask_all([MONTHS], *[{"child": ANNA}] * 96, **BULK)
    assert (
        'zhiwang_adapter_answer_share{answer="YES",attribute="months",department="edu",predicate="at_least"} 0.98'
        in generate_latest(registry).decode()
    )


def test_suspending_needs_a_data_set_that_tells_its_loads(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(mapping_text(MAPPING.replace('loaded = "SELECT max(at) FROM load"', "")), "utf-8")
    with pytest.raises(FileError) as caught:
        load_mapping(path, document(attribute("months", 'type = "integer"\nat_least = [12]')))
    assert "suspends until a new load" in str(caught.value.findings)
