"""Versions are published under full traffic: registrar, hub, two adapters and an agent as processes.

Grants change their names, go and come back, and an admin suspends. Every entry of hub and owners is decided again by
the verified directory of exactly the version that it names: what is recorded must be that decision, rule by rule.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Self

import pytest

from breaking_support import INSURED, PARENT, RealCity, case, context
from certs.identity import Identity
from exchange.cli.registrar_link import RegistrarLink, with_registrar
from exchange.demo import build
from exchange.demo.build import ADMINS
from policy.authorise import authorise
from policy.directory import DirectoryClient
from policy.enforcer import Enforcer
from policy.metadata import suspensions_path
from policy.model import Directory
from policy.publishing import Named, draft, sign
from policy.source import hub_fetch
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2_grpc
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire.header import parse_header
from zhiwang.wire.profile import Profile, load_profile

OWNERS = ("hrss", "health")
GRANTS = {"hrss": "enrolment-insured", "health": "enrolment-parent"}
CLAIMS = {"hrss": INSURED, "health": PARENT}
ASKERS = 12
CALL_SECONDS = 60.0
PASSING = {"DIRECTORY_BEHIND"}
"""What a request may be told while a newer directory is on its way: asked again it is answered."""

STOP = 'department = "hrss"\n[[suspend]]\nid = "{}"\nrole = "edu/enrolment-clerk"\n'

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("reload"), OWNERS)
    try:
        yield city
    finally:
        city.stop()


class Desk:
    """Both departments' admins, who publish without the start of a command; and a reader of every version."""

    def __init__(self, city: RealCity) -> None:
        self.city = city
        self.directories: dict[int, Directory] = {city.directory.version: city.directory}
        self.published: dict[int, float] = {}
        examples = build.examples_directory() / "documents"
        self.texts = {owner: (examples / f"{owner}.toml").read_text("utf-8") for owner in OWNERS}
        self._profiles = {owner: self._profile(owner) for owner in OWNERS}
        self._reader = city.layout.directory / "test-reader"

    def _profile(self, owner: str) -> Profile:
        path = self.city.layout.directory / f"{owner}-admin.toml"
        registrar = self.city.address("registrar")
        build.write_profile_file(self.city.layout, path, f"{owner}/admin/{ADMINS[0]}", registrar=registrar)
        return load_profile(path)

    def granting(self, owner: str, name: str) -> str:
        """The department's document, in which the grant that matters is called so; without it for an empty name."""
        text, grant = self.texts[owner], GRANTS[owner]
        if name:
            return text.replace(f'"{grant}"', f'"{name}"')
        before, _, rest = text.partition(f'[[grant]]\nid     = "{grant}"')
        return before + "[[grant]]" + rest.partition("[[grant]]")[2]

    def publish(self, owner: str, path: str, text: str) -> int:
        """Sign with both admins and publish. Returns the version of the directory."""
        signers = [self.city.identity(f"{owner}/admin/{admin}").signer() for admin in ADMINS]

        async def send(link: RegistrarLink) -> int:
            current = await link.current()
            (drafted,) = draft([Named(path, text.encode())], current, now=time.time())
            return (await link.publish(sign(drafted, signers))).directory_version

        version = with_registrar(self._profiles[owner], send)
        self.published[version] = time.time()
        return version

    async def read(self) -> None:
        """Verify the newest directory as every reader does, and remember it by its version."""
        root, authority = self.city.layout.root / "root.json", self.city.layout.root / "ca.pem"
        async with self.city.hub_channel() as channel:
            stub = exchange_pb2_grpc.DirectoryServiceStub(channel)
            client = DirectoryClient(root.read_bytes(), authority.read_bytes(), self._reader, hub_fetch(lambda: stub))
            newest = max(self.published)
            async with asyncio.timeout(CALL_SECONDS):
                while newest not in self.directories:
                    directory = await asyncio.to_thread(client.refresh)
                    self.directories[directory.version] = directory
                    await asyncio.sleep(0.05)


class Traffic:
    """Callers of the agent that never pause."""

    def __init__(self, city: RealCity) -> None:
        self.city = city
        self.asked = 0
        self.results: Counter[str] = Counter()
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(ASKERS)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def _ask(self, number: int) -> None:
        applications = self.city.applications
        async with self.city.agent_stub() as stub:
            while not self._over.is_set():
                application = applications[number % len(applications)]
                asked = api.VerifyRequest(context=context(application), case=case(application, list(CLAIMS.values())))
                self.asked += 1
                response = await stub.Verify(asked, timeout=CALL_SECONDS)
                assert len(response.result.claims) >= len(CLAIMS)
                self.results.update(said(claim) for claim in response.result.claims)


def said(claim: Any) -> str:
    return claim.reason or api.ClaimStatus.Name(claim.status)


