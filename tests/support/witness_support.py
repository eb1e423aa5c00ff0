"""A witness for tests: its real store, key and rules, without HTTP; and submissions of a real log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import audit_support as support
from audit.appended import Head
from audit.cosignature import WitnessPolicy
from audit.store import LogStore
from audit.submission import Submission
from audit.witness import Answer, KnownLogs, Witness
from audit.witness_client import Reply
from audit.witness_store import WitnessStore
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.vkey import ALGORITHM_COSIGNATURE, VerifierKey

ORIGIN = support.HUB.log_origin


def private_key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def witness_key(number: int) -> VerifierKey:
    raw = private_key(number).public_key().public_bytes_raw()
    return VerifierKey(f"shenzhen/office{number}/witness/main", raw, ALGORITHM_COSIGNATURE)


def policy(count: int, quorum: int) -> WitnessPolicy:
    return WitnessPolicy({f"w{number}": [witness_key(number)] for number in range(1, count + 1)}, quorum)


@dataclass
class Kit:
    """A witness and what a test may change of it.

    Attributes:
        now: What its clock says; the true time if None.
        current: Whether it has a current revocation list.
        revoked: What is in it.
    """

    path: Path
    number: int = 1
    certified: Sequence[str] = (ORIGIN,)
    keys: dict[str, Sequence[VerifierKey]] = field(default_factory=dict)
    now: float | None = None
    current: bool = True
    revoked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        fresh = not self.path.exists()
        (self.path / "guard").mkdir(parents=True, exist_ok=True)
        (self.path / "evidence").mkdir(exist_ok=True)
        make = WitnessStore.create if fresh else WitnessStore.open
        self.store = make(self.path / "witness.db", self.path / "guard" / "sizes.json")
        logs = KnownLogs(self.keys, self.certified, support.verifier(self.revoked), lambda: self.current, self.time)
        self.witness = Witness(
            witness_key(self.number),
            private_key(self.number).sign,
            logs,
            self.store,
            self.path / "evidence",
            self.time,
        )

    def time(self) -> float:
        return time.time() if self.now is None else self.now

    def close(self) -> None:
        self.store.close()

    def add(self, store: LogStore, head: Head, old: int) -> Answer:
        return self.witness.add_checkpoint(submission(store, head, old), head.certificate)

    @property
    def evidence(self) -> list[str]:
        return [path.read_text() for path in sorted((self.path / "evidence").iterdir())]


def submission(store: LogStore, head: Head, old: int) -> bytes:
    """What a log sends that believes the witness to be at `old`."""
    proof = store.consistency(old, head.size) if 0 < old < head.size else []
    return Submission(old, proof, head.checkpoint).encode()


class Near:
    """Reaches a witness of this process; `change` makes it lie, `down` makes it silent."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.down = False
        self.asked = 0
        self.change: Callable[[Answer], Answer] = lambda answer: answer

    async def submit(self, body: bytes, certificate: bytes) -> Reply:
        self.asked += 1
        if self.down:
            raise RefusedError(Reason.HUB_UNREACHABLE, "down")
        answer = self.change(self.kit.witness.add_checkpoint(body, certificate))
        return Reply(int(answer.status), answer.content_type.partition(";")[0], answer.body)

    async def close(self) -> None:
        self.down = True
