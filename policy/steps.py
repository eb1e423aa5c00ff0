"""What is recorded of how the policy is changed. The registrar's log is kept by whoever composes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import NamedTuple

from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.identity import Identity


class Action(Enum):
    """What was done; the values are those of the log's PolicyAction."""

    PROPOSED = 1
    APPROVED = 2
    REJECTED = 3
    PUBLISHED = 4
    LAPSED = 5


class Step(NamedTuple):
    """One step.

    Attributes:
        admin: Who took it; None for what the registrar does by itself.
        role: TUF role that is changed.
        role_version: Version of its metadata.
        proposal_id: Empty for what is published without one.
        content_hash: SHA-256 of what is signed.
        key_ids: TUF ids of the keys that have signed.
        directory_version: Snapshot in which it came into force; 0 for other steps.
        note: Why, in the admin's words.
    """

    action: Action
    admin: Identity | None
    role: str
    role_version: int
    proposal_id: str = ""
    content_hash: bytes = b""
    key_ids: tuple[str, ...] = ()
    directory_version: int = 0
    note: str = ""


Journal = Callable[[Step | audit_pb2.EmergencyStep], Awaitable[None]]
"""Makes a step durable. Raises ZhiwangError if it cannot."""
