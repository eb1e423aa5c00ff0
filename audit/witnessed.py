"""How a process has its log cosigned: whose cosignatures count, as the centre says; where they are had, as its profile.

The profile gives addresses only: a keeper that could choose its witnesses could choose some that look away. Hub,
adapters and registrar do it alike, each for its own log; nobody relays for another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from audit.cosignature import WitnessPolicy
from audit.cosigning import Cosigning, CosigningMeter
from audit.store import LogStore
from audit.witness_client import HttpWitness
from certs.credentials import IdentityFiles
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import metrics
from zhiwang.wire.kept import KeptFile
from zhiwang.wire.profile import Cosigning as CosigningTable
from zhiwang.wire.vkey import VerifierKey

COSIGNED: Final = "cosigned.json"
"""In the state directory of its keeper: the newest checkpoint that a quorum cosigned."""


class NamesWitnesses(Protocol):
    """What a centre says of its witnesses, so that nothing of policy needs to be known here."""

    @property
    def witnesses(self) -> Mapping[str, Sequence[VerifierKey]]:
        """Keys of each, by its name; empty for none."""

    @property
    def witness_quorum(self) -> int:
        """How many of them must have cosigned a checkpoint."""


class HasCentre(Protocol):
    """A directory."""

    @property
    def centre(self) -> NamesWitnesses:
        """What the centre says."""


class HasDirectory(Protocol):
    """Holds the directory."""

    @property
    def latest(self) -> HasCentre | None:
        """The newest seen, even if it has expired; None while there is none."""


def policy_of(centre: NamesWitnesses) -> WitnessPolicy | None:
    """The witnesses that a centre names; None if there are none.

    A centre that was parsed holds together, so this does not fail.
    """
    if not centre.witnesses:
        return None
    return WitnessPolicy(centre.witnesses, centre.witness_quorum)


class PolicyInForce:
    """Gives the policy of the newest directory seen; made anew only when the centre's file changes.

    An expired one still says who the witnesses are: by an expired directory nothing is answered anyway.
    """

    def __init__(self, holder: HasDirectory) -> None:
        self._holder = holder
        self._centre: NamesWitnesses | None = None
        self._policy: WitnessPolicy | None = None

    def __call__(self) -> WitnessPolicy | None:
        """The policy; None while there is no directory, or no witness in it."""
        latest = self._holder.latest
        centre = None if latest is None else latest.centre
        if centre is not self._centre:
            self._centre = centre
            self._policy = None if centre is None else policy_of(centre)
        return self._policy


class _Meter(CosigningMeter):
    """Counts, and has the log say when its witnesses were missing."""

    def __init__(self, keeper: str, note: Callable[[audit_pb2.QuorumChange], None]) -> None:
        self._note = note
        self._failures = metrics.counter(
            f"zhiwang_{keeper}_witness_failures", "Times that a witness gave no cosignature", ("witness", "kind")
        )

    def failed(self, witness: str, kind: str) -> None:
        self._failures.labels(witness, kind).inc()

    def quorum_changed(self, *, held: bool, size: int, quorum: int) -> None:
        self._note(audit_pb2.QuorumChange(held=held, size=size, quorum=quorum))


def make_cosigning(
    keeper: str,
    table: CosigningTable,
    files: IdentityFiles,
    state: Path,
    store: Callable[[], LogStore],
    holder: HasDirectory,
    note: Callable[[audit_pb2.QuorumChange], None],
    clock: Callable[[], float],
) -> Cosigning:
    """What gathers cosignatures of a log, with its metrics.

    Args:
        keeper: Noun of the process, in the names of its metrics.
        table: Of its profile.
        files: Its certificates.
        state: Its state directory, in which the newest cosigned checkpoint is kept.
        store: Gives the log.
        holder: Has the directory, which names the witnesses.
        note: Has the log say that the quorum was lost or is back; returns at once.
        clock: Seconds since the epoch.
    """
    clients = {name: HttpWitness(one, files.ca_pem, files.identity.city) for name, one in table.witness.items()}
    cosigning = Cosigning(
        store,
        PolicyInForce(holder),
        clients,
        KeptFile(state / COSIGNED),
        clock,
        every=table.every,
        alarm_after=table.alarm_after,
        stop_after=table.stop_releasing_after,
        meter=_Meter(keeper, note),
    )
    metrics.gauge(f"zhiwang_{keeper}_cosigned_size", "Entries of the newest tree that a quorum cosigned").set_function(
        lambda: 0 if cosigning.newest is None else cosigning.newest.size
    )
    metrics.gauge(f"zhiwang_{keeper}_cosign_lag_entries", "Entries that no quorum has cosigned yet").set_function(
        lambda: cosigning.behind
    )
    metrics.gauge(
        f"zhiwang_{keeper}_cosign_lag_seconds", "Seconds since the last member of the newest quorum signed"
    ).set_function(lambda: cosigning.age)
    return cosigning
