from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import audit_support as support
from audit.checkpoint import Checkpoint, sign, split_note, split_signatures
from audit.cosignature import WitnessPolicy, add_cosignatures, verify_cosignature
from audit.mirror import verify_by_root
from audit.store import LogStore
from audit.submission import SIZE_TYPE, Submission, parse_size
from audit.witness import CLOCK_TOLERANCE, MAX_EVIDENCE, Answer
from audit.witness_store import MAX_LOGS, Cosigned, WitnessStore
from certs.identity import Identity, Kind
from witness_support import ORIGIN, Kit, private_key, submission, witness_key
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError
from zhiwang.wire.vkey import VerifierKey, key_id

OTHER_HUB = Identity(support.CITY, "centre", Kind.HUB, "other")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogStore]:
    store = support.make_store(tmp_path / "log.db")
    support.append(store, 9)
    yield store
    support.close(store)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    kit = Kit(tmp_path / "witness")
    yield kit
    kit.close()


def cosigned_at(answer: Answer, note: bytes, number: int = 1) -> int:
    assert answer.status == 200, answer
    ((name, identifier, signature),) = split_signatures(answer.body.decode())
    assert (name, identifier) == (witness_key(number).name, witness_key(number).id)
    return verify_cosignature(split_note(note)[0], witness_key(number), signature)


def forked(store: LogStore, path: Path) -> LogStore:
    """A copy of a log as it is now, which goes its own way."""
    raw = store.engine.raw_connection()
    with closing(sqlite3.connect(path)) as copy:
        raw.driver_connection.backup(copy)  # type: ignore[union-attr]  # sqlite3's own connection
    raw.close()
    path.chmod(0o600)
    return support.reopen(path)


def test_checkpoints_of_a_log_that_grows_are_cosigned(log: LogStore, kit: Kit) -> None:
    head = log.newest
    before = int(time.time())
    assert before <= cosigned_at(kit.add(log, head, 0), head.checkpoint) <= time.time()
    note = add_cosignatures(head.checkpoint, split_signatures(kit.add(log, head, head.size).body.decode()))
    assert WitnessPolicy.of_keys([str(witness_key(1))]).satisfied_by(note)
    newer = support.append(log, 300).head
    cosigned_at(kit.add(log, newer, head.size), newer.checkpoint)
    assert kit.store.logs()[ORIGIN].size == newer.size
    assert kit.evidence == []


def test_the_witness_says_what_it_has_cosigned_last(log: LogStore, kit: Kit) -> None:
    older = log.newest
    newer = support.append(log, 5).head
    cosigned_at(kit.add(log, newer, 0), newer.checkpoint)
    for old, head in ((0, newer), (older.size, newer), (0, older), (older.size, older)):
        answer = kit.add(log, head, old)
        assert (answer.status, answer.content_type, parse_size(answer.body)) == (409, SIZE_TYPE, newer.size)
    assert kit.add(log, support.append(log, 1).head, newer.size).status == 200


def test_the_old_size_may_not_be_larger_than_the_new(log: LogStore, kit: Kit) -> None:
    head = log.newest
    assert kit.add(log, head, 0).status == 200
    body = Submission(head.size + 1, (), head.checkpoint).encode()
    assert kit.witness.add_checkpoint(body, head.certificate).status == 400


def test_a_log_that_was_rolled_back_or_rewritten_is_never_cosigned(log: LogStore, kit: Kit, tmp_path: Path) -> None:
    other = forked(log, tmp_path / "fork.db")
    honest = support.append(log, 5).head
    assert kit.add(log, honest, 0).status == 200
    # Smaller: whatever it claims, the witness is ahead.
    support.append(other, 3)
    assert kit.add(other, other.newest, 0).status == 409
    # Of the same size: two trees of one size, which convict the log.
    same = support.append(other, 2).head
    answer = kit.add(other, same, same.size)
    assert (answer.status, answer.content_type != SIZE_TYPE) == (409, True)
    (evidence,) = kit.evidence
    assert honest.checkpoint.decode() in evidence
    assert same.checkpoint.decode() in evidence
    # Larger, with the best proof that it has: of its own history.
    larger = support.append(other, 10).head
    assert kit.add(other, larger, honest.size).status == 422
    assert kit.store.logs()[ORIGIN].size == honest.size
    assert kit.add(log, support.append(log, 1).head, honest.size).status == 200
    support.close(other)


