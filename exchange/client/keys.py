"""Sealing keys of owners, and one sealing context for each.

They are fetched from the hub and believed only if an adapter of that owner has stated them. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from certs.owner_keys import ROTATE_AFTER, VerifiedOwnerKey, verify_statement
from certs.sealing import SealingContext
from certs.signing import CertificateVerifier
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError

FRESH_SECONDS = 300.0
"""Age at which the keys are fetched again when they are next needed."""

PAUSE_SECONDS = 0.5
"""Shortest time between two fetches: a missing owner must not make every request ask the hub."""

SPARE_SECONDS = 60.0
"""A key is not used in the last seconds of its validity, since a request may live for that long."""

SPURNED_SECONDS = 60.0
"""How long a key is not used after a hub said that nobody has it."""

log = structlog.get_logger(__name__)

Fetch = Callable[[], Awaitable[Iterable[sealed_pb2.OwnerKeyStatement]]]


class _Held(NamedTuple):
    key: VerifiedOwnerKey
    context: SealingContext


class OwnerKeys:
    """The keys in use.

    Args:
        fetch: Asks the hub for the statements of all owners.
        verifier: Of this city's certificates.
        clock: Seconds since the epoch.
        choose: Takes one of the keys that the replicas of an owner's adapter have made last, so that many agents share
            them out among the replicas.
    """

    def __init__(
        self,
        fetch: Fetch,
        verifier: CertificateVerifier,
        clock: Callable[[], float],
        choose: Callable[[Sequence[VerifiedOwnerKey]], VerifiedOwnerKey] = secrets.choice,
    ) -> None:
        self._fetch = fetch
        self._choose = choose
        self._verifier = verifier
        self._clock = clock
        self._keys: dict[str, VerifiedOwnerKey] = {}
        self._held: dict[str, _Held] = {}
        self._fetched = -FRESH_SECONDS
        self._refused: dict[tuple[str, bytes], float] = {}  # until when
        self._fetching: asyncio.Task[None] | None = None

    def ready(self, owner: str) -> SealingContext | None:
        """A context that is at hand and may still be used."""
        held = self._held.get(owner)
        if held is None:
            return None
        now = self._clock()
        usable = not held.context.expired(now) and now < held.key.not_after - SPARE_SECONDS
        return held.context if usable else None

    async def context(self, owner: str) -> SealingContext:
        """A context under the owner's newest key.

        Raises:
            RefusedError: OWNER_NOT_ATTACHED, if the hub has no usable key of it; HUB_UNREACHABLE.
        """
        held = self.ready(owner)
        if held is not None:
            return held
        now = self._clock()
        key = self._usable(owner, now)
        age = now - self._fetched
        if not 0 <= age < (FRESH_SECONDS if key is not None else PAUSE_SECONDS):
            await self._refresh()
            # Of many who waited for the keys, the first makes the context for all.
            held = self.ready(owner)
            if held is not None:
                return held
            key = self._usable(owner, self._clock())
        if key is None:
            raise RefusedError(Reason.OWNER_NOT_ATTACHED, owner)
        context = SealingContext(owner, key.key_id, key.public_key, clock=self._clock)
        self._held[owner] = _Held(key, context)
        return context

    async def offered(self) -> Mapping[str, VerifiedOwnerKey]:
        """The newest key of every owner that is attached, fetched anew.

        Raises:
            RefusedError: HUB_UNREACHABLE.
        """
        await self._refresh()
        return dict(self._keys)

    def spurn(self, owner: str, key_id: bytes) -> None:
        """The owner no longer has this key: use another."""
        held = self._held.get(owner)
        if held is not None and held.key.key_id == key_id:
            del self._held[owner]
        key = self._keys.get(owner)
        if key is not None and key.key_id == key_id:
            del self._keys[owner]
            self._fetched = -FRESH_SECONDS
        self._refused[owner, key_id] = self._clock() + SPURNED_SECONDS

    def forget(self) -> None:
        """Verify every key anew at its next use, since the directory (and with it, who is revoked) changed."""
        self._keys.clear()
        self._held.clear()
        self._fetched = -FRESH_SECONDS

    def _usable(self, owner: str, now: float) -> VerifiedOwnerKey | None:
        key = self._keys.get(owner)
        return key if key is not None and now < key.not_after - SPARE_SECONDS else None

    async def _refresh(self) -> None:
        """One fetch at a time, shared by everybody who needs it."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.get_running_loop().create_task(self._fetch_all())
            # Who waits is told of a failure; if nobody does any more, it is nobody's.
            self._fetching.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._fetching)

    async def _fetch_all(self) -> None:
        statements = await self._fetch()
        now = self._clock()
        found: dict[str, list[VerifiedOwnerKey]] = {}
        offered: set[tuple[str, bytes]] = set()
        for statement in statements:
            try:
                owner = self._verifier.verify(statement.certificate, now).identity.department
                key = verify_statement(statement, self._verifier, owner, now)
            except RefusedError as error:
                log.warning("a sealing key does not verify", reason=error.reason.name, detail=error.detail)
                continue
            offered.add((owner, key.key_id))
            if now >= self._refused.get((owner, key.key_id), 0.0):
                found.setdefault(owner, []).append(key)
        self._keys = {owner: self._choose(_newest(keys)) for owner, keys in found.items()}
        self._fetched = now
        # A hub knows only the replicas that are attached to it, so what one refused is good again after a while.
        self._refused = {one: until for one, until in self._refused.items() if one in offered and now < until}


def _newest(keys: Sequence[VerifiedOwnerKey]) -> list[VerifiedOwnerKey]:
    """Of each replica the key that it made last: what is older than the newest one by a rotation has a successor."""
    newest = max(key.not_before for key in keys)
    return [key for key in keys if key.not_before > newest - ROTATE_AFTER]
