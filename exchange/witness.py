"""The witness's composition root: from a profile to a process that cosigns, and its orderly end.

State directory: `witness.key` (0600, the key that everybody pins; made once, never renewed in place), `witness.vkey`
(its public half), `witness.db` (what was cosigned), `guard/sizes.json` (the same in short, best on other storage),
`evidence/` (checkpoints that contradict what was cosigned), `directory/` (the city's, for revocations).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from audit.checkpoint import CheckpointError
from audit.cosignature import parse_witness_key
from audit.witness import OK, Answer, KnownLogs, Witness
from audit.witness_http import WitnessServer
from audit.witness_store import WitnessStore
from certs.credentials import IdentityFiles
from certs.expiry import METRIC, METRIC_TEXT, ExpiryAlarms, certificate_expiries
from certs.identity import ROOT_METADATA, Kind, read_private, write_private, write_public
from certs.signing import CertificateVerifier
from policy.directory import DirectoryClient, DirectoryHolder
from policy.follower import Follower
from policy.source import directory_of
from zhiwang.wire import metrics
from zhiwang.wire.channel import RenewableChannel, open_channel
from zhiwang.wire.errors import FatalError, Reason, ZhiwangError
from zhiwang.wire.identity import server_name
from zhiwang.wire.process import Process, background
from zhiwang.wire.profile import Profile, WitnessedLog
from zhiwang.wire.vkey import ALGORITHM_COSIGNATURE, VerifierKey

DEFAULT_LISTEN = "127.0.0.1:7444"
"""Where a witness listens unless its profile says otherwise."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StateFiles:
    """A witness's state directory.

    Attributes:
        directory: All of it; 0700.
    """

    directory: Path

    @property
    def key(self) -> Path:
        """The private key, 0600."""
        return self.directory / "witness.key"

    @property
    def vkey(self) -> Path:
        """The verifier key."""
        return self.directory / "witness.vkey"

    @property
    def store(self) -> Path:
        """What was cosigned (SQLite)."""
        return self.directory / "witness.db"

    @property
    def guard(self) -> Path:
        """Sizes of what was cosigned; put this directory on other storage than the store."""
        return self.directory / "guard" / "sizes.json"

    @property
    def evidence(self) -> Path:
        """Checkpoints that contradict what was cosigned."""
        return self.directory / "evidence"

    @property
    def policy(self) -> Path:
        """The directory as it was verified last."""
        return self.directory / "directory"


def witness_identity(profile: Profile) -> IdentityFiles:
    """The certificates of the profile, which must be a witness's.

    Raises:
        FatalError: CERTIFICATE_INVALID.
    """
    files = IdentityFiles(profile.identity, profile.root)
    if files.identity.kind is not Kind.WITNESS:
        raise FatalError(
            Reason.CERTIFICATE_INVALID, f"{files.identity.short} is no witness; is this the right profile?"
        )
    return files


