"""A log that is served over mTLS, with an auditor's profile and the command that a person runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from audit.evidence import RULES as EVIDENCE_RULES
from audit.evidence import EvidenceServicer
from audit.log import AuditLog
from audit.query import Scope, scope_of
from audit.search import SearchIndex
from audit.service import RULES, AuditServicer
from audit.sqlite import open_sqlite
from audit.store import LogStore
from certs.identity import Identity
from certs_support import City
from zhiwang.audit.v1 import audit_pb2_grpc
from zhiwang.wire.server import build_server

ZHIWANG = Path(sys.executable).with_name("zhiwang")


@dataclass
class Served:
    log: AuditLog
    index: SearchIndex
    address: str


@asynccontextmanager
async def served(city: City, short: str, path: Path) -> AsyncIterator[Served]:
    files = city.enrol(short)
    store = LogStore(open_sqlite(path, create=True), files.identity.log_origin, files.signer())
    store.create()
    log = AuditLog(store)
    index = SearchIndex(path.with_suffix(".search"), store)

    def scope(reader: Identity) -> Scope:
        """As the directory would say: an audit office, a district's auditor, and everybody else."""
        place = "nbs:440305" if reader.department == "district" else ""
        return scope_of(reader, files.identity.department, office=reader.department == "office", place=place)

    audits = AuditServicer(store, log.append, files.identity.department, scope=scope, index=index)
    evidence = EvidenceServicer(store, log.append, scope=scope, office=lambda reader: reader.department == "office")
    services = (
        (audit_pb2_grpc.add_AuditServiceServicer_to_server, audits),
        (audit_pb2_grpc.add_EvidenceServiceServicer_to_server, evidence),
    )
    server = build_server(services, {**RULES, **EVIDENCE_RULES}, city="shenzhen")
    address = server.listen("127.0.0.1:0", files.server_credentials())
    await server.start()
    try:
        yield Served(log, index, address)
    finally:
        await server.stop(0)
        await log.close()
        index.close()
        store.engine.dispose()


def write_profile(city: City, short: str, hub: str = "") -> Path:
    city.enrol(short)
    path = city.directory / f"{short.replace('/', '-')}.toml"
    hubs = f'hub = ["{hub}"]\n' if hub else ""
    path.write_text(f'{hubs}root = "root"\nidentity = "identities/{short}"\nstate = "state-{path.stem}"\n', "utf-8")
    return path


async def zhiwang(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    def run() -> subprocess.CompletedProcess[str]:
        command = [str(ZHIWANG), "audit", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - ours

    done = await asyncio.to_thread(run)
    assert done.returncode == status, done.stderr
    return done
