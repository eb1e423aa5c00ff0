"""What must hold after a fault, by code that shares nothing with the store but hash functions and notes.

No acknowledged entry is lost; every checkpoint that anybody was shown or that lies in store or guard is one of one
history; and the next start either goes on or refuses in words that name the remedy.

A checkpoint is signed inside its transaction and leaves the process after COMMIT only. One whose transaction failed was
signed, but nobody has it: it may be in no acknowledgement, guard or head, and is counted as withdrawn.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import audit_support as support
from audit.checkpoint import Checkpoint, CheckpointError, open_note
from audit.entry import decode_entry
from audit.origins import log_of
from campaign.child import Said
from zhiwang.wire import merkle

REMEDY: Final = re.compile(
    r"restore|bring (it|this log's own guard|the guard) back|remove the file|make an empty file|keep (the|both|what)|"
    r"try again|tried again|tries again|take (it|what was made) away|take away|free (some )?space|"
    r"look at (its|the) |compare|ask the audit office",
    re.IGNORECASE,
)
"""Words by which a refusal says what to do."""


class Outcome(StrEnum):
    """What became of a case."""

    SURVIVED = "survived"
    REFUSED = "refused"
    FAILED = "failed"
    UNTOUCHED = "untouched"
    """The fault found nothing to strike in this run."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome with its reason.

    Attributes:
        outcome: What became of it.
        detail: Words of the refusal, or what does not hold.
        withdrawn: Checkpoints that were signed and that nobody has, because their transactions failed.
    """

    outcome: Outcome
    detail: str = ""
    withdrawn: int = 0


class FaultError(Exception):
    """Something that must hold does not."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The log of one year as it lies in its tables.

    Attributes:
        leaves: Leaf hashes, recomputed from the entries.
        head: What the stored head says.
        note: Its checkpoint.
        predecessor: Checkpoint of the year before, as the first entry has it.
    """

    leaves: Sequence[bytes]
    head: Checkpoint
    note: bytes
    predecessor: bytes


Leaves = Mapping[str, Sequence[bytes]]
"""Leaf hashes by the log's origin: a log of each year."""


def log(directory: Path, said: Sequence[Said], history: Leaves | None = None, *, database: str = "log.db") -> Verdict:
    """Judge a log.

    Args:
        directory: Where it is.
        said: What each process said, the last start last.
        history: Leaf hashes of the log before what is stored was damaged; None if it was not, so that everything
            acknowledged must lie in the file.
        database: Name of its file.
    """
    return of(directory, said, lambda: read(directory / database), history)


def of(
    directory: Path,
    said: Sequence[Said],
    reading: Callable[[], Mapping[str, Stored] | None],
    history: Leaves | None = None,
) -> Verdict:
    """The same of a log that stands elsewhere: `reading` gives what is stored."""
    try:
        refused = _refused(said)
        stored = reading()
        leaves = leaves_of(stored) if history is None else _known(history, said)
        if history is None:
            _nothing_lost(leaves, said)
            _rightly_found(leaves, said)
        # Where the damage stopped the start, the guard may be what is damaged.
        shown = _shown(None if refused and history is not None else directory, said)
        if not refused:
            shown += _whole(stored, leaves)
        _one_history(leaves, shown)
        return Verdict(Outcome.REFUSED if refused else Outcome.SURVIVED, refused, _withdrawn(leaves, said))
    except FaultError as error:
        return Verdict(Outcome.FAILED, str(error))


def _refused(said: Sequence[Said]) -> str:
    """Why the last start refused; empty if it went on. No process ended in anything but refusals that help."""
    for one in said:
        if one.broken:
            raise FaultError(f"a process ended with {one.broken[0]}")
        for words in one.refusals:
            if not REMEDY.search(words):
                raise FaultError(f"a refusal does not say what to do: {words}")
    last = said[-1]
    if last.of("verified"):
        return ""
    if not last.refusals:
        raise FaultError("the next start neither went on nor refused")
    return last.refusals[-1]


def _shown(directory: Path | None, said: Sequence[Said]) -> list[Checkpoint]:
    """Every checkpoint that somebody has."""
    notes = [str(word["note"]).encode() for one in said for word in one.of("acknowledged", "shown")]
    if directory is not None and (directory / "guard" / "checkpoint").exists():
        notes.append((directory / "guard" / "checkpoint").read_bytes())
    return [opened(note) for note in notes if note]


def opened(note: bytes) -> Checkpoint:
    """A checkpoint that somebody has; it must be signed by this log's key."""
    origin = note.decode(errors="replace").partition("\n")[0]
    if log_of(origin) == support.HUB.log_origin:
        for number in range(2):
            with suppress(CheckpointError):
                return open_note(note, origin, support.signer(number=number).public_key_raw)
    raise FaultError("a checkpoint that somebody has is not signed")


def _one_history(leaves: Leaves, shown: Sequence[Checkpoint]) -> None:
    """Every checkpoint is over a beginning of the same entries, so each is consistent with each."""
    for one in shown:
        entries = leaves.get(one.origin, ())
        if one.size > len(entries):
            raise FaultError(f"a checkpoint over {one.size} entries is known, and there are {len(entries)}")
        if merkle.Tree(entries[: one.size]).root != one.root:
            raise FaultError(f"a checkpoint over {one.size} entries is of another history")


