"""What was in force at some version is found, verified and told again, long after it was replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest

import policy_support as support
from emergency_support import PREPARED, entry, opening
from policy.archive import Archive, timestamp_path
from policy.history import History
from policy.mirror import TIMESTAMP, Mirror
from policy_support import DirectoryKit
from zhiwang.wire.errors import Reason, RefusedError

WITHOUT = (
    support.HRSS[: support.HRSS.index('[[grant]]\nid = "enrolment-pension"')]
    + support.HRSS[support.HRSS.index('[[grant]]\nid = "enrolment-insured"') :]
)
RULE = "enrolment-pension"
SUSPENDED = """
department = "hrss"

[[suspend]]
id = "stop-1"
system = "edu/baoan"
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return support.make_directory(tmp_path_factory.mktemp("history"))


@pytest.fixture
def kit(base: DirectoryKit, tmp_path: Path) -> DirectoryKit:
    return base.copy(tmp_path)


@pytest.fixture
def archive(kit: DirectoryKit, tmp_path: Path) -> Archive:
    """Keeps version 1.., then version .. without the rule, then others on top."""
    archive = Archive(tmp_path / "published")
    archive.keep(kit.repository.files)
    kit.publish(WITHOUT)
    archive.keep(kit.repository.files)
    for day in range(3):
        kit.publish(support.SENIOR.replace("city rules", f"city rules of day {day}"))
        archive.keep(kit.repository.files)
    return archive


def fetch_of(archive: Archive, changed: Mapping[str, bytes] | None = None) -> Callable[[str], bytes]:
    def fetch(path: str) -> bytes:
        content = (changed or {}).get(path) or archive.read(path)
        if content is None:
            raise RefusedError(Reason.FILE_UNKNOWN, path)
        return content

    return fetch


def rules(history: History, version: int) -> set[str]:
    return {grant.id for grant in history.directory(version, ["hrss"]).documents["hrss"].grants}


def test_a_rule_that_was_taken_away_is_found_in_the_version_that_had_it(
    base: DirectoryKit, kit: DirectoryKit, archive: Archive
) -> None:
    before = base.directory
    history = History(kit.root_json, fetch_of(archive))
    assert RULE in rules(history, before.version)
    assert RULE not in rules(history, before.version + 1)
    past = history.directory(before.version, ["hrss", "edu", "nobody"], ["school-enrolment", "nothing"])
    assert past.documents["hrss"] == before.documents["hrss"]
    assert past.documents["hrss"].version == before.role_versions["hrss"] == past.versions["hrss"]
    assert past.sources["hrss"] == support.HRSS.encode()
    assert (set(past.documents), set(past.matters)) == ({"hrss", "edu"}, {"school-enrolment"})
    assert past.centre == before.centre
    # What it read is all that another reader needs.
    again = History(kit.root_json, lambda path: past.files[path] if path in past.files else _missing(path))
    assert again.directory(before.version, ["hrss", "edu"], ["school-enrolment"]).documents == past.documents
    # Nobody who has only what is in force finds it.
    with pytest.raises(RefusedError, check=lambda error: error.reason is Reason.FILE_UNKNOWN):
        History(kit.root_json, kit.fetch).directory(before.version)


def _missing(path: str) -> bytes:
    raise RefusedError(Reason.FILE_UNKNOWN, path)


def test_no_byte_of_what_is_read_can_be_another(base: DirectoryKit, kit: DirectoryKit, archive: Archive) -> None:
    version = base.directory.version
    whole = History(kit.root_json, fetch_of(archive)).directory(version, ["hrss"], ["school-enrolment"]).files
    assert len(whole) >= 7
    for path, content in whole.items():
        if path.endswith(".root.json"):
            continue  # pinned, not fetched
        for changed in (content.replace(b"a", b"b", 1), content[:-2]):
            history = History(kit.root_json, fetch_of(archive, {path: changed}))
            with pytest.raises(RefusedError, check=lambda error: error.reason is Reason.METADATA_INVALID):
                history.directory(version, ["hrss"], ["school-enrolment"])


def test_every_text_of_a_version_comes_back_as_it_was_signed(kit: DirectoryKit, tmp_path: Path) -> None:
    hrss = "# 注释 kept\n" + support.HRSS.replace("\n", "\r\n")
    health = support.HEALTH + PREPARED
    suspended = 'department = "hrss"\n[[suspend]]\nid = "x"\nrole = "edu/inspector"\n'
    kit.publish(hrss, health, suspended)
    opened = opening(kit, entry(kit.clock()))
    kit.repository.publish(opened)
    version, archive = kit.directory.version, Archive(tmp_path / "texts")
    archive.keep(kit.repository.files)
    texts = {
        "centre.toml": support.CENTRE,
        "matters/school-enrolment.toml": support.SCHOOL,
        "matters/senior-card.toml": support.SENIOR,
        "edu/document.toml": support.EDU,
        "hrss/document.toml": hrss,
        "health/document.toml": health,
        "hrss/suspend/current.toml": suspended,
    }
    wanted = {path: text.encode() for path, text in texts.items()} | dict(opened.files)
    assert History(kit.root_json, fetch_of(archive)).texts(version) == wanted
    # Publishing each of them again changes no byte of any.
    kit.publish(*(content for path, content in wanted.items() if path != "edu/emergency/current.toml"))
    archive.keep(kit.repository.files)
    history = History(kit.root_json, fetch_of(archive))
    assert history.texts(kit.directory.version) == wanted
    # Other admins of hrss, who have signed nothing yet: it has lapsed, and is left out alone.
    fresh = kit.enrol_admins("hrss", ("third", "fourth"))
    kit.publish(admins={"hrss": [signer.public_key_raw for signer in fresh]})
    archive.keep(kit.repository.files)
    assert history.texts(kit.directory.version) == {
        path: content for path, content in wanted.items() if not path.startswith("hrss/")
    }
    assert history.texts(version) == wanted
    for path in ("targets/hrss/", "targets/matters/", "metadata/2.hrss.json"):
        (named,) = [one for one in kept_paths(tmp_path / "texts") if one.startswith(path) and "suspend" not in one][:1]
        forged = History(kit.root_json, fetch_of(archive, {named: (archive.read(named) or b"") + b" "}))
        with pytest.raises(RefusedError, check=lambda error: error.reason is Reason.METADATA_INVALID):
            forged.texts(version)


