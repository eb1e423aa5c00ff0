"""How long the entries of a year are kept, and how they are removed when that is over.

What goes is always the whole log of a year that has ended, never one that is held (`audit/holds.py`), and only after
somebody has either shown a copy of it or said why there need be none. The removal is an entry of the newest log before
it has any effect. What stays for ever is how the log ended: its final signed checkpoint, and its first entry with its
proof, so that later logs still go on from it and whatever was proved under it before is still true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Engine

from audit.checkpoint import Checkpoint
from audit.entry import decode_entry
from audit.fetch import directory
from audit.fsck import Fetch, examine
from audit.holds import Hold, HoldBook
from audit.mirror import CERTIFICATE, verify_by_root
from audit.origins import origin_of, position, year_of
from audit.shards import Ended
from audit.yearly import YearlyLog
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.identifiers import contains_identifier

BATCH: Final = 2000
"""Entries that one transaction deletes, so that nobody who appends waits for long."""
MARGIN: Final = 2 * 86_400
"""Seconds by which entries of a log may be older or younger than its first and the next one's: those that waited for
their turn at New Year, and those that a clock dated which was set back."""
MAX_NOTE: Final = 500
"""Characters of why there need be no copy."""

_log = structlog.get_logger(__name__)

COLUMNS: Final = ("日志 log", "记录 entries", "结束 ended", "可移除 due", "处置 fate")
"""Of the table of what has ended."""

_LEAP_DAY: Final = (2, 29)

Forget = Callable[[Engine, int, int], None]
"""Removes other rows of a store that name entries, given the position of the first and the one behind the last. May be
broken off and called again."""
Progress = Callable[[int, int], None]
"""Told how many entries of how many are gone."""


def _forget_nothing(engine: Engine, first: int, end: int) -> None:
    """A store that holds nothing but logs."""


def _quiet(done: int, size: int) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The log of a year that has ended.

    Attributes:
        origin: Its name.
        year: Which; 0 for the one that `init` made.
        size: How many entries it has, or had.
        root: Root over them.
        begun: When its first entry was made, in seconds since the epoch.
        ended: When the next log began.
        due: From when on its entries need not be kept.
        holds: Numbers of the orders that hold entries of it.
        records: Years' logs of which it says that they may go and that are not gone yet: until then it stays.
        removed: Whether its entries are gone, or going.
        done: Whether they are gone.
    """

    origin: str
    year: int
    size: int
    root: bytes
    begun: float
    ended: float
    due: float
    holds: tuple[str, ...]
    records: tuple[str, ...]
    removed: bool
    done: bool

    @property
    def checkpoint(self) -> Checkpoint:
        """Its end."""
        return Checkpoint(self.origin, self.size, self.root)


def due_time(ended: float, years: int) -> float:
    """When the retention of what ended at a time is over: the same day and hour, so many years later."""
    moment = datetime.fromtimestamp(ended, CITY_TIME)
    if (moment.month, moment.day) == _LEAP_DAY:
        moment = moment.replace(month=3, day=1)
    return moment.replace(year=moment.year + years).timestamp()


def survey(log: YearlyLog, book: HoldBook, years: int, now: float) -> list[Shard]:
    """The logs that have ended, the oldest first, and what may become of each. Blocks.

    Args:
        log: Open.
        book: Its holds.
        years: The retention.
        now: Seconds since the epoch.

    Raises:
        FatalError: LOG_UNAVAILABLE: the log cannot be read.
        RefusedError: An entry says a hold that is none; then nothing may be removed.
    """
    holds = book.holds_in_force(now)
    begins = [_begun(one) for one in log.ended]
    begins.append(decode_entry(log.shard().entries(0, 1)[0]).time.seconds if log.ended else 0)
    found = []
    for number, one in enumerate(log.ended):
        begun, ended = begins[number], begins[number + 1]
        found.append(
            Shard(
                origin=origin_of(log.log, one.year),
                year=one.year,
                size=one.head.size,
                root=one.head.root,
                begun=begun,
                ended=ended,
                due=due_time(ended, years),
                # The clock of a log may have been set back, so its entries may be a little older or younger.
                holds=_holding(holds, begun - MARGIN, ended + MARGIN),
                records=tuple(
                    origin_of(log.log, other.year)
                    for other in log.ended
                    if other.removal is not None and not other.removal.done and other.removal.year == one.year
                ),
                removed=one.removal is not None,
                done=one.removal is not None and one.removal.done,
            )
        )
    return found


