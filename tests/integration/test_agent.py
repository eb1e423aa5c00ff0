"""The agent as programs of a department call it: the plain API, over loopback, a Unix socket and mTLS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from agent_support import CALLERS, CONTEXT, Agent, P, agent_of, case, refused
from certs.signing import CertificateVerifier
from city_support import CHILD, FATHER, MOTHER, RunningCity, running_city
from exchange.client.receipt_verify import verify_receipt
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.verification.v1 import verification_pb2_grpc
from zhiwang.wire.channel import open_channel

SERVICE = "zhiwang.verification.v1.VerificationService"


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[RunningCity]:
    async with running_city(tmp_path) as city:
        yield city


@pytest.fixture
async def agent(city: RunningCity) -> AsyncIterator[Agent]:
    async with agent_of(city) as agent:
        yield agent


async def test_any_program_of_the_machine_can_verify(agent: Agent) -> None:
    response = await agent.here.Verify(P.VerifyRequest(context=CONTEXT, case=case("k"), receipt=True))
    result = response.result
    assert (result.key, result.ruling) == ("k", P.RULING_PASSED)
    assert [(claim.name, claim.status, claim.answer) for claim in result.claims] == [
        (name, P.CLAIM_STATUS_ANSWERED, P.ANSWER_YES) for name in ("parent", "pension", "insured")
    ]
    verifier = CertificateVerifier(agent.city.kit.city.ca_pem, frozenset)
    assert len(verify_receipt(result.receipt, verifier)) == 2


async def test_a_unix_socket_serves_the_same(agent: Agent) -> None:
    stub = agent.stub(open_channel(agent.socket, None))
    response = await stub.Verify(P.VerifyRequest(context=CONTEXT, case=case()))
    assert response.result.ruling == P.RULING_PASSED


async def test_a_mapped_certificate_may_call_from_elsewhere(agent: Agent) -> None:
    stub = agent.there("edu/system/counter")
    response = await stub.Verify(P.VerifyRequest(context=CONTEXT, case=case()))
    assert response.result.ruling == P.RULING_PASSED
    other = P.Context(matter="senior-card", reference="x")
    told = await refused(stub.Verify(P.VerifyRequest(context=other, case=case())))
    assert told == ("PERMISSION_DENIED", "MATTER_NOT_ALLOWED", "context.matter")


async def test_whoever_is_not_mapped_may_call_nothing(agent: Agent) -> None:
    stub = agent.there("edu/system/unknown")
    for call in (
        stub.Verify(P.VerifyRequest(context=CONTEXT, case=case())),
        stub.SubmitBatch(P.SubmitBatchRequest(context=CONTEXT)),
        stub.GetBatchResults(P.GetBatchResultsRequest(batch_id="x")),
        stub.ListAttributes(P.ListAttributesRequest()),
        stub.ListMatters(P.ListMattersRequest()),
    ):
        assert (await refused(call))[:2] == ("PERMISSION_DENIED", "CALLER_NOT_MAPPED")
    stream = stub.VerifyBatch()
    assert (await refused(stream.read()))[:2] == ("PERMISSION_DENIED", "CALLER_NOT_MAPPED")


async def test_no_identity_but_a_system_or_an_agent_may_call(agent: Agent) -> None:
    told = await refused(agent.there("hrss/adapter/main").ListMatters(P.ListMattersRequest()))
    assert told[:2] == ("PERMISSION_DENIED", "RPC_NOT_ALLOWED")


async def test_without_an_entry_not_even_the_own_machine_may_call(city: RunningCity) -> None:
    async with agent_of(city, '[agent]\nidentity = "{agent}"\n') as agent:
        told = await refused(agent.here.Verify(P.VerifyRequest(context=CONTEXT, case=case())))
    assert told[:2] == ("PERMISSION_DENIED", "CALLER_NOT_MAPPED")


@pytest.mark.parametrize(
    ("context", "asked", "expected"),
    [
        ({}, {"subjects": [P.Subject(slot="child", identifier=CHILD[:-1] + "A")]},
         ("INVALID_ARGUMENT", "IDENTIFIER_INVALID", "case.subjects[0].identifier")),
        ({}, {"subjects": [P.Subject(slot="uncle", identifier=CHILD)]},
         ("INVALID_ARGUMENT", "SLOT_UNKNOWN", "case.subjects[0].slot")),
        ({}, {"claims": ["nonsense"]}, ("INVALID_ARGUMENT", "CLAIM_SYNTAX", "case.claims[0]")),
        ({}, {"claims": ["guardian: hrss.insured exists"] * 10_000},
         ("INVALID_ARGUMENT", "TOO_MANY_CLAIMS", "case.claims")),
        ({"reference": MOTHER}, {}, ("INVALID_ARGUMENT", "REFERENCE_INVALID", "context.reference")),
        ({"official": CHILD}, {}, ("INVALID_ARGUMENT", "OFFICIAL_INVALID", "context.official")),
        ({"matter": "none"}, {}, ("PERMISSION_DENIED", "MATTER_NOT_ALLOWED", "context.matter")),
        ({"role": "edu/other"}, {}, ("PERMISSION_DENIED", "ROLE_NOT_HELD", "context.role")),
        ({"jurisdiction": "x"}, {}, ("INVALID_ARGUMENT", "JURISDICTION_INVALID", "context.jurisdiction")),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_is_refused_by_reason_and_field(
    agent: Agent, context: dict[str, Any], asked: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    changed = P.Context()
    changed.CopyFrom(CONTEXT)
    changed.MergeFrom(P.Context(**context))
    assert await refused(agent.here.Verify(P.VerifyRequest(context=changed, case=case(**asked)))) == expected


async def test_the_callers_deadline_is_kept(agent: Agent) -> None:
    agent.city.owners["health"].hold.clear()
    async with asyncio.timeout(8):
        response = await agent.here.Verify(P.VerifyRequest(context=CONTEXT, case=case()), timeout=1.5)
    statuses = {claim.name: claim.status for claim in response.result.claims}
    assert statuses == {
        "parent": P.CLAIM_STATUS_UNAVAILABLE,
        "pension": P.CLAIM_STATUS_ANSWERED,
        "insured": P.CLAIM_STATUS_ANSWERED,
    }


async def test_a_stream_of_cases_is_answered_with_their_keys(agent: Agent) -> None:
    call = agent.here.VerifyBatch()
    await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=[case("0"), case("1")]))
    first = await call.read()
    await call.write(P.VerifyBatchRequest(cases=[case(str(number)) for number in range(2, 400)]))
    await call.write(P.VerifyBatchRequest(cases=[P.Case(key="bad", claims=["nonsense"])]))
    await call.done_writing()
    results = {result.key: result for result in first.results}
    while (response := await call.read()) is not grpc.aio.EOF:
        results.update({result.key: result for result in response.results})
    bad = results.pop("bad")
    assert (bad.reason, bad.field) == ("CLAIM_SYNTAX", "claims[0]")
    assert set(results) == {str(number) for number in range(400)}
    assert {result.ruling for result in results.values()} == {P.RULING_PASSED}


@pytest.mark.parametrize(
    ("later", "field"),
    [
        (P.VerifyBatchRequest(context=P.Context(matter="senior-card", reference="2026-000123")), "context"),
        (P.VerifyBatchRequest(context=CONTEXT, receipt=True), "receipt"),
    ],
)
async def test_nothing_of_a_stream_is_asked_under_another_purpose_than_it_says(
    agent: Agent, later: Any, field: str
) -> None:
    call = agent.here.VerifyBatch()
    await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=[case("0")]))
    await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=[case("1")]))
    keys: set[str] = set()
    while keys != {"0", "1"}:
        keys |= {result.key for result in (await call.read()).results}
    later.cases.append(case("2"))
    await call.write(later)
    assert await refused(call.read()) == ("INVALID_ARGUMENT", "REQUEST_MALFORMED", field)


async def test_a_stream_is_read_no_faster_than_its_results_are_taken(agent: Agent) -> None:
    call = agent.here.VerifyBatch()
    await call.write(P.VerifyBatchRequest(context=CONTEXT, receipt=True))
    written = 0
    try:
        async with asyncio.timeout(4):
            while written < 8_000:
                await call.write(P.VerifyBatchRequest(cases=[case(str(written))] * 100))
                written += 100
            await asyncio.sleep(10)
    except TimeoutError:
        pass
    asked = [
        sealed_pb2.Header.FromString(item.request.header).cases
        for frame in agent.city.owners["hrss"].frames
        for item in frame.items
    ]
    assert 0 < sum(asked) < written // 2
    call.cancel()


async def test_a_batch_can_be_submitted_and_fetched(agent: Agent) -> None:
    stub = agent.here
    cases = [case(str(number)) for number in range(300)]
    submitted = await stub.SubmitBatch(P.SubmitBatchRequest(context=CONTEXT, cases=cases))
    keys: list[str] = []
    token = ""
    while True:
        response = await stub.GetBatchResults(
            P.GetBatchResultsRequest(batch_id=submitted.batch_id, page_size=70, page_token=token)
        )
        keys += [result.key for result in response.results]
        token = response.next_page_token
        if not token:
            break
    assert response.done
    assert sorted(keys, key=int) == [str(number) for number in range(300)]
    other = agent.there("edu/system/counter")
    told = await refused(other.GetBatchResults(P.GetBatchResultsRequest(batch_id=submitted.batch_id)))
    assert told[:2] == ("NOT_FOUND", "BATCH_UNKNOWN")
    bad = P.Context(matter="none", reference="x")
    assert (await refused(stub.SubmitBatch(P.SubmitBatchRequest(context=bad))))[1] == "MATTER_NOT_ALLOWED"


async def test_what_is_published_can_be_listed_in_pages(agent: Agent) -> None:
    stub = agent.here
    names: list[str] = []
    token = ""
    while True:
        response = await stub.ListAttributes(P.ListAttributesRequest(page_size=1, page_token=token))
        names += [attribute.name for attribute in response.attributes]
        token = response.next_page_token
        if not token:
            break
    assert names == ["health.birth_mother", "hrss.insured", "hrss.pension_months"]
    own = await stub.ListAttributes(P.ListAttributesRequest(owner="hrss"))
    assert [attribute.name for attribute in own.attributes] == names[1:]
    matters = await stub.ListMatters(P.ListMattersRequest())
    assert [matter.name for matter in matters.matters] == ["school-enrolment", "senior-card"]


async def test_health_follows_the_hub(agent: Agent) -> None:
    channel = open_channel(agent.local, None)
    agent.stack.push_async_callback(channel.close)
    stub = health_pb2_grpc.HealthStub(channel)

    async def status() -> int:
        return int((await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status)

    async with asyncio.timeout(20):
        while await status() != health_pb2.HealthCheckResponse.SERVING:  # noqa: ASYNC110  another's state
            await asyncio.sleep(0.05)
        await agent.city.hub.stop(0.0)
        while await status() != health_pb2.HealthCheckResponse.NOT_SERVING:  # noqa: ASYNC110  the same
            await asyncio.sleep(0.05)


async def test_a_program_can_find_the_service_by_reflection(agent: Agent) -> None:
    channel = open_channel(agent.local, None)
    agent.stack.push_async_callback(channel.close)
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    response = await call.read()
    assert SERVICE in {service.name for service in response.list_services_response.service}
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
    assert (await call.read()).file_descriptor_response.file_descriptor_proto
    await call.done_writing()


class Program:
    """`zhiwang …` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *arguments: str) -> Program:
        code = "from exchange.cli.main import main; main()"
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                code,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
            )
        )

    async def end(self, given: bytes = b"") -> tuple[int, str, str]:
        async with asyncio.timeout(60):
            output, errors = await self.process.communicate(given)
        return self.process.returncode or 0, output.decode(), errors.decode()