def kept_paths(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_a_version_under_another_number_is_refused(base: DirectoryKit, kit: DirectoryKit, archive: Archive) -> None:
    version = base.directory.version
    other = archive.read(f"metadata/{version + 1}.snapshot.json") or b""
    history = History(kit.root_json, fetch_of(archive, {f"metadata/{version}.snapshot.json": other}))
    with pytest.raises(RefusedError, match="calls itself"):
        history.directory(version)


def test_what_the_log_recorded_names_the_snapshot(base: DirectoryKit, kit: DirectoryKit, archive: Archive) -> None:
    version, stamp = base.directory.version, base.directory.timestamp_hash
    history = History(kit.root_json, fetch_of(archive))
    assert list(history.recorded(version, stamp)) == [timestamp_path(stamp)]
    with pytest.raises(RefusedError):
        history.recorded(version + 1, stamp)
    forged = History(kit.root_json, fetch_of(archive, {timestamp_path(stamp): kit.repository.files[TIMESTAMP]}))
    with pytest.raises(RefusedError, match="not the timestamp"):
        forged.recorded(version, stamp)


def test_an_archive_never_changes_what_it_holds_and_reads_nothing_else(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "published")
    (tmp_path / "secret").write_bytes(b"secret")
    archive.keep({"metadata/1.snapshot.json": b"one", TIMESTAMP: b"first"})
    archive.keep({"metadata/1.snapshot.json": b"two", TIMESTAMP: b"second"})
    assert archive.read("metadata/1.snapshot.json") == b"one"
    assert archive.read(timestamp_path(sha256(b"first").digest())) == b"first"
    assert archive.read(timestamp_path(sha256(b"second").digest())) == b"second"
    for path in (
        "metadata",
        "metadata/../../secret",
        "../secret",
        "metadata/.hidden",
        "/etc/passwd",
        "metadata/1\0",
        "",
    ):
        assert archive.read(path) is None


async def test_a_mirror_finds_in_the_archive_what_it_no_longer_holds(tmp_path: Path) -> None:
    mirror = Mirror(Archive(tmp_path / "published"))
    for version in range(20):
        await mirror.take({TIMESTAMP: b"%d" % version, f"metadata/{version}.snapshot.json": b"snapshot %d" % version})
    assert mirror.read("metadata/3.snapshot.json") is None
    assert await mirror.find("metadata/3.snapshot.json") == b"snapshot 3"
    assert await mirror.find("metadata/99.snapshot.json") is None


async def test_an_archive_that_cannot_be_written_keeps_no_directory_from_its_readers(tmp_path: Path) -> None:
    (tmp_path / "published").write_text("a file where a directory should be")
    mirror = Mirror(Archive(tmp_path / "published"))
    await mirror.take({TIMESTAMP: b"1", "metadata/1.snapshot.json": b"snapshot"})
    assert mirror.timestamp == b"1"


def test_a_former_version_is_whole_again(kit: DirectoryKit, archive: Archive) -> None:
    history = History(kit.root_json, fetch_of(archive))
    now = kit.directory
    whole = history.whole(now.version)
    assert (whole.version, whole.centre, dict(whole.matters)) == (now.version, now.centre, dict(now.matters))
    assert {**whole.documents} == {**now.documents}
    assert not whole.lapsed
    kit.publish(SUSPENDED)
    archive.keep(kit.repository.files)
    suspended = history.whole(kit.directory.version)
    assert suspended.suspensions == kit.directory.suspensions != ()
    # A suspension that was lifted is none in the version that lifts it, and still is one in the version before.
    kit.publish('lifted = ["stop-1"]\n' + WITHOUT)
    archive.keep(kit.repository.files)
    assert history.whole(kit.directory.version).suspensions == ()
    assert history.whole(kit.directory.version - 1).suspensions == suspended.suspensions


def test_a_whole_version_that_somebody_changed_is_refused(kit: DirectoryKit, archive: Archive) -> None:
    version = kit.directory.version
    path = next(path for path in kit.repository.files if path.endswith("document.toml") and "hrss" in path)
    with pytest.raises(RefusedError) as caught:
        History(kit.root_json, fetch_of(archive, {path: b"department = 'hrss'"})).whole(version)
    assert caught.value.reason is Reason.METADATA_INVALID
