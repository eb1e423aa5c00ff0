"""Whatever lies where local files wait, and whatever the clock and the log do: what was stopped stays stopped, what
stands is told to the owner's log once it takes it, and nothing in a file says who signed but a signature.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Signature, Targets

from local_support import INSURED, LIFTED, OTHER, PENSION, STOP, Adapter, Clock, publication, signed
from policy.incoming import INCOMING, put, read_waiting
from policy.metadata import Publication, TufSigner, parse_metadata
from policy.signed_file import MAX_SIZE, publication_bytes
from policy_support import HRSS, DirectoryKit, make_directory
from zhiwang.wire.errors import Reason, RefusedError

STOPPED = (PENSION, INSURED)
PERSON = "440399199001010018"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return make_directory(tmp_path_factory.mktemp("city"))


@pytest.fixture
def kit(city: DirectoryKit, tmp_path: Path) -> DirectoryKit:
    return city.copy(tmp_path / "registrar")


@pytest.fixture
def adapter(kit: DirectoryKit, tmp_path: Path) -> Adapter:
    return Adapter(kit, tmp_path / "state", Clock())


def key_id(kit: DirectoryKit, number: int) -> str:
    return str(TufSigner(kit.admins["hrss"][number]).public_key.keyid)


def altered(signed_one: Publication, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file with other metadata, whose signatures need not hold any more."""
    content = json.loads(signed_one.metadata)
    change(content)
    return publication_bytes(Publication(signed_one.role, json.dumps(content).encode(), signed_one.files))


def test_only_who_signed_is_told_to_have_signed(kit: DirectoryKit, adapter: Adapter) -> None:
    one = publication(kit, STOP)
    metadata = parse_metadata(one.metadata, Targets)
    for named in (key_id(kit, 1), PERSON, *(f"{number:064x}" for number in range(1100))):
        metadata.signatures[named] = Signature(named, "00")
    (change,) = adapter.load(publication_bytes(Publication(one.role, metadata.to_bytes(), one.files)))
    assert change.key_ids == (key_id(kit, 0),)
    assert adapter.denied() == STOPPED


def test_both_admins_who_signed_a_document_are_told(kit: DirectoryKit, adapter: Adapter) -> None:
    (change,) = adapter.load(signed(kit, LIFTED, kit.admins["hrss"]))
    assert change.key_ids == tuple(sorted((key_id(kit, 0), key_id(kit, 1))))


def _directory(path: Path, _outside: Path) -> None:
    path.mkdir()