def test_evidence_verifies_by_itself_when_the_log_has_renewed_its_certificate(
    log: LogStore, kit: Kit, tmp_path: Path
) -> None:
    other = forked(log, tmp_path / "fork.db")
    honest = support.append(log, 5).head
    assert kit.add(log, honest, 0).status == 200
    # The witness starts again, and the other history is signed by a renewed key.
    kit.close()
    kit.__post_init__()
    other.signer = support.signer(number=1)
    same = support.append(other, 5).head
    assert same.certificate != honest.certificate
    assert kit.add(other, same, honest.size).status == 409
    support.close(other)
    (evidence,) = kit.evidence
    pinned = tmp_path / "root"
    pinned.mkdir()
    (pinned / "ca.pem").write_bytes(support.authority().certificate_pem)
    certificates = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", evidence, re.DOTALL)
    said = [
        verify_by_root(head.checkpoint, pem.encode(), pinned)
        for head, pem in zip((honest, same), certificates, strict=True)
        if head.checkpoint.decode() in evidence
    ]
    assert [(one.origin, one.size) for one in said] == [(ORIGIN, honest.size)] * 2
    assert said[0].root != said[1].root


def test_a_store_of_an_older_release_goes_on_and_keeps_who_signed_from_then_on(log: LogStore, tmp_path: Path) -> None:
    kit = Kit(tmp_path / "old")
    assert kit.add(log, log.newest, 0).status == 200
    size = log.newest.size
    kit.close()
    with closing(sqlite3.connect(kit.path / "witness.db")) as connection:
        connection.execute("ALTER TABLE witness_log DROP COLUMN signed_by")
        connection.commit()
    kit.__post_init__()
    assert kit.store.logs()[ORIGIN].signed_by == ""
    assert kit.add(log, support.append(log, 3).head, size).status == 200
    assert "BEGIN CERTIFICATE" in kit.store.logs()[ORIGIN].signed_by
    kit.close()


def test_a_proof_must_be_exactly_the_one_that_is_needed(log: LogStore, kit: Kit) -> None:
    head = log.newest
    extra = Submission(0, (bytes(32),), head.checkpoint).encode()
    assert kit.witness.add_checkpoint(extra, head.certificate).status == 422
    assert kit.add(log, head, 0).status == 200
    same = Submission(head.size, (bytes(32),), head.checkpoint).encode()
    assert kit.witness.add_checkpoint(same, head.certificate).status == 422
    newer = support.append(log, 7).head
    proof = log.consistency(head.size, newer.size)
    for wrong in ([], proof[:-1], [*proof, bytes(32)], [bytes(32), *proof[1:]]):
        body = Submission(head.size, wrong, newer.checkpoint).encode()
        assert kit.witness.add_checkpoint(body, newer.certificate).status == 422
    # A true checkpoint with a false proof convicts nobody: anybody could send it.
    assert kit.evidence == []
    assert kit.store.logs()[ORIGIN].size == head.size


def test_nobody_can_fill_the_log_of_operation(log: LogStore, kit: Kit) -> None:
    kit.now = time.time()
    assert kit.add(log, log.newest, 0).status == 200
    newer = support.append(log, 7).head
    false = Submission(10, (bytes(32),), newer.checkpoint).encode()
    with capture_logs() as logs:
        for _ in range(50):
            assert kit.witness.add_checkpoint(false, newer.certificate).status == 422
            assert kit.witness.add_checkpoint(false, b"rubbish").status == 403
        assert len(logs) == 2
        kit.now += 61
        assert kit.witness.add_checkpoint(false, newer.certificate).status == 422
        assert len(logs) == 3


def test_an_empty_log_has_one_root(kit: Kit) -> None:
    signer = support.signer()
    for root, status in ((bytes(32), 422), (merkle.EMPTY_ROOT, 200), (bytes(32), 409), (merkle.EMPTY_ROOT, 200)):
        note = sign(Checkpoint(ORIGIN, 0, root), ORIGIN, signer.public_key_raw, signer.sign)
        assert kit.witness.add_checkpoint(Submission(0, (), note).encode(), signer.certificate_der).status == status


def test_what_is_malformed_is_refused(log: LogStore, kit: Kit) -> None:
    head = log.newest
    good = submission(log, head, 0)
    for body in (b"", b"hello", good[:-1], good.replace(b"old 0", b"old x"), good.replace(b"\n10\n", b"\n010\n")):
        assert kit.witness.add_checkpoint(body, head.certificate).status == 400
    assert kit.store.logs() == {}


def test_a_log_that_is_not_followed_is_unknown(log: LogStore, tmp_path: Path) -> None:
    kit = Kit(tmp_path / "strict", certified=(OTHER_HUB.log_origin,))
    assert kit.add(log, log.newest, 0).status == 404
    kit.close()


