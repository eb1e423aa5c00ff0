"""log_append: durable entries a second with 64 callers, beside the disk's own rate at the same group size."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from audit.log import AuditLog
from audit.sqlite import open_sqlite
from audit.store import LogStore
from bench.keys import enrol
from bench.machine import fsync_seconds
from bench.result import Result
from zhiwang.audit.v1 import audit_pb2

CALLERS = 64
SECONDS = 4.0
WARM_UP = 0.5
HEADER_SIZE = 420
CHECKPOINT_SIZE = 220


def _access() -> audit_pb2.HubAccess:
    """An entry of the size that a single verification leaves at the hub."""
    return audit_pb2.HubAccess(
        header=os.urandom(HEADER_SIZE),
        signature=os.urandom(64),
        sealed_hash=os.urandom(32),
        request_root=os.urandom(32),
        outcome=audit_pb2.OUTCOME_ANSWERED,
        directory_version=12,
        rule_ids=["enrolment-pension"],
        owner_leaf_hash=os.urandom(32),
        owner_index=123_456,
        owner_checkpoint=os.urandom(CHECKPOINT_SIZE),
    )


async def measure() -> list[Result]:
    """Append for some seconds with 64 callers that each wait for their entry."""
    with tempfile.TemporaryDirectory(prefix="zhiwang-bench-") as temporary:
        directory = Path(temporary)
        signer = enrol(directory, "centre/hub/main")["centre/hub/main"].signer()
        engine = open_sqlite(directory / "log.db", create=True)
        store = LogStore(engine, signer.identity.log_origin, signer, guard=directory / "guard")
        store.create()
        log = AuditLog(store)
        counted = groups = 0
        last = b""
        started = time.perf_counter() + WARM_UP
        stop = started + SECONDS

        async def caller() -> None:
            nonlocal counted, groups, last
            while (now := time.perf_counter()) < stop:
                appended = await log.append([store.new_entry(_access())])
                if now >= started:
                    counted += 1
                    if appended.head.checkpoint != last:
                        last = appended.head.checkpoint
                        groups += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        elapsed = time.perf_counter() - started
        group = counted / groups
        size = len(store.new_entry(_access()).data)
        disk = group / fsync_seconds(directory, round(group * size))
        await log.close()
        store.close()
    rate = counted / elapsed
    target = 5000.0
    share = 0.5
    return [
        Result(
            "log_append",
            rate,
            "entries/s",
            disk,
            rate / disk,
            "at least 0.5, and 5,000 entries/s",
            rate >= target and rate / disk >= share,
        ),
        Result("log_append_group", group, "entries/commit", float(CALLERS), group / CALLERS, "", None),
    ]