def _pipe(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


@pytest.mark.parametrize("leave", [_directory, _pipe, _link])
def test_what_is_no_file_is_left_alone_and_keeps_nothing_else_from_being_taken_in(
    kit: DirectoryKit, adapter: Adapter, tmp_path: Path, leave: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside.json"
    outside.write_bytes(signed(kit, OTHER))
    leave(adapter.state / "local" / INCOMING / "00.json", outside)
    for _ in range(2):
        adapter.load(signed(kit, STOP))
        assert adapter.denied() == STOPPED
        assert [entry.id for entry in adapter.holder.current.suspensions] == ["stop-1"]
        assert adapter.waiting == ["00.json"]
        adapter.start()


def test_metadata_that_names_a_key_which_it_lacks_changes_nothing(kit: DirectoryKit, adapter: Adapter) -> None:
    broken = altered(publication(kit, HRSS + "\n# anew\n", kit.admins["hrss"]), _without_keys)
    assert adapter.load(broken) == []
    assert adapter.waiting == []


def _without_keys(content: dict[str, Any]) -> None:
    content["signed"]["delegations"]["keys"] = {}
    content["signatures"] = []


def test_the_registrar_refuses_metadata_that_names_a_key_which_it_lacks(kit: DirectoryKit) -> None:
    (drafted,) = kit.drafts(HRSS + "\n# anew\n")
    delegations = drafted.metadata.signed.delegations
    assert delegations is not None
    delegations.keys.clear()
    drafted.metadata.sign(TufSigner(kit.admins["hrss"][0]))
    with pytest.raises(RefusedError) as refused:
        kit.repository.examine(Publication("hrss", drafted.metadata.to_bytes(), drafted.files))
    assert refused.value.reason is Reason.METADATA_INVALID


@pytest.mark.parametrize("version", [2**53, 2**64, 10**240])
def test_a_version_that_no_entry_or_file_name_holds_changes_nothing(
    kit: DirectoryKit, adapter: Adapter, version: int
) -> None:
    (drafted,) = kit.drafts(STOP)
    drafted.metadata.signed.version = version
    drafted.metadata.sign(TufSigner(kit.admins["hrss"][0]))
    content = publication_bytes(Publication(drafted.role, drafted.metadata.to_bytes(), drafted.files))
    assert adapter.load(content) == []
    assert adapter.waiting == []
    assert adapter.denied() == ()


def test_no_more_is_read_than_a_signed_file_can_have(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(MAX_SIZE * 50)
    assert len(read_waiting(path)) == MAX_SIZE + 1


def test_a_file_that_is_far_too_large_changes_nothing(adapter: Adapter) -> None:
    with (adapter.state / "local" / INCOMING / "00.json").open("wb") as file:
        file.truncate(MAX_SIZE * 50)
    assert adapter.look() == []
    assert adapter.waiting == []


def test_what_is_put_there_can_be_read_by_the_adapters_account_whatever_the_umask(
    kit: DirectoryKit, adapter: Adapter
) -> None:
    before = os.umask(0o077)
    try:
        path = put(adapter.state / "local", signed(kit, STOP))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("days", [2, 40])
def test_a_clock_that_was_fast_for_a_moment_ends_nothing(kit: DirectoryKit, adapter: Adapter, days: int) -> None:
    end = datetime.fromtimestamp(adapter.clock() + days * 86_400, UTC).date()
    adapter.load(signed(kit, f"{STOP}not_after = {end}\n"))
    for ahead in (days * 86_400, 400 * 86_400):
        adapter.clock.ahead = ahead
        assert adapter.look() == []
        adapter.clock.ahead = 0
        adapter.holder.again()
        assert adapter.denied() == STOPPED
        adapter.start()
        assert adapter.denied() == STOPPED


def test_a_clock_that_is_fast_by_less_than_a_directorys_life_ends_nothing(kit: DirectoryKit, adapter: Adapter) -> None:
    """The directory still counts as fresh then."""
    date = datetime.fromtimestamp(adapter.clock() + 2 * 86_400, UTC).date()
    (change,) = adapter.load(signed(kit, f"{STOP}not_after = {date}\n"))
    end = change.local.suspensions[0].not_after
    assert end is not None
    adapter.wind(end - adapter.clock() - 3600)
    assert adapter.denied() == STOPPED
    adapter.clock.ahead += 20 * 3600
    assert adapter.look() == []
    adapter.clock.ahead -= 20 * 3600
    adapter.holder.again()
    assert adapter.denied() == STOPPED


def test_what_came_into_force_is_told_again_until_the_log_has_it(kit: DirectoryKit, adapter: Adapter) -> None:
    adapter.log_works = False
    assert len(adapter.load(signed(kit, STOP))) == 1
    assert adapter.look() == [], "once in a process"
    adapter.start()
    adapter.log_works = True
    (change,) = adapter.look()
    assert (change.in_force, change.local.suspensions[0].id) == (True, "stop-1")
    assert change.key_ids == (key_id(kit, 0),)
    adapter.start()
    assert adapter.look() == []


def test_what_ended_is_told_again_until_the_log_has_it(kit: DirectoryKit, adapter: Adapter) -> None:
    adapter.load(signed(kit, STOP))
    adapter.log_works = False
    changes = adapter.load(signed(kit, LIFTED, kit.admins["hrss"]))
    assert [change.in_force for change in changes] == [True, False]
    assert adapter.denied() == ()
    adapter.start()
    assert adapter.denied() == ()
    adapter.log_works = True
    assert [(change.local.role, change.in_force) for change in adapter.look()] == [
        ("hrss", True),
        ("hrss-suspend", False),
    ]
    assert [name.partition("-")[0] for name in adapter.files] == ["hrss"]
    assert not list((adapter.state / "local").glob("hrss-suspend-*")), "nor its mark"
    adapter.start()
    assert adapter.look() == []


def test_what_stands_anew_is_not_removed_by_its_former_end(kit: DirectoryKit, adapter: Adapter) -> None:
    end = datetime.fromtimestamp(adapter.clock() + 2 * 86_400, UTC).date()
    content = signed(kit, f"{STOP}not_after = {end}\n")
    adapter.load(content)
    (name,) = adapter.files
    adapter.wind(4 * 86_400)
    adapter.log_works = False
    assert [change.in_force for change in adapter.look()] == [False]
    adapter.clock.ahead = 0
    assert [change.in_force for change in adapter.load(content)] == [True]
    adapter.local.recorded(name, in_force=False)
    assert adapter.files == [name]
    adapter.start()
    assert adapter.denied() == STOPPED


def test_an_id_that_was_lifted_once_is_refused_with_what_to_do(
    kit: DirectoryKit, adapter: Adapter, capsys: pytest.CaptureFixture[str]
) -> None:
    kit.publish(LIFTED, signers=kit.admins["hrss"])
    adapter.follow()
    assert adapter.load(signed(kit, STOP)) == []
    assert adapter.files == []
    assert "a suspension called stop-1 was lifted once; take another id" in capsys.readouterr().out
    assert len(adapter.load(signed(kit, STOP.replace("stop-1", "stop-9")))) == 1
    assert adapter.denied() == STOPPED


def test_what_was_lifted_is_carried_on_beside_what_is_stopped_now(kit: DirectoryKit, adapter: Adapter) -> None:
    kit.publish(LIFTED, signers=kit.admins["hrss"])
    adapter.follow()
    both = f"{STOP}[[suspend]]{OTHER.partition('[[suspend]]')[2]}"
    assert len(adapter.load(signed(kit, both))) == 1
    assert adapter.denied() == (INSURED,)


def test_nobodys_number_is_an_id(kit: DirectoryKit, adapter: Adapter, capsys: pytest.CaptureFixture[str]) -> None:
    assert adapter.load(signed(kit, STOP.replace("stop-1", PERSON))) == []
    assert adapter.files == []
    told = capsys.readouterr().out
    assert "an id must not contain an identifier" in told
    assert PERSON not in told


def test_what_began_and_ended_while_the_log_was_down_is_told_whole(kit: DirectoryKit, adapter: Adapter) -> None:
    adapter.log_works = False
    adapter.load(signed(kit, STOP))
    adapter.load(signed(kit, LIFTED, kit.admins["hrss"]))
    adapter.start()
    adapter.log_works = True
    told = [(change.local.role, change.in_force) for change in adapter.look()]
    assert told == [("hrss-suspend", True), ("hrss", True), ("hrss-suspend", False)]
    adapter.start()
    assert adapter.look() == []
    assert sorted(path.suffix for path in (adapter.state / "local").iterdir()) == ["", ".json", ".recorded"]


def test_a_damaged_file_of_what_ended_does_not_keep_the_adapter_from_starting(
    kit: DirectoryKit, adapter: Adapter
) -> None:
    adapter.log_works = False
    adapter.load(signed(kit, STOP))
    adapter.load(signed(kit, LIFTED, kit.admins["hrss"]))
    (ended,) = (adapter.state / "local").glob("*.ended")
    ended.write_bytes(b"{}")
    adapter.start()
    assert [change.local.role for change in adapter.look()] == ["hrss"]
