"""Reaching the process that keeps a log, from a command on the same machine or another one.

Whoever tells a process something that nobody else may hear has it prove first that it keeps the log that it says.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import grpc

from audit.proofs import HeadChecker
from certs.credentials import IdentityFiles
from certs.signing import CertificateVerifier
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Identity, Kind, server_name
from zhiwang.wire.process import read_address

TIMEOUT: Final = 60.0
"""Seconds that it may take to prove itself."""

_ADDRESS = re.compile(r"unix:.+|.+:\d{1,5}")
T = TypeVar("T")


class StrangerError(RefusedError):
    """What answers keeps another department's log."""


def address_of(source: str) -> str:
    """Where the process serves that keeps a log.

    Args:
        source: Its state directory, or its address.

    Raises:
        ValueError: It is neither, or nothing serves from there; with what to do.
    """
    if Path(source).is_dir():
        announced = read_address(Path(source))
        if announced is None or not announced.get("listen"):
            raise ValueError(f"nothing serves from {source}: it has no address.json. Start it, or give an address")
        return str(announced["listen"])
    if not _ADDRESS.fullmatch(source):
        raise ValueError(f"--from {source} is neither a directory nor host:port")
    return source


async def at_keeper(
    files: IdentityFiles,
    target: str,
    kind: Kind,
    owner: str,
    act: Callable[[grpc.aio.Channel, HeadChecker], Awaitable[T]],
) -> T:
    """Do something with the process that keeps a log.

    Args:
        files: Whose certificates are used.
        target: Where it serves.
        kind: What it must be.
        owner: Department whose own log it must be; empty for a hub's or the registrar's.
        act: What to do, over a channel to it, and what checks the heads of its log.

    Raises:
        StrangerError: It keeps another department's log.
        ZhiwangError: As the log's keeper refused, or what it says does not hold.
    """
    files.check_valid(time.time())
    strangers: list[Identity] = []

    def expected(identity: Identity) -> bool:
        if owner and identity.department != owner:
            strangers.append(identity)
            return False
        return True

    # No deny-list: a log whose key was revoked must still be read, and the pinned root is all that is trusted.
    checker = HeadChecker(CertificateVerifier(files.ca_pem, frozenset), kinds=(kind,), expected=expected)
    channel = open_channel(target, files.channel_credentials(), server_name=server_name(files.identity.city, kind))
    try:
        return await act(channel, checker)
    except grpc.aio.AioRpcError as error:
        raise refusal_of(error) from None
    except RefusedError:
        if strangers:
            raise StrangerError(
                Reason.IDENTITY_MISMATCH, f"{target} keeps the log of {strangers[0].short}, not one of {owner}"
            ) from None
        raise
    finally:
        await channel.close()


async def prove(channel: grpc.aio.Channel, checker: HeadChecker) -> None:
    """See that this is the process that keeps the log, before it is told about whom one speaks.

    Raises:
        RefusedError: PROOF_INVALID, or an error of the certificate.
    """
    stub = audit_pb2_grpc.AuditServiceStub(channel)
    checker.check((await stub.GetCheckpoint(audit_pb2.GetCheckpointRequest(), timeout=TIMEOUT)).head)
