"""docs/active.md is followed word by word in a city that runs: the police invite exactly whom the truth says."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from audit.facts import facts_of_entry
from breaking_support import RealCity
from certs.identity import SIGNING_CERTIFICATE
from exchange.demo import build
from exchange.demo.build import DESK, DESK_MATTER, DESK_ROLE
from exchange.demo.model import Person
from exchange.demo.processes import zhiwang
from exchange.demo.truth import YES, Question, Truth
from policy.guard import GUARD
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.wire.clock import CITY_TIME

PAGE = Path(__file__).parents[2] / "docs" / "active.md"
OWNERS = ("police", "health", "civil")
CITY_WIDE = "4403"

pytestmark = pytest.mark.timeout(300)


class Bureau:
    """The city, and the directory in which the page's commands are given."""

    def __init__(self, city: RealCity) -> None:
        self.city = city
        self.home = city.layout.directory
        city_wide = {"jurisdiction": f"nbs:{CITY_WIDE}"}
        for name, identity, defaults in (
            ("police-invitations", build.INVITER, {"role": "police/senior-inviter", **city_wide}),
            ("police-admin", f"police/admin/{build.ADMINS[0]}", {}),
            ("civil-seniors", build.CARDS, {"role": "civil/senior-clerk", **city_wide}),
            ("desk", DESK, {"role": DESK_ROLE, "matter": DESK_MATTER, "official": "clerk-3", **city_wide}),
        ):
            more = {"defaults": defaults} if defaults else {}
            path = self.home / f"{name}.toml"
            build.write_profile_file(city.layout, path, identity, hub=[city.hub_address], state=f"{name}-state", **more)
            (self.home / f"{name}-state").mkdir(mode=0o700)

    def run(self, *arguments: str, about: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(  # noqa: S603 - ours
            zhiwang(*arguments), cwd=self.home, input=about, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done

    def seniors(self) -> dict[str, Person]:
        """Whom the police should draw, by what the generator wrote down before any database."""
        truth = Truth(self.city.city, datetime.now(CITY_TIME).date())

        def holds(person: Person, attribute: str, predicate: str, cell: int = 0) -> bool:
            question = Question(attribute, predicate, person, CITY_WIDE, name=person.name, cell=cell)
            return truth.answer(question) == YES

        return {
            one.person.identifier: one.person
            for one in self.city.city.records.population
            if holds(one.person, "police.age", "at_least", 65) and holds(one.person, "police.household", "exists")
        }

    def to_invite(self) -> set[str]:
        """Of them those who have a card of identity, no senior card, and live."""
        truth = Truth(self.city.city, datetime.now(CITY_TIME).date())
        asked = (("police.card", "exists"), ("civil.senior_card", "absent"), ("health.death", "absent"))
        return {
            identifier
            for identifier, person in self.seniors().items()
            if all(truth.answer(Question(*one, person, CITY_WIDE, name=person.name)) == YES for one in asked)
        }

    def wait_for_directory(self) -> None:
        """Until the hub serves what the registrar has signed."""

        async def served() -> bytes:
            async with self.city.hub_channel() as channel:
                request = exchange_pb2.GetFileRequest(path="metadata/timestamp.json")
                response = await exchange_pb2_grpc.DirectoryServiceStub(channel).GetFile(request)
                return bytes(response.content)

        signed = (self.city.layout.home("registrar") / "state" / GUARD).read_bytes()
        deadline = time.monotonic() + 60
        while asyncio.run(served()) != signed:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def report(self, identifier: str, reference: str, of: str = "SI2026-0001") -> list[dict[str, Any]]:
        """What the police tell a citizen of one job, newest first; other tests have theirs."""
        arguments = ("audit", "subject", "self=-", "--profile", "desk.toml", "--reference", reference, "--json")
        done = self.run(*arguments, about=identifier, status=1)  # of eight owners three run
        parts = {part["owner"]: part for part in json.loads(done.stdout)["owners"]}
        lookups = parts["police"]["lookups"]
        return [row for row in lookups if (row["matter"], row["reference"]) == ("senior-invite", of)]


@pytest.fixture(scope="module")
def bureau(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bureau]:
    city = RealCity.build(tmp_path_factory.mktemp("active"), OWNERS, residents=1500)
    yield Bureau(city)
    city.stop()


def people_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def moved(bureau: Bureau, name: str) -> Path:
    """A directory for one test's lists, so that tests need no order."""
    place = bureau.home / name
    place.mkdir()
    return place


def drawn(bureau: Bureau, place: Path, reference: str) -> Path:
    """A list that was drawn, with the results of a sweep over it."""
    bureau.run(
        *("adapter", "roster", "seniors", "--profile", "police/profile.toml", "--by", "police-invitations.toml"),
        *("--official", "clerk-17", "--reference", reference, "--out", str(place / "seniors.csv")),
    )
    return place / "seniors.csv"


def test_the_page_is_followed_word_by_word_and_invites_exactly_whom_the_truth_says(bureau: Bureau) -> None:
    before = len(bureau.city.entries("police"))
    told: dict[str, Any] = {}
    for command in commands():
        assert command[0] == "zhiwang"
        done = bureau.run(*command[1:], "--json")
        assert "440399" not in done.stdout + done.stderr
        told[" ".join(command[1:3])] = json.loads(done.stdout)
    seniors, invited = people_of(bureau.home / "seniors.csv"), people_of(bureau.home / "invitations.csv")
    assert {one["identifier"] for one in seniors} == set(bureau.seniors())
    assert {one["identifier"] for one in invited} == bureau.to_invite()
    assert 10 < len(invited) < len(seniors)
    assert told["roster invite"]["people"] == len(invited)
    for name in ("seniors.csv", "seniors.csv.record", "invitations.csv", "civil.private", "names.csv"):
        assert (bureau.home / name).stat().st_mode & 0o077 == 0, name
    # Civil affairs was handed the names, by the admin who signed for it.
    assert (bureau.home / "names.csv").read_bytes() == (bureau.home / "invitations.csv").read_bytes()
    assert told["roster open"]["from"] == "police/admin/chen"
    steps = [
        (facts.event, facts.outcome, facts.system.partition("/police/")[2], facts.matter, facts.reference)
        for entry in bureau.city.entries("police", before)
        if (facts := facts_of_entry(entry)).event in {"roster_step", "people_referred"}
    ]
    assert steps == [
        ("roster_step", "DRAWN", "system/invitations", "senior-invite", "SI2026-0001"),
        ("roster_step", "INVITED", "system/invitations", "senior-invite", "SI2026-0001"),
        ("people_referred", "REFERRED", "admin/chen", "senior-invite", "SI2026-0001"),
    ]
    # Whoever is invited is told all that was done; who has a card already, of the list and of the asking.
    rows = bureau.report(invited[0]["identifier"], "AR2026-000101")
    assert [row.get("listing", "asked") for row in rows] == ["REFERRED", "INVITED", "asked", "DRAWN"]
    assert (rows[0]["handed_to"], rows[0]["why"]) == ("civil", "cards are sent by post")
    assert [row.get("routine", False) for row in rows] == [False, False, True, True]
    other = min({one["identifier"] for one in seniors} - {one["identifier"] for one in invited})
    assert [row.get("listing", "asked") for row in bureau.report(other, "AR2026-000102")] == ["asked", "DRAWN"]
    _nobody_else_learns_of(bureau, seniors)


def _nobody_else_learns_of(bureau: Bureau, seniors: list[dict[str, str]]) -> None:
    """No identifier and no name in anything that hub, registrar, civil affairs or anybody's log wrote."""
    secrets = [text.encode() for one in seniors for text in (one["identifier"], one["name"])]
    places = [bureau.city.layout.home(place) for place in ("hub", "registrar", *OWNERS)]
    for path in (path for place in (*places, bureau.city.layout.logs) for path in place.rglob("*") if path.is_file()):
        if path.parent.name in OWNERS and path.name == f"{path.parent.name}.db":
            continue  # the departments' own databases
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path


def test_a_list_is_not_overwritten_and_a_changed_one_is_refused(bureau: Bureau) -> None:
    place = moved(bureau, "changed")
    roster = drawn(bureau, place, "SI2026-0002")
    again = bureau.run(
        *("adapter", "roster", "seniors", "--profile", "police/profile.toml", "--by", "police-invitations.toml"),
        *("--official", "clerk-17", "--reference", "SI2026-0002", "--out", str(roster)),
        status=2,
    )
    assert "is there already" in again.stderr
    sweep = (
        *("sweep", str(roster), "--profile", "police-invitations.toml", "--matter", "senior-invite", "--yes"),
        *("--reference", "SI2026-0002", "--official", "clerk-17", "--out", str(place / "results.csv")),
    )
    bureau.run(*sweep)
    content = roster.read_bytes()
    roster.write_bytes(content.replace(b"\r\n", b"\r\n0,440399199001019987,x\r\n", 1))
    invite = (
        *("roster", "invite", str(roster), str(place / "results.csv"), "--profile", "police-invitations.toml"),
        *("--from", "police/state", "--out", str(place / "invitations.csv")),
    )
    assert "is not as it was recorded" in bureau.run(*invite, status=2).stderr
    assert not (place / "invitations.csv").exists()
    roster.write_bytes(content)
    bureau.run(*invite)
    # The next night's changes invite nobody a second time.
    bureau.run(*sweep[:-1], str(place / "changes.csv"), "--changed-since", str(place / "results.csv"))
    more = (*invite[:3], str(place / "changes.csv"), *invite[4:-1], str(place / "more.csv"), "--json")
    assert json.loads(bureau.run(*more).stdout)["people"] == 0


def test_names_go_nowhere_without_a_rule_and_a_refusal_leaves_no_file(bureau: Bureau) -> None:
    place = moved(bureau, "refused")
    roster = drawn(bureau, place, "SI2026-0003")
    entries = len(bureau.city.entries("police"))
    # The police's own system of permits has no role to which the rule refers; nor has the city's desk.
    key = (*("roster", "key", "--profile", "desk.toml"), "--private", str(place / "desk.private"))
    bureau.run(*key, "--out", str(place / "desk.key"))

    def refer(to: Path, *, profile: str = "police-admin.toml", reason: str = "cards", status: int = 1) -> str:
        done = bureau.run(
            *("roster", "refer", str(roster), "--profile", profile, "--from", "police/state", "--to", str(to)),
            *("--official", "clerk-17", "--reason", reason, "--out", str(place / "sealed")),
            status=status,
        )
        return done.stderr

    assert "MATTER_NOT_ALLOWED" in refer(place / "desk.key")
    key = (*("roster", "key", "--profile", "civil-seniors.toml"), "--private", str(place / "civil.private"))
    bureau.run(*key, "--out", str(place / "civil.key"))
    # A system that may draw and invite may not hand names on: that is an admin's deed.
    assert "RPC_NOT_ALLOWED" in refer(place / "civil.key", profile="police-invitations.toml")
    assert "is not of it" in refer(place / "civil.key", profile="civil-seniors.toml", status=2)
    assert "NOTE_INVALID" in refer(place / "civil.key", reason="for 440399199001019987")
    spoilt = bytearray((place / "civil.key").read_bytes())
    spoilt[20] ^= 1
    (place / "spoilt.key").write_bytes(spoilt)
    refer(place / "spoilt.key")
    assert not (place / "sealed").exists()
    kinds = [facts_of_entry(entry).event for entry in bureau.city.entries("police", entries)]
    assert "people_referred" not in kinds
    # By a list that nobody drew, nothing goes either.
    shutil.copyfile(roster, place / "copied.csv")
    roster = place / "copied.csv"
    assert "only a list that was recorded is used" in refer(place / "civil.key", status=2)


def test_names_are_not_opened_twice_unseen_nor_when_who_sent_them_may_not_any_more(bureau: Bureau) -> None:
    place = moved(bureau, "received")
    roster, layout = drawn(bureau, place, "SI2026-0005"), bureau.city.layout
    second = f"police/admin/{build.ADMINS[1]}"
    build.write_profile_file(layout, bureau.home / "police-second.toml", second, hub=[bureau.city.hub_address])
    registrar = bureau.city.address("registrar")
    for name, admin in (
        ("police-policy", f"police/admin/{build.ADMINS[0]}"),
        ("centre-policy", f"{build.CENTRE}/admin/{build.ADMINS[0]}"),
    ):
        build.write_profile_file(layout, bureau.home / f"{name}.toml", admin, registrar=registrar)
    key = (*("roster", "key", "--profile", "civil-seniors.toml"), "--private", str(place / "civil.private"))
    bureau.run(*key, "--out", str(place / "civil.key"))

    def referred(name: str, official: str, profile: str = "police-admin.toml") -> Path:
        bureau.run(
            *("roster", "refer", str(roster), "--profile", profile, "--from", "police/state"),
            *("--to", str(place / "civil.key"), "--official", official, "--reason", "cards"),
            *("--out", str(place / name)),
        )
        return place / name

    def opened(file: Path, *more: str, profile: str = "civil-seniors.toml", status: int = 0) -> str:
        out = place / f"names-{len(list(place.iterdir()))}.csv"
        done = bureau.run(
            *("roster", "open", str(file), "--profile", profile),
            *("--private", str(place / "civil.private"), "--out", str(out), "--json", *more),
            status=status,
        )
        assert out.exists() == (status == 0)
        return done.stdout + done.stderr

    once = referred("once.sealed", "clerk-17")
    assert json.loads(opened(once))["opened_before"] == 0
    assert "was opened before" in opened(once, status=1)
    assert json.loads(opened(once, "--again"))["opened_before"] == 1
    book = bureau.home / "civil-seniors-state" / "roster" / "opened.jsonl"
    digest = hashlib.sha256(once.read_bytes()).hexdigest()
    lines = [json.loads(line) for line in book.read_text("utf-8").splitlines()]
    assert [line["reference"] for line in lines if line["file"] == digest] == ["SI2026-0005"] * 2
    assert book.stat().st_mode & 0o077 == 0
    assert "440399" not in book.read_text("utf-8")
    # The owner's log has the same hash, so that the two can be held against each other.
    assert digest in {
        entry.people_referred.file_hash.hex()
        for entry in bureau.city.entries("police")
        if entry.WhichOneof("event") == "people_referred"
    }
    of_suspended, of_revoked = (
        referred("one.sealed", "clerk-99"),
        referred("two.sealed", "clerk-17", "police-second.toml"),
    )
    signing = ("--sign", str(layout.identity(f"police/admin/{build.ADMINS[0]}")))
    bureau.run(
        "policy", "suspend", "--official", "police/clerk-99", *signing, "--profile", "police-policy.toml", "--json"
    )
    bureau.wait_for_directory()
    assert "NOT_GRANTED" in opened(of_suspended, status=1)
    authority = ("--authority", str(layout.directory / "authority"))
    bureau.run("certs", "revoke", str(layout.identity(second) / SIGNING_CERTIFICATE), *authority)
    bureau.run("certs", "crl", *authority, "--out", str(place / "crl.pem"))
    centre = [
        one for admin in build.ADMINS for one in ("--sign", str(layout.identity(f"{build.CENTRE}/admin/{admin}")))
    ]
    bureau.run("policy", "publish", str(place / "crl.pem"), *centre, "--profile", "centre-policy.toml")
    bureau.wait_for_directory()
    assert "CERTIFICATE_REVOKED" in opened(of_revoked, status=1)
    # Without a directory in force nothing is opened, however good it was.
    lonely = {"hub": ["127.0.0.1:1"], "state": "lonely-state"}
    build.write_profile_file(layout, bureau.home / "lonely.toml", build.CARDS, **lonely)
    (bureau.home / "lonely-state").mkdir(mode=0o700)
    assert "HUB_UNREACHABLE" in opened(once, profile="lonely.toml", status=1)


def test_a_draw_that_the_adapter_refuses_leaves_no_list(bureau: Bureau) -> None:
    place = moved(bureau, "undrawn")

    def draw(*, by: str, reference: str = "SI2026-0004", name: str = "seniors", status: int = 1) -> str:
        return bureau.run(
            *("adapter", "roster", name, "--profile", "police/profile.toml", "--by", by, "--official", "clerk-17"),
            *("--reference", reference, "--out", str(place / "seniors.csv")),
            status=status,
        ).stderr

    assert "has no [roster.pensioners]" in draw(by="police-invitations.toml", name="pensioners")
    assert "REFERENCE_INVALID" in draw(by="police-invitations.toml", reference="2026-000001", status=2)
    draw(by="civil-seniors.toml")
    assert list(place.iterdir()) == []
