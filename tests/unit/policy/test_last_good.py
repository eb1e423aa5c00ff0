"""Whatever is wrong with a newer directory: the last good one stays in force, and whoever runs the process is alarmed.

Each directory here carries every signature of the registrar, and mostly of two admins as well: what is wrong is what it
says. It comes in by the watch that hub, adapters and agents follow. The honest registrar refuses the same documents.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets

import policy_support as support
from policy.directory import DirectoryHolder
from policy.follower import Follower
from policy.metadata import (
    CENTRE,
    Publication,
    build_department,
    document_path,
    signed,
    target_file,
)
from policy_liars import LyingRegistrar, tuf
from policy_support import DirectoryKit
from source_support import ServedHub
from zhiwang.wire.errors import RefusedError

GRANT = '\n[[grant]]\nid = "x"\nrole = "edu/clerk"\nask = "hrss.insured exists"\nmatter = "school-enrolment"\n'


def with_grant(old: str, new: str) -> str:
    assert old in GRANT
    return support.HRSS + GRANT.replace(old, new)


def with_roles(roles: str) -> str:
    return support.HRSS.replace('roles = ["clerk"]', f"roles = {roles}")


DOCUMENTS = {
    "malformed row": support.HRSS + '\n[[grant]]\nid = "x"\n',
    "row with a field too many": support.HRSS + GRANT + 'eft = "Deny"\n',
    "unknown type of row": support.HRSS + GRANT.replace("[[grant]]", "[[policy]]"),
    "unknown level": support.HRSS + GRANT + 'level = "province"\n',
    "wildcard for a role": with_grant("edu/clerk", "edu/*"),
    "wildcard for every role": with_grant("edu/clerk", "*"),
    "wildcard for an attribute": with_grant("hrss.insured", "hrss.*"),
    "wildcard for a predicate": with_grant("insured exists", "insured *"),
    "wildcard for a matter": with_grant("school-enrolment", "*"),
    "wildcard for a place": support.HRSS + GRANT + 'place = "*"\n',
    "wildcard within a place": support.HRSS + GRANT + 'place = "nbs:44*"\n',
    "role of a role": with_roles('["clerk"]\nsystem.counter.inherits = ["counter"]'),
    "roles that refer to each other": support.HRSS + '\n[role.a]\nroles = ["b"]\n[role.b]\nroles = ["a"]\n',
    "roles within roles within roles": with_roles('[["clerk", ["lead", ["head"]]]]'),
    "nested deeper than can be read": with_roles("[" * 5000 + "]" * 5000),
    "role of another department": with_roles('["edu/clerk"]'),
    "grant of another's attribute": with_grant("hrss.insured exists", "health.birth_mother related"),
    "document of another department": support.HRSS.replace('department = "hrss"', 'department = "health"'),
}


def says(text: str) -> Callable[[DirectoryKit], LyingRegistrar]:
    def change(kit: DirectoryKit) -> LyingRegistrar:
        return say(LyingRegistrar(kit), kit, text)

    return change


def say(liar: LyingRegistrar, kit: DirectoryKit, text: str) -> LyingRegistrar:
    """hrss says this next, signed by two of its admins."""
    content, keys = text.encode(), kit.directory.admin_keys["hrss"]
    metadata = build_department("hrss", liar.role("hrss").signed, document=content, admins=keys, now=time.time())
    liar.put("hrss", signed(metadata, tuf(kit.admins["hrss"])), {document_path("hrss"): content})
    return liar


def role_with(
    role: str, change: Callable[[Targets], None], signers: slice = slice(None)
) -> Callable[[DirectoryKit], LyingRegistrar]:
    """A role's next metadata, changed."""

    def changed(kit: DirectoryKit) -> LyingRegistrar:
        liar = LyingRegistrar(kit)
        metadata: Metadata[Targets] = liar.role(role)
        metadata.signed.version += 1
        change(metadata.signed)
        department = support.OPERATOR if role == CENTRE else role.removesuffix("-suspend")
        liar.put(role, signed(metadata, tuf(kit.admins[department][signers])), {})
        return liar

    return changed


def delegated(targets: Targets, name: str, paths: list[str]) -> None:
    delegations = targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    (first, *_) = delegations.roles.values()
    role: DelegatedRole = copy.deepcopy(first)
    role.name, role.paths = name, paths
    delegations.roles[name] = role


def delegate_to_itself(targets: Targets) -> None:
    delegated(targets, "hrss", ["hrss/*"])


def delegate_to_another(targets: Targets) -> None:
    delegated(targets, "health", ["health/*"])


