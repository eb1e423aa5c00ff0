from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.auditor import ReadLog
from audit.checkpoint import Checkpoint
from demo_support import shared_city
from exchange.cli import demo
from exchange.demo.build import OWNERS
from exchange.demo.calendar import ENROLMENT_DAY
from exchange.demo.journey import Findings, Journey
from exchange.demo.processes import ProcessError
from exchange.demo.roster import Tally, case
from exchange.demo.truth import Outcome, expectations
from zhiwang.verification.v1 import verification_pb2 as api

ANSWERS = {"YES": api.ANSWER_YES, "NO": api.ANSWER_NO, "UNKNOWN": api.ANSWER_UNKNOWN}
RULINGS = {
    "passed": api.RULING_PASSED,
    "check by hand": api.RULING_CHECK_BY_HAND,
    "data disagrees": api.RULING_DATA_DISAGREES,
}
NUMBER = "2026-000001"
EXPECTED: Outcome = expectations(shared_city(), ENROLMENT_DAY)[NUMBER]


def result() -> api.CaseResult:
    """What an agent says when all goes well."""
    claims = [
        api.ClaimResult(claim="…", name=name, ordinal=ordinal, status=api.CLAIM_STATUS_ANSWERED, answer=ANSWERS[answer])
        for (name, ordinal), answer in EXPECTED.answers.items()
    ]
    return api.CaseResult(key=NUMBER, claims=claims, ruling=RULINGS[EXPECTED.ruling])


def test_answers_as_expected_are_counted_and_nothing_is_amiss() -> None:
    tally = Tally()
    tally.add(result(), EXPECTED)
    assert tally.mismatches == []
    assert tally.claims == sum(tally.answers.values()) == len(EXPECTED.answers)
    assert tally.rulings == {EXPECTED.ruling: 1}


@pytest.mark.parametrize("index", range(len(EXPECTED.answers)))
@pytest.mark.parametrize("answer", ANSWERS.values())
def test_any_other_answer_is_a_mismatch_named_by_claim_and_number(index: int, answer: api.Answer.ValueType) -> None:
    tally, changed = Tally(), result()
    claim = changed.claims[index]
    if claim.answer == answer:
        return
    claim.answer = answer
    tally.add(changed, EXPECTED)
    (mismatch,) = tally.mismatches
    assert NUMBER in mismatch
    assert claim.name in mismatch


def test_a_missing_claim_a_denied_one_and_another_ruling_are_mismatches() -> None:
    tally, changed = Tally(), result()
    del changed.claims[0]
    changed.claims[0].status = api.CLAIM_STATUS_DENIED
    changed.claims[1].status = api.CLAIM_STATUS_UNAVAILABLE
    changed.ruling = api.RULING_UNSPECIFIED
    tally.add(changed, EXPECTED)
    assert len(tally.mismatches) == 4
    assert (tally.denied, tally.unavailable) == (1, 1)


def test_a_case_that_was_not_asked_is_a_mismatch() -> None:
    tally = Tally()
    tally.add(api.CaseResult(key=NUMBER, reason="IDENTIFIER_INVALID", field="subjects[0].identifier"), EXPECTED)
    assert tally.mismatches == [f"application {NUMBER}: not asked, IDENTIFIER_INVALID in subjects[0].identifier"]


def test_the_agents_key_is_the_number_and_nothing_of_anybody() -> None:
    for application in shared_city().applications:
        assert case(application).key == application.number
        assert re.fullmatch(r"2026-[0-9]{6}", application.number)


def findings(*failures: str) -> Findings:
    tally = Tally()
    tally.add(result(), EXPECTED)
    logs = [ReadLog(Checkpoint("x", 10, bytes(32)), 0) for _ in range(len(OWNERS) + 1)]
    return Findings(tally=tally, logs=logs, failures=list(failures))


def test_a_failure_ends_loudly_with_status_1_and_json_stays_alone_on_standard_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failure = f"application {NUMBER}: aged, guardian 1: answered NO"
    monkeypatch.setattr(Journey, "run", lambda _self: (None, shared_city(), findings(failure)))
    done = CliRunner().invoke(demo.app, ["--json"])
    assert done.exit_code == 1
    assert failure in done.stderr
    assert list(json.loads(done.stdout)) == [
        *("students", "claims", "answers", "denied", "unavailable", "seconds", "ms_per_student", "log_entries"),
        *("log_verified", "receipt_verified"),
    ]


def test_a_process_that_ends_ends_the_demo_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_self: Journey) -> None:
        raise ProcessError("hub ended with status 1", Path("hub.log"))

    monkeypatch.setattr(Journey, "run", run)
    done = CliRunner().invoke(demo.app, [])
    assert done.exit_code == 1
    assert "hub ended with status 1" in done.stderr


def test_a_demo_that_succeeds_ends_with_status_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journey, "run", lambda _self: (None, shared_city(), findings()))
    done = CliRunner().invoke(demo.app, [])
    assert done.exit_code == 0, done.stderr
    assert "260 ms" in done.stdout
