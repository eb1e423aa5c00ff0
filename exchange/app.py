"""The hub's composition root: from a profile to a process that serves, and its orderly end.

Everything that the parts need is made here and handed to them; nothing else reads profile, environment or clock.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import Counter, Histogram

from audit import evidence
from audit import service as audit_service
from audit.appended import Head
from audit.log import AuditLog
from audit.query import Scope, scope_of
from audit.search import SearchIndex, SearchIndexes, keep_up
from audit.witnessed import make_cosigning
from certs.credentials import IdentityFiles
from certs.expiry import METRIC, METRIC_TEXT, ExpiryAlarms, certificate_expiries
from certs.identity import ROOT_METADATA, Identity, Kind
from certs.signing import CertificateVerifier
from exchange.config import DEFAULT_LISTEN, DRAIN_SECONDS, STOP_GRACE, StateFiles
from exchange.decisions import DECISION_RULES, DecisionServicer
from exchange.hub import Hub
from exchange.link import Links
from exchange.owner_log import OwnerLog
from exchange.readiness import keep_true
from exchange.recording import Meter
from exchange.service import AdapterServicer, ExchangeServicer
from exchange.store import join_log, open_log
from exchange.verify import Examiner
from exchange.views import OwnerViews
from policy.archive import Archive
from policy.authorise import Authorisation, authorise
from policy.directory import DirectoryClient, DirectoryHolder
from policy.emergency_alarms import EmergencyAlarms
from policy.expiries import directory_expiries
from policy.follower import Follower
from policy.mirror import Mirror
from policy.reading import POLICY_RULES, PolicyDesk, PolicyServicer
from policy.service import DIRECTORY_RULES, DirectoryServicer
from policy.source import directory_of
from policy.workers import Workers
from zhiwang.adapter.v1 import adapter_pb2_grpc
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.exchange.v1 import exchange_pb2_grpc
from zhiwang.policy.v1 import decisions_pb2_grpc, policy_pb2_grpc
from zhiwang.wire import metrics
from zhiwang.wire.channel import RenewableChannel, open_channel
from zhiwang.wire.errors import FatalError, Reason, ZhiwangError
from zhiwang.wire.header import Header
from zhiwang.wire.identity import server_name
from zhiwang.wire.process import Process, background
from zhiwang.wire.profile import Profile
from zhiwang.wire.readiness import Readiness
from zhiwang.wire.server import RpcRules, Server, build_server

SAVE_SECONDS = 5.0
"""How often what was seen of owners' logs is written."""

REQUESTERS = frozenset({Kind.SYSTEM, Kind.AGENT})

RULES: RpcRules = {
    "/zhiwang.exchange.v1.ExchangeService/Exchange": REQUESTERS,
    "/zhiwang.exchange.v1.ExchangeService/ExchangeStream": REQUESTERS,
    "/zhiwang.exchange.v1.ExchangeService/GetOwnerKeys": REQUESTERS,
    "/zhiwang.adapter.v1.AdapterService/Attach": frozenset({Kind.ADAPTER}),
    **DIRECTORY_RULES,
    **POLICY_RULES,
    **DECISION_RULES,
    **audit_service.RULES,
    **evidence.RULES,
}
"""Who may call what at the hub."""

_log = structlog.get_logger(__name__)


def _unlinked(log: OwnerLog) -> int:
    return log.view.unlinked


def _given_up(log: OwnerLog) -> int:
    return log.view.given_up


def _distrusted(log: OwnerLog) -> int:
    return log.overdue or log.view.fork is not None


def _over_logs(hub: Callable[[], Hub], number: Callable[[OwnerLog], int]) -> int:
    return sum(map(number, hub().links.logs))


