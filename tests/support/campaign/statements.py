"""Cases of a log in PostgreSQL: at each statement of a scene the server, its process, or the way to it fails."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Final

import audit_support as support
from audit import postgres
from audit.yearly import YearlyLog
from between import DEEDS, Between, Blow
from campaign import cluster, judge, scenes
from campaign.case import Case, concerns
from campaign.child import Act, Running, Said, Voice, run
from campaign.cluster import Cluster
from campaign.judge import Outcome, Verdict
from campaign.scenes import create, furnished, going_on, opened
from campaign.syscalls import some
from log_places import PostgresDatabase
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError
from zhiwang.wire.silence import SilenceWatch

KIND: Final = "postgresql"
PATIENCE: Final = 120.0
"""Seconds for which a process tries to go on, as hubs do for ever; far more than a server takes to be back."""
PAUSE: Final = 0.3
SILENCE: Final = 2.0
"""Seconds after which a server that says nothing is lost, where it is frozen."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A scene of a log in PostgreSQL.

    Attributes:
        name: Of the scene.
        furnish: What has been done before; None for a database in which no log was made.
        act: What is struck.
        recover: What the next process does.
    """

    name: str
    furnish: Act | None
    act: Act
    recover: Act = going_on


def persist(store: YearlyLog, voice: Voice, count: int) -> None:
    """Append entries; if the log stops, open it until it goes on, look for them there, and append what is missing."""
    event = support.event()
    entries = [store.new_entry(event) for _ in range(count)]
    leaves = [merkle.leaf_hash(entry.data).hex() for entry in entries]
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if store.stopped is not None:
                store.open()
                log = store.shard()
                with store.reading.connect() as connection:
                    found = log.find(connection, [entry.key for entry in entries])
                voice.say(
                    "sought", origin=log.origin, leaves=leaves, indexes=[found.get(entry.key) for entry in entries]
                )
                if found:
                    return
            with store.transaction() as connection:
                appended = store.append(connection, entries)
            store.committed(appended)
            voice.acknowledged(appended)
        except FatalError as error:
            voice.refused(error)
            time.sleep(PAUSE)
        else:
            return
    voice.say("broken", error="TimeoutError: the log did not go on")


def appending(*counts: int) -> Act:
    """A process at work; as `scenes.appending`, but it waits until the server is back."""

    def act(directory: Path, voice: Voice) -> Iterator[None]:
        store = opened(directory, voice)
        persist(store, voice, 1)
        yield
        for count in counts:
            persist(store, voice, count)

    return act


def rolling(directory: Path, voice: Voice) -> Iterator[None]:
    """As `scenes.rolling`, but it waits until the server is back."""
    now = time.time()
    store = opened(directory, voice, clock=lambda: now)
    persist(store, voice, 1)
    yield
    now = scenes.next_year()
    for count in (1, 2):
        persist(store, voice, count)


def going_on_after_init(directory: Path, voice: Voice) -> Iterator[None]:
    """The next start after an `init` that did not end well: as `going_on`, having done what the refusal says."""
    yield
    _, guard = scenes.files(directory)
    for _ in range(2):
        try:
            for _ in going_on(directory, voice):
                pass
        except FatalError as error:
            voice.say("advised", detail=error.detail)
            if "make an empty file in its place" not in error.detail:
                raise
            guard.touch()
            try:
                for _ in going_on(directory, voice):
                    pass
            except FatalError as again:
                # There is no log either: it is made again.
                voice.say("advised", detail=again.detail)
                for _ in create(directory, voice):
                    pass
                continue
        return


ASKING: Final = (
    Asking("commit", furnished(20), appending(2, 1)),
    Asking("commit of a group that completes tiles", furnished(250), appending(300)),
    Asking("roll to the next year", furnished(250, 20), rolling, scenes.going_on_next_year),
    Asking("start", furnished(300, 5), scenes.start),
    Asking("init", None, create, going_on_after_init),
    Asking("sequencer", furnished(20), scenes.sequencing),
)


def plan(only: str) -> Iterator[Case]:
    """Every deed at every statement of every scene."""
    wanted = [deed for deed in DEEDS if concerns(only, KIND, deed)]
    known: Sequence[str] = ()
    for asking in (one for one in ASKING if wanted and _asked(only, one)):
        statements = _statements(asking)
        # Whoever makes a log connects as one that starts does, and there every statement was struck.
        first = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(statements, known, strict=False)))
        known = statements if asking.act is scenes.start else ()
        for deed in wanted:
            for number, text in some(list(enumerate(statements, 1))[first:]):
                for place in DEEDS[deed]:
                    name = f"{asking.name}: {place} statement {number}, {_in_short(text)}"
                    yield Case(KIND, deed, name, partial(strike, asking, Blow(deed, place, number)))


def _asked(only: str, asking: Asking) -> bool:
    """Whether names of its cases may be what is asked for: to look what a scene does takes a moment."""
    names, wanted = f"{asking.name}: ", (*only.split(":", 2), "", "")[2].strip()
    return names.startswith(wanted) or wanted.startswith(names)


def _in_short(text: str) -> str:
    return " ".join(text.split())[:40]


def _statements(asking: Asking) -> Sequence[str]:
    """What the scene asks of its server, as a first run without faults shows it."""
    here = cluster.here()
    scratch = here.server.directory / "looked at"
    scratch.mkdir()
    place, directory = _begin(here, asking, scratch)
    running, between = _behind(here, asking, place, directory)
    between.arm(None)
    running.go()
    said = running.end()
    seen = between.seen()
    between.close()
    _end(place, scratch)
    if said.broken or said.refusals:
        raise RuntimeError(f"{asking.name} fails without a fault: {said.broken or said.refusals}")
    return seen


def _begin(here: Cluster, asking: Asking, scratch: Path) -> tuple[PostgresDatabase, Path]:
    if asking.furnish is not None:
        return here.copy(here.furnished(asking.name, asking.furnish), scratch)
    directory = scratch / "log"
    directory.mkdir()
    return here.empty(directory), directory


def _behind(here: Cluster, asking: Asking, place: PostgresDatabase, directory: Path) -> tuple[Running, Between]:
    between = Between(here.server)
    between.fork()
    cluster.through(between, place, directory)
    return Running(asking.act, directory), between


def _end(place: PostgresDatabase, scratch: Path) -> None:
    place.drop()
    shutil.rmtree(scratch)


def strike(asking: Asking, blow: Blow, scratch: Path) -> Verdict:
    """One case."""
    here = cluster.here()
    place, directory = _begin(here, asking, scratch)
    patched = Asking(asking.name, asking.furnish, _impatient(asking.act) if "frozen" in blow.deed else asking.act)
    running, between = _behind(here, patched, place, directory)
    between.arm(blow)
    running.go()
    running.until("refused", 1)
    here.heal()
    said = running.end()
    struck = between.struck()
    between.close()
    cluster.name(directory, place.url())
    verdict = judged(place, directory, [said, run(asking.recover, directory)])
    place.drop()
    return verdict if struck or verdict.outcome is Outcome.FAILED else Verdict(Outcome.UNTOUCHED)


def judged(
    place: PostgresDatabase, directory: Path, said: Sequence[Said], history: judge.Leaves | None = None
) -> Verdict:
    """Judge a log in PostgreSQL."""
    return judge.of(directory, said, lambda: cluster.read(place), history)


def _impatient(act: Act) -> Act:
    """The same in a process that takes a silent server for lost within seconds."""

    def impatient(directory: Path, voice: Voice) -> Iterator[None]:
        postgres._WATCH = SilenceWatch(SILENCE)  # type: ignore[misc]  # in a process of its own
        postgres.LOCK_SECONDS = 2  # type: ignore[misc]  # the same
        yield from act(directory, voice)

    return impatient
