"""The drill of docs/backup.md: real processes are backed up while people ask, go on, are destroyed and come back.

What must hold: a copy that is older than what anybody remembers is never signed over; one that is the newest goes on,
and whoever remembers finds that it extends what was seen; a log that is lost for good has a successor that says so.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.checkpoint import Checkpoint, split_note
from breaking_support import INSURED, PARENT, Forge, RealCity, case, command, context, exchange
from certs.ca import Authority
from certs.request import make_requests
from exchange.demo.build import (
    ADMINS,
    CENTRE,
    CITY,
    HUB,
    LOOPBACK,
    REGISTRAR,
    write_profile,
    write_profile_file,
)
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire import archive
from zhiwang.wire.identity import Identity
from zhiwang.wire.profile import load_profile

OWNERS = ("health", "hrss")
SECONDS = 8.0
KEPT = {"guard", "lock"}
HEADS = Path("client") / "heads.json"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the processes of the test are controlled as Linux does it"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("restore"), OWNERS)
    yield city
    city.stop()


def zhiwang(city: RealCity, place: str, verb: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    noun = "adapter" if place in city.owners else place
    return command(noun, verb, "--profile", str(city.layout.profile(place)), *arguments)


def back_up(city: RealCity, place: str, out: Path, *options: str) -> Path:
    done = zhiwang(city, place, "backup", "--out", str(out), "--json", *options)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["files"] > 0
    assert out.stat().st_mode & 0o777 == 0o600
    return out


def restore(city: RealCity, place: str, source: Path, *options: str) -> None:
    done = zhiwang(city, place, "restore", "--from", str(source), *options)
    assert done.returncode == 0, done.stderr.decode()


def refused(city: RealCity, place: str, source: Path, *options: str) -> str:
    """Why a backup is not restored; nothing of it is left."""
    done = zhiwang(city, place, "restore", "--from", str(source), *options)
    assert done.returncode == 1, done.stdout
    assert {path.name for path in city.layout.state(place).iterdir()} <= KEPT
    return " ".join(done.stderr.decode().split())


def _size(backup: Path) -> int:
    """Entries of the log in a backup."""
    return int(archive.read_manifest(backup).facts["log_size"])


def destroy(city: RealCity, place: str, *, guard: bool = False) -> None:
    """What a lost disk takes; the guard lies on another one."""
    for path in city.layout.state(place).iterdir():
        if path.name == "guard" and not guard:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def ends_by_itself(city: RealCity, place: str) -> str:
    """Start a process that cannot go on; what it says."""
    said = len(city.fleet.log(place).read_text("utf-8"))
    city.start(place)
    deadline = time.monotonic() + 30.0
    while city.fleet.poll(place) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert city.fleet.poll(place) == 1
    return city.fleet.log(place).read_text("utf-8")[said:]


async def answered(city: RealCity, number: int = 1) -> None:
    """Ask through the agent until both owners answer; it holds every head against what it has seen before."""
    application = city.applications[number]
    request = api.VerifyRequest(context=context(application), case=case(application, [PARENT, INSURED]), receipt=True)
    async with asyncio.timeout(60):
        while True:
            async with city.agent_stub() as stub:
                response = await stub.Verify(request, timeout=SECONDS)
            if all(claim.status == api.CLAIM_STATUS_ANSWERED for claim in response.result.claims):
                return
            await asyncio.sleep(0.1)


async def remembered(path: Path, backup: Path) -> Path:
    """A file in which somebody remembers a log, once it says that more was seen than is in a backup."""
    origin, size = archive.read_manifest(backup).identity, _size(backup)
    async with asyncio.timeout(60):
        while _remembered(path, origin) <= size:  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.1)
    return path


def _remembered(path: Path, origin: str) -> int:
    text = json.loads(path.read_text("utf-8")) if path.exists() else {}
    logs = text.get("logs", [text] if text else [])
    return max((int(log["size"]) for log in logs if log["origin"] == origin), default=0)


async def test_a_hub_from_an_older_backup_never_signs_over_what_was_seen_and_the_newest_goes_on(
    city: RealCity, tmp_path: Path
) -> None:
    older = back_up(city, "hub", tmp_path / "older.tar")  # while it runs
    await answered(city)
    heads = await remembered(city.layout.state("agent") / HEADS, older)
    size = len(city.entries("hub"))
    assert city.fleet.end("hub") == 0
    newest = back_up(city, "hub", tmp_path / "newest.tar")
    destroy(city, "hub")

    assert "its guard has seen" in refused(city, "hub", older)

    # Nor does a hub start whose files somebody has put back by hand.
    archive.unpack(older, tmp_path / "by-hand")
    shutil.copytree(tmp_path / "by-hand", city.layout.state("hub"), dirs_exist_ok=True)
    assert "rolled back" in ends_by_itself(city, "hub")
    destroy(city, "hub", guard=True)

    # The guard is lost as well: nobody says what was seen, or an agent does.
    assert "--seen" in refused(city, "hub", newest)
    assert "heads.json has seen" in refused(city, "hub", older, "--seen", str(heads))
    restore(city, "hub", newest, "--seen", str(heads), "--yes")  # others may be a moment behind
    city.start("hub")
    await city.ready()
    await answered(city, 2)
    assert (await city.verified("hub")).checkpoint.size > size


async def test_an_adapter_from_the_newest_backup_has_forgotten_no_guess(city: RealCity, tmp_path: Path) -> None:
    older = back_up(city, "hrss", tmp_path / "older.tar")
    forge = Forge(city, keys=await city.owner_keys())
    person = city.applications[3].guardians[0].person
    sealed_at = time.monotonic()
    sealed = forge.request("hrss", [INSURED], [{"guardian": (person.identifier, "某某")}], expires=59)
    async with city.hub_channel() as channel:
        first = (await exchange(channel, sealed.request)).result
    assert first.outcome == audit_pb2.OUTCOME_ANSWERED
    seen = await remembered(city.layout.state("hub") / "owner_logs" / "hrss_main.json", older)
    guesses, size = city.count("hrss", "guess"), len(city.entries("hrss"))
    assert city.fleet.end("hrss") == 0
    newest = back_up(city, "hrss", tmp_path / "newest.tar")
    held = set(archive.read_manifest(newest).files)
    assert "keys/ledger.key" in held
    assert not [name for name in held if "owner_keys" in name or "guard" in name]
    destroy(city, "hrss", guard=True)

    assert "hrss_main.json has seen" in refused(city, "hrss", older, "--seen", str(seen))
    restore(city, "hrss", newest, "--seen", str(seen), "--yes")  # others may be a moment behind
    city.start("hrss")
    await city.ready()
    # What was sealed for the keys that are gone is answered to nobody; the same guess, sealed anew, costs nothing.
    forge = Forge(city, keys=await city.owner_keys())
    anew = forge.request("hrss", [INSURED], [{"guardian": (person.identifier, "某某")}], expires=59)
    async with city.hub_channel() as channel:
        # A machine that took a minute for all this tells less: then the request has ended by itself.
        at = time.monotonic()
        reason = (await exchange(channel, sealed.request)).result.reason
        assert reason == "KEY_UNKNOWN" or (reason == "REQUEST_EXPIRED" and at - sealed_at > 50)
        assert (await exchange(channel, anew.request)).result.outcome == audit_pb2.OUTCOME_ANSWERED
    assert city.count("hrss", "guess") == guesses
    await answered(city)
    assert (await city.verified("hrss")).checkpoint.size > size


def _certify(city: RealCity, short: str) -> None:
    """What the authority has to agree to."""
    authority = Authority.load(city.layout.directory / "authority")
    for request in make_requests(city.layout.identity(short), Identity.parse_short(CITY, short)):
        request.with_suffix(".pem").write_bytes(authority.issue(request.read_bytes()))


def _succeeded(city: RealCity, place: str) -> tuple[str, Checkpoint]:
    """Name of a log, and what its first entry says of the one before it."""
    opened = city.entries(place)[0].log_opened
    return opened.origin, Checkpoint.parse(split_note(opened.predecessor)[0])


async def test_a_hubs_log_that_is_lost_for_good_has_a_successor_that_agents_take_up(
    city: RealCity, tmp_path: Path
) -> None:
    await answered(city)
    seen = city.layout.state("hub") / "owner_logs" / "hrss_main.json"
    async with asyncio.timeout(60):
        while not seen.exists():  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.1)
    older = back_up(city, "hub", tmp_path / "older.tar")
    registrar = load_profile(city.layout.profile("hub")).registrar
    await answered(city, 4)
    city.fleet.kill("hub")
    city.layout.state("hub").rename(tmp_path / "lost")
    _certify(city, f"{CENTRE}/hub/second")
    write_profile(
        city.layout, "hub", f"{CENTRE}/hub/second", listen=city.hub_address, registrar=registrar, metrics=LOOPBACK
    )
    done = zhiwang(city, "hub", "init", "--successor-of", str(older))
    assert done.returncode == 0, done.stderr.decode()
    origin, before = _succeeded(city, "hub")
    assert origin == f"{CITY}/{CENTRE}/hub/second"
    assert (before.origin, before.size) == (f"{CITY}/{HUB}", _size(older))
    # What owners' logs were seen to be is not forgotten.
    kept = city.layout.state("hub") / "owner_logs" / "hrss_main.json"
    assert _remembered(kept, f"{CITY}/hrss/adapter/main") > 0
    city.start("hub")
    await city.ready()
    await answered(city, 5)
    await city.verified("hub")


async def test_an_owners_log_that_is_lost_for_good_has_a_successor_that_says_so(city: RealCity, tmp_path: Path) -> None:
    await answered(city)
    older = back_up(city, "health", tmp_path / "older.tar")
    guesses = city.count("health", "guess")
    assert guesses > 0
    await answered(city, 4)
    city.fleet.kill("health")
    lost = city.layout.state("health")
    lost.rename(tmp_path / "lost")

    # Never under its own name …
    done = zhiwang(city, "health", "init", "--successor-of", str(older))
    assert done.returncode == 1
    assert "under its own name" in " ".join(done.stderr.decode().split())
    # … but under a new one, which the authority has to certify.
    short = "health/adapter/second"
    _certify(city, short)
    files = {"mapping": "mapping.toml", "document": "document.toml"}
    write_profile(
        city.layout, "health", short, listen=LOOPBACK, metrics=LOOPBACK, hub=[city.hub_address], adapter=files
    )
    done = zhiwang(city, "health", "init", "--successor-of", str(older))
    assert done.returncode == 0, done.stderr.decode()

    origin, before = _succeeded(city, "health")
    assert origin == f"{CITY}/{short}"
    assert (before.origin, before.size) == (f"{CITY}/health/adapter/main", _size(older))
    assert city.count("health", "guess") == guesses
    city.start("health")
    await city.ready()
    await answered(city, 5)
    await city.verified("health")


async def test_a_restored_registrar_goes_on_from_what_readers_have_seen(city: RealCity, tmp_path: Path) -> None:
    older = back_up(city, "registrar", tmp_path / "older.tar", "--with-keys")
    reader = city.layout.state("hub") / "directory"
    # The hub knows its address from its own profile.
    address = city.address("registrar")
    write_profile(city.layout, "registrar", REGISTRAR, listen=address)
    for _ in range(2):  # each start signs a newer timestamp
        assert city.fleet.end("registrar") == 0
        before = _timestamp(reader)
        city.start("registrar")
        await _newer(reader, before)
    seen = _timestamp(reader)
    assert seen > int(str(archive.read_manifest(older).facts["timestamp"]))
    assert city.fleet.end("registrar") == 0
    destroy(city, "registrar")

    assert zhiwang(city, "registrar", "restore", "--from", str(older)).returncode == 2  # nobody says what was seen
    restore(city, "registrar", older, "--reader", str(reader))
    city.start("registrar")
    await _newer(reader, seen)
    await answered(city)

    # Its newest step is lost: the guard has seen an entry that no copy has. The log is not signed over, and the
    # directory goes on under another name.
    older = back_up(city, "registrar", tmp_path / "before.tar", "--with-keys")
    seen = _timestamp(reader)
    signing = str(city.layout.identity(f"hrss/admin/{ADMINS[0]}"))
    admin = city.layout.directory / "hrss-admin.toml"
    write_profile_file(city.layout, admin, f"hrss/admin/{ADMINS[0]}", registrar=city.address("registrar"))
    stopped = command("policy", "suspend", "--system", "edu/nobody", "--sign", signing, "--profile", str(admin))
    assert stopped.returncode == 0, stopped.stderr.decode()
    await _newer(reader, seen)
    assert city.fleet.end("registrar") == 0
    destroy(city, "registrar")
    assert "must not be signed over" in refused(city, "registrar", older, "--reader", str(reader))
    shutil.move(city.layout.state("registrar") / "guard" / "checkpoint", tmp_path / "guard")
    _certify(city, f"{CENTRE}/registrar/second")
    write_profile(city.layout, "registrar", f"{CENTRE}/registrar/second", listen=address)
    seen = _timestamp(reader)
    restore(city, "registrar", older, "--reader", str(reader))
    origin, lost = _succeeded(city, "registrar")
    assert (origin, lost.origin) == (f"{CITY}/{CENTRE}/registrar/second", f"{CITY}/{REGISTRAR}")
    city.start("registrar")
    await _newer(reader, seen)
    await answered(city)


def _timestamp(reader: Path) -> int:
    return int(json.loads((reader / "metadata" / "timestamp.json").read_text("utf-8"))["signed"]["version"])


async def _newer(reader: Path, version: int) -> None:
    async with asyncio.timeout(60):
        while _timestamp(reader) <= version:  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.1)


async def test_an_agent_that_was_restored_remembers_what_it_had_seen(city: RealCity, tmp_path: Path) -> None:
    await answered(city)
    heads = city.layout.state("agent") / HEADS
    async with asyncio.timeout(60):
        while not heads.exists():  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.1)
    newest = back_up(city, "agent", tmp_path / "agent.tar")  # while it runs
    archive.unpack(newest, tmp_path / "held")
    known = (tmp_path / "held" / HEADS).read_bytes()
    assert json.loads(known)["hubs"]
    assert city.fleet.end("agent") == 0
    destroy(city, "agent")
    restore(city, "agent", newest)
    assert heads.read_bytes() == known
    city.start("agent")
    await city.ready()
    await answered(city, 2)
