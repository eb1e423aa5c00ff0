"""From what owners answered, or why they did not, to the results of cases. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exchange.client.case import Answer, CaseResult, ClaimResult, Ruling, Status
from exchange.client.check import Answered
from exchange.client.plan import Plan, Prepared
from policy.model import Rule
from policy.rule import Fact, Finding, Verdict, evaluate
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason
from zhiwang.wire.records import Outcome

KEPT_RULINGS = 4096
"""Rulings of one plan that are remembered by the answers that they follow from."""


class Failure(NamedTuple):
    """Why one owner's claims have no answers."""

    reason: Reason

    @property
    def status(self) -> Status:
        """Whether it is "not you" or "not now"."""
        unavailable = self.reason in _PASSING or self.reason.status in _NOT_NOW
        return Status.UNAVAILABLE if unavailable and self.reason is not Reason.GUESSES_SPENT else Status.DENIED


PartOutcome = Answered | Failure

_NOT_NOW = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "DATA_LOSS"})
_PASSING = frozenset(
    {
        Reason.KEY_UNKNOWN,
        Reason.MATTER_CHANGED,
        Reason.REQUEST_EXPIRED,
        Reason.CLOCK_SKEW,
        Reason.CERTIFICATE_EXPIRED,
    }
)

_STATUS = {int(outcome): Status(outcome.status) for outcome in Outcome}
_ANSWER = {int(outcome): Answer(outcome.answer) for outcome in Outcome}
_REASON = {int(outcome): outcome.reason for outcome in Outcome}
_DENIED = frozenset({int(Outcome.DENIED_BY_HUB), int(Outcome.DENIED_BY_OWNER)})
_FACT: Mapping[int, Fact] = {Outcome.YES: Fact.YES, Outcome.NO: Fact.NO, Outcome.UNKNOWN: Fact.UNKNOWN}
_FACTS: Mapping[Answer, Fact] = {Answer.YES: Fact.YES, Answer.NO: Fact.NO, Answer.UNKNOWN: Fact.UNKNOWN}
RULING_OF = {
    Verdict.PASSED: Ruling.PASSED,
    Verdict.CHECK_BY_HAND: Ruling.CHECK_BY_HAND,
    Verdict.DATA_DISAGREES: Ruling.DATA_DISAGREES,
}


def results(
    cases: Sequence[Prepared],
    outcomes: Sequence[PartOutcome],
    receipts: Mapping[int, verification_pb2.Receipt] | None = None,
    *,
    kept: bool = False,
) -> list[CaseResult]:
    """Results of cases that were asked together.

    Args:
        cases: Of one plan, in the order of their records.
        outcomes: Of the plan's parts.
        receipts: By index of the case; those that the caller wants.
        kept: Whether receipts are kept.
    """
    return [
        _result(case, index, outcomes, receipts.get(index) if receipts else None, kept=kept)
        for index, case in enumerate(cases)
    ]


def judge(rule: Rule, known: Iterable[tuple[str, Mapping[str, int], Status, Answer]]) -> Ruling:
    """What a rule says of claims that were not all asked together.

    Args:
        rule: The matter's.
        known: Of each claim of the rule its name, which subject of each slot it is about, status and answer.
    """
    findings = [Finding(name, ordinals, fact_of(status, answer)) for name, ordinals, status, answer in known]
    return RULING_OF[evaluate(rule, findings)]


def fact_of(status: Status, answer: Answer) -> Fact:
    """What a rule makes of a claim's status and answer."""
    return _FACTS[answer] if status is Status.ANSWERED else Fact.UNAVAILABLE


def _result(
    case: Prepared,
    index: int,
    outcomes: Sequence[PartOutcome],
    receipt: verification_pb2.Receipt | None,
    *,
    kept: bool,
) -> CaseResult:
    claims = []
    codes = bytearray()
    plan, labels = case.plan, case.labels
    for claim, name, ordinal, compared, _, part, column, counter, denied in plan.asked:
        outcome = outcomes[part]
        if isinstance(outcome, Failure):
            code = 0
            reason = denied if outcome.reason is Reason.NOT_GRANTED else outcome.reason
            one = ClaimResult(
                labels[claim], name, ordinal, compared, outcome.status, Answer.NONE, reason, None, counter
            )
        else:
            answers = outcome.answers
            code = answers.outcomes[index * plan.parts[part].columns + column]
            one = ClaimResult(
                labels[claim],
                name,
                ordinal,
                compared,
                _STATUS[code],
                _ANSWER[code],
                _REASON[code] if code not in _DENIED else denied,
                answers.data_as_of[column],
                "" if code == Outcome.YES else counter,
            )
        codes.append(code)
        claims.append(one)
    return CaseResult(case.case.key, tuple(claims), _ruling(plan, bytes(codes)), receipt, kept=kept)


def _ruling(plan: Plan, codes: bytes) -> Ruling:
    """What the matter's rule says. The same answers to the same shape have the same ruling, so it is remembered."""
    if plan.rule is None:
        return Ruling.NONE
    ruling = plan.rulings.get(codes)
    if ruling is None:
        findings = [
            Finding(one.name, one.ordinals, _FACT.get(code, Fact.UNAVAILABLE))
            for one, code in zip(plan.asked, codes, strict=True)
            if one.name
        ]
        ruling = RULING_OF[evaluate(plan.rule, findings)]
        if len(plan.rulings) >= KEPT_RULINGS:
            plan.rulings.clear()
        plan.rulings[codes] = ruling
    return ruling
