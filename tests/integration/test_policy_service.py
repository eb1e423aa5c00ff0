"""PolicyService at a registrar that runs: it says what the commands say, and refuses what is none of its questions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import policy_support as support
from registrar_support import World
from zhiwang.policy.v1 import policy_pb2, policy_pb2_grpc, rehearsal_pb2, rights_pb2
from zhiwang.wire.channel import refusal_of
from zhiwang.wire.errors import Reason, RefusedError

PATIENCE = 60.0
PLACE = "nbs:440305"
PARTS = {
    rights_pb2.Place.PART_ALL: "all",
    rights_pb2.Place.PART_ITSELF: "itself",
    rights_pb2.Place.PART_ELSEWHERE: "elsewhere",
}
CHANGED = support.HRSS.replace('place = "nbs:440306"\n\n[[assert]]', 'place = "nbs:440305"\n\n[[assert]]')
ODD = support.HRSS.replace(
    'role = "edu/enrolment-clerk"\nask = "hrss.insured', 'role = "edu/ghost"\nask = "hrss.insured'
)
BROKEN = support.HRSS.replace('deny = "hrss.pension_months', 'allow = "hrss.pension_months')


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("city"), published=True)
    with world.registrar():
        yield world


@asynccontextmanager
async def service(world: World, short: str = "edu/admin/first") -> AsyncIterator[Any]:
    async with world.channel(short) as channel:
        yield policy_pb2_grpc.PolicyServiceStub(channel)


async def told(world: World, *arguments: object, status: int = 0) -> Any:
    """What a command says."""
    profile = ("--profile", world.path / "edu.toml", "--json")
    done = await asyncio.to_thread(world.run, "policy", *arguments, *profile, status=status)
    return json.loads(done.stdout)


async def refused(call: Any) -> RefusedError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)


def looking(*files: str, **fields: Any) -> rights_pb2.Standpoint:
    named = [rights_pb2.Standpoint.File(name=f"file-{n}", content=file.encode()) for n, file in enumerate(files)]
    return rights_pb2.Standpoint(files=named, **fields)


def as_rows(rights: Any) -> list[dict[str, Any]]:
    """As `who-can --json` has them."""
    return [
        {
            "system": right.system,
            "home": right.home,
            "role": right.role,
            "ask": right.ask,
            "matter": right.matter,
            "places": [
                {
                    "place": one.jurisdiction,
                    "part": {1: "all", 2: "itself", 3: "elsewhere"}[one.part],
                    "without": [*one.without],
                }
                for one in right.places
            ],
            "places_text": {"zh": right.places_text.zh, "en": right.places_text.en},
            "assurance": right.assurance,
            "until": None,
            "rules": list(right.rule_ids),
            "emergency": right.emergency,
        }
        for right in rights
        if not right.HasField("until_time")
    ]


async def test_rights_are_told_as_the_commands_tell_them(world: World) -> None:
    async with service(world) as stub:
        listed = await stub.ListAttributes(rights_pb2.ListAttributesRequest(), timeout=PATIENCE)
        said = await told(world, "list")
        assert listed.directory_version == said["directory"]
        assert [
            (one.attribute, one.title.zh, one.title.en, one.subject, [*one.asked], one.sensitivity, one.grants)
            for one in listed.attributes
        ] == [tuple(row.values()) for row in said["attributes"]]
        asked = rights_pb2.WhoCanRequest(attribute="hrss.insured", jurisdiction="nbs:440306002")
        rights = await stub.WhoCan(asked, timeout=PATIENCE)
        said = await told(world, "who-can", "hrss.insured", "--place", "nbs:440306002")
        assert len(rights.rights) == 2
        assert as_rows(rights.rights) == said["rights"]
        for who in ("edu/street", "edu/enrolment-clerk", "nbs:440305"):
            rights = await stub.WhatCan(rights_pb2.WhatCanRequest(who=who), timeout=PATIENCE)
            assert as_rows(rights.rights) == (await told(world, "what-can", who))["rights"]
        grants = await stub.ListGrants(rights_pb2.ListGrantsRequest(owner="hrss"), timeout=PATIENCE)
        assert [grant.id for grant in grants.grants] == ["enrolment-pension", "enrolment-insured"]
        assert grants.grants[0].systems == ["edu/enrolment", "edu/baoan", "edu/street"]
        shown = (
            await asyncio.to_thread(world.run, "policy", "show", "hrss", "--profile", world.path / "edu.toml")
        ).stdout
        assert grants.grants[0].sentence.zh[:12] in shown


async def test_what_files_would_change_is_told_as_the_command_tells_it(world: World) -> None:
    file = world.file("changed.toml", CHANGED)
    async with service(world) as stub:
        found = await stub.Compare(rehearsal_pb2.CompareRequest(after=looking(CHANGED)), timeout=PATIENCE)
        said = await told(world, "diff", file)
        assert [
            (change.allowed, change.system, change.ask, [*change.assurances], change.sentence.zh, change.sentence.en)
            for change in found.changes
        ] == [
            (one["allowed"], one["system"], one["ask"], one["assurances"], one["zh"], one["en"])
            for one in said["changes"]
        ]
        assert len(found.changes) == 4
        assert [one.allowed for one in found.sentences] == [False, False, False, True]
        assert [([*fact.path], fact.before, fact.after) for fact in found.facts] == [
            (one["path"], one["before"], one["after"]) for one in said["facts"]
        ]
        # A candidate is a standpoint like every other.
        with_it = await stub.WhoCan(
            rights_pb2.WhoCanRequest(standpoint=looking(CHANGED), attribute="hrss.insured"), timeout=PATIENCE
        )
        assert as_rows(with_it.rights) == (await told(world, "who-can", "hrss.insured", "--with", file))["rights"]


async def test_findings_are_told_by_file_line_rule_and_severity(world: World) -> None:
    async with service(world) as stub:
        for text, status in ((ODD, 0), (BROKEN, 1), ("this is no TOML", 1), ("a = 2026-02-30\n", 1), (support.HRSS, 0)):
            found = await stub.Check(rehearsal_pb2.CheckRequest(standpoint=looking(text)), timeout=PATIENCE)
            file = world.file("file-0", text)
            said = await told(world, "check", file, status=status)
            lines = [f"{one.file}:{one.line}: {one.key}: {one.message}".replace(": : ", ": ") for one in found.findings]
            assert [line.replace("file-0", str(file)) for line in lines] == said["wrong"] + said["strange"], text
            wrong = [one.severity == rehearsal_pb2.Finding.SEVERITY_ERROR for one in found.findings]
            assert wrong.count(True) == len(said["wrong"])
        (odd, *_) = (await stub.Check(rehearsal_pb2.CheckRequest(standpoint=looking(ODD)))).findings
        assert odd.rule_id == "enrolment-insured"
        assert odd.line == ODD.splitlines().index('role = "edu/ghost"') + 1


async def test_a_hypothetical_question_is_explained_with_every_ground(world: World) -> None:
    asked = policy_pb2.ExplainRequest(
        system="spiffe://shenzhen/edu/system/enrolment",
        role="edu/enrolment-clerk",
        ask="hrss.insured exists",
        jurisdiction=PLACE,
        matter="school-enrolment",
    )
    words = (
        "--system",
        "edu/enrolment",
        "--role",
        asked.role,
        "--matter",
        asked.matter,
        "--jurisdiction",
        "nbs:440305",
    )
    async with service(world) as stub:
        said = await told(world, "explain", asked.ask, *words, status=1)
        answer = await stub.Explain(asked, timeout=PATIENCE)
        assert (answer.allowed, answer.reason) == (False, "NOT_GRANTED")
        assert [(one.holds, one.text) for one in answer.grounds] == [
            (one["holds"], one["text"]) for one in said["grounds"]
        ]
        asked.standpoint.CopyFrom(looking(CHANGED))
        answer = await stub.Explain(asked, timeout=PATIENCE)
        assert answer.allowed
        assert list(answer.rule_ids) == ["hrss/enrolment-insured"]
        asked.assurance = "certain"
        assert (await refused(stub.Explain(asked))).field == "assurance"


async def test_pages_are_one_list_and_a_token_is_of_its_question_only(world: World) -> None:
    async with service(world) as stub:
        request = rights_pb2.WhatCanRequest(who="edu/enrolment-clerk")
        whole = (await stub.WhatCan(request, timeout=PATIENCE)).rights
        paged: list[Any] = []
        request.page_size = 2
        while True:
            page = await stub.WhatCan(request, timeout=PATIENCE)
            assert len(page.rights) <= 2
            paged += page.rights
            if not page.next_page_token:
                break
            request.page_token = token = page.next_page_token
        assert paged == list(whole)
        assert len(paged) > 4
        other = rights_pb2.WhatCanRequest(who="edu/enrolment", page_token=token)
        assert (await refused(stub.WhatCan(other))).reason is Reason.PAGE_TOKEN_INVALID
        elsewhere = rights_pb2.WhoCanRequest(attribute="hrss.insured", page_token=token)
        assert (await refused(stub.WhoCan(elsewhere))).reason is Reason.PAGE_TOKEN_INVALID
        for nonsense in ("x", token[:-4], "\N{SNOWMAN}"):
            request.page_token = nonsense
            assert (await refused(stub.WhatCan(request))).reason is Reason.PAGE_TOKEN_INVALID
        negative = rights_pb2.WhatCanRequest(who="edu/enrolment", page_size=-1)
        assert (await refused(stub.WhatCan(negative))).field == "page_size"


async def test_what_is_no_question_is_refused_with_its_reason(world: World) -> None:
    async with service(world) as stub:
        nobody = rights_pb2.WhoCanRequest(attribute="hrss.nothing")
        assert (await refused(stub.WhoCan(nobody))).reason is Reason.NAME_UNKNOWN
        assert (await refused(stub.WhatCan(rights_pb2.WhatCanRequest(who="edu/x")))).field == "who"
        listed = rights_pb2.ListAttributesRequest(owner="police")
        assert (await refused(stub.ListAttributes(listed))).reason is Reason.NAME_UNKNOWN
        half = looking("#" * (4 << 20))
        both = rehearsal_pb2.CompareRequest(before=half, after=looking("#" * (4 << 20), "#"))
        refusal = await refused(stub.Compare(both))
        assert (refusal.reason, refusal.field) == (Reason.REQUEST_TOO_LARGE, "after.files")
        gone = rehearsal_pb2.CompareRequest(before=looking(directory_version=9999))
        refusal = await refused(stub.Compare(gone))
        assert (refusal.reason, refusal.field) == (Reason.NAME_UNKNOWN, "before.directory_version")
        large = rehearsal_pb2.CheckRequest(standpoint=looking("#" * (8 << 20), "#"))
        assert (await refused(stub.Check(large))).reason is Reason.REQUEST_TOO_LARGE
        many = rehearsal_pb2.CheckRequest(standpoint=looking(*["#"] * 257))
        assert (await refused(stub.Check(many))).reason is Reason.REQUEST_TOO_LARGE
        unprintable = rights_pb2.Standpoint(files=[rights_pb2.Standpoint.File(name="a\nb")])
        odd = rehearsal_pb2.CheckRequest(standpoint=unprintable)
        assert (await refused(stub.Check(odd))).reason is Reason.REQUEST_MALFORMED
        wordy = rights_pb2.WhatCanRequest(who="x" * 201)
        assert (await refused(stub.WhatCan(wordy))).field == "who"
        wrong = rights_pb2.WhoCanRequest(
            standpoint=looking(BROKEN.replace("[[grant]]", "[[grants]]")), attribute="hrss.insured"
        )
        refusal = await refused(stub.WhoCan(wrong))
        assert refusal.reason is Reason.DOCUMENT_INVALID
        assert any("did you mean grant" in text for text in refusal.metadata.values())
        for proposal in ("0" * 16, "nonsense"):
            unknown = rehearsal_pb2.CompareRequest(after=looking(proposal_id=proposal))
            assert (await refused(stub.Compare(unknown))).reason is Reason.PROPOSAL_UNKNOWN
    for short in ("edu/system/enrolment", "hrss/adapter/main", "dsjj/hub/main"):
        async with service(world, short) as stub:
            asked = rights_pb2.ListAttributesRequest()
            assert (await refused(stub.ListAttributes(asked))).reason is Reason.RPC_NOT_ALLOWED


async def test_a_proposal_and_a_former_version_are_standpoints_too(tmp_path: Path) -> None:
    world = World(tmp_path, published=True)
    with world.registrar():
        profile = ("--profile", world.path / "hrss.toml")
        first = world.city.path("hrss/admin/first")
        file = world.file("changed.toml", CHANGED)
        await asyncio.to_thread(world.run, "policy", "propose", file, "--sign", first, "--note", "moved", *profile)
        listed = await asyncio.to_thread(world.run, "policy", "proposals", *profile, "--json")
        proposal = json.loads(listed.stdout)[0]["id"]
        request = rehearsal_pb2.CompareRequest(after=looking(proposal_id=proposal))
        direct = rehearsal_pb2.CompareRequest(after=looking(CHANGED))
        async with service(world, "hrss/admin/second") as stub:
            found = await stub.Compare(request, timeout=PATIENCE)
            by_file = await stub.Compare(direct, timeout=PATIENCE)
            assert [one.sentence for one in found.sentences] == [one.sentence for one in by_file.sentences]
            assert found.sentences
            before = found.before_version
            checked = await stub.Check(rehearsal_pb2.CheckRequest(standpoint=looking(proposal_id=proposal)))
            assert not checked.findings
        # It is its department's alone until it is published.
        async with service(world, "edu/admin/first") as stub:
            assert (await refused(stub.Compare(request))).reason is Reason.PROPOSAL_UNKNOWN
        async with service(world, "hrss/auditor/one") as stub:
            assert (await refused(stub.Compare(request))).reason is Reason.PROPOSAL_UNKNOWN
        await asyncio.to_thread(world.publish, "hrss", file)
        async with service(world) as stub:
            now = await stub.Compare(rehearsal_pb2.CompareRequest(), timeout=PATIENCE)
            assert now.before_version > before
            assert not now.changes
            former = rehearsal_pb2.CompareRequest(before=looking(directory_version=before))
            found = await stub.Compare(former, timeout=PATIENCE)
            assert (found.before_version, found.after_version) == (before, now.before_version)
            assert [one.sentence for one in found.sentences] == [one.sentence for one in by_file.sentences]
            asked = rights_pb2.WhatCanRequest(standpoint=looking(directory_version=before), who="edu/street")
            then = await stub.WhatCan(asked, timeout=PATIENCE)
            assert {right.ask for right in then.rights} == {"hrss.insured exists", "health.birth_mother related"}
