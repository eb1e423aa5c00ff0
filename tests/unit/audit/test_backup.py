"""A copy of a log is believed only as far as nobody has seen more of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import audit_support as support
from audit import backup
from audit.checkpoint import Checkpoint, sign_note, split_note
from audit.proofs import HeadView
from audit.sqlite import open_sqlite
from audit.store import LogStore
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import FatalError
from zhiwang.wire.identity import Identity, Kind

ORIGIN = support.HUB.log_origin
SECOND = Identity(support.CITY, "centre", Kind.HUB, "second")


def checked(path: Path, *seen: backup.Seen) -> int:
    return backup.check_copy(path, support.signer(), support.verifier(), seen).size


def remembered(store: LogStore, path: Path) -> Path:
    """What an auditor keeps."""
    view = HeadView(support.checker(), ORIGIN)
    view.verify_head(store.head())
    path.write_bytes(view.export())
    return path


def test_a_copy_is_taken_while_its_log_is_appended_to_and_holds(tmp_path: Path) -> None:
    store = support.make_store(tmp_path / "log.db")
    support.append(store, 300)
    with store.transaction() as connection:
        appended = store.append(connection, support.new_entries(store, 5))
        backup.copy_store(tmp_path / "log.db", tmp_path / "copy.db")
    store.committed(appended)
    support.append(store, 3)
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert checked(tmp_path / "copy.db") == 301
    backup.copy_store(tmp_path / "log.db", tmp_path / "newer.db")
    assert checked(tmp_path / "newer.db") == store.newest.size == 309
    support.close(store)


def test_a_copy_that_reaches_what_was_seen_is_good_and_an_older_one_is_not(tmp_path: Path) -> None:
    store = support.make_store(tmp_path / "log.db", guard=tmp_path / "guard")
    support.append(store, 9)
    backup.copy_store(tmp_path / "log.db", tmp_path / "older.db")
    support.append(store, 1)
    memory = remembered(store, tmp_path / "memory.json")
    backup.copy_store(tmp_path / "log.db", tmp_path / "newest.db")
    support.close(store)

    by_guard = backup.what_was_seen(tmp_path / "guard", (), ORIGIN)
    by_auditor = backup.what_was_seen(tmp_path / "nothing", [memory], ORIGIN)
    for seen in (by_guard, by_auditor):
        assert checked(tmp_path / "newest.db", *seen) == 11
        with pytest.raises(
            FatalError, match=r"this copy has 10 entries, but .* has seen 11: it must not be signed over"
        ):
            checked(tmp_path / "older.db", *seen)


def test_a_copy_of_another_history_is_refused(tmp_path: Path) -> None:
    store = support.make_store(tmp_path / "log.db")
    support.append(store, 9)
    backup.copy_store(tmp_path / "log.db", tmp_path / "copy.db")
    support.close(store)
    with pytest.raises(FatalError, match="another history"):
        checked(tmp_path / "copy.db", backup.Seen("an auditor", Checkpoint(ORIGIN, 4, bytes(32))))


def test_a_copy_in_which_an_old_entry_was_changed_is_refused(tmp_path: Path) -> None:
    """`open` reads only the end of a log; a restore reads all of it."""
    store = support.make_store(tmp_path / "log.db")
    support.append(store, 700)
    support.close(store)
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE log_entry SET data = zeroblob(9) WHERE idx = 3")
        for _, statement in triggers:
            connection.execute(statement)
    with pytest.raises(FatalError, match="entry 3"):
        checked(tmp_path / "log.db")


@pytest.mark.parametrize(
    "content",
    [
        lambda origin: {"origin": origin, "size": 7, "root": "A" * 43 + "=", "unlinked": []},
        lambda origin: {"hubs": {}, "logs": [{"origin": "x/y/hub/z", "size": 9, "root": "A" * 43 + "="},
                                             {"origin": origin, "size": 7, "root": "A" * 43 + "="}]},
    ],
    ids=["an auditor's memory", "an agent's heads"],
)  # fmt: skip
def test_what_others_remember_is_read_as_they_write_it(tmp_path: Path, content: object) -> None:
    file = tmp_path / "heads.json"
    file.write_text(json.dumps(content(ORIGIN)))  # type: ignore[operator]  # a function of the parameter
    (seen,) = backup.what_was_seen(tmp_path / "nothing", [file], ORIGIN)
    assert (seen.who, seen.checkpoint) == ("heads.json", Checkpoint(ORIGIN, 7, bytes(32)))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"origin": "x"}', "shenzhen\n1\nAA==\n", '{"logs": []}'])
def test_a_file_that_says_nothing_of_the_log_is_not_taken_for_silence(tmp_path: Path, text: str) -> None:
    (tmp_path / "seen").write_text(text)
    with pytest.raises(FatalError, match=r"neither a checkpoint|says nothing"):
        backup.what_was_seen(tmp_path / "nothing", [tmp_path / "seen"], ORIGIN)


def test_where_nobody_says_what_was_seen_nothing_is_restored_unless_an_operator_says_so(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="nothing tells whether this copy is the newest"):
        backup.what_was_seen(tmp_path / "guard", (), ORIGIN)
    (tmp_path / "guard").touch()  # as docs/audit.md says: on purpose
    assert backup.what_was_seen(tmp_path / "guard", (), ORIGIN) == []


def test_where_the_guard_is_lost_a_copy_of_which_nobody_has_seen_all_waits_for_a_person(tmp_path: Path) -> None:
    store = support.make_store(tmp_path / "log.db")
    support.append(store, 4)
    behind = remembered(store, tmp_path / "behind.json")
    support.append(store, 1)
    level = remembered(store, tmp_path / "level.json")
    head, guard = store.newest, tmp_path / "guard"
    support.close(store)

    def newest(*files: Path, **options: bool) -> backup.Restored:
        seen = backup.what_was_seen(guard, files, ORIGIN)
        return backup.check_newest(head, seen, guard, support.signer(), **options)

    with pytest.raises(FatalError, match=r"newest seen 5 of 6 entries: .* --yes"):
        newest(behind)
    assert newest(behind, accept_fewer=True) == backup.Restored(6, 5)
    assert newest(behind, level) == backup.Restored(6, 6)
    guard.touch()  # an operator has decided
    assert newest(behind) == backup.Restored(6, 5)


def test_a_checkpoint_that_this_log_did_not_sign_permits_nothing_and_forbids_still(tmp_path: Path) -> None:
    store = support.make_store(tmp_path / "log.db")
    support.append(store, 5)
    head, guard, file = store.newest, tmp_path / "guard", tmp_path / "checkpoint"
    text = split_note(head.checkpoint)[0]
    support.close(store)

    def newest(note: bytes) -> backup.Restored:
        file.write_bytes(note)
        seen = backup.what_was_seen(guard, [file], ORIGIN)
        backup.check_copy(tmp_path / "log.db", support.signer(), support.verifier(), seen)
        return backup.check_newest(head, seen, guard, support.signer())

    def signed_by_another(text: str) -> bytes:
        other = support.signer(SECOND)
        return sign_note(text, ORIGIN, other.public_key_raw, other.sign)

    assert newest(head.checkpoint) == backup.Restored(6, 6)
    with pytest.raises(FatalError, match=r"newest seen 0 of 6 entries"):
        newest(signed_by_another(text))
    with pytest.raises(FatalError, match=r"this copy has 6 entries, but checkpoint has seen 7"):
        newest(signed_by_another(text.replace("\n6\n", "\n7\n")))


def test_a_guard_that_is_there_is_never_replaced_by_that_of_a_copy(tmp_path: Path) -> None:
    store = support.make_store(tmp_path / "log.db")
    backup.restore_guard(tmp_path / "new" / "checkpoint", store.newest)
    assert (tmp_path / "new" / "checkpoint").read_bytes() == store.newest.checkpoint
    (tmp_path / "kept").write_text("older")
    backup.restore_guard(tmp_path / "kept", store.newest)
    assert (tmp_path / "kept").read_text() == "older"
    support.close(store)


def test_a_successor_names_in_its_first_entry_the_copy_that_it_goes_on_from(tmp_path: Path) -> None:
    lost = support.make_store(tmp_path / "lost.db")
    support.append(lost, 5)
    support.close(lost)
    with backup.predecessor(tmp_path / "lost.db", ORIGIN, support.signer(SECOND), support.verifier()) as (head, _):
        assert head.size == 6
        store = LogStore(open_sqlite(tmp_path / "new.db", create=True), SECOND.log_origin, support.signer(SECOND))
        store.create(predecessor=head.checkpoint)
    opened = audit_pb2.Entry.FromString(store.entries(0, 1)[0]).log_opened
    assert opened.predecessor == head.checkpoint
    assert opened.predecessor.decode().startswith(f"{ORIGIN}\n6\n")
    store.verify_all()
    support.close(store)


@pytest.mark.parametrize(
    ("successor", "why"),
    [
        (support.HUB, "never begins anew under its own name"),
        (support.ADAPTER, "not of one kind and place"),
        (Identity(support.CITY, "hrss", Kind.HUB, "main"), "not of one kind and place"),
    ],
)
def test_a_log_is_succeeded_under_another_name_of_its_kind_and_place_only(
    tmp_path: Path, successor: Identity, why: str
) -> None:
    support.close(support.make_store(tmp_path / "lost.db"))
    with (
        pytest.raises(FatalError, match=why),
        backup.predecessor(tmp_path / "lost.db", ORIGIN, support.signer(successor), support.verifier()),
    ):
        pytest.fail("it went on")
