"""Cases in which every file is whole, and they do not belong together: older copies, other guards, clocks, writers.

Who has seen a log refuses one that does not extend what was seen: the process by its guard, and where that is older
than what was lost, everybody who was shown more (`audit.proofs.HeadView`).
"""

from __future__ import annotations

import itertools
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import audit_support as support
from audit.proofs import HeadView
from campaign import judge
from campaign.case import Case
from campaign.child import Act, Running, Said, Voice, run
from campaign.judge import Outcome, Verdict
from campaign.scenes import append, create, going_on, insist, opened
from zhiwang.wire.errors import RefusedError

STATES: Final = 4
"""Moments of which copies were kept."""
PARTS: Final = {"database": ("log.db",), "WAL": ("log.db-wal",), "guard": ("guard/checkpoint",)}
DAY: Final = 86_400.0
MANY: Final = 100
"""Transactions of a process that is to be killed: no more than it can tell of while nobody listens."""


# Copies of several moments.


def grown(directory: Path, voice: Voice) -> Iterator[None]:
    """A log of which copies are kept while it grows, each of a killed process's files."""
    yield from create(directory / "live", voice)
    live = directory / "live"
    store = opened(live, voice)
    for number in range(STATES):
        append(store, voice, 120, 3000 if number == 1 else 40)
        assert store._guard is not None
        store._guard.write()
        if number == 1:
            # Between the second and the third copy the write-ahead log begins anew.
            store.close()
            store.engine.dispose()
            store = opened(live, voice)
            append(store, voice)
            assert store._guard is not None
            store._guard.write()
        shutil.copytree(live, directory / str(number), ignore=shutil.ignore_patterns("*-shm"))


def plan_restores(scratch: Path, _only: str) -> Iterator[Case]:
    """Database, write-ahead log and guard, each from another moment; or the guard missing, empty, or another log's."""
    scratch.mkdir(parents=True)
    (scratch / "live").mkdir()
    said = run(grown, scratch)
    if said.broken or said.refusals:
        raise RuntimeError(f"copies cannot be made: {said.broken or said.refusals}")
    for chosen in itertools.product(range(STATES), repeat=len(PARTS)):
        name = ", ".join(f"{part} {number}" for part, number in zip(PARTS, chosen, strict=True))
        yield Case("restore", "files of several moments", name, partial(_put_together, scratch, chosen))
    for number in range(STATES):
        for guard in ("missing", "empty", "of another log", "a directory"):
            yield Case("restore", f"guard {guard}", f"log {number}", partial(_with_guard, scratch, number, guard))
    for number, more in itertools.product(range(STATES - 1), (1, 400)):
        case = partial(_overtaken, scratch, number, more)
        yield Case("restore", "grew past its guard after it was restored", f"log {number}, {more} entries", case)
    for number in range(STATES - 1):
        yield Case(
            "restore", "with a guard as old, seen by others", f"log {number}", partial(_seen_by_others, scratch, number)
        )


def _put_together(source: Path, chosen: Sequence[int], scratch: Path) -> Verdict:
    directory = scratch / "restored"
    (directory / "guard").mkdir(parents=True)
    for names, number in zip(PARTS.values(), chosen, strict=True):
        for name in names:
            if (source / str(number) / name).exists():
                shutil.copy(source / str(number) / name, directory / name)
    return _restarted(source, directory, chosen[-1])


def _restarted(source: Path, directory: Path, guard: int) -> Verdict:
    """Start, and hold what goes on against what the guard has seen."""
    after = run(going_on, directory)
    if not after.of("acknowledged"):
        return judge.log(directory, [after], {})
    # It went on: from one of the moments that were, and not from one before the guard's.
    first = int(after.of("acknowledged")[0]["first"])
    moments = [judge.leaves_of(judge.read(source / str(number) / "log.db")) for number in range(STATES)]
    ((origin, newest),) = moments[-1].items()
    if first < len(moments[guard][origin]):
        return Verdict(Outcome.FAILED, "it went on from less than its guard had seen")
    return judge.log(directory, [after], {origin: newest[:first]})


