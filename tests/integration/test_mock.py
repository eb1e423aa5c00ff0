"""The mock serves what the agent serves: one table of calls to both, and every persona keeps its word."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

import policy_support
from certs.signing import CertificateVerifier
from certs_support import City
from city_support import CHILD, MOTHER, RunningCity, running_city, with_check_digit
from exchange.client import mock
from exchange.client.agent import assemble
from exchange.client.ask import ask_agent
from exchange.client.batches import Batches
from exchange.client.case import Case, Context, Subject
from exchange.client.messages import MOCKED
from exchange.client.mock_city import CITY, MockCity, load_directory
from exchange.client.personas import PERSONAS, Persona, identifier
from exchange.client.receipt_verify import verify_receipt
from exchange.demo.build import examples_directory
from policy.centre import parse_centre
from policy.model import Directory
from zhiwang.verification.v1 import verification_pb2, verification_pb2_grpc
from zhiwang.wire.channel import open_channel
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.process import Process
from zhiwang.wire.profile import Profile

P = verification_pb2
SERVICE = "zhiwang.verification.v1.VerificationService"
CONTEXT = P.Context(matter="school-enrolment", reference="2026-000123")
CALLER = '[[agent.caller]]\ncertificate = "local"\nroles = ["edu/enrolment-clerk", "edu/inspector"]\n'

PERSON = {persona.number: identifier(persona, "resident") or "" for persona in PERSONAS}
YES, NO, UNKNOWN, IN_TURN = (PERSON[number] for number in (1, 2, 3, 4))


def same_directory(kit: policy_support.DirectoryKit) -> Directory:
    """What a running test city has published, as the mock reads it."""
    return Directory(
        version=1,
        role_versions={},
        expires=time.time() + 3600,
        centre=replace(parse_centre(policy_support.CENTRE.encode()), city=CITY),
        documents=kit.directory.documents,
        matters=kit.directory.matters,
    )


def example_directory(**changes: Any) -> Directory:
    place = examples_directory()
    arguments = {
        "documents": sorted((place / "documents").glob("*.toml")),
        "matters": sorted((place / "matters").glob("*.toml")),
    } | changes
    return load_directory(place / "centre.toml", **arguments, now=time.time())


@asynccontextmanager
async def serving(client: Any, announce: Sequence[tuple[str, str]] = ()) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        batches = Batches(asyncio.get_running_loop().time)
        stack.push_async_callback(batches.close)
        server = assemble(client, batches, announce=announce)
        address = server.listen("127.0.0.1:0", None)
        await server.start()
        stack.push_async_callback(server.stop, 0.5)
        channel = await stack.enter_async_context(open_channel(address, None))
        stub: Any = verification_pb2_grpc.VerificationServiceStub(channel)
        stub.address = address
        yield stub


@pytest.fixture
async def mocked() -> AsyncIterator[Any]:
    """A mock of the example city."""
    city = MockCity(example_directory(), "edu/enrolment")
    async with mock.MockClient(city, mock.mock_profile(city)) as client, serving(client, (MOCKED,)) as stub:
        yield stub


def enrolment(identifier: str, *claims: str, key: str = "", **context: Any) -> Any:
    """One guardian is asked about, for a school place."""
    asked = P.Context()
    asked.CopyFrom(CONTEXT)
    asked.MergeFrom(P.Context(**context))
    return P.VerifyRequest(
        context=asked,
        case=P.Case(
            key=key,
            subjects=[P.Subject(slot="guardian", identifier=identifier)],
            claims=claims or ("guardian: hrss.insured_months at_least 12",),
        ),
        receipt=True,
    )


async def told(call: Any) -> tuple[str, str, list[str], str]:
    """Everything that a caller can see of a refusal: status, text, details, reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)
    details = []
    reason = ""
    for detail in status.details:
        for message in (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.LocalizedMessage(),
            error_details_pb2.BadRequest(),
        ):
            if detail.Unpack(message):
                details.append(str(message))
                reason = reason or getattr(message, "reason", "")
    return caught.value.code().name, caught.value.details(), details, reason


