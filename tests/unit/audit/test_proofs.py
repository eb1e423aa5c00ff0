from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import audit_support as support
from audit.checkpoint import Checkpoint, open_note, sign
from audit.proofs import HeadChecker, HeadView, check_entry, check_included
from audit.service import prove_consistency
from audit.store import LogStore
from certs.identity import Kind
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import merkle
from zhiwang.wire.errors import Reason, RefusedError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    store = support.make_store(tmp_path / "log.db")
    yield store
    support.close(store)
    support.check_log(tmp_path / "log.db")


def refused(reason: Reason = Reason.PROOF_INVALID, match: str | None = None) -> AbstractContextManager[object]:
    return pytest.raises(RefusedError, match=match, check=lambda error: error.reason is reason)


def head_of(size: int, root: bytes, known: int = 0, path: tuple[bytes, ...] = ()) -> audit_pb2.LogHead:
    """A head that the log's own key signed, whatever it says."""
    signer = support.signer()
    origin = support.HUB.log_origin
    note = sign(Checkpoint(origin, size, root), origin, signer.public_key_raw, signer.sign)
    return audit_pb2.LogHead(
        checkpoint=note, certificate=signer.certificate_der, known_tree_size=known, consistency_path=path
    )


def test_a_reader_follows_a_log_that_grows(store: LogStore) -> None:
    view = HeadView(support.checker())
    for count in (1, 3, 300, 2):
        appended = support.append(store, count)
        head, logged = store.frame([appended], view.known_tree_size)
        checkpoint = view.verify_head(head)
        assert view.newest == checkpoint == Checkpoint(support.HUB.log_origin, appended.size, appended.head.root)
        for entry in logged:
            assert view.check_entry(entry, checkpoint).audit_read.method == "ListEntries"
    assert view.wanted_link is None


