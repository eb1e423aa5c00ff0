"""Make docs/cli.md from the help of every command, as `zhiwang … --help` says it, in plain text of a fixed width.

`python dev/make_cli_docs.py` writes it; with `--check` it writes nothing and exits 1 when what is committed differs.
A command whose help has no line that begins with "Example: zhiwang" fails the generation.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from dev.written import LackingError, write_or_compare
from exchange.cli.main import places

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WIDTH = 110

HEAD = """# The command line: every command

Made by `dev/make_cli_docs.py` from the commands themselves; do not edit, but run `make docs`. A terminal shows the same
with `zhiwang … --help`.

Results go to standard output, everything else to standard error. Exit status: 0 when what was asked for was done, 1
when something was found wrong, denied, unavailable or failed, 2 for wrong usage.
"""


class NoExampleError(LackingError):
    """Commands whose help shows no example."""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words by which it is called."""
    for noun, place in places().items():
        module, _, attribute = place.partition(":")
        yield from _within(noun, typer.main.get_command(getattr(importlib.import_module(module), attribute)))


def _within(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    members = getattr(command, "commands", None)
    if members is None:
        yield words, command
        return
    if command.invoke_without_command:
        # It does something by itself; its members are variations.
        yield words, command
    for name, member in members.items():
        yield from _within(f"{words} {name}", member)


def example_of(command: Any) -> str | None:
    """The first example of a command's help, from the word "zhiwang" on, on one line."""
    text = " ".join((command.help or "").split())
    _, found, rest = text.partition("Example: zhiwang ")
    return f"zhiwang {rest}" if found else None


def help_of(words: str, command: Any) -> str:
    """The help of a command in plain text."""
    # Panels and colour are for terminals; without a markup mode the plain formatter of the library below is used.
    command.rich_markup_mode = None
    context = command.make_context(
        f"zhiwang {words}", [], resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    lines = command.get_help(context).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def page() -> str:
    """The whole page.

    Raises:
        NoExampleError: With every command that shows no example.
    """
    found = list(commands())
    missing = [words for words, command in found if example_of(command) is None]
    if missing:
        raise NoExampleError(f'add a line "Example: zhiwang …" to the docstrings of: {", ".join(missing)}')
    parts = [HEAD]
    noun = ""
    for words, command in found:
        if words.split()[0] != noun:
            noun = words.split()[0]
            parts.append(f"\n## {noun}\n")
        parts.append(f"\n### `zhiwang {words}`\n\n```text\n{help_of(words, command)}\n```\n")
    return "".join(parts)


def main() -> None:
    """Write, or compare."""
    write_or_compare(__doc__, PAGE, page, "the commands say")


if __name__ == "__main__":
    main()
