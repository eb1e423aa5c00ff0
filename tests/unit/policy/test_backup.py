"""A restored registrar goes on from the newest directory that anybody has seen, and never signs an older number."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

import policy_support
from certs.identity import ROOT_METADATA
from policy import backup, guard
from policy.backup import newest_set, reader_at, repository_at
from policy.ceremony import next_root
from policy.keys import RegistrarKeys
from policy.metadata import Publication
from policy.registrar import Registrar, open_repository, read_public_keys
from policy_support import DirectoryKit, make_directory
from zhiwang.wire import archive
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.profile import Profile, load_profile

CHANGED = f"# changed\n{policy_support.HRSS}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return make_directory(tmp_path_factory.mktemp("made"))


class Machine:
    """The registrar's machine, and a hub that reads from it."""

    def __init__(self, made: DirectoryKit, path: Path) -> None:
        self.state = path / "state"
        self.kit = made.copy(self.state)
        shutil.copytree(made.path / "keys", self.state / "keys")
        guard.make(self.state / guard.GUARD)
        identity = made.city.enrol(f"{policy_support.OPERATOR}/registrar/main").directory
        (path / "registrar.toml").write_text(f'root = "{made.city.root}"\nidentity = "{identity}"\n')
        self.profile: Profile = load_profile(path / "registrar.toml")
        self.reader = path / "reader"
        self.path = path

    def read(self, kit: DirectoryKit | None = None) -> int:
        """The hub takes up what the registrar has; the snapshot's version."""
        return (kit or self.kit).client(self.reader).refresh().version

    def back_up(self, name: str = "backup.tar", *, with_keys: bool = True) -> Path:
        backup.back_up(self.profile, self.path / name, with_keys=with_keys)
        return self.path / name

    def restored(self, source: Path, *readers: Path) -> DirectoryKit:
        """The registrar that was restored after its disk was lost."""
        shutil.rmtree(self.state)
        backup.restore(self.profile, source, readers)
        repository = open_repository(self.profile)
        return DirectoryKit(
            self.kit.city, self.kit.root_json, self.kit.root_keys, self.kit.keys, repository, self.kit.clock,
            self.kit.admins, self.kit.admin_files,
        )  # fmt: skip


@pytest.fixture
def machine(made: DirectoryKit, tmp_path: Path) -> Machine:
    return Machine(made, tmp_path)


def timestamp(directory: Path) -> int:
    text = (directory / "metadata" / "timestamp.json").read_text("utf-8")
    return int(json.loads(text)["signed"]["version"])


def test_a_registrar_from_an_older_backup_goes_on_from_what_its_reader_has_seen(machine: Machine) -> None:
    older = machine.back_up()
    machine.kit.publish(CHANGED)
    machine.kit.repository.resign()
    seen = machine.read()
    kit = machine.restored(older, machine.reader)
    assert kit.directory.version == seen
    assert kit.directory.documents["hrss"] == machine.kit.directory.documents["hrss"]
    before = timestamp(machine.reader)
    kit.repository.resign()
    assert timestamp(machine.state / "repository") == before + 1
    assert machine.read(kit) == seen


def test_without_its_readers_an_older_backup_would_be_refused_by_them(machine: Machine) -> None:
    """Why `restore` asks what readers have seen."""
    older = machine.back_up()
    machine.kit.publish(CHANGED)
    machine.read()
    kit = machine.restored(older)
    kit.repository.resign()  # a number that the reader has seen: it is passed over as nothing new
    kit.repository.resign()
    with pytest.raises(FatalError):
        machine.read(kit)


def test_a_backup_without_keys_makes_new_ones_that_the_root_keys_put_in_force(machine: Machine) -> None:
    source = machine.back_up(with_keys=False)
    assert not [name for name in archive.read_manifest(source).files if name.endswith(".key")]
    seen = machine.read()
    kit = machine.restored(source, machine.reader)
    fresh = RegistrarKeys.load(machine.state / "keys")
    assert fresh.public != machine.kit.keys.public
    root = next_root(
        (machine.profile.root / ROOT_METADATA).read_bytes(),
        key_files=[machine.kit.city.directory / f"root-{number}.key" for number in (0, 1)],
        registrar=read_public_keys(machine.state / "registrar.pub"),
        now=machine.kit.clock(),
    )
    kit.repository.publish(Publication("root", root, {}))
    assert machine.read(kit) > seen


def test_the_keys_are_in_a_backup_only_if_asked_for_and_closed_to_others(machine: Machine) -> None:
    held = archive.read_manifest(machine.back_up()).files
    assert {"keys/snapshot.key", "keys/timestamp.key"} <= held.keys()
    machine.restored(machine.path / "backup.tar")
    assert {path.stat().st_mode & 0o777 for path in (machine.state / "keys").iterdir()} == {0o600}


