"""An agent that keeps receipts: no answer without one, found again at a terminal, and verified offline."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from city_support import CHILD, MOTHER, RunningCity, child, running_city
from exchange.backup import back_up_agent, restore_agent
from exchange.client import receipt_store
from exchange.client.agent import assemble
from exchange.client.batches import Batches
from exchange.client.client import Client
from exchange.client.keeper import Keeper, make_store, open_store, places
from exchange.client.receipt import read_receipt
from exchange.doctor.local import host_of, look
from zhiwang.verification.v1 import verification_pb2, verification_pb2_grpc
from zhiwang.wire.channel import open_channel
from zhiwang.wire.diagnosis import State
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.process import read_address
from zhiwang.wire.profile import Profile, load_profile

P = verification_pb2
REFERENCE = "2026-000123"
CONTEXT = P.Context(matter="school-enrolment", reference=REFERENCE)
KEEPING = """
[agent.receipts]
keep = "3650d"
required = {required}

[[agent.caller]]
certificate = "local"
roles = ["edu/enrolment-clerk"]
"""


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[RunningCity]:
    async with running_city(tmp_path) as city:
        yield city


def keeping(city: RunningCity, *, required: bool = True) -> Profile:
    profile = city.profile(more=KEEPING.format(required=str(required).lower()), name=f"keeping-{required}")
    make_store(profile, city.clock())
    return profile


@asynccontextmanager
async def client_of(city: RunningCity, profile: Profile) -> AsyncIterator[Client]:
    keeper = Keeper.open(profile, city.clock)
    assert keeper is not None
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keeper.close)
        yield await stack.enter_async_context(await Client.open(profile, keeper=keeper))


@asynccontextmanager
async def agent_of(client: Client) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        batches = Batches(asyncio.get_running_loop().time)
        stack.push_async_callback(batches.close)
        server = assemble(client, batches)
        address = server.listen("127.0.0.1:0", None)
        await server.start()
        stack.push_async_callback(server.stop, 0.5)
        channel = await stack.enter_async_context(open_channel(address, None))
        yield verification_pb2_grpc.VerificationServiceStub(channel)


def case(key: str = "", first: str = CHILD) -> Any:
    subjects = [P.Subject(slot="child", identifier=first, name="小明"), P.Subject(slot="guardian", identifier=MOTHER)]
    return P.Case(key=key, subjects=subjects)


def kept(profile: Profile, reference: str = REFERENCE) -> list[str]:
    with closing(open_store(profile)) as store:
        return [found.key for found in store.find(reference)]


async def zhiwang(*arguments: str) -> tuple[int, str, str]:
    code = "from exchange.cli.main import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
    )  # fmt: skip
    async with asyncio.timeout(90):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing can be written."""
    with monkeypatch.context() as patch:
        patch.setattr(receipt_store, "_ADD", "INSERT INTO nowhere VALUES (?, ?, ?, ?, ?)")
        yield


async def test_an_answer_comes_with_its_receipt_kept_whether_or_not_the_caller_wants_one(city: RunningCity) -> None:
    profile = keeping(city)
    async with client_of(city, profile) as client, agent_of(client) as stub:
        for wanted in (False, True):
            response = await stub.Verify(P.VerifyRequest(context=CONTEXT, case=case(str(wanted)), receipt=wanted))
            assert response.result.receipt_kept
            assert response.result.HasField("receipt") is wanted
            assert kept(profile)[-1] == str(wanted)


async def test_of_a_roster_every_case_is_kept_and_found_by_its_key(city: RunningCity) -> None:
    profile = keeping(city)
    async with client_of(city, profile) as client, agent_of(client) as stub:
        call = stub.VerifyBatch()
        cases = [case(str(number), child(number)) for number in range(300)]
        await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=[*cases, P.Case(key="bad", claims=["nonsense"])]))
        await call.done_writing()
        results = {result.key: result async for response in call for result in response.results}
    assert not results.pop("bad").receipt_kept
    assert all(result.receipt_kept and not result.HasField("receipt") for result in results.values())
    assert sorted(kept(profile), key=int) == [str(number) for number in range(300)]


async def test_what_nobody_answered_has_no_receipt_and_is_not_withheld(city: RunningCity) -> None:
    profile = keeping(city)
    async with client_of(city, profile) as client, agent_of(client) as stub:
        asked = P.Case(subjects=[P.Subject(slot="child", identifier=CHILD)], claims=["child: police.age at_least 6"])
        response = await stub.Verify(P.VerifyRequest(context=CONTEXT, case=asked))
        assert response.result.claims[0].status == P.CLAIM_STATUS_DENIED
        assert not response.result.receipt_kept
    assert kept(profile) == []


