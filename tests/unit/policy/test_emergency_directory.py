"""Opened emergencies in the signed directory: what one admin, a registrar and a hub can try."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Targets

from emergency_support import DOCUMENTS, HOUR, entry, opening
from policy import admission, metadata
from policy.admission import Admission
from policy.authorise import authorise
from policy.directory import SEEN, DirectoryClient
from policy.enforcer import Enforcer
from policy.metadata import Publication, TufSigner, parse_metadata
from policy.model import Directory
from policy_support import CENTRE, DirectoryKit, claim, make_directory, make_header, system
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.header import SlotShape
from zhiwang.wire.places import Jurisdiction


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return make_directory(tmp_path_factory.mktemp("city"), documents=DOCUMENTS)


@pytest.fixture
def kit(city: DirectoryKit, tmp_path: Path) -> DirectoryKit:
    return city.copy(tmp_path / "copy")


def allowed(directory: Directory, now: float | None = None, *, who: str = "enrolment", **changed: Any) -> bool:
    """Whether a clerk may ask about vaccinations, as hub and adapter decide it."""
    moment = time.time() if now is None else now
    header = make_header(
        directory,
        owner="health",
        claims=(claim("vaccinated exists"),),
        slots=(SlotShape("child", 0, "person"),),
        issue_time=moment,
        system=system(who).uri,
        **changed,
    )
    return authorise(Enforcer(directory), header, system(who), moment).allowed


def behind(hub: DirectoryClient, kit: DirectoryKit, path: Path) -> DirectoryClient:
    """A reader that has everything from a hub's mirror."""

    def fetch(name: str) -> bytes:
        if name not in hub.files:
            raise RefusedError(Reason.FILE_UNKNOWN, name)
        return hub.files[name]

    return kit.client(path / "behind", fetch=fetch)


