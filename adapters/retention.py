"""Removing a year from an owner's store: its log, and what the index of subjects and the other tables say of it.

The index goes in small transactions beside the running adapter, which passes over rows of a year that is recorded as
removed. Where no row of a year's key is left, the key goes too: then old copies of the store tell nobody either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from adapters.erasure import overwriting
from adapters.installation import adapter_identity, state_files
from adapters.rows import Snapshots, fetch, write
from adapters.store_keys import trace_key_name, trace_years
from audit import retention
from audit.guard import Guard
from audit.holds import HoldBook
from audit.origins import year_at
from audit.places import open_place
from audit.search import remove_search
from audit.yearly import YearlyLog
from certs.signing import CertificateVerifier
from zhiwang.wire.profile import Profile

PAGE: Final = 20_000
"""Rows of the index that are looked at in one go."""

_YEARS: Final = "SELECT DISTINCT year FROM trace"
_ROWS: Final = """SELECT subject, entry FROM trace
    WHERE year = ? AND (subject, entry) > (?, ?) ORDER BY subject, entry LIMIT ?"""
_DELETE: Final = "DELETE FROM trace WHERE year = ? AND subject = ? AND entry = ?"


@dataclass(frozen=True, slots=True)
class Kept:
    """What has become of the years of a log.

    Attributes:
        years: The retention.
        now: When it was looked at.
        shards: The logs that have ended, the oldest first.
        without_copy: Origins of those that are due and stay, since no copy was shown.
    """

    years: int
    now: float
    shards: Sequence[retention.Shard]
    without_copy: Sequence[str]


def keep(
    profile: Profile,
    exported: Sequence[Path],
    no_copy: str,
    *,
    apply: bool,
    progress: Callable[[int, int], None],
) -> Kept:
    """Survey the years of an owner's log, and remove what is due if `apply`. Blocks; the adapter may run meanwhile.

    Raises:
        ZhiwangError: As `audit.retention.apply`.
    """
    files, state, years = adapter_identity(profile), state_files(profile), profile.retention.years
    copies = retention.copies_of(exported, profile.root)
    # No deny-list: a log whose former key was revoked must still be opened.
    verifier = CertificateVerifier(files.ca_pem, frozenset)
    log = YearlyLog(open_place(state.store, profile.log), files.signer(), verifier=verifier)
    without: list[str] = []
    with retention.opened(log, Guard(state.guard, lambda: b"").read()):
        book, now = HoldBook(log), time.time()
        if apply:

            def forget(engine: Engine, first: int, end: int) -> None:
                forget_entries(engine, first, end)

            without = retention.apply(
                log, book, copies, years=years, now=now, no_copy=no_copy, forget=forget, progress=progress
            )
            # Whether this replica removed a year or another one did.
            forget_keys(log.engine, state.keys, now)
        found = retention.survey(log, book, years, now)
    for shard in found:
        if shard.done:
            remove_search(state.search, shard.year)
    return Kept(years, now, found, without)


def forget_entries(engine: Engine, first: int, end: int) -> None:
    """Delete what the store says of entries at positions in [first, end), and overwrite it."""
    snapshots = Snapshots(engine)
    with snapshots.read() as connection:
        years = [int(year) for (year,) in fetch(connection, _YEARS)]
    for year in years:
        after: tuple[bytes, int] = (b"", -1)
        while True:
            with snapshots.read() as connection:
                rows = fetch(connection, _ROWS, (year, *after, PAGE))
            if not rows:
                break
            after = (rows[-1][0], rows[-1][1])
            gone = [(year, subject, entry) for subject, entry in rows if first <= entry < end]
            if gone:
                _delete(engine, _DELETE, gone)
    for table in ("delay", "replay"):
        _delete(engine, f"DELETE FROM {table} WHERE entry >= ? AND entry < ?", [(first, end)])  # noqa: S608 - our own names


def forget_keys(engine: Engine, directory: Path, now: float) -> None:
    """Delete the keys of years of which the index has no row left; not the newest, from which the next may be made."""
    with Snapshots(engine).read() as connection:
        used = {int(year) for (year,) in fetch(connection, _YEARS)}
    for year in trace_years(directory)[:-1]:
        if year not in used and year < year_at(now):
            (directory / trace_key_name(year)).unlink()


def _delete(engine: Engine, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    with engine.begin() as connection, overwriting(connection):
        write(connection, statement, rows)
