"""Evidence out of the logs of several years: a bundle of each year's log, side by side in one directory.

A checkpoint proves entries of its own log only, so each bundle is whole by itself, recorded in the log by itself, and
says which of how many it is and what the manifest of the one before it hashes to. The log records that too, so none can
be taken away unnoticed, nor replaced by one of another production of the same order.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from exchange.evidence.bundle import DATA, MANIFEST
from exchange.evidence.checked import Checked
from exchange.evidence.checking import check

_NAME: Final = re.compile(r"first|[1-9][0-9]{3}")
_WORDS: Final = re.compile(r".*; bundle ([1-9][0-9]{0,3}) of ([1-9][0-9]{0,3})", re.DOTALL)


def part_words(number: int, count: int) -> str:
    """What is added to the words of a selection: which of the bundles this is, counted from 1."""
    return f"; bundle {number} of {count}"


def check_bundles(directory: Path, root: Path) -> dict[str, Checked]:
    """Check a bundle, or the bundles of a directory, as `check` does; by their names, "" for the directory itself.

    Args:
        directory: The bundle, or the directory of several.
        root: The pinned root directory.
    """
    names = sorted(path.name for path in directory.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())
    if (directory / MANIFEST).exists() or not names:
        found = check(directory, root)
        part = part_of(found)
        if part is not None and part[1] > 1:
            found.notes.append(f"this is bundle {part[0]} of {part[1]} that were made together, one of each year's log")
        return {"": found}
    # What was handed over as "first" and the years is read in the order of the logs.
    names.sort(key=lambda name: (name != "first", name))
    checked = {name: check(directory / name, root) for name in names}
    first = checked[names[0]]
    for path in sorted(directory.iterdir()):
        if path.name not in checked:
            first.fault(path.name, "belongs to none of the bundles")
    told = {name: (found.order, _selected(found), part_of(found)) for name, found in checked.items()}
    previous = b""
    for number, (name, found) in enumerate(checked.items(), 1):
        order, selected, part = told[name]
        if (order, selected) != told[names[0]][:2]:
            found.fault(DATA, "was not made together with the others: it is of another order or selection")
        elif part is None or part[0] != number or part[1] != len(checked):
            said = "alone" if part is None else f"as {part[0]} of {part[1]}"
            found.fault(DATA, f"was made {said}, and stands here as {number} of {len(checked)}")
        elif found.previous != previous:
            found.fault(DATA, "was not made together with the bundle before it: it names another one, or none")
        previous = found.manifest_hash
    return checked


def part_of(found: Checked) -> tuple[int, int] | None:
    """Which of how many bundles it is; None if it was made alone."""
    words = _WORDS.fullmatch(found.selected)
    return None if words is None else (int(words[1]), int(words[2]))


def _selected(found: Checked) -> str:
    """The selection without which of the bundles it is."""
    words = _WORDS.fullmatch(found.selected)
    return found.selected if words is None else found.selected[: words.start(1) - len("; bundle ")]
