"""docs/receipts.md, followed word by word in a city whose hub is witnessed; and what the agent does meanwhile.

What the page leaves to its reader is given here: an answered case, an agent's profile, and a time-stamping authority.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

import policy_support
from audit.checkpoint import parse_key
from audit.cosigning import Cosigning
from audit.mirror import vkey_of
from audit.tlog_policy import parse_policy
from audit.witnessed import PolicyInForce, policy_of
from city_support import Hub, RunningCity, running_city
from exchange.client import agent, completing
from exchange.client.client import Client
from exchange.client.keeper import Keeper, make_store, open_store
from exchange.client.receipt import write_receipt
from exchange.client.receipt_files import load_receipt
from exchange.client.receipt_times import Trust, prove
from tsa_support import Tsa, needs_tsa
from witness_support import Kit, Near, witness_key
from zhiwang.wire.kept import KeptFile
from zhiwang.wire.profile import Profile

PAGE = Path(__file__).parents[2] / "docs" / "receipts.md"
REFERENCE = "2026-000123"
WITNESSED = f"""
witness_quorum = 2
[witness]
one.key = "{witness_key(1)}"
two.key = "{witness_key(2)}"
three.key = "{witness_key(3)}"
"""
KEEPING = """
[agent.receipts]
keep = "3650d"

[[agent.caller]]
certificate = "local"
roles = ["edu/enrolment-clerk"]
"""

pytestmark = pytest.mark.timeout(300)  # a dozen processes, and the machine may have other work


def witnessed_centre() -> str:
    """The centre's file with three witnesses, of whom two must cosign."""
    quorum, tables = WITNESSED.strip().split("\n", 1)
    return policy_support.CENTRE.replace('city = "shenzhen"', f'city = "shenzhen"\n{quorum}', 1) + f"\n{tables}\n"


@asynccontextmanager
async def cosigned(city: RunningCity) -> AsyncIterator[Cosigning]:
    """The hub's log under two of three witnesses, with their own stores and rules; the third is away."""
    hub: Hub = city.hub
    assert hub.files is not None
    store = hub.up.audit_log.store.shard()
    key = parse_key(vkey_of(store.origin, (hub.files.directory / "signing.pem").read_bytes()))
    kits = [Kit(city.path / f"witness-{number}", number, certified=(), keys={store.origin: [key]}) for number in (1, 2)]
    clients = {name: Near(kit) for name, kit in zip(("one", "two"), kits, strict=True)}
    cosigning = Cosigning(
        hub.up.audit_log.store.shard,
        PolicyInForce(hub.up.holder),
        clients,
        KeptFile(city.path / "cosigned"),
        city.clock,
        every=0.2,
        alarm_after=600,
    )
    hub.cosigned = lambda: cosigning.newest
    task = asyncio.create_task(cosigning.run())
    try:
        yield cosigning
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for kit in kits:
            kit.close()


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[RunningCity]:
    async with running_city(tmp_path, centre=witnessed_centre()) as city, cosigned(city):
        yield city


@asynccontextmanager
async def asking(city: RunningCity) -> AsyncIterator[tuple[Profile, Client, Keeper]]:
    """A client that keeps receipts, as an agent has it."""
    profile = city.profile(more=KEEPING, name="edu")
    make_store(profile, city.clock())
    keeper = Keeper.open(profile, city.clock)
    assert keeper is not None
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keeper.close)
        yield profile, await stack.enter_async_context(await Client.open(profile, keeper=keeper)), keeper