async def outcome(call: Any) -> Any:
    """What a caller sees: the response, with what differs from city to city taken out, or the refusal."""
    try:
        response = await call
    except grpc.aio.AioRpcError:
        return await told(call)
    for claim in response.result.claims:
        claim.ClearField("data_as_of")
    parts = len(response.result.receipt.parts)
    response.result.ClearField("receipt")
    return str(response), parts


def asked(subjects: Sequence[tuple[str, str]] = (("child", YES), ("guardian", YES)), **changes: Any) -> Any:
    case = P.Case(
        key="k",
        subjects=[P.Subject(slot=slot, identifier=identifier) for slot, identifier in subjects],
        claims=changes.pop("claims", ()),
    )
    context = P.Context()
    context.CopyFrom(CONTEXT)
    context.MergeFrom(P.Context(**changes))
    return P.VerifyRequest(context=context, case=case, receipt=True)


SAME = {
    "all claims of the matter": asked(),
    "a slot with two": asked((("guardian", YES), ("guardian", MOTHER)), claims=["guardian: hrss.insured exists"]),
    "a threshold that is not published": asked(claims=["guardian: hrss.pension_months at_least 13"]),
    "not granted": asked(claims=["child: hrss.insured absent"]),
    "no such owner": asked(claims=["child: police.age at_least 6"]),
    "no such attribute": asked(claims=["child: hrss.nothing exists"]),
    "part granted": asked(claims=["guardian: hrss.insured exists", "guardian: hrss.pension_months at_least 7"]),
    "another role": asked(role="edu/inspector"),
    "a role that is not the caller's": asked(role="edu/other"),
    "outside home": asked(jurisdiction="nbs:4401"),
    "no such matter": asked(matter="nothing"),
    "not this department's matter": asked(matter="senior-card", reference="x"),
    "a date of one's own": asked(reference_date="2026-01-01"),
    "no date": asked(reference_date="tomorrow"),
    "bad reference": asked(reference="x"),
    "a citizen in the reference": asked(reference=MOTHER),
    "a citizen as official": asked(official=CHILD),
    "bad jurisdiction": asked(jurisdiction="x"),
    "bad check digit": asked((("child", CHILD[:-1] + "A"),)),
    "no such slot": asked((("uncle", CHILD),)),
    "too many in a slot": asked((("child", CHILD), ("child", YES))),
    "bad syntax": asked(claims=["nonsense"]),
    "too many claims": asked(claims=["guardian: hrss.insured exists"] * 2000),
    "bad name": P.VerifyRequest(
        context=CONTEXT, case=P.Case(subjects=[P.Subject(slot="child", identifier=CHILD, name="\u200b")])
    ),
}  # fmt: skip


async def in_a_roster(stub: Any) -> dict[str, str]:
    """Every case of the table in one roster: its result, with what differs from city to city taken out."""
    cases = []
    for name, request in SAME.items():
        one = P.Case()
        one.CopyFrom(request.case)
        one.key = name
        cases.append(one)
    call = stub.VerifyBatch()
    await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=cases, receipt=True))
    await call.done_writing()
    found = {}
    async for response in call:
        for result in response.results:
            for claim in result.claims:
                claim.ClearField("data_as_of")
            result.ClearField("receipt")
            found[result.key] = str(result)
    assert set(found) == set(SAME)
    return found