def init(profile: Profile) -> VerifierKey:
    """Make a witness's state: its key and an empty memory. Once, deliberately.

    Raises:
        FatalError: There is one already, or the certificates are not a witness's.
    """
    files = witness_identity(profile)
    state = StateFiles(profile.state)
    if state.key.exists():
        raise FatalError(Reason.INTERNAL, f"{state.directory} holds a witness already; it is never replaced")
    for directory in (state.directory, state.guard.parent, state.evidence, state.policy):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    WitnessStore.create(state.store, state.guard).close()
    private = Ed25519PrivateKey.generate()
    key = VerifierKey(files.identity.log_origin, private.public_key().public_bytes_raw(), ALGORITHM_COSIGNATURE)
    write_public(state.vkey, f"{key}\n".encode())
    write_private(state.key, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def verifier_key(state: StateFiles) -> VerifierKey:
    """The key that whoever trusts this witness pins.

    Raises:
        FatalError: INTERNAL: there is none.
    """
    try:
        return parse_witness_key(state.vkey.read_text("ascii"))
    except FileNotFoundError:
        raise FatalError(
            Reason.INTERNAL, f"there is no witness in {state.directory}; make one with: zhiwang witness init"
        ) from None
    except (CheckpointError, ValueError):
        raise FatalError(Reason.INTERNAL, f"{state.vkey} is damaged; bring it back from a copy") from None


def load_key(state: StateFiles) -> tuple[VerifierKey, Ed25519PrivateKey]:
    """Both halves of the key, which must belong together.

    Raises:
        FatalError: INTERNAL: they do not, or one is missing or open to others.
    """
    key = verifier_key(state)
    try:
        private = load_pem_private_key(read_private(state.key), None)
    except OSError as error:
        raise FatalError(Reason.INTERNAL, f"{state.key}: {error.strerror or error}") from None
    except (ValueError, TypeError):
        raise FatalError(Reason.INTERNAL, f"{state.key} holds no key") from None
    if not isinstance(private, Ed25519PrivateKey) or private.public_key().public_bytes_raw() != key.public_key_raw:
        raise FatalError(Reason.INTERNAL, f"{state.key.name} and {state.vkey.name} do not belong together")
    return key, private


def followed(profile: Profile) -> tuple[WitnessedLog, ...]:
    """The logs that a profile says are followed.

    Raises:
        FatalError: INTERNAL: it says none, or one of this city without saying where the directory comes from.
    """
    logs = profile.witness.log if profile.witness is not None else ()
    if not logs:
        raise FatalError(
            Reason.INTERNAL, f"{profile.path.name}: name the logs that are followed: [[witness.log]] with an origin"
        )
    if any(log.key is None for log in logs) and profile.registrar is None and not profile.hub:
        raise FatalError(
            Reason.INTERNAL,
            f"{profile.path.name}: a log without a key is one of this city, whose revocations stand in the directory; "
            "say with `registrar` or `hub` who serves it",
        )
    return logs


class WitnessMetrics:
    """What a witness counts. Labels are status codes, and the origins of logs that its profile names."""

    def __init__(self, store: WitnessStore) -> None:
        self._store = store
        self._answers = metrics.counter("zhiwang_witness_answers", "Submissions answered, by status", ("status",))
        self._sizes = metrics.gauge("zhiwang_witness_size", "Entries of the newest tree that was cosigned", ("origin",))
        self._times = metrics.gauge(
            "zhiwang_witness_growth_time_seconds", "When a larger tree was cosigned last, since the epoch", ("origin",)
        )
        self.look()

    def answered(self, status: int) -> None:
        """Note an answer."""
        self._answers.labels(str(int(status))).inc()

    def look(self) -> None:
        """Tell what was cosigned by now. Reads the disk."""
        for origin, one in self._store.logs().items():
            self._sizes.labels(origin).set(one.size)
            self._times.labels(origin).set(one.time)


async def main(profile: Profile, process: Process) -> None:
    """Run a witness until the process is told to stop.

    Raises:
        ZhiwangError: It cannot start.
    """
    files = witness_identity(profile)
    state = StateFiles(profile.state)
    logs = followed(profile)
    clock = time.time
    key, private = await asyncio.to_thread(load_key, state)
    store = await asyncio.to_thread(WitnessStore.open, state.store, state.guard)
    holder = DirectoryHolder(clock)
    known = KnownLogs(
        {log.origin: (log.key,) for log in logs if log.key is not None},
        [log.origin for log in logs if log.key is None],
        CertificateVerifier(files.ca_pem, holder.revoked),
        lambda: holder.fresh,
        clock,
    )
    witness = Witness(key, private.sign, known, store, state.evidence, clock)
    counts = WitnessMetrics(store)

    def add_checkpoint(body: bytes, certificate: bytes) -> Answer:
        answer = witness.add_checkpoint(body, certificate)
        if answer.status == OK:
            counts.look()
        return answer

    server = WitnessServer(add_checkpoint, counts.answered, tls=files.tls_server_context())
    alarms = ExpiryAlarms(lambda: certificate_expiries(files), clock, metrics.gauge(METRIC, METRIC_TEXT, ("use",)))
    tasks = [background(alarms.watch()), background(files.watch())]
    sources = _directory_sources(files, profile)
    if sources:
        tasks.append(background(_follow(files, profile, state, holder, sources)))
    for source in sources.values():
        files.on_change(source.renew)
    served = metrics.MetricsServer(profile.metrics) if profile.metrics is not None else None
    try:
        address = await server.start(profile.listen or DEFAULT_LISTEN)
        process.announce(listen=address, metrics=served.address if served is not None else None, key=str(key))
        await process.stopping.wait()
    finally:
        await server.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for source in sources.values():
            await source.close()
        store.close()
        if served is not None:
            served.close()


def _directory_sources(files: IdentityFiles, profile: Profile) -> dict[str, RenewableChannel]:
    """Whoever serves the directory: the registrar rather than the hubs, which a witness is there to watch."""
    kind, targets = (Kind.HUB, profile.hub) if profile.registrar is None else (Kind.REGISTRAR, (profile.registrar,))
    name = server_name(files.identity.city, kind)

    def channel(target: str) -> RenewableChannel:
        return RenewableChannel(lambda: open_channel(target, files.channel_credentials(), server_name=name))

    return {target: channel(target) for target in targets}


async def _follow(
    files: IdentityFiles,
    profile: Profile,
    state: StateFiles,
    holder: DirectoryHolder,
    sources: Mapping[str, RenewableChannel],
) -> None:
    """Keep the directory fresh. Until there is one, no certificate is believed."""
    root = await asyncio.to_thread((profile.root / ROOT_METADATA).read_bytes)
    client = DirectoryClient(root, files.ca_pem, state.policy)
    follower = Follower(client, holder, {name: directory_of(channel) for name, channel in sources.items()})
    try:
        await follower.begin()
    except ZhiwangError as error:
        holder.failed(f"{error.reason.name}: {error.detail}")
    await follower.follow()
