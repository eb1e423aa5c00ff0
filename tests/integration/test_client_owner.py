"""The client against a real adapter over a real database: true answers, and the same bytes answered once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import policy_support
from adapter_support import make_database, mapping_text
from certs.signing import CertificateVerifier
from city_support import CHILD, FATHER, MOTHER, RunningCity, running_city
from exchange.client.case import Answer, Case, Ruling, Subject
from exchange.client.check import Delivery
from exchange.client.receipt_verify import verify_receipt
from zhiwang.exchange.v1 import sealed_pb2

TABLES = """
CREATE TABLE person (id_card TEXT PRIMARY KEY, full_name TEXT, months INTEGER);
CREATE TABLE birth (child TEXT, mother TEXT);
"""

HRSS = """
[data.insured]
table = "person"
subject = "id_card"
name = "full_name"

[attribute.pension_months]
data = "insured"
value = "months"

[attribute.insured]
data = "insured"
"""

HEALTH = """
[data.births]
table = "birth"
subject = "child"

[attribute.birth_mother]
data = "births"
value = "mother"
"""

DOCUMENTS = {
    "edu": policy_support.EDU,
    "hrss": policy_support.HRSS.replace('max_age = "45d"\n', ""),
    "health": policy_support.HEALTH,
}

PROFILE = """
hub = ["{hub}"]
root = "{root}"
identity = "{identity}"
listen = "127.0.0.1:0"

[adapter]
mapping = "mapping.toml"
document = "document.toml"
"""


@asynccontextmanager
async def adapter(city: RunningCity, department: str, mapping: str) -> AsyncIterator[Path]:
    """A real adapter process, attached."""
    directory = city.path / "adapters" / department
    directory.mkdir(parents=True)
    make_database(
        directory / "data.db",
        TABLES,
        {"person": [(MOTHER, "李·梅", 24), (FATHER, "张三", 5)], "birth": [(CHILD, MOTHER)]},
    )
    (directory / "mapping.toml").write_text(mapping_text(mapping, department=department), "utf-8")
    (directory / "document.toml").write_text(DOCUMENTS[department], "utf-8")
    short = f"{department}/adapter/main"
    city.kit.city.enrol(short)
    profile = directory / "profile.toml"
    profile.write_text(
        PROFILE.format(hub=city.hub.address, root=city.kit.city.root, identity=city.kit.city.path(short)), "utf-8"
    )
    for command in ("init", "run"):
        with (directory / f"{command}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "from exchange.cli.main import main; main()", "adapter", command,
                "--profile", str(profile), stdout=log, stderr=log,
                env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
            )  # fmt: skip
        if command == "init":
            assert await process.wait() == 0, (directory / "init.log").read_text()
    try:
        async with asyncio.timeout(60):
            while not any(link.owner == department for link in city.hub.up.parts.hub.links):
                assert process.returncode is None, (directory / "run.log").read_text()
                await asyncio.sleep(0.05)
        yield directory
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def city_with_adapters(path: Path) -> AsyncIterator[RunningCity]:
    async with (
        running_city(path, owners=(), documents=DOCUMENTS) as city,
        adapter(city, "hrss", HRSS),
        adapter(city, "health", HEALTH),
    ):
        yield city


async def test_answers_are_what_the_database_says_and_the_rule_follows_them(tmp_path: Path) -> None:
    cases = {
        "passed": ((Subject("child", CHILD), Subject("guardian", MOTHER, "李梅")), None),
        "named": ((Subject("child", CHILD), Subject("guardian", MOTHER, "李\u30fb梅")), Ruling.PASSED),
        "father": ((Subject("child", CHILD), Subject("guardian", FATHER, "张三")), Ruling.DATA_DISAGREES),
        "both": (
            (Subject("child", CHILD), Subject("guardian", FATHER, "张三"), Subject("guardian", MOTHER, "李·梅")),
            Ruling.PASSED,
        ),
        "nobody": ((Subject("child", CHILD),), Ruling.CHECK_BY_HAND),
    }
    async with city_with_adapters(tmp_path) as city, city.client() as client:
        asked = [Case(subjects, key=key) for key, (subjects, _) in cases.items()]
        results = {result.key: result async for result in client.verify_many(asked, city.context(), receipt=True)}
        verifier = CertificateVerifier(city.kit.city.ca_pem, frozenset)
        for result in results.values():
            assert result.receipt is not None
            assert len(verify_receipt(result.receipt, verifier)) == 2
    for key, (_, ruling) in cases.items():
        if ruling is not None:
            assert results[key].ruling is ruling, key
    answers = {key: [claim.answer for claim in result.claims] for key, result in results.items()}
    assert answers["named"] == [Answer.YES, Answer.YES, Answer.YES]
    assert answers["father"] == [Answer.NO, Answer.NO, Answer.YES]
    assert answers["nobody"] == [Answer.UNKNOWN] * 3
    # A name that does not match is not told from a person who is not there.
    assert answers["passed"][1:] == [Answer.UNKNOWN, Answer.UNKNOWN]


async def test_the_same_bytes_again_get_the_same_entry_and_the_same_reply(tmp_path: Path) -> None:
    case = Case((Subject("guardian", MOTHER),), ("guardian: hrss.insured exists",))
    async with city_with_adapters(tmp_path) as city, city.client() as client:
        sent: list[tuple[sealed_pb2.SealedRequest, Delivery]] = []
        exchange = client.transport.exchange

        async def watched(
            request: sealed_pb2.SealedRequest, seconds: float, *, bulk: bool, owner: str = ""
        ) -> Delivery:
            delivery = await exchange(request, seconds, bulk=bulk, owner=owner)
            sent.append((request, delivery))
            return delivery

        client.transport.exchange = watched  # type: ignore[method-assign]  # listens only
        result = await client.verify(case, city.context())
        assert result.claims[0].answer is Answer.YES
        ((request, first),) = sent
        again = await exchange(request, 10, bulk=False)
        assert again.result.reply == first.result.reply
        assert again.result.owner_entry.entry == first.result.owner_entry.entry
        assert again.result.owner_entry.index == first.result.owner_entry.index
        other: Any = sealed_pb2.SealedRequest()
        other.CopyFrom(request)
        other.signature = bytes(64)
        refused = await exchange(other, 10, bulk=False)
        assert refused.result.reason == "SIGNATURE_INVALID"