async def test_agent_and_mock_give_the_same_to_the_same_calls(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        city: RunningCity = await stack.enter_async_context(running_city(tmp_path))
        real = await stack.enter_async_context(city.client(more=CALLER))
        stand_in = MockCity(same_directory(city.kit), "edu/enrolment")
        profile: Profile = replace(mock.mock_profile(stand_in), defaults=real.profile.defaults)
        client = await stack.enter_async_context(mock.MockClient(stand_in, profile))
        agent = await stack.enter_async_context(serving(real))
        mocked = await stack.enter_async_context(serving(client, (MOCKED,)))
        for name, request in SAME.items():
            expected, found = await outcome(agent.Verify(request)), await outcome(mocked.Verify(request))
            assert found == expected, name
        assert await in_a_roster(mocked) == await in_a_roster(agent)
        for method, page in (
            ("ListAttributes", P.ListAttributesRequest(page_size=2)),
            ("ListMatters", P.ListMattersRequest()),
        ):
            assert await getattr(agent, method)(page) == await getattr(mocked, method)(page)
        for method, refused in (
            ("ListMatters", P.ListMattersRequest(page_size=-1)),
            ("GetBatchResults", P.GetBatchResultsRequest(batch_id="x")),
            ("SubmitBatch", P.SubmitBatchRequest(context=P.Context(matter="nothing"))),
        ):
            assert await told(getattr(agent, method)(refused)) == await told(getattr(mocked, method)(refused))
        city.owners["hrss"].hold.clear()
        slow = asked((("guardian", PERSON[402]),), claims=["guardian: hrss.insured exists"])
        expected, found = [await outcome(stub.Verify(slow, timeout=4)) for stub in (agent, mocked)]
        city.owners["hrss"].hold.set()
        assert found == expected
        assert "OWNER_TIMED_OUT" in found[0]


def of_the_result(persona: Persona) -> tuple[str, str, str]:
    """Status, answer and reason that a persona stands for when it is asked about first."""
    if persona.forged:
        return "UNAVAILABLE", "UNSPECIFIED", "PROOF_INVALID"
    if persona.refusal is not None:
        status = "DENIED" if persona.refusal is Reason.CERTIFICATE_REVOKED else "UNAVAILABLE"
        return status, "UNSPECIFIED", persona.refusal.name
    first = persona.outcomes[0]
    return (
        P.ClaimStatus.Name(first.status).removeprefix("CLAIM_STATUS_"),
        P.Answer.Name(first.answer).removeprefix("ANSWER_"),
        first.reason.name if first.reason else "",
    )


@pytest.mark.parametrize(
    "persona", [one for one in PERSONAS if one.call is None and not one.seconds], ids=lambda one: str(one.number)
)
async def test_every_persona_brings_about_what_the_table_says(mocked: Any, persona: Persona) -> None:
    response = await mocked.Verify(enrolment(PERSON[persona.number]))
    (claim,) = response.result.claims
    found = P.ClaimStatus.Name(claim.status), P.Answer.Name(claim.answer), claim.reason
    assert (found[0].removeprefix("CLAIM_STATUS_"), found[1].removeprefix("ANSWER_"), found[2]) == of_the_result(
        persona
    )
    assert bool(claim.counter) is (claim.answer != P.ANSWER_YES)


@pytest.mark.parametrize("persona", [one for one in PERSONAS if one.call is not None], ids=lambda one: str(one.number))
async def test_personas_that_fail_a_call_fail_it_whole_and_in_a_roster_only_their_case(
    mocked: Any, persona: Persona
) -> None:
    assert persona.call is not None
    code, _, _, reason = await told(mocked.Verify(enrolment(PERSON[persona.number])))
    assert (code, reason) == (persona.call.status, persona.call.name)
    call = mocked.VerifyBatch()
    cases = [enrolment(one, key=one).case for one in (YES, PERSON[persona.number])]
    await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=cases))
    await call.done_writing()
    results = {result.key: result async for response in call for result in response.results}
    assert results[PERSON[persona.number]].reason == persona.call.name
    assert not results[PERSON[persona.number]].claims
    assert results[YES].claims[0].answer == P.ANSWER_YES


async def test_the_slow_persona_takes_its_time_and_less_time_runs_out(mocked: Any) -> None:
    started = time.monotonic()
    response = await mocked.Verify(enrolment(PERSON[401]), timeout=60)
    assert time.monotonic() - started >= 3
    assert response.result.claims[0].answer == P.ANSWER_YES
    city = MockCity(example_directory(), "edu/enrolment")
    async with mock.MockClient(city, mock.mock_profile(city)) as client:
        for number in (401, 402):
            case = Case((Subject("guardian", PERSON[number]),), ("guardian: hrss.insured_months at_least 12",))
            result = await client.verify(case, Context("school-enrolment", "2026-000123"), timeout=1)
            assert result.claims[0].reason is Reason.OWNER_TIMED_OUT
    response = await mocked.Verify(enrolment(PERSON[402]), timeout=4)
    assert response.result.claims[0].reason == "OWNER_TIMED_OUT"


