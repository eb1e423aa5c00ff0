"""`zhiwang policy replay` against a registrar and a log that are served: accesses that are there, under a proposal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import policy_support as support
from audit_served import served
from registrar_support import World
from wire_support import raw_header
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2


def asked(reference: str, ask: str, predicate: str) -> bytes:
    def change(header: sealed_pb2.Header) -> None:
        header.owner, header.reference = "hrss", reference
        del header.slots[:]
        del header.claims[:]
        header.slots.add(name="guardian", ordinal=0, kind="person")
        header.claims.add(slot=0, attribute=ask, predicate=sealed_pb2.Predicate.Value(predicate))
        if predicate == "PREDICATE_AT_LEAST":
            header.claims[0].cell = "12"

    return raw_header(change, cases=1)


def accessed(header: bytes, outcome: Any = audit_pb2.OUTCOME_ANSWERED, reason: str = "", denied: Any = ()) -> Any:
    return audit_pb2.HubAccess(
        header=header,
        signature=bytes(64),
        sealed_hash=bytes(32),
        request_root=bytes(32),
        outcome=outcome,
        reason=reason,
        denied_claims=denied,
    )


async def test_the_accesses_of_the_log_are_decided_again_and_those_that_flip_are_listed(tmp_path: Path) -> None:
    world = World(tmp_path / "city", published=True)
    insured = asked("2026-000001", "insured", "PREDICATE_EXISTS")
    pension = asked("2026-000002", "pension_months", "PREDICATE_AT_LEAST")
    async with served(world.city, "dsjj/hub/main", tmp_path / "log.db") as hub:
        for event in (
            accessed(insured),
            accessed(insured),
            accessed(pension),
            accessed(insured, audit_pb2.OUTCOME_DENIED, "NOT_GRANTED", [0]),
            accessed(pension, audit_pb2.OUTCOME_DENIED, "MATTER_CHANGED"),
            accessed(pension, audit_pb2.OUTCOME_UNAVAILABLE, "OWNER_UNAVAILABLE"),
        ):
            await hub.log.record(event)
        grant = support.HRSS[
            support.HRSS.index('[[grant]]\nid = "enrolment-insured"') : support.HRSS.index("[[assert]]")
        ]
        proposal = world.file("proposal.toml", support.HRSS.replace(grant, ""))
        with world.registrar():
            arguments = ("policy", "replay", proposal, "--from", hub.address, "--profile", world.path / "dsjj.toml")
            done = await asyncio.to_thread(world.run, *arguments, "--json", status=1)
            told = json.loads(done.stdout)
            # Five were decided by policy; what was changing just then was not.
            assert told["accesses"] == 5, told
            assert [(flip["entry"], flip["allowed"], flip["already"]) for flip in told["flips"]] == [
                (2, False, False),
                (1, False, False),
            ]
            assert told["groups"][0]["ask"] == "hrss.insured exists"
            assert told["groups"][0]["count"] == 2
            shown = (await asyncio.to_thread(world.run, *arguments, status=1)).stdout
            assert "edu/enrolment-clerk" in shown
            assert "2026-000001" in shown
            # Under the directory in force: the one that was denied although it is granted today.
            again = await asyncio.to_thread(
                world.run, "policy", "replay", *arguments[3:], "--json", "--days", "1", status=1
            )
            assert [
                (flip["entry"], flip["allowed"], flip["already"]) for flip in json.loads(again.stdout)["flips"]
            ] == [(4, True, True)]
            # Who may not read the log may not replay it.
            world.profile(
                "edu", "edu/admin/first", str(json.loads((world.state / "address.json").read_text())["listen"])
            )
            refused = await asyncio.to_thread(world.run, *arguments[:-1], world.path / "edu.toml", status=1)
            assert "RPC_NOT_ALLOWED" in refused.stderr
