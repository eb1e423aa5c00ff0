"""The directory's gRPC services: its files (registrar and hub), and publishing (registrar). See also `reading.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from policy.admission import Signed
from policy.metadata import CENTRE, SUSPEND, Publication, department_of
from policy.mirror import Mirror
from policy.proposals import Proposal
from policy.registrar import Registrar
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.policy.v1 import policy_pb2, policy_pb2_grpc
from zhiwang.wire.call import current_peer
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.server import RpcRules

DIRECTORY_RULES: RpcRules = {
    "/zhiwang.exchange.v1.DirectoryService/GetFile": frozenset(Kind),
    "/zhiwang.exchange.v1.DirectoryService/Watch": frozenset(Kind),
}
"""Everybody with a certificate of the city; the files are signed and hold nothing personal."""

POLICY_ADMIN_RULES: RpcRules = {
    f"/zhiwang.policy.v1.PolicyAdminService/{method}": frozenset({Kind.ADMIN})
    for method in (
        "Publish",
        "Propose",
        "ListProposals",
        "GetProposal",
        "ApproveProposal",
        "RejectProposal",
        "PublishProposal",
        "OpenEmergency",
    )
} | {"/zhiwang.policy.v1.PolicyAdminService/ReviewEmergency": frozenset({Kind.ADMIN, Kind.AUDITOR})}

MAX_PAGE = 100
T = TypeVar("T")

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


class PolicyAdminServicer(policy_pb2_grpc.PolicyAdminServiceServicer):
    """Takes what admins sign. Who calls is only the first hurdle: the signatures decide.

    Args:
        registrar: Checks, keeps and publishes.
        centre: Department whose admins speak for the centre and hand in roots: the registrar's own.
    """

    def __init__(self, registrar: Registrar, centre: str) -> None:
        self._registrar = registrar
        self._centre = centre

    def proposed(self, proposal_id: str, reader: Identity) -> Publication:
        """What a proposal would publish, for an admin who may read it.

        Raises:
            RefusedError: PROPOSAL_UNKNOWN.
        """
        department = self._speaks_for(reader) if reader.kind is Kind.ADMIN else frozenset[str]()
        return self._registrar.proposal(proposal_id, department)[0].publication

    async def Publish(self, request: Any, context: Any) -> policy_pb2.PublishResponse:  # noqa: ARG002, D102, N802 # gRPC's
        admin, publication = self._handed_in(request)
        directory = await _to_its_end(self._registrar.publish(publication, admin))
        return policy_pb2.PublishResponse(
            directory_version=directory.version, role_version=directory.role_versions[publication.role]
        )

    async def Propose(self, request: Any, context: Any) -> policy_pb2.ProposeResponse:  # noqa: ARG002, D102, N802 # gRPC's
        admin, publication = self._handed_in(request.publication)
        kept = await _to_its_end(self._registrar.propose(publication, admin, request.note))
        return policy_pb2.ProposeResponse(proposal=_proposal(*kept))

    async def ListProposals(self, request: Any, context: Any) -> policy_pb2.ListProposalsResponse:  # noqa: ARG002, D102, N802 # gRPC's
        found = [_proposal(*one) for one in self._registrar.proposals(self._speaks_for(current_peer().identity))]
        start = _page_start(request.page_token, [one.id for one in found])
        end = start + (request.page_size if 0 < request.page_size <= MAX_PAGE else MAX_PAGE)
        token = found[end - 1].id if end < len(found) else ""
        return policy_pb2.ListProposalsResponse(proposals=found[start:end], next_page_token=token)

    async def GetProposal(self, request: Any, context: Any) -> policy_pb2.GetProposalResponse:  # noqa: ARG002, D102, N802 # gRPC's
        proposal, signed = self._registrar.proposal(request.proposal_id, self._speaks_for(current_peer().identity))
        files = [policy_pb2.PublishRequest.File(path=path, content=data) for path, data in proposal.files.items()]
        publication = policy_pb2.PublishRequest(role=proposal.role, metadata=proposal.metadata, files=files)
        return policy_pb2.GetProposalResponse(proposal=_proposal(proposal, signed), publication=publication)

    async def ApproveProposal(self, request: Any, context: Any) -> policy_pb2.ApproveProposalResponse:  # noqa: ARG002, D102, N802 # gRPC's
        admin = current_peer().identity
        approving = self._registrar.approve(request.proposal_id, request.metadata, admin, self._speaks_for(admin))
        return policy_pb2.ApproveProposalResponse(proposal=_proposal(*await _to_its_end(approving)))

    async def RejectProposal(self, request: Any, context: Any) -> policy_pb2.RejectProposalResponse:  # noqa: ARG002, D102, N802 # gRPC's
        admin = current_peer().identity
        await _to_its_end(self._registrar.reject(request.proposal_id, admin, request.note, self._speaks_for(admin)))
        return policy_pb2.RejectProposalResponse()

    async def PublishProposal(self, request: Any, context: Any) -> policy_pb2.PublishProposalResponse:  # noqa: ARG002, D102, N802 # gRPC's
        admin = current_peer().identity
        proposal, _ = self._registrar.proposal(request.proposal_id, self._speaks_for(admin))
        publishing = self._registrar.publish_proposal(request.proposal_id, admin, self._speaks_for(admin))
        directory = await _to_its_end(publishing)
        return policy_pb2.PublishProposalResponse(
            directory_version=directory.version, role_version=directory.role_versions[proposal.role]
        )

    async def OpenEmergency(self, request: Any, context: Any) -> policy_pb2.OpenEmergencyResponse:  # noqa: ARG002, D102, N802 # gRPC's
        role = request.publication.role
        admin, publication = self._handed_in(request.publication, department_of(role))
        opening = self._registrar.open_emergency(publication, admin, request.reason, request.salt)
        directory = await _to_its_end(opening)
        return policy_pb2.OpenEmergencyResponse(
            directory_version=directory.version, role_version=directory.role_versions[role]
        )

    async def ReviewEmergency(self, request: Any, context: Any) -> policy_pb2.ReviewEmergencyResponse:  # noqa: ARG002, D102, N802 # gRPC's
        reviewer = current_peer().identity
        await _to_its_end(self._registrar.review_emergency(request.opening, reviewer, request.note))
        return policy_pb2.ReviewEmergencyResponse()

    def _speaks_for(self, admin: Identity) -> frozenset[str]:
        """Roles, without what they delegate on, that an admin may hand things in for."""
        return frozenset({admin.department, CENTRE, "root"} if admin.department == self._centre else {admin.department})

    def _handed_in(
        self, request: policy_pb2.PublishRequest, department: str | None = None
    ) -> tuple[Identity, Publication]:
        """What an admin handed in for a role, or for what it delegates; emergencies are opened by their own RPC."""
        admin = current_peer().identity
        if (department or request.role.removesuffix(SUSPEND)) not in self._speaks_for(admin):
            raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{admin.short} does not speak for this role", field="role")
        files = {file.path: file.content for file in request.files}
        if len(files) != len(request.files):
            raise RefusedError(Reason.METADATA_INVALID, "a file was sent twice", field="files")
        return admin, Publication(request.role, request.metadata, files)


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Shielded: once begun it runs to its end, whether or not the caller waits."""
    return await asyncio.shield(asyncio.ensure_future(work))


def _page_start(token: str, ids: Sequence[str]) -> int:
    """Where a page begins: behind the one that the last page ended with."""
    if not token:
        return 0
    if token not in ids:
        raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token")
    return ids.index(token) + 1


def _proposal(proposal: Proposal, signed: Signed) -> policy_pb2.Proposal:
    message = policy_pb2.Proposal(
        id=proposal.id, role=proposal.role, role_version=signed.version, note=proposal.note, threshold=signed.threshold
    )
    message.expire_time.FromNanoseconds(int(proposal.expires * 1e9))
    for approval in proposal.approvals:
        message.approvals.add(admin=approval.admin).time.FromNanoseconds(int(approval.time * 1e9))
    return message
