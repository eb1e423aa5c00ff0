"""What a roster costs at both ends, counted on the real pieces: once a request or a frame, whatever its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from Crypto.Protocol import HPKE
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import event

from adapter_frames import Bureau, grants
from adapter_support import NOW, attribute, resident
from adapters.database import Lent
from adapters.standpoint import Standpoint
from certs.signing import Signer, VerifiedCertificate
from exchange.client.case import Case, Subject
from exchange.client.plan import Planner
from exchange.client.seal import Purpose, seal
from policy.enforcer import Enforcer
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.records import Outcome

TABLES = """
CREATE TABLE person (id_card TEXT, region TEXT, months INTEGER);
CREATE INDEX person_id ON person (id_card);
CREATE TABLE card (id_card TEXT);
CREATE INDEX card_id ON card (id_card);
"""
MAPPING = """
[data.person]
table = "person"
subject = "id_card"
region = { column = "region", codes = "nbs" }

[data.card]
table = "card"
subject = "id_card"

[attribute.months]
data = "person"
value = "months"

[attribute.known]
data = "person"

[attribute.card]
data = "card"
"""
ASKS = ("hrss.months at_least", "hrss.known exists", "hrss.card exists")
CLAIMS = ("child: hrss.months at_least 12", "child: hrss.known exists", "child: hrss.card exists")
PUBLISHED = (
    attribute("months", 'type = "integer"\nat_least = [6, 12]')
    + attribute("known", 'asks = ["exists"]')
    + attribute("card", 'asks = ["exists"]')
    + grants(ASKS)
)
SIZES = (1, 20, 200)
"""Cases of a request: alone, in a group, and in one that databases take as an array."""

PEOPLE = [resident(serial) for serial in range(400)]


@pytest.fixture
def bureau(tmp_path: Path) -> Iterator[Bureau]:
    rows = {
        "person": [(person, "440306001001", serial % 24) for serial, person in enumerate(PEOPLE)],
        "card": [(person,) for person in PEOPLE[::2]],
    }
    bureau = Bureau(tmp_path, tables=TABLES, rows=rows, mapping=MAPPING, published=PUBLISHED)
    yield bureau
    bureau.close()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the dear things were done."""
    counts: Counter[str] = Counter()

    def count(owner: Any, name: str, what: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            counts[what] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, counting)

    class CountedAesGcm:
        def __init__(self, key: bytes) -> None:
            self._aead = AESGCM(key)

        def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
            counts["seals"] += 1
            return self._aead.encrypt(nonce, data, associated)

        def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
            counts["openings"] += 1
            return self._aead.decrypt(nonce, data, associated)

    count(Lent, "fetch", "statements")
    count(Signer, "sign", "signatures")
    count(VerifiedCertificate, "verify_signature", "signatures checked")
    count(Enforcer, "_decide", "decisions")
    count(HPKE, "new", "contexts")
    monkeypatch.setattr("certs.sealing.AESGCM", CountedAesGcm)
    return counts


def _frame(bureau: Bureau, counted: Counter[str], cases: int, requests: int) -> Counter[str]:
    """What the adapter does for one frame of requests with so many cases each."""
    sealed = [
        bureau.request(CLAIMS, [{"child": person} for person in PEOPLE[number : number + cases]])
        for number in range(requests)
    ]
    commits: list[object] = []
    listener = commits.append
    event.listen(bureau.log.engine, "commit", listener)
    before = bureau.log.end
    counted.clear()
    items = bureau.send(*sealed)
    counts = Counter(counted)
    event.remove(bureau.log.engine, "commit", listener)
    counts["transactions"] = len(commits)
    counts["entries"] = bureau.log.end - before
    for request, item in zip(sealed, items, strict=True):
        assert set(bureau.open(request, item)) <= {Outcome.YES, Outcome.NO, Outcome.UNKNOWN}
    return counts


@pytest.mark.parametrize("requests", [1, 3])
@pytest.mark.parametrize("cases", SIZES)
def test_a_frame_costs_one_statement_a_group_one_transaction_and_one_checkpoint(
    bureau: Bureau, counted: Counter[str], cases: int, requests: int
) -> None:
    counts = _frame(bureau, counted, cases, requests)
    assert counts["statements"] == 2, "one for each data set, all requests of the frame together"
    assert counts["transactions"] == 1
    assert counts["signatures"] == 1, "the checkpoint's"
    assert counts["entries"] == requests
    assert counts["signatures checked"] == requests
    assert counts["contexts"] == 1, "the requester's, however many requests it seals"


@pytest.mark.parametrize("cases", SIZES)
def test_policy_decides_once_for_each_shape_and_not_for_each_case(
    bureau: Bureau, counted: Counter[str], cases: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    standpoint = Standpoint(Enforcer(bureau.directory_), bureau.examiner)
    monkeypatch.setattr(bureau.frames, "_standpoint", lambda: standpoint)
    assert _frame(bureau, counted, cases, 2)["decisions"] == len(CLAIMS)
    assert _frame(bureau, counted, cases, 1)["decisions"] == 0, "the same question again"


@pytest.mark.parametrize("cases", SIZES)
def test_a_requester_seals_and_signs_once_for_all_cases(bureau: Bureau, counted: Counter[str], cases: int) -> None:
    requester = bureau.requester()
    planner = Planner(bureau.directory_, bureau.matter)
    prepared = [
        planner.prepare(Case((Subject("child", person),), CLAIMS), date(2026, 9, 21)) for person in PEOPLE[:cases]
    ]
    assert len({id(one.plan) for one in prepared}) == 1
    (part,) = prepared[0].plan.parts
    purpose = Purpose("edu/clerk", "clerk-17", 1, "2026-000123", "2026-09-01", "nbs:4403")
    counted.clear()
    sealed = seal(part, purpose, prepared, requester.context, requester.signer, now=NOW, lifetime=30, bulk=True)
    assert isinstance(sealed.request, sealed_pb2.SealedRequest)
    assert counted == {"seals": 1, "signatures": 1}
    assert not bureau.send(sealed.request)[0].reason
