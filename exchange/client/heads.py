"""What this requester has seen of each hub's log, over restarts: `state/heads.json`.

A log that forks or falls back is noticed because somebody remembers. Losing the file forgets what was seen, so it is
never replaced by an empty one, and one that cannot be read stops the start.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import structlog

from audit.checkpoint import Checkpoint
from audit.origins import log_of
from audit.proofs import HeadChecker
from audit.years import YearsView
from certs.identity import Kind
from certs.signing import CertificateVerifier
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.channel import refusal_of
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.kept import KeptFile

FILE = "heads.json"

SAVE_SECONDS = 1.0
"""How long what was seen may stay unwritten."""

LINK_SECONDS = 1.0
"""How often hubs that share a log are asked how their heads are related, while they are not."""

PATIENCE = 300
"""How often they are asked in vain before nothing more of that log is believed: five minutes at least."""

PROOF_SECONDS = 5.0
"""How long one answer about that may take."""

MAX_OWNER_LOGS = 1024
"""Owners' logs of which the newest head is remembered, in memory only."""


_log = structlog.get_logger(__name__)


class OtherLogError(Exception):
    """The hub at this address keeps another log than it did, of which more was seen than it was told."""


class Heads:
    """Owned by the event loop.

    Args:
        state: Directory of this client alone.
        verifier: Of this city's certificates.
        clock: Seconds since the epoch.

    Raises:
        FatalError: PROOF_INVALID, if the file is damaged.
    """

    def __init__(self, state: Path, verifier: CertificateVerifier, clock: Callable[[], float]) -> None:
        self._path = state / FILE
        self._file = KeptFile(self._path)
        self._verifier = verifier
        self._clock = clock
        self._hubs = HeadChecker(verifier, kinds={Kind.HUB}, clock=clock)
        self._views: dict[str, YearsView] = {}
        self._origins: dict[str, str] = {}
        self._owners: dict[str, HeadChecker] = {}
        self._owner_heads: OrderedDict[str, Checkpoint] = OrderedDict()
        self._dirty = False
        # What each hub whose stream is open was told first, or has shown last: it proves its next head from there.
        self._tips: dict[str, tuple[str, int]] = {}
        self._in_vain = 0
        self._load()

    def known(self, target: str) -> int:
        """Size of the log that was verified last of the hub at an address; 0 for none."""
        view = self._views.get(self._origins.get(target, ""))
        return 0 if view is None else view.known_tree_size

    def known_origin(self, target: str) -> str:
        """Which of the hub's logs that is; empty for none."""
        view = self._views.get(self._origins.get(target, ""))
        return "" if view is None else view.known_origin

    def begin(self, target: str) -> tuple[str, int]:
        """A stream to the hub at an address begins: origin and size of what it has to be told that is known."""
        known = self.known_origin(target), self.known(target)
        self._tips[target] = known
        self._hold(known[0])
        return known

    def end(self, target: str) -> None:
        """The stream is over."""
        origin, _ = self._tips.pop(target, ("", 0))
        self._hold(origin)

    def introduce(self, target: str, head: audit_pb2.LogHead) -> None:
        """A hub that nothing is known of has shown a head: which log it has, that of another hub perhaps.

        Raises:
            RefusedError: As `check_hub`.
        """
        origin = log_of(self._hubs.check(head).origin)
        if origin in self._views:
            self._origins[target] = origin
        else:
            self.check_hub(target, head)

    def check_hub(self, target: str, head: audit_pb2.LogHead) -> Checkpoint:
        """Verify a head of the hub's log at an address, and that it extends what was seen.

        A hub proves each of its heads from the one before on the same stream; what is proved from anything older is
        refused at once. Heads of several hubs that share a log are so proved each from its own before; how they are
        related among each other is asked beside that (`relate`).

        Raises:
            OtherLogError: Ask again, saying what `known` says from here on.
            RefusedError: PROOF_INVALID, or what is wrong with the certificate.
        """
        checkpoint = self._hubs.check(head)
        origin = log_of(checkpoint.origin)
        known_origin, known = self._tips.get(target) or (self.known_origin(target), self.known(target))
        if log_of(known_origin) != origin:
            known_origin, known = "", 0
        view = self._views.get(origin)
        if view is None:
            view = YearsView(self._hubs, origin)
        elif not known and self._origins.get(target) != origin:
            self._origins[target] = origin
            raise OtherLogError(origin)
        if self._in_vain >= PATIENCE:
            raise RefusedError(
                Reason.PROOF_INVALID,
                f"{origin}: the hubs do not say how heads of it are related that they have shown; nothing is believed "
                "until they do. Are they as new as this agent?",
            )
        before = view.revision
        try:
            checkpoint = view.verify_head(head, known, known_origin)
        finally:
            # A fork is remembered as well.
            self._dirty = self._dirty or view.revision != before
        self._views[origin] = view
        self._origins[target] = origin
        if target in self._tips:
            self._tips[target] = checkpoint.origin, checkpoint.size
            self._hold(origin)
        return checkpoint

    def _hold(self, origin: str) -> None:
        log = log_of(origin) if origin else ""
        if log in self._views:
            self._views[log].hold(tip for tip in self._tips.values() if tip[0] and log_of(tip[0]) == log)

    @property
    def wanted(self) -> tuple[int, int, str] | None:
        """Two sizes of a log, and its origin, of which it is not known how they are related; None if all is."""
        for view in self._views.values():
            if (link := view.wanted_link) is not None:
                return *link, view.wanted_origin
        return None

    def settle(self, old_size: int, new_size: int, origin: str, answer: audit_pb2.GetConsistencyProofResponse) -> None:
        """A hub's answer to `wanted`.

        Raises:
            RefusedError: PROOF_INVALID: the hubs show different logs, and nothing of them is believed from here on; or
                this is no answer.
        """
        view = self._views[log_of(origin)]
        before = view.revision
        try:
            view.settle(old_size, new_size, answer, origin)
        finally:
            self._dirty = self._dirty or view.revision != before
        self._in_vain = 0

    async def relate(self, channels: Callable[[], Sequence[grpc.aio.Channel]]) -> None:
        """Have the hubs prove how the heads that they have shown are related; runs until it is cancelled.

        Args:
            channels: Gives one to each hub that serves.
        """
        while True:
            await asyncio.sleep(LINK_SECONDS)
            wanted = self.wanted
            if wanted is None:
                self._in_vain = 0
                continue
            old_size, new_size, origin = wanted
            request = audit_pb2.GetConsistencyProofRequest(old_size=old_size, new_size=new_size, origin=origin)
            self._in_vain += 1
            for channel in channels():
                try:
                    answer = await audit_pb2_grpc.AuditServiceStub(channel).GetConsistencyProof(
                        request, timeout=PROOF_SECONDS
                    )
                    self.settle(old_size, new_size, origin, answer)
                    break
                except grpc.aio.AioRpcError as error:
                    _log.info("heads are not related yet", reason=refusal_of(error).reason.name)
                except RefusedError as error:
                    _log.error("the hubs do not show one log", detail=error.detail)

    def check_owner(self, owner: str, head: audit_pb2.LogHead) -> Checkpoint:
        """Verify a head of an owner's log.

        Nothing proves it against earlier ones: it comes by the hub, which asked for it, and which refuses an owner's
        log that does not extend what the hub saw of it. Two roots of one size are noticed here. What hub and owner
        agree to show this requester alone is for those who keep checkpoints: auditors, witnesses, kept receipts.

        Raises:
            RefusedError: PROOF_INVALID, or what is wrong with the certificate.
        """
        checker = self._owners.get(owner)
        if checker is None:
            checker = self._owners[owner] = HeadChecker(
                self._verifier,
                kinds={Kind.ADAPTER},
                expected=lambda identity: identity.department == owner,
                clock=self._clock,
            )
        checkpoint = checker.check(head)
        last = self._owner_heads.get(checkpoint.origin)
        if last is not None and last.size == checkpoint.size and last.root != checkpoint.root:
            raise RefusedError(Reason.PROOF_INVALID, f"{checkpoint.origin} has two roots of {checkpoint.size} entries")
        if last is None or checkpoint.size > last.size:
            self._owner_heads[checkpoint.origin] = checkpoint
            if len(self._owner_heads) > MAX_OWNER_LOGS:
                self._owner_heads.popitem(last=False)
        return checkpoint

    async def keep(self) -> None:
        """Write what was seen whenever it changed; runs until it is cancelled."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            if self._dirty:
                self._dirty = False
                try:
                    await asyncio.to_thread(self._file.writing(self._export()))
                except OSError as error:
                    # A full disk passes; what was seen must not go unwritten from then on.
                    _log.error("what was seen of the hubs' logs cannot be written", error=type(error).__name__)
                    self._dirty = True

    def save(self) -> None:
        """Write what was seen, at the end."""
        if self._dirty:
            self._dirty = False
            self._file.writing(self._export())()

    def _export(self) -> bytes:
        logs = [json.loads(view.export()) for view in self._views.values()]
        return json.dumps({"hubs": self._origins, "logs": logs}).encode() + b"\n"

    def _load(self) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        try:
            content = json.loads(data)
            self._origins = {str(target): str(origin) for target, origin in content["hubs"].items()}
            for log in content["logs"]:
                view = YearsView(self._hubs, str(log["origin"]))
                view.restore(json.dumps(log).encode())
                self._views[log_of(str(log["origin"]))] = view
            for origin in self._origins.values():
                _ = self._views[origin]  # a hub whose log is not there would be forgotten in silence
        except (ValueError, KeyError, TypeError, AttributeError, RefusedError):
            raise FatalError(
                Reason.PROOF_INVALID,
                f"{self._path} is damaged; it holds what the hub's log was: ask the audit office before removing it",
            ) from None