def test_only_the_logs_own_certificate_counts(log: LogStore, kit: Kit) -> None:
    head = log.newest
    body = submission(log, head, 0)
    assert kit.witness.add_checkpoint(body).status == 403
    assert kit.witness.add_checkpoint(body, b"rubbish").status == 403
    for identity in (OTHER_HUB, support.ADAPTER, Identity(support.CITY, "centre", Kind.ADMIN, "main")):
        signer = support.signer(identity)
        note = sign(Checkpoint(ORIGIN, 1, bytes(32)), ORIGIN, signer.public_key_raw, signer.sign)
        forged = Submission(0, (), note).encode()
        assert kit.witness.add_checkpoint(forged, signer.certificate_der).status == 403
        # With the true certificate its signature is of no known key.
        assert kit.witness.add_checkpoint(forged, head.certificate).status == 403
    assert kit.store.logs() == {}


def test_a_renewed_certificate_signs_on_and_an_expired_or_revoked_one_does_not(log: LogStore, kit: Kit) -> None:
    head = log.newest
    assert kit.add(log, head, 0).status == 200
    log.signer = support.signer(number=1)
    renewed = support.append(log, 3).head
    assert kit.add(log, renewed, head.size).status == 200
    log.signer = support.signer(number=2, days_ago=40, days=30)
    assert kit.add(log, support.append(log, 1).head, renewed.size).status == 403
    log.signer = support.signer(number=3)
    stolen = support.append(log, 1).head
    verified = support.verifier().verify(stolen.certificate, time.time())
    kit.revoked.add(verified.serial)
    assert kit.add(log, stolen, renewed.size).status == 403


def test_without_a_current_revocation_list_no_certificate_is_believed(log: LogStore, kit: Kit) -> None:
    kit.current = False
    assert kit.add(log, log.newest, 0).status == 503
    kit.current = True
    assert kit.add(log, log.newest, 0).status == 200


def test_a_foreign_log_is_known_by_its_key_and_unknown_signatures_are_passed_over(tmp_path: Path) -> None:
    private = private_key(50)
    key = VerifierKey("example.com/key-of-the-log", private.public_key().public_bytes_raw())
    kit = Kit(tmp_path / "witness", certified=(), keys={"example.com/log": (key,)}, current=False)
    checkpoint = Checkpoint("example.com/log", 1, bytes(32))
    note = sign(checkpoint, key.name, key.public_key_raw, private.sign)
    line = note.decode().rpartition("\n\n")[2]
    unknown = "— grease.invalid Ym9ndXMgYnl0ZXM=\n"
    broken = line[:-6] + ("AAAA=\n" if not line.endswith("AAAA=\n") else "BBBB=\n")
    for signatures, status in ((unknown, 403), (unknown + line, 200), (line + broken, 403), (unknown + broken, 403)):
        size = kit.store.logs().get("example.com/log", Cosigned(0, b"", b"", 0)).size
        body = Submission(size, (), f"{checkpoint.body}\n{signatures}".encode()).encode()
        assert kit.witness.add_checkpoint(body).status == status, signatures
    kit.close()


def test_a_years_shard_is_a_new_log_of_the_same_identity(log: LogStore, kit: Kit) -> None:
    signer = support.signer()
    kit.now = time.time()
    year = time.gmtime(kit.now).tm_year
    for shard, status in (
        (f"{ORIGIN}/{year}", 200),
        (f"{ORIGIN}/{year + 1}", 200),
        (f"{ORIGIN}/{year + 2}", 404),
        (f"{ORIGIN}/1999", 404),
        (f"{ORIGIN}/{year}/{year}", 404),
        (f"{ORIGIN}/20266", 404),
        (f"{OTHER_HUB.log_origin}/{year}", 404),
    ):
        note = sign(Checkpoint(shard, 1, bytes(32)), shard, signer.public_key_raw, signer.sign)
        answer = kit.witness.add_checkpoint(Submission(0, (), note).encode(), signer.certificate_der)
        assert answer.status == status, shard
    assert kit.add(log, log.newest, 0).status == 200
    assert len(kit.store.logs()) == 3


def test_no_signature_is_older_than_one_before(log: LogStore, kit: Kit) -> None:
    kit.now = time.time()
    head = log.newest
    signed = cosigned_at(kit.add(log, head, 0), head.checkpoint)
    kit.now -= CLOCK_TOLERANCE - 1
    assert cosigned_at(kit.add(log, head, head.size), head.checkpoint) == signed
    kit.now -= 10
    assert kit.add(log, head, head.size).status == 503
    newer = support.append(log, 1).head
    assert kit.add(log, newer, head.size).status == 503
    assert kit.store.logs()[ORIGIN].size == head.size
    kit.now = time.time() + 5
    assert cosigned_at(kit.add(log, newer, head.size), newer.checkpoint) == int(kit.now)


