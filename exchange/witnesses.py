"""The city's witnesses: whose cosignatures count, as the centre says, and how a hub gathers them, as its profile says.

The hub's profile gives addresses only. A hub that could choose its witnesses could choose some that look away.
"""

from __future__ import annotations

from collections.abc import Callable

from audit.cosignature import WitnessPolicy
from audit.cosigning import Cosigning, CosigningMeter
from audit.store import LogStore
from audit.witness_client import HttpWitness
from certs.credentials import IdentityFiles
from exchange.config import StateFiles
from exchange.hub import Hub
from policy.directory import DirectoryHolder
from policy.model import Centre
from zhiwang.wire import metrics
from zhiwang.wire.kept import KeptFile
from zhiwang.wire.profile import Cosigning as CosigningTable


def policy_of(centre: Centre) -> WitnessPolicy | None:
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

    def __init__(self, holder: DirectoryHolder) -> None:
        self._holder = holder
        self._centre: Centre | None = None
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

    def __init__(self, hub: Callable[[], Hub]) -> None:
        self._hub = hub
        self._failures = metrics.counter(
            "zhiwang_hub_witness_failures", "Times that a witness gave no cosignature", ("witness", "kind")
        )

    def failed(self, witness: str, kind: str) -> None:
        self._failures.labels(witness, kind).inc()

    def quorum_changed(self, *, held: bool, size: int, quorum: int) -> None:
        self._hub().note_quorum(held=held, size=size, quorum=quorum)


def make_cosigning(
    table: CosigningTable,
    files: IdentityFiles,
    state: StateFiles,
    store: Callable[[], LogStore],
    holder: DirectoryHolder,
    hub: Callable[[], Hub],
    clock: Callable[[], float],
) -> Cosigning:
    """What gathers cosignatures of a hub's log, with its metrics.

    Args:
        table: Of the hub's profile.
        files: The hub's certificates.
        state: Where the newest cosigned checkpoint is kept.
        store: Gives the log.
        holder: Has the directory, which names the witnesses.
        hub: Gives the hub, once it is put together.
        clock: Seconds since the epoch.
    """
    clients = {name: HttpWitness(one, files.ca_pem, files.identity.city) for name, one in table.witness.items()}
    cosigning = Cosigning(
        store,
        PolicyInForce(holder),
        clients,
        KeptFile(state.cosigned),
        clock,
        every=table.every,
        alarm_after=table.alarm_after,
        stop_after=table.stop_releasing_after,
        meter=_Meter(hub),
    )
    metrics.gauge("zhiwang_hub_cosigned_size", "Entries of the newest tree that a quorum cosigned").set_function(
        lambda: 0 if cosigning.newest is None else cosigning.newest.size
    )
    metrics.gauge("zhiwang_hub_cosign_lag_entries", "Entries that no quorum has cosigned yet").set_function(
        lambda: cosigning.behind
    )
    metrics.gauge(
        "zhiwang_hub_cosign_lag_seconds", "Seconds since the last member of the newest quorum signed"
    ).set_function(lambda: cosigning.age)
    return cosigning
