"""What PolicyService answers, worked out in this process: pages, standpoints, emergencies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import emergency_support
import policy_support as support
from policy import answering
from policy.answering import Sources, answer, take
from policy.reading import _pickled
from policy_support import DirectoryKit
from zhiwang.policy.v1 import policy_pb2, rehearsal_pb2, rights_pb2
from zhiwang.wire.errors import Reason, RefusedError


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return support.make_directory(tmp_path_factory.mktemp("answering"), documents=emergency_support.DOCUMENTS)


def sources_of(kit: DirectoryKit, key: bytes = b"") -> Sources:
    """As a server would have them; another key is another server's."""
    found, data = _pickled(kit.directory)
    take(None, key or found, data)
    return Sources(key or found, "", kit.root_json)


def what_can(sources: Sources, **fields: Any) -> rights_pb2.WhatCanResponse:
    request = rights_pb2.WhatCanRequest(who="edu/enrolment-clerk", **fields)
    data = answer(None, "WhatCan", request.SerializeToString(), sources, time.time())
    return rights_pb2.WhatCanResponse.FromString(data)


def test_the_next_page_can_be_had_from_another_replica_but_not_from_another_version(
    kit: DirectoryKit, tmp_path: Path
) -> None:
    whole = what_can(sources_of(kit))
    first = what_can(sources_of(kit), page_size=2)
    rest = what_can(sources_of(kit, b"another replica"), page_token=first.next_page_token)
    assert [*first.rights, *rest.rights] == list(whole.rights)
    assert not rest.next_page_token
    changed = kit.copy(tmp_path)
    changed.publish(support.HRSS)
    with pytest.raises(RefusedError) as caught:
        what_can(sources_of(changed), page_token=first.next_page_token)
    assert caught.value.reason is Reason.PAGE_TOKEN_INVALID


def test_a_page_is_bounded_by_its_bytes(kit: DirectoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = sources_of(kit)
    whole = what_can(sources)
    monkeypatch.setattr(answering, "MAX_PAGE_BYTES", whole.rights[0].ByteSize() + 1)
    rights: list[Any] = []
    page = what_can(sources)
    while True:
        # One has room, however large it is.
        assert len(page.rights) + len(page.emergencies) == 1
        rights += page.rights
        if not page.next_page_token:
            break
        page = what_can(sources, page_token=page.next_page_token)
    assert rights == list(whole.rights)


def test_what_is_prepared_for_emergencies_is_told_beside_what_is_allowed(kit: DirectoryKit) -> None:
    told = what_can(sources_of(kit))
    (prepared,) = told.emergencies
    assert (prepared.id, [*prepared.asks], prepared.hours, [*prepared.admins]) == (
        "health/outbreak",
        ["health.vaccinated exists"],
        8,
        ["edu"],
    )
    assert "校园传染病" in prepared.sentences[0].zh
    assert not any(right.ask == "health.vaccinated exists" or right.emergency for right in told.rights)


def test_a_former_version_needs_what_was_kept(kit: DirectoryKit) -> None:
    with pytest.raises(RefusedError) as caught:
        what_can(sources_of(kit), standpoint=rights_pb2.Standpoint(directory_version=1))
    assert (caught.value.reason, caught.value.field) == (Reason.NAME_UNKNOWN, "standpoint.directory_version")


@pytest.mark.parametrize("deep", ["x." * 10_000 + "y = 1", f"x = {'[' * 400}{']' * 400}"])
def test_a_file_that_is_nested_too_deeply_is_told_as_such(kit: DirectoryKit, deep: str) -> None:
    request = rehearsal_pb2.CheckRequest()
    content = f"{support.HRSS}\n[z]\n{deep}\n".encode()
    request.standpoint.files.add(name="hrss/document.toml", content=content)
    said = answer(None, "Check", request.SerializeToString(), sources_of(kit), time.time())
    findings = rehearsal_pb2.CheckResponse.FromString(said).findings
    assert ["is nested too deeply" in str(finding) for finding in findings] == [True]


@pytest.mark.parametrize("system", ["", "edu/system/enrolment", "spiffe://shenzhen/edu/system/"])
def test_a_name_of_a_system_that_is_none_is_the_mistake_of_its_field(kit: DirectoryKit, system: str) -> None:
    asked = policy_pb2.ExplainRequest(system=system, ask="hrss.insured exists", jurisdiction="nbs:440306")
    with pytest.raises(RefusedError) as caught:
        answer(None, "Explain", asked.SerializeToString(), sources_of(kit), time.time())
    assert (caught.value.reason, caught.value.field) == (Reason.REQUEST_MALFORMED, "system")
