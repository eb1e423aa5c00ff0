"""The education bureau's roster: every application through the agent's plain API, every answer against the truth."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from exchange.demo.build import MATTER, ROLE
from exchange.demo.calendar import ENROLMENT_DAY
from exchange.demo.model import Application
from exchange.demo.places import CODE_SYSTEM
from exchange.demo.truth import Outcome
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.verification.v1 import verification_pb2_grpc
from zhiwang.wire.channel import refusal_of

JOB = f"{ENROLMENT_DAY.year}-000000"
"""Reference of the whole roster; the applications' own numbers never leave the agent."""

OFFICIAL = "clerk-17"
PUBLISHED_SECONDS = 0.26
"""What the city of Shenzhen reported for one student of its own system."""

CASES_PER_MESSAGE = 50
TIMEOUT = 30.0
"""Seconds for one application by itself."""

NEVER_GRANTED = "guardian: police.conviction absent"
"""No owner grants this to a school; the centre denies it besides."""

_ANSWERS = {api.ANSWER_YES: "YES", api.ANSWER_NO: "NO", api.ANSWER_UNKNOWN: "UNKNOWN"}
_RULINGS = {
    api.RULING_PASSED: "passed",
    api.RULING_CHECK_BY_HAND: "check by hand",
    api.RULING_DATA_DISAGREES: "data disagrees",
}


@dataclass(slots=True)
class Tally:
    """What came of a roster.

    Attributes:
        students: Applications with a result.
        claims: Claims with a result.
        answers: How many YES, NO and UNKNOWN.
        by_claim: The same for each claim of the matter.
        denied: Claims that were denied.
        unavailable: Claims that no owner could answer.
        reasons: Public reasons of both.
        rulings: What the matter's rule said, and how often.
        mismatches: Claims whose answer is not the expected one, by claim and application number.
        seconds: From the first application sent to the last result.
    """

    students: int = 0
    claims: int = 0
    answers: Counter[str] = field(default_factory=lambda: Counter({"YES": 0, "NO": 0, "UNKNOWN": 0}))
    by_claim: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    denied: int = 0
    unavailable: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rulings: Counter[str] = field(default_factory=Counter)
    mismatches: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, result: api.CaseResult, expected: Outcome) -> None:
        """Count one application and compare every claim of it."""
        self.students += 1
        if result.reason:
            self.mismatches.append(f"application {result.key}: not asked, {result.reason} in {result.field}")
            return
        ruling = _RULINGS.get(result.ruling, "no ruling")
        self.rulings[ruling] += 1
        if ruling != expected.ruling:
            self.mismatches.append(f"application {result.key}: ruled {ruling!r}, not {expected.ruling!r}")
        wanted = dict(expected.answers)
        for claim in result.claims:
            self.claims += 1
            place = (claim.name, max(claim.ordinal, claim.compared_ordinal))
            answer = self._count(claim)
            if wanted.pop(place, None) != answer:
                self.mismatches.append(_named(result.key, place, f"answered {answer}"))
        self.mismatches += [_named(result.key, place, "no result") for place in wanted]

    def _count(self, claim: api.ClaimResult) -> str:
        if claim.status == api.CLAIM_STATUS_ANSWERED:
            answer = _ANSWERS[claim.answer]
            self.answers[answer] += 1
            self.by_claim[claim.name][answer] += 1
            return answer
        self.reasons[claim.reason] += 1
        if claim.status == api.CLAIM_STATUS_DENIED:
            self.denied += 1
            return "DENIED"
        self.unavailable += 1
        return "UNAVAILABLE"


def _named(number: str, place: tuple[str, int], what: str) -> str:
    """Name a claim without telling whom it is about."""
    return f"application {number}: {place[0]}, guardian {place[1] + 1}: {what}"


def context(district: str, reference: str = JOB) -> api.Context:
    """Why the bureau asks."""
    return api.Context(
        matter=MATTER,
        reference=reference,
        official=OFFICIAL,
        role=ROLE,
        jurisdiction=f"{CODE_SYSTEM}:{district}",
    )


def case(application: Application) -> api.Case:
    """Return an application as the agent takes it, with its number as key."""
    subjects = [api.Subject(slot="child", identifier=application.child.person.identifier, name=application.child.name)]
    subjects += [
        api.Subject(slot="guardian", identifier=party.person.identifier, name=party.name)
        for party in application.guardians
    ]
    subjects.append(api.Subject(slot="home", identifier=application.home.code))
    return api.Case(key=application.number, subjects=subjects)


async def run_roster(
    channel: grpc.aio.Channel,
    applications: Sequence[Application],
    expected: Mapping[str, Outcome],
    advance: Callable[[int], None],
) -> Tally:
    """Ask about every application, one stream for each district.

    Args:
        channel: To the agent.
        applications: The roster.
        expected: What should come of it.
        advance: Told of each result, for a progress bar.
    """
    stub = verification_pb2_grpc.VerificationServiceStub(channel)
    districts: dict[str, list[Application]] = defaultdict(list)
    for application in applications:
        districts[application.district].append(application)
    tally = Tally()
    start = time.perf_counter()

    async def run_district(district: str, roster: Sequence[Application]) -> None:
        call = stub.VerifyBatch(_messages(district, roster))
        try:
            async for response in call:
                for result in response.results:
                    tally.add(result, expected[result.key])
                    advance(1)
        except grpc.aio.AioRpcError as error:
            tally.mismatches.append(f"district {district}: the agent refused, {refusal_of(error).reason.name}")
        finally:
            call.cancel()

    async with asyncio.TaskGroup() as group:
        for district, roster in districts.items():
            group.create_task(run_district(district, roster))
    tally.seconds = time.perf_counter() - start
    missing = len(applications) - tally.students
    if missing:
        tally.mismatches.append(f"{missing} applications without any result")
    return tally


async def _messages(district: str, roster: Sequence[Application]) -> AsyncIterator[api.VerifyBatchRequest]:
    for start in range(0, len(roster), CASES_PER_MESSAGE):
        cases = [case(application) for application in roster[start : start + CASES_PER_MESSAGE]]
        yield api.VerifyBatchRequest(context=context(district) if start == 0 else None, cases=cases)


async def ask_once(
    channel: grpc.aio.Channel, application: Application, claims: Sequence[str] = (), *, receipt: bool = False
) -> api.CaseResult:
    """Ask about one application by itself, under its own number.

    Raises:
        RefusedError: The agent refused.
    """
    stub = verification_pb2_grpc.VerificationServiceStub(channel)
    one = case(application)
    one.claims.extend(claims)
    request = api.VerifyRequest(context=context(application.district, application.number), case=one, receipt=receipt)
    try:
        response: api.VerifyResponse = await stub.Verify(request, timeout=TIMEOUT)
    except grpc.aio.AioRpcError as error:
        raise refusal_of(error) from None
    return response.result
