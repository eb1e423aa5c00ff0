"""A plan says what would happen, by the code that decides it, and asks nobody."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import MappingProxyType

from certs.expiry import Expiry
from certs.owner_keys import VerifiedOwnerKey
from exchange.demo.codes import resident
from exchange.sweep.mapping import RosterColumns, SubjectColumns
from exchange.sweep.planning import NAMES, SweepPlan, plan_sweep
from sweep_support import COLUMNS, Bench, Wire, people
from zhiwang.wire import caps

ANNA = resident(date(1950, 1, 1), 1)
NAMED = COLUMNS.model_copy(
    update={"subject": (SubjectColumns(slot="senior", identifier="身份证号", name="姓名"),), "keep": ()}
)


async def planned(bench: Bench, *, rate: float | None = None) -> SweepPlan:
    return plan_sweep(
        bench.client,
        bench.roster,
        bench.reader,
        bench.context,
        keys=await bench.client.owner_keys(),
        rate=rate,
        now=time.time(),
    )


async def test_calls_and_answers_of_each_owner_are_those_that_the_sweep_then_makes(tmp_path: Path) -> None:
    wire = Wire()
    rows = [*people(600), ("R0", *next(people(1))[1:]), ("x", "1", "某人", "街道")]
    with Bench(tmp_path, rows, wire) as bench:
        plan = await planned(bench, rate=100.0)
        assert not wire.seen, "a plan asked"
        assert (plan.rows, plan.not_asked) == (602, {"KEY_TWICE": 1, "IDENTIFIER_INVALID": 1})
        assert (plan.seconds, plan.away, plan.denials, plan.caps) == (6.0, [], [], [])
        await bench.run()
    calls = {owner: sum(header.owner == owner for header in wire.seen.values()) for owner in wire.cases}
    assert dict(plan.calls) == calls
    answers = {
        owner: sum(header.cases * len(header.claims) for header in wire.seen.values() if header.owner == owner)
        for owner in wire.cases
    }
    assert dict(plan.claims) == answers


async def test_what_the_directory_denies_is_said_with_its_reason(tmp_path: Path) -> None:
    claims = ("senior: police.age at_least 65", "senior: police.age at_least 7", "senior: hrss.pension_months exists")
    columns = RosterColumns(key="编号", subject=COLUMNS.subject, claims=claims)
    with Bench(tmp_path, list(people(3)), Wire(), columns=columns) as bench:
        plan = await planned(bench)
    assert [(one.claim, one.reason, one.rows) for one in plan.denials] == [
        ("hrss.pension_months exists", "NOT_GRANTED", 3),
        ("police.age at_least 7", "CELL_NOT_PUBLISHED", 3),
    ]


async def test_subjects_with_more_names_than_an_owner_admits_are_counted(tmp_path: Path) -> None:
    rows = [(f"R{number}", ANNA, f"名{chr(0x4E00 + number)}", "街道") for number in range(caps.NAMES + 1)]
    with Bench(tmp_path, rows, Wire(), columns=NAMED) as bench:
        plan = await planned(bench)
    assert {(one.owner, one.what, one.cap, one.subjects) for one in plan.caps} == {
        ("police", NAMES, caps.NAMES, 1),
        ("health", NAMES, caps.NAMES, 1),
        ("civil", NAMES, caps.NAMES, 1),
    }
    with Bench(tmp_path, rows[:-1], Wire(), columns=NAMED) as bench:
        assert (await planned(bench)).caps == []


async def test_subjects_with_more_compared_values_than_an_owner_admits_are_counted(tmp_path: Path) -> None:
    columns = RosterColumns(
        key="编号", subject=COLUMNS.subject, claims=("senior: police.name equals {姓名}", "senior: police.card exists")
    )
    rows = [(f"R{number}", ANNA, f"名{chr(0x4E00 + number)}", "街道") for number in range(caps.VALUES + 1)]
    with Bench(tmp_path, rows, Wire(), columns=columns) as bench:
        assert [tuple(one) for one in (await planned(bench)).caps] == [("police", "name", caps.VALUES, 1)]


async def test_what_the_client_depends_on_is_listed_if_it_ends_before_the_sweep(tmp_path: Path) -> None:
    now = time.time()
    with Bench(tmp_path, list(people(100)), Wire()) as bench:
        own = [Expiry("tls", "certificate", now + 50, "renew it"), Expiry("role", "directory", now + 1e6, "sign it")]
        bench.client.expiries = lambda: own
        found = (await planned(bench, rate=1.0)).endings
    assert [(one.what, one.time, one.remedy) for one in found] == [("certificate", now + 50, "renew it")]


async def test_what_ends_before_the_sweep_does_is_listed_and_all_of_it_where_the_end_is_unknown(tmp_path: Path) -> None:
    wire, now = Wire(), time.time()
    directory = wire.holder.current
    police = directory.documents["police"]
    grants = tuple(replace(grant, not_after=int(now) + 1000) for grant in police.grants)
    wire.holder.set(
        replace(
            directory, documents=MappingProxyType({**directory.documents, "police": replace(police, grants=grants)})
        )
    )
    with Bench(tmp_path, list(people(100)), wire) as bench:
        soon = await planned(bench, rate=1.0)
        late = await planned(bench, rate=0.05)
        unknown = await planned(bench)
    assert soon.endings == []
    ours = [one for one in late.endings if one.what.startswith("the grant police/")]
    assert ours
    assert {one.time for one in ours} == {int(now) + 1000}
    assert {one.what for one in unknown.endings} >= {"the sealing key of police", *(one.what for one in ours)}
    assert [one.time for one in unknown.endings] == sorted(one.time for one in unknown.endings)


async def test_an_owner_without_a_key_is_away(tmp_path: Path) -> None:
    keys: dict[str, VerifiedOwnerKey] = {}
    with Bench(tmp_path, list(people(3)), Wire()) as bench:
        plan = plan_sweep(
            bench.client, bench.roster, bench.reader, bench.context, keys=keys, rate=None, now=time.time()
        )
    assert plan.away == ["civil", "health", "police"]