async def test_a_corrected_record_is_answered_otherwise_when_asked_again(mocked: Any) -> None:
    answers = [(await mocked.Verify(enrolment(IN_TURN))).result.claims[0].answer for _ in range(4)]
    assert answers == [P.ANSWER_NO, P.ANSWER_YES, P.ANSWER_NO, P.ANSWER_YES]


async def test_who_stands_in_no_record_is_unknown_never_no(mocked: Any) -> None:
    request = enrolment(
        NO, "guardian: police.card exists", matter="school-points", reference="2026-P000001", jurisdiction="nbs:440306"
    )
    response = await mocked.Verify(request)
    assert response.result.claims[0].answer == P.ANSWER_UNKNOWN


async def test_companies_and_dwellings_have_personas_too() -> None:
    city = MockCity(example_directory(), "housing/leases")
    async with mock.MockClient(city, mock.mock_profile(city)) as client, serving(client) as stub:
        persona = PERSONAS[1]
        case = P.Case(
            subjects=[
                P.Subject(slot="company", identifier=identifier(persona, "uscc") or ""),
                P.Subject(slot="home", identifier=identifier(persona, "house") or ""),
                P.Subject(slot="landlord", identifier=YES),
            ],
            claims=["company: market.licence valid", "home: title.owner related @landlord"],
        )
        context = P.Context(matter="housing-lease", reference="FZ00000001")
        response = await stub.Verify(P.VerifyRequest(context=context, case=case))
        assert [claim.answer for claim in response.result.claims] == [P.ANSWER_NO, P.ANSWER_NO]


async def answers_of_a_batch(stub: Any, cases: Sequence[Any]) -> dict[str, int]:
    submitted = await stub.SubmitBatch(P.SubmitBatchRequest(context=CONTEXT, cases=cases))
    found: dict[str, int] = {}
    token = ""
    while True:
        page = await stub.GetBatchResults(P.GetBatchResultsRequest(batch_id=submitted.batch_id, page_token=token))
        found.update({result.key: result.claims[0].answer for result in page.results})
        token = page.next_page_token
        if not token:
            return found


async def test_everybody_else_is_answered_the_same_by_every_mock(mocked: Any) -> None:
    people = [with_check_digit(f"440399198{number % 10}0505{number:03}") for number in range(60)]
    cases = [enrolment(one, key=one).case for one in people]
    found = await answers_of_a_batch(mocked, cases)
    assert set(found) == set(people)
    assert {P.ANSWER_YES, P.ANSWER_NO} <= set(found.values())
    city = MockCity(example_directory(), "edu/enrolment")
    async with mock.MockClient(city, mock.mock_profile(city)) as client, serving(client) as stub:
        assert await answers_of_a_batch(stub, cases) == found


async def test_a_receipt_of_the_mock_holds_against_its_own_root_only(tmp_path: Path) -> None:
    city = MockCity(example_directory(), "edu/enrolment")
    async with mock.MockClient(city, mock.mock_profile(city)) as client, serving(client) as stub:
        response = await stub.Verify(enrolment(YES))
    (part,) = verify_receipt(response.result.receipt, CertificateVerifier(city.ca_pem, frozenset))
    assert part.requester.uri == "spiffe://mock/edu/system/enrolment"
    another = MockCity(example_directory(), "edu/enrolment")
    real = City.create(tmp_path / "real").ca_pem
    for root in (another.ca_pem, real):
        with pytest.raises(RefusedError):
            verify_receipt(response.result.receipt, CertificateVerifier(root, frozenset))


async def test_every_response_and_refusal_says_that_it_is_a_mock(mocked: Any) -> None:
    for request in (enrolment(YES), enrolment("x")):
        call = mocked.Verify(request)
        assert MOCKED in list(await call.initial_metadata())
        await asyncio.gather(call, return_exceptions=True)


