"""The account of an entry of a log that is read over the wire, with the directory of its day; for commands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audit.auditor import Auditor
from audit.checkpoint import Checkpoint
from audit.query import Query
from certs.identity import ROOT_METADATA
from exchange.evidence.account import account
from exchange.evidence.plain import printable
from exchange.evidence.rules import Divisions, Past, Told, parties, read_past
from policy.directory import Fetch
from policy.history import History
from policy.model import Directory
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError


class PastReader:
    """Reads old versions of the directory; each once.

    Args:
        root: The pinned root directory.
        fetches: From each of those who may keep them.
    """

    def __init__(self, root: Path, fetches: Sequence[Fetch]) -> None:
        self._root = root
        self._fetches = fetches
        self._files: dict[str, bytes] = {}

    async def read(self, version: int, departments: set[str], matters: set[str], timestamp_hash: bytes = b"") -> Past:
        """As `exchange.evidence.rules.read_past`."""
        root_json = (self._root / ROOT_METADATA).read_bytes()
        arguments = (root_json, self._fetch, version, departments, matters, timestamp_hash)
        return await asyncio.to_thread(read_past, *arguments)

    async def whole(self, version: int) -> Directory | None:
        """All of one version; None if it is not to be had, or does not verify: `read` says why."""
        history = History((self._root / ROOT_METADATA).read_bytes(), self._fetch)
        try:
            return await asyncio.to_thread(history.whole, version)
        except ZhiwangError:
            return None

    def _fetch(self, path: str) -> bytes:
        if path not in self._files:
            self._files[path] = self._fetched(path)
        return self._files[path]

    def _fetched(self, path: str) -> bytes:
        failed = RefusedError(Reason.FILE_UNKNOWN, path)
        for fetch in self._fetches:
            try:
                return fetch(path)
            except RefusedError as error:
                # What one does not have, and what one cannot be asked, another may.
                failed = error if failed.reason is Reason.FILE_UNKNOWN else failed
        raise failed


async def told_of(
    auditor: Auditor, index: int, past: PastReader, divisions: Divisions, origin: str = ""
) -> dict[str, Any]:
    """The account of one entry, and what proves it; in the log of an origin, if the auditor was not told a year."""
    logged, head, entry, checkpoint = await auditor.logged(index, origin)
    told = Told(await past_of(auditor, entry, past), divisions)
    return {
        "log": checkpoint.origin,
        **account(index, logged.entry, entry, told),
        "proof": proof_of(checkpoint, head),
    }


async def past_of(auditor: Auditor, entry: audit_pb2.Entry, past: PastReader) -> Past:
    """The directory by which an entry was decided, held against what the log recorded if the reader may see that."""
    version, departments, matters = parties(entry)
    if not version:
        return Past()
    stamp = b""
    # A version that was in force at New Year was recorded in the year before.
    query = Query(event="directory_change", version=version)
    async for _, change in auditor.search(query, limit=1, proofs=True, everywhere=True):
        stamp = change.directory_change.timestamp_hash
    return await past.read(version, departments, matters, stamp)


def proof_of(checkpoint: Checkpoint, head: audit_pb2.LogHead) -> dict[str, Any]:
    """What an entry is proved by; it has been verified."""
    return {
        "log": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "checkpoint": [printable(line) for line in head.checkpoint.decode(errors="replace").splitlines()],
        "verified": True,
    }