async def announced(state: Path) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while not (state / "address.json").exists():  # noqa: ASYNC110  another process's file
            await asyncio.sleep(0.05)
    content: dict[str, Any] = json.loads((state / "address.json").read_text())
    return content


async def test_the_process_serves_until_it_is_told_to_stop(city: RunningCity) -> None:
    city.kit.city.enrol("edu/agent/main")
    more = CALLERS.format(agent=city.kit.city.path("edu/agent/main"))
    profile = city.profile(more=more, name="process")
    text = profile.path.read_text()
    profile.path.write_text(f'listen = "127.0.0.1:0"\nmetrics = "127.0.0.1:0"\n{text}')
    program = await Program.start("agent", "run", "--profile", str(profile.path))
    try:
        addresses = await announced(profile.state)
        async with AsyncExitStack() as stack:
            channel = open_channel(addresses["listen"], None)
            stack.push_async_callback(channel.close)
            stub: Any = verification_pb2_grpc.VerificationServiceStub(channel)
            response = await stub.Verify(P.VerifyRequest(context=CONTEXT, case=case()))
            assert response.result.ruling == P.RULING_PASSED
        metrics = await scrape(addresses["metrics"])
        assert 'zhiwang_agent_claims_total{reason="",status="ANSWERED"} 3.0' in metrics
        for secret in (CHILD, MOTHER, "小明"):
            assert secret not in metrics
    finally:
        program.process.send_signal(signal.SIGTERM)
        code, output, errors = await program.end()
    assert code == 0
    for secret in (CHILD, MOTHER, "小明"):
        assert secret not in output + errors
    assert not (profile.state / "address.json").exists()