class HubMetrics(Meter):
    """What the hub counts. Labels are outcomes, reasons and departments; none comes from a request's content."""

    def __init__(self, hub: Callable[[], Hub], holder: DirectoryHolder) -> None:
        self._requests = metrics.counter(
            "zhiwang_hub_requests", "Requests settled, by what became of them", ("outcome", "reason")
        )
        self._children: dict[tuple[str, str], Counter] = {}
        metrics.gauge("zhiwang_hub_in_flight", "Requests with owners or waiting for one").set_function(
            lambda: hub().in_flight
        )
        metrics.gauge("zhiwang_hub_links", "Adapters attached").set_function(lambda: sum(1 for _ in hub().links))
        for name, text, number in (
            ("unlinked", "Heads of owners' logs that are not yet related to the newest", _unlinked),
            ("given_up", "Heads of owners' logs that were never related to the newest", _given_up),
        ):
            metrics.gauge(f"zhiwang_hub_owner_heads_{name}", text).set_function(partial(_over_logs, hub, number))
        metrics.gauge(
            "zhiwang_hub_owner_logs_distrusted", "Owners' logs that forked, or do not say how their heads are related"
        ).set_function(partial(_over_logs, hub, _distrusted))
        metrics.gauge("zhiwang_hub_log_size", "Entries of the hub's log").set_function(
            lambda: hub().audit_log.store.newest.size
        )
        metrics.gauge(
            "zhiwang_hub_log_year_unprepared", "1 if the log of the next year could not begin, else 0"
        ).set_function(lambda: hub().audit_log.store.unprepared is not None)
        metrics.gauge("zhiwang_hub_directory_version", "Version of the directory's snapshot in force").set_function(
            lambda: getattr(holder.latest, "version", 0)
        )
        metrics.gauge(
            "zhiwang_hub_directory_expire_time_seconds", "When the directory in force expires, since the epoch"
        ).set_function(lambda: getattr(holder.latest, "expires", 0.0))
        self._owners = metrics.histogram(
            "zhiwang_hub_owner_seconds", "Time from a request's arrival to its owner's reply", ("owner",)
        )
        self._by_owner: dict[str, Histogram] = {}

    def replied(self, owner: str, seconds: float) -> None:
        """Note how long an owner took."""
        child = self._by_owner.get(owner)
        if child is None:
            child = self._by_owner[owner] = self._owners.labels(owner)
        child.observe(seconds)

    def count(self, outcome: str, reason: str, number: int) -> None:
        """Note settled requests."""
        child = self._children.get((outcome, reason))
        if child is None:
            child = self._children[outcome, reason] = self._requests.labels(outcome, reason)
        child.inc(number)


@dataclass(frozen=True, slots=True)
class Parts:
    """A hub that is put together but not yet listening.

    Attributes:
        hub: The work.
        server: Its gRPC server.
        exchange: The servicer whose streams have to be ended before the server stops.
        readiness: Conditions "log" and "directory".
        workers: Processes in which policy is worked out.
    """

    hub: Hub
    server: Server
    exchange: ExchangeServicer
    readiness: Readiness
    workers: Workers


