"""The directory's gRPC services: reading (registrar and hub), explaining (hub), publishing (registrar)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from policy.directory import DirectoryHolder
from policy.enforcer import Question
from policy.metadata import CENTRE, SUSPEND, Publication
from policy.mirror import Mirror
from policy.model import Directory
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.policy.v1 import policy_pb2, policy_pb2_grpc
from zhiwang.wire.call import current_peer
from zhiwang.wire.claims import Ask
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.places import Jurisdiction
from zhiwang.wire.server import RpcRules

DIRECTORY_RULES: RpcRules = {
    "/zhiwang.exchange.v1.DirectoryService/GetFile": frozenset(Kind),
    "/zhiwang.exchange.v1.DirectoryService/Watch": frozenset(Kind),
}
"""Everybody with a certificate of the city; the files are signed and hold nothing personal."""

POLICY_RULES: RpcRules = {
    "/zhiwang.policy.v1.PolicyService/GetDirectory": frozenset({Kind.ADMIN, Kind.AUDITOR}),
    "/zhiwang.policy.v1.PolicyService/Explain": frozenset({Kind.ADMIN, Kind.AUDITOR}),
}

POLICY_ADMIN_RULES: RpcRules = {
    "/zhiwang.policy.v1.PolicyAdminService/Publish": frozenset({Kind.ADMIN}),
}

_MAX_PATH = 256


class DirectoryServicer(exchange_pb2_grpc.DirectoryServiceServicer):
    """Serves the files of a mirror."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    async def GetFile(self, request: Any, context: Any) -> exchange_pb2.GetFileResponse:  # noqa: ARG002, D102, N802 # gRPC's
        content = await self._mirror.find(request.path) if len(request.path) <= _MAX_PATH else None
        if content is None:
            raise RefusedError(Reason.FILE_UNKNOWN)
        return exchange_pb2.GetFileResponse(content=content)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[exchange_pb2.WatchResponse]:  # noqa: ARG002, D102, N802 # gRPC's
        peer = current_peer()
        async for timestamp in self._mirror.watch():
            peer.check()
            yield exchange_pb2.WatchResponse(timestamp=timestamp)


class PolicyServicer(policy_pb2_grpc.PolicyServiceServicer):
    """Tells admins and auditors what is in force and why something would be allowed or not."""

    def __init__(self, holder: DirectoryHolder, clock: Callable[[], float]) -> None:
        self._holder = holder
        self._clock = clock

    async def GetDirectory(self, request: Any, context: Any) -> policy_pb2.GetDirectoryResponse:  # noqa: ARG002, D102, N802 # gRPC's
        directory = self._holder.current
        expires = Timestamp()
        expires.FromNanoseconds(int(directory.expires * 1e9))
        return policy_pb2.GetDirectoryResponse(
            directory_version=directory.version, role_versions=directory.role_versions, expire_time=expires
        )

    async def Explain(self, request: Any, context: Any) -> policy_pb2.ExplainResponse:  # noqa: ARG002, D102, N802 # gRPC's
        enforcer = self._holder.enforcer
        ask = Ask.parse(request.ask)
        decision = enforcer.decide(
            Question(
                system=Identity.parse(request.system),
                role=request.role,
                owner=ask.owner,
                attribute=ask.attribute,
                predicate=ask.predicate,
                jurisdiction=Jurisdiction.parse(request.jurisdiction),
                matter=request.matter,
                assurance=_assurance(request.assurance),
                now=self._clock(),
            )
        )
        return policy_pb2.ExplainResponse(
            allowed=decision.allowed,
            reason="" if decision.reason is None else decision.reason.name,
            rule_ids=decision.rule_ids,
            directory_version=enforcer.directory.version,
        )


def _assurance(word: str) -> int:
    try:
        return int(sealed_pb2.Assurance.Value(f"ASSURANCE_{(word or 'asserted').upper()}"))
    except ValueError:
        raise RefusedError(Reason.REQUEST_MALFORMED, "no such assurance", field="assurance") from None


class PolicyAdminServicer(policy_pb2_grpc.PolicyAdminServiceServicer):
    """Takes signed publications. Who calls is only the first hurdle: the signatures decide.

    Args:
        publish: Checks and publishes.
        centre: Department whose admins speak for the centre and hand in roots: the registrar's own.
    """

    def __init__(self, publish: Callable[[Publication], Awaitable[Directory]], centre: str) -> None:
        self._publish = publish
        self._centre = centre

    async def Publish(self, request: Any, context: Any) -> policy_pb2.PublishResponse:  # noqa: ARG002, D102, N802 # gRPC's
        caller = current_peer().identity
        speaks_for = self._centre if request.role in {"root", CENTRE} else request.role.removesuffix(SUSPEND)
        if caller.department != speaks_for:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{caller.short} does not speak for this role", field="role")
        files = {file.path: file.content for file in request.files}
        if len(files) != len(request.files):
            raise RefusedError(Reason.METADATA_INVALID, "a file was sent twice", field="files")
        # Shielded: once begun it runs to its end, whether or not the caller waits.
        directory = await asyncio.shield(
            asyncio.ensure_future(self._publish(Publication(request.role, request.metadata, files)))
        )
        return policy_pb2.PublishResponse(
            directory_version=directory.version, role_version=directory.role_versions[request.role]
        )
