"""The watch over what stands beside the directory at an adapter (`policy.beside`): taken in, recorded, told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from policy.beside import LocalPolicy
from policy.directory import DirectoryClient, DirectoryHolder
from policy.enforcer import within
from policy.local import name_of
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.readiness import Readiness

LOOK_SECONDS: Final = 0.25
"""How often it is seen whether something was put here, or has been published."""

MAX_IDS: Final = 16_384
"""Characters of the ids of suspensions that an entry of the owner's log names; then stands how many more there are, as
"+17". An entry has at most 64 KiB."""

CONDITION: Final = "directory_alone"
"""What health tells: whether nothing stands beside the directory. The adapter serves all the same."""

_log = structlog.get_logger(__name__)


class LocalWatch:
    """Belongs to the event loop.

    Args:
        policy: What stands beside the directory.
        client: Of the directory.
        holder: Amends each directory by `policy`.
        readiness: Told whether anything stands.
        record: Takes what is to be written to the owner's log.
    """

    def __init__(
        self,
        policy: LocalPolicy,
        client: DirectoryClient,
        holder: DirectoryHolder,
        readiness: Readiness,
        record: Callable[[audit_pb2.LocalPolicyChange], None],
    ) -> None:
        self._policy = policy
        self._client = client
        self._holder = holder
        self._readiness = readiness
        self._record = record

    @property
    def standing(self) -> int:
        """How many files stand."""
        return len(self._policy.standing)

    async def look(self) -> None:
        """Take in what was put here, let go of what is published, and decide by it from here on.

        Raises:
            OSError: The place cannot be read or written.
        """
        verified = self._holder.verified
        try:
            changes = await asyncio.to_thread(self._policy.look, verified, self._client.roles)
            if changes:
                self._holder.again()
        finally:
            await self._readiness.note(CONDITION, not self._policy.standing)
        version = 0 if verified is None else verified.version
        for change in changes:
            self._record(
                audit_pb2.LocalPolicyChange(
                    in_force=change.in_force,
                    role=change.local.role,
                    role_version=change.local.version,
                    content_hash=change.local.content_hash,
                    key_ids=change.key_ids,
                    suspension_ids=within([entry.id for entry in change.local.suspensions], MAX_IDS),
                    directory_version=version,
                )
            )

    async def recorded(self, event: audit_pb2.LocalPolicyChange) -> None:
        """The owner's log has what was to be written to it."""
        name = name_of(event.role, event.role_version, event.content_hash)
        try:
            await asyncio.to_thread(self._policy.recorded, name, in_force=event.in_force)
        except OSError as error:
            _log.error("a local change will be recorded once more", file=name, error=str(error))

    async def watch(self) -> None:
        """Look until cancelled."""
        failing = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except OSError as error:
                if failing != str(error):
                    _log.error("what was put beside the directory cannot be looked at", error=str(error))
                failing = str(error)
            except Exception as error:  # noqa: BLE001 - else nobody would look again
                _log.error("what was put beside the directory cannot be looked at", exc_info=error)
            else:
                failing = ""
