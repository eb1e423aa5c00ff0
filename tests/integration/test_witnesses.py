"""Hub, registrar and three witnesses as processes, of which two are a quorum."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from audit.checkpoint import Checkpoint, split_note
from audit.proofs import HeadChecker
from certs.identity import Kind
from certs.signing import CertificateVerifier
from witness_city import ORIGIN, ZHIWANG, WitnessCity, names_of
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc

pytestmark = pytest.mark.timeout(300)  # five processes, some of them started several times

NAMES = ("bar", "court", "press")
GO_SOURCES = Path("/usr/share/gocode")


@pytest.fixture
def city(tmp_path: Path) -> WitnessCity:
    city = WitnessCity(tmp_path, NAMES, 2)
    city.make_hub()
    return city


@pytest.fixture
def registrar(city: WitnessCity) -> Iterator[None]:
    with city.running("registrar"):
        yield


@pytest.mark.usefixtures("registrar")
async def test_a_quorum_cosigns_one_may_die_one_may_lie_and_without_a_quorum_there_is_an_alarm(
    city: WitnessCity,
) -> None:
    # Other tests, before this one, may have lost the quorum as well.
    told = len(city.log("hub")) if (city.path / "hub.out").exists() else 0
    witnesses = {name: city.start(name) for name in NAMES}
    hub = city.start("hub")

    def says() -> str:
        return city.log("hub")[told:]

    async def changes(stub: audit_pb2_grpc.AuditServiceStub) -> int:
        search = stub.Search(audit_pb2.SearchRequest(event="quorum_change"))
        return len([entry async for page in search for entry in page.entries])

    try:
        async with city.stub() as stub:
            before = await changes(stub)
            head = await city.until_cosigned(stub, lambda found: names_of(found) == set(NAMES))
            # It is the hub's own checkpoint as well, for whoever knows nothing of witnesses.
            checker = HeadChecker(CertificateVerifier(city.city.ca_pem, frozenset), kinds=(Kind.HUB,))
            assert checker.check(head).origin == ORIGIN
            # At rest it is renewed.
            first = city.policy.quorum_time(head.checkpoint) or 0
            await city.until_cosigned(stub, lambda found: found[1].time > first)

            # One is killed: the others are a quorum, and it goes on with the log.
            city.end(witnesses["bar"], signal.SIGKILL)
            await stub.ListEntries(audit_pb2.ListEntriesRequest(), timeout=60)
            head = await city.until_cosigned(stub, lambda found: names_of(found) == {"court", "press"})

            # An auditor is told, by the keys that the centre publishes.
            await asyncio.to_thread(city.run, "audit", "init", name="auditor")
            done = await asyncio.to_thread(city.run, "audit", "verify", "--json", name="auditor")
            witnessed = json.loads(done.stdout)["witnessed"]
            assert witnessed["quorum"] == 2
            assert {"court", "press"} <= {one["witness"] for one in witnessed["cosignatures"]}

            # Another one signs with a key that the centre does not publish: its state was made anew.
            city.end(witnesses["court"])
            shutil.rmtree(city.states["court"])
            assert city.make("court") != city.keys["court"]
            witnesses["court"] = await asyncio.to_thread(city.start, "court")
            lost = 'zhiwang_hub_witness_failures_total{kind="malformed",witness="court"}'
            await asyncio.to_thread(city.eventually, lambda: city.metric(lost) > 0, city.metrics_text)
            await asyncio.to_thread(
                city.eventually,
                lambda: "no quorum of witnesses cosigns the log" in says(),
                says,
            )
            assert await asyncio.to_thread(city.metric, "zhiwang_hub_cosign_lag_seconds") > 4
            # What a quorum cosigned stays, and the log says that it was lost.
            kept = await city.cosigned(stub)
            assert kept is not None
            assert city.policy.satisfied_by(kept.checkpoint)
            async with asyncio.timeout(60):
                # The alarm is told first, then it is made durable.
                while await changes(stub) <= before:  # noqa: ASYNC110 - another process cannot set an event
                    await asyncio.sleep(0.2)

            # The third comes back: a quorum again, and the alarm ends.
            witnesses["bar"] = await asyncio.to_thread(city.start, "bar")
            await city.until_cosigned(stub, lambda found: {"bar", "press"} <= names_of(found))
            await asyncio.to_thread(city.eventually, lambda: "cosigns the log again" in says(), says)
            assert await asyncio.to_thread(city.metric, "zhiwang_hub_cosign_lag_entries") < 10
    finally:
        city.end(hub)
        for process in witnesses.values():
            city.end(process)
    assert hub.returncode == 0
    assert [process.returncode for process in witnesses.values()] == [0, 0, 0]
    assert "Traceback" not in "".join(city.log(name) for name in ("hub", *NAMES))


@pytest.mark.usefixtures("registrar")
async def test_a_hub_restored_from_an_older_copy_is_refused_and_its_alarm_goes_up(city: WitnessCity) -> None:
    state = city.states["hub"]
    witnesses = {name: city.start(name) for name in NAMES}
    try:
        with city.running("hub"):
            async with city.stub() as stub:
                await city.until_cosigned(stub)
        copy = city.path / "copy"
        shutil.copytree(state, copy)
        with city.running("hub"):
            async with city.stub() as stub:
                await stub.ListEntries(audit_pb2.ListEntriesRequest(), timeout=60)
                size = 0
                while size < 1 + Checkpoint.parse(split_note((copy / "guard/checkpoint").read_bytes())[0]).size:
                    head = await city.until_cosigned(stub, lambda found: len(found) == 3)
                    size = Checkpoint.parse(split_note(head.checkpoint)[0]).size
        seen = _sizes(city)
        cosigned = (state / "cosigned.json").read_bytes()

        # The whole state, guard and all, but for what witnesses had cosigned: it does not start.
        shutil.rmtree(state)
        shutil.copytree(copy, state)
        (state / "cosigned.json").write_bytes(cosigned)
        failed = await asyncio.to_thread(city.run, "hub", "run", status=1)
        assert "rolled back or rewritten" in failed.stdout + failed.stderr
        # Without even that: it starts, and the witnesses find it out.
        (state / "cosigned.json").unlink()
        with city.running("hub"):
            async with city.stub() as stub:
                await asyncio.to_thread(
                    city.eventually, lambda: "another history of this log" in city.log("hub"), lambda: city.log("hub")
                )
                for _ in range(3):
                    await stub.ListEntries(audit_pb2.ListEntriesRequest(), timeout=60)
                forked = 'zhiwang_hub_witness_failures_total{kind="forked",witness="bar"}'
                await asyncio.to_thread(city.eventually, lambda: city.metric(forked) > 0, city.metrics_text)
                assert await city.cosigned(stub) is None
        assert _sizes(city) == seen
    finally:
        for process in witnesses.values():
            city.end(process)


def _sizes(city: WitnessCity) -> dict[str, int]:
    found = {}
    for name in NAMES:
        with closing(sqlite3.connect(city.states[name] / "witness.db")) as connection:
            ((found[name],),) = connection.execute("SELECT size FROM witness_log").fetchall()
    return found


@pytest.mark.usefixtures("registrar")
async def test_export_and_fsck_take_up_what_was_cosigned_and_go_reads_the_note(city: WitnessCity) -> None:
    policy = city.path / "policy.txt"
    lines = [f"witness {name} {key} https://{name}.example/" for name, key in city.keys.items()]
    policy.write_text("\n".join([*lines, f"group all 2 {' '.join(NAMES)}", "quorum all", ""]))
    out = city.path / "exported"
    with city.running("bar"), city.running("press"), city.running("hub"):
        async with city.stub() as stub:
            await city.until_cosigned(stub)
        fsck = ("audit", "fsck", str(out), "--root", str(city.city.root))

        def run(*arguments: str, status: int = 0) -> str:
            command = [*arguments, *(("--profile", str(city.path / "auditor.toml")) if arguments[1] != "fsck" else ())]
            done = subprocess.run(  # noqa: S603  our own command
                [str(ZHIWANG), *command],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == status, done.stdout + done.stderr
            return done.stdout

        await asyncio.to_thread(run, "audit", "export", "--out", str(out))
        await asyncio.to_thread(run, "audit", "init")
        policy.write_text(policy.read_text().replace("all 2", "all 3"))
        refused = await asyncio.to_thread(run, "audit", "verify", "--witness-policy", str(policy), status=1)
        assert refused == ""
        policy.write_text(policy.read_text().replace("all 3", "all 2"))
    told = json.loads(run(*fsck, "--witness-policy", str(policy), "--json"))["witnessed"]
    assert {one["witness"] for one in told["cosignatures"]} == {"bar", "press"}
    _go_reads(city, out)
    (out / "checkpoint.cosigned").write_bytes((out / "checkpoint").read_bytes())
    assert (
        "has 0 of the 2 witnesses"
        in json.loads(run(*fsck, "--witness-policy", str(policy), "--json", status=1))["faults"][0]["message"]
    )


def _go_reads(city: WitnessCity, out: Path) -> None:
    """Go's note.Open verifies the log's signature in a cosigned note, and passes over lines that it does not know."""
    if shutil.which("go") is None or not (GO_SOURCES / "src/golang.org/x/mod/sumdb").is_dir():
        pytest.skip("Go or Debian's golang-golang-x-mod-dev is not installed; the rest of this test holds")
    program = city.path / "open.go"
    program.write_text(
        """package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