async def test_who_asks_a_mock_at_a_terminal_is_warned(capsys: pytest.CaptureFixture[str]) -> None:
    city = MockCity(example_directory(), "edu/enrolment")
    case = Case((Subject("guardian", YES),), ("guardian: hrss.insured_months at_least 12",))
    context = Context("school-enrolment", "2026-000123")
    async with mock.MockClient(city, mock.mock_profile(city)) as client:
        for announce in ((MOCKED,), ()):
            async with serving(client, announce) as stub:
                capsys.readouterr()
                told = await ask_agent(stub.address, case, context, seconds=20, receipt=False)
                assert told.mock is bool(announce)
                assert ("every answer is invented" in capsys.readouterr().out) is bool(announce)
                for number, detail in ((503, "failed; its log says why"), (501, "")):
                    refused = Case((Subject("guardian", PERSON[number]),), case.claims)
                    with pytest.raises(RefusedError) as caught:
                        await ask_agent(stub.address, refused, context, seconds=20, receipt=False)
                    assert detail in caught.value.detail
                    assert ("every answer is invented" in capsys.readouterr().out) is bool(announce)


async def test_the_mock_refuses_to_be_reached_from_elsewhere(tmp_path: Path) -> None:
    city = MockCity(example_directory(), "edu/enrolment")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(FatalError, match="not there yet"):
        await mock.main(city, "127.0.0.1:0", root, Process("mock", None))
    root.rmdir()
    with pytest.raises(FatalError):
        await mock.main(city, "0.0.0.0:0", root, Process("mock", None))
    assert not root.exists(), "what does not start leaves no directory that the next start would stumble over"


async def test_a_mock_that_runs_for_years_still_answers() -> None:
    now = time.time()
    city = MockCity(example_directory(), "edu/enrolment", lambda: now)
    async with mock.MockClient(city, mock.mock_profile(city), lambda: now) as client, serving(client) as stub:
        now += 9 * 365 * 86_400
        response = await stub.Verify(enrolment(YES), timeout=30)
    assert response.result.claims[0].answer == P.ANSWER_YES


def test_a_system_that_the_directory_has_not_is_told_which_it_has() -> None:
    with pytest.raises(FatalError, match="edu/enrolment"):
        MockCity(example_directory(), "edu/nobody")


def test_files_that_do_not_fit_each_other_are_refused_by_line(tmp_path: Path) -> None:
    matter = tmp_path / "own.toml"
    matter.write_text((examples_directory() / "matters" / "senior-card.toml").read_text().replace('"civil"', '"none"'))
    with pytest.raises(ValueError, match=r"own\.toml:\d+: requesters: none is no member"):
        example_directory(matters=[matter])


class Program:
    """`zhiwang agent mock` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *arguments: str) -> Program:
        code = "from exchange.cli.main import main; main()"
        environment = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"}
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, *arguments,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
            )
        )  # fmt: skip


async def test_the_command_serves_without_a_directory_of_its_own_and_says_what_it_is(tmp_path: Path) -> None:
    socket = tmp_path / "mock.sock"
    root = tmp_path / "mock-root"
    program = await Program.start("agent", "mock", "--listen", f"unix:{socket}", "--root", str(root))
    async with open_channel(f"unix:{socket}", None) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        checked = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE), wait_for_ready=True, timeout=60)
        assert checked.status == health_pb2.HealthCheckResponse.SERVING
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = (await call.read()).list_services_response.service
        assert SERVICE in {service.name for service in listed}
        await call.done_writing()
        stub: Any = verification_pb2_grpc.VerificationServiceStub(channel)
        response = await stub.Verify(enrolment(YES), timeout=30)
    assert response.result.claims[0].answer == P.ANSWER_YES
    verifier = CertificateVerifier((root / "ca.pem").read_bytes(), frozenset)
    assert verify_receipt(response.result.receipt, verifier)
    program.process.send_signal(signal.SIGTERM)
    output, errors = await program.process.communicate()
    assert program.process.returncode == 0
    assert "模拟前置机" in errors.decode()
    assert "every answer is invented" in errors.decode()
    assert YES not in (output + errors).decode()


async def test_the_list_of_personas_is_a_table_or_json() -> None:
    for arguments in (("--list",), ("--list", "--json")):
        program = await Program.start("agent", "mock", *arguments)
        output, _ = await program.process.communicate()
        assert program.process.returncode == 0
        for one in PERSON.values():
            assert one in output.decode()
    listed = json.loads(output)
    assert {"number", "group", "zh", "en", "resident", "uscc", "house"} == set(listed[0])
