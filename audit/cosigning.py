"""How a log gathers cosignatures: every few seconds all witnesses are asked at once, at rest too.

A round takes the newest checkpoint and asks each witness that is not still busy with an earlier one. Cosignatures of
one tree are put together whenever they come; as soon as a quorum has signed one, and it is newer than what there is, it
is published and written down. Nothing here stands in the way of appending: the log's store is only read.

How one witness is asked stands in `audit/cosigner.py`. One that says that it has seen another history than this log's,
or a larger tree, is an alarm: the log was restored from an older copy, or two processes sign under one name.
"""

from __future__ import annotations

import asyncio
import json
import random
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from audit import tiles
from audit.appended import Head
from audit.checkpoint import Checkpoint, CheckpointError, Signature, split_note
from audit.cosignature import WitnessPolicy, add_cosignatures
from audit.cosigner import Cosigner, OvertakenError, WitnessError
from audit.origins import log_of, year_of
from audit.store import LogStore
from audit.witness_client import WitnessClient
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.kept import KeptFile

KEPT_ROUNDS: Final = 8
"""Trees whose cosignatures are put together at a time; a witness slower than that is always too late."""
MAX_PAUSE: Final = 60.0
"""Longest pause, in seconds, before a witness that failed is asked again."""
REPEAT_ALARM: Final = 300.0
"""Seconds between two alarms about the same thing."""

_log = structlog.get_logger(__name__)


class CosigningMeter:
    """Is told what happens; this one takes no notice."""

    def failed(self, witness: str, kind: str) -> None:
        """A witness gave no cosignature; kinds are those of `WitnessError`."""

    def quorum_changed(self, *, held: bool, size: int, quorum: int) -> None:
        """The newest quorum has become too old, or is fresh again.

        Args:
            held: Whether it is fresh.
            size: Of the newest tree that a quorum cosigned; 0 for none.
            quorum: How many witnesses make one.
        """