def assemble(
    identity: Identity,
    ca_pem: bytes,
    holder: DirectoryHolder,
    mirror: Mirror,
    audit_log: AuditLog,
    views: OwnerViews,
    *,
    index: SearchIndexes | SearchIndex | None = None,
    cosigned: Callable[[], Head | None] = lambda: None,
    withheld: Callable[[], bool] = lambda: False,
    meter: Meter | None = None,
    observe: metrics.RpcMetrics | None = None,
    root_json: bytes = b"",
    published: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Parts:
    """Put a hub together around a log that is open and a directory that may still change."""
    verifier = CertificateVerifier(ca_pem, holder.revoked)

    def decide(header: Header, requester: Identity, now: float) -> Authorisation:
        return authorise(holder.enforcer, header, requester, now)

    hub = Hub(
        examiner=Examiner(verifier, decide),
        directory=holder,
        audit_log=audit_log,
        links=Links(views.view),
        clock=clock,
        meter=meter,
        withheld=withheld,
    )
    exchange = ExchangeServicer(hub, clock)
    adapters = AdapterServicer(hub, verifier, identity, clock)

    def scope(reader: Identity) -> Scope:
        if reader.kind is Kind.ADMIN and reader.department != identity.department:
            # What it was asked stands in its own log as well, where it may read all of it.
            return Scope(owner=reader.department)
        seen = holder.auditor(reader)
        return scope_of(reader, identity.department, office=seen.office, place=str(seen.home or ""))

    audits = audit_service.AuditServicer(
        audit_log.store, audit_log.append, identity.department, scope=scope, index=index, cosigned=cosigned
    )
    evidences = evidence.EvidenceServicer(
        audit_log.store, audit_log.append, scope=scope, office=lambda reader: holder.auditor(reader).office, clock=clock
    )
    workers = Workers()
    desk = PolicyDesk(holder, workers, clock, root_json=root_json, published=published)
    policies = PolicyServicer(desk)
    readiness = Readiness(("log", "directory"))
    server = build_server(
        (
            (exchange_pb2_grpc.add_ExchangeServiceServicer_to_server, exchange),
            (adapter_pb2_grpc.add_AdapterServiceServicer_to_server, adapters),
            (exchange_pb2_grpc.add_DirectoryServiceServicer_to_server, DirectoryServicer(mirror)),
            (policy_pb2_grpc.add_PolicyServiceServicer_to_server, policies),
            (decisions_pb2_grpc.add_DecisionServiceServicer_to_server, DecisionServicer(desk, policies, audits)),
            (audit_pb2_grpc.add_AuditServiceServicer_to_server, audits),
            (audit_pb2_grpc.add_EvidenceServiceServicer_to_server, evidences),
        ),
        RULES,
        city=identity.city,
        revoked=holder.revoked,
        readiness=readiness,
        observe=observe,
        clock=clock,
    )
    return Parts(hub, server, exchange, readiness, workers)


async def stop(parts: Parts, seconds: float = DRAIN_SECONDS) -> None:
    """Not serving; finish what is with owners; end links and streams; then the server."""
    await parts.readiness.close()
    await parts.hub.finish(seconds)
    for link in list(parts.hub.links):
        link.drain()
        link.end()
    parts.exchange.end_streams()
    await parts.server.stop(STOP_GRACE)
    await parts.workers.close()


def hub_identity(profile: Profile) -> IdentityFiles:
    """The certificates of the profile, which must be a hub's.

    Raises:
        FatalError: CERTIFICATE_INVALID.
    """
    files = IdentityFiles(profile.identity, profile.root)
    if files.identity.kind is not Kind.HUB:
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{files.identity.short} is no hub; is this the right profile?")
    return files


def init(profile: Profile, *, join: bool = False) -> None:
    """Make the state of a hub: directories and an empty log, or the guard of one that it shares. Once, deliberately.

    Args:
        profile: The hub's.
        join: The log is there already: other hubs of this identity keep it.

    Raises:
        FatalError: There is one already, or the certificates are not a hub's.
    """
    files = hub_identity(profile)
    state = StateFiles(profile.state)
    make_state(state)
    if join:
        join_log(files, state, profile.log)
        return
    store = open_log(files, state, profile.log, create=True)
    store.close()
    store.engine.dispose()


def make_state(state: StateFiles) -> None:
    """Make the directories of a hub."""
    for directory in (state.directory, state.guard.parent, state.owner_logs, state.policy):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


async def main(profile: Profile, process: Process) -> None:
    """Run a hub until the process is told to stop.

    Raises:
        ZhiwangError: It cannot start.
    """
    files = hub_identity(profile)
    if profile.registrar is None:
        raise FatalError(Reason.INTERNAL, f"{profile.path.name}: a hub needs `registrar`, to mirror the directory")
    state = StateFiles(profile.state)
    clock = time.time
    store = await asyncio.to_thread(open_log, files, state, profile.log)
    index = await asyncio.to_thread(SearchIndexes, state.search, store)
    audit_log = AuditLog(store)
    holder, mirror = DirectoryHolder(clock), Mirror(Archive(state.published))
    verifier = CertificateVerifier(files.ca_pem, holder.revoked)
    views = OwnerViews(state.owner_logs, verifier, clock)
    counts = HubMetrics(lambda: parts.hub, holder)

    def quorum_changed(change: audit_pb2.QuorumChange) -> None:
        parts.hub.note_event(change)

    cosigning = make_cosigning(
        "hub",
        profile.cosigning,
        files,
        state.directory,
        audit_log.store.shard,
        holder,
        quorum_changed,
        clock,
    )
    await asyncio.to_thread(cosigning.recall)
    parts = assemble(
        files.identity,
        files.ca_pem,
        holder,
        mirror,
        audit_log,
        views,
        index=index,
        cosigned=lambda: cosigning.newest,
        withheld=lambda: cosigning.withheld,
        meter=counts,
        observe=metrics.RpcMetrics(),
        root_json=(profile.root / ROOT_METADATA).read_bytes(),
        published=state.published,
        clock=clock,
    )
    registrar = _registrar(files, profile.registrar)
    client = DirectoryClient((profile.root / ROOT_METADATA).read_bytes(), files.ca_pem, state.policy)
    follower = Follower(client, holder, {profile.registrar: directory_of(registrar)}, mirror=mirror)

    def certificates_changed() -> None:
        registrar.renew()
        store.signer = files.signer()

    holder.on_change(parts.hub.note_directory)
    holder.on_change(EmergencyAlarms(lambda: holder.latest, clock, parts.hub.note_event).look)
    files.on_change(certificates_changed)
    alarms = ExpiryAlarms(
        lambda: [*certificate_expiries(files), *directory_expiries(holder.latest, files.identity.department)],
        clock,
        metrics.gauge(METRIC, METRIC_TEXT, ("use",)),
    )
    tasks = [
        background(alarms.watch()),
        background(_start_following(follower, holder)),
        background(parts.hub.housekeep()),
        background(keep_true(parts.readiness, holder, audit_log)),
        background(_keep_views(views)),
        background(keep_up(index)),
        background(files.watch()),
        background(cosigning.run()),
    ]
    served = metrics.MetricsServer(profile.metrics) if profile.metrics is not None else None
    address = parts.server.listen(profile.listen or DEFAULT_LISTEN, files.server_credentials())
    await parts.server.start()
    process.announce(listen=address, metrics=served.address if served is not None else None)
    # What lives from here to the end needs no looking at by the garbage collector.
    gc.freeze()
    try:
        await process.stopping.wait()
    finally:
        await stop(parts)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await cosigning.close()
        await registrar.close()
        await asyncio.to_thread(views.save, views.changed())
        await audit_log.close()
        index.close()
        store.engine.dispose()
        if served is not None:
            served.close()


def _registrar(files: IdentityFiles, target: str) -> RenewableChannel:
    return RenewableChannel(
        lambda: open_channel(
            target, files.channel_credentials(), server_name=server_name(files.identity.city, Kind.REGISTRAR)
        )
    )


async def _start_following(follower: Follower, holder: DirectoryHolder) -> None:
    """Take up what there is, then each newer directory. Without one the hub serves, but is not ready."""
    try:
        await follower.begin()
    except ZhiwangError as error:
        holder.failed(f"{error.reason.name}: {error.detail}")
    await follower.follow()


async def _keep_views(views: OwnerViews) -> None:
    while True:
        await asyncio.sleep(SAVE_SECONDS)
        changed = views.changed()
        if not changed:
            continue
        try:
            await asyncio.to_thread(views.save, changed)
        except OSError as error:
            # A full disk passes; what was seen must not go unwritten from then on.
            _log.error("what was seen of owners' logs cannot be written", error=type(error).__name__)
            views.not_saved(changed)
