"""`zhiwang audit verify` from whatever somebody kept of a log, with and without reading its entries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import audit_support as support
from audit.checkpoint import Checkpoint, sign
from audit_served import served, write_profile, zhiwang
from certs_support import City


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City.create(tmp_path / "city")


async def verified(*arguments: str, status: int = 0) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((await zhiwang("verify", *arguments, "--json", status=status)).stdout)
    return facts


async def test_only_what_is_new_is_read_unless_all_of_it_is_wanted(city: City, tmp_path: Path) -> None:
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        await hub.log.append(support.new_entries(hub.log.store, 700))
        profile = ("--profile", str(write_profile(city, "office/auditor/one", hub.address)))
        await zhiwang("init", *profile)
        first = await verified(*profile)
        assert (first["size"], first["read"], first["whole"]) == (701, 701, True)
        await hub.log.append(support.new_entries(hub.log.store, 300))
        # The listing above is an entry, too.
        second = await verified(*profile)
        assert (second["size"], second["extends"], second["read"], second["whole"]) == (1002, 701, 301, False)
        third = await verified(*profile, "--full")
        assert (third["size"], third["read"], third["whole"], third["extends"]) == (1003, 1003, True, 1002)
        # Hashes alone: nothing is read, so nothing is recorded.
        fourth = await verified(*profile, "--consistency")
        assert (fourth["size"], fourth["read"], fourth["extends"]) == (1004, 0, 1003)
        assert (await verified(*profile, "--consistency"))["size"] == 1004
        # What it kept here can be damaged; then all of it is read, and nobody is accused.
        (edge,) = (city.directory / "state-office-auditor-one" / "seen").glob("*.edge")
        whole = edge.read_bytes()
        edge.write_bytes(whole[:-1] + bytes((whole[-1] ^ 1,)))
        fifth = await verified(*profile)
        assert (fifth["read"], fifth["whole"], fifth["verified"]) == (1004, True, True)
        edge.write_bytes(b"junk")
        assert (await verified(*profile))["whole"]
        await zhiwang("verify", *profile, "--full", "--consistency", status=2)


async def test_a_log_extends_every_checkpoint_that_was_kept_of_it(city: City, tmp_path: Path) -> None:
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        store = hub.log.store
        kept = []
        for number in range(3):
            await hub.log.append(support.new_entries(store, 100))
            note = tmp_path / f"checkpoint-{number}"
            note.write_bytes(store.newest.checkpoint)
            kept += ["--since", str(note)]
        await hub.log.append(support.new_entries(store, 100))
        office = ("--profile", str(write_profile(city, "office/auditor/one", hub.address)))
        await zhiwang("init", *office)
        facts = await verified(*office, *kept)
        assert [(one["size"], one["extended"]) for one in facts["since"]] == [(101, True), (201, True), (301, True)]
        assert (facts["read"], facts["verified"]) == (0, True)
        # What is no prefix of it is named, and the others are still told.
        signer = city.enrol("centre/hub/main").signer()
        for name, size in (("other", 101), ("larger", 9999), ("newest", 401)):
            forked = Checkpoint(store.origin, size, bytes(32))
            note = tmp_path / name
            note.write_bytes(sign(forked, store.origin, signer.public_key_raw, signer.sign))
            kept += ["--since", str(note)]
        facts = await verified(*office, *kept, status=1)
        assert [one["extended"] for one in facts["since"]] == [True, True, True, False, False, False]
        assert facts["verified"] is False
        told = await zhiwang("verify", *office, *kept, status=1)
        assert "does not extend what was kept" in told.stderr
        assert "checkpoint-0" in told.stdout
        foreign = tmp_path / "foreign"
        foreign.write_bytes(sign(Checkpoint("x/y", 1, bytes(32)), "x/y", signer.public_key_raw, signer.sign))
        assert "says nothing of the log" in (await zhiwang("verify", *office, "--since", str(foreign), status=2)).stderr
        foreign.write_bytes(b"junk")
        assert "no checkpoint" in (await zhiwang("verify", *office, "--since", str(foreign), status=2)).stderr


async def test_whoever_may_not_read_every_entry_may_hold_the_log_against_what_was_kept(
    city: City, tmp_path: Path
) -> None:
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        await hub.log.append(support.new_entries(hub.log.store, 300))
        office = ("--profile", str(write_profile(city, "office/auditor/one", hub.address)))
        await zhiwang("init", *office)
        await zhiwang("verify", *office, "--consistency")
        # An auditor's memory serves as a checkpoint does.
        (memory,) = (city.directory / "state-office-auditor-one" / "seen").glob("*.json")
        own = ("--profile", str(write_profile(city, "civil/auditor/two", hub.address)))
        await zhiwang("init", *own)
        assert (await verified(*own, "--since", str(memory)))["since"][0]["size"] == 301
        assert (await verified(*own, "--consistency"))["size"] == 301
        assert "RPC_NOT_ALLOWED" in (await zhiwang("verify", *own, "--full", status=1)).stderr
