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
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import audit_support as support
from audit.checkpoint import Checkpoint, CheckpointError, open_note
from campaign.child import Said
from zhiwang.wire import merkle

REMEDY: Final = re.compile(
    r"restore|bring it back|bring the guard back|remove the file|make an empty file|keep (the|both|what)|compare|"
    r"try again|tried again|tries again|take (it|what was made) away|take away|free (some )?space|"
    r"look at (its|the) |ask the audit office",
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
    """A log as it lies in its file.

    Attributes:
        leaves: Leaf hashes, recomputed from the entries.
        head: What the stored head says.
        note: Its checkpoint.
    """

    leaves: Sequence[bytes]
    head: Checkpoint
    note: bytes


def log(directory: Path, said: Sequence[Said], history: Sequence[bytes] | None = None) -> Verdict:
    """Judge a log.

    Args:
        directory: Where it is.
        said: What each process said, the last start last.
        history: Leaf hashes of the log before what is stored was damaged; None if it was not, so that everything
            acknowledged must lie in the file.
    """
    try:
        refused = _refused(said)
        stored = read(directory / "log.db")
        if history is None:
            leaves = stored.leaves if stored is not None else []
            _nothing_lost(leaves, said)
        else:
            leaves = _known(history, said)
        shown = _shown(directory, said)
        if not refused:
            shown.append(_whole(stored))
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


def _shown(directory: Path, said: Sequence[Said]) -> list[Checkpoint]:
    """Every checkpoint that somebody has."""
    notes = [str(word["note"]).encode() for one in said for word in one.of("acknowledged", "shown")]
    with suppress(OSError):
        notes.append((directory / "guard" / "checkpoint").read_bytes())
    return [_opened(note) for note in notes if note]


def _opened(note: bytes) -> Checkpoint:
    origin = support.HUB.log_origin
    for number in range(2):
        with suppress(CheckpointError):
            return open_note(note, origin, support.signer(number=number).public_key_raw)
    raise FaultError("a checkpoint that somebody has is not signed")


def _one_history(leaves: Sequence[bytes], shown: Sequence[Checkpoint]) -> None:
    """Every checkpoint is over a beginning of the same entries, so each is consistent with each."""
    for one in shown:
        if one.size > len(leaves):
            raise FaultError(f"a checkpoint over {one.size} entries is known, and there are {len(leaves)}")
        if merkle.Tree(leaves[: one.size]).root != one.root:
            raise FaultError(f"a checkpoint over {one.size} entries is of another history")


def _nothing_lost(leaves: Sequence[bytes], said: Sequence[Said]) -> None:
    for one in said:
        for word in one.of("acknowledged"):
            first, told = int(word["first"]), [bytes.fromhex(leaf) for leaf in word["leaves"]]
            if list(leaves[first : first + len(told)]) != told:
                raise FaultError(f"entry {first} was acknowledged and is not in the log")


def _known(history: Sequence[bytes], said: Sequence[Said]) -> list[bytes]:
    """The entries before the damage, and those that the last start acknowledged behind them."""
    leaves = list(history)
    for word in said[-1].of("acknowledged"):
        if int(word["first"]) != len(leaves):
            raise FaultError(f"entry {word['first']} was acknowledged where there were {len(leaves)}")
        leaves += [bytes.fromhex(leaf) for leaf in word["leaves"]]
    return leaves


def _withdrawn(leaves: Sequence[bytes], said: Sequence[Said]) -> int:
    """How many checkpoints were signed that are not of the history that everybody was shown."""
    signed = {str(word["body"]) for one in said for word in one.of("signed")}
    found = [Checkpoint.parse(body) for body in signed]
    return sum(one.size > len(leaves) or merkle.Tree(leaves[: one.size]).root != one.root for one in found)


def _whole(stored: Stored | None) -> Checkpoint:
    """The stored head, which counts its entries, whose root is over them, and whose checkpoint says so."""
    if stored is None:
        raise FaultError("the log goes on, but its file cannot be read")
    if stored.head.size != len(stored.leaves) or merkle.Tree(stored.leaves).root != stored.head.root:
        raise FaultError("the stored head is not that of the stored entries")
    if _opened(stored.note) != stored.head:
        raise FaultError("the stored checkpoint is not that of the stored head")
    return stored.head


def read(database: Path) -> Stored | None:
    """What lies in a database, read from a copy; None if there is no log that can be read."""
    with tempfile.TemporaryDirectory() as scratch:
        for path in database.parent.glob(f"{database.name}*"):
            shutil.copy(path, scratch)
        try:
            with closing(sqlite3.connect(Path(scratch) / database.name)) as connection:
                rows = connection.execute("SELECT idx, leaf_hash, data FROM log_entry ORDER BY idx").fetchall()
                size, root, note = connection.execute("SELECT size, root, checkpoint FROM log_head").fetchone()
        except (sqlite3.Error, TypeError):
            return None
    leaves = [merkle.leaf_hash(data) for _, _, data in rows]
    if [index for index, _, _ in rows] != list(range(len(rows))) or [leaf for _, leaf, _ in rows] != leaves:
        return None
    return Stored(leaves, Checkpoint(support.HUB.log_origin, size, root), note)
