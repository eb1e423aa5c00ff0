"""A citizen at a desk asks every owner who asked: real processes, three owners, a hub that is told nothing."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from breaking_support import INSURED, LEASE, LESSEE, PARENT, Forge, RealCity, case, context, exchange
from exchange.cli.page import page
from exchange.demo import build
from exchange.demo.build import DESK, DESK_MATTER, DESK_ROLE
from exchange.demo.processes import zhiwang
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import RefusedError

PAGE = Path(__file__).parents[2] / "docs" / "subject.md"
OWNERS = ("health", "hrss", "housing")
DESK_FIELDS = {"role": DESK_ROLE, "matter": DESK_MATTER, "jurisdiction": "nbs:4403"}

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("reports"), OWNERS)
    layout = city.layout
    build.write_profile_file(
        layout,
        layout.desk_profile,
        DESK,
        hub=[city.hub_address],
        state="desk-state",
        defaults={**DESK_FIELDS, "official": "clerk-3"},
    )
    (layout.directory / "desk-state").mkdir(mode=0o700)
    for profile, identity in ((layout.admin_profile, "hrss/admin/chen"), (layout.auditor_profile, "data/auditor/zhao")):
        build.write_profile_file(layout, profile, identity, hub=[city.hub_address], state=f"{profile.stem}-state")
    yield city
    city.stop()


def audit(*arguments: object, about: str = "") -> subprocess.CompletedProcess[str]:
    """`zhiwang audit …`, with an identifier on standard input."""
    command = zhiwang("audit", *map(str, arguments))
    return subprocess.run(command, input=about, capture_output=True, text=True, timeout=90, check=False)  # noqa: S603 - ours


def desk(city: RealCity, who: str, slot: str = "self", *more: object, reference: str = "AR2026-000001") -> Any:
    done = audit(
        "subject",
        f"{slot}=-",
        "--profile",
        city.layout.desk_profile,
        "--reference",
        reference,
        "--json",
        *more,
        about=who,
    )
    assert done.returncode == 1, done.stderr  # of eight owners three run
    return json.loads(done.stdout)


def told(report: Any, owner: str) -> list[Any]:
    (part,) = [part for part in report["owners"] if part["owner"] == owner]
    assert part["reported"], part
    return [row for row in part["lookups"] if row.get("matter") != DESK_MATTER and not row.get("read")]


def asked(rows: list[Any]) -> set[tuple[str, str, bool]]:
    return {(row["reference"], one["attribute"], one["compared"]) for row in rows for one in row["asked"]}


async def verify(city: RealCity, application: Any, reference: str, claims: list[str]) -> None:
    async with city.agent_stub() as stub:
        await stub.Verify(
            api.VerifyRequest(case=case(application, claims), context=context(application, reference=reference)),
            timeout=20,
        )


def files_of(city: RealCity, *places: str) -> dict[str, bytes]:
    """Everything that these processes wrote or say."""
    found = {
        str(path): path.read_bytes()
        for place in places
        for path in city.layout.home(place).rglob("*")
        if path.is_file() and path.name != f"{place}.db"
    }
    for place in places:
        found[f"log of {place}"] = city.fleet.log(place).read_bytes()
        found[f"metrics of {place}"] = city.metrics(place).encode()
    return found


def test_a_desk_is_told_of_every_ask_by_every_owner_and_the_hub_of_nothing(city: RealCity) -> None:
    # Each test asks about people of its own, so that their order does not matter.
    before = len(city.entries("hub"))
    first, second = city.applications[:2]
    asyncio.run(verify(city, first, "2026-000101", [PARENT, INSURED]))
    asyncio.run(verify(city, first, "2026-000102", [INSURED, LEASE, LESSEE]))
    asyncio.run(verify(city, second, "2026-000103", [PARENT, INSURED]))
    child, guardian = first.child.person.identifier, first.guardians[0].person.identifier
    report = desk(city, child, "ward")
    assert asked(told(report, "health")) == {("2026-000101", "health.parent", False)}
    assert told(report, "hrss") == told(report, "housing") == []
    report = desk(city, guardian, reference="AR2026-000002")
    assert asked(told(report, "health")) == {("", "health.parent", True)}
    assert asked(told(report, "hrss")) == {
        ("2026-000101", "hrss.insured_months", False),
        ("2026-000102", "hrss.insured_months", False),
    }
    assert asked(told(report, "housing")) == {("", "housing.lessee", True)}
    missing = {part["owner"]: part["reason"] for part in report["owners"] if not part["reported"]}
    assert missing == dict.fromkeys(("civil", "edu", "market", "police", "title"), "OWNER_NOT_ATTACHED")
    assert not report["complete"]
    # The desk's own look-ups are told, too.
    own = [row for part in report["owners"] for row in part.get("lookups", ()) if row["matter"] == DESK_MATTER]
    assert [row.get("this_request") for row in own] == [True] * 3
    assert {(row["department"], row["system"], row["official"]) for row in own} == {("data", "desk", "clerk-3")}
    # Neither hub nor owners wrote anybody's identifier anywhere; the hub has an entry for each report.
    people = [who for one in (first, second) for who in (one.child.person, *(g.person for g in one.guardians))]
    for name, content in files_of(city, "hub", *OWNERS, "agent").items():
        for who in people:
            assert who.identifier.encode() not in content, name
    entries = [entry.hub_access for entry in city.entries("hub", before) if entry.HasField("hub_access")]
    assert sum(DESK_MATTER.encode() in entry.header for entry in entries) == 6
    # Nor does the report name anybody else, or a place below the city.
    text = json.dumps(report, ensure_ascii=False)
    for who in people:
        assert who.identifier not in text
    assert not re.search(r"4403\d\d", text)


def test_the_page_is_for_printing_and_for_its_owner_alone(city: RealCity, tmp_path: Path) -> None:
    application = city.applications[9]
    asyncio.run(verify(city, application, "2026-000201", [PARENT, INSURED]))
    guardian = application.guardians[0].person.identifier
    out = tmp_path / "report.html"
    arguments = ("subject", "self=-", "--profile", city.layout.desk_profile, "--reference", "AR2026-000003")
    done = audit(*arguments, "--html", out, about=guardian)
    assert done.returncode == 1, done.stderr
    assert not done.stdout
    assert out.stat().st_mode & 0o777 == 0o600
    text = out.read_text("utf-8")
    assert "<script" not in text.lower()
    assert "size: A4" in text
    assert "本报告不完整" in text
    assert "人力资源和社会保障局" in text
    assert "作为比对对象" in text
    assert guardian not in text
    again = audit(*arguments, "--html", out, about=guardian)
    assert again.returncode == 2
    shown = audit(*arguments, about=guardian).stdout
    assert "依法正在办理的案件" in shown
    assert "OWNER_NOT_ATTACHED" in shown
    assert "<b>" not in page("<b>", [])


def test_an_identifier_on_the_command_line_is_refused_unread(city: RealCity) -> None:
    guardian = city.applications[0].guardians[0].person.identifier
    done = audit("subject", f"self={guardian}", "--profile", city.layout.desk_profile, "--reference", "AR2026-000004")
    assert done.returncode == 2
    assert guardian not in done.stdout + done.stderr


def test_a_hub_that_is_taken_for_an_owner_is_not_told_whom_one_asks_about(city: RealCity) -> None:
    guardian = city.applications[0].guardians[0].person.identifier
    profile = ("--profile", city.layout.auditor_profile)
    for at in (city.hub_address, city.address("health")):
        done = audit(
            "subject", "person=-", *profile, "--owner", "hrss", "--from", at, "--reference", "2026-9", about=guardian
        )
        assert done.returncode != 0
        assert guardian not in done.stdout + done.stderr
    assert not any(entry.HasField("subject_read") for entry in city.entries("health"))


def test_a_system_that_is_no_desk_gets_nothing_and_is_recorded(city: RealCity) -> None:
    before = len(city.entries("hub"))
    done = audit(
        "subject",
        "self=-",
        "--profile",
        city.layout.system_profile,
        "--matter",
        DESK_MATTER,
        "--reference",
        "AR2026-000005",
        "--official",
        "clerk-17",
        "--json",
        about=city.applications[8].child.person.identifier,
    )
    assert done.returncode == 1
    reasons = {part["owner"]: part["reason"] for part in json.loads(done.stdout)["owners"]}
    assert {reasons[owner] for owner in OWNERS} == {"MATTER_NOT_ALLOWED"}
    refused = [entry.hub_access for entry in city.entries("hub", before) if entry.HasField("hub_access")]
    assert [entry.reason for entry in refused] == ["MATTER_NOT_ALLOWED"] * 3
    assert all(b"edu/system/enrolment" in entry.header for entry in refused)


def test_a_report_that_was_captured_is_given_to_nobody_else(city: RealCity) -> None:
    who = city.applications[8].guardians[0].person.identifier
    forge = Forge(city, city.identity(DESK))
    fields: dict[str, Any] = DESK_FIELDS
    forged = forge.request(
        "hrss",
        ["self: hrss.lookups report"],
        [{"self": who}],
        matter_version=city.directory.matters[DESK_MATTER].version,
        reference="AR2026-000006",
        reference_date=_today(),
        **fields,
    )

    other = Forge(city, city.identity(DESK), list(forge.keys.values())).context("hrss")

    async def send() -> None:
        async with city.hub_channel(city.identity(DESK)) as channel:
            answered = await exchange(channel, forged.request)
            assert answered.result.reason == "", answered.result.reason
            assert forged.answers(answered.result.reply).report
            # Another session of the same desk cannot open it: its secret is its own.
            with pytest.raises(RefusedError, match="SEAL_BROKEN"):
                other.open_reply(forged.header.hash, answered.result.reply.nonce, answered.result.reply.ciphertext)
            # The same bytes again get the same reply under the same entry: nothing is asked twice.
            again = await exchange(channel, forged.request)
            assert again.result.owner_entry.index == answered.result.owner_entry.index
            assert again.result.reply == answered.result.reply
        async with city.hub_channel() as channel:
            stolen = await exchange(channel, forged.request)
            assert stolen.result.reason == "IDENTITY_MISMATCH"
            assert not stolen.result.HasField("reply")

    asyncio.run(send())


def test_an_owners_own_people_look_delay_and_erase(city: RealCity) -> None:
    application = city.applications[3]
    who = application.guardians[0].person.identifier
    asyncio.run(verify(city, application, "2026-000301", [INSURED]))
    asyncio.run(verify(city, application, "2026-000302", [INSURED]))
    at = ("--owner", "hrss", "--from", city.layout.state("hrss"))
    admin = ("--profile", city.layout.admin_profile, *at)
    office = ("--profile", city.layout.auditor_profile, *at)

    def references(*more: str) -> set[str]:
        done = audit("subject", "person=-", *office, "--reference", "2026-9", "--json", *more, about=who)
        assert done.returncode == 0, done.stderr
        return {row["reference"] for row in told(json.loads(done.stdout), "hrss")}

    assert references() == {"2026-000301", "2026-000302"}
    # An investigation: not told yet, though the office sees it.
    ordered = audit("delay", *admin, "--order", "2026-D-7", "--until", _today(30), "--reference", "2026-000301")
    assert ordered.returncode == 0, ordered.stderr
    assert references() == {"2026-000302"}
    assert references("--whole") == {"2026-000301", "2026-000302"}
    assert {row["reference"] for row in told(desk(city, who), "hrss")} == {"2026-000302"}
    too_long = audit("delay", *admin, "--order", "2026-D-8", "--until", _today(400), "--reference", "2026-000301")
    assert (too_long.returncode, "366 days" in too_long.stderr) == (2, True)
    refused = audit("delay", *office, "--order", "2026-D-9", "--until", _today(30), "--reference", "2026-000302")
    assert "RPC_NOT_ALLOWED" in refused.stderr
    # Erased: nothing is left to find, and the log still verifies.
    with closing(sqlite3.connect(f"file:{city.log_file('hrss')}?mode=ro", uri=True)) as connection:
        rows = {row[0] for row in connection.execute("SELECT subject FROM trace")}
    erased = audit("erase-subject", "person=-", *admin, "--order", "2026-E-3", "--json", about=who)
    assert erased.returncode == 0, erased.stderr
    assert json.loads(erased.stdout)["overwritten"] is True
    with closing(sqlite3.connect(f"file:{city.log_file('hrss')}?mode=ro", uri=True)) as connection:
        (gone,) = rows - {row[0] for row in connection.execute("SELECT subject FROM trace")}
    assert all(gone not in path.read_bytes() for path in city.layout.state("hrss").rglob("*") if path.is_file())
    assert references("--whole") == set()
    events = [entry.WhichOneof("event") for entry in city.entries("hrss")]
    assert {"subject_read", "entries_delayed", "subject_erased"} <= set(events)
    asyncio.run(city.verified("hrss"))


def test_the_commands_of_the_page_do_what_it_says(city: RealCity) -> None:
    page = PAGE.read_text("utf-8").replace("2027-01-31", _today(60))
    home = city.layout.directory
    (home / "identifier").write_text(city.applications[5].guardians[0].person.identifier + "\n", "utf-8")
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    assert len(lines) == 7
    for line in lines:
        command, _, source = line.partition(" < ")
        name, *words = shlex.split(command)
        assert name == "zhiwang"
        given = (home / source).read_text("utf-8") if source else ""
        done = subprocess.run(  # noqa: S603 - our own command
            zhiwang(*words), cwd=home, input=given, capture_output=True, text=True, timeout=90, check=False
        )
        # Of the eight owners that a desk asks, three run here.
        assert done.returncode == (1 if "desk.toml" in words else 0), f"{line}\n{done.stdout}{done.stderr}"
    assert (home / "report.html").is_file()


def _today(days: int = 0) -> str:
    return (datetime.now(UTC).astimezone(CITY_TIME) + timedelta(days=days)).date().isoformat()
