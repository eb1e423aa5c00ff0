"""What the demo asks of processes besides answers: whether they are ready, and their whole log."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audit.auditor import Auditor, ReadLog
from audit.proofs import HeadChecker
from certs.credentials import IdentityFiles
from certs.signing import CertificateVerifier
from zhiwang.audit.v1 import audit_pb2_grpc
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.identity import Kind, server_name


async def read_log(target: str, kind: Kind, department: str, files: IdentityFiles) -> ReadLog:
    """Read a log from its first entry to its signed checkpoint, and recompute its root.

    Args:
        target: Address of the process that keeps it.
        kind: What keeps it: a hub or an adapter.
        department: Whose it must be.
        files: An auditor's certificates, and the pinned authority.

    Raises:
        RefusedError: PROOF_INVALID, if it does not hold; or what the process refused.
    """
    verifier = CertificateVerifier(files.ca_pem, frozenset)
    checker = HeadChecker(verifier, kinds=(kind,), expected=lambda identity: identity.department == department)
    channel = open_channel(target, files.channel_credentials(), server_name=server_name(files.identity.city, kind))
    try:
        found, _ = await Auditor(audit_pb2_grpc.AuditServiceStub(channel), checker).verify()
    except grpc.aio.AioRpcError as error:
        raise refusal_of(error) from None
    finally:
        await channel.close()
    return found


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