async def test_an_agent_completes_what_it_keeps_over_the_hubs_own_service(
    city: RunningCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "ROUND_SECONDS", 0.2)
    policy = policy_of(city.kit.directory.centre)
    async with asking(city) as (profile, client, keeper):
        task = asyncio.create_task(agent.completing(client, keeper, profile.root))
        result = await client.verify(city.case(), city.context(), receipt=True)
        assert result.receipt is not None
        assert not any(part.HasField("hub_cosigned") for part in result.receipt.parts)
        store = open_store(profile)
        try:
            async with asyncio.timeout(90):
                while await asyncio.to_thread(store.waiting, 0, 0, 1):  # noqa: ASYNC110 - the store has no event to wait for
                    await asyncio.sleep(0.1)
            (found,) = store.find(REFERENCE)
        finally:
            store.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        # Whoever had the file before finds it completed, with the time stamp that it has gained elsewhere.
        out = profile.path.parent / "receipts"
        out.mkdir()
        path = out / f"{found.id}.receipt.json"
        result.receipt.time_stamps.add(part_hashes=[bytes(32)], response=b"stamp")
        write_receipt(path, result.receipt)
        command = f"zhiwang receipt find {REFERENCE} --profile {profile.path} --out {out} --json"
        status, output = await run(out, command)
        assert (status, json.loads(output)["receipts"][0]["cosigned"]) == (0, True)
        there = load_receipt(path)
        assert found.receipt is not None
        assert (there.parts, there.time_stamps) == (found.receipt.parts, result.receipt.time_stamps)
        # Another receipt in its place stays, and is told of.
        there.parts[0].claims[0].salt = bytes(32)
        path.unlink()
        write_receipt(path, there)
        status, output = await run(out, command)
        assert status == 1
        assert load_receipt(path) == there
    verifier = city.hub.up.views._verifier
    proved = prove(found.receipt, Trust(verifier, witnesses=policy))
    assert {one.name for said in proved.witnessed for one in said.cosignatures} == {"one", "two"}
    assert len(proved.parts) == 2


async def run(directory: Path, line: str) -> tuple[int, str]:
    words = shlex.split(line, comments=True)
    assert words[0] == "zhiwang"
    code = "from exchange.cli.main import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *words[1:],
        cwd=directory, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
    )  # fmt: skip
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@needs_tsa
async def test_the_page_is_followed_word_by_word(city: RunningCity, tmp_path: Path) -> None:
    tsa = Tsa(tmp_path / "tsa")
    async with asking(city) as (profile, client, _):
        result = await client.verify(city.case(), city.context(), receipt=True)
    directory = profile.path.parent
    assert result.receipt is not None
    write_receipt(directory / "case.receipt.json", result.receipt)
    profile.path.rename(directory / "edu.toml")
    (directory / "root").symlink_to(city.kit.city.root)
    (directory / "tsa.pem").write_bytes(tsa.root_path.read_bytes())
    said: dict[tuple[str, int], str] = {}
    with tsa.serving() as url:
        for block in re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            for line in block.splitlines():
                status, output = await run(directory, line.replace("http://tsa.example.cn", url))
                assert status == 0, f"{line}\n{output}"
                said[line.split()[2], len(said)] = output
    texts = list(said.values())
    assert "无见证" in texts[0]
    verified = next(text for (word, number), text in said.items() if word == "verify" and number)
    assert "见证 witnesses: shenzhen/dsjj/hub/main" in verified
    assert any("时间戳 time stamp: 不晚于" in text for text in texts)
    again, last = (load_receipt(directory / name) for name in ("again.receipt.json", "case.receipt.json"))
    assert again.parts == last.parts
    assert len(last.time_stamps) == 1
    page = (directory / "case.html").read_text("utf-8")
    assert "非深户籍儿童入学" in page
    assert "见证 witnesses" in page


async def test_a_receipt_that_is_younger_than_the_cosigned_tree_is_told_to_wait(
    city: RunningCity, tmp_path: Path
) -> None:
    async with asking(city) as (profile, client, _):
        result = await client.verify(city.case(), city.context(), receipt=True)
    assert result.receipt is not None
    path = tmp_path / "case.json"
    write_receipt(path, result.receipt)
    city.hub.cosigned = lambda: None
    before = path.read_bytes()
    status, output = await run(tmp_path, f"zhiwang receipt complete {path} --profile {profile.path} --json")
    assert status == 1
    assert not json.loads(output[output.index("[") :])[0]["complete"]
    assert path.read_bytes() == before


def test_the_policy_on_the_page_is_one() -> None:
    (block,) = re.findall(r"^```\n(witness .*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert parse_policy(block.encode()).quorum == 2