async def answered(city: RealCity, owner: str, version: int) -> set[str]:
    """What is said of one claim by a directory of at least this version."""
    application = city.applications[0]
    request = api.VerifyRequest(
        context=context(application, min_policy_version=version), case=case(application, [CLAIMS[owner]])
    )
    async with city.agent_stub() as stub:
        response = await stub.Verify(request, timeout=CALL_SECONDS)
    return {said(claim) for claim in response.result.claims}


ANSWERED, DENIED = {"CLAIM_STATUS_ANSWERED"}, {"NOT_GRANTED"}


async def test_no_decision_under_load_mixes_two_versions_or_is_lost_and_each_change_can_be_waited_for(
    city: RealCity,
) -> None:
    desk = Desk(city)
    # (owner, path of the file, its text, what is said of the owner's claim from then on)
    lift = 'lifted = ["one"]\n'
    steps: list[tuple[str, str, str, set[str]]] = [
        ("hrss", "hrss/document.toml", desk.granting("hrss", "second-name"), ANSWERED),
        ("health", "health/document.toml", desk.granting("health", ""), DENIED),
        ("hrss", "hrss/document.toml", desk.granting("hrss", ""), DENIED),
        ("health", "health/document.toml", desk.granting("health", "second-name"), ANSWERED),
        ("hrss", "hrss/document.toml", desk.granting("hrss", "third-name"), ANSWERED),
        ("hrss", suspensions_path("hrss"), STOP.format("one"), DENIED),
        ("hrss", "hrss/document.toml", lift + desk.granting("hrss", "fourth-name"), ANSWERED),
        ("health", "health/document.toml", desk.granting("health", ""), DENIED),
        ("hrss", "hrss/document.toml", lift + desk.granting("hrss", "fifth-name"), ANSWERED),
        ("health", "health/document.toml", desk.granting("health", "third-name"), ANSWERED),
    ]
    starts = {place: len(city.entries(place)) for place in ("hub", *OWNERS)}
    waited: list[float] = []
    async with Traffic(city) as traffic:
        for owner, path, text, wanted in steps:
            version = await asyncio.to_thread(desk.publish, owner, path, text)
            assert await answered(city, owner, version) == wanted, (owner, version)
            waited.append(time.time() - desk.published[version])
            await desk.read()
    assert set(traffic.results) <= ANSWERED | DENIED | PASSING, traffic.results
    assert all(traffic.results[one] for one in ANSWERED | DENIED), traffic.results

    found = {place: city.entries(place, start) for place, start in starts.items()}
    decided = {place: check(entries, desk.directories) for place, entries in found.items()}
    for place, versions in decided.items():
        assert len(versions) > len(steps) // 2, (place, versions)
    accesses = sum(entry.WhichOneof("event") == "hub_access" for entry in found["hub"])
    assert accesses >= traffic.asked * len(OWNERS) + len(steps), "a request has no entry"
    tell(found, desk.published, waited, traffic)


def check(entries: list[audit_pb2.Entry], directories: Mapping[int, Directory]) -> set[int]:
    """That each access was decided as the directory decides that it names. Returns the versions that decided."""
    enforcers: dict[int, Enforcer] = {}
    versions = set()
    for entry in entries:
        kind = entry.WhichOneof("event")
        if kind not in {"hub_access", "owner_access"}:
            continue
        access: Any = entry.hub_access if kind == "hub_access" else entry.owner_access
        if not access.directory_version:
            assert access.reason in PASSING, access.reason
            continue
        version = access.directory_version
        versions.add(version)
        enforcer = enforcers.setdefault(version, Enforcer(directories[version]))
        header = parse_header(access.header)
        assert header.min_policy_version <= version
        moment = entry.time.seconds + entry.time.nanos / 1e9
        expected = authorise(enforcer, header, Identity.parse(header.system), moment)
        denied = set(access.denied_claims)
        assert set(expected.denied) <= denied, (version, kind, "wrongly allowed")
        if kind == "hub_access":
            assert set(expected.denied) == denied, (version, "wrongly denied")
        else:
            assert access.document_version == expected.owner_document_version
        for index, (decision, rules) in enumerate(zip(expected.decisions, access.rule_ids, strict=True)):
            assert rules == ("" if index in denied else decision.rules_text), (version, kind)
    return versions


def tell(
    found: Mapping[str, list[audit_pb2.Entry]], published: Mapping[int, float], waited: list[float], traffic: Traffic
) -> None:
    """How soon each version was in force, by the entries in which hub and owners recorded that it was."""
    print(f"\n{traffic.asked} cases asked while {len(published)} versions were published")  # noqa: T201 - the measurement
    for place, entries in found.items():
        delays = [
            entry.time.seconds + entry.time.nanos / 1e9 - published[entry.directory_change.directory_version]
            for entry in entries
            if entry.WhichOneof("event") == "directory_change" and entry.directory_change.directory_version in published
        ]
        assert delays, place
        print(f"in force at {place} after {max(delays):.2f} s at most, from the registrar's word")  # noqa: T201 - the same
    print(f"a call that waits for its version was answered after {max(waited):.2f} s at most")  # noqa: T201 - the same
