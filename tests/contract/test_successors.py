"""The successor of a lost log is made whole or not at all, and within its own state."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import adapters.installation
import exchange.app
from adapters import backup as adapter_backup
from certs_support import City
from exchange import backup as hub_backup
from policy.directory import SEEN
from zhiwang.wire import archive
from zhiwang.wire.errors import FatalError
from zhiwang.wire.process import locked_state
from zhiwang.wire.profile import Profile, load_profile

GUESSES = [(1, 2, 1_800_000_000), (3, 4, 1_800_000_100)]
OPENINGS = b'[["health", "outbreak", "edu", "a", 1800000000, 1800003600]]\n'
OWNER_LOG = b'{"origin": "shenzhen/hrss/adapter/main", "size": 7}'


class Machine:
    """The profiles of two processes of one kind, the second of which succeeds the first."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        (path / "city").mkdir()
        city = City.create(path / "city")
        first, self.profile = (self._profile(city, f"hrss/{kind}/{name}") for name in ("main", "second"))
        self.first = first
        self.backup = path / "backup.tar"

    def _profile(self, city: City, short: str) -> Profile:
        city.enrol(short)
        name = short.rpartition("/")[2]
        file = self.path / f"{name}.toml"
        file.write_text(
            f'root = "{city.root}"\nidentity = "{city.path(short)}"\nstate = "{self.path / name}"\n'
            '[adapter]\nmapping = "mapping.toml"\ndocument = "document.toml"\n'
        )
        return load_profile(file)

    @property
    def state(self) -> set[str]:
        """What stands in the successor's state."""
        return {path.name for path in self.profile.state.iterdir()} - {"lock"}


@pytest.fixture
def adapter(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path, "adapter")
    adapters.installation.init(machine.first)
    with closing(sqlite3.connect(machine.first.state / "adapter.db")) as store, store:
        store.executemany("INSERT INTO guess (scope, value, at) VALUES (?, ?, ?)", GUESSES)
    (machine.first.state / "directory" / SEEN).write_bytes(OPENINGS)
    adapter_backup.back_up(machine.first, machine.backup)
    return machine


@pytest.fixture
def hub(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path, "hub")
    exchange.app.init(machine.first)
    (machine.first.state / "owner_logs" / "hrss_main.json").write_bytes(OWNER_LOG)
    (machine.first.state / "directory" / SEEN).write_bytes(OPENINGS)
    hub_backup.back_up_hub(machine.first, machine.backup)
    return machine


def guesses(profile: Profile) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(profile.state / "adapter.db")) as store:
        return store.execute("SELECT scope, value, at FROM guess ORDER BY scope").fetchall()


def test_a_successor_that_was_interrupted_has_no_store_without_its_guesses(
    adapter: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(adapter_backup, "_TAKE", "INSERT INTO nowhere VALUES (?, ?, ?)")
        with pytest.raises(FatalError):
            adapter_backup.succeed(adapter.profile, adapter.backup)
    assert adapter.state == set()
    adapter_backup.succeed(adapter.profile, adapter.backup)
    assert guesses(adapter.profile) == GUESSES
    assert (adapter.profile.state / "keys" / "ledger.key").read_bytes() == (
        adapter.first.state / "keys" / "ledger.key"
    ).read_bytes()
    assert (adapter.profile.state / "directory" / SEEN).read_bytes() == OPENINGS, "no emergency is opened again by it"
    assert adapter.state == {"adapter.db", "directory", "guard", "keys", "owner_keys"}
    assert (adapter.profile.state / "guard" / "checkpoint").read_text().startswith("shenzhen/hrss/adapter/second\n1\n")


def test_a_hubs_successor_that_was_interrupted_has_no_log_without_what_was_seen_of_owners(
    hub: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(archive, "copy_tree", fail)
        with pytest.raises(OSError, match="No space"):
            hub_backup.succeed_hub(hub.profile, hub.backup)
    assert hub.state == set()
    hub_backup.succeed_hub(hub.profile, hub.backup)
    assert (hub.profile.state / "owner_logs" / "hrss_main.json").read_bytes() == OWNER_LOG
    assert (hub.profile.state / "directory" / SEEN).read_bytes() == OPENINGS, "no emergency is opened again by it"
    assert hub.state == {"log.db", "directory", "guard", "owner_logs", "published"}
    assert (hub.profile.state / "guard" / "checkpoint").read_text().startswith("shenzhen/hrss/hub/second\n1\n")


@pytest.mark.parametrize("kind", ["adapter", "hub"])
def test_nothing_is_written_beside_a_state_whose_parent_belongs_to_root(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine: Machine = request.getfixturevalue(kind)
    unpack, into = archive.unpack, []

    def unpacked(source: Path, target: Path) -> archive.Manifest:
        into.append(target)
        return unpack(source, target)

    monkeypatch.setattr(archive, "unpack", unpacked)
    (adapter_backup.succeed if kind == "adapter" else hub_backup.succeed_hub)(machine.profile, machine.backup)
    assert [machine.profile.state in path.parents for path in into] == [True]


@pytest.mark.parametrize("kind", ["adapter", "hub"])
def test_a_successor_is_made_in_an_empty_state_that_nobody_uses(kind: str, request: pytest.FixtureRequest) -> None:
    machine: Machine = request.getfixturevalue(kind)
    succeed = adapter_backup.succeed if kind == "adapter" else hub_backup.succeed_hub
    state = machine.profile.state
    state.mkdir()
    with locked_state(state), pytest.raises(FatalError, match="another process uses the state"):
        succeed(machine.profile, machine.backup)
    (state / "guard").mkdir()
    (state / "guard" / "checkpoint").write_text("shenzhen/hrss/hub/lost\n")
    with pytest.raises(FatalError, match="remembers a log"):
        succeed(machine.profile, machine.backup)
    (state / "guard" / "checkpoint").unlink()
    (state / "answers.json").touch()
    with pytest.raises(FatalError, match="is not empty"):
        succeed(machine.profile, machine.backup)
    assert machine.state == {"guard", "answers.json"}