@pytest.mark.usefixtures("broken")
async def test_an_answer_is_withheld_when_its_receipt_cannot_be_kept(city: RunningCity) -> None:
    async with client_of(city, keeping(city)) as client, agent_of(client) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Verify(P.VerifyRequest(context=CONTEXT, case=case(), receipt=True))
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) for detail in rpc_status.from_call(caught.value).details)
        assert (caught.value.code(), info.reason) == (grpc.StatusCode.UNAVAILABLE, "RECEIPT_NOT_KEPT")
        submitted = await stub.SubmitBatch(P.SubmitBatchRequest(context=CONTEXT, cases=[case("k")]))
        page = await stub.GetBatchResults(P.GetBatchResultsRequest(batch_id=submitted.batch_id))
        (result,) = page.results
        assert (result.key, result.reason, result.receipt_kept) == ("k", "RECEIPT_NOT_KEPT", False)
        assert not result.claims
        assert not result.HasField("receipt")


@pytest.mark.usefixtures("broken")
async def test_where_keeping_is_not_required_the_answer_says_that_nothing_is_kept(city: RunningCity) -> None:
    async with client_of(city, keeping(city, required=False)) as client, agent_of(client) as stub:
        response = await stub.Verify(P.VerifyRequest(context=CONTEXT, case=case(), receipt=True))
    assert response.result.ruling == P.RULING_PASSED
    assert response.result.HasField("receipt")
    assert not response.result.receipt_kept