def test_the_same_checkpoint_costs_no_second_verification(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    view = HeadView(support.checker())
    head = store.head()
    view.verify_head(head)
    monkeypatch.setattr("audit.proofs.open_note", lambda *_: pytest.fail("verified again"))
    assert view.verify_head(head) is view.newest


def test_a_checkpoint_that_verified_is_not_believed_under_another_certificate(store: LogStore) -> None:
    view = HeadView(support.checker())
    head = store.head()
    view.verify_head(head)
    head.certificate = support.signer(support.HUB, 9).certificate_der
    with refused(match="not signed by the expected key"):
        view.verify_head(head)


def test_a_certificate_revoked_or_expired_meanwhile_is_refused_with_the_same_checkpoint(store: LogStore) -> None:
    revoked: set[int] = set()
    moment = time.time()
    checker = HeadChecker(support.verifier(revoked), kinds=(Kind.HUB,), clock=lambda: moment)
    view = HeadView(checker)
    head = store.head()
    serial = support.verifier().verify(head.certificate, moment).serial
    view.verify_head(head)
    revoked.add(serial)
    with refused(Reason.CERTIFICATE_REVOKED):
        view.verify_head(head)
    revoked.clear()
    moment += 400 * 86400
    with refused(Reason.CERTIFICATE_EXPIRED):
        view.verify_head(head)


def test_a_log_that_was_rewritten_is_refused_at_its_next_head(store: LogStore, tmp_path: Path) -> None:
    other = support.make_store(tmp_path / "other.db")
    view = HeadView(support.checker())
    support.append(store, 5)
    view.verify_head(store.head())
    seen = view.newest
    for count in (5, 7):
        support.append(other, count)
        with refused(match="does not extend"):
            view.verify_head(other.head(view.known_tree_size))
        assert view.newest == seen
    support.close(other)


def test_a_log_that_fell_back_is_refused(store: LogStore) -> None:
    view = HeadView(support.checker())
    support.append(store, 5)
    older = store.head()
    support.append(store, 5)
    view.verify_head(store.head())
    with refused():
        view.verify_head(older)
    # Also with a proof that pretends to come from what was seen.
    forged = audit_pb2.LogHead()
    forged.CopyFrom(older)
    forged.known_tree_size = view.known_tree_size
    with refused(match="does not extend"):
        view.verify_head(forged)


def test_a_new_head_without_a_proof_is_refused(store: LogStore) -> None:
    view = HeadView(support.checker())
    view.verify_head(store.head())
    support.append(store, 5)
    with refused(match="without a proof"):
        view.verify_head(store.head(0))


def test_two_roots_of_one_size_are_refused(store: LogStore) -> None:
    view = HeadView(support.checker())
    support.append(store, 3)
    view.verify_head(store.head())
    with refused(match="does not extend"):
        view.verify_head(head_of(view.newest.size, bytes(32)))


@pytest.mark.parametrize("where", ["path", "path cut", "path longer", "checkpoint", "certificate", "known"])
def test_a_head_with_anything_changed_is_refused(store: LogStore, where: str) -> None:
    view = HeadView(support.checker())
    support.append(store, 4)
    view.verify_head(store.head())
    support.append(store, 6)
    head = store.head(view.known_tree_size)
    if where == "path":
        head.consistency_path[0] = bytes(32)
    elif where == "path cut":
        del head.consistency_path[-1]
    elif where == "path longer":
        head.consistency_path.append(bytes(32))
    elif where == "checkpoint":
        head.checkpoint = head.checkpoint.replace(b"\n11\n", b"\n12\n")
    elif where == "certificate":
        head.certificate = support.signer(support.HUB, 9).certificate_der
    else:
        head.known_tree_size = 3
    with refused():
        view.verify_head(head)
    assert view.verify_head(store.head(view.known_tree_size)).size == 11


def test_a_certificate_of_another_kind_or_department_keeps_no_log_of_ours(tmp_path: Path) -> None:
    owner = support.make_store(tmp_path / "owner.db", support.ADAPTER)
    HeadView(support.checker(Kind.ADAPTER)).verify_head(owner.head())
    with refused(Reason.CERTIFICATE_INVALID):
        HeadView(support.checker(Kind.HUB)).verify_head(owner.head())
    ours = support.checker(Kind.ADAPTER, expected=lambda identity: identity.department == "police")
    with refused(match="asked for"):
        HeadView(ours).verify_head(owner.head())
    with refused(match="expected"):
        HeadView(support.checker(Kind.ADAPTER), "shenzhen/hrss/adapter/other").verify_head(owner.head())
    support.close(owner)


@pytest.mark.parametrize("where", ["entry", "index", "path", "path cut"])
def test_an_entry_with_anything_changed_is_refused(store: LogStore, where: str) -> None:
    support.append(store, 5)
    appended = support.append(store, 6)
    head, logged = store.frame([appended])
    checkpoint = support.checker().check(head)
    entry = logged[2]
    check_entry(entry, checkpoint)
    if where == "entry":
        entry.entry = entry.entry[:-1] + b"\x02"
    elif where == "index":
        entry.index += 1
    elif where == "path":
        entry.inclusion_path[1] = bytes(32)
    else:
        del entry.inclusion_path[-1]
    with refused():
        check_included(entry, checkpoint)


def test_an_entry_that_is_in_the_log_but_is_no_entry_is_refused(store: LogStore, tmp_path: Path) -> None:
    with store.transaction() as connection:
        appended = store.append(connection, [support.new_entries(store, 1)[0]._replace(data=b"nonsense")])
    head, logged = store.frame([appended])
    checkpoint = support.checker().check(head)
    check_included(logged[0], checkpoint)
    with refused(match="not a protobuf|schema"):
        check_entry(logged[0], checkpoint)
    # This file is no log that the checker would take; begin it anew.
    support.close(store)
    for file in tmp_path.glob("log.db*"):
        file.unlink()
    support.close(support.make_store(tmp_path / "log.db"))


def test_what_was_seen_is_carried_over_a_restart(store: LogStore, tmp_path: Path) -> None:
    view = HeadView(support.checker())
    support.append(store, 5)
    view.verify_head(store.head())
    restarted = HeadView(support.checker())
    restarted.restore(view.export())
    assert restarted.newest == view.newest
    support.append(store, 2)
    restarted.verify_head(store.head(restarted.known_tree_size))
    again = HeadView(support.checker())
    again.restore(view.export())
    other = support.make_store(tmp_path / "other.db")
    support.append(other, 9)
    with refused():
        again.verify_head(other.head(again.known_tree_size))
    support.close(other)


def test_a_fresh_view_remembers_nothing(store: LogStore) -> None:
    view = HeadView(support.checker())
    view.restore(HeadView(support.checker()).export())
    assert view.known_tree_size == 0
    view.verify_head(store.head())


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", b'{"origin": "o", "size": 1, "root": "AA==", "unlinked": []}'],
)
def test_a_damaged_memory_is_refused(data: bytes) -> None:
    with refused(match="damaged"):
        HeadView(support.checker()).restore(data)


def test_the_memory_of_another_log_is_refused(store: LogStore) -> None:
    view = HeadView(support.checker())
    view.verify_head(store.head())
    with refused(match="not of"):
        HeadView(support.checker(), "shenzhen/hrss/adapter/main").restore(view.export())


def test_heads_proved_from_an_older_one_wait_for_a_link(store: LogStore) -> None:
    """Two replies were outstanding; both are proved from what the reader had seen when it asked."""
    view = HeadView(support.checker())
    view.verify_head(store.head())
    support.append(store, 3)
    first = store.head(1)
    support.append(store, 4)
    second = store.head(1)
    for one, other in ((first, second), (second, first)):
        view = HeadView(support.checker())
        view.verify_head(audit_pb2.LogHead(checkpoint=head_note(store, 1), certificate=first.certificate))
        view.verify_head(one)
        view.verify_head(other)
        assert view.newest.size == 8
        assert view.wanted_link == (4, 8)
        view.link(4, 8, store.consistency(4, 8))
        assert view.wanted_link is None


