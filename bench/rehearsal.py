"""policy_replay, policy_diff, policy_who_can: what an admin waits for, at 10,000 rules and 100,000 accesses.

The accesses stand in a real log that is served over mTLS, and are read as `zhiwang policy replay` reads them; beside it
the same reading without deciding anything.
"""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from audit.auditor import Auditor
from audit.proofs import HeadChecker
from audit.query import Query
from audit_served import served
from bench.policy import NOW, RULES, _directory, _grants
from bench.result import Result
from certs.signing import CertificateVerifier
from certs_support import City
from exchange.deciding import Replaying
from policy.model import Directory, Grant
from policy.reach import Reach, changes
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.channel import open_channel
from zhiwang.wire.identity import Kind, server_name

ACCESSES: Final = 100_000
GROUP: Final = 2000
REPLAY_SECONDS: Final = 10.0
QUICK_SECONDS: Final = 1.0


def _access(grant: Grant, number: int) -> audit_pb2.HubAccess:
    """One access that a grant allows; references and ids differ, as they do."""
    header = sealed_pb2.Header(
        suite="zhiwang-1",
        request_id=number.to_bytes(16, "big"),
        system="spiffe://shenzhen/edu/system/enrolment",
        certificate_fingerprint=bytes(32),
        role=grant.role,
        official=f"clerk-{number % 500}",
        assurance=sealed_pb2.ASSURANCE_ASSERTED,
        matter=grant.matter,
        matter_version=bytes(16),
        reference_date="2026-09-01",
        reference=f"2026-{number:06}",
        jurisdiction=str(grant.places[0]),
        owner=grant.owner,
        owner_key_id=bytes(16),
        owner_document_version=1,
        cases=1,
        priority=sealed_pb2.PRIORITY_INTERACTIVE,
    )
    header.slots.add(name="child", kind="person")
    header.claims.add(slot=0, attribute=grant.ask.attribute, predicate=sealed_pb2.PREDICATE_EXISTS)
    header.issue_time.seconds = int(NOW)
    header.expire_time.seconds = int(NOW) + 30
    return audit_pb2.HubAccess(
        header=header.SerializeToString(deterministic=True),
        signature=bytes(64),
        sealed_hash=bytes(32),
        request_root=bytes(32),
        outcome=audit_pb2.OUTCOME_ANSWERED,
    )


def _changed(directory: Directory) -> Directory:
    """A tenth of one owner's grants are gone."""
    document = directory.documents["owner0"]
    kept = tuple(grant for number, grant in enumerate(document.grants) if number % 10)
    return replace(directory, documents={**directory.documents, "owner0": replace(document, grants=kept)})


async def measure() -> list[Result]:
    """Replay, compare and ask."""
    chance = random.Random(1)  # noqa: S311  a repeatable choice of rules, no secret
    by_owner = _grants(RULES, chance)
    grants = [grant for rows in by_owner.values() for grant in rows]
    directory = _directory(by_owner)
    proposed = _changed(directory)
    started = time.perf_counter()
    flipped = len(list(changes(directory, proposed, NOW)))
    compared = time.perf_counter() - started
    reach = Reach(directory)
    asked = grants[0].ask
    started = time.perf_counter()
    rights = list(reach.rights(reach.keys(owner=asked.owner, attribute=asked.attribute), NOW))
    looked_up = time.perf_counter() - started
    if not flipped or not rights:
        raise RuntimeError("nothing was compared")
    reading, replaying = await _replay(directory, proposed, [chance.choice(grants) for _ in range(2000)])
    return [
        Result("policy_diff", compared, "s", QUICK_SECONDS, compared, "under 1 s", compared < QUICK_SECONDS),
        Result("policy_who_can", looked_up, "s", QUICK_SECONDS, looked_up, "under 1 s", looked_up < QUICK_SECONDS),
        Result(
            "policy_replay",
            replaying,
            "s",
            reading,
            replaying / reading,
            f"{ACCESSES:,} in under {REPLAY_SECONDS:.0f} s",
            replaying < REPLAY_SECONDS,
        ),
    ]


async def _replay(directory: Directory, proposed: Directory, kinds: list[Grant]) -> tuple[float, float]:
    """Seconds to read the accesses alone, and to read and decide them."""
    with tempfile.TemporaryDirectory(prefix="zhiwang-bench-") as place:
        city = City.create(Path(place) / "city")
        async with served(city, "dsjj/hub/main", Path(place) / "log.db") as hub:
            for first in range(0, ACCESSES, GROUP):
                events = [_access(kinds[number % len(kinds)], number) for number in range(first, first + GROUP)]
                await hub.log.append([hub.log.store.new_entry(event) for event in events])
            while hub.index.follow():
                pass
            files = city.enrol("dsjj/auditor/one")
            credentials = files.channel_credentials()
            name = server_name(files.identity.city, Kind.HUB)
            async with open_channel(hub.address, credentials, server_name=name) as channel:
                checker = HeadChecker(CertificateVerifier(files.ca_pem, frozenset), kinds=(Kind.HUB,))
                auditor = Auditor(audit_pb2_grpc.AuditServiceStub(channel), checker)
                query = Query(event="hub_access")
                started = time.perf_counter()
                count = [1 async for access in auditor.search(query, limit=0, proofs=False)]
                reading = time.perf_counter() - started
                replay = Replaying(directory, proposed, NOW)
                started = time.perf_counter()
                async for entry in auditor.search(query, limit=0, proofs=False):
                    replay.decide([entry])
                replaying = time.perf_counter() - started
    told = replay.finish()
    if len(count) != ACCESSES or told.accesses != ACCESSES or not 0 < told.flipped < ACCESSES:
        raise RuntimeError(f"{len(count)} read, {told.accesses} decided, {told.flipped} flipped")
    return reading, replaying