async def test_a_disk_that_hangs_is_told_within_the_callers_time(
    city: RunningCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = keeping(city)
    loop = asyncio.get_running_loop()
    go = asyncio.Event()
    async with client_of(city, profile) as client:
        assert client._keeper is not None
        real = client._keeper._commit

        def hang(papers: Any) -> None:
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
            real(papers)

        monkeypatch.setattr(client._keeper, "_commit", hang)
        started = loop.time()
        with pytest.raises(RefusedError) as caught:
            await client.verify(city.case(), city.context(), timeout=2)
        assert caught.value.reason is Reason.RECEIPT_NOT_KEPT
        assert loop.time() - started < 60
        go.set()


async def test_kept_receipts_outlive_a_restart_and_without_their_key_the_agent_does_not_start(
    city: RunningCity,
) -> None:
    profile = keeping(city)
    for name in ("first", "second"):
        async with client_of(city, profile) as client:
            await client.verify(city.case(key=name), city.context())
    assert kept(profile) == ["first", "second"]
    (key,) = (profile.path.parent / "receipt-keys").iterdir()
    key.unlink()
    with pytest.raises(FatalError, match="backup"):
        Keeper.open(profile)


async def test_receipts_are_found_beside_a_running_agent_and_verified_offline(city: RunningCity) -> None:
    profile = keeping(city)
    out = city.path / "found"
    find = ("receipt", "find", REFERENCE, "--profile", str(profile.path))
    async with client_of(city, profile) as client, agent_of(client) as stub:
        for key in ("a", "b"):
            await stub.Verify(P.VerifyRequest(context=CONTEXT, case=case(key)))
        code, output, errors = await zhiwang(*find, "--key", "b", "--out", str(out), "--json")
        assert (code, errors) == (0, "")
        (row,) = json.loads(output)["receipts"]
        assert (row["matter"], row["key"], sorted(row["owners"])) == ("school-enrolment", "b", ["health", "hrss"])
    (file,) = out.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_receipt(file.read_bytes()).parts
    for secret in (REFERENCE, CHILD):
        assert secret not in file.name
    code, output, _ = await zhiwang("receipt", "verify", str(file), "--root", str(city.kit.city.root))
    assert code == 0
    assert REFERENCE in output
    assert "1 of 1 claims" in output
    whole = file.read_bytes()
    for content, status in ((whole, 0), (whole[:100], 1), (b"", 1)):
        file.write_bytes(content)
        code, _, errors = await zhiwang(*find, "--key", "b", "--out", str(out))
        assert (code, file.read_bytes()) == (status, content), "nothing that is there is replaced"
        assert (str(file) in errors) is bool(status)
    code, output, errors = await zhiwang(*find)
    assert code == 0
    assert output.count("school-enrolment") == 2
    assert CHILD not in output + errors
    assert (await zhiwang(*find, "--matter", "senior-card"))[0] == 1
    assert (await zhiwang("receipt", "find", "\udcff", "--profile", str(profile.path)))[0] == 2
    code, _, errors = await zhiwang("receipt", "purge", "--profile", str(profile.path), "--year", "2020", "--yes")
    assert code == 1
    assert "no receipt was kept in 2020" in errors
    code, output, _ = await zhiwang("receipt", "purge", "--profile", str(profile.path), "--json")
    assert (code, json.loads(output)) == (0, {"deleted": 0, "year": None})


async def test_a_command_that_is_its_own_agent_says_that_it_keeps_nothing(city: RunningCity) -> None:
    profile = keeping(city)
    asking = ("verify", "--profile", str(profile.path), "--matter", "school-enrolment", "--reference", REFERENCE)
    code, output, errors = await zhiwang(
        *asking, "--subject", f"child={CHILD}", "--subject", f"guardian={MOTHER}", "--json"
    )
    assert (code, json.loads(output)["mock"]) == (0, False)
    assert "keeps no receipt" in errors
    assert kept(profile) == []


async def test_a_purge_at_a_terminal_says_how_many_and_asks(city: RunningCity) -> None:
    profile = keeping(city)
    async with client_of(city, profile) as client:
        await client.verify(city.case(key="k"), city.context())
    profile.path.write_text(profile.path.read_text().replace('"3650d"', '"1h"'))
    with closing(sqlite3.connect(places(profile)[0] / receipt_store.FILE)) as connection:
        connection.execute("UPDATE receipt SET kept = kept - 7200000")
        connection.commit()
    purge = ("receipt", "purge", "--profile", str(profile.path))
    code, _, errors = await zhiwang(*purge)
    assert code == 1
    assert "1 receipts" in errors
    with closing(open_store(profile)) as store:
        assert store.overdue(3600, city.clock()) == 1
    code, output, _ = await zhiwang(*purge, "--yes", "--json")
    assert (code, json.loads(output)) == (0, {"deleted": 1, "year": None})


async def test_init_makes_store_and_key_once_and_only_where_the_profile_keeps_receipts(city: RunningCity) -> None:
    without = city.profile(name="without")
    assert (await zhiwang("agent", "init", "--profile", str(without.path)))[0] == 0
    assert not (without.state / "receipts").exists()
    code, _, errors = await zhiwang("receipt", "find", REFERENCE, "--profile", str(without.path))
    assert code == 1
    assert "agent.receipts" in errors
    profile = city.profile(more=KEEPING.format(required="true"), name="with")
    code, _, errors = await zhiwang("receipt", "find", REFERENCE, "--profile", str(profile.path))
    assert code == 1
    assert "init" in errors
    for _ in range(2):
        assert (await zhiwang("agent", "init", "--profile", str(profile.path)))[0] == 0
    (key,) = (profile.path.parent / "receipt-keys").iterdir()
    assert key.stat().st_mode & 0o777 == 0o600
    assert load_profile(profile.path).agent.receipts is not None


async def test_a_restored_agent_finds_its_receipts_if_the_keys_are_brought_back_too(city: RunningCity) -> None:
    profile = keeping(city)
    async with client_of(city, profile) as client:
        await client.verify(city.case(key="before"), city.context())
        back_up_agent(profile, city.path / "agent.tar")
    assert b"receipt-keys" not in (city.path / "agent.tar").read_bytes()
    other = city.profile(more=KEEPING.format(required="true"), name="restored")
    restore_agent(other, city.path / "agent.tar")
    with pytest.raises(FatalError, match="backup"):
        Keeper.open(other)
    shutil.copytree(places(profile)[1], places(other)[1])
    assert kept(other) == ["before"]
    async with client_of(city, other) as client:
        await client.verify(city.case(key="after"), city.context())
    assert kept(other) == ["before", "after"]


async def test_doctor_says_what_is_wrong_with_kept_receipts(city: RunningCity) -> None:
    def found(profile: Profile) -> list[tuple[State, str]]:
        areas = ("receipts", "permissions")
        return [
            (one.state, one.en) for one in look(host_of(profile)) if one.area in areas and one.state is not State.OK
        ]

    profile = keeping(city)
    profile.state.chmod(0o700)
    assert found(profile) == []
    async with client_of(city, profile) as client:
        await client.verify(city.case(), city.context())
    (key,) = places(profile)[1].iterdir()
    key.chmod(0o644)
    assert [state for state, _ in found(profile)] == [State.WRONG, State.WRONG]
    key.unlink()
    ((state, text),) = found(profile)
    assert state is State.WRONG
    assert key.name in text


async def test_the_process_keeps_what_it_answers_and_tells_it_in_its_metrics(city: RunningCity) -> None:
    profile = keeping(city)
    text = profile.path.read_text()
    profile.path.write_text(f'listen = "127.0.0.1:0"\nmetrics = "127.0.0.1:0"\n{text}')
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from exchange.cli.main import main; main()",
        "agent", "run", "--profile", str(profile.path),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while (serving := read_address(profile.state)) is None:  # noqa: ASYNC110  another process's file
                await asyncio.sleep(0.05)
        async with open_channel(serving["listen"], None) as channel:
            stub: Any = verification_pb2_grpc.VerificationServiceStub(channel)
            response = await stub.Verify(P.VerifyRequest(context=CONTEXT, case=case("k")), timeout=30)
        assert response.result.receipt_kept
        metrics = await asyncio.to_thread(scrape, serving["metrics"])
    finally:
        program.terminate()
        output, errors = await program.communicate()
    assert program.returncode == 0
    assert "zhiwang_agent_receipts_total 1.0" in metrics
    assert "zhiwang_agent_receipts_failing 0.0" in metrics
    assert kept(profile) == ["k"]
    for secret in (REFERENCE, CHILD, "小明"):
        assert secret not in (output + errors).decode() + metrics


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as response:
        content: bytes = response.read()
    return content.decode()
