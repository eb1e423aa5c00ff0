"""What the registrar adds to an opening: it is recorded first, and not repeated before somebody has reviewed it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest

from emergency_support import DOCUMENTS, HOUR, REASON, SALT, entry, opening
from policy import guard
from policy.document import parse_activations
from policy.emergency_alarms import EmergencyAlarms
from policy.glass import Openings, reason_hash
from policy.model import Activation
from policy.registrar import MADE_GOOD, Recorded, Registrar
from policy.steps import Step
from policy_support import CITY, DirectoryKit, make_directory
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.identity import Identity

OPENED, WITHDRAWN, REVIEWED = (
    audit_pb2.EMERGENCY_ACTION_OPENED,
    audit_pb2.EMERGENCY_ACTION_WITHDRAWN,
    audit_pb2.EMERGENCY_ACTION_REVIEWED,
)


class Log:
    """The registrar's log, which can fail."""

    def __init__(self) -> None:
        self.steps: list[audit_pb2.EmergencyStep] = []
        self.published: list[str] = []
        self.fails = False

    async def __call__(self, step: Step | audit_pb2.EmergencyStep) -> None:
        if self.fails:
            raise FatalError(Reason.LOG_UNAVAILABLE)
        if isinstance(step, audit_pb2.EmergencyStep):
            self.steps.append(step)
        else:
            self.published.append(step.role)

    @property
    def actions(self) -> list[int]:
        return [step.action for step in self.steps]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return make_directory(tmp_path_factory.mktemp("city"), documents=DOCUMENTS)


@pytest.fixture
def kit(city: DirectoryKit, tmp_path: Path) -> DirectoryKit:
    return city.copy(tmp_path / "copy")


@pytest.fixture
def log() -> Log:
    return Log()