def check_note(note: str) -> None:
    """Refuse what cannot stand in the log as the reason why there need be no copy.

    Raises:
        RefusedError: CONDITION_INVALID.
    """
    if len(note) > MAX_NOTE or not note.isprintable() or any(contains_identifier(word) for word in note.split()):
        raise RefusedError(Reason.CONDITION_INVALID, "why there need be no copy", field="note")


def remove(
    log: YearlyLog,
    book: HoldBook,
    origin: str,
    *,
    years: int,
    now: float,
    note: str = "",
    forget: Forget = _forget_nothing,
    progress: Progress = _quiet,
) -> bool | None:
    """Remove the entries of a log that has ended; also goes on with a removal that was interrupted. Blocks.

    The process that serves the log may go on meanwhile.

    Args:
        log: Open.
        book: Its holds.
        origin: Of the log that is to go.
        years: The retention by which it is due.
        now: Seconds since the epoch.
        note: Why there need be no copy; empty if one was shown.
        forget: Called once the removal is recorded.
        progress: Told how it goes on.

    Returns:
        Whether no bytes of them are left in the store's files. Else somebody kept its write-ahead log in use, which is
        written over before long. None if they are all there still, for an administrator to remove (in PostgreSQL).

    Raises:
        RefusedError: SHARD_KEPT: its retention is not over, it is held, it has not ended, or it is gone.
        FatalError: LOG_UNAVAILABLE: the store failed. What was begun is gone on with at the next call.
    """
    check_note(note)
    shard = _removable(log, book, origin, years, now)
    if not shard.removed:
        with log.transaction() as connection:
            # Nobody else writes now, so no hold can be placed any more before this is recorded.
            log.catch_up(connection)
            _removable(log, book, origin, years, now)
            removed = audit_pb2.ShardRemoved(
                origin=origin, size=shard.size, root=shard.root, retention_years=years, note=note
            )
            appended = log.append(connection, [log.new_entry(removed)])
            log.backend.record_removal(connection, shard.year, year_of(appended.origin), appended.first)
        log.committed(appended)
        log.refresh()
    forget(log.engine, position(shard.year, 0), position(shard.year, shard.size))
    cleared = log.backend.remove(shard.year, BATCH, lambda done: progress(min(done, shard.size), shard.size))
    log.refresh()
    if cleared is False:
        _log.warning("what was removed stands in the write-ahead log until nobody reads there", origin=origin)
    return cleared


def _removable(log: YearlyLog, book: HoldBook, origin: str, years: int, now: float) -> Shard:
    shard = next((one for one in survey(log, book, years, now) if one.origin == origin), None)
    if shard is None:
        raise RefusedError(Reason.SHARD_KEPT, f"{origin} is no log of an earlier year", field="origin")
    if shard.done:
        raise RefusedError(Reason.SHARD_KEPT, f"the entries of {origin} are gone already", field="origin")
    if shard.holds:
        # Also what has begun to go: a hold that was placed since then stops the rest.
        raise RefusedError(Reason.SHARD_KEPT, f"{origin} is held: {', '.join(shard.holds)}", field="origin")
    if shard.removed:
        return shard
    if shard.records:
        raise RefusedError(
            Reason.SHARD_KEPT,
            f"{origin} says that {', '.join(shard.records)} may go: finish that first",
            field="origin",
        )
    if now < shard.due:
        when = datetime.fromtimestamp(shard.due, CITY_TIME).date()
        raise RefusedError(Reason.SHARD_KEPT, f"{origin} is kept until {when}", field="origin")
    return shard


def _holding(holds: tuple[Hold, ...], begun: float, ended: float) -> tuple[str, ...]:
    return tuple(dict.fromkeys(hold.order for hold in holds if hold.covers_span(begun, ended)))


def _begun(one: Ended) -> int:
    """Time of a log's first entry, which is kept also when the others are gone."""
    return decode_entry(audit_pb2.LoggedEntry.FromString(one.opened).entry).time.seconds


def due(found: Sequence[Shard], now: float) -> list[Shard]:
    """What may go now, or has begun to; nothing that is held."""
    wanted = [one for one in found if not one.done and not one.holds]
    return [one for one in wanted if one.removed or (now >= one.due and not one.records)]