def refused(kit: DirectoryKit, *entries: str, **options: Any) -> str:
    before = kit.directory
    with pytest.raises(RefusedError) as caught:
        kit.repository.publish(opening(kit, *entries, **options))
    assert kit.directory is before
    return caught.value.detail or ""


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A registrar that publishes whatever one admin signs."""

    def careless() -> None:
        monkeypatch.setattr(Admission, "_check_activations", lambda *_: None)

    return careless


def test_one_admin_opens_what_was_prepared_for_as_long_as_it_was(kit: DirectoryKit, tmp_path: Path) -> None:
    reader = kit.client(tmp_path / "reader")
    assert not allowed(reader.refresh()), "what is prepared permits nothing"
    now = time.time()
    kit.repository.publish(opening(kit, entry(now)))
    directory = reader.refresh()
    assert allowed(behind(reader, kit, tmp_path).refresh())
    assert allowed(directory, int(now) + 8 * HOUR - 1)
    assert not allowed(directory, int(now) + 8 * HOUR)
    assert not allowed(directory, role="edu/inspector")
    # Levels and places hold: a clerk of a district within it, none of a street.
    street = Jurisdiction.parse("nbs:440306001")
    assert allowed(directory, who="baoan", jurisdiction=street)
    assert not allowed(directory, who="street", jurisdiction=street)


@pytest.mark.parametrize("who", ["health", "edu"])
def test_a_suspension_of_one_admin_stands_above_an_open_emergency(kit: DirectoryKit, who: str) -> None:
    kit.repository.publish(opening(kit, entry(time.time())))
    assert allowed(kit.directory)
    kit.publish(f'department = "{who}"\n[[suspend]]\nid = "x"\nrole = "edu/enrolment-clerk"\n')
    assert not allowed(kit.directory)


def test_a_deny_of_the_centre_stands_above_an_open_emergency(kit: DirectoryKit) -> None:
    kit.repository.publish(opening(kit, entry(time.time())))
    kit.publish(CENTRE + '[[deny]]\nattribute = "health.vaccinated"\n')
    assert not allowed(kit.directory)


def test_what_the_owner_takes_back_is_shut_at_once(kit: DirectoryKit) -> None:
    kit.repository.publish(opening(kit, entry(time.time())))
    kit.publish(DOCUMENTS["health"].replace("hours = 8", "hours = 4"))
    assert not allowed(kit.directory), "it was opened for longer than is prepared now"


@pytest.mark.parametrize(
    ("change", "department", "told"),
    [
        ({"ahead": 10**6}, "edu", "from now on"),
        ({"ahead": -(10**6)}, "edu", "from now on"),
        ({"hours": 8.01}, "edu", "8 hours at most"),
        ({"emergency": "health/fire"}, "edu", "no emergency fire that edu may open"),
        ({"emergency": "hrss/outbreak"}, "edu", "no emergency outbreak that edu may open"),
        ({}, "hrss", "no emergency outbreak that hrss may open"),
        ({}, "health", "no emergency outbreak that health may open"),
    ],
)
def test_the_registrar_tells_the_admin_what_is_wrong(
    kit: DirectoryKit, change: dict[str, Any], department: str, told: str
) -> None:
    since = time.time() + change.pop("ahead", 0)
    assert told in refused(kit, entry(since, **change), department=department)


def test_emergencies_are_opened_one_at_a_time(kit: DirectoryKit) -> None:
    now = time.time()
    assert "one emergency is opened at a time" in refused(kit, entry(now), entry(now, name="b"))
    assert "one emergency is opened at a time" in refused(kit)


@pytest.mark.parametrize(
    ("hours", "emergency", "department"),
    [(8.01, "health/outbreak", "edu"), (8, "health/fire", "edu"), (8, "health/outbreak", "hrss")],
)
def test_a_reader_counts_by_itself_what_a_registrar_lets_pass(
    kit: DirectoryKit,
    tmp_path: Path,
    careless: Callable[[], None],
    hours: float,
    emergency: str,
    department: str,
) -> None:
    careless()
    kit.repository.publish(opening(kit, entry(time.time(), hours, emergency=emergency), department=department))
    assert not allowed(kit.client(tmp_path / "reader").refresh())


def test_a_second_opening_prolongs_nothing_even_if_the_first_is_taken_away(
    kit: DirectoryKit, tmp_path: Path, careless: Callable[[], None]
) -> None:
    now = time.time()
    first, second = entry(now - 7 * HOUR), entry(now, name="b")
    careless()
    kit.repository.publish(opening(kit, first))
    assert allowed(kit.client(tmp_path / "reader").refresh())
    kit.repository.publish(opening(kit, first, second))
    later = now + 2 * HOUR
    assert not allowed(kit.client(tmp_path / "reader").refresh(), later), "two at once"
    kit.repository.publish(opening(kit, second))
    # Another process with the same state: what was seen outlives a restart.
    assert not allowed(kit.client(tmp_path / "reader").refresh(), later)
    assert not allowed(kit.client(tmp_path / "reader").load(), later)


def test_the_registrar_refuses_a_second_opening_within_a_day(kit: DirectoryKit) -> None:
    kit.repository.publish(opening(kit, first := entry(time.time())))
    assert "less than a day" in refused(kit, first, entry(time.time(), name="b"))


def test_an_old_opening_that_is_sent_again_changes_nothing(kit: DirectoryKit) -> None:
    text = entry(time.time())
    publication = opening(kit, text)
    kit.repository.publish(publication)
    with pytest.raises(RefusedError, match="METADATA_INVALID") as caught:
        kit.repository.publish(publication)
    assert "must have version 2" in (caught.value.detail or "")
    assert "one emergency is opened at a time" in refused(kit, text), "signed anew it is still the same"


def test_a_hub_that_withholds_an_opening_lets_nothing_in(kit: DirectoryKit, tmp_path: Path) -> None:
    withheld = dict(kit.repository.files)
    kit.repository.publish(opening(kit, entry(time.time())))

    def fetch(path: str) -> bytes:
        if path not in withheld:
            raise RefusedError(Reason.FILE_UNKNOWN, path)
        return withheld[path]

    assert not allowed(kit.client(tmp_path / "reader", fetch=fetch).refresh())


def test_nobody_but_an_admin_of_the_department_signs(kit: DirectoryKit) -> None:
    theirs = opening(kit, entry(time.time()))
    parsed = parse_metadata(theirs.metadata, Targets)
    parsed.signatures.clear()
    parsed.sign(TufSigner(kit.admins["health"][0]))
    with pytest.raises(RefusedError, match="METADATA_INVALID"):
        kit.repository.publish(Publication(theirs.role, parsed.to_bytes(), theirs.files))
    assert not kit.directory.activations


def test_what_former_admins_opened_is_shut_and_nobody_lapses(kit: DirectoryKit, tmp_path: Path) -> None:
    kit.repository.publish(opening(kit, entry(time.time())))
    new = kit.enrol_admins("edu", ("third", "fourth"))
    kit.publish(DOCUMENTS["edu"], admins={"edu": [signer.public_key_raw for signer in new]})
    hub = kit.client(tmp_path / "hub")
    for directory in (hub.refresh(), hub.refresh(), behind(hub, kit, tmp_path).refresh()):
        assert not directory.lapsed
        assert not directory.activations
        assert not allowed(directory)


def test_an_expired_list_of_openings_opens_nothing_and_nobody_lapses(
    kit: DirectoryKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "DAY", 0)
    monkeypatch.setitem(metadata.LIFETIMES, "emergency", 20)
    until = time.time() + 20
    kit.repository.publish(opening(kit, entry(time.time())))
    reader = kit.client(tmp_path / "reader")
    assert allowed(reader.refresh())
    while time.time() <= until + 1:
        time.sleep(0.2)
    for directory in (reader.refresh(), reader.load(), behind(reader, kit, tmp_path).refresh()):
        assert not directory.lapsed
        assert not allowed(directory)


def test_a_city_from_before_emergencies_goes_on_and_opens_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(metadata, "_prefixes", lambda name: [f"{name}/*", f"{name}/suspend/*"])
        kit = make_directory(tmp_path, documents=DOCUMENTS)
    assert not kit.client(tmp_path / "reader").refresh().lapsed
    assert "centre has to publish" in refused(kit, entry(time.time()))
    kit.publish(CENTRE)
    kit.repository.publish(opening(kit, entry(time.time())))
    assert allowed(kit.client(tmp_path / "reader").refresh())


def test_an_earlier_beginning_does_not_displace_what_is_open(kit: DirectoryKit, tmp_path: Path) -> None:
    now = time.time()
    first = entry(now)
    kit.repository.publish(opening(kit, first))
    reader = kit.client(tmp_path / "reader")
    assert allowed(reader.refresh())
    assert "less than a day" in refused(kit, first, entry(now - 250, name="b"))


def test_what_a_colleague_has_opened_is_not_taken_away_by_the_next_opening(kit: DirectoryKit) -> None:
    table = DOCUMENTS["health"].split("[[emergency]]")[1].replace('"outbreak"', '"fire"')
    kit.publish(f"{DOCUMENTS['health']}[[emergency]]{table}")
    now = time.time()
    first, second = entry(now), entry(now, name="b", emergency="health/fire")
    kit.repository.publish(opening(kit, first))
    assert "stay as they are" in refused(kit, second)
    kit.repository.publish(opening(kit, first, second))
    assert {one.id for one in kit.directory.activations} == {"a", "b"}


@pytest.mark.parametrize("name", ["440399199001010018", "for-440399-19900101-0018"])
def test_nobodys_number_is_the_id_of_an_opening_or_a_suspension(kit: DirectoryKit, name: str) -> None:
    assert "identifier" in refused(kit, entry(time.time(), name=name))
    with pytest.raises(RefusedError, match="identifier"):
        kit.publish(f'department = "edu"\n[[suspend]]\nid = "{name}"\nsystem = "edu/enrolment"\n')


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '""',
        "null",
        "1e999",
        "[" * 100_000,
        "[[]]",
        '["abcdef"]',
        '[["a", "b", "c", "d", 1e999, 1]]',
        '[["a", "b", "c", "d", "1", 1]]',
        '[["a", "b", "c", "d", true, 1]]',
        '[["a", "b", "c", [], 1, 1]]',
        '[["a", "b", "c", "d", 1, 1, 1]]',
    ],
    ids=lambda text: text[:32],
)
def test_a_memory_that_cannot_be_read_stops_the_reader(kit: DirectoryKit, tmp_path: Path, text: str) -> None:
    reader = kit.client(tmp_path / "reader")
    (tmp_path / "reader" / SEEN).write_text(text, "utf-8")
    with pytest.raises(FatalError, match="INTERNAL"):
        reader.refresh()