async def scrape(address: str) -> str:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    content = await reader.read()
    writer.close()
    await writer.wait_closed()
    return content.decode()


async def verify(city: RunningCity, *arguments: str, given: str = "", **profile: Any) -> tuple[int, str, str]:
    path = str(city.profile(**profile).path)
    common = ("--profile", path, "--matter", "school-enrolment", "--reference", "2026-000123")
    program = await Program.start("verify", *common, *arguments)
    return await program.end(given.encode())


async def test_verify_prints_a_table_and_writes_a_receipt_that_holds_offline(city: RunningCity) -> None:
    receipt = city.path / "receipt.json"
    code, output, _ = await verify(
        city, "--subject", "child=-", "--subject", "guardian=-", "--receipt", str(receipt),
        given=f"child={CHILD},小明\nguardian={MOTHER}，李梅\nguardian={FATHER}\n",
    )  # fmt: skip
    assert code == 0
    assert output.count("是 YES") == 6
    assert "养老保险是否已连续缴费满" in output
    assert "通过 passed" in output
    assert CHILD not in output
    await city.hub.stop(0.0)
    root = str(city.kit.city.root)
    code, output, _ = await (await Program.start("receipt", "verify", str(receipt), "--root", root)).end()
    assert code == 0
    for words in ("凭证有效", "edu/enrolment-clerk", "2026-000123", "2026-09-01", CHILD, "李梅", "hrss", "是 YES"):
        assert words in output
    flipped = bytearray(receipt.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (city.path / "flipped.json").write_bytes(bytes(flipped))
    program = await Program.start("receipt", "verify", str(city.path / "flipped.json"), "--root", root, "--json")
    code, output, _ = await program.end()
    assert code == 1
    assert json.loads(output)["valid"] is False


async def test_verify_says_in_json_what_was_denied(city: RunningCity) -> None:
    code, output, _ = await verify(
        city, "--subject", f"guardian={MOTHER}", "--json",
        "guardian: hrss.pension_months at_least 13", "guardian: hrss.insured exists",
    )  # fmt: skip
    assert code == 1
    claims = json.loads(output)["claims"]
    assert [(claim["status"], claim["answer"], claim["reason"]) for claim in claims] == [
        ("DENIED", "", "CELL_NOT_PUBLISHED"),
        ("ANSWERED", "YES", ""),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--subject", f"guardian={MOTHER[:-1]}A"),
        ("--subject", "guardian"),
        ("--subject", f"guardian={MOTHER}", "nonsense"),
        ("--subject", f"guardian={MOTHER}", "--official", MOTHER),
        ("--no-such-option",),
    ],
)
async def test_wrong_usage_is_told_without_repeating_it(city: RunningCity, arguments: tuple[str, ...]) -> None:
    code, output, errors = await verify(city, *arguments)
    assert code == 2
    assert MOTHER[:-1] not in output + errors
