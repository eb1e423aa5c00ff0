"""A receipt whose log has ended with its year still gains the word of witnesses, over the logs of later years."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.appended import Head
from audit.checkpoint import Checkpoint, split_note
from audit.cosignature import WitnessPolicy
from audit.entry import decode_entry
from audit.service import AuditServicer
from audit.sqlite import open_sqlite
from audit.tlog_proof import TlogProof
from audit.yearly import YearlyLog
from audit_support import event
from client_support import CASE, Witness, World, unchecked
from exchange.client.completing import Completer
from exchange.client.receipt import build_receipt
from exchange.client.receipt_files import load_receipt, write_directory
from exchange.client.receipt_times import Trust, prove
from yearly_support import Calendar
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire import merkle
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.vkey import VerifierKey

LAST_SECONDS = "2026-12-31 23:59:58"


class YearlyHub:
    """The hub's log over several years, with the interface of `client_support.Log`, and its AuditService."""

    def __init__(self, path: Path, world: World, clock: Calendar) -> None:
        self.signer = world.hub.signer
        self.clock = clock
        self.log = YearlyLog(open_sqlite(path, create=True), self.signer, clock, verifier=world.verifier)
        self.log.create()
        self.cosigned: Head | None = None
        self._servicer = AuditServicer(self.log, self._refuse, "dsjj", cosigned=lambda: self.cosigned)

    async def _refuse(self, _entries: Any) -> object:
        raise AssertionError("nobody reads entries here")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._servicer, name)

        async def call(request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109 - gRPC's
            assert timeout
            return await method(request, None)

        return call

    def append(self, said: Any, *, at: float) -> audit_pb2.LoggedEntry:
        with self.log.transaction() as connection:
            appended = self.log.append(connection, [self.log.new_entry(said, at=at)])
        self.log.committed(appended)
        return audit_pb2.LoggedEntry(entry=appended.entries[0], index=appended.first, inclusion_path=appended.paths[0])

    def begin(self, year: int) -> None:
        """A new year, with an entry of somebody in it."""
        self.clock.set(f"{year}-01-01 00:00:05")
        self.append(event(), at=self.clock())

    def cosign(self, *witnesses: Witness) -> None:
        note = self.log.newest.checkpoint
        for witness in witnesses:
            note = witness.cosign(note, self.clock())
        self.cosigned = replace(self.log.newest, checkpoint=note)

    def head(self) -> audit_pb2.LogHead:
        return self.log.head()

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint.parse(split_note(self.log.newest.checkpoint)[0])


class Years:
    """A world in which a receipt is issued in the last seconds of a year."""

    def __init__(self, path: Path) -> None:
        self.world = World(path)
        self.clock = Calendar(LAST_SECONDS)
        self.hub = YearlyHub(path / "hub.db", self.world, self.clock)
        self.world.hub = self.hub  # type: ignore[assignment]  # the same interface
        self.witness = Witness("example.com/a")
        self.policy = WitnessPolicy({"a": [self.witness.vkey]}, 1)
        for _ in range(3):
            self.hub.append(event(), at=self.clock())
        sealed = self.world.seal(self.world.prepare(CASE), now=self.clock())
        self.receipt = build_receipt([unchecked(self.world, one) for one in sealed], 0)

    async def complete(self, receipt: verification_pb2.Receipt) -> bool:
        completer = Completer(lambda: [self.hub], self.world.verifier, self.clock)
        return await (await completer.begin(self.policy)).complete(receipt)

    def witnessed(self, receipt: verification_pb2.Receipt) -> tuple[str, ...]:
        proved = prove(receipt, Trust(self.world.verifier, witnesses=self.policy))
        return tuple(part.cosigned.checkpoint.origin for part in proved.parts if part.cosigned is not None)


@pytest.fixture
def years(tmp_path: Path) -> Iterator[Years]:
    years = Years(tmp_path)
    yield years
    years.hub.log.close()
    years.hub.log.engine.dispose()


async def test_a_receipt_of_the_last_seconds_is_completed_in_the_next_year(years: Years, tmp_path: Path) -> None:
    years.hub.begin(2027)
    years.hub.cosign(years.witness)
    assert await years.complete(years.receipt)
    assert years.witnessed(years.receipt) == ("shenzhen/dsjj/hub/main/2027",) * 2
    assert [len(part.hub_cosigned.opened) for part in years.receipt.parts] == [1, 1]
    write_directory(tmp_path / "case", years.receipt)
    assert load_receipt(tmp_path / "case") == years.receipt


async def test_years_in_which_nobody_completed_it_are_led_through(years: Years) -> None:
    years.hub.begin(2027)
    years.hub.signer = years.hub.log.signer = years.world.city.enrol("dsjj/hub/main", days=2000).signer()
    for year in (2028, 2030):
        years.hub.begin(year)
    years.hub.cosign(years.witness)
    assert await years.complete(years.receipt)
    assert years.witnessed(years.receipt) == ("shenzhen/dsjj/hub/main/2030",) * 2
    assert len(years.receipt.parts[0].hub_cosigned.opened) == 3


async def test_a_chain_over_the_ends_of_years_is_exported_as_proofs_that_others_verify(
    years: Years, tmp_path: Path
) -> None:
    years.hub.begin(2027)
    years.hub.signer = years.hub.log.signer = years.world.city.enrol("dsjj/hub/main", days=2000).signer()
    years.hub.begin(2028)
    years.hub.cosign(years.witness)
    assert await years.complete(years.receipt)
    case = tmp_path / "case"
    write_directory(case, years.receipt)
    assert load_receipt(case) == years.receipt
    assert witnessed_by_hand(case, "hrss", years.witness.vkey) == (
        ["shenzhen/dsjj/hub/main", "shenzhen/dsjj/hub/main/2027", "shenzhen/dsjj/hub/main/2028"]
    )
    claims = json.loads((case / "claims.json").read_text("utf-8"))
    assert all(part["hub_cosigned"] == {"opened": [{}, {}]} for part in claims["parts"])
    # Each of the new files counts, to the byte.
    for path in sorted(case.glob("hrss.hub.cosigned*")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(RefusedError):
            years.witnessed(load_receipt(case))
        path.unlink()
        with pytest.raises((RefusedError, OSError)):
            load_receipt(case)
        path.write_bytes(whole)
    assert years.witnessed(load_receipt(case))


def witnessed_by_hand(case: Path, owner: str, witness: VerifierKey) -> list[str]:
    """What the files prove by their own format, link by link; the origins of the logs on the way."""
    leaf, name = (case / f"{owner}.hub.entry").read_bytes(), f"{owner}.hub.cosigned"
    origins = []
    for number in range(1, 9):
        proof = TlogProof.parse((case / f"{name}.tlog-proof").read_bytes())
        text = split_note(proof.checkpoint)[0]
        checkpoint = Checkpoint.parse(text)
        merkle.verify_inclusion(
            proof.index, checkpoint.size, merkle.leaf_hash(leaf), proof.inclusion_path, checkpoint.root
        )
        origins.append(checkpoint.origin)
        name = f"{owner}.hub.cosigned-{number}"
        if not (case / f"{name}.entry").exists():
            break
        leaf = (case / f"{name}.entry").read_bytes()
        assert decode_entry(leaf).log_opened.predecessor == proof.checkpoint
    assert WitnessPolicy({"a": [witness]}, 1).satisfied_by(proof.checkpoint)
    return origins


async def test_no_part_of_a_chain_can_be_changed_left_out_or_exchanged(years: Years) -> None:
    years.hub.begin(2027)
    years.hub.signer = years.hub.log.signer = years.world.city.enrol("dsjj/hub/main", days=2000).signer()
    years.hub.begin(2028)
    years.hub.cosign(years.witness)
    assert await years.complete(years.receipt)
    proof = years.receipt.parts[0].hub_cosigned
    whole = copy.deepcopy(proof)

    def refused() -> None:
        with pytest.raises(RefusedError):
            years.witnessed(years.receipt)
        proof.CopyFrom(whole)

    for number, opened in enumerate(whole.opened):
        for place in range(len(opened.entry)):
            entry = bytearray(opened.entry)
            entry[place] ^= 1 << place % 8
            proof.opened[number].entry = bytes(entry)
            refused()
        for index in range(len(opened.inclusion_path)):
            proof.opened[number].inclusion_path[index] = bytes(32)
            refused()
        proof.opened[number].index = 1
        refused()
        proof.opened[number].inclusion_path.append(bytes(32))
        refused()
        del proof.opened[number]
        refused()
    proof.opened.extend(whole.opened)
    refused()
    del proof.opened[:]
    proof.opened.extend(reversed(whole.opened))
    refused()
    del proof.opened[:]
    refused()
    assert years.witnessed(years.receipt)


async def test_a_head_that_leads_nowhere_completes_nothing(years: Years, monkeypatch: pytest.MonkeyPatch) -> None:
    years.hub.begin(2027)
    years.hub.cosign(years.witness)
    untouched = copy.deepcopy(years.receipt)

    def bare(head: Head, *_known: object) -> audit_pb2.LogHead:
        return audit_pb2.LogHead(checkpoint=head.checkpoint, certificate=head.certificate)

    monkeypatch.setattr(years.hub.log, "shown", bare)
    with pytest.raises(RefusedError, match="does not lead back"):
        await years.complete(years.receipt)
    assert years.receipt == untouched