def _with_guard(source: Path, number: int, guard: str, scratch: Path) -> Verdict:
    directory = scratch / "restored"
    shutil.copytree(source / str(number), directory)
    path = directory / "guard" / "checkpoint"
    path.unlink()
    if guard == "empty":
        path.touch()
    elif guard == "a directory":
        path.mkdir()
    elif guard == "of another log":
        path.write_bytes(_note_of_another(scratch / "other.db"))
    verdict = _restarted(source, directory, 0)
    wanted = Outcome.SURVIVED if guard == "empty" else Outcome.REFUSED
    if verdict.outcome not in {wanted, Outcome.FAILED}:
        return Verdict(Outcome.FAILED, f"{verdict.outcome} with a guard that is {guard}")
    return verdict


def _note_of_another(path: Path) -> bytes:
    store = support.make_store(path, support.ADAPTER)
    note = store.newest.checkpoint
    support.close(store)
    return note


def _overtaken(source: Path, number: int, more: int, scratch: Path) -> Verdict:
    """Somebody restored an older copy without its guard and went on, past what the guard has seen; then it is found."""
    directory = scratch / "restored"
    shutil.copytree(source / str(number), directory)
    shutil.copy(source / str(STATES - 1) / "guard" / "checkpoint", scratch / "guard")
    (directory / "guard" / "checkpoint").write_bytes(b"")

    def careless(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        store = opened(directory, voice)
        append(store, voice, more)
        support.close(store)

    run(careless, directory)
    shutil.copy(scratch / "guard", directory / "guard" / "checkpoint")
    after = run(going_on, directory)
    if after.of("signed"):
        return Verdict(Outcome.FAILED, "a log that does not extend its guard was signed over")
    return judge.log(directory, [after], {})


def _seen_by_others(source: Path, number: int, scratch: Path) -> Verdict:
    """Log and guard are both restored: the process cannot know; whoever was shown more refuses what it shows."""
    directory = scratch / "restored"
    shutil.copytree(source / str(number), directory)
    live = support.reopen(source / str(STATES - 1) / "log.db")
    view = HeadView(support.checker())
    view.verify_head(live.head())
    support.close(live)

    def shows(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        store = opened(directory, voice)
        for count in (1, 600):
            append(store, voice, count)
            try:
                view.verify_head(store.head(view.known_tree_size))
            except RefusedError as error:
                voice.refused(error)
            else:
                voice.say("broken", error=f"AssertionError: a head of {store.newest.size} entries was believed")
        support.close(store)

    shown = run(shows, directory)
    if shown.broken or len(shown.refusals) < 2:
        return Verdict(Outcome.FAILED, "; ".join(shown.broken) or "a head was believed")
    return Verdict(Outcome.REFUSED, shown.refusals[0])


# Clocks.


def clocks() -> Iterator[tuple[str, float, int]]:
    """How the clock goes wrong: in words, by how many seconds, and with which certificate it is right again."""
    for days, renewed in itertools.product((-1 / 1440, -1, -400, 1 / 1440, 1, 4000), (False, True)):
        yield f"{days:+.4g} days{', certificate renewed' if renewed else ''}", days * DAY, int(renewed)


def plan_clocks(_scratch: Path, _only: str) -> Iterator[Case]:
    """The clock goes back, or leaps ahead and returns; and the certificate is renewed afterwards or not."""
    for name, ahead, number in clocks():
        yield Case("clock", "log", name, partial(_clock, ahead, number))


def _clock(ahead: float, number: int, scratch: Path) -> Verdict:
    directory = scratch / "log"
    directory.mkdir()
    return judge.log(directory, with_wrong_clock(directory, ahead, number))


def with_wrong_clock(directory: Path, ahead: float, number: int) -> list[Said]:
    """What a log says that is made, goes on by a wrong clock, and then by a right one."""

    def wrong(directory: Path, voice: Voice) -> Iterator[None]:
        yield from create(directory, voice)
        store = opened(directory, voice)
        append(store, voice, 20)
        support.close(store)
        store = opened(directory, voice, clock=lambda: time.time() + ahead)
        append(store, voice, 20)
        insist(store, voice, lambda: append(store, voice))
        support.close(store)

    def right(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        store = opened(directory, voice, number=number)
        append(store, voice, 3)
        store.verify_all()
        voice.say("verified")
        support.close(store)

    return [run(wrong, directory), run(right, directory)]


# Writers.


def races() -> Iterator[tuple[int, int, int]]:
    """How many write, how many of them are killed, and after how many groups."""
    for writers, killed in ((2, 0), (3, 0), (2, 1), (3, 1), (3, 2)):
        for turn in range(3):
            yield writers, killed, turn


def plan_writers(_scratch: Path, _only: str) -> Iterator[Case]:
    """Processes on one file at the same time, some of them killed; and a second one on a copy of it."""
    for writers, killed, turn in races():
        case = partial(_writers, writers, killed, turn)
        yield Case("writers", "on one file", f"{writers} writers, {killed} killed, turn {turn}", case)
    for shares in (False, True):
        name = "with the same guard" if shares else "with its own guard"
        yield Case("writers", "a second one on a copy", name, partial(_copied, shares))


def _appends(number: int, groups: int) -> Act:
    def act(directory: Path, voice: Voice) -> Iterator[None]:
        guard = directory / "guard" / f"of {number}"
        if not guard.exists():
            guard.touch()
        store = opened(directory, voice, guard=guard)
        yield
        for turn in range(groups):
            insist(store, voice, lambda turn=turn: append(store, voice, 1 + turn % 3))  # type: ignore[misc]  # bound now
        support.close(store)

    return act


def _writers(writers: int, killed: int, turn: int, scratch: Path) -> Verdict:
    directory = scratch / "log"
    directory.mkdir()
    said = [run(create, directory), *raced(directory, writers, killed, turn)]
    if sum(one.killed for one in said) > killed:
        return Verdict(Outcome.FAILED, "another process ended too")
    return judge.log(directory, [*said, run(going_on, directory)])


def raced(directory: Path, writers: int, killed: int, turn: int) -> list[Said]:
    """What several writers of one log say, the first of which are killed."""
    running = [Running(_appends(number, 12 if number >= killed else MANY), directory) for number in range(writers)]
    for one in running:
        one.go()
    for number, one in enumerate(running):
        if number < killed:
            one.until("acknowledged", 3 * (turn + 1))
            one.kill()
    return [one.end() for one in running]


def _copied(shares: bool, scratch: Path) -> Verdict:  # noqa: FBT001 - one of two cases
    """A second hub on a copied file signs another history; who has seen the one refuses the other."""
    directory, copy = scratch / "log", scratch / "copy"
    directory.mkdir()
    run(create, directory)
    shutil.copytree(directory, copy)
    guard = directory / "guard" / "checkpoint"
    view = HeadView(support.checker())

    def first(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        store = opened(directory, voice)
        append(store, voice, 5)
        support.close(store)

    def second(directory: Path, voice: Voice) -> Iterator[None]:
        yield
        store = opened(directory, voice, guard=guard if shares else None)
        append(store, voice, 9)
        try:
            view.verify_head(store.head(view.known_tree_size))
        except RefusedError as error:
            voice.refused(error)
        support.close(store)

    run(first, directory)
    seen = support.reopen(directory / "log.db")
    view.verify_head(seen.head())
    support.close(seen)
    other = run(second, copy)
    if len(other.refusals) != 1 or other.broken:
        return Verdict(Outcome.FAILED, "another history was believed")
    if shares and other.of("signed"):
        return Verdict(Outcome.FAILED, "a copy that its guard has overtaken was signed over")
    return Verdict(Outcome.REFUSED, other.refusals[0])


# Full disks.


def plan_full(_scratch: Path, _only: str) -> Iterator[Case]:
    """No file grows beyond a size, since the kernel refuses it as on a full disk; then there is room again."""
    for kilobytes in (1, 4, 8, 16, 24, 33, 48, 64, 96, 128, 200, 333):
        yield Case("disk full", "commits", f"files of {kilobytes} KiB", partial(_full, kilobytes * 1024))


def _full(size: int, scratch: Path) -> Verdict:
    directory = scratch / "log"
    directory.mkdir()

    def act(directory: Path, voice: Voice) -> Iterator[None]:
        yield from create(directory, voice)
        store = opened(directory, voice)
        append(store, voice)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        for _ in range(20):
            insist(store, voice, lambda: append(store, voice, 20))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        # There is room again: the process goes on by itself.
        if store.stopped is not None:
            store.open()
        append(store, voice)
        support.close(store)

    said = run(act, directory)
    return judge.log(directory, [said, run(going_on, directory)])
