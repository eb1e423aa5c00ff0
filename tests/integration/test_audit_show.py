"""`zhiwang audit show` in a city that runs: an entry in words, with the rules of its own day."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import policy_support
from audit_served import zhiwang
from city_support import RunningCity, running_city

CLAIM = "guardian: hrss.pension_months at_least 12"
RULE = "hrss/enrolment-pension"
CENTRE = (
    policy_support.CENTRE
    + """
[department.audit]
title = { zh = "审计局", en = "Audit office" }
home = "nbs:4403"
auditor.one.office = true
"""
)
WITHOUT = policy_support.HRSS.replace('id = "enrolment-pension"', 'id = "renamed"').replace(
    'level = "district"', 'level = "city"'
)


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[RunningCity]:
    async with running_city(
        tmp_path, owners=("hrss",), centre=CENTRE, members=("edu", "hrss", "health", "audit")
    ) as city:
        yield city


async def ask(city: RunningCity, name: str = "client", **context: str) -> None:
    async with city.client(name=name) as client:
        await client.verify(city.case(claims=[CLAIM]), city.context(**context))


def auditor(city: RunningCity, short: str = "audit/auditor/one") -> tuple[str, ...]:
    return ("--profile", str(city.profile(short, name=short.replace("/", "-")).path))


async def shown(*arguments: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((await zhiwang("show", *arguments, "--json")).stdout)
    return said


async def test_an_entry_is_told_in_words_with_the_rule_that_let_it_through(city: RunningCity) -> None:
    await ask(city)
    office = auditor(city)
    said = await shown("2026-000123", *office)
    assert said["log"] == "shenzhen/dsjj/hub/main"
    assert said["proof"]["verified"] is True
    assert said["asked_by"]["department"] == "edu"
    assert said["asked_by"]["title"] == {"zh": "教育局", "en": "Education"}
    assert (said["asked_by"]["official"], said["asked_by"]["role"]) == ("clerk-17", "edu/enrolment-clerk")
    assert said["matter"]["title"]["zh"] == "非深户籍儿童入学"
    assert said["outcome"]["code"] == "ANSWERED"
    (claim,) = said["claims"]
    assert claim["title"]["zh"] == "养老保险是否已连续缴费满 N 个月？"
    assert (claim["predicate"]["name"], claim["predicate"]["cell"]) == ("at_least", "12")
    assert claim["counter"] == "0755-00000000"
    (rule,) = claim["rules"]
    assert rule["id"] == RULE
    assert "教育局" in rule["sentence"]["zh"]
    assert rule["source"].startswith("[[grant]]\n")
    assert 'id = "enrolment-pension"' in rule["source"]
    assert rule["line"] == policy_support.HRSS.split("\n").index("[[grant]]") + 1
    assert said["rules"]["unavailable"] is None
    verified = " ".join(one["en"] for one in said["rules"]["verified"])
    assert "under the pinned root" in verified
    assert "two of its admins" in verified
    # The same entry by its index, by its header hash, and by the first digits of that.
    for identifier in (
        str(said["index"]),
        said["header_hash"],
        said["header_hash"][:12],
        f"0x{said['header_hash'][:8]}",
    ):
        assert (await shown(identifier, *office))["index"] == said["index"]
    words = (await zhiwang("show", str(said["index"]), *office)).stdout
    for text in ("教育局", "养老保险是否已连续缴费满", "准许依据", RULE, "0755-00000000", "已核验"):
        assert text in words


async def test_an_entry_of_yesterday_is_told_by_the_rules_of_yesterday(city: RunningCity) -> None:
    await ask(city)
    before = await shown("2026-000123", *auditor(city))
    for day in range(10):  # more sets than a mirror holds in memory
        city.publish(WITHOUT.replace("0755-00000000", f"0755-{day:08}"))
    after = await shown("2026-000123", *auditor(city))
    assert after["claims"] == before["claims"]
    assert after["rules"]["document_version"] == before["rules"]["document_version"] == 1
    assert after["rules"]["unavailable"] is None
    # What is asked now is told by what is in force now.
    city.hub.up.holder.set(city.kit.directory)
    await ask(city, name="later", reference="2026-000124")
    later = await shown("2026-000124", *auditor(city))
    assert later["rules"]["document_version"] == 11
    assert later["claims"][0]["counter"] == "0755-00000009"


async def test_where_the_rules_are_gone_it_is_said(city: RunningCity) -> None:
    await ask(city)
    version = city.kit.directory.version
    for day in range(10):
        city.publish(WITHOUT.replace("0755-00000000", f"0755-{day:08}"))
    published = city.hub.directory / "published" / "metadata"
    (published / f"{version}.snapshot.json").unlink()
    said = await shown("2026-000123", *auditor(city))
    assert "no longer kept" in said["rules"]["unavailable"]["en"]
    assert said["claims"][0]["rules"][0] == {
        "id": RULE,
        "sentence": {"zh": "", "en": ""},
        "source": "",
        "line": None,
    }
    (published / f"{version}.snapshot.json").write_bytes(b"{}")
    said = await shown("2026-000123", *auditor(city))
    assert "does not verify" in said["rules"]["unavailable"]["en"]


async def test_what_a_reader_may_not_see_is_as_if_it_were_not_there(city: RunningCity) -> None:
    await ask(city)
    office, owner, other = (auditor(city, f"{name}/auditor/one") for name in ("audit", "hrss", "health"))
    said = await shown("2026-000123", *office)
    assert (await shown("2026-000123", *owner))["claims"] == said["claims"]
    unknown = {
        identifier: (await zhiwang("show", identifier, *other, status=1)).stderr
        for identifier in ("2026-000123", said["header_hash"], "2026-999999", "f" * 64)
    }
    assert {text.replace(identifier, "ID") for identifier, text in unknown.items()} == {
        "没有此记录  No entry that you may read is ID.\n"
    }
    for index in (str(said["index"]), "99999"):
        assert "ENTRY_UNKNOWN" in (await zhiwang("show", index, *other, status=1)).stderr


async def test_an_id_that_fits_several_entries_lists_them(city: RunningCity) -> None:
    await ask(city)
    await ask(city, name="again")
    told = await zhiwang("show", "2026-000123", *auditor(city), status=2)
    assert "fits 2 entries" in told.stderr
    assert "ANSWERED" in told.stdout
    assert "hrss" in (await zhiwang("show", "hrss#0", *auditor(city), status=2)).stderr