def going(found: Sequence[Shard]) -> list[Shard]:
    """What has begun to go, and may go on."""
    return [one for one in found if one.removed and not one.done and not one.holds]


def copies_of(exported: Sequence[Path], root: Path) -> dict[str, Checkpoint]:
    """The signed heads of exported logs by origin, each once all of it holds. Reads every file.

    Args:
        exported: Directories that `zhiwang audit export` wrote.
        root: The pinned root directory.

    Raises:
        FatalError: PROOF_INVALID: one of them does not hold.
    """
    found: dict[str, Checkpoint] = {}
    for path in exported:
        fetch = directory(path)

        def verify(note: bytes, fetch: Fetch = fetch) -> Checkpoint:
            return verify_by_root(note, fetch(CERTIFICATE), root)

        examined = examine(fetch, verify)
        if examined.number or examined.checkpoint is None:
            raise FatalError(
                Reason.PROOF_INVALID,
                f"{path} is no whole copy of a log, {examined.number} faults: `zhiwang audit fsck {path}` names them",
            )
        found[examined.checkpoint.origin] = examined.checkpoint
    return found


def apply(
    log: YearlyLog,
    book: HoldBook,
    copies: Mapping[str, Checkpoint],
    *,
    years: int,
    now: float,
    no_copy: str = "",
    forget: Forget = _forget_nothing,
    progress: Progress = _quiet,
) -> list[str]:
    """Remove every log that is due and of which there is a copy to its very end, or need be none. As `remove`.

    Args:
        log: Open.
        book: Its holds.
        copies: From `copies_of`.
        years: The retention.
        now: Seconds since the epoch.
        no_copy: Why there need be no copies of what was not shown.
        forget: As of `remove`.
        progress: As of `remove`.

    Returns:
        Origins of what is due and stays, since no copy was shown.
    """
    check_note(no_copy)
    kept = []
    for shard in due(survey(log, book, years, now), now):
        has_copy = copies.get(shard.origin) == shard.checkpoint
        if not (has_copy or no_copy or shard.removed):
            kept.append(shard.origin)
            continue
        note = "" if has_copy else no_copy
        remove(log, book, shard.origin, years=years, now=now, note=note, forget=forget, progress=progress)
    return kept


def fate(shard: Shard, now: float, kept: Sequence[str] = ()) -> tuple[str, str]:
    """What becomes of a log: a word for machines, and for a person in Chinese and English."""
    if shard.done:
        return "removed", "已移除 removed"
    if shard.removed and shard.holds:
        return "removing_held", f"已记录移除但又被保全 recorded as to go, and held since: {', '.join(shard.holds)}"
    if shard.removed:
        return "removing", "移除未完成 not finished; run it again with --apply, in PostgreSQL with --sql"
    if shard.holds:
        return "held", f"保全中 held: {', '.join(shard.holds)}"
    if shard.origin in kept:
        return "no_copy", "缺副本 due, but no copy was shown: --exported, or --no-copy"
    return ("due", "可移除 due") if now >= shard.due else ("kept", "保留 kept")


def as_object(shard: Shard, now: float, kept: Sequence[str] = ()) -> dict[str, object]:
    """A log that has ended, for `--json`."""
    return {
        "origin": shard.origin,
        "size": shard.size,
        "root": shard.root.hex(),
        "begin_time": _time(shard.begun),
        "end_time": _time(shard.ended),
        "due_time": _time(shard.due),
        "holds": list(shard.holds),
        "fate": fate(shard, now, kept)[0],
    }


def as_row(shard: Shard, now: float, kept: Sequence[str] = ()) -> tuple[object, ...]:
    """The same as a row of `COLUMNS`."""
    return shard.origin, shard.size, _time(shard.ended), _time(shard.due), fate(shard, now, kept)[1]


def _time(moment: float) -> str:
    return datetime.fromtimestamp(int(moment), UTC).isoformat()


@contextmanager
def opened(log: YearlyLog, guarded: Checkpoint | None) -> Iterator[YearlyLog]:
    """A log for a moment, beside the process that keeps its guard.

    Args:
        log: Not open, and without a guard of its own.
        guarded: What that guard remembers: nothing is recorded in a store that was rolled back.
    """
    try:
        log.open(guarded)
        yield log
    finally:
        log.close()
        log.engine.dispose()