func main() {
	key, _ := os.ReadFile(os.Args[1])
	msg, _ := os.ReadFile(os.Args[2])
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		panic(err)
	}
	n, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		panic(err)
	}
	fmt.Println(len(n.Sigs), len(n.UnverifiedSigs))
}
"""
    )
    environment = {
        "PATH": "/usr/bin:/bin:/usr/local/bin",
        "GO111MODULE": "off",
        "GOPATH": str(GO_SOURCES),
        "GOCACHE": str(city.path / "go-cache"),
        "HOME": str(city.path),
    }
    done = subprocess.run(  # noqa: S603  a fixed command over our own files
        [str(shutil.which("go")), "run", str(program), str(out / "log.vkey"), str(out / "checkpoint.cosigned")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout == "1 2\n", done.stderr


def test_a_witness_is_made_once_and_tells_its_key(city: WitnessCity) -> None:
    state = city.states["bar"]
    shutil.rmtree(state)
    key = city.run("witness", "init", name="bar").stdout.split()
    assert any(word.startswith("shenzhen/bar/witness/main+") for word in key)
    assert "already" in city.run("witness", "init", name="bar", status=1).stderr
    again = city.run("witness", "key", name="bar").stdout.strip()
    assert again == (state / "witness.vkey").read_text().strip()
    assert again != city.keys["bar"]
    (state / "witness.key").chmod(0o644)
    failed = city.run("witness", "run", name="bar", status=1)
    assert "chmod 600" in failed.stdout + failed.stderr


@pytest.mark.usefixtures("registrar")
def test_the_doctor_looks_at_a_witness_and_at_a_hub_that_is_cosigned(city: WitnessCity) -> None:
    with city.running("bar"), city.running("press"):
        assert "has never cosigned" in city.run("doctor", name="bar", status=1).stdout
        with city.running("hub"):
            city.eventually(lambda: city.metric("zhiwang_hub_cosigned_size") > 0, lambda: city.log("hub"))
            for name in ("bar", "hub"):
                found = json.loads(
                    city.run("doctor", "--json", name=name, status=1 if name == "hub" else 0).stdout or "[]"
                )
                lines = [(one["area"], one["state"], one["en"]) for one in found]
                wrong = [line for line in lines if line[1] == "wrong"]
                if name == "bar":
                    assert wrong == []
                    assert any(area == "witness" and "entries cosigned" in en for area, _, en in lines)
                else:
                    # Nobody runs the third; the quorum stands.
                    assert all("court" in en or str(city.ports["court"]) in en for _, _, en in wrong), wrong
                    assert any(area == "witnesses" and state == "ok" for area, state, _ in lines), lines
