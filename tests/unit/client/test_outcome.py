"""What people are told follows from what was answered, and one owner's trouble does not spoil another's answers."""

from __future__ import annotations

import pytest

from client_support import CASE, FATHER, World
from exchange.client.case import Answer, Case, CaseResult, Ruling, Status, Subject
from exchange.client.check import check_answer
from exchange.client.outcome import Failure, PartOutcome, results
from zhiwang.wire.errors import Reason
from zhiwang.wire.records import Outcome

YES, NO, UNKNOWN = bytes([Outcome.YES]), bytes([Outcome.NO]), bytes([Outcome.UNKNOWN])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def told(world: World, case: Case, **by_owner: bytes | Failure) -> CaseResult:
    prepared = world.prepare(case)
    found: list[PartOutcome] = []
    for sealed in world.seal(prepared):
        given = by_owner[sealed.header.owner]
        if isinstance(given, Failure):
            found.append(given)
        else:
            found.append(check_answer(sealed, world.deliver(sealed, outcomes=given)))
    (result,) = results(prepared, found)
    return result


@pytest.mark.parametrize(
    ("health", "hrss", "ruling"),
    [
        (YES, YES + YES, Ruling.PASSED),
        (NO, YES + YES, Ruling.DATA_DISAGREES),
        (UNKNOWN, YES + YES, Ruling.CHECK_BY_HAND),
        (YES, NO + YES, Ruling.DATA_DISAGREES),
    ],
)
def test_the_matters_rule_follows_the_answers(world: World, health: bytes, hrss: bytes, ruling: Ruling) -> None:
    result = told(world, CASE, health=health, hrss=hrss)
    assert result.ruling is ruling


def test_one_guardian_for_whom_all_holds_is_enough(world: World) -> None:
    both = Case((*CASE.subjects, Subject("guardian", FATHER)))
    result = told(world, both, health=NO + YES, hrss=NO + YES + YES + YES)
    assert result.ruling is Ruling.PASSED
    result = told(world, both, health=NO + YES, hrss=YES + NO + YES + YES)
    assert result.ruling is Ruling.DATA_DISAGREES


def test_an_owner_that_is_down_leaves_the_others_answered(world: World) -> None:
    result = told(world, CASE, health=Failure(Reason.OWNER_NOT_ATTACHED), hrss=YES + YES)
    parent, pension, insured = result.claims
    assert (parent.status, parent.answer, parent.reason) == (
        Status.UNAVAILABLE,
        Answer.NONE,
        Reason.OWNER_NOT_ATTACHED,
    )
    assert pension.answer is insured.answer is Answer.YES
    assert result.ruling is Ruling.CHECK_BY_HAND


def test_every_answer_but_yes_names_the_counter(world: World) -> None:
    for code, counter in ((YES, ""), (NO, "0755-00000000"), (UNKNOWN, "0755-00000000")):
        result = told(world, CASE, health=YES, hrss=code + YES)
        assert result.claims[1].counter == counter


def test_answers_of_a_roster_stay_with_their_cases(world: World) -> None:
    cases = [Case(CASE.subjects, key=str(number)) for number in range(3)]
    prepared = world.prepare(*cases)
    codes = {"health": YES + NO + UNKNOWN, "hrss": YES + NO + NO + YES + UNKNOWN + UNKNOWN}
    found = [
        check_answer(sealed, world.deliver(sealed, outcomes=codes[sealed.header.owner]))
        for sealed in world.seal(prepared)
    ]
    by_key = {one.key: [claim.answer for claim in one.claims] for one in results(prepared, found)}
    assert by_key == {
        "0": [Answer.YES, Answer.YES, Answer.NO],
        "1": [Answer.NO, Answer.NO, Answer.YES],
        "2": [Answer.UNKNOWN, Answer.UNKNOWN, Answer.UNKNOWN],
    }


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_either_not_you_or_not_now(reason: Reason) -> None:
    status = Failure(reason).status
    assert status in {Status.DENIED, Status.UNAVAILABLE}
    if reason.status == "PERMISSION_DENIED":
        assert status is Status.DENIED
    if reason.status == "UNAVAILABLE":
        assert status is Status.UNAVAILABLE


@pytest.mark.parametrize("code", list(Outcome))
def test_every_outcome_of_an_owner_can_be_told(world: World, code: Outcome) -> None:
    denied = (0, 1) if code is Outcome.DENIED_BY_HUB else ()
    prepared = world.prepare()
    found: list[PartOutcome] = []
    for sealed in world.seal(prepared):
        width = len(sealed.header.claims)
        mask = [column for column in denied if column < width]
        found.append(check_answer(sealed, world.deliver(sealed, outcomes=bytes([code]) * width, denied=mask)))
    (result,) = results(prepared, found)
    for claim in result.claims:
        assert (claim.status is Status.ANSWERED) == (claim.answer is not Answer.NONE) == (claim.reason is None)
