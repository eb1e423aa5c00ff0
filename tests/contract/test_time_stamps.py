"""Time stamps of receipts, by a real authority: OpenSSL's."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client_support import CASE, FATHER, MOTHER, World
from exchange.cli.receipt import app
from exchange.client.case import Case, Subject
from exchange.client.check import check_answer
from exchange.client.receipt import build_receipt, read_receipt, write_receipt
from exchange.client.receipt_files import load_receipt, write_directory
from exchange.client.receipt_times import Revocations, Trust, Word, prove
from exchange.client.receipt_verify import MAX_STAMPS, verify_receipt
from exchange.client.time_stamps import Stamped, add_stamp, verify_stamps
from tsa_support import Tsa, needs_tsa
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError

Receipt = verification_pb2.Receipt

pytestmark = [needs_tsa, pytest.mark.filterwarnings("ignore:Parsed a serial number")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    return Tsa(tmp_path_factory.mktemp("tsa") / "one")


def receipt_about(world: World, case: Case) -> Receipt:
    return build_receipt([check_answer(one, world.deliver(one)) for one in world.seal(world.prepare(case))], 0)


@pytest.fixture(scope="module")
def plain(world: World) -> Receipt:
    return receipt_about(world, CASE)


@pytest.fixture(scope="module")
def stamped(plain: Receipt, tsa: Tsa) -> Receipt:
    receipt = copy.deepcopy(plain)
    add_stamp(receipt, tsa.root, tsa.ask)
    return receipt


def test_a_stamped_receipt_says_when_and_by_whom_it_was_seen(world: World, stamped: Receipt, tsa: Tsa) -> None:
    proved = prove(stamped, Trust(world.verifier, tsa_roots=tsa.root))
    (stamp,) = proved.stamps
    assert stamp.authority == "CN=Test TSA"
    assert abs(stamp.time - time.time()) < 600
    assert proved.unchecked_stamps == 0


def test_without_the_authoritys_certificate_a_stamp_counts_for_nothing(world: World, stamped: Receipt) -> None:
    proved = prove(stamped, Trust(world.verifier))
    assert (proved.stamps, proved.unchecked_stamps) == ((), 1)


def test_the_authority_learns_a_hash_and_nothing_else(stamped: Receipt, tsa: Tsa) -> None:
    assert stamped.time_stamps
    for query in tsa.asked:
        assert len(query) < 80
        assert not any(text.encode() in query for text in (MOTHER, FATHER, "school-enrolment", "shenzhen"))


def test_a_stamp_of_another_receipt_is_refused(world: World, stamped: Receipt) -> None:
    other = receipt_about(world, Case((Subject("child", MOTHER), Subject("guardian", FATHER))))
    other.time_stamps.append(stamped.time_stamps[0])
    with pytest.raises(RefusedError, match="another receipt"):
        verify_receipt(other, world.verifier)


def test_a_stamp_whose_list_of_parts_was_changed_is_refused(
    world: World, plain: Receipt, stamped: Receipt, tsa: Tsa
) -> None:
    other = receipt_about(world, Case((Subject("child", MOTHER), Subject("guardian", FATHER))))
    add_stamp(other, tsa.root, tsa.ask)
    # The list that the other receipt needs, above an answer that is over another list.
    other.time_stamps[0].response = stamped.time_stamps[0].response
    assert verify_receipt(other, world.verifier)
    with pytest.raises(RefusedError) as caught:
        verify_stamps(other, tsa.root)
    assert caught.value.reason is Reason.PROOF_INVALID
    longer = copy.deepcopy(plain)
    longer.time_stamps.append(stamped.time_stamps[0])
    longer.time_stamps[0].part_hashes.append(bytes(32))
    with pytest.raises(RefusedError):
        verify_stamps(longer, tsa.root)


def test_a_receipt_of_which_parts_were_left_out_keeps_its_time_stamp(world: World, stamped: Receipt, tsa: Tsa) -> None:
    shorter = copy.deepcopy(stamped)
    del shorter.parts[0]
    assert len(prove(shorter, Trust(world.verifier, tsa_roots=tsa.root)).stamps) == 1


def test_no_byte_of_a_time_stamp_changes_what_it_proves(stamped: Receipt, tsa: Tsa) -> None:
    genuine = verify_stamps(stamped, tsa.root)
    response = stamped.time_stamps[0].response
    changed = copy.deepcopy(stamped)
    other = 0
    for place in range(len(response)):
        data = bytearray(response)
        data[place] ^= 1 << place % 8
        changed.time_stamps[0].response = bytes(data)
        try:
            found: tuple[Stamped, ...] | None = verify_stamps(changed, tsa.root)
        except RefusedError:
            found = None
        # Some bytes of a signature's wrapping say nothing, e.g. the version of the structure.
        assert found in {None, genuine}
        other += found is not None
    assert other < 20


def test_an_authority_that_is_not_pinned_is_refused(plain: Receipt, tmp_path: Path) -> None:
    mine, other = Tsa(tmp_path / "mine"), Tsa(tmp_path / "other")
    receipt = copy.deepcopy(plain)
    with pytest.raises(RefusedError):
        add_stamp(receipt, mine.root, other.ask)
    assert not receipt.time_stamps
    add_stamp(receipt, mine.root, mine.ask)
    with pytest.raises(RefusedError):
        verify_stamps(receipt, other.root)


def test_an_answer_to_another_question_is_refused(plain: Receipt, tsa: Tsa) -> None:
    old = tsa.ask(tsa.asked[0]) if tsa.asked else b""
    receipt = copy.deepcopy(plain)
    for answer in (old, b"", b"\x30\x00", b"<html>", b"x" * 70_000):

        def replay(_query: bytes, answer: bytes = answer) -> bytes:
            return answer

        with pytest.raises(RefusedError):
            add_stamp(receipt, tsa.root, replay)
    assert not receipt.time_stamps


def test_an_authority_that_refuses_leaves_the_receipt_as_it_was(plain: Receipt, tmp_path: Path) -> None:
    refusing = Tsa(tmp_path / "tsa", digests="sha512")
    receipt = copy.deepcopy(plain)
    with pytest.raises(RefusedError, match="granted no time stamp"):
        add_stamp(receipt, refusing.root, refusing.ask)
    assert receipt == plain


def test_a_time_stamp_tells_what_was_revoked_since_from_what_was_before(
    world: World, stamped: Receipt, tsa: Tsa
) -> None:
    (stamp,) = verify_stamps(stamped, tsa.root)
    parts = verify_receipt(stamped, world.verifier)
    hub, made = parts[0].certificates[2], max(part.hub_time for part in parts)

    def word(at: float) -> Word:
        listed = Revocations({hub.serial: at}, at + 3600)
        (since,) = prove(stamped, Trust(world.verifier, revocations=listed, tsa_roots=tsa.root)).revoked_since
        return since.word

    assert word(stamp.time + 1) is Word.TIME_STAMP
    assert made + 1e-6 < stamp.time
    assert word(made + 1e-6) is Word.OWN


def test_a_time_stamp_from_before_the_entry_is_refused(world: World, tsa: Tsa) -> None:
    later = time.time() + 3600
    sealed = world.seal(world.prepare(), now=later)
    receipt = build_receipt([check_answer(one, world.deliver(one)) for one in sealed], 0)
    add_stamp(receipt, tsa.root, tsa.ask)
    with pytest.raises(RefusedError, match="older than the entry"):
        prove(receipt, Trust(world.verifier, tsa_roots=tsa.root))


def test_openssl_verifies_the_time_stamp_of_an_exported_receipt(stamped: Receipt, tsa: Tsa, tmp_path: Path) -> None:
    files = write_directory(tmp_path / "case", stamped)
    text, answer = str(files["timestamp-1.txt"]), str(files["timestamp-1.tsr"])
    verify = ["openssl", "ts", "-verify", "-data", text, "-in", answer, "-CAfile", str(tsa.root_path)]
    done = subprocess.run(verify, capture_output=True, check=False)  # noqa: S603 - openssl
    assert done.returncode == 0, done.stderr
    lines = files["timestamp-1.txt"].read_text().splitlines()
    proofs = [files[f"{owner}.hub.tlog-proof"].read_bytes() for owner in ("hrss", "health")]
    assert {sha256(proof).hexdigest() for proof in proofs} == set(lines[1:])
    assert load_receipt(tmp_path / "case") == stamped


# The command.


class Given:
    """Files as somebody has them."""

    def __init__(self, world: World, tsa: Tsa, path: Path, receipt: Receipt) -> None:
        self.receipt = path / "case.json"
        write_receipt(self.receipt, receipt)
        self.root = world.city.root
        self.tsa_root = tsa.root_path

    def run(self, command: str, *options: str, target: Path | None = None) -> Any:
        return CliRunner().invoke(app, [command, str(target or self.receipt), "--root", str(self.root), *options])


@pytest.fixture
def given(world: World, tsa: Tsa, plain: Receipt, tmp_path: Path) -> Given:
    return Given(world, tsa, tmp_path, plain)


def test_a_receipt_is_stamped_and_checked_by_the_commands(given: Given, tsa: Tsa, plain: Receipt) -> None:
    with tsa.serving() as url:
        done = given.run("timestamp", "--tsa", url, "--tsa-root", str(given.tsa_root))
    assert done.exit_code == 0, done.output
    assert given.receipt.stat().st_mode & 0o777 == 0o600
    kept = read_receipt(given.receipt.read_bytes())
    assert (kept.parts, len(kept.time_stamps)) == (plain.parts, 1)
    unchecked = given.run("verify")
    assert "give --tsa-root" in unchecked.output
    told = given.run("verify", "--tsa-root", str(given.tsa_root), "--json")
    said = json.loads(told.stdout)
    assert (said["time_stamps"][0]["authority"], said["time_stamps_unchecked"]) == ("CN=Test TSA", 0)


def test_a_directory_of_files_is_stamped_like_a_file(given: Given, tsa: Tsa, plain: Receipt, tmp_path: Path) -> None:
    write_directory(tmp_path / "case", plain)
    with tsa.serving() as url:
        done = given.run("timestamp", "--tsa", url, "--tsa-root", str(given.tsa_root), target=tmp_path / "case")
    assert done.exit_code == 0, done.output
    assert len(load_receipt(tmp_path / "case").time_stamps) == 1
    assert not list((tmp_path / "case").glob(".*"))


@pytest.mark.parametrize("status", [204, 302, 404, 500])
def test_an_authority_that_answers_otherwise_changes_nothing(given: Given, tsa: Tsa, status: int) -> None:
    before = given.receipt.read_bytes()
    with tsa.serving(status) as url:
        done = given.run("timestamp", "--tsa", url, "--tsa-root", str(given.tsa_root))
    assert isinstance(done.exception, FatalError)
    assert given.receipt.read_bytes() == before


def test_an_authority_that_cannot_be_reached_is_said_so(given: Given) -> None:
    done = given.run("timestamp", "--tsa", "http://127.0.0.1:9", "--tsa-root", str(given.tsa_root))
    assert isinstance(done.exception, FatalError)
    assert "127.0.0.1:9" in done.exception.detail


def test_a_receipt_that_does_not_hold_is_not_stamped(given: Given, tsa: Tsa, plain: Receipt) -> None:
    changed = copy.deepcopy(plain)
    changed.parts[0].hub_entry.index += 1
    given.receipt.unlink()
    write_receipt(given.receipt, changed)
    asked = len(tsa.asked)
    with tsa.serving() as url:
        done = given.run("timestamp", "--tsa", url, "--tsa-root", str(given.tsa_root))
    assert (done.exit_code, len(tsa.asked)) == (1, asked)


def test_a_receipt_keeps_a_bounded_number_of_time_stamps(world: World, given: Given, stamped: Receipt) -> None:
    full = copy.deepcopy(stamped)
    full.time_stamps.extend([full.time_stamps[0]] * (MAX_STAMPS - 1))
    given.receipt.unlink()
    write_receipt(given.receipt, full)
    done = given.run("timestamp", "--tsa", "http://127.0.0.1:9", "--tsa-root", str(given.tsa_root))
    assert "keeps no more" in getattr(done.exception, "detail", "")
    full.time_stamps.append(full.time_stamps[0])
    with pytest.raises(RefusedError, match="more time stamps"):
        verify_receipt(full, world.verifier)


def test_without_the_extra_the_command_says_what_to_install(
    given: Given, monkeypatch: pytest.MonkeyPatch, stamped: Receipt
) -> None:
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    done = given.run("timestamp", "--tsa", "http://127.0.0.1:9", "--tsa-root", str(given.tsa_root))
    assert "pip install 'zhiwang[timestamps]'" in getattr(done.exception, "detail", "")
    # Whoever does not ask for them verifies receipts with time stamps all the same.
    given.receipt.unlink()
    write_receipt(given.receipt, stamped)
    assert given.run("verify").exit_code == 0