class Clock:
    """This machine's, or so much ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registrar(kit: DirectoryKit, clock: Clock, log: Log) -> Registrar:
    return Registrar(kit.repository, clock, journal=log)


def person(short: str) -> Identity:
    return Identity.parse_short(CITY, short)


ADMIN = person("edu/admin/first")


async def refused(expected: Reason, registrar: Registrar, kit: DirectoryKit, text: str, **changed: object) -> None:
    given = {"reason": REASON, "salt": SALT} | changed
    with pytest.raises(RefusedError) as caught:
        await registrar.open_emergency(opening(kit, text), ADMIN, given["reason"], given["salt"])  # type: ignore[arg-type] # each test names real ones
    assert caught.value.reason is expected
    assert not kit.directory.activations


async def test_an_opening_stands_in_the_log_with_who_and_why_before_it_is_in_force(
    registrar: Registrar, kit: DirectoryKit, log: Log
) -> None:
    directory = await registrar.open_emergency(opening(kit, entry(time.time())), ADMIN, f" {REASON}\n", SALT)
    assert len(directory.activations) == 1
    (step,) = log.steps
    assert (step.action, step.by, step.note, step.salt) == (OPENED, ADMIN.uri, REASON, SALT)
    assert log.published == ["edu-emergency"]
    assert reason_hash(step.salt, step.note) == directory.activations[0].reason_hash


async def test_nothing_is_opened_that_cannot_be_recorded(registrar: Registrar, kit: DirectoryKit, log: Log) -> None:
    log.fails = True
    with pytest.raises(FatalError):
        await registrar.open_emergency(opening(kit, entry(time.time())), ADMIN, REASON, SALT)
    assert not kit.directory.activations
    log.fails = False
    await registrar.open_emergency(opening(kit, entry(time.time())), ADMIN, REASON, SALT)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"reason": ""}, Reason.NOTE_INVALID),
        ({"reason": " \n"}, Reason.NOTE_INVALID),
        ({"reason": "x" * 501}, Reason.NOTE_INVALID),
        ({"reason": "for 440399199001010018"}, Reason.NOTE_INVALID),
        ({"reason": "another"}, Reason.METADATA_INVALID),
        ({"salt": b""}, Reason.METADATA_INVALID),
        ({"salt": bytes(16)}, Reason.METADATA_INVALID),
    ],
)
async def test_the_reason_is_required_and_is_the_one_that_was_signed(
    registrar: Registrar, kit: DirectoryKit, log: Log, changed: dict[str, object], reason: Reason
) -> None:
    await refused(reason, registrar, kit, entry(time.time()), **changed)
    assert not log.steps


async def test_what_could_not_be_published_after_all_awaits_no_review(
    registrar: Registrar, kit: DirectoryKit, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(kit.repository, "publish", full)
        with pytest.raises(OSError, match="space"):
            await registrar.open_emergency(opening(kit, entry(time.time())), ADMIN, REASON, SALT)
    assert log.actions == [OPENED, WITHDRAWN]
    assert not registrar.openings.unreviewed
    await registrar.open_emergency(opening(kit, entry(time.time(), name="b")), ADMIN, REASON, SALT)


async def test_an_emergency_is_not_opened_again_before_the_review_even_after_a_restart(
    registrar: Registrar, kit: DirectoryKit, log: Log, tmp_path: Path
) -> None:
    old = entry(time.time() - 200)
    await registrar.open_emergency(opening(kit, old), ADMIN, REASON, SALT)
    # A list without the first: only the log knows of it.
    again = kit.copy(tmp_path / "again")
    clock = Clock()
    another = Registrar(again.repository, clock, journal=log)
    await another.make_good(lambda: Recorded(another.holder.current.role_versions, log.steps))
    await refused(Reason.METADATA_INVALID, another, again, old)
    await refused(Reason.EMERGENCY_UNREVIEWED, another, again, entry(time.time(), name="b"))
    assert log.actions == [OPENED]
    clock.ahead = 9 * HOUR
    await another.review_emergency("edu-a", person("health/admin/first"), "all at school 17")
    with pytest.raises(RefusedError, match="EMERGENCY_UNREVIEWED") as caught:
        another.openings.check_new(_activation(entry(time.time(), name="b")))
    assert "less than a day" in (caught.value.detail or ""), "the review does not shorten the day"
    another.openings.check_new(_activation(entry(time.time() + 86_400, name="b")))


def _activation(text: str) -> Activation:
    return parse_activations(f'department = "edu"\n{text}'.encode())[1][0]


@pytest.mark.parametrize(
    ("reviewer", "may"),
    [
        ("health/admin/first", True),
        ("health/auditor/one", True),
        ("edu/admin/first", False),
        ("edu/admin/second", False),
        ("hrss/admin/first", False),
        ("hrss/auditor/one", False),
    ],
)
async def test_the_owner_reviews_and_nobody_who_opened_it(
    registrar: Registrar, kit: DirectoryKit, clock: Clock, log: Log, reviewer: str, *, may: bool
) -> None:
    await registrar.open_emergency(opening(kit, entry(time.time())), ADMIN, REASON, SALT)
    clock.ahead = 9 * HOUR
    assert [one.name for one in registrar.openings.unreviewed] == ["edu-a"]
    if not may:
        with pytest.raises(RefusedError, match="EMERGENCY_UNKNOWN"):
            await registrar.review_emergency("edu-a", person(reviewer), "seen")
        return
    with pytest.raises(RefusedError, match="NOTE_INVALID"):
        await registrar.review_emergency("edu-a", person(reviewer), "")
    await registrar.review_emergency("edu-a", person(reviewer), "seen")
    assert not registrar.openings.unreviewed
    assert (log.steps[-1].action, log.steps[-1].note) == (REVIEWED, "seen")
    with pytest.raises(RefusedError, match="EMERGENCY_UNKNOWN"):
        await registrar.review_emergency("edu-a", person(reviewer), "again")


def test_an_owners_admin_does_not_review_what_it_opened_itself() -> None:
    step = audit_pb2.EmergencyStep(action=OPENED, owner="edu", emergency="x", department="edu", opening="a")
    step.by = ADMIN.uri
    openings = Openings([step])
    with pytest.raises(RefusedError, match="EMERGENCY_UNKNOWN"):
        openings.to_review("edu-a", ADMIN, 1, office=False)
    assert openings.to_review("edu-a", person("edu/admin/second"), 1, office=False).name == "edu-a"
    assert openings.to_review("edu-a", person("audit/auditor/zhao"), 1, office=True).name == "edu-a"


def test_of_an_opening_without_a_name_no_admin_of_the_department_is_the_reviewer() -> None:
    openings = Openings([audit_pb2.EmergencyStep(action=OPENED, owner="edu", department="edu", opening="a")])
    for admin in (ADMIN, person("edu/admin/second")):
        with pytest.raises(RefusedError, match="EMERGENCY_UNKNOWN"):
            openings.to_review("edu-a", admin, 1, office=False)
    assert openings.to_review("edu-a", person("edu/auditor/one"), 1, office=False).name == "edu-a"


async def test_a_review_waits_for_the_end(registrar: Registrar, kit: DirectoryKit, clock: Clock, log: Log) -> None:
    since = int(time.time())
    await registrar.open_emergency(opening(kit, entry(since)), ADMIN, REASON, SALT)
    reviewer = person("health/admin/first")
    with pytest.raises(RefusedError, match="EMERGENCY_OPEN"):
        await registrar.review_emergency("edu-a", reviewer, "seen")
    (awaited,) = registrar.openings.unreviewed
    with pytest.raises(RefusedError, match="EMERGENCY_OPEN"):
        registrar.openings.to_review("edu-a", reviewer, awaited.until - 1, office=False)
    with pytest.raises(RefusedError, match="EMERGENCY_UNKNOWN"):
        registrar.openings.to_review("edu-a", person("hrss/admin/first"), awaited.until - 1, office=False)
    assert log.actions == [OPENED]
    clock.ahead = 8 * HOUR + 1
    await registrar.review_emergency("edu-a", reviewer, "seen")
    assert not registrar.openings.unreviewed


# What the log and the directory do not agree about.


async def test_an_opening_that_comes_while_the_log_is_read_awaits_its_review(
    registrar: Registrar, kit: DirectoryKit, log: Log
) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def read() -> Recorded:
        steps = list(log.steps)
        reading.set()
        assert go_on.wait(60)
        return Recorded(registrar.holder.current.role_versions, steps)

    making_good = asyncio.create_task(registrar.make_good(read))
    await asyncio.to_thread(reading.wait, 60)
    coming = asyncio.create_task(registrar.open_emergency(opening(kit, entry(time.time())), ADMIN, REASON, SALT))
    done, _ = await asyncio.wait([coming], timeout=1)
    go_on.set()
    await making_good
    await coming
    assert not done, "nothing is opened meanwhile"
    assert [one.name for one in registrar.openings.unreviewed] == ["edu-a"]
    assert log.actions == [OPENED]


@pytest.mark.parametrize("broken", ["removing", "remembering"])
async def test_what_is_in_force_although_publishing_failed_awaits_its_review(
    kit: DirectoryKit, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    registrar = Registrar(kit.repository, kit.clock, journal=log, guard_file=tmp_path / "guard.json")
    unlink = Path.unlink

    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    def removes_no_snapshot(path: Path, **options: bool) -> None:
        return fails() if path.name.endswith(".snapshot.json") else unlink(path, **options)

    with monkeypatch.context() as disk, suppress(OSError):
        if broken == "removing":
            disk.setattr(Path, "unlink", removes_no_snapshot)
        else:
            disk.setattr(guard, "remember", fails)
        await registrar.open_emergency(opening(kit, entry(time.time())), ADMIN, REASON, SALT)
    await registrar.resign()
    assert [one.id for one in registrar.holder.current.activations] == ["a"]
    assert [one.name for one in registrar.openings.unreviewed] == ["edu-a"]
    assert log.actions == [OPENED]


async def test_what_is_in_force_and_not_in_the_log_is_recorded_and_awaits_its_review(
    registrar: Registrar, kit: DirectoryKit, log: Log
) -> None:
    await registrar.open_emergency(opening(kit, entry(time.time())), ADMIN, REASON, SALT)
    log.steps.clear()
    for _ in range(2):
        await registrar.make_good(lambda: Recorded(registrar.holder.current.role_versions, list(log.steps)))
    (step,) = log.steps
    assert (step.action, step.opening, step.by, step.note) == (OPENED, "a", "", MADE_GOOD)
    assert [one.name for one in registrar.openings.unreviewed] == ["edu-a"]


async def test_the_alarm_is_raised_once_and_has_no_reason_in_it(registrar: Registrar, kit: DirectoryKit) -> None:
    recorded: list[audit_pb2.EmergencyStep] = []
    registry = CollectorRegistry()
    alarms = EmergencyAlarms(lambda: registrar.holder.latest, kit.clock, recorded.append, registry)
    with structlog.testing.capture_logs() as lines:
        await registrar.open_emergency(opening(kit, entry(time.time())), ADMIN, REASON, SALT)
        for _ in range(2):
            alarms.look(registrar.holder.current)
    said = [line for line in lines if line["event"] == "an emergency is open"]
    assert [(line["log_level"], line["emergency"], line["opening"]) for line in said] == [
        ("error", "health/outbreak", "edu-a")
    ]
    assert "school" not in str(lines)
    assert [(step.action, step.note, step.by) for step in recorded] == [(audit_pb2.EMERGENCY_ACTION_IN_FORCE, "", "")]
    assert "zhiwang_emergencies_open 1.0" in generate_latest(registry).decode()