def test_of_racing_submissions_one_is_cosigned_and_the_others_learn_it(log: LogStore, kit: Kit) -> None:
    first = log.newest
    assert kit.add(log, first, 0).status == 200
    heads = [support.append(log, 3).head for _ in range(8)]
    bodies = [(submission(log, head, first.size), head.certificate) for head in heads]
    answers: list[Answer] = []
    barrier = threading.Barrier(len(bodies))

    def race(body: bytes, certificate: bytes) -> None:
        barrier.wait()
        answers.append(kit.witness.add_checkpoint(body, certificate))

    threads = [threading.Thread(target=race, args=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    won = kit.store.logs()[ORIGIN].size
    assert won in {head.size for head in heads}
    assert {parse_size(answer.body) for answer in answers if answer.status == 409} == {won}


def test_nothing_is_signed_that_could_not_be_made_durable(
    log: LogStore, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = log.newest
    assert kit.add(log, head, 0).status == 200
    newer = support.append(log, 4).head

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        assert kit.add(log, newer, head.size).status == 503
        # The store has it, the guard does not: still nothing is signed.
        assert kit.add(log, newer, newer.size).status == 503
    assert kit.add(log, newer, newer.size).status == 200
    assert 10 not in chain.from_iterable(json.loads((kit.path / "guard" / "sizes.json").read_text()).values())


def test_a_witness_that_was_rolled_back_does_not_start(log: LogStore, kit: Kit) -> None:
    head = log.newest
    assert kit.add(log, head, 0).status == 200
    kit.close()
    old = (kit.path / "witness.db").read_bytes()
    again = Kit(kit.path)
    assert again.add(log, support.append(log, 4).head, head.size).status == 200
    again.close()
    for name in ("witness.db-wal", "witness.db-shm"):
        (kit.path / name).unlink(missing_ok=True)
    (kit.path / "witness.db").write_bytes(old)
    with pytest.raises(FatalError, match="rolled back"):
        Kit(kit.path)


@pytest.mark.parametrize("guard", [None, b"", b"{", b"[]", b'{"x": 3}', b'{"x": [1, "%"]}'])
def test_a_witness_without_its_guard_does_not_start(kit: Kit, guard: bytes | None) -> None:
    kit.close()
    path = kit.path / "guard" / "sizes.json"
    path.unlink()
    if guard is not None:
        path.write_bytes(guard)
    with pytest.raises(FatalError, match=r"missing|damaged"):
        Kit(kit.path)


def test_a_witness_is_not_made_again_over_a_guard_that_remembers(kit: Kit) -> None:
    kit.close()
    with pytest.raises(FatalError, match="not made again"):
        WitnessStore.create(kit.path / "new.db", kit.path / "guard" / "sizes.json")


def test_the_store_itself_never_goes_back(log: LogStore, kit: Kit) -> None:
    assert kit.add(log, log.newest, 0).status == 200
    with sqlite3.connect(kit.path / "witness.db") as connection:
        for statement in (
            "UPDATE witness_log SET size = 1",
            "UPDATE witness_log SET root = x'00'",
            "DELETE FROM witness_log",
            "INSERT OR REPLACE INTO witness_log SELECT origin, 1, root, note, time, '' FROM witness_log",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)
    connection.close()


def test_the_number_of_logs_and_of_kept_contradictions_is_bounded(kit: Kit, log: LogStore, tmp_path: Path) -> None:
    with sqlite3.connect(kit.path / "witness.db") as connection:
        rows = ((f"log{number}", 1, bytes(32), b"x", 1) for number in range(MAX_LOGS))
        connection.executemany("INSERT INTO witness_log (origin, size, root, note, time) VALUES (?, ?, ?, ?, ?)", rows)
    connection.close()
    assert kit.add(log, log.newest, 0).status == 503
    other = Kit(tmp_path / "other")
    signer = support.signer()
    for number in range(MAX_EVIDENCE + 10):
        note = sign(Checkpoint(ORIGIN, 1, number.to_bytes(32)), ORIGIN, signer.public_key_raw, signer.sign)
        body = Submission(min(number, 1), (), note).encode()
        assert other.witness.add_checkpoint(body, signer.certificate_der).status == (409 if number else 200)
    assert len(other.evidence) == MAX_EVIDENCE
    other.close()


def test_the_logs_key_has_another_id_than_a_witness_of_its_name() -> None:
    raw = witness_key(1).public_key_raw
    assert key_id(ORIGIN, raw) != VerifierKey(ORIGIN, raw, b"\x04").id
