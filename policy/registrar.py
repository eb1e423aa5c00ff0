"""The registrar: keeps the directory fresh, and takes in what departments sign. Its keys lie nowhere else.

State directory: `keys/` (snapshot and timestamp, 0600), `repository/` (everything public that is in force),
`published/` (everything that was), `registrar.pub` (the public keys, for the root ceremony), `guard/timestamp.json`
(the newest timestamp, best on other storage: a repository that was rolled back would sign numbers that readers have
seen, so it is not opened).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import structlog
from tuf.api.metadata import Targets

from certs.identity import CA_CERTIFICATE, ROOT_METADATA, write_public
from policy import guard
from policy.admission import Signed
from policy.archive import Archive
from policy.directory import DirectoryHolder
from policy.glass import SALT_SIZE, Openings, check_words, name_of, reason_hash, review_of, step_of
from policy.guard import GUARD
from policy.keys import RegistrarKeys
from policy.metadata import Publication, parse_metadata
from policy.mirror import TIMESTAMP, Mirror
from policy.model import Directory
from policy.proposals import Approval, Proposal, Proposals, check_note
from policy.repository import RESIGN_SECONDS, Repository
from policy.steps import Action, Journal, Step
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError, ZhiwangError
from zhiwang.wire.identity import Identity
from zhiwang.wire.profile import Profile

DEFAULT_LISTEN = "127.0.0.1:7443"
STOP_GRACE = 5.0
MADE_GOOD = "found in force and not in the log"
"""The note of what was recorded later."""
RETRY_SECONDS = 60.0
"""How long after a failed signing it is tried again."""

KEYS = "keys"
REPOSITORY = "repository"
PUBLISHED = "published"
PUBLIC_KEYS = "registrar.pub"

_log = structlog.get_logger(__name__)


def init(state: Path) -> Path:
    """Makes the registrar's keys and its empty repository.

    Returns:
        The file with the public keys, which the root ceremony needs.

    Raises:
        FatalError: INTERNAL, if there is a registrar already.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        keys = RegistrarKeys.create(state / KEYS)
        Repository.create(state / REPOSITORY)
    except FileExistsError:
        raise FatalError(Reason.INTERNAL, f"{state} holds a registrar already; it is never replaced") from None
    guard.make(state / GUARD)
    write_public_keys(state / PUBLIC_KEYS, keys)
    return state / PUBLIC_KEYS


def write_public_keys(path: Path, keys: RegistrarKeys) -> None:
    """Writes the file that the root ceremony needs."""
    snapshot, timestamp = keys.public
    content = json.dumps({"snapshot": snapshot.hex(), "timestamp": timestamp.hex()}, indent=2) + "\n"
    write_public(path, content.encode())


