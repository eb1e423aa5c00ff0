"""`zhiwang audit` as a person runs it, against a log that is served over mTLS."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import audit_support as support
from adapter_support import ANNA
from audit_served import Served, served, write_profile, zhiwang
from certs_support import City
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.merkle import leaf_hash
from zhiwang.wire.process import write_address


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City.create(tmp_path / "city")


async def test_an_auditor_verifies_the_hubs_log_again_and_again(city: City, tmp_path: Path) -> None:
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        await hub.log.append(support.new_entries(hub.log.store, 2500))
        profile = str(write_profile(city, "office/auditor/one", hub.address))
        refused = await zhiwang("verify", "--profile", profile, status=1)
        assert "make it with the init command" in refused.stderr
        await zhiwang("init", "--profile", profile)
        facts = json.loads((await zhiwang("verify", "--profile", profile, "--json")).stdout)
        assert facts["origin"] == "shenzhen/centre/hub/main"
        assert (facts["size"], facts["extends"], facts["verified"]) == (2501, None, True)
        assert facts["events"] == {"audit_read": 2500, "log_opened": 1}
        shown = await zhiwang("verify", "--profile", profile)
        assert "extends the 2501 entries" in shown.stderr
        assert "shenzhen/centre/hub/main" in shown.stdout


async def test_a_log_that_was_begun_anew_is_found_by_what_the_auditor_remembers(city: City, tmp_path: Path) -> None:
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        await hub.log.append(support.new_entries(hub.log.store, 20))
        profile = str(write_profile(city, "office/auditor/one"))
        await zhiwang("init", "--profile", profile)
        await zhiwang("verify", "--profile", profile, "--from", hub.address)
    async with served(city, "centre/hub/main", tmp_path / "anew.db") as hub:
        await hub.log.append(support.new_entries(hub.log.store, 40))
        for _ in range(2):  # and it stays found
            refused = await zhiwang("verify", "--profile", profile, "--from", hub.address, status=1)
            assert "PROOF_INVALID" in refused.stderr
            assert "does not extend the one of 21" in refused.stderr
            assert not refused.stdout


async def test_an_owners_log_is_found_by_the_state_directory_of_its_adapter(city: City, tmp_path: Path) -> None:
    state = tmp_path / "adapter-state"
    state.mkdir()
    profile = str(write_profile(city, "hrss/admin/li"))
    missing = await zhiwang("show", "0", "--profile", profile, "--owner", "hrss", "--from", str(state), status=2)
    assert "no address.json" in missing.stderr
    async with served(city, "hrss/adapter/main", tmp_path / "log.db") as adapter:
        write_address(state, listen=adapter.address)
        source = ("--profile", profile, "--from", str(state))
        facts = json.loads((await zhiwang("show", "0", *source, "--owner", "hrss", "--json")).stdout)
        assert (facts["event"], facts["log"]) == ("log_opened", "shenzhen/hrss/adapter/main")
        assert facts == json.loads((await zhiwang("show", "hrss#0", *source, "--json")).stdout) | {
            "proof": facts["proof"]
        }
        # It is not the hub, nor the log of another department.
        await zhiwang("show", "0", *source, status=1)
        refused = await zhiwang("show", "0", *source, "--owner", "police", status=2)
        assert "keeps the log of hrss/adapter/main, not one of police" in refused.stderr
        # And an admin of another department may not read it.
        other = str(write_profile(city, "edu/admin/wang"))
        refused = await zhiwang("show", "0", "--profile", other, "--from", str(state), "--owner", "hrss", status=1)
        assert "RPC_NOT_ALLOWED" in refused.stderr


async def test_an_entry_is_shown_as_what_it_says(city: City, tmp_path: Path) -> None:
    system = "spiffe://shenzhen/edu/system/enrolment"
    header = sealed_pb2.Header(system=system, matter="enrolment\x1b[2J", cases=3)
    access = audit_pb2.HubAccess(
        header=header.SerializeToString(),
        signature=b"s" * 64,
        sealed_hash=b"h" * 32,
        request_root=b"r" * 32,
        outcome=audit_pb2.OUTCOME_DENIED,
        reason="NOT_GRANTED",
        denied_claims=[0, 1],
    )
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        appended = await hub.log.record(access)
        profile = str(write_profile(city, "office/auditor/one", hub.address))
        index = str(appended.first)
        facts = json.loads((await zhiwang("show", index, "--profile", profile, "--json")).stdout)
        assert facts["event"] == "hub_access"
        said = facts["entry"]
        assert (said["outcome"], said["reason"], said["denied_claims"]) == ("OUTCOME_DENIED", "NOT_GRANTED", [0, 1])
        assert said["header"]["system"] == system
        assert said["sealed_hash"] == "68" * 32
        assert (facts["outcome"]["code"], facts["reason"]["code"]) == ("DENIED", "NOT_GRANTED")
        shown = (await zhiwang("show", index, "--profile", profile)).stdout
        assert "已拒绝" in shown
        assert "\x1b" not in shown
        assert "\\u001b[2J" in shown
        refused = await zhiwang("show", "99999", "--profile", profile, status=1)
        assert "ENTRY_UNKNOWN" in refused.stderr


async def test_wrong_usage_is_told_from_what_failed(city: City) -> None:
    profile = str(write_profile(city, "office/auditor/one"))
    await zhiwang("init", "--profile", profile)
    assert "names no hub" in (await zhiwang("verify", "--profile", profile, status=2)).stderr
    assert "--from" in (await zhiwang("verify", "--profile", profile, "--owner", "hrss", status=2)).stderr
    assert "neither" in (await zhiwang("verify", "--profile", profile, "--from", "nowhere", status=2)).stderr
    refused = await zhiwang("verify", "--profile", profile, "--from", "127.0.0.1:1", status=1)
    assert "HUB_UNREACHABLE" in refused.stderr


async def test_a_log_is_exported_grown_and_checked_by_whoever_has_the_files(city: City, tmp_path: Path) -> None:
    out = str(tmp_path / "exported")
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        await hub.log.append(support.new_entries(hub.log.store, 1200))
        profile = str(write_profile(city, "office/auditor/one", hub.address))
        first = json.loads((await zhiwang("export", "--profile", profile, "--out", out, "--json")).stdout)
        assert (first["origin"], first["size"], first["added"]) == ("shenzhen/centre/hub/main", 1201, 1201)
        kept = tmp_path / "kept"
        kept.write_bytes((tmp_path / "exported" / "checkpoint").read_bytes())
        # The export itself was recorded; the next one reads that entry, and no other.
        second = json.loads((await zhiwang("export", "--profile", profile, "--out", out, "--json")).stdout)
        assert (second["size"], second["added"]) == (1202, 1)
    # Nobody serves the log any more.
    root = str(city.root)
    facts = json.loads((await zhiwang("fsck", out, "--root", root, "--extends", str(kept), "--json")).stdout)
    assert (facts["size"], facts["entries"], facts["fault_count"]) == (1202, 1202, 0)
    assert "shenzhen/centre/hub/main" in (await zhiwang("fsck", out, "--root", root)).stdout
    tile = tmp_path / "exported" / "tile" / "0" / "002"
    whole = tile.read_bytes()
    tile.write_bytes(b"\1" * 32 + whole[32:])
    told = await zhiwang("fsck", out, "--root", root, status=1)
    assert "tile/0/002, entry 512: the hash is not that of the entry" in told.stderr
    tile.write_bytes(whole)
    assert "--vkey" in (await zhiwang("fsck", out, status=2)).stderr


async def test_an_exported_log_of_another_name_or_key_than_expected_is_named(city: City, tmp_path: Path) -> None:
    out, root = str(tmp_path / "exported"), str(city.root)
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        profile = str(write_profile(city, "office/auditor/one", hub.address))
        await zhiwang("export", "--profile", profile, "--out", out)
    kept = tmp_path / "kept"
    await zhiwang("fsck", out, "--root", root, "--origin", "shenzhen/centre/hub/main")
    assert "not of" in (await zhiwang("fsck", out, "--root", root, "--origin", "shenzhen/x", status=1)).stderr
    await zhiwang("fsck", out, "--root", root, "--shard", "first")
    assert "not of that of 2016" in (await zhiwang("fsck", out, "--root", root, "--shard", "2016", status=1)).stderr
    kept.write_bytes(b"junk")
    assert "no checkpoint" in (await zhiwang("fsck", out, "--root", root, "--extends", str(kept), status=2)).stderr
    (tmp_path / "exported" / "log.vkey").write_text("evil+0+0")
    assert "log.vkey: is not the key" in (await zhiwang("fsck", out, "--root", root, status=1)).stderr


def asked(short: str, place: str, official: str, outcome: str = "ANSWERED") -> audit_pb2.HubAccess:
    header = sealed_pb2.Header(
        system=f"spiffe://shenzhen/{short}",
        official=official,
        matter="school-enrolment",
        reference="2026-000123",
        jurisdiction=place,
        owner="hrss",
        claims=[sealed_pb2.ClaimShape(attribute="pension_months")],
    )
    return audit_pb2.HubAccess(
        header=header.SerializeToString(),
        signature=bytes(64),
        sealed_hash=bytes(32),
        request_root=bytes(32),
        outcome=audit_pb2.Outcome.Value(f"OUTCOME_{outcome}"),
        reason="" if outcome == "ANSWERED" else "NOT_GRANTED",
    )


async def three_asked(hub: Served) -> None:
    events = [
        asked("edu/system/enrolment", "nbs:440306", "clerk-17"),
        asked("edu/system/enrolment", "nbs:440305", "clerk-18", "DENIED"),
        asked("civil/system/cards", "nbs:440306001", "clerk-19"),
    ]
    await hub.log.append([hub.log.store.new_entry(event) for event in events])


async def found(profile: str, *conditions: str) -> list[dict[str, object]]:
    done = await zhiwang("search", "--profile", profile, "--json", *conditions)
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_an_auditor_finds_entries_and_its_search_is_an_entry(city: City, tmp_path: Path) -> None:
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        await three_asked(hub)
        office = str(write_profile(city, "office/auditor/one", hub.address))
        everything = await found(office, "--event", "hub_access")
        assert [one["official"] for one in everything] == ["clerk-19", "clerk-18", "clerk-17"]
        assert [one["index"] for one in await found(office, "--official", "clerk-17", "--proofs")] == [1]
        chosen = await found(
            office, "--system", "edu/enrolment", "--outcome", "denied", "--header", str(everything[1]["header"])
        )
        assert [one["index"] for one in chosen] == [2]
        assert [one["index"] for one in await found(office, "--place", "nbs:440306")] == [3, 1]
        # Its own reads are entries, in words.
        (read,) = await found(office, "--event", "audit_read", "--limit", "1")
        assert read["system"] == "spiffe://shenzhen/office/auditor/one"
        lines = (
            await zhiwang("search", "--profile", office, "--matter", "school-enrolment", "--csv")
        ).stdout.splitlines()
        assert (len(lines), lines[0].partition(",")[0]) == (4, "index")
        wrong = await zhiwang("search", "--profile", office, "--reference", ANNA, status=2)
        assert ANNA not in wrong.stderr
        assert "--outcome" in (await zhiwang("search", "--profile", office, "--outcome", "MAYBE", status=2)).stderr


async def test_an_auditor_finds_nothing_beyond_what_it_may_see(city: City, tmp_path: Path) -> None:
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        await three_asked(hub)
        # Another department's auditor sees its department's own, and no other entry by its number either.
        own = str(write_profile(city, "civil/auditor/two", hub.address))
        assert [one["official"] for one in await found(own, "--event", "hub_access")] == ["clerk-19"]
        await zhiwang("show", "3", "--profile", own)
        assert "ENTRY_UNKNOWN" in (await zhiwang("show", "1", "--profile", own, status=1)).stderr
        await zhiwang("init", "--profile", own)
        assert "RPC_NOT_ALLOWED" in (await zhiwang("verify", "--profile", own, status=1)).stderr
        # A district's sees what was asked in its district, whoever asked.
        district = str(write_profile(city, "district/auditor/wu", hub.address))
        assert [one["official"] for one in await found(district)] == ["clerk-18"]
        table = await zhiwang("search", "--profile", district, "--official", "clerk-18")
        assert "DENIED" in table.stdout
        assert "school-enrolment" in table.stdout


async def test_what_the_hub_hides_of_an_owners_log_is_named(city: City, tmp_path: Path) -> None:
    state = tmp_path / "hrss-state"
    state.mkdir()
    old = time.time() - 1000
    async with (
        served(city, "centre/hub/main", tmp_path / "log.db") as hub,
        served(city, "hrss/adapter/main", tmp_path / "owner.db") as owner,
    ):
        write_address(state, listen=owner.address)
        for log in (hub.log, owner.log):
            log.store.shard()._clock = lambda: old
        first, second = (
            asked("edu/system/enrolment", "nbs:440306", "one"),
            asked("edu/system/points", "nbs:4403", "two"),
        )
        recorded = []
        for access in (first, second):
            entry = owner.log.store.new_entry(
                audit_pb2.OwnerAccess(
                    header=access.header,
                    signature=bytes(64),
                    sealed_hash=bytes(32),
                    request_root=bytes(32),
                    answer_root=bytes(32),
                    claims=1,
                )
            )
            recorded.append((await owner.log.append([entry]), entry))
        appended, entry = recorded[0]
        first.owner_index, first.owner_leaf_hash = appended.first, leaf_hash(entry.data)
        await hub.log.append([hub.log.store.new_entry(first)])
        profile = str(write_profile(city, "office/auditor/one", hub.address))
        command = ("reconcile", "--profile", profile, "--owner", "hrss", "--from", str(state))
        told = json.loads((await zhiwang(*command, "--json", status=1)).stdout)
        assert (told["both"], told["late"], told["difference_count"]) == (1, 0, 1)
        assert [(one["kind"], one["index"]) for one in told["differences"]] == [("hub lacks", 2)]
        assert "hub lacks" in (await zhiwang(*command, status=1)).stdout
        assert "differences 0" in (await zhiwang(*command, "--since", "2099-01-01")).stderr