def test_the_newest_set_is_put_together_from_all_who_have_a_part(machine: Machine, tmp_path: Path) -> None:
    machine.read()
    machine.kit.publish(CHANGED)
    machine.read()
    whole = newest_set(machine.kit.root_json, [reader_at(machine.reader)])
    assert whole is not None
    assert whole.files.keys() >= {path for path in machine.kit.repository.files if "root" not in path}
    torn = tmp_path / "torn"
    shutil.copytree(machine.reader, torn)
    (torn / "metadata" / "edu.json").unlink()
    with pytest.raises(FatalError, match=r"edu\.json belongs to the newest set"):
        newest_set(machine.kit.root_json, [reader_at(torn)])
    repository = repository_at(machine.state / "repository")
    assert newest_set(machine.kit.root_json, [reader_at(torn), repository]) == whole


def test_a_timestamp_that_the_registrar_never_signed_is_passed_over(machine: Machine) -> None:
    machine.read()
    right = newest_set(machine.kit.root_json, [reader_at(machine.reader)])
    path = machine.reader / "metadata" / "timestamp.json"
    forged = json.loads(path.read_text("utf-8"))
    forged["signed"]["version"] += 1000
    path.write_text(json.dumps(forged))
    sources = [reader_at(machine.reader), repository_at(machine.state / "repository")]
    assert newest_set(machine.kit.root_json, sources) == right


def test_two_timestamps_of_one_version_stop_the_restore(machine: Machine, tmp_path: Path) -> None:
    other = machine.kit.copy(tmp_path / "other")
    machine.kit.publish(CHANGED)
    other.publish(CHANGED.replace("changed", "otherwise"))
    sources = [repository_at(machine.state / "repository"), repository_at(tmp_path / "other" / "repository")]
    with pytest.raises(FatalError, match="two timestamps of version"):
        newest_set(machine.kit.root_json, sources)


def test_a_backup_is_whole_whenever_the_registrar_publishes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the timestamp that is read and the files that it leads to, the registrar replaces both."""
    monkeypatch.setattr(backup, "_PAUSE", 0.0)
    found, moved = backup.newest_set, iter([True, True, False])

    def newest(root_json: bytes, sources: object) -> object:
        if next(moved, False):
            raise FatalError(Reason.METADATA_INVALID, "gone")
        return found(root_json, sources)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(backup, "newest_set", newest)
    facts = archive.read_manifest(machine.back_up()).facts
    assert facts["snapshot"] == machine.kit.directory.version


def test_a_repository_that_was_rolled_back_is_not_opened(machine: Machine) -> None:
    older = machine.path / "older"
    shutil.copytree(machine.state / "repository", older)
    asyncio.run(Registrar(machine.kit.repository, guard_file=machine.state / guard.GUARD).resign())
    open_repository(machine.profile)
    shutil.rmtree(machine.state / "repository")
    older.rename(machine.state / "repository")
    with pytest.raises(FatalError, match=r"timestamp 4, and 5 was signed: it was rolled back"):
        open_repository(machine.profile)


@pytest.mark.parametrize("content", [None, b"{", b"\x00"])
def test_a_registrar_without_its_guard_does_not_start(machine: Machine, content: bytes | None) -> None:
    if content is None:
        (machine.state / guard.GUARD).unlink()
    else:
        (machine.state / guard.GUARD).write_bytes(content)
    with pytest.raises(FatalError, match="is missing or damaged"):
        open_repository(machine.profile)


def test_a_restore_that_does_not_reach_the_guard_is_refused(machine: Machine) -> None:
    older = machine.back_up()
    for _ in range(2):
        asyncio.run(Registrar(machine.kit.repository, guard_file=machine.state / guard.GUARD).resign())
    for name in ("repository", "keys"):
        shutil.rmtree(machine.state / name)
    (machine.state / "registrar.pub").unlink(missing_ok=True)
    with pytest.raises(FatalError, match="it was rolled back"):
        backup.restore(machine.profile, older, ())
    assert {path.name for path in machine.state.iterdir()} == {"guard", "lock"}


def test_a_guard_that_cannot_be_written_holds_no_change_back(machine: Machine) -> None:
    registrar = Registrar(machine.kit.repository, guard_file=machine.path / "nowhere" / "timestamp.json")
    before = timestamp(machine.state / "repository")
    asyncio.run(registrar.resign())
    assert timestamp(machine.state / "repository") == before + 1
