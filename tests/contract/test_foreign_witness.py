"""A witness and a client of C2SP tlog-witness that we did not write: ours against theirs, over HTTP, both ways."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import audit_support as support
from audit.appended import Head
from audit.cosignature import WitnessPolicy, parse_witness_key
from audit.cosigner import Cosigner, WitnessError
from audit.cosigning import Cosigning
from audit.store import LogStore
from audit.witness_client import HttpWitness
from audit.witness_http import WitnessServer
from witness_support import ORIGIN, Kit, witness_key
from zhiwang.wire.kept import KeptFile
from zhiwang.wire.vkey import VerifierKey

REQUIREMENTS = Path(__file__).parents[2] / "dev" / "requirements-aics-witness.txt"
FEED = Path(__file__).parents[1] / "verifiers" / "python" / "feed.py"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which their package can be imported, installed in a directory of its own as pinned."""
    target = tmp_path_factory.mktemp("aics-witness")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    command += ["--no-deps", "--ignore-requires-python", "--only-binary", ":all:", "--retries", "1"]
    command += ["--target", str(target), "-r", str(REQUIREMENTS)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - pinned by hashes
    if installed.returncode:
        if "DO NOT MATCH" in installed.stderr:
            pytest.fail(installed.stderr)
        pytest.skip(f"aics-witness cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    return {**os.environ, "PYTHONPATH": str(target)}


@asynccontextmanager
async def serving(env: dict[str, str], config: Path) -> AsyncIterator[str]:
    """Their witness as a process; its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "aics_witness", "serve", "--config", str(config), "--listen", "127.0.0.1:0"),
        env=env,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(PATIENCE):
            while (found := re.search(rb"listening on (http://\S+)", said)) is None:
                line = await process.stderr.readline()
                assert line, said.decode()
                said += line
        yield found[1].decode()
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), PATIENCE)


async def command(env: dict[str, str], *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", *words), env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, complaint = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0, complaint.decode()
    return out.decode()


def key_of_log() -> VerifierKey:
    return VerifierKey(ORIGIN, support.signer().public_key_raw)


async def cosigned(cosigning: Cosigning, size: int) -> Head:
    """The newest cosigned head, once it has reached a size."""
    async with asyncio.timeout(PATIENCE):
        while (newest := cosigning.newest) is None or newest.size < size:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    return newest


async def test_their_witness_cosigns_our_log_and_refuses_another_history_of_it(
    tmp_path: Path, theirs: dict[str, str]
) -> None:
    config = tmp_path / "witness.json"
    tool = ("-m", "aics_witness")
    vkey = (await command(theirs, *tool, "init", "--config", str(config), "--name", "witness.example/w1")).strip()
    log = ("add-log", "--config", str(config), "--origin", ORIGIN, "--vkey", str(key_of_log()))
    await command(theirs, *tool, *log)
    store = support.make_store(tmp_path / "log.db")
    first = support.append(store, 9).head
    policy = WitnessPolicy({"theirs": [parse_witness_key(vkey)]}, 1)

    def gathering(url: str) -> Cosigning:
        kept = KeptFile(tmp_path / "cosigned.json")
        clients = {"theirs": HttpWitness(url, b"", support.CITY)}
        return Cosigning(lambda: store, lambda: policy, clients, kept, time.time, every=0.05, alarm_after=60)

    async with serving(theirs, config) as url:
        cosigning = gathering(url)
        asking = asyncio.create_task(cosigning.run())
        assert policy.satisfied_by((await cosigned(cosigning, first.size)).checkpoint)
        for count in (1, 300):
            size = support.append(store, count).head.size
            assert policy.satisfied_by((await cosigned(cosigning, size)).checkpoint)
        asking.cancel()
        await cosigning.close()
    # Theirs starts again, and ours knows nothing of what it cosigned: a 409 with the size tells.
    async with serving(theirs, config) as url:
        cosigning = gathering(url)
        asking = asyncio.create_task(cosigning.run())
        size = support.append(store, 5).head.size
        assert policy.satisfied_by((await cosigned(cosigning, size)).checkpoint)
        asking.cancel()
        await cosigning.close()

        # The same key signs another history, of the same size and then of a larger one.
        other = support.make_store(tmp_path / "other.db")
        head = support.append(other, size - other.newest.size).head
        assert (head.size, head.root != store.newest.root) == (size, True)
        cosigner = Cosigner("theirs", HttpWitness(url, b"", support.CITY), time.time)
        for head in (head, support.append(other, 7).head):  # noqa: B020 - the larger one follows
            with pytest.raises(WitnessError, match="forked"):
                await cosigner.ask(policy, other, head)
        await cosigner.close()
    evidence = json.loads(await command(theirs, *tool, "evidence", "--config", str(config)))
    assert len(evidence) >= 1
    support.close(store, other)


def submitted(store: LogStore, head: Head, olds: Sequence[int]) -> tuple[str, dict[str, list[str]]]:
    proofs = {f"{old} {head.size}": [node.hex() for node in store.consistency(old, head.size)] for old in olds}
    return head.checkpoint.decode(), proofs


async def test_our_witness_cosigns_for_their_client_and_refuses_another_history(
    tmp_path: Path, theirs: dict[str, str]
) -> None:
    kit = Kit(tmp_path / "witness", certified=(), keys={ORIGIN: [key_of_log()]})
    server = WitnessServer(kit.witness.add_checkpoint, lambda _status: None)
    address = await server.start("127.0.0.1:0")
    store, other = support.make_store(tmp_path / "log.db"), support.make_store(tmp_path / "other.db")
    heads = [support.append(store, count).head for count in (9, 1, 300)]
    forked = support.append(other, heads[-1].size - 1).head
    assert forked.size == heads[-1].size
    sizes = [head.size for head in heads]
    given = [submitted(store, head, sizes[:at]) for at, head in enumerate(heads)]
    larger = support.append(other, 4).head
    given += [(forked.checkpoint.decode(), {}), submitted(other, larger, [sizes[-1]])]
    path = tmp_path / "submissions.json"
    path.write_text(json.dumps(given))

    async def fed() -> list[str | int]:
        """What a client that has just started is answered."""
        said = await command(theirs, str(FEED), f"http://{address}", str(witness_key(1)), str(path))
        answers: list[str | int] = json.loads(said)
        return answers

    policy = WitnessPolicy({"ours": [witness_key(1)]}, 1)
    answers = await fed()
    for head, note in zip(heads, answers, strict=False):
        assert isinstance(note, str)
        assert policy.satisfied_by(note.encode())
        assert head.checkpoint.decode() in note
    # Two trees of one size are a 409 without a size in the edition that we speak, and a 422 in theirs.
    assert answers[3:] == ["BadWitnessResponse", 422]
    assert len(kit.evidence) == 1
    # A client that knows nothing is told where the witness stands, and goes on from there.
    path.write_text(json.dumps([submitted(store, support.append(store, 3).head, [sizes[-1]])]))
    (note,) = await fed()
    assert policy.satisfied_by(str(note).encode())
    await server.stop()
    kit.close()
    support.close(store, other)
