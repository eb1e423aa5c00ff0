"""What commands share: options, tables, JSON, errors and exit statuses.

Exit status: 0 when what was asked for was done, 1 when something was denied, unavailable or failed, 2 for wrong usage.
Results go to standard output, everything else to standard error; with `--json` standard output holds one JSON value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from zhiwang.wire.archive import Manifest
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import FatalError, Reason, ZhiwangError

OK = 0
FAILED = 1
USAGE = 2

PLAIN_WIDTH = 200
"""Columns when the output is no terminal: wide enough that no line is folded."""

_USAGE_REASONS = frozenset(
    {
        Reason.CLAIM_SYNTAX,
        Reason.SLOT_UNKNOWN,
        Reason.IDENTIFIER_INVALID,
        Reason.NAME_INVALID,
        Reason.VALUE_INVALID,
        Reason.CONDITION_INVALID,
        Reason.DELAY_INVALID,
        Reason.ORDER_INVALID,
        Reason.TOO_MANY_CLAIMS,
        Reason.REFERENCE_INVALID,
        Reason.OFFICIAL_INVALID,
        Reason.JURISDICTION_INVALID,
    }
)
"""What a person can have typed wrong."""

Profile = Annotated[
    Path,
    typer.Option("--profile", envvar="ZHIWANG_PROFILE", help="Profile: who I am and whom I talk to.", dir_okay=False),
]
Pin = Annotated[
    Path | None,
    typer.Option("--pin", metavar="ROOT", help="Put the public half also into ROOT, which installations pin."),
]
Backup = Annotated[Path, typer.Option("--out", help="The backup to write; it must not exist.", dir_okay=False)]
RestoreFrom = Annotated[Path, typer.Option("--from", help="The backup.", exists=True, dir_okay=False)]
Seen = Annotated[
    list[Path] | None,
    typer.Option(
        "--seen",
        help="What others have seen of this log, where its guard is lost: an auditor's memory, an agent's heads.json, "
        "the hub's file in owner_logs. Several times for several.",
        exists=True,
        dir_okay=False,
    ),
]
AcceptFewer = Annotated[
    bool, typer.Option("--yes", help="Go on although nobody who was asked has seen all of the backup's log.")
]
Successor = Annotated[
    Path | None,
    typer.Option(
        "--successor-of",
        help="Backup of a process of another name whose log was lost: go on from it, and say so in the first entry.",
        exists=True,
        dir_okay=False,
    ),
]
Years = Annotated[
    list[int] | None,
    typer.Option(
        "--year",
        metavar="YEAR",
        help="With --sql: only make room for the log of this year. Several times for several.",
        min=1000,
        max=9999,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


def pin(root: Path, name: str, data: bytes) -> None:
    """Put something into a pinned root directory.

    Raises:
        FatalError: INTERNAL: another one is pinned there; that is never replaced.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / name
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        if path.read_bytes() != data:
            raise FatalError(Reason.INTERNAL, f"{path} pins another one already; it is never replaced") from None


def console(file: IO[str] | None = None) -> Console:
    """A console on standard output, or on `file`. Chinese characters count as two columns, as a terminal shows them."""
    file = file or sys.stdout
    return Console(file=file, width=None if file.isatty() else PLAIN_WIDTH, highlight=False, soft_wrap=False)


def error_console() -> Console:
    """A console on standard error."""
    return console(sys.stderr)


def print_json(value: Any) -> None:
    """One JSON value on standard output, readable, Chinese as it is."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    styles: Mapping[str, str] | None = None,
) -> None:
    """A table on standard output. Cells are text, never markup.

    Args:
        columns: Headings.
        rows: One cell for each column; None is an empty cell.
        title: Above the table.
        styles: Style of a cell by its exact text, e.g. {"YES": "green"}.
    """
    table = Table(title=escape(title) or None, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value, styles or {}) for value in row))
    console().print(table)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """Shows on a terminal how many there are so far, where nobody knows how many there will be.

    Args:
        what: Is being done.
    """
    shown = error_console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda count: progress.update(task, completed=count)


def print_backup(manifest: Manifest, out: Path, *, as_json: bool) -> None:
    """What a backup holds."""
    size = sum(member.size for member in manifest.files.values())
    facts: dict[str, Any] = {
        "identity": manifest.identity,
        "time": datetime.fromtimestamp(manifest.time, UTC).isoformat(),
        "files": len(manifest.files),
        "bytes": size,
        **manifest.facts,
    }
    if as_json:
        print_json({"file": str(out), **facts})
    else:
        print_table(("", ""), [("备份 backup", out), *facts.items()])


def local_time(seconds: float) -> str:
    """A time as people in China read it."""
    return datetime.fromtimestamp(seconds, UTC).astimezone(CITY_TIME).strftime("%Y-%m-%d %H:%M:%S")


def short_identity(uri: str) -> str:
    """A SPIFFE identity without scheme and city, e.g. "edu/system/enrolment"; empty if the text is none."""
    return uri.partition("://")[2].partition("/")[2]


def say(text: str) -> None:
    """A line for the person, on standard error, so that standard output holds results only."""
    error_console().print(Text(text))


def next_step(text: str) -> None:
    """What to do after this command."""
    error_console().print(Text.assemble(("下一步 next: ", "bold"), text))


def print_error(error: Exception) -> int:
    """Say what happened and what to do.

    Returns:
        The exit status that belongs to it.
    """
    out = error_console()
    if isinstance(error, ZhiwangError):
        meaning = error.reason.value
        if error.reason is Reason.INTERNAL and error.detail:
            # Its public text points to another process's log; here the cause is at hand.
            out.print(Text.assemble(("错误 ", "bold red"), error.detail))
            return FAILED
        out.print(Text.assemble(("错误 ", "bold red"), (error.reason.name, "bold"), f"  {meaning.zh}"))
        if error.field:
            out.print(Text(f"  in {error.field}"))
        for line in filter(None, (error.detail, meaning.en)):
            out.print(Text(f"  {line}"))
        return USAGE if error.reason in _USAGE_REASONS else FAILED
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        out.print(Text.assemble(("错误 ", "bold red"), f"{name}{error.strerror or type(error).__name__}"))
        return FAILED
    # The findings of a file of ours: its text lists them all, by line and key.
    out.print(Text.assemble(("错误 ", "bold red"), str(error)))
    return FAILED


def usage_error(text: str) -> NoReturn:
    """End with status 2.

    Raises:
        typer.Exit: Always.
    """
    error_console().print(Text.assemble(("用法有误 ", "bold red"), text))
    raise typer.Exit(USAGE)


def _cell(value: object, styles: Mapping[str, str]) -> Text:
    text = "" if value is None else str(value)
    return Text(text, style=styles.get(text, ""))
