"""DecisionService at a hub that runs: entries explained, accesses decided again, and who may ask for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import policy_support
from audit.entry import decode_entry
from audit.service import AuditServicer
from audit_served import ZHIWANG
from certs.credentials import IdentityFiles
from city_support import RunningCity, running_city
from policy import workers
from zhiwang.policy.v1 import decisions_pb2, decisions_pb2_grpc, policy_pb2, policy_pb2_grpc, rights_pb2
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Kind, server_name

CLAIM = "guardian: hrss.pension_months at_least 12"
INSURED = "guardian: hrss.insured exists"
RULE = "hrss/enrolment-pension"
PATIENCE = 60.0
CENTRE = (
    policy_support.CENTRE
    + """
[department.audit]
title = { zh = "审计局", en = "Audit office" }
home = "nbs:4403"
auditor.one.office = true
"""
)
BEGIN = policy_support.HRSS.index('[[grant]]\nid = "enrolment-pension"')
END = policy_support.HRSS.index('[[grant]]\nid = "enrolment-insured"')
WITHOUT = policy_support.HRSS[:BEGIN] + policy_support.HRSS[END:]


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[RunningCity]:
    async with running_city(
        tmp_path, owners=("hrss",), centre=CENTRE, members=("edu", "hrss", "health", "audit")
    ) as city:
        yield city


@asynccontextmanager
async def channel(city: RunningCity, short: str = "audit/auditor/one") -> AsyncIterator[grpc.aio.Channel]:
    enrolled, path = city.kit.city, city.kit.city.path(short)
    files = IdentityFiles(path, enrolled.root) if path.exists() else enrolled.enrol(short)
    name = server_name("shenzhen", Kind.HUB)
    async with open_channel(city.hub.address, files.channel_credentials(), server_name=name) as opened:
        yield opened


@asynccontextmanager
async def decisions(city: RunningCity, short: str = "audit/auditor/one") -> AsyncIterator[Any]:
    async with channel(city, short) as opened:
        yield decisions_pb2_grpc.DecisionServiceStub(opened)


async def ask(city: RunningCity, *claims: str, name: str = "client", **context: str) -> None:
    async with city.client(name=name) as client:
        await client.verify(city.case(claims=list(claims or (CLAIM,))), city.context(**context))


async def refused(call: Any) -> RefusedError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)


async def replayed(stub: Any, *files: str, **fields: Any) -> list[decisions_pb2.ReplayResponse]:
    standpoint = rights_pb2.Standpoint()
    for number, file in enumerate(files):
        standpoint.files.add(name=f"file-{number}", content=file.encode())
    request = decisions_pb2.ReplayRequest(standpoint=standpoint, **fields)
    return [said async for said in stub.Replay(request, timeout=PATIENCE)]


def entries(city: RunningCity) -> list[Any]:
    return [decode_entry(data) for data in city.hub.up.store.entries(0, 1000)]


def index_of(city: RunningCity, number: int = -1) -> int:
    """Of an access, in the order in which they were recorded."""
    return [index for index, entry in enumerate(entries(city)) if entry.WhichOneof("event") == "hub_access"][number]


async def zhiwang(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    def run() -> subprocess.CompletedProcess[str]:
        command = [str(ZHIWANG), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603 - ours

    done = await asyncio.to_thread(run)
    assert done.returncode == status, done.stdout + done.stderr
    return done


async def test_an_entry_is_explained_by_the_rules_of_its_day_over_grpc_as_by_the_command(city: RunningCity) -> None:
    await ask(city)
    index, version = index_of(city), city.kit.directory.version
    city.publish(WITHOUT)
    async with decisions(city) as stub:
        told = await stub.ExplainEntry(decisions_pb2.ExplainEntryRequest(index=index), timeout=PATIENCE)
    assert (told.outcome, told.reason, told.directory_version) == ("ANSWERED", "", version)
    assert told.document_version == 1
    (claim,) = told.claims
    assert (claim.denied, claim.allowed_again) == (False, True)
    assert list(claim.rule_ids) == [rule.id for rule in claim.rules] == [RULE]
    assert "教育局" in claim.rules[0].sentence.zh
    assert any(ground.holds and ground.kind == policy_pb2.Ground.KIND_GRANT for ground in claim.grounds)
    assert told.agrees
    assert told.entry.index == index
    assert told.origin == city.hub.up.store.origin
    # What was read is recorded, for whom.
    reads = [entry.audit_read for entry in entries(city) if entry.WhichOneof("event") == "audit_read"]
    assert {(read.method, read.start) for read in reads} >= {("GetEntry", index)}
    assert {read.reader for read in reads} == {"spiffe://shenzhen/audit/auditor/one"}
    profile = city.profile("audit/auditor/one", name="audit").path
    said = json.loads((await zhiwang("policy", "explain", "--entry", index, "--profile", profile, "--json")).stdout)
    assert said["agrees"] is told.agrees
    assert said["directory"] == version
    assert [ground["text"] for ground in said["claims"][0]["grounds"]] == [ground.text for ground in claim.grounds]
    assert said["claims"][0]["rules"] == [RULE]
    shown = (await zhiwang("policy", "explain", "--entry", "2026-000123", "--profile", profile)).stdout
    assert "as the entry says" in shown
    assert f"{RULE} applies" in shown


async def test_a_denial_is_explained_by_what_stood_against_it(city: RunningCity) -> None:
    await ask(city, INSURED, jurisdiction="nbs:440305")
    async with decisions(city) as stub:
        told = await stub.ExplainEntry(decisions_pb2.ExplainEntryRequest(index=index_of(city)), timeout=PATIENCE)
    assert told.outcome == "DENIED"
    (claim,) = told.claims
    assert (claim.denied, claim.allowed_again, claim.reason_again) == (True, False, "NOT_GRANTED")
    assert told.agrees
    assert any("it is for nbs:440306" in ground.text for ground in claim.grounds if not ground.holds)


async def test_where_the_directory_of_the_day_is_gone_nothing_is_made_up(city: RunningCity) -> None:
    await ask(city)
    version = city.kit.directory.version
    snapshot = city.hub.directory / "published" / "metadata" / f"{version}.snapshot.json"
    async with decisions(city) as stub:
        request = decisions_pb2.ExplainEntryRequest(index=index_of(city))
        snapshot.write_bytes(b"{}")
        told = await stub.ExplainEntry(request, timeout=PATIENCE)
        assert "does not verify" in told.unavailable.en
        assert not told.agrees
        assert not told.claims[0].grounds
        snapshot.unlink()
        told = await stub.ExplainEntry(request, timeout=PATIENCE)
        assert "no longer kept" in told.unavailable.en
        assert not told.agrees


async def test_the_accesses_of_the_hub_are_decided_again_and_those_that_flip_are_told(city: RunningCity) -> None:
    for number in range(3):
        await ask(city, reference=f"2026-00010{number}", name=f"client-{number}")
    await ask(city, INSURED, reference="2026-000200", name="insured")
    async with decisions(city) as stub:
        said = await replayed(stub, WITHOUT, max_flips=2)
        last = said[-1]
        assert last.done
        assert (last.accesses, last.not_read, last.flipped, last.by_standpoint) == (4, 0, 3, 3)
        flips = [flip for part in said for flip in part.flips]
        assert [flip.index for flip in flips] == [index_of(city, 2), index_of(city, 1)]
        (group,) = last.groups
        assert (group.department, group.ask, group.allowed, group.count) == (
            "edu",
            "hrss.pension_months at_least",
            False,
            3,
        )
        # Under the directory in force nothing flips; what was there before the time is not looked at.
        assert [part.flipped for part in await replayed(stub)][-1] == 0
        later = decisions_pb2.ReplayRequest()
        later.since_time.GetCurrentTime()
        assert [part.accesses async for part in stub.Replay(later, timeout=PATIENCE)] == [0, 0]
    reads = [entry.audit_read for entry in entries(city) if entry.WhichOneof("event") == "audit_read"]
    assert all(read.method == "Search" and "event=hub_access" in read.query for read in reads)
    assert len(reads) == 3


async def test_each_sees_of_the_log_what_it_may_read_and_nobody_else_anything(city: RunningCity) -> None:
    await ask(city)
    request = decisions_pb2.ExplainEntryRequest(index=index_of(city))
    async with decisions(city, "health/auditor/one") as stub:
        assert (await refused(stub.ExplainEntry(request, timeout=PATIENCE))).reason is Reason.ENTRY_UNKNOWN
        assert (await replayed(stub, WITHOUT))[-1].accesses == 0
    async with decisions(city, "hrss/auditor/one") as stub:
        assert (await replayed(stub, WITHOUT))[-1].accesses == 1
    # An admin sees what its own department was asked, and not what it asked.
    async with decisions(city, "hrss/admin/first") as stub:
        assert (await replayed(stub, WITHOUT))[-1].accesses == 1
        assert (await stub.ExplainEntry(request, timeout=PATIENCE)).entry.index == request.index
    async with decisions(city, "edu/admin/first") as stub:
        assert (await refused(stub.ExplainEntry(request, timeout=PATIENCE))).reason is Reason.ENTRY_UNKNOWN
        assert (await replayed(stub, WITHOUT))[-1].accesses == 0
    async with decisions(city, "edu/system/enrolment") as stub:
        assert (await refused(stub.ExplainEntry(request, timeout=PATIENCE))).reason is Reason.RPC_NOT_ALLOWED
        assert (await refused(stub.Replay(decisions_pb2.ReplayRequest()).read())).reason is Reason.RPC_NOT_ALLOWED


async def test_bad_questions_about_the_log_are_refused(city: RunningCity) -> None:
    async with decisions(city) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await replayed(stub, "this is no TOML")
        refusal = refusal_of(caught.value)
        assert refusal.reason is Reason.DOCUMENT_INVALID
        assert "file-0" in refusal.metadata["finding-01"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await replayed(stub, "#" * (8 << 20), "#")
        assert refusal_of(caught.value).reason is Reason.REQUEST_TOO_LARGE
        proposal = decisions_pb2.ReplayRequest(standpoint=rights_pb2.Standpoint(proposal_id="0" * 16))
        assert (await refused(stub.Replay(proposal).read())).reason is Reason.PROPOSAL_UNKNOWN
        unknown = decisions_pb2.ReplayRequest(standpoint=rights_pb2.Standpoint(directory_version=999))
        assert (await refused(stub.Replay(unknown).read())).reason is Reason.NAME_UNKNOWN
        beyond = decisions_pb2.ExplainEntryRequest(index=10_000)
        assert (await refused(stub.ExplainEntry(beyond))).reason is Reason.ENTRY_UNKNOWN
        # The first entry of a log is no access.
        assert (await refused(stub.ExplainEntry(decisions_pb2.ExplainEntryRequest()))).reason is Reason.ENTRY_UNKNOWN


async def test_one_log_is_replayed_once_at_a_time_and_who_goes_away_makes_room(
    city: RunningCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(city)
    entered, held = asyncio.Event(), asyncio.Event()
    real = workers.Worker.call

    async def slow(self: workers.Worker, function: str, *arguments: Any, seconds: float) -> Any:
        if function == "exchange.deciding:decide" and not held.is_set():
            entered.set()
            await held.wait()
        return await real(self, function, *arguments, seconds=seconds)

    monkeypatch.setattr(workers.Worker, "call", slow)
    async with decisions(city) as stub, decisions(city, "hrss/auditor/one") as other:
        call = stub.Replay(decisions_pb2.ReplayRequest(), timeout=PATIENCE)
        reading = asyncio.create_task(call.read())
        async with asyncio.timeout(PATIENCE):
            await entered.wait()
        assert (await refused(other.Replay(decisions_pb2.ReplayRequest()).read())).reason is Reason.OVERLOADED
        # Questions that are short have a process left.
        async with channel(city) as opened:
            policies = policy_pb2_grpc.PolicyServiceStub(opened)
            listed = await policies.ListAttributes(rights_pb2.ListAttributesRequest(owner="hrss"), timeout=PATIENCE)
            assert listed.attributes
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        held.set()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    said = await replayed(other)
                except grpc.aio.AioRpcError as error:
                    assert refusal_of(error).reason is Reason.OVERLOADED  # noqa: PT017 - the hub has yet to notice
                    await asyncio.sleep(0.05)
                else:
                    break
        assert said[-1].accesses == 1


async def test_a_replay_ends_in_its_time_although_its_caller_reads_no_further(
    city: RunningCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(city)
    search = AuditServicer.Search

    async def without_end(self: AuditServicer, request: Any, context: Any) -> AsyncIterator[Any]:
        async with aclosing(search(self, request, context)) as pages:
            page = await anext(pages)
        for _ in range(8):
            page.entries.extend(list(page.entries))
        while True:
            yield page

    monkeypatch.setattr(AuditServicer, "Search", without_end)
    monkeypatch.setattr("exchange.decisions.REPLAY_SECONDS", 20.0)
    async with decisions(city) as stub, decisions(city, "hrss/auditor/one") as other:
        request = decisions_pb2.ReplayRequest()
        request.standpoint.files.add(name="hrss/document.toml", content=WITHOUT.encode())
        unread = stub.Replay(request)
        assert (await unread.read()).flips
        async with asyncio.timeout(PATIENCE):
            while True:
                call = other.Replay(request)
                try:
                    assert (await call.read()).flips
                except grpc.aio.AioRpcError as error:
                    assert refusal_of(error).reason is Reason.OVERLOADED  # noqa: PT017 - the other still runs
                    await asyncio.sleep(0.2)
                else:
                    call.cancel()
                    break
        unread.cancel()