def delegate_on(targets: Targets) -> None:
    targets.delegations = Delegations({}, {})


def list_anothers(targets: Targets) -> None:
    path = document_path("health")
    targets.targets[path] = target_file(path, support.HEALTH.encode())


def fallen(kit: DirectoryKit) -> LyingRegistrar:
    """One department as two of its admins signed it before, in a newer snapshot."""
    liar = LyingRegistrar(kit)
    metadata = liar.role("hrss")
    metadata.signed.version -= 1
    liar.put("hrss", signed(metadata, tuf(kit.admins["hrss"])), {})
    return liar


def older(kit: DirectoryKit) -> LyingRegistrar:
    """The whole of it as it was, anew."""
    liar = LyingRegistrar(kit)
    liar.snapshot.version -= 2
    liar.sign()
    return liar


METADATA: dict[str, Callable[[DirectoryKit], LyingRegistrar]] = {
    "department that delegates to itself": role_with("hrss", delegate_to_itself),
    "department that delegates to another": role_with("hrss", delegate_to_another),
    "suspensions that delegate on": role_with("hrss-suspend", delegate_on, slice(0, 1)),
    "file of another department": role_with("hrss", list_anothers),
    "falling version of a department": fallen,
    "falling version of the directory": older,
    "centre signed by one": role_with(CENTRE, lambda _: None, slice(0, 1)),
}

CASES = {name: says(text) for name, text in DOCUMENTS.items()} | METADATA


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    kit = support.make_directory(tmp_path_factory.mktemp("good"))
    kit.publish(support.HRSS)  # so that there is a version before
    kit.publish('department = "hrss"\n')
    return kit


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110 - what is waited for is the state of a thread
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", CASES)
async def test_a_bad_directory_leaves_the_last_good_one_in_force_and_alarms(
    base: DirectoryKit, tmp_path: Path, name: str
) -> None:
    hub, holder = ServedHub(base.fetch), DirectoryHolder()
    follower = Follower(base.client(tmp_path / "state"), holder, {"hub": lambda: hub})
    bad = CASES[name](base)
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(follower.follow())
        await until(lambda: holder.latest)
        good, enforcer = holder.current, holder.enforcer
        assert not [line for line in lines if line["log_level"] == "error"]
        hub.serve = bad
        await until(lambda: holder.problem)
        assert holder.current is good
        assert holder.enforcer is enforcer
        alarms = [line for line in lines if line["log_level"] == "error"]
        assert {line["event"] for line in alarms} == {"directory not taken"}
        assert alarms[0]["problem"].startswith(("refused: METADATA_INVALID", "refused: DOCUMENT_INVALID"))
        assert alarms[0]["fresh"] is True
        if name == "malformed row":
            # What follows and is good again is taken up, and the alarm is over.
            hub.serve = say(bad, base, support.HRSS.replace("[6, 12, 18, 24]", "[6]"))
            await until(lambda: holder.problem is None)
            assert holder.current.documents["hrss"].attributes["pension_months"].at_least == ("6",)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_registrar_publishes_no_such_document_whoever_signs_it(base: DirectoryKit, name: str) -> None:
    content, before = DOCUMENTS[name].encode(), base.directory
    current = LyingRegistrar(base).role("hrss").signed
    keys = before.admin_keys["hrss"]
    metadata = build_department("hrss", current, document=content, admins=keys, now=time.time())
    publication = Publication("hrss", signed(metadata, tuf(base.admins["hrss"])), {document_path("hrss"): content})
    with pytest.raises(RefusedError):
        base.repository.publish(publication)
    assert base.directory is before


async def test_a_department_that_too_few_of_its_admins_signed_is_left_out_and_that_is_an_alarm(
    base: DirectoryKit, tmp_path: Path
) -> None:
    """Who has the registrar's keys can stop a department, and so is noticed; it cannot speak for it."""
    hub, holder = ServedHub(base.fetch), DirectoryHolder()
    follower = Follower(base.client(tmp_path / "state"), holder, {"hub": lambda: hub})
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(follower.follow())
        await until(lambda: holder.latest)
        hub.serve = role_with("hrss", lambda _: None, slice(0, 1))(base)
        await until(lambda: holder.current.lapsed)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "hrss" not in holder.current.documents
    assert set(holder.current.documents) == {"edu", "health"}
    (alarm,) = [line for line in lines if line["log_level"] == "error"]
    assert (alarm["event"], alarm["department"]) == ("a department has lapsed and neither asks nor answers", "hrss")
    assert "UnsignedMetadata" in alarm["why"]
