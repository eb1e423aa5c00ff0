"""One witness, as a log's keeper asks it: submit a checkpoint, heed what it says it knows, verify what it signs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from audit import submission
from audit.appended import Head
from audit.checkpoint import CheckpointError, Signature, split_note, split_signatures
from audit.cosignature import WitnessPolicy, verify_cosignature
from audit.store import LogStore
from audit.submission import Submission
from audit.witness import CONFLICT, INCONSISTENT, OK
from audit.witness_client import Reply, WitnessClient
from zhiwang.wire.errors import RefusedError

SKEW: Final = 60
"""Seconds by which a witness's clock may be ahead of ours."""

_log = structlog.get_logger(__name__)


class WitnessError(Exception):
    """A witness gave no cosignature.

    Args:
        kind: "unreachable", "refused", "malformed" (what it gave does not verify), "ahead" (it has seen more than
            there is), "forked" (it has seen another history).
        detail: What happened.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class OvertakenError(Exception):
    """Another process that appends to the same log was quicker; nothing is wrong."""


class Cosigner:
    """Asks one witness. Used by one task at a time.

    Args:
        name: Of the witness, as the centre calls it.
        client: Reaches it.
        clock: Seconds since the epoch.

    Attributes:
        size: Of the tree that it cosigned last, as far as we know.
    """

    def __init__(self, name: str, client: WitnessClient, clock: Callable[[], float]) -> None:
        self.name = name
        self.size = 0
        self._origin = ""
        self._client = client
        self._clock = clock

    def knows(self, origin: str, size: int) -> None:
        """It has cosigned a tree of this log; of another log nothing is known."""
        self._origin, self.size = origin, size

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def ask(self, policy: WitnessPolicy, store: LogStore, head: Head) -> list[Signature]:
        """Its cosignatures of a checkpoint, verified.

        Args:
            policy: Says by which keys it signs.
            store: The log.
            head: The checkpoint; committed.

        Raises:
            WitnessError: It gave none.
            OvertakenError: The log has grown by another process, and the store knows by now.
        """
        if store.origin != self._origin:
            self.knows(store.origin, 0)
        reply = await self._send(store, head, min(self.size, head.size))
        if reply.status == CONFLICT and reply.content_type == submission.SIZE_TYPE:
            size = _size(reply)
            if size > head.size:
                await self._ahead(store, size)
            if size < self.size:
                # We know from its own cosignature that it has seen more. It goes on from where it says that it is: what
                # it signs still says what it says, and others see the contradiction.
                _log.error("a witness has forgotten what it signed", witness=self.name, signed=self.size, says=size)
            reply = await self._send(store, head, size)
        if reply.status == INCONSISTENT or (reply.status == CONFLICT and reply.content_type != submission.SIZE_TYPE):
            raise WitnessError("forked", f"it has seen another history than this log's (status {reply.status})")
        if reply.status != OK:
            raise WitnessError("refused", f"status {reply.status}: {_said(reply)}")
        signatures = self._verified(policy, head, reply)
        self.size = head.size
        return signatures

    async def _ahead(self, store: LogStore, size: int) -> None:
        """It has cosigned a larger tree than the one it is asked for."""
        newest = await asyncio.to_thread(store.refresh)
        if size > newest.size:
            raise WitnessError("ahead", f"it has cosigned {size} entries, and the log has {newest.size}")
        self.size = size
        raise OvertakenError

    async def _send(self, store: LogStore, head: Head, old: int) -> Reply:
        proof = await asyncio.to_thread(store.consistency, old, head.size) if 0 < old < head.size else []
        body = Submission(old, proof, head.checkpoint).encode()
        try:
            return await self._client.submit(body, head.certificate)
        except RefusedError as error:
            raise WitnessError("unreachable", error.detail) from None

    def _verified(self, policy: WitnessPolicy, head: Head, reply: Reply) -> list[Signature]:
        text = split_note(head.checkpoint)[0]
        known = {(key.name, key.id): key for key, owner in policy.keys.items() if owner == self.name}
        try:
            found = [line for line in split_signatures(reply.body.decode()) if line[:2] in known]
            times = [verify_cosignature(text, known[line[:2]], line[2]) for line in found]
        except (CheckpointError, UnicodeDecodeError) as error:
            raise WitnessError("malformed", f"its cosignature does not verify: {error}") from None
        if not found:
            raise WitnessError("malformed", "it signed with another key than the centre publishes")
        if max(times) > self._clock() + SKEW:
            raise WitnessError("malformed", "its clock is ahead of ours")
        return found


def _size(reply: Reply) -> int:
    try:
        return submission.parse_size(reply.body)
    except CheckpointError as error:
        raise WitnessError("malformed", str(error)) from None


def _said(reply: Reply) -> str:
    """The first words of an answer, as far as they can be shown."""
    text = reply.body[:200].decode("ascii", "replace").split("\n", 1)[0]
    return "".join(character if character.isprintable() else "?" for character in text)
