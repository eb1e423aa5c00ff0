"""The adapter's composition root: from a profile to a process that answers, and its orderly end.

Everything that the parts need is made here and handed to them; nothing else reads profile, environment or clock. Work
on frames happens in the lanes' threads, everything else on the event loop or in short-lived threads.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Dictionary
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog

from adapters import roster_service, subject_service
from adapters.answers import AnswerWatch
from adapters.check import inspect
from adapters.config import DEFAULT_LISTEN, DRAIN_SECONDS, STOP_GRACE
from adapters.database import connect_to
from adapters.extracts import ExtractMetrics, Extracts
from adapters.frame import FrameProcessor
from adapters.installation import adapter_identity, adapter_paths, pinned_admins, state_files
from adapters.kinds import schemes_of
from adapters.ledger import Ledger
from adapters.link import HubLink, Lanes
from adapters.local import LocalWatch
from adapters.mapping import Mapping, Roster
from adapters.measures import AdapterMetrics
from adapters.pace import Pace
from adapters.standpoint import Standpoints
from adapters.store import ledger_key, open_store
from adapters.trace import Trace
from audit import evidence
from audit import service as audit_service
from audit.appended import Appended, NewEntry
from audit.entry import EntryError, Event
from audit.holds import HoldBook
from audit.query import Scope, scope_of
from audit.search import SearchIndexes, keep_up
from audit.witnessed import make_cosigning
from audit.yearly import YearlyLog
from certs.credentials import IdentityFiles
from certs.expiry import METRIC, METRIC_TEXT, Expiry, ExpiryAlarms, certificate_expiries
from certs.identity import ROOT_METADATA, Identity, Kind
from certs.owner_keys import KEY_ALARM_DAYS, OwnerKeyStore
from certs.sealing import Opener
from certs.signing import CertificateVerifier
from policy.beside import LocalPolicy
from policy.directory import DirectoryClient, DirectoryHolder
from policy.document import parse_document
from policy.emergency_alarms import EmergencyAlarms
from policy.expiries import directory_expiries
from policy.follower import Follower
from policy.incoming import make
from policy.model import Directory, Document
from policy.source import directory_of
from zhiwang.adapter.v1 import roster_pb2_grpc, subject_pb2_grpc
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire import metrics
from zhiwang.wire.channel import RenewableChannel, open_channel
from zhiwang.wire.errors import FatalError, Reason, ZhiwangError
from zhiwang.wire.identifiers import Scheme
from zhiwang.wire.identity import server_name
from zhiwang.wire.process import Process, background
from zhiwang.wire.profile import AdapterPaths, Profile
from zhiwang.wire.readiness import Readiness
from zhiwang.wire.server import build_server
from zhiwang.wire.tomlfile import FileError, Finding

WATCH_SECONDS = 0.25
"""How often readiness is looked at."""

DATABASE_SECONDS = 5.0
"""How often the database is tried, and a log that has stopped is checked anew."""

LOOK_SECONDS = 10.0
"""Between two looks at the columns that attributes use, and at the shares of answers."""

KEYS_SECONDS = 600.0
"""How often it is seen whether sealing keys have to be rotated."""

_log = structlog.get_logger(__name__)


async def main(profile: Profile, process: Process) -> None:
    """Run an adapter until the process is told to stop.

    Raises:
        ZhiwangError: It cannot start.
    """
    files = adapter_identity(profile)
    paths = adapter_paths(profile)
    if not profile.hub:
        raise FatalError(Reason.INTERNAL, f"{profile.path.name}: an adapter needs `hub`")
    adapter = Adapter(profile, files, paths, process)
    try:
        await adapter.start()
        await process.stopping.wait()
    finally:
        await adapter.stop()


class Adapter:
    """One adapter process. Belongs to the event loop.

    Args:
        profile: Who it is and whom it talks to.
        files: Its certificates.
        paths: Its mapping and document.
        process: The process.
    """

    def __init__(self, profile: Profile, files: IdentityFiles, paths: AdapterPaths, process: Process) -> None:
        self._profile = profile
        self._files = files
        self._paths = paths
        self._process = process
        self._clock: Callable[[], float] = time.time
        self._department = files.identity.department
        self._state = state_files(profile)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: list[Callable[[], Any]] = []
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._recorded = b""  # the timestamp that the newest entry about the directory names
        self.readiness = Readiness(("log", "directory", "database"))

    async def start(self) -> None:
        """Put everything together and serve.

        Raises:
            ZhiwangError: A part cannot start.
        """
        files, state, clock = self._files, self._state, self._clock
        self._channels = [self._channel(target) for target in self._profile.hub]
        client = self._directory_client()
        pins = pinned_admins(self._profile, self._department).get(self._department)
        local = LocalPolicy(state.local, self._department, pins, clock)
        await asyncio.to_thread(make, state.local)
        await asyncio.to_thread(local.load)
        holder = self._holder = DirectoryHolder(clock, lambda directory: local.over(directory, client.roles))
        follower = Follower(
            client,
            holder,
            {name: directory_of(channel) for name, channel in zip(self._profile.hub, self._channels, strict=True)},
        )
        await self._begin(follower)
        self._local = LocalWatch(local, client, holder, self.readiness, self._events.put_nowait)
        await self._local.look()
        self._extracts = Extracts(state.extracts, clock)
        self._closing.append(self._extracts.close)
        mapping, document = await asyncio.to_thread(self._inspected)
        # No deny-list: a log whose former key was revoked must still be opened.
        log = self._log = await asyncio.to_thread(
            partial(
                open_store,
                state,
                files.signer(),
                database=self._profile.log,
                verifier=CertificateVerifier(files.ca_pem, frozenset),
            )
        )
        cosigning = self._cosigning = make_cosigning(
            "adapter",
            self._profile.cosigning,
            files,
            state.directory,
            log.shard,
            holder,
            self._events.put_nowait,
            clock,
        )
        await asyncio.to_thread(cosigning.recall)
        self._index = await asyncio.to_thread(SearchIndexes, state.search, log)
        self._keys = OwnerKeyStore(state.owner_keys, files.signer, clock)
        await self._rotate()
        connections = connect_to(mapping.database, self._paths.mapping.parent)
        ledger = self._ledger = Ledger(ledger_key(state), mapping.limits, clock)
        self._trace = Trace(state.keys, clock, apart=self._profile.log is not None)
        answers = self._answers = AnswerWatch(mapping.attribute, state.answers)
        self._standpoints = Standpoints(holder, connections, mapping, ledger, document, answers, clock)
        self._opener = Opener(self._keys.private)
        self._frames = FrameProcessor(
            department=self._department,
            log=log,
            verifier=CertificateVerifier(files.ca_pem, holder.revoked),
            standpoint=self._standpoints.current,
            opener=self._opener,
            ledger=ledger,
            trace=self._trace,
            bulk_hours=mapping.limits.hours,
            withheld=lambda: cosigning.withheld,
            answered=answers.note,
            clock=clock,
        )
        self._lanes = Lanes(
            self._frames.process,
            Pace(mapping.limits.statements_per_second, lambda: connections.statements).pause,
            lambda: 0 if holder.latest is None else holder.latest.version,
        )
        self._links = [
            HubLink(
                channel,
                self._lanes,
                replica=f"{socket.gethostname()[:32]}-{os.getpid()}",
                keys=self._keys.statements,
                version=version("zhiwang"),
                turned_away=self._frames.turn_away,
                prove=partial(audit_service.prove_consistency, log),
                credit=self._paths.credit,
            )
            for channel in self._channels
        ]
        self._glass = EmergencyAlarms(lambda: holder.latest, clock, self._events.put_nowait)
        if holder.latest is not None:
            self._directory_changed(holder.latest)
        holder.on_change(self._directory_changed)
        files.on_change(self._certificates_changed)
        await self._look()
        await self._serve(log, mapping.roster)
        for coroutine in (
            self._local.watch(),
            self._lanes.run(),
            follower.follow(),
            files.watch(),
            ExpiryAlarms(self._expiries, clock, metrics.gauge(METRIC, METRIC_TEXT, ("use",))).watch(),
            self._watch(),
            self._watch_database(),
            self._rotate_keys(),
            self._record_events(),
            *([self._extracts.watch(self._look)] if self._extracts.in_use else []),
            self._regularly(self._standpoints.probe, lambda: self._standpoints.seconds_to_probe),
            self._regularly(self._standpoints.look_at_columns, lambda: LOOK_SECONDS),
            self._regularly(self._standpoints.look_at_answers, lambda: LOOK_SECONDS),
            keep_up(self._index),
            *([cosigning.run()] if self._profile.cosigning.used else []),
            *(link.run() for link in self._links),
        ):
            self._tasks.append(background(coroutine))
        # What lives from here to the end needs no looking at by the garbage collector.
        gc.freeze()

    def _channel(self, target: str) -> RenewableChannel:
        name = server_name(self._files.identity.city, Kind.HUB)
        return RenewableChannel(lambda: open_channel(target, self._files.channel_credentials(), server_name=name))

    def _directory_client(self) -> DirectoryClient:
        return DirectoryClient(
            (self._profile.root / ROOT_METADATA).read_bytes(),
            self._files.ca_pem,
            self._state.policy,
            pins=pinned_admins(self._profile, self._department),
        )

    async def _begin(self, follower: Follower) -> None:
        """Take up what directory there is. Without one the adapter starts, answers nothing and is not ready."""
        try:
            await follower.begin()
        except ZhiwangError as error:
            self._holder.failed(f"{error.reason.name}: {error.detail}")

    def _inspected(self) -> tuple[Mapping, Document]:
        """Mapping and document, if they hold against each other and the database. Blocks.

        Failing probes do not keep the adapter from starting; their attributes are UNAVAILABLE.

        Raises:
            FatalError: DOCUMENT_INVALID: they do not; every finding has been logged.
        """
        paths = self._paths
        try:
            document = parse_document(paths.document)
            if document.department != self._department:
                raise FatalError(Reason.DOCUMENT_INVALID, f"{paths.document.name} is that of {document.department}")
            mapping, report = inspect(
                paths.mapping, document, schemes_of(self._holder.latest), clock=self._clock, extracts=self._extracts
            )
        except FileError as error:
            raise _refused(error.findings) from None
        except OSError as error:
            raise FatalError(Reason.DOCUMENT_INVALID, f"{error.filename}: {error.strerror}") from None
        for warning in report.warnings:
            _log.warning("mapping", at=_place(warning), setting=warning.key, detail=warning.message)
        fatal = [finding for finding in report.findings if not finding.key.startswith("probe")]
        if fatal:
            raise _refused(fatal)
        return mapping, document

    async def _serve(self, log: YearlyLog, rosters: Dictionary[str, Roster]) -> None:
        """The owner's log and index for its own people on this machine, health, reflection and metrics."""
        trace = self._trace
        keeper = roster_service.Keeper(
            self._department,
            rosters,
            log,
            trace,
            self._schemes,
            lambda: self._holder.current,
            CertificateVerifier(self._files.ca_pem, self._holder.revoked),
            self._clock,
        )
        self._server = build_server(
            (
                (
                    subject_pb2_grpc.add_SubjectServiceServicer_to_server,
                    subject_service.SubjectServicer(
                        self._frames.subjects, log, trace, self._ledger, self._schemes, self._scope, self._clock
                    ),
                ),
                (
                    subject_pb2_grpc.add_SubjectAdminServiceServicer_to_server,
                    subject_service.SubjectAdminServicer(
                        self._department, log, trace, self._schemes, self._state.store, HoldBook(log), self._clock
                    ),
                ),
                (roster_pb2_grpc.add_RosterServiceServicer_to_server, roster_service.RosterServicer(keeper)),
                (roster_pb2_grpc.add_ReferralServiceServicer_to_server, roster_service.ReferralServicer(keeper)),
                (
                    audit_pb2_grpc.add_AuditServiceServicer_to_server,
                    audit_service.AuditServicer(
                        log,
                        self._append,
                        self._department,
                        scope=self._scope,
                        index=self._index,
                        cosigned=lambda: self._cosigning.newest,
                    ),
                ),
                (
                    audit_pb2_grpc.add_EvidenceServiceServicer_to_server,
                    evidence.EvidenceServicer(
                        log,
                        self._append,
                        scope=self._scope,
                        office=lambda reader: self._holder.auditor(reader).office,
                        clock=self._clock,
                    ),
                ),
            ),
            {**audit_service.RULES, **evidence.RULES, **subject_service.RULES, **roster_service.RULES},
            city=self._files.identity.city,
            revoked=self._holder.revoked,
            readiness=self.readiness,
            observe=metrics.RpcMetrics(),
            clock=self._clock,
        )
        if self._extracts.in_use:
            ExtractMetrics(self._extracts)
        AdapterMetrics(
            self._frames,
            log,
            lambda: sum(link.attached for link in self._links),
            self._standpoints,
            self._answers,
            local=lambda: self._local.standing,
        )
        served = metrics.MetricsServer(self._profile.metrics) if self._profile.metrics is not None else None
        if served is not None:
            self._closing.append(served.close)
        address = self._server.listen(self._profile.listen or DEFAULT_LISTEN, self._files.server_credentials())
        await self._server.start()
        self._process.announce(listen=address, metrics=served.address if served is not None else None)

    def _schemes(self) -> Dictionary[str, Scheme]:
        return schemes_of(self._holder.current)

    def _scope(self, reader: Identity) -> Scope:
        seen = self._holder.auditor(reader)
        return scope_of(reader, self._department, office=seen.office, place=str(seen.home or ""))

    async def _append(self, entries: Sequence[NewEntry]) -> Appended:
        """Record a read of the log, or what is held and produced of it."""
        return await asyncio.to_thread(self._frames.append, entries)

    # What changes while it runs.

    def _directory_changed(self, directory: Directory) -> None:
        self._standpoints.refresh(directory)
        self._lanes.reached(directory.version)
        if directory.timestamp_hash != self._recorded:
            self._recorded = directory.timestamp_hash
            self._events.put_nowait(
                audit_pb2.DirectoryChange(directory_version=directory.version, timestamp_hash=directory.timestamp_hash)
            )
        self._glass.look(directory)

    def _certificates_changed(self) -> None:
        self._log.signer = self._files.signer()
        for channel in self._channels:
            channel.renew()

    def _expiries(self) -> list[Expiry]:
        return [
            *certificate_expiries(self._files),
            *directory_expiries(self._holder.latest, self._department),
            Expiry(
                "owner_key",
                f"the newest sealing key of {self._department}",
                self._keys.expires,
                "the adapter makes the next one by itself; see its log for why it did not",
                days=KEY_ALARM_DAYS,
            ),
        ]

    async def _rotate(self) -> bool:
        """Rotate sealing keys if it is time, and have new ones recorded."""
        known = {statement.key for statement in self._keys.statements()}
        if not await asyncio.to_thread(self._keys.refresh):
            return False
        for statement in self._keys.statements():
            if statement.key not in known:
                key = sealed_pb2.OwnerKey.FromString(statement.key)
                self._events.put_nowait(audit_pb2.OwnerKeyPublished(key_id=key.key_id, serial=key.serial))
        return True

    async def _rotate_keys(self) -> None:
        while True:
            await asyncio.sleep(KEYS_SECONDS)
            try:
                rotated = await self._rotate()
            except (ZhiwangError, OSError) as error:
                # A full disk passes; keys must go on being made, and dead ones destroyed.
                _log.error("sealing keys were not rotated", error=type(error).__name__)
                continue
            if rotated:
                self._opener.forget()
                for link in self._links:
                    link.announce_keys()

    async def _record_events(self) -> None:
        """Write what happened to the log; wait for a log that has stopped."""
        while True:
            event = await self._events.get()
            entries: list[NewEntry] = []
            while True:
                try:
                    # The same entry each time: it may be in a log that stopped before it could say so.
                    entries = entries or [self._log.new_entry(event)]
                    await asyncio.to_thread(self._frames.append, entries)
                except ZhiwangError:
                    await asyncio.sleep(DATABASE_SECONDS)
                    continue
                except EntryError as error:
                    # Nothing of it is in the log, and waiting changes nothing; what comes after it must be recorded.
                    _log.error("an event is lost to the log", kind=event.DESCRIPTOR.name, detail=str(error))
                    break
                if isinstance(event, audit_pb2.LocalPolicyChange):
                    await self._local.recorded(event)
                break

    async def _watch(self) -> None:
        """Keep readiness true to log and directory."""
        while True:
            await self.readiness.set("log", self._log.healthy)
            await self.readiness.set("directory", self._holder.fresh)
            await asyncio.sleep(WATCH_SECONDS)

    async def _watch_database(self) -> None:
        """Keep readiness true to the database; look again at a log that has stopped; count refusals into the log."""
        while True:
            await self.readiness.set("database", await asyncio.to_thread(self._standpoints.database_answers))
            try:
                await asyncio.to_thread(self._frames.housekeep)
            except ZhiwangError as error:
                _log.error("the log stays stopped", detail=error.detail)
            except Exception as error:  # noqa: BLE001 - else nobody would look at log and database again
                _log.error("the log stays stopped", exc_info=error)
            await asyncio.sleep(DATABASE_SECONDS)

    async def _look(self) -> None:
        """See which columns are relied on, and which probes fail: before the first request comes, and after a load."""
        await asyncio.to_thread(self._standpoints.look_at_columns)
        await asyncio.to_thread(self._standpoints.probe)

    async def _regularly(self, act: Callable[[], None], seconds: Callable[[], float]) -> None:
        """Do something that blocks again and again, whatever came of it the time before."""
        while True:
            await asyncio.sleep(seconds())
            try:
                await asyncio.to_thread(act)
            except Exception as error:  # noqa: BLE001 - else nobody would look again
                _log.error("what is watched could not be looked at", exc_info=error)

    async def stop(self) -> None:
        """Not ready; take nothing more; finish what is here; then end."""
        await self.readiness.close()
        if hasattr(self, "_links"):
            await asyncio.gather(*(link.drain(DRAIN_SECONDS) for link in self._links))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "_cosigning"):
            await self._cosigning.close()
        if hasattr(self, "_lanes"):
            await asyncio.to_thread(self._lanes.close)
        if hasattr(self, "_server"):
            await self._server.stop(STOP_GRACE)
        for channel in getattr(self, "_channels", []):
            await channel.close()
        for close in self._closing:
            close()
        if hasattr(self, "_standpoints"):
            self._standpoints.close()
        if hasattr(self, "_index"):
            self._index.close()
        if hasattr(self, "_log"):
            self._log.close()
            self._log.engine.dispose()


def _place(finding: Finding) -> str:
    return f"{Path(finding.file).name}:{finding.line}"


def _refused(findings: Iterable[Finding]) -> FatalError:
    """Log every finding; the error to raise."""
    listed = list(findings)
    for finding in listed:
        _log.error("mapping", at=_place(finding), setting=finding.key, detail=finding.message)
    return FatalError(
        Reason.DOCUMENT_INVALID,
        f"mapping and document do not hold: {len(listed)} findings; see `zhiwang adapter check`",
    )
