"""The registrar at the other end of a command: reading the directory as an admin does, and publishing.

Read from the pinned root on, with nothing kept: whoever carries the bytes is not trusted.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import grpc

from certs.credentials import IdentityFiles
from certs.identity import CA_CERTIFICATE, ROOT_METADATA
from policy import publishing
from policy.directory import DirectoryClient
from policy.metadata import Publication
from policy.model import Directory
from policy.source import hub_fetch
from zhiwang.exchange.v1 import exchange_pb2_grpc
from zhiwang.policy.v1 import policy_pb2, policy_pb2_grpc
from zhiwang.wire.channel import TOLD, open_channel, refusal_of
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.profile import Profile

PUBLISH_SECONDS = 30.0
T = TypeVar("T")


class RegistrarLink:
    """The registrar at the other end of one channel."""

    def __init__(self, profile: Profile, channel: grpc.aio.Channel) -> None:
        self._profile = profile
        self._root_json = (profile.root / ROOT_METADATA).read_bytes()
        self._directory = exchange_pb2_grpc.DirectoryServiceStub(channel)
        self._admin = policy_pb2_grpc.PolicyAdminServiceStub(channel)
        self.fetch = hub_fetch(lambda: self._directory)

    async def current(self) -> publishing.Current:
        """What is in force, for drafting."""
        return await asyncio.to_thread(publishing.read_current, self.fetch, self._root_json, time.time())

    async def directory(self) -> Directory:
        """What is in force, as every reader sees it."""
        ca_pem = (self._profile.root / CA_CERTIFICATE).read_bytes()
        with tempfile.TemporaryDirectory(prefix="zhiwang-") as scratch:
            client = DirectoryClient(self._root_json, ca_pem, Path(scratch), self.fetch)
            return await asyncio.to_thread(client.refresh)

    async def publish(self, publication: Publication) -> policy_pb2.PublishResponse:
        """Sends one publication."""
        response: policy_pb2.PublishResponse = await self._ask(self._admin.Publish, _request(publication))
        return response

    async def open_emergency(
        self, publication: Publication, reason: str, salt: bytes
    ) -> policy_pb2.OpenEmergencyResponse:
        """Opens an emergency."""
        request = policy_pb2.OpenEmergencyRequest(publication=_request(publication), reason=reason, salt=salt)
        response: policy_pb2.OpenEmergencyResponse = await self._ask(self._admin.OpenEmergency, request)
        return response

    async def review_emergency(self, opening: str, note: str) -> None:
        """Hands in what was found of an opened emergency."""
        await self._ask(self._admin.ReviewEmergency, policy_pb2.ReviewEmergencyRequest(opening=opening, note=note))

    async def propose(self, publication: Publication, note: str) -> policy_pb2.Proposal:
        """Hands in what one admin has signed."""
        request = policy_pb2.ProposeRequest(publication=_request(publication), note=note)
        response: policy_pb2.ProposeResponse = await self._ask(self._admin.Propose, request)
        return response.proposal

    async def proposals(self) -> list[policy_pb2.Proposal]:
        """Open proposals of the caller's department."""
        found: list[policy_pb2.Proposal] = []
        token = ""
        while True:
            request = policy_pb2.ListProposalsRequest(page_token=token)
            response: policy_pb2.ListProposalsResponse = await self._ask(self._admin.ListProposals, request)
            found += response.proposals
            token = response.next_page_token
            if not token:
                return found

    async def proposal(self, proposal_id: str) -> tuple[policy_pb2.Proposal, Publication]:
        """One proposal, and what is to be signed."""
        request = policy_pb2.GetProposalRequest(proposal_id=proposal_id)
        response: policy_pb2.GetProposalResponse = await self._ask(self._admin.GetProposal, request)
        handed = response.publication
        files = {file.path: file.content for file in handed.files}
        return response.proposal, Publication(handed.role, handed.metadata, files)

    async def approve(self, proposal_id: str, metadata: bytes) -> policy_pb2.Proposal:
        """Hands in a signature."""
        request = policy_pb2.ApproveProposalRequest(proposal_id=proposal_id, metadata=metadata)
        response: policy_pb2.ApproveProposalResponse = await self._ask(self._admin.ApproveProposal, request)
        return response.proposal

    async def reject(self, proposal_id: str, note: str) -> None:
        """Takes a proposal away."""
        await self._ask(
            self._admin.RejectProposal, policy_pb2.RejectProposalRequest(proposal_id=proposal_id, note=note)
        )

    async def publish_proposal(self, proposal_id: str) -> tuple[int, int]:
        """Publishes a proposal; gives the version of the role and of the directory."""
        request = policy_pb2.PublishProposalRequest(proposal_id=proposal_id)
        response: policy_pb2.PublishProposalResponse = await self._ask(self._admin.PublishProposal, request)
        return response.role_version, response.directory_version

    async def blocking(self, work: Callable[[], T]) -> T:
        """Something that fetches files and blocks."""
        return await asyncio.to_thread(work)

    async def _ask(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return await method(request, timeout=PUBLISH_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _with_findings(refusal_of(error)) from None


def _request(publication: Publication) -> policy_pb2.PublishRequest:
    files = [policy_pb2.PublishRequest.File(path=path, content=data) for path, data in publication.files.items()]
    return policy_pb2.PublishRequest(role=publication.role, metadata=publication.metadata, files=files)


def _with_findings(error: RefusedError) -> RefusedError:
    """The registrar tells its findings in the error's metadata."""
    findings = [text for key, text in sorted(error.metadata.items()) if key.startswith("finding-")]
    return RefusedError(error.reason, "\n  ".join(findings) or error.detail, field=error.field)


def with_registrar(profile: Profile, use: Callable[[RegistrarLink], Coroutine[Any, Any, T]]) -> T:
    """Run something against the registrar of a profile.

    Raises:
        FatalError: INTERNAL: the profile names no registrar, or none answers there.
        RefusedError: What the registrar says.
    """
    registrar = profile.registrar
    if registrar is None:
        raise FatalError(Reason.INTERNAL, f"{profile.path.name} names no registrar")
    files = IdentityFiles(profile.identity, profile.root)
    files.check_valid(time.time())

    async def main() -> T:
        name = server_name(files.identity.city, Kind.REGISTRAR)
        async with open_channel(registrar, files.channel_credentials(), server_name=name) as channel:
            return await use(RegistrarLink(profile, channel))

    try:
        return asyncio.run(main())
    except RefusedError as error:
        if error.reason is Reason.HUB_UNREACHABLE and error.detail != TOLD:
            raise FatalError(
                Reason.INTERNAL,
                f"no registrar answers at {registrar} ({error.detail}); does it run, is that its address?",
            ) from None
        raise