def _acknowledged(said: Said) -> Iterator[tuple[str, int, list[bytes]]]:
    """Origin, first index and leaf hashes of what was acknowledged."""
    for word in said.of("acknowledged"):
        yield str(word["note"]).partition("\n")[0], int(word["first"]), [bytes.fromhex(leaf) for leaf in word["leaves"]]


def _nothing_lost(leaves: Leaves, said: Sequence[Said]) -> None:
    for one in said:
        for origin, first, told in _acknowledged(one):
            if list(leaves.get(origin, ())[first : first + len(told)]) != told:
                raise FaultError(f"entry {first} was acknowledged and is not in the log")


def _rightly_found(leaves: Leaves, said: Sequence[Said]) -> None:
    """What was looked up after a COMMIT of unknown outcome is where it was found, and nothing is there twice."""
    for word in (word for one in said for word in one.of("sought")):
        entries = leaves.get(str(word["origin"]), ())
        for leaf, index in zip(map(bytes.fromhex, word["leaves"]), word["indexes"], strict=True):
            if index is not None and (index >= len(entries) or entries[index] != leaf):
                raise FaultError(f"entry {index} was found in the log and is not there")
            if list(entries).count(leaf) > 1:
                raise FaultError("an entry was written again that was in the log")


def _known(history: Leaves, said: Sequence[Said]) -> Leaves:
    """The entries before the damage, and those that the last start acknowledged behind them."""
    leaves = {origin: list(entries) for origin, entries in history.items()}
    for origin, first, told in _acknowledged(said[-1]):
        entries = leaves.setdefault(origin, [])
        if first != len(entries):
            raise FaultError(f"entry {first} was acknowledged where there were {len(entries)}")
        entries += told
    return leaves


def _withdrawn(leaves: Leaves, said: Sequence[Said]) -> int:
    """How many checkpoints were signed that are not of the history that everybody was shown."""
    signed = {str(word["body"]) for one in said for word in one.of("signed")}
    number = 0
    for one in map(Checkpoint.parse, signed):
        entries = leaves.get(one.origin, ())
        number += one.size > len(entries) or merkle.Tree(entries[: one.size]).root != one.root
    return number


def _whole(stored: Mapping[str, Stored] | None, leaves: Leaves) -> list[Checkpoint]:
    """The stored heads: each counts its entries, its root is over them, its checkpoint says so, and the years link."""
    if stored is None:
        raise FaultError("the log goes on, but its file cannot be read")
    if {origin: list(one.leaves) for origin, one in stored.items()} != {one: list(leaves[one]) for one in leaves}:
        raise FaultError("the log goes on with other entries than were recorded")
    before: Stored | None = None
    for _, one in sorted(stored.items()):
        if one.head.size != len(one.leaves) or merkle.Tree(one.leaves).root != one.head.root:
            raise FaultError("the stored head is not that of the stored entries")
        if opened(one.note) != one.head:
            raise FaultError("the stored checkpoint is not that of the stored head")
        if before is not None and opened(one.predecessor) != before.head:
            raise FaultError("a year begins from another checkpoint than the one before has ended with")
        before = one
    return [one.head for one in stored.values()]


def leaves_of(stored: Mapping[str, Stored] | None) -> Leaves:
    """Leaf hashes of what is stored."""
    return {origin: one.leaves for origin, one in (stored or {}).items()}


def read(database: Path) -> Mapping[str, Stored] | None:
    """The logs in a database by their origins, read from a copy; None if there is none that can be read."""
    with tempfile.TemporaryDirectory() as scratch:
        for path in database.parent.glob(f"{database.name}*"):
            if path.is_file():
                shutil.copy(path, scratch)
        try:
            with closing(sqlite3.connect(Path(scratch) / database.name)) as connection:
                names = connection.execute(
                    "SELECT name FROM sqlite_master WHERE name GLOB 'log_head*' AND type = 'table'"
                )
                found = [_read(connection, str(name).removeprefix("log_head")) for (name,) in names.fetchall()]
        except (sqlite3.Error, TypeError, ValueError):
            return None
    return None if not found or None in found else {one.head.origin: one for one in found if one is not None}


def _read(connection: sqlite3.Connection, suffix: str) -> Stored | None:
    rows = connection.execute(f"SELECT idx, leaf_hash, data FROM log_entry{suffix} ORDER BY idx").fetchall()  # noqa: S608 - a table's own suffix
    size, root, note = connection.execute(f"SELECT size, root, checkpoint FROM log_head{suffix}").fetchone()  # noqa: S608 - the same
    return stored(rows, Checkpoint(bytes(note).decode().partition("\n")[0], size, root), note)


def stored(rows: Sequence[Sequence[Any]], head: Checkpoint, note: bytes) -> Stored | None:
    """A log from its rows (index, leaf hash, data); None if they are not of one list, or their hashes are wrong."""
    leaves = [merkle.leaf_hash(data) for _, _, data in rows]
    if [index for index, _, _ in rows] != list(range(len(rows))) or [leaf for _, leaf, _ in rows] != leaves:
        return None
    predecessor = decode_entry(rows[0][2]).log_opened.predecessor if rows else b""
    return Stored(leaves, head, note, predecessor)
