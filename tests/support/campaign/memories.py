"""Scenes of those who remember logs: an agent's `heads.json`, and the hub's files of what owners' logs were.

What is remembered must never fall behind what was said to be kept, and what was forgotten must not look like nothing:
a log is shown to have forked only by somebody who remembers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

import audit_support as support
from audit.store import LogStore
from campaign.child import Act, Said, Voice
from campaign.judge import REMEDY, Outcome, Verdict
from campaign.scene import Scene
from certs.identity import Identity
from exchange.client.heads import Heads, OtherLogError
from exchange.views import OwnerViews
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import RefusedError

TARGET: Final = "hub.city:8443"
GROWTH: Final = (300, 320, 350)
"""Sizes at which a log is shown."""


class Memory(Protocol):
    """What remembers one log in a directory."""

    file: str
    keeper: Identity

    def __init__(self, directory: Path) -> None: ...

    def known(self) -> int:
        """Size of the log that was verified last."""

    def look(self, head: audit_pb2.LogHead) -> None:
        """Take up what the log shows."""

    def save(self) -> None:
        """Write what was seen, durably."""


class AgentMemory:
    """The agent's."""

    file = "heads.json"
    keeper = support.HUB

    def __init__(self, directory: Path) -> None:
        self._heads = Heads(directory, support.verifier(), time.time)

    def known(self) -> int:
        return self._heads.known(TARGET)

    def look(self, head: audit_pb2.LogHead) -> None:
        self._heads.check_hub(TARGET, head)

    def save(self) -> None:
        self._heads.save()


class HubMemory:
    """The hub's, of an owner."""

    file = "hrss_main.json"
    keeper = support.ADAPTER

    def __init__(self, directory: Path) -> None:
        self._views = OwnerViews(directory, support.verifier(), time.time)
        self._view = self._views.view(support.ADAPTER)

    def known(self) -> int:
        return self._view.known_tree_size

    def look(self, head: audit_pb2.LogHead) -> None:
        self._view.verify_head(head, self._view.known_tree_size, self._view.known_origin)

    def save(self) -> None:
        OwnerViews.save(self._views.changed())


def _shown(directory: Path, size: int, known: int, fork: str = "") -> Path:
    return directory / f"head-{size}-from-{known}{fork}"


def _head(path: Path) -> audit_pb2.LogHead:
    return audit_pb2.LogHead.FromString(path.read_bytes())


def _furnish(memory: type[Memory]) -> Act:
    """What the log shows at each size, from each size that may be known; and a second history of it."""

    def grow(store: LogStore, directory: Path, fork: str) -> None:
        for size in GROWTH:
            support.append(store, size - store.newest.size)
            for known in (0, *(one for one in GROWTH if one <= size)):
                _shown(directory, size, known, fork).write_bytes(store.head(known).SerializeToString())

    def act(directory: Path, _voice: Voice) -> Iterator[None]:
        yield
        for fork in ("", "-forked"):
            store = support.make_store(directory / f"log{fork}.db", memory.keeper)
            grow(store, directory, fork)
            support.close(store)
        remembered = memory(directory)
        remembered.look(_head(_shown(directory, GROWTH[0], 0)))
        remembered.save()

    return act


def _act(memory: type[Memory]) -> Act:
    def act(directory: Path, voice: Voice) -> Iterator[None]:
        remembered = memory(directory)
        heads = [_head(_shown(directory, size, before)) for before, size in pairwise(GROWTH)]
        yield
        for size, head in zip(GROWTH[1:], heads, strict=True):
            remembered.look(head)
            try:
                remembered.save()
            except OSError:
                # Tried again after a moment, by hub and agent.
                continue
            voice.say("kept", size=size)

    return act


def _ask(remembered: Memory, directory: Path, fork: str) -> None:
    """Have the log show its newest head, from what is known; again, if it turns out that more is."""
    for _ in range(2):
        # Of a size that it never had a log can show no proof.
        known = remembered.known() if remembered.known() in GROWTH else 0
        try:
            remembered.look(_head(_shown(directory, GROWTH[-1], known, fork)))
        except OtherLogError:
            continue
        return


def _recover(memory: type[Memory]) -> Act:
    def act(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        remembered = memory(directory)
        try:
            _ask(remembered, directory, "-forked")
        except RefusedError:
            voice.say("forked")
        voice.say("remembers", size=remembered.known())
        # A new one, since after a fork nothing of a log is believed.
        remembered = memory(directory)
        _ask(remembered, directory, "")
        remembered.save()

    return act


def judge_kept(_directory: Path, said: Sequence[Said]) -> Verdict:
    """What was said to be kept is remembered, and another history is not believed."""
    kept = max((int(word["size"]) for one in said for word in one.of("kept")), default=GROWTH[0])
    return _judge(kept, said)


def _judge(kept: int, said: Sequence[Said]) -> Verdict:
    last = said[-1]
    for one in said:
        if one.broken:
            return Verdict(Outcome.FAILED, f"a process ended with {one.broken[0]}")
    if last.refusals:
        helps = REMEDY.search(last.refusals[-1])
        return Verdict(Outcome.REFUSED if helps else Outcome.FAILED, last.refusals[-1])
    known = max((int(word["size"]) for word in last.of("remembers")), default=0)
    if known < kept:
        return Verdict(Outcome.FAILED, f"{kept} entries were kept in mind, and {known} are remembered")
    if not last.of("forked"):
        return Verdict(Outcome.FAILED, "another history was believed")
    return Verdict(Outcome.SURVIVED)


def judge_damaged(_directory: Path, said: Sequence[Said]) -> Verdict:
    """The same, of what rotted after it was kept."""
    return _judge(GROWTH[0], said)


def _scene(name: str, memory: type[Memory], judge: Callable[[Path, Sequence[Said]], Verdict]) -> Scene:
    return Scene(name, _furnish(memory), _act(memory), _recover(memory), judge)


SCENES: Final = (
    _scene("agent's heads.json", AgentMemory, judge_kept),
    _scene("hub's owner_logs", HubMemory, judge_kept),
)
"""To be struck."""


@dataclass(frozen=True, slots=True)
class Rotting:
    """Files of a scene that may rot.

    Attributes:
        scene: Whose.
        file: Which.
    """

    scene: Scene
    file: str


ROTTING: Final = (
    Rotting(_scene("agent's heads.json", AgentMemory, judge_damaged), AgentMemory.file),
    Rotting(_scene("hub's owner_logs", HubMemory, judge_damaged), HubMemory.file),
)
"""To be damaged."""
