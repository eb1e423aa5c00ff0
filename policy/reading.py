"""PolicyService: what is granted, what was, and what files would change. One implementation for hub and registrar.

Whoever asks is an admin of a member or an auditor: each of them can read the signed files anyhow, so nothing here tells
what they could not know, and nothing depends on who asks but how much of it at once. What takes long is worked out in a
process beside the server (`workers.py`).
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from policy.answering import Sources
from policy.directory import DirectoryHolder
from policy.metadata import Publication
from policy.model import Directory
from policy.rehearse import removed_matters
from policy.workers import Worker, Workers
from zhiwang.policy.v1 import policy_pb2, policy_pb2_grpc, rehearsal_pb2, rights_pb2
from zhiwang.wire.call import current_peer
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.server import RpcRules, time_left

POLICY_READERS: Final = frozenset({Kind.ADMIN, Kind.AUDITOR})

POLICY_RULES: RpcRules = {
    f"/zhiwang.policy.v1.PolicyService/{method}": POLICY_READERS
    for method in (
        "GetDirectory",
        "Explain",
        "ListAttributes",
        "ListGrants",
        "WhoCan",
        "WhatCan",
        "Compare",
        "Check",
    )
}

ANSWER_SECONDS: Final = 60.0
"""The longest that one question may take, waiting for a process included."""
MAX_FILES: Final = 256
MAX_BYTES: Final = 8 * 1024 * 1024
"""Of all files of one question together."""
MAX_NAME: Final = 200
"""Characters of the name of a file, or of any other text of a question."""

T = TypeVar("T", bound=Message)
Proposed = Callable[[str, Identity], Publication]
"""Gives what a proposal would publish, to an admin who may read it. Raises RefusedError(PROPOSAL_UNKNOWN)."""


class PolicyDesk:
    """Where questions about policy are worked out: the processes, and the directories that they are given.

    Args:
        holder: Has the directory in force.
        workers: Lends processes; whoever made them closes them.
        clock: Gives the time.
        root_json: The pinned root; without it only the directory in force can be looked at.
        published: Where every directory is kept that was in force; None if none is.
    """

    def __init__(
        self,
        holder: DirectoryHolder,
        workers: Workers,
        clock: Callable[[], float],
        *,
        root_json: bytes = b"",
        published: Path | None = None,
    ) -> None:
        self.holder = holder
        self.workers = workers
        self.clock = clock
        self._root_json = root_json
        self._archive = "" if published is None else str(published)
        self._pickled: tuple[Directory, bytes, bytes] | None = None

    async def sources(self, worker: Worker) -> Sources:
        """What a process needs to know, once it has the directory in force.

        Raises:
            RefusedError: DIRECTORY_EXPIRED, and as `Worker.call`.
        """
        directory = self.holder.current
        pickled = self._pickled
        if pickled is None or pickled[0] is not directory:
            pickled = self._pickled = directory, *await asyncio.to_thread(_pickled, directory)
        _, key, data = pickled
        if not await worker.call("policy.answering:knows", key, seconds=ANSWER_SECONDS):
            await worker.call("policy.answering:take", key, data, seconds=ANSWER_SECONDS)
        return Sources(key, self._archive, self._root_json)


def _pickled(directory: Directory) -> tuple[bytes, bytes]:
    data = pickle.dumps(directory, pickle.HIGHEST_PROTOCOL)
    return sha256(data).digest(), data


class PolicyServicer(policy_pb2_grpc.PolicyServiceServicer):
    """Tells admins and auditors what is granted.

    Args:
        desk: Works it out.
        proposed: Where proposals are kept; None elsewhere.
    """

    def __init__(self, desk: PolicyDesk, proposed: Proposed | None = None) -> None:
        self._desk = desk
        self._proposed = proposed

    async def GetDirectory(self, request: Any, context: Any) -> policy_pb2.GetDirectoryResponse:  # noqa: ARG002, D102, N802 # gRPC's
        directory = self._desk.holder.current
        expires = Timestamp()
        expires.FromNanoseconds(int(directory.expires * 1e9))
        return policy_pb2.GetDirectoryResponse(
            directory_version=directory.version, role_versions=directory.role_versions, expire_time=expires
        )

    async def Explain(self, request: Any, context: Any) -> policy_pb2.ExplainResponse:  # noqa: D102, N802 # gRPC's
        return await self._answer("Explain", request, context, policy_pb2.ExplainResponse)

    async def ListAttributes(self, request: Any, context: Any) -> rights_pb2.ListAttributesResponse:  # noqa: D102, N802 # gRPC's
        return await self._answer("ListAttributes", request, context, rights_pb2.ListAttributesResponse)

    async def ListGrants(self, request: Any, context: Any) -> rights_pb2.ListGrantsResponse:  # noqa: D102, N802 # gRPC's
        return await self._answer("ListGrants", request, context, rights_pb2.ListGrantsResponse)

    async def WhoCan(self, request: Any, context: Any) -> rights_pb2.WhoCanResponse:  # noqa: D102, N802 # gRPC's
        return await self._answer("WhoCan", request, context, rights_pb2.WhoCanResponse)

    async def WhatCan(self, request: Any, context: Any) -> rights_pb2.WhatCanResponse:  # noqa: D102, N802 # gRPC's
        return await self._answer("WhatCan", request, context, rights_pb2.WhatCanResponse)

    async def Compare(self, request: Any, context: Any) -> rehearsal_pb2.CompareResponse:  # noqa: D102, N802 # gRPC's
        return await self._answer("Compare", request, context, rehearsal_pb2.CompareResponse)

    async def Check(self, request: Any, context: Any) -> rehearsal_pb2.CheckResponse:  # noqa: D102, N802 # gRPC's
        return await self._answer("Check", request, context, rehearsal_pb2.CheckResponse)

    async def _answer(self, method: str, request: Any, context: Any, response: type[T]) -> T:
        _check_texts(request)
        standpoints = ("before", "after") if method == "Compare" else ("standpoint",)
        for field in standpoints:
            self.prepare(getattr(request, field), field)
        looked = [file for field in standpoints for file in getattr(request, field).files]
        if len(looked) > MAX_FILES or sum(len(file.content) for file in looked) > MAX_BYTES:
            raise RefusedError(Reason.REQUEST_TOO_LARGE, "files to look at", field=f"{standpoints[-1]}.files")
        desk = self._desk
        seconds = time_left(context, ANSWER_SECONDS)
        try:
            async with asyncio.timeout(seconds), desk.workers.lent(current_peer().label) as worker:
                sources = await desk.sources(worker)
                arguments = method, request.SerializeToString(), sources, desk.clock()
                data = await worker.call("policy.answering:answer", *arguments, seconds=ANSWER_SECONDS)
        except TimeoutError:
            raise RefusedError(Reason.DEADLINE_EXCEEDED, f"{method} took longer than {seconds:.0f} s") from None
        return response.FromString(data)

    def prepare(self, standpoint: rights_pb2.Standpoint, field: str) -> None:
        """Put the files of a proposal in its place, and see to it that there are not too many.

        Raises:
            RefusedError: REQUEST_TOO_LARGE, REQUEST_MALFORMED, PROPOSAL_UNKNOWN.
        """
        if standpoint.proposal_id:
            if self._proposed is None:
                raise RefusedError(Reason.PROPOSAL_UNKNOWN, "no proposals are kept here", field=f"{field}.proposal_id")
            publication = self._proposed(standpoint.proposal_id, current_peer().identity)
            for path, content in publication.files.items():
                standpoint.files.add(name=path, content=content)
            standpoint.removed_matters.extend(removed_matters(publication, self._desk.holder.current))
            standpoint.ClearField("proposal_id")
        check_standpoint(standpoint, field)


def check_standpoint(standpoint: rights_pb2.Standpoint, field: str) -> None:
    """See to it that there is not more to look at than one question may bring along.

    Raises:
        RefusedError: REQUEST_TOO_LARGE, REQUEST_MALFORMED.
    """
    size = sum(len(file.content) for file in standpoint.files)
    if len(standpoint.files) > MAX_FILES or len(standpoint.removed_matters) > MAX_FILES or size > MAX_BYTES:
        raise RefusedError(Reason.REQUEST_TOO_LARGE, "files to look at", field=f"{field}.files")
    if not all(len(file.name) <= MAX_NAME and file.name.isprintable() for file in standpoint.files):
        raise RefusedError(Reason.REQUEST_MALFORMED, "a name of a file", field=f"{field}.files")


def _check_texts(request: Message) -> None:
    for field, value in request.ListFields():
        if isinstance(value, str) and len(value) > MAX_NAME:
            raise RefusedError(Reason.REQUEST_MALFORMED, "a text that is too long", field=field.name)
