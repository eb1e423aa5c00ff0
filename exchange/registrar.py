"""The registrar's process: the directory, what admins propose, and the log of every step. The composition root.

Its log is by the same code as the hub's and the owners'. A step that can wait is refused while it cannot be recorded; a
publication that is signed by enough comes into force all the same, since it may be a revocation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

from audit import evidence
from audit import service as audit_service
from audit.entry import decode_entry, event_number
from audit.log import AuditLog
from audit.origins import year_of
from audit.query import Scope, scope_of
from audit.search import SearchIndexes, keep_up
from audit.witnessed import make_cosigning
from audit.yearly import YearlyLog
from certs.credentials import IdentityFiles
from certs.expiry import METRIC, METRIC_TEXT, ExpiryAlarms, certificate_expiries
from certs.identity import ROOT_METADATA
from exchange.config import StateFiles
from exchange.readiness import RELOAD_SECONDS, keep_true
from exchange.store import open_log
from policy import registrar as policy_registrar
from policy.directory import DirectoryHolder
from policy.emergency_alarms import EmergencyAlarms, remind
from policy.expiries import directory_expiries
from policy.guard import GUARD
from policy.model import Directory
from policy.reading import POLICY_RULES, PolicyDesk, PolicyServicer
from policy.registrar import DEFAULT_LISTEN, PUBLISHED, Recorded, Registrar, open_repository
from policy.service import DIRECTORY_RULES, POLICY_ADMIN_RULES, DirectoryServicer, PolicyAdminServicer
from policy.steps import Step
from policy.workers import Workers
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.exchange.v1 import exchange_pb2_grpc
from zhiwang.policy.v1 import policy_pb2_grpc
from zhiwang.wire.errors import FatalError, Reason, ZhiwangError
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.metrics import MetricsServer, RpcMetrics, gauge
from zhiwang.wire.process import Process, background
from zhiwang.wire.profile import Profile
from zhiwang.wire.readiness import Readiness
from zhiwang.wire.server import build_server

PROPOSALS: Final = "proposals"
STOP_GRACE: Final = 5.0
PAGE: Final = 1000


def init(profile: Profile) -> Path:
    """Make the registrar's keys, its empty repository and its log; once, deliberately.

    Returns:
        The file with the public keys, which the root ceremony needs.

    Raises:
        FatalError: There is a registrar already, or the certificates are not a registrar's.
    """
    files = registrar_identity(profile)
    path = policy_registrar.init(profile.state)
    make_log(profile, files)
    return path


def make_log(profile: Profile, files: IdentityFiles) -> None:
    """Make the log of a registrar.

    Raises:
        FatalError: LOG_UNAVAILABLE: there is one, or there was.
    """
    store = open_log(files, StateFiles(profile.state), profile.log, create=True)
    store.close()
    store.engine.dispose()


def registrar_identity(profile: Profile) -> IdentityFiles:
    """The certificates of the profile, which must be a registrar's.

    Raises:
        FatalError: CERTIFICATE_INVALID.
    """
    files = IdentityFiles(profile.identity, profile.root)
    if files.identity.kind is not Kind.REGISTRAR:
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{files.identity.short} is no registrar")
    return files


def recorded(store: YearlyLog) -> Recorded:
    """What the log holds of publications and emergencies, in whichever year. Reads the whole of it; blocks."""
    versions: dict[str, int] = {}
    emergencies = []
    for entry in _entries(
        store, {audit_pb2.Entry.POLICY_STEP_FIELD_NUMBER, audit_pb2.Entry.EMERGENCY_STEP_FIELD_NUMBER}
    ):
        step = entry.policy_step
        if entry.HasField("emergency_step"):
            emergencies.append(entry.emergency_step)
        elif step.action == audit_pb2.POLICY_ACTION_PUBLISHED:
            versions[step.role] = max(versions.get(step.role, 0), step.role_version)
    return Recorded(versions, emergencies)


def _entries(store: YearlyLog, events: Container[int | None]) -> Iterator[audit_pb2.Entry]:
    """Entries of some kinds, in whichever year, oldest first."""
    for log in sorted(store.shards(), key=lambda one: year_of(one.origin)):
        for start in range(0, log.newest.size, PAGE):
            for data in log.entries(start, PAGE):
                if event_number(data) in events:
                    yield decode_entry(data)


async def record(log: AuditLog, step: Step | audit_pb2.EmergencyStep) -> None:
    """Make a step durable.

    Raises:
        ZhiwangError: It could not be.
    """
    if isinstance(step, audit_pb2.EmergencyStep):
        await log.record(step)
        return
    await log.record(
        audit_pb2.PolicyStep(
            action=audit_pb2.PolicyAction.ValueType(step.action.value),
            admin="" if step.admin is None else step.admin.uri,
            role=step.role,
            role_version=step.role_version,
            proposal_id=step.proposal_id,
            content_hash=step.content_hash,
            key_ids=step.key_ids,
            directory_version=step.directory_version,
            note=step.note,
        )
    )


async def serve(process: Process, profile: Profile) -> None:
    """Run the registrar until the process is told to stop.

    Raises:
        FatalError: What is needed is missing or does not hold together.
    """
    files = registrar_identity(profile)
    if profile.cosigning.stop_releasing_after is not None:
        raise FatalError(
            Reason.INTERNAL,
            f"{profile.path.name}: a registrar releases no answers; take cosigning.stop_releasing_after away. "
            "A revocation must come into force whoever cosigns",
        )
    repository = open_repository(profile)
    state = StateFiles(profile.state)
    store = await asyncio.to_thread(open_log, files, state, profile.log)
    index = await asyncio.to_thread(SearchIndexes, state.search, store)
    log = AuditLog(store)
    changes: asyncio.Queue[audit_pb2.QuorumChange] = asyncio.Queue()
    registrar = Registrar(
        repository,
        guard_file=profile.state / GUARD,
        published=profile.state / PUBLISHED,
        proposals=profile.state / PROPOSALS,
        journal=lambda step: record(log, step),
    )
    readiness = Readiness(["log", "directory"])

    def scope(reader: Identity) -> Scope:
        if reader.kind is Kind.ADMIN and reader.department != files.identity.department:
            # What its department's admins did, and what was done to its roles.
            return Scope(department=reader.department)
        return scope_of(reader, files.identity.department, office=registrar.holder.auditor(reader).office)

    workers = Workers()
    desk = PolicyDesk(
        registrar.holder,
        workers,
        time.time,
        root_json=(profile.root / ROOT_METADATA).read_bytes(),
        published=profile.state / PUBLISHED,
    )
    admins = PolicyAdminServicer(registrar, files.identity.department)
    audits = audit_service.AuditServicer(
        store, log.append, files.identity.department, scope=scope, index=index, cosigned=lambda: cosigning.newest
    )
    server = build_server(
        [
            (exchange_pb2_grpc.add_DirectoryServiceServicer_to_server, DirectoryServicer(registrar.mirror)),
            (policy_pb2_grpc.add_PolicyAdminServiceServicer_to_server, admins),
            (audit_pb2_grpc.add_AuditServiceServicer_to_server, audits),
            (
                audit_pb2_grpc.add_EvidenceServiceServicer_to_server,
                evidence.EvidenceServicer(
                    store, log.append, scope=scope, office=lambda reader: registrar.holder.auditor(reader).office
                ),
            ),
            (policy_pb2_grpc.add_PolicyServiceServicer_to_server, PolicyServicer(desk, admins.proposed)),
        ],
        {**DIRECTORY_RULES, **POLICY_ADMIN_RULES, **POLICY_RULES, **audit_service.RULES, **evidence.RULES},
        city=files.identity.city,
        revoked=registrar.holder.revoked,
        readiness=readiness,
        observe=RpcMetrics(),
    )
    metrics = None if profile.metrics is None else MetricsServer(profile.metrics)

    def certificates_changed() -> None:
        store.signer = files.signer()

    _tell_of(registrar.holder)
    files.on_change(certificates_changed)
    alarms = ExpiryAlarms(
        lambda: [*certificate_expiries(files), *directory_expiries(registrar.holder.latest, files.identity.department)],
        time.time,
        gauge(METRIC, METRIC_TEXT, ("use",)),
    )

    cosigning = make_cosigning(
        "registrar",
        profile.cosigning,
        files,
        state.directory,
        store.shard,
        registrar.holder,
        changes.put_nowait,
        time.time,
    )
    await asyncio.to_thread(cosigning.recall)

    async def make_good() -> None:
        await registrar.make_good(lambda: recorded(store))

    await make_good()
    # Before anybody is served: the last timestamp may be as old as the last stop.
    signed = await registrar.try_resign()
    tasks = [
        background(registrar.keep_fresh(signed=signed)),
        background(keep_true(readiness, registrar.holder, log, make_good)),
        background(keep_up(index)),
        background(_record_changes(log, changes)),
        background(files.watch()),
        background(alarms.watch()),
        *([background(cosigning.run())] if profile.cosigning.used else []),
        background(remind(lambda: registrar.openings.unreviewed)),
    ]
    try:
        listen = server.listen(profile.listen or DEFAULT_LISTEN, files.server_credentials())
        await server.start()
        process.announce(listen=listen, metrics=None if metrics is None else metrics.address)
        await process.stopping.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await cosigning.close()
        await server.stop(STOP_GRACE)
        await workers.close()
        await log.close()
        index.close()
        store.engine.dispose()
        if metrics is not None:
            metrics.close()


def _tell_of(holder: DirectoryHolder) -> None:
    """Metrics and alarms about what is in force."""
    expires = gauge("zhiwang_directory_expire_time_seconds", "When the directory's timestamp expires, since the epoch")
    version = gauge("zhiwang_directory_version", "Version of the directory's snapshot")

    def note(directory: Directory) -> None:
        expires.set(directory.expires)
        version.set(directory.version)

    holder.on_change(note)
    holder.on_change(EmergencyAlarms(lambda: holder.latest, time.time).look)


async def _record_changes(log: AuditLog, changes: asyncio.Queue[audit_pb2.QuorumChange]) -> None:
    """Write to the log when its witnesses were missing, and wait for a log that has stopped."""
    while True:
        entry = log.store.new_entry(await changes.get())
        while True:
            try:
                await log.append([entry])
                break
            except ZhiwangError:
                await asyncio.sleep(RELOAD_SECONDS)