@dataclass(slots=True)
class _Asked:
    """How asking one witness goes. Owned by the event loop.

    Attributes:
        busy: Whether it is being asked.
        failures: In a row.
        after: When it may be asked again, on the loop's clock.
        told: When its failure of some kind was told last.
    """

    cosigner: Cosigner
    busy: bool = False
    failures: int = 0
    after: float = 0.0
    told: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest checkpoint that a quorum cosigned.

    Attributes:
        origin: Of the log; another one after the log has gone on in a new shard.
        head: With the cosignatures in its note.
        time: When the last member of the quorum signed; seconds since the epoch.
    """

    origin: str
    head: Head
    time: int


class Cosigning:
    """Gathers cosignatures of one log. Owned by the event loop.

    Args:
        store: Gives the log; another one after it has gone on in a new shard.
        policy: Gives the witnesses and the quorum that are in force; None if there are none.
        clients: How each witness is reached, by its name in the policy.
        kept: Where the newest is written down.
        clock: Seconds since the epoch.
        every: Seconds between two rounds.
        alarm_after: Age of the newest quorum, in seconds, beyond which is alarmed.
        stop_after: Age beyond which nothing may be released; None for never.
        meter: Is told what happens, for the metrics.
    """

    def __init__(
        self,
        store: Callable[[], LogStore],
        policy: Callable[[], WitnessPolicy | None],
        clients: Mapping[str, WitnessClient],
        kept: KeptFile,
        clock: Callable[[], float],
        *,
        every: float,
        alarm_after: float,
        stop_after: float | None = None,
        meter: CosigningMeter | None = None,
    ) -> None:
        self._store = store
        self._policy = policy
        self._asked = {name: _Asked(Cosigner(name, client, clock)) for name, client in clients.items()}
        self._kept = kept
        self._clock = clock
        self._every = every
        self._alarm_after = alarm_after
        self._stop_after = stop_after
        self._meter = meter or CosigningMeter()
        self._began = clock()
        self._newest: Newest | None = None
        self._recalled: Newest | None = None
        # Notes of the last trees with the cosignatures that have come, by origin and size.
        self._rounds: OrderedDict[tuple[str, int], Head] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarmed: float | None = None

    @property
    def newest(self) -> Head | None:
        """The newest checkpoint that a quorum of the witnesses in force has cosigned; None if there is none."""
        newest = self._newest
        return None if newest is None or newest.origin != self._store().origin else newest.head

    @property
    def time(self) -> int | None:
        """When the last member of its quorum signed."""
        return None if self._newest is None else self._newest.time

    @property
    def age(self) -> float:
        """Seconds since a quorum vouched for the log; since the start, if none has ever."""
        return max(0.0, self._clock() - (self._began if self._newest is None else self._newest.time))

    @property
    def behind(self) -> int:
        """Entries that no quorum has cosigned yet."""
        newest = self.newest
        return self._store().newest.size - (0 if newest is None else newest.size)

    @property
    def withheld(self) -> bool:
        """Whether nothing may be released: the quorum is older than the hub is told to bear."""
        if self._stop_after is None:
            return False
        return self._newest is None or self.age > self._stop_after

    def recall(self) -> None:
        """Take up what was written down before a restart. Reads the disk.

        Raises:
            FatalError: LOG_UNAVAILABLE: this log does not extend what witnesses have cosigned; it was rolled back.
        """
        try:
            content = json.loads(self._kept.path.read_bytes())
            note, certificate = content["note"].encode(), b64decode(content["certificate"], validate=True)
            checkpoint = Checkpoint.parse(split_note(note)[0])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("the cosigned checkpoint cannot be read; it is gathered anew", error=type(error).__name__)
            return
        store = self._store()
        if checkpoint.origin != store.origin:
            if log_of(checkpoint.origin) == log_of(store.origin) and year_of(checkpoint.origin) > year_of(store.origin):
                raise FatalError(
                    Reason.LOG_UNAVAILABLE,
                    f"witnesses have cosigned {checkpoint.origin}, but this log is at {store.origin}: it was rolled "
                    "back to before that year began. Restore the newest copy of the store; if none has that year, keep "
                    f"the store and {self._kept.path} for the audit office. Nothing is appended to it",
                )
            return
        size = checkpoint.size
        if size > store.newest.size or tiles.root(size, store.node) != checkpoint.root:
            raise FatalError(
                Reason.LOG_UNAVAILABLE,
                f"witnesses have cosigned {size} entries that this log of {store.newest.size} does not extend: it was "
                "rolled back or rewritten. Restore the newest copy of the store; if none reaches that size, keep the "
                f"store and {self._kept.path} for the audit office. Nothing is appended to it",
            )
        # Whose cosignatures count is not known before there is a directory.
        self._recalled = Newest(store.origin, Head(size, checkpoint.root, note, certificate), 0)

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            try:
                self._check_policy()
                self.begin_round()
                self._look()
            except Exception as error:  # noqa: BLE001 - else nobody would ask any more, and nobody alarm
                _log.error("a round of cosigning failed", exc_info=error)
            await asyncio.sleep(self._every)

    async def close(self) -> None:
        """Stop asking."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for asked in self._asked.values():
            await asked.cosigner.close()

    def begin_round(self) -> None:
        """Ask every witness that can be asked for its cosignature of the newest checkpoint."""
        policy, store = self._policy(), self._store()
        head = store.newest
        if policy is None or not head.size or store.stopped is not None:
            return
        place = (store.origin, head.size)
        # The same tree may have been signed anew, by a renewed key; cosignatures are of its text and stay good.
        lines = self._rounds.get(place)
        self._rounds[place] = head if lines is None else _with_lines(head, split_note(lines.checkpoint)[1])
        self._rounds.move_to_end(place)
        while len(self._rounds) > KEPT_ROUNDS:
            self._rounds.popitem(last=False)
        now = asyncio.get_running_loop().time()
        for name in policy.names:
            asked = self._asked.get(name)
            if asked is not None and not asked.busy and now >= asked.after:
                asked.busy = True
                task = asyncio.get_running_loop().create_task(self._ask(name, asked, policy, store, head))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _ask(self, name: str, asked: _Asked, policy: WitnessPolicy, store: LogStore, head: Head) -> None:
        loop = asyncio.get_running_loop()
        try:
            signatures = await asked.cosigner.ask(policy, store, head)
            asked.failures, asked.after = 0, 0.0
            asked.told.clear()
            self._take(store, head, signatures)
        except OvertakenError:
            pass  # the store has been read anew: the next round asks for what is there now
        except WitnessError as error:
            asked.failures += 1
            pause = min(self._every * 2.0 ** min(asked.failures - 1, 10), MAX_PAUSE)
            asked.after = loop.time() + pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            self._meter.failed(name, error.kind)
            self._tell(name, asked, error)
        except Exception as error:  # noqa: BLE001 - a task that nobody awaits must not fail unheard
            asked.after = loop.time() + MAX_PAUSE
            self._meter.failed(name, "internal")
            _log.error("asking a witness failed", witness=name, exc_info=error)
        finally:
            asked.busy = False

    def _take(self, store: LogStore, head: Head, signatures: list[Signature]) -> None:
        place = (store.origin, head.size)
        so_far = self._rounds.get(place)
        if so_far is None:
            return  # too late
        self._rounds[place] = _with_lines(so_far, signatures)
        if self._consider(store.origin, self._rounds[place]) and self._newest is not None:
            write = self._kept.writing(_kept_form(self._newest.head))
            task = asyncio.get_running_loop().create_task(_write(write))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _consider(self, origin: str, head: Head) -> bool:
        """Publish a checkpoint if a quorum cosigned it and it is newer than the one there is; whether it was."""
        policy, before = self._policy(), self._newest
        time = None if policy is None else policy.quorum_time(head.checkpoint)
        if time is None or origin != self._store().origin:
            # No quorum; or a line that came when the log had gone on in a new year's.
            return False
        if before is not None and before.origin == origin:
            if (head.size, time) < (before.head.size, before.time):
                return False
            if head.checkpoint == before.head.checkpoint:
                return False
        self._newest = Newest(origin, head, time)
        return True

    def _check_policy(self) -> None:
        """What is published must have a quorum of the witnesses that are in force now."""
        policy, newest, recalled = self._policy(), self._newest, self._recalled
        if policy is not None and recalled is not None:
            self._recalled = None
            with suppress(CheckpointError):
                self._consider(recalled.origin, recalled.head)
                for one in policy.cosignatures(recalled.head.checkpoint):
                    if one.name in self._asked:
                        self._asked[one.name].cosigner.knows(recalled.origin, recalled.head.size)
        if newest is None:
            return
        try:
            holds = policy is not None and policy.satisfied_by(newest.head.checkpoint)
        except CheckpointError:
            holds = False
        if not holds:
            _log.warning("the centre has changed its witnesses; cosignatures are gathered anew")
            self._newest = None
            self._began = self._clock()
            self._rounds.clear()

    def _look(self) -> None:
        """Alarm when the newest quorum gets too old, and say when it is over."""
        policy = self._policy()
        late = self.age > self._alarm_after
        now = self._clock()
        if policy is None:
            if self.withheld and late and self._is_due(self._alarmed):
                self._alarmed = now
                _log.error("nothing is released: the profile demands cosignatures, and the centre names no witnesses")
            return
        if late != (self._alarmed is not None):
            size = 0 if self._newest is None else self._newest.head.size
            self._meter.quorum_changed(held=not late, size=size, quorum=policy.quorum)
        if late and self._is_due(self._alarmed):
            self._alarmed = now
            _log.error(
                "no quorum of witnesses cosigns the log",
                seconds=round(self.age),
                entries=self.behind,
                quorum=policy.quorum,
                failing=[name for name in policy.names if name not in self._asked or self._asked[name].failures],
                not_in_profile=[name for name in policy.names if name not in self._asked],
                withheld=self.withheld,
            )
        elif not late and self._alarmed is not None:
            self._alarmed = None
            _log.info("a quorum of witnesses cosigns the log again")

    def _is_due(self, told: float | None) -> bool:
        """Whether an alarm that was told at some time is told again; also after a clock that leaped and came back."""
        return told is None or not 0 <= self._clock() - told < REPEAT_ALARM

    def _tell(self, name: str, asked: _Asked, error: WitnessError) -> None:
        if not self._is_due(asked.told.get(error.kind)):
            return
        asked.told[error.kind] = self._clock()
        if error.kind in {"forked", "ahead"}:
            _log.error(
                "a witness has seen another history of this log: was it restored from an older copy, or does another "
                "process sign under its name? Call the audit office",
                witness=name,
                kind=error.kind,
                detail=error.detail,
            )
        else:
            _log.warning("a witness gave no cosignature", witness=name, kind=error.kind, detail=error.detail)


def _with_lines(head: Head, signatures: list[Signature]) -> Head:
    return Head(head.size, head.root, add_cosignatures(head.checkpoint, signatures), head.certificate)


def _kept_form(head: Head) -> bytes:
    content = {"note": head.checkpoint.decode(), "certificate": b64encode(head.certificate).decode()}
    return json.dumps(content, ensure_ascii=False).encode()


async def _write(write: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(write)
    except OSError as error:
        # After a restart it is gathered anew.
        _log.error("the cosigned checkpoint cannot be written", error=type(error).__name__)
