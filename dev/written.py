"""A page that is made from the code: written, or compared with what stands there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


class LackingError(Exception):
    """The source lacks something that the page needs; the message says what to do."""


def write_or_compare(description: str | None, path: Path, make: Callable[[], str], source: str) -> None:
    """Write the page, or with --check compare it and exit 1 on a difference.

    Args:
        description: Of the script, for its --help.
        path: Where the page stands.
        make: Gives its text, or raises LackingError.
        source: What the page is made from, as a message goes on: "the models say".
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    checking = parser.parse_args().check
    try:
        made = make()
    except LackingError as error:
        sys.exit(str(error))
    if not checking:
        path.write_text(made, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != made:
        sys.exit(f"docs/{path.name} is not what {source}; run: make docs")
