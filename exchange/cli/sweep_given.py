"""What `zhiwang sweep` was given on the command line, read and checked before anything else is done."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from exchange.client.case import Context
from exchange.sweep.mapping import MappingError, RosterColumns, subjects_from
from exchange.sweep.rosters import PARQUET, kind_of, need_parquet
from zhiwang.wire import output
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.profile import Profile
from zhiwang.wire.tomlfile import load

_OF_DAY = re.compile(r"(\d{1,2}):(\d{2})")
_DURATION = re.compile(r"([1-9]\d{0,4})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def check_key(columns: RosterColumns) -> None:
    """Refuse a key that is an identifier, a name or a compared text.

    Raises:
        MappingError: It is.
    """
    asked = columns.model_copy(update={"key": None, "keep": ()}).headings
    if columns.key in set(asked) - set(columns.keep):
        raise MappingError(
            "the key's column holds identifiers, names or compared texts, which would stand in the results; name "
            "another with --key, or keep it knowingly with --keep-columns"
        )


def columns_given(
    mapping: Path | None, key: str, subject: Sequence[str], claim: Sequence[str], keep: Sequence[str]
) -> RosterColumns:
    """The mapping of file and flags; a flag stands above the file.

    Raises:
        MappingError: A flag is wrong.
        FileError: The file is.
    """
    columns = RosterColumns() if mapping is None else load(mapping, RosterColumns)
    given = {
        "key": key or None,
        "subject": subjects_from(subject),
        "claims": tuple(claim),
        "keep": tuple(dict.fromkeys((*columns.keep, *keep))),
    }
    return columns.model_copy(update={name: value for name, value in given.items() if value})


def context_given(profile: Profile, context: Context) -> Context:
    """With the profile's defaults, so that the journal is bound to them."""
    defaults = profile.defaults
    return replace(
        context,
        matter=context.matter or defaults.matter,
        role=context.role or defaults.role,
        official=context.official or defaults.official,
        jurisdiction=context.jurisdiction or defaults.jurisdiction,
    )


def check_out(out: Path, roster: Path, before: Path | None, full: Path | None) -> None:
    """Refuse what would write over something.

    Raises:
        TableError: The format is none of ours, or pyarrow is missing.
    """
    for path in filter(None, (out, full)):
        if kind_of(path) == PARQUET:
            need_parquet()
        if not path.parent.is_dir():
            output.usage_error(f"there is no directory {path.parent}")
        if path.resolve() in {roster.resolve(), None if before is None else before.resolve()}:
            output.usage_error(f"{path} would be written over")
    if full is not None and (before is None or full.resolve() == out.resolve()):
        output.usage_error("--full goes with --changed-since, and is another file than --out")


def until_given(text: str, now: Callable[[], float] = time.time) -> float | None:
    """When to stop, in seconds since the epoch."""
    if not text:
        return None
    moment = datetime.fromtimestamp(now(), CITY_TIME)
    if found := _DURATION.fullmatch(text):
        return moment.timestamp() + int(found[1]) * _SECONDS[found[2]]
    try:
        if found := _OF_DAY.fullmatch(text):
            day = moment.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
            return (day if day > moment else day + timedelta(days=1)).timestamp()
        said = datetime.fromisoformat(text)
    except ValueError:
        output.usage_error("write --until as 06:00, 2026-12-01T06:00 or 8h")
    return (said if said.tzinfo is not None else said.replace(tzinfo=CITY_TIME)).timestamp()