def head_note(store: LogStore, size: int) -> bytes:
    signer = support.signer()
    root = merkle.Tree([merkle.leaf_hash(data) for data in store.entries(0, size)]).root
    origin = support.HUB.log_origin
    return sign(Checkpoint(origin, size, root), origin, signer.public_key_raw, signer.sign)


def test_a_fork_shown_to_two_outstanding_calls_is_found_when_they_are_linked(store: LogStore, tmp_path: Path) -> None:
    view = HeadView(support.checker())
    view.verify_head(store.head())
    support.close(store)
    fork_path = tmp_path / "fork.db"
    fork_path.write_bytes((tmp_path / "log.db").read_bytes())
    store.open()
    fork = support.reopen(fork_path)
    support.append(store, 3)
    support.append(fork, 7)
    view.verify_head(store.head(1))
    view.verify_head(fork.head(1))
    assert view.wanted_link == (4, 8)
    with refused(match="does not extend"):
        view.link(4, 8, fork.consistency(4, 8))
    # Nothing of that log is believed any more, over a restart too, and both signed heads are kept.
    restarted = HeadView(support.checker())
    restarted.restore(view.export())
    for forked in (view, restarted):
        assert forked.wanted_link is None
        assert forked.fork is not None
        assert [
            open_note(shown.checkpoint, support.HUB.log_origin, support.signer().public_key_raw).size
            for shown in (forked.fork.old, forked.fork.new)
        ] == [4, 8]
        assert forked.fork.new.certificate == support.signer().certificate_der
        for log in (store, fork):
            with refused(match="does not extend"):
                forked.verify_head(log.head(8 if log is fork else 4))
    support.close(fork)


def test_a_head_that_waits_for_its_link_is_not_forgotten_over_a_restart(store: LogStore) -> None:
    view = HeadView(support.checker())
    view.verify_head(store.head())
    for count in (3, 4):
        support.append(store, count)
        view.verify_head(store.head(1))
    restarted = HeadView(support.checker())
    restarted.restore(view.export())
    assert restarted.wanted_link == (4, 8)
    restarted.settle(4, 8, prove_consistency(store, 4, 8))
    assert restarted.unlinked == 0


def test_what_was_remembered_before_heads_were_kept_whole_is_taken_up(store: LogStore) -> None:
    support.append(store, 3)
    root = b64encode(store.newest.root).decode()
    old = {"origin": support.HUB.log_origin, "size": 4, "root": root, "unlinked": [[2, root]]}
    view = HeadView(support.checker())
    view.restore(json.dumps(old).encode())
    assert view.wanted_link == (2, 4)
    support.append(store, 3)
    assert view.verify_head(store.head(4)).size == 7


def test_the_answer_of_another_log_or_of_a_smaller_one_is_no_proof_of_a_fork(store: LogStore, tmp_path: Path) -> None:
    view = HeadView(support.checker(Kind.HUB, Kind.ADAPTER))
    view.verify_head(store.head())
    for count in (3, 4):
        support.append(store, count)
        view.verify_head(store.head(1))
    other = support.make_store(tmp_path / "other.db", support.ADAPTER)
    support.append(other, 9)
    smaller = prove_consistency(store, 4, 8)
    smaller.head.CopyFrom(head_of(7, bytes(32)))
    for answer in (prove_consistency(other, 4, 8), smaller):
        with refused(match="answers of"):
            view.settle(4, 8, answer)
        assert view.fork is None
    view.settle(4, 8, prove_consistency(store, 4, 8))
    assert view.unlinked == 0
    support.close(other)


def test_a_head_proved_from_something_older_than_was_said_is_refused(store: LogStore) -> None:
    """On one stream each head is proved from the one before: else a fork could go on beside what is seen."""
    view = HeadView(support.checker())
    view.verify_head(store.head())
    support.append(store, 3)
    view.verify_head(store.head(1))
    support.append(store, 3)
    with refused(match="proved from 1 where 4"):
        view.verify_head(store.head(1), view.known_tree_size)
    assert view.verify_head(store.head(4), view.known_tree_size).size == 7
    assert view.unlinked == 0


def test_a_view_remembers_a_bounded_number_of_heads(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.proofs.REMEMBERED", 8)
    monkeypatch.setattr("audit.proofs.UNLINKED", 4)
    view = HeadView(support.checker())
    view.verify_head(store.head())
    for _ in range(6):
        support.append(store, 1)
        view.verify_head(store.head(1))
    assert len(view._unlinked) == 4
    assert view.given_up == 1
    for _ in range(20):
        support.append(store, 1)
        view.verify_head(store.head(view.known_tree_size))
    assert len(view._seen) == 8
    assert view.newest.size in view._seen