def read_public_keys(path: Path) -> tuple[bytes, bytes]:
    """Raw public keys of snapshot and timestamp.

    Raises:
        RefusedError: METADATA_INVALID, if the file is none of ours.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        keys = bytes.fromhex(content["snapshot"]), bytes.fromhex(content["timestamp"])
    except (ValueError, KeyError, TypeError):
        keys = b"", b""
    if {len(key) for key in keys} != {32}:
        raise RefusedError(Reason.METADATA_INVALID, f"{path.name} is no file of `zhiwang registrar init`")
    return keys


class Recorded(NamedTuple):
    """What the registrar's log holds of what it has to know again.

    Attributes:
        versions: Newest version of each role whose publication it holds.
        emergencies: Every step of emergencies, oldest first.
    """

    versions: Mapping[str, int]
    emergencies: Iterable[audit_pb2.EmergencyStep]


class Registrar:
    """The registrar's work, apart from how it is served. Owned by the event loop.

    Args:
        repository: On disk.
        clock: Gives the time.
        guard_file: Remembers the newest timestamp; None for no guard.
        published: Keeps every directory that was in force; None to forget them.
        proposals: Directory of the open proposals; None takes none.
        journal: Makes each step durable; None where nothing is recorded.
    """

    def __init__(
        self,
        repository: Repository,
        clock: Callable[[], float] = time.time,
        *,
        guard_file: Path | None = None,
        published: Path | None = None,
        proposals: Path | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._guard = guard_file
        self._journal = journal
        self._changing = asyncio.Lock()
        self.openings = Openings()
        self._proposals = None if proposals is None else Proposals(proposals, clock)
        self.mirror = Mirror(None if published is None else Archive(published))
        self.holder = DirectoryHolder(clock)
        self.mirror.publish(self._repository.files)
        self._hold()

    async def publish(
        self, publication: Publication, admin: Identity | None = None, *, proposal: Proposal | None = None
    ) -> Directory:
        """Checks and publishes; whoever watches hears of it before this returns.

        Args:
            publication: Signed by enough.
            admin: Who handed it in.
            proposal: Which it was.

        Raises:
            RefusedError: As `Repository.publish`. Nothing has changed then.
            ZhiwangError: Of the journal, for what cannot wait: it is in force, and the operator is alarmed.
        """
        async with self._changing:
            if proposal is not None:
                # It may have been rejected while this waited for its turn.
                self._open().get(proposal.id, {proposal.department})
            return await self._publish(publication, admin, proposal)

    async def _publish(
        self, publication: Publication, admin: Identity | None, proposal: Proposal | None = None
    ) -> Directory:
        """As `publish`, for who has the turn."""
        directory = await asyncio.to_thread(self._repository.publish, publication)
        await self._remember()
        await self.mirror.take(self._repository.files)
        self._hold()
        signed = self._repository.signed(publication)
        step = Step(
            Action.PUBLISHED,
            admin,
            publication.role,
            signed.version,
            "" if proposal is None else proposal.id,
            signed.content_hash,
            signed.key_ids,
            directory.version,
            "" if proposal is None else proposal.note,
        )
        try:
            await self._record(step)
        except ZhiwangError as error:
            # It cannot be taken back, and a revocation or suspension must not wait for a log.
            _log.error("a publication is in force and not in the log", role=step.role, reason=error.reason.name)
        if proposal is not None and self._proposals is not None:
            await asyncio.to_thread(self._proposals.drop, proposal)
        await self._lapse(directory)
        return directory

    async def make_good(self, read: Callable[[], Recorded]) -> None:
        """Know again what the log holds, and record what is in force and not in it.

        That is what was published while it could not be written or just before a kill, and what the log lost.

        Args:
            read: Reads the log; blocks. Nothing changes meanwhile, or what it read would already be old.

        Raises:
            ZhiwangError: Of the journal, or of reading.
        """
        async with self._changing:
            recorded = await asyncio.to_thread(read)
            self.openings = Openings(recorded.emergencies)
            directory = self.holder.latest
            for publication in [] if directory is None else self._repository.publications():
                signed = self._repository.signed(publication)
                if directory is not None and recorded.versions.get(publication.role, 0) < signed.version:
                    await self._record(
                        Step(
                            Action.PUBLISHED,
                            None,
                            publication.role,
                            signed.version,
                            "",
                            signed.content_hash,
                            signed.key_ids,
                            directory.version,
                            MADE_GOOD,
                        )
                    )

            for activation in self._repository.openings:
                if activation not in self.openings:
                    _log.error("an opened emergency was not in the log", opening=name_of(activation))
                    await self._note(step_of(audit_pb2.EMERGENCY_ACTION_OPENED, activation, note=MADE_GOOD))

    # Emergencies.

    async def open_emergency(self, publication: Publication, admin: Identity, reason: str, salt: bytes) -> Directory:
        """Records that an emergency is opened, and publishes it.

        Args:
            publication: Signed by one admin of a department that the owner named.
            admin: Who handed it in.
            reason: Why, in words.
            salt: Of the reason's hash.

        Raises:
            RefusedError: NOTE_INVALID, EMERGENCY_UNREVIEWED, or as `Repository.publish`. Nothing is in force then.
            ZhiwangError: Of the journal. Nothing is opened that is not recorded.
        """
        reason = check_words(reason)
        async with self._changing:
            activation = await asyncio.to_thread(self._repository.opening, publication)
            if len(salt) != SALT_SIZE or reason_hash(salt, reason) != activation.reason_hash:
                raise RefusedError(Reason.METADATA_INVALID, "the reason is not the one that was signed", field="reason")
            self.openings.check_new(activation)
            await self._note(
                step_of(audit_pb2.EMERGENCY_ACTION_OPENED, activation, by=admin.uri, note=reason, salt=salt)
            )
            try:
                return await self._publish(publication, admin)
            except (ZhiwangError, OSError):
                # What is written is served by the next timestamp at the latest, whatever failed behind it.
                if activation not in self._repository.openings:
                    await self._note(step_of(audit_pb2.EMERGENCY_ACTION_WITHDRAWN, activation, by=admin.uri))
                raise

    async def review_emergency(self, name: str, reviewer: Identity, note: str) -> None:
        """Records what somebody found who looked at an opened emergency.

        Raises:
            RefusedError: NOTE_INVALID, EMERGENCY_UNKNOWN, EMERGENCY_OPEN.
            ZhiwangError: Of the journal.
        """
        note = check_words(note)
        async with self._changing:
            office = self.holder.auditor(reviewer).office
            opening = self.openings.to_review(name, reviewer, self._clock(), office=office)
            await self._note(review_of(opening, reviewer, note))

    async def _note(self, step: audit_pb2.EmergencyStep) -> None:
        await self._record(step)
        self.openings.take(step)

    # Proposals.

    async def propose(self, publication: Publication, admin: Identity, note: str) -> tuple[Proposal, Signed]:
        """Keeps what one admin has signed, once it is checked as if it were published.

        Raises:
            RefusedError: As `Repository.examine`, and `Proposals.new`.
            ZhiwangError: Of the journal; nothing is kept then.
        """
        async with self._changing:
            proposals = self._open()
            signed = await asyncio.to_thread(self._repository.examine, publication)
            if len(signed.key_ids) != 1:
                raise RefusedError(Reason.METADATA_INVALID, "a proposal is signed by its proposer alone")
            approval = Approval(signed.key_ids[0], admin.short, self._clock())
            proposal = proposals.new(publication, approval, note)
            await self._record(_step(Action.PROPOSED, admin, proposal, proposal.note))
            await asyncio.to_thread(proposals.keep, proposal)
        return proposal, signed

    async def approve(
        self, proposal_id: str, metadata: bytes, admin: Identity, departments: Collection[str]
    ) -> tuple[Proposal, Signed]:
        """Adds a signature of another admin.

        Raises:
            RefusedError: PROPOSAL_UNKNOWN; PROPOSAL_SIGNED: nothing is new; METADATA_INVALID: it is over something
                else.
        """
        async with self._changing:
            proposals = self._open()
            proposal = proposals.get(proposal_id, departments)
            given = parse_metadata(metadata, Targets)
            before = self._repository.signed(proposal.publication)
            signed = self._repository.signed(Publication(proposal.role, metadata, proposal.files))
            new = [key_id for key_id in signed.key_ids if key_id not in before.key_ids]
            if not new:
                raise RefusedError(Reason.PROPOSAL_SIGNED, f"{admin.short} adds no signature")
            if signed.content_hash != before.content_hash or len(new) != 1:
                raise RefusedError(
                    Reason.METADATA_INVALID, "an approval is one new signature of another admin over this very proposal"
                )
            approval = Approval(new[0], admin.short, self._clock())
            proposal = proposal.signed_by(approval, given.signatures[new[0]])
            await self._record(_step(Action.APPROVED, admin, proposal, ""))
            await asyncio.to_thread(proposals.keep, proposal)
            return proposal, self._repository.signed(proposal.publication)

    async def reject(self, proposal_id: str, admin: Identity, note: str, departments: Collection[str]) -> None:
        """Takes a proposal away.

        Raises:
            RefusedError: PROPOSAL_UNKNOWN, NOTE_INVALID.
        """
        async with self._changing:
            proposals = self._open()
            proposal = proposals.get(proposal_id, departments)
            await self._record(_step(Action.REJECTED, admin, proposal, check_note(note)))
            await asyncio.to_thread(proposals.drop, proposal)

    async def publish_proposal(self, proposal_id: str, admin: Identity, departments: Collection[str]) -> Directory:
        """Publishes a proposal that has enough signatures.

        Raises:
            RefusedError: PROPOSAL_UNKNOWN, PROPOSAL_UNSIGNED, or as `publish`.
        """
        proposal = self._open().get(proposal_id, departments)
        if not self._repository.signed(proposal.publication).enough:
            raise RefusedError(Reason.PROPOSAL_UNSIGNED)
        return await self.publish(proposal.publication, admin, proposal=proposal)

    def proposal(self, proposal_id: str, departments: Collection[str]) -> tuple[Proposal, Signed]:
        """An open proposal, and who has signed it.

        Raises:
            RefusedError: PROPOSAL_UNKNOWN.
        """
        proposal = self._open().get(proposal_id, departments)
        return proposal, self._repository.signed(proposal.publication)

    def proposals(self, departments: Collection[str]) -> list[tuple[Proposal, Signed]]:
        """Open proposals of some departments, oldest first."""
        return [(proposal, self._repository.signed(proposal.publication)) for proposal in self._open().of(departments)]

    def _open(self) -> Proposals:
        if self._proposals is None:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, "this registrar takes no proposals")
        return self._proposals

    async def _lapse(self, directory: Directory) -> None:
        """Forget proposals that can no longer come into force."""
        if self._proposals is None:
            return
        for proposal in self._proposals.lapsed(directory.role_versions):
            try:
                await self._record(_step(Action.LAPSED, None, proposal, ""))
                await asyncio.to_thread(self._proposals.drop, proposal)
            except (ZhiwangError, OSError) as error:
                _log.error("a proposal that has lapsed is still kept", id=proposal.id, error=type(error).__name__)

    async def _record(self, step: Step | audit_pb2.EmergencyStep) -> None:
        if self._journal is not None:
            await self._journal(step)

    async def resign(self) -> None:
        """Signs a newer timestamp, if the centre has published."""
        async with self._changing:
            await asyncio.to_thread(self._repository.resign)
            await self._remember()
            await self.mirror.take(self._repository.files)
            self._hold()

    async def try_resign(self) -> bool:
        """As `resign`, but a failure is noted and what is in force stays so until it expires."""
        try:
            await self.resign()
        except (ZhiwangError, OSError) as error:
            self.holder.failed(f"signing failed: {error}")
            return False
        return True

    async def keep_fresh(self, *, signed: bool) -> None:
        """Signs whenever the timestamp gets old, until cancelled.

        Args:
            signed: Whether it has just been signed.
        """
        pause: float = RESIGN_SECONDS if signed else RETRY_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = RESIGN_SECONDS if await self.try_resign() else RETRY_SECONDS

    async def _remember(self) -> None:
        timestamp = self._repository.files.get(TIMESTAMP)
        if self._guard is not None and timestamp is not None:
            await asyncio.to_thread(guard.remember, self._guard, timestamp)

    def _hold(self) -> None:
        directory = self._repository.directory
        if directory is not None:
            self.holder.set(directory)


def _step(action: Action, admin: Identity | None, proposal: Proposal, note: str) -> Step:
    return Step(
        action,
        admin,
        proposal.role,
        proposal.version,
        proposal.id,
        proposal.content_hash,
        tuple(approval.key_id for approval in proposal.approvals),
        0,
        note,
    )


def open_repository(profile: Profile) -> Repository:
    """The repository of a profile's state directory, under its pinned root.

    Raises:
        FatalError: INTERNAL, if `registrar init` was not run, the pinned root is missing, nothing verifies, or the
            repository was rolled back.
    """
    try:
        repository = Repository(
            profile.state / REPOSITORY,
            (profile.root / ROOT_METADATA).read_bytes(),
            RegistrarKeys.load(profile.state / KEYS),
            (profile.root / CA_CERTIFICATE).read_bytes(),
        )
    except OSError as error:
        raise FatalError(Reason.INTERNAL, f"{error.filename or profile.state}: {error.strerror or error}") from None
    except RefusedError as error:
        raise FatalError(error.reason, error.detail) from error
    guard.check(profile.state / GUARD, repository.files.get(TIMESTAMP))
    return repository
