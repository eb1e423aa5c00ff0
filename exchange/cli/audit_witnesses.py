"""What auditors are told of a log's witnesses: who cosigned which checkpoint, and when."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from audit.auditor import Auditor
from audit.checkpoint import Checkpoint, CheckpointError
from audit.cosignature import Cosignature, WitnessPolicy
from audit.tlog_policy import parse_policy
from certs.credentials import IdentityFiles
from exchange.cli.audit_reading import time_text
from zhiwang.wire import output
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.identity import Kind
from zhiwang.wire.profile import Profile

Witnesses = Annotated[
    Path | None,
    typer.Option(
        "--witness-policy",
        metavar="FILE",
        help="Demand the quorum of witnesses of this file (C2SP tlog-policy); else those of the directory are told of.",
        exists=True,
        dir_okay=False,
    ),
]


class Witnessed(NamedTuple):
    """What witnesses say of a log.

    Attributes:
        checkpoint: The newest that they cosigned, of the same history as the log; None if the keeper shows none.
        cosignatures: Of witnesses that count.
        quorum: How many are needed; 0 if nobody says.
    """

    checkpoint: Checkpoint | None
    cosignatures: tuple[Cosignature, ...]
    quorum: int

    @property
    def facts(self) -> dict[str, Any] | None:
        """As JSON has it; None if there is nothing to tell."""
        if self.checkpoint is None:
            return None
        return {
            "size": self.checkpoint.size,
            "quorum": self.quorum or None,
            "cosignatures": [{"witness": one.name, "time": time_text(one.time)} for one in self.cosignatures],
        }

    @property
    def rows(self) -> list[tuple[str, str]]:
        """For a table."""
        if self.checkpoint is None:
            return []
        told = [("见证 cosigned", f"{self.checkpoint.size} entries, {len(self.cosignatures)} of {self.quorum} needed")]
        return [*told, *((f"  {one.name}", time_text(one.time)) for one in self.cosignatures)]


def witnesses_of(path: Path | None) -> WitnessPolicy | None:
    """The policy in a file that was given."""
    if path is None:
        return None
    try:
        return parse_policy(path.read_bytes())
    except CheckpointError as error:
        output.usage_error(f"--witness-policy {path}: {error}")


async def witnessed(
    auditor: Auditor, profile: Profile, head: Any, newest: Checkpoint, demanded: WitnessPolicy | None
) -> Witnessed:
    """What witnesses say of a log that was verified.

    Args:
        auditor: Who read it.
        profile: Names the hub, whose directory names the witnesses.
        head: From `Auditor.cosigned`, before the log was read; None for none.
        newest: The checkpoint that was verified.
        demanded: Whose quorum must have cosigned.

    Raises:
        RefusedError: NOT_WITNESSED: the quorum that is demanded did not; PROOF_INVALID: what was cosigned is of
            another history than the log.
    """
    if head is None:
        if demanded is not None:
            raise RefusedError(Reason.NOT_WITNESSED, "its keeper shows no cosigned checkpoint")
        return Witnessed(None, (), 0)
    checkpoint = await auditor.check_cosigned(head, newest)
    if checkpoint is None:
        return Witnessed(None, (), 0)
    policy = demanded or await _published(profile)
    try:
        found = () if policy is None else policy.cosignatures(head.checkpoint)
    except CheckpointError as error:
        raise RefusedError(Reason.PROOF_INVALID, f"cosigned checkpoint of {checkpoint.origin}: {error}") from None
    if demanded is not None and len(found) < demanded.quorum:
        raise RefusedError(Reason.NOT_WITNESSED, f"{len(found)} of the {demanded.quorum} witnesses that are needed")
    return Witnessed(checkpoint, found, 0 if policy is None else policy.quorum)


async def _published(profile: Profile) -> WitnessPolicy | None:
    """The witnesses of the directory that the hub serves now, verified from the pinned root on."""
    # Lazily, so that commands which only offer the option are quick.
    from audit.witnessed import policy_of  # noqa: PLC0415
    from exchange.doctor.directory import served  # noqa: PLC0415
    from exchange.doctor.local import host_of  # noqa: PLC0415
    from exchange.doctor.network import Peer  # noqa: PLC0415

    def fetch() -> WitnessPolicy | None:
        host = host_of(profile)
        files = IdentityFiles(profile.identity, profile.root)
        directory = served(host, files, Peer(profile.hub[0], Kind.HUB))
        return policy_of(directory.centre) if directory.expires > time.time() else None

    if not profile.hub:
        return None
    try:
        return await asyncio.to_thread(fetch)
    except (ZhiwangError, OSError) as error:
        output.say(f"没有名录，无法辨认见证方  The directory cannot be had, so the witnesses are not known: {error}")
        return None
