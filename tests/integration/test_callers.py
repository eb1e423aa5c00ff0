"""Programs in other languages, built from the pack of .proto files and nothing else, against a real agent.

A city of real processes: registrar, hub, two owners and the agent, which serves loopback and mTLS. What the programs
print is what they understood. The parts of them that the pack's README shows are the parts that run here.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

import callers_support
from breaking_support import RealCity
from callers_support import Program, packed, started
from certs.ca import Authority
from certs.identity import Identity
from certs.request import make_requests
from exchange.demo.build import CITY, DISTRICT, MATTER, ROLE
from exchange.demo.model import Application
from exchange.demo.truth import expectations
from zhiwang.wire.identity import Kind, server_name

PARENT = "child: health.parent related @guardian"
INSURED = "guardian: hrss.insured_months at_least 12"
NOT_GRANTED = "guardian: health.death absent"
NOT_ATTACHED = "child: police.age at_least 6"
AGENT, COUNTER, STRANGER = "edu/agent/main", "edu/system/counter", "edu/system/unknown"
SERVER = server_name(CITY, Kind.AGENT)
HOSTS = ("agent.edu.example", "127.0.0.1")
"""By which the agent may be dialled as well, since its certificate was issued with `--host`."""

in_every_language = pytest.mark.parametrize("language", sorted(callers_support.LANGUAGES))
pytestmark = pytest.mark.timeout(400)


class World:
    """The city, and its agent for programs elsewhere.

    Attributes:
        protos: The unpacked pack.
        ca: The certificate that everybody pins.
    """

    def __init__(self, path: Path) -> None:
        self.protos = packed(path)
        self.city = city = RealCity.build(path, ("health", "hrss"), students=40)
        self._authority = Authority.load(city.layout.directory / "authority")
        self._path = path
        self.ca = city.layout.root / "ca.pem"
        self.enrol(self._authority, city.layout.identity(AGENT), AGENT, *HOSTS)
        for short in (COUNTER, STRANGER):
            self.enrol(self._authority, city.layout.identity(short), short)
        callers = (
            {"certificate": "local", "roles": [ROLE]},
            {"certificate": f"spiffe://{CITY}/{COUNTER}", "roles": [ROLE]},
        )
        city.fleet.end("agent")
        city.write_agent(listen_tls="127.0.0.1:0", identity=str(city.layout.identity(AGENT)), caller=callers)
        city.start("agent")
        city.wait_ready()
        announced = city.announced("agent")
        self.local, self.remote = str(announced["listen"]), str(announced["listen_tls"])
        self._expected = expectations(city.city, date(2026, 9, 1))

    @staticmethod
    def enrol(authority: Authority, directory: Path, short: str, *hosts: str) -> Path:
        for request in make_requests(directory, Identity.parse_short(CITY, short)):
            own = hosts if request.stem == "auth" else ()
            request.with_suffix(".pem").write_bytes(authority.issue(request.read_bytes(), hosts=own))
        return directory

    def foreigner(self) -> Path:
        """The identity of the counter, as an authority of somebody else would have it."""
        directory = self._path / "foreign"
        if not directory.exists():
            self.enrol(Authority.create(self._path / "foreign-authority", CITY), directory, COUNTER)
        return directory

    def tls(self, identity: Path, *, name: str = SERVER) -> tuple[str, ...]:
        return (self.remote, str(self.ca), str(identity / "auth.pem"), str(identity / "auth.key"), name)

    def case(self, insured: str) -> tuple[str, str, str]:
        """Child, name and guardian of whom health says YES, and labour this."""
        for application in self.city.applications:
            answers = self._expected[application.number].answers
            for place, guardian in enumerate(application.guardians):
                found = (answers["parent", place], answers["insured", place])
                if application.district == DISTRICT and found == ("YES", insured):
                    return _words(application, guardian.person.identifier)
        raise AssertionError(f"nobody of whom labour says {insured}; let the city be larger")

    @contextmanager
    def frozen(self, place: str) -> Iterator[None]:
        self.city.fleet.signal(place, signal.SIGSTOP)
        try:
            yield
        finally:
            self.city.fleet.signal(place, signal.SIGCONT)


def _words(application: Application, guardian: str) -> tuple[str, str, str]:
    return (application.child.person.identifier, application.child.name, guardian)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("callers"))
    try:
        yield world
    finally:
        world.city.stop()


@pytest.fixture
def program(language: str, world: World) -> Iterator[Program]:
    """On the agent's own machine."""
    with started(language, world.protos, world.local) as program:
        yield program


def refused(lines: list[list[str]]) -> list[str]:
    """Status, reason, field and Chinese text. Go writes DeadlineExceeded for DEADLINE_EXCEEDED."""
    ((word, code, *rest),) = lines
    assert word == "refused"
    return [code if code.isupper() else "".join(f"_{c}" if c.isupper() else c for c in code)[1:].upper(), *rest]


@in_every_language
def test_a_foreign_program_understands_every_answer_and_status(program: Program, world: World) -> None:
    for insured, understood in (("YES", "confirmed"), ("NO", "disagrees"), ("UNKNOWN", "by hand")):
        child, name, guardian = world.case(insured)
        claims = (PARENT, INSURED, NOT_GRANTED, NOT_ATTACHED)
        parent, labour, card, age = program.ask("verify", child, name, guardian, "60", *claims)
        assert parent == [PARENT, "confirmed"]
        assert labour[:2] == [INSURED, understood]
        assert labour[2:] == ([] if insured == "YES" else ["0755-00000301"])
        assert card == [NOT_GRANTED, "not allowed", "NOT_GRANTED"]
        assert age == [NOT_ATTACHED, "try later", "OWNER_NOT_ATTACHED"]


