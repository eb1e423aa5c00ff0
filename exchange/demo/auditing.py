"""An auditor reads a log from its first entry to its signed checkpoint, over AuditService, and trusts nobody.

What it needs is its certificate and the pinned authority. It recomputes the Merkle root from the entries' own bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audit.checkpoint import Checkpoint
from audit.entry import decode_entry
from audit.proofs import HeadChecker
from certs.credentials import IdentityFiles
from certs.signing import CertificateVerifier
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.merkle import Tree, leaf_hash

PAGE = 1000
TIMEOUT = 20.0
"""Seconds for one page."""


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """A log that was read whole.

    Attributes:
        origin: Whose it is.
        size: Entries under the checkpoint.
        events: How many there are of each kind.
    """

    origin: str
    size: int
    events: Counter[str]


async def verify_log(target: str, kind: Kind, department: str, auditor: IdentityFiles) -> VerifiedLog:
    """Read a log and recompute its root.

    Args:
        target: Address of the process that keeps it.
        kind: What keeps it: a hub or an adapter.
        department: Whose it must be.
        auditor: Who reads.

    Raises:
        RefusedError: PROOF_INVALID, if the entries are not what the checkpoint signs; or what the process refused.
    """
    verifier = CertificateVerifier(auditor.ca_pem, frozenset)
    checker = HeadChecker(verifier, kinds=(kind,), expected=lambda identity: identity.department == department)
    channel = open_channel(target, auditor.channel_credentials(), server_name=server_name(auditor.identity.city, kind))
    try:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        response = await stub.GetCheckpoint(audit_pb2.GetCheckpointRequest(), timeout=TIMEOUT)
        checkpoint = checker.check(response.head)
        entries = await _entries(stub, checkpoint.size)
    except grpc.aio.AioRpcError as error:
        raise refusal_of(error) from None
    finally:
        await channel.close()
    return _verified(checkpoint, entries)


async def _entries(stub: audit_pb2_grpc.AuditServiceStub, size: int) -> list[bytes]:
    entries: list[bytes] = []
    token = ""
    while len(entries) < size:
        request = audit_pb2.ListEntriesRequest(page_size=PAGE, page_token=token)
        page: audit_pb2.ListEntriesResponse = await stub.ListEntries(request, timeout=TIMEOUT)
        entries += page.entries
        token = page.next_page_token
        if not token:
            break
    # Reading is itself recorded: entries beyond the checkpoint are of later checkpoints.
    return entries[:size]


def _verified(checkpoint: Checkpoint, entries: list[bytes]) -> VerifiedLog:
    if len(entries) != checkpoint.size or Tree([leaf_hash(entry) for entry in entries]).root != checkpoint.root:
        raise RefusedError(Reason.PROOF_INVALID, f"{checkpoint.origin}: the entries are not those of the checkpoint")
    events = Counter[str](decode_entry(entry).WhichOneof("event") or "" for entry in entries)
    return VerifiedLog(checkpoint.origin, checkpoint.size, events)


async def is_serving(target: str, credentials: grpc.ChannelCredentials | None, name: str) -> bool:
    """Ask a process by `grpc.health.v1` whether it is ready.

    Args:
        target: Its address.
        credentials: For mTLS; None for an agent on this machine.
        name: Server name that its certificate must have; empty without credentials.
    """
    channel = open_channel(target, credentials, server_name=name)
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
    except grpc.aio.AioRpcError:
        return False
    finally:
        await channel.close()
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
