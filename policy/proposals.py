"""Proposals: what one admin has signed and another has still to sign.

A proposal is the next metadata of one role with its files. Whoever agrees adds a signature of its own over the same
bytes, so nobody can change it on the way, and the registrar, which keeps it, cannot sign for anybody. Two eyes on one
desk still publish at once; proposals are for two desks.

One file for each in the registrar's state directory. Owned by the event loop of the registrar; calls block.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog
from tuf.api.metadata import Signature, Targets

from policy.metadata import Publication, department_of, parse_metadata
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import contains_identifier
from zhiwang.wire.kept import PUBLIC, replace_durably, sweep

LIFETIME: Final = 30 * 86_400
"""Seconds after which a proposal lapses."""
MAX_OPEN: Final = 16
"""Open proposals of one department."""
MAX_NOTE: Final = 500
"""Characters of a reason."""

_ID: Final = re.compile(r"[0-9a-f]{16}")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Approval:
    """A signature: by which key (TUF key id), handed in by which admin ("hrss/admin/li"), when (since the epoch)."""

    key_id: str
    admin: str
    time: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something that one admin wants.

    Attributes:
        id: 16 hexadecimal digits.
        metadata: With the signatures so far.
        files: New and changed files that it lists.
        note: Why, in the proposer's words.
        approvals: The first is the proposer's.
    """

    id: str
    role: str
    metadata: bytes
    files: Mapping[str, bytes]
    note: str
    approvals: tuple[Approval, ...]

    @property
    def publication(self) -> Publication:
        """As it would be published."""
        return Publication(self.role, self.metadata, self.files)

    @property
    def department(self) -> str:
        """Whose admins it concerns; "targets" for the centre's."""
        return department_of(self.role)

    @property
    def version(self) -> int:
        """Version that the role would have."""
        return int(parse_metadata(self.metadata, Targets).signed.version)

    @property
    def content_hash(self) -> bytes:
        """SHA-256 of what is signed."""
        return sha256(parse_metadata(self.metadata, Targets).signed_bytes).digest()

    @property
    def expires(self) -> float:
        """When it lapses."""
        return self.approvals[0].time + LIFETIME

    def signed_by(self, approval: Approval, signature: Signature) -> Proposal:
        """The proposal with one more signature."""
        metadata = parse_metadata(self.metadata, Targets)
        metadata.signatures[signature.keyid] = signature
        return replace(self, metadata=metadata.to_bytes(), approvals=(*self.approvals, approval))


def check_note(note: str) -> str:
    """A reason that may stand in the log.

    Raises:
        RefusedError: NOTE_INVALID.
    """
    note = note.strip()
    if len(note) > MAX_NOTE or not note.isprintable() or contains_identifier(note, grouped=True):
        raise RefusedError(Reason.NOTE_INVALID, field="note")
    return note


class Proposals:
    """Those that are open.

    Args:
        directory: Made if missing.
        clock: Seconds since the epoch.
    """

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._open: dict[str, Proposal] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(directory)
        for path in sorted(directory.glob("*.json")):
            try:
                proposal = _read(path.read_bytes())
            except (ValueError, KeyError, TypeError, RefusedError):
                _log.error("a proposal cannot be read and is passed over", file=path.name)
                continue
            self._open[proposal.id] = proposal

    def of(self, departments: Collection[str]) -> list[Proposal]:
        """Open proposals of some departments ("targets" for the centre's), oldest first."""
        now = self._clock()
        found = [
            proposal
            for proposal in self._open.values()
            if proposal.department in departments and now < proposal.expires
        ]
        return sorted(found, key=lambda proposal: proposal.approvals[0].time)

    def get(self, proposal_id: str, departments: Collection[str]) -> Proposal:
        """An open proposal of one of these departments.

        Raises:
            RefusedError: PROPOSAL_UNKNOWN; also for another department's.
        """
        proposal = self._open.get(proposal_id)
        if proposal is None or proposal.department not in departments or self._clock() >= proposal.expires:
            raise RefusedError(Reason.PROPOSAL_UNKNOWN)
        return proposal

    def new(self, publication: Publication, approval: Approval, note: str) -> Proposal:
        """A proposal that is not kept yet.

        Raises:
            RefusedError: NOTE_INVALID; OVERLOADED: the department has too many open.
        """
        note = check_note(note)
        proposal = Proposal(
            os.urandom(8).hex(),
            publication.role,
            publication.metadata,
            MappingProxyType(dict(publication.files)),
            note,
            (approval,),
        )
        if len(self.of({proposal.department})) >= MAX_OPEN:
            raise RefusedError(Reason.OVERLOADED, f"{proposal.department} has {MAX_OPEN} open proposals; reject some")
        return proposal

    def keep(self, proposal: Proposal) -> None:
        """Keep a proposal, or its newer state, durably.

        Raises:
            OSError: It cannot be written.
        """
        replace_durably(self._directory / f"{proposal.id}.json", _bytes(proposal), mode=PUBLIC)
        self._open[proposal.id] = proposal

    def drop(self, proposal: Proposal) -> None:
        """Forget a proposal.

        Raises:
            OSError: It cannot be taken away.
        """
        (self._directory / f"{proposal.id}.json").unlink(missing_ok=True)
        self._open.pop(proposal.id, None)

    def lapsed(self, versions: Mapping[str, int]) -> list[Proposal]:
        """Open ones that can no longer come into force: too old, or of a version that was published meanwhile.

        Args:
            versions: Version in force of each role.
        """
        now = self._clock()
        return [
            proposal
            for proposal in self._open.values()
            if now >= proposal.expires or proposal.version <= versions.get(proposal.role, 0)
        ]


def _bytes(proposal: Proposal) -> bytes:
    content = {
        "id": proposal.id,
        "role": proposal.role,
        "metadata": b64encode(proposal.metadata).decode(),
        "files": {path: b64encode(data).decode() for path, data in proposal.files.items()},
        "note": proposal.note,
        "approvals": [[one.key_id, one.admin, one.time] for one in proposal.approvals],
    }
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


def _read(data: bytes) -> Proposal:
    content = json.loads(data)
    approvals = tuple(Approval(str(key_id), str(admin), float(time)) for key_id, admin, time in content["approvals"])
    proposal = Proposal(
        str(content["id"]),
        str(content["role"]),
        b64decode(content["metadata"], validate=True),
        MappingProxyType({str(path): b64decode(held, validate=True) for path, held in content["files"].items()}),
        str(content["note"]),
        approvals,
    )
    if not approvals or not _ID.fullmatch(proposal.id):
        raise ValueError("no proposal")
    _ = proposal.version
    return proposal