@in_every_language
def test_chinese_text_survives_both_ways(program: Program, world: World) -> None:
    assert [MATTER, "非深户籍儿童入学"] in program.ask("matters")
    child, name, guardian = world.case("YES")
    # A name that does not match is never answered YES, so the name reached the owner as it was written.
    assert program.ask("verify", child, name, guardian, "60", PARENT) == [[PARENT, "confirmed"]]
    ((_, understood, _),) = program.ask("verify", child, f"{name}龘", guardian, "60", PARENT)
    assert understood == "by hand"


@in_every_language
def test_a_refusal_can_be_read_down_to_the_field(program: Program, world: World) -> None:
    child, name, guardian = world.case("YES")
    wrong = guardian[:-1] + ("0" if guardian[-1] != "0" else "1")
    assert refused(program.ask("verify", child, name, wrong, "60", PARENT)) == [
        "INVALID_ARGUMENT",
        "IDENTIFIER_INVALID",
        "case.subjects[1].identifier",
        "证件号码或编码不合规则",
    ]


@in_every_language
def test_an_owner_that_hangs_costs_its_own_claims_only_and_within_the_deadline(program: Program, world: World) -> None:
    case = world.case("YES")
    program.ask("verify", *case, "60", PARENT, INSURED)
    with world.frozen("hrss"):
        # Nothing but the deadline ends this, since the owner stays as it is until the answer is there.
        parent, labour = program.ask("verify", *case, "3", PARENT, INSURED)
    assert parent == [PARENT, "confirmed"]
    assert labour[:2] == [INSURED, "try later"]
    assert labour[2] in {"OWNER_TIMED_OUT", "OWNER_NOT_ATTACHED"}


@in_every_language
def test_an_agent_that_hangs_is_left_at_the_callers_own_deadline(program: Program, world: World) -> None:
    case = world.case("YES")
    program.ask("verify", *case, "60", PARENT)
    with world.frozen("agent"):
        assert refused(program.ask("verify", *case, "1", PARENT))[0] == "DEADLINE_EXCEEDED"
    assert program.ask("verify", *case, "60", PARENT) == [[PARENT, "confirmed"]]


@in_every_language
def test_a_batch_brings_every_case_back_under_its_own_key(program: Program, world: World) -> None:
    child, _, guardian = world.case("YES")
    lines = program.ask("batch", "700", child, guardian, PARENT, INSURED)
    assert sorted(lines) == sorted([f"第{number}件", "", "ANSWER_YES", "ANSWER_YES"] for number in range(700))


@in_every_language
def test_a_mapped_certificate_may_call_from_another_machine(language: str, world: World) -> None:
    with started(language, world.protos, *world.tls(world.city.layout.identity(COUNTER))) as program:
        assert program.ask("verify", *world.case("YES"), "60", PARENT) == [[PARENT, "confirmed"]]


@in_every_language
@pytest.mark.parametrize("name", HOSTS)
def test_an_agent_can_be_dialled_by_the_hosts_of_its_certificate(language: str, world: World, name: str) -> None:
    arguments = world.tls(world.city.layout.identity(COUNTER), name=name)
    with started(language, world.protos, *arguments) as program:
        assert program.ask("verify", *world.case("YES"), "60", PARENT) == [[PARENT, "confirmed"]]


@in_every_language
def test_a_certificate_that_is_not_mapped_is_refused_with_the_reason(language: str, world: World) -> None:
    with started(language, world.protos, *world.tls(world.city.layout.identity(STRANGER))) as program:
        told = refused(program.ask("verify", *world.case("YES"), "60", PARENT))
    assert told[:2] == ["PERMISSION_DENIED", "CALLER_NOT_MAPPED"]


@in_every_language
def test_no_certificate_or_a_foreign_one_gets_no_connection(language: str, world: World) -> None:
    case = world.case("YES")
    for arguments in ((world.remote, str(world.ca), SERVER), world.tls(world.foreigner())):
        with started(language, world.protos, *arguments) as program:
            assert refused(program.ask("verify", *case, "20", PARENT))[:2] == ["UNAVAILABLE", ""]


@in_every_language
def test_a_server_that_is_not_the_agent_is_not_talked_to(language: str, world: World) -> None:
    arguments = world.tls(world.city.layout.identity(COUNTER), name=server_name(CITY, Kind.HUB))
    with started(language, world.protos, *arguments) as program:
        assert refused(program.ask("verify", *world.case("YES"), "20", PARENT))[:2] == ["UNAVAILABLE", ""]


ODDITIES = {
    "gzip": "ANSWER_YES ANSWER_YES",
    "deflate": "ANSWER_YES ANSWER_YES",
    "binary metadata": "ANSWER_YES ANSWER_YES",
    "unknown field": "OK",
    "broken message": "INVALID_ARGUMENT",
    "broken text": "INVALID_ARGUMENT",
    "no such method": "UNIMPLEMENTED",
    "empty stream": "OK 0",
    "stream without cases": "OK 0",
    "stream without context": "PERMISSION_DENIED 0",
    "context repeated": "OK 3",
    "pages of receipts": "700",
    "cancelled calls": "ANSWER_YES ANSWER_YES",
}


def test_nothing_odd_that_a_client_sends_is_an_error_of_the_agent(world: World) -> None:
    child, _, guardian = world.case("YES")
    command = [*callers_support.node(world.protos, "oddities.js"), world.local, child, guardian]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - ours
    assert dict(line.split("\t") for line in done.stdout.splitlines()) == ODDITIES, done.stderr
    errors = [
        line for line in world.city.fleet.log("agent").read_text("utf-8").splitlines() if '"level": "error"' in line
    ]
    # Other tests freeze the agent, and its connections to others with it.
    assert not [line for line in errors if "rpc" in json.loads(line)]
