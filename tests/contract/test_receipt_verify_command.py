"""`zhiwang receipt verify`: what its files demand, and what it says."""

from __future__ import annotations

import copy
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client_support import CASE, Witness, World, complete
from exchange.cli.receipt import app
from exchange.client.check import check_answer
from exchange.client.receipt import build_receipt, write_receipt
from exchange.client.receipt_verify import verify_receipt
from zhiwang.verification.v1 import verification_pb2


class Given:
    """A receipt in a file, and a way to verify it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.world = World(path)
        sealed = self.world.seal(self.world.prepare(CASE))
        self.receipt = build_receipt([check_answer(one, self.world.deliver(one)) for one in sealed], 0)
        self.witnesses = [Witness(f"example.com/{name}") for name in "abc"]
        lines = [f"witness {name} {one.vkey}" for name, one in zip("abc", self.witnesses, strict=True)]
        self.policy = self.file("witnesses.policy", "\n".join([*lines, "group g 2 a b c", "quorum g", ""]))

    def file(self, name: str, content: str) -> Path:
        (self.path / name).write_text(content, "utf-8")
        return self.path / name

    def verify(self, receipt: verification_pb2.Receipt, *options: object, root: bool = True) -> Any:
        file = self.path / f"{time.monotonic_ns()}.json"
        write_receipt(file, receipt)
        roots = ["--root", str(self.world.city.root)] if root else []
        return CliRunner().invoke(app, ["verify", str(file), *roots, *map(str, options)])

    def completed(self, count: int) -> verification_pb2.Receipt:
        receipt = copy.deepcopy(self.receipt)
        complete(self.world, receipt, self.witnesses[:count], time.time())
        return receipt

    def crl(self, moment: datetime) -> Path:
        """A list in which the system's certificate was revoked at a moment, made a day after it."""
        signer = verify_receipt(self.receipt, self.world.verifier)[0].certificates[0]
        self.world.city.authority.revoke(signer.serial, now=moment)
        pem = self.world.city.authority.crl(now=datetime.now(UTC) + timedelta(days=1))
        return self.file("crl.pem", pem.decode())


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


def test_without_more_than_the_roots_it_says_what_was_not_checked(given: Given) -> None:
    said = given.verify(given.receipt)
    assert said.exit_code == 0, said.output
    for line in ("凭证有效", "无见证", "无时间戳", "未核验吊销"):
        assert line in said.output
    assert "2 个见证签名未核验" in given.verify(given.completed(1)).output


def test_a_policy_demands_its_quorum_and_the_witnesses_are_named(given: Given) -> None:
    for receipt in (given.receipt, given.completed(1)):
        refused = given.verify(receipt, "--witness-policy", given.policy, "--json")
        assert (refused.exit_code, json.loads(refused.stdout)["reason"]) == (1, "NOT_WITNESSED")
    done = given.verify(given.completed(2), "--witness-policy", given.policy)
    assert done.exit_code == 0, done.output
    assert "见证 witnesses: shenzhen/dsjj/hub/main" in done.output
    told = json.loads(given.verify(given.completed(3), "--witness-policy", given.policy, "--json").stdout)
    assert [set(one["cosignatures"]) for one in told["witnessed"]] == [{"a", "b", "c"}] * 2


def test_a_list_of_revocations_voids_what_was_revoked_before(given: Given) -> None:
    refused = given.verify(given.receipt, "--crl", given.crl(datetime.now(UTC) - timedelta(hours=1)), "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["reason"]) == (1, "CERTIFICATE_REVOKED")


def test_what_was_revoked_since_is_named_with_whose_word_it_rests_on(given: Given) -> None:
    crl = given.crl(datetime.now(UTC) + timedelta(hours=1))
    done = given.verify(given.receipt, "--crl", crl)
    assert done.exit_code == 0, done.output
    assert "edu/system/enrolment 的证书于事后" in done.output
    assert "the hub's log" in done.output
    witnessed = given.verify(given.completed(2), "--crl", crl, "--witness-policy", given.policy, "--json")
    assert {one["older_says"] for one in json.loads(witnessed.stdout)["revoked_since"]} == {"witnesses"}


@pytest.mark.parametrize(("option", "content"), [("--crl", "no list"), ("--tsa-root", "no certificate")])
def test_a_file_that_is_not_what_it_should_be_is_refused(given: Given, option: str, content: str) -> None:
    refused = given.verify(given.receipt, option, given.file("other", content), "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["reason"]) == (1, "CERTIFICATE_INVALID")


def test_wrong_usage_is_told_apart_from_a_receipt_that_does_not_hold(given: Given) -> None:
    assert given.verify(given.receipt, "--witness-policy", given.file("other", "quorum none\n")).exit_code == 2
    assert given.verify(given.receipt, root=False).exit_code == 2
