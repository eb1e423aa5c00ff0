"""Where the parts of a log stand in a directory or behind a static file server: C2SP tlog-tiles.

    checkpoint                  the signed head
    tile/L/N                    256 hashes of tree level 8 L, once all of them are complete
    tile/L/N.p/W                the first W hashes of a tile that is still growing
    tile/entries/N, N.p/W       the entries under the leaves of tile 0/N, each behind its length

N is written in groups of three digits, x before all but the last, so that no directory grows beyond a thousand names.
Pure: no I/O. Source: https://c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from audit.tiles import TILE_HEIGHT, TILE_WIDTH

CHECKPOINT: Final = "checkpoint"
COSIGNED: Final = "checkpoint.cosigned"
"""The newest checkpoint that witnesses cosigned, with their lines; of this tree or a smaller one. Beside the layout."""
ENTRIES: Final = "entries"
"""In place of a tile's level: the bundle of the entries themselves."""
MAX_ENTRY: Final = 0xFFFF
"""Bytes of the longest entry that a bundle can hold."""

_TILE_PATH: Final = re.compile(r"tile/([0-9]+|entries)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([0-9]{1,3}))?")
_LENGTH: Final = struct.Struct(">H")


class LayoutError(ValueError):
    """A bundle is not as tlog-tiles wants it."""


def tile_path(level: int | str, index: int, width: int = TILE_WIDTH) -> str:
    """Path of a tile, or with level "entries" of a bundle, of so many hashes or entries."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:  # noqa: PLR2004 - the layout's own base
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    path = f"tile/{level}/{'/'.join(reversed(groups))}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def parse_tile_path(path: str) -> tuple[str, int, int]:
    """(level or "entries", index, hashes or entries) of a path that `tile_path` gave.

    Raises:
        LayoutError: It is none.
    """
    match = _TILE_PATH.fullmatch(path)
    if match is None:
        raise LayoutError(f"{path} is no path of a tile")
    return match[1], int(match[2].replace("/", "").replace("x", "")), int(match[3] or TILE_WIDTH)


def widths(size: int) -> Iterator[tuple[int, int, int]]:
    """(tile level, number of full tiles, hashes in the growing one) of each level of a tree, from the leaves up."""
    level = 0
    while True:
        nodes = size >> TILE_HEIGHT * level
        if not nodes:
            return
        yield level, nodes >> TILE_HEIGHT, nodes % TILE_WIDTH
        level += 1


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """A bundle of entries.

    Raises:
        LayoutError: An entry is longer than a bundle can say.
    """
    if any(len(entry) > MAX_ENTRY for entry in entries):
        raise LayoutError(f"an entry is longer than {MAX_ENTRY} bytes")
    return b"".join(part for entry in entries for part in (_LENGTH.pack(len(entry)), entry))


def decode_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        LayoutError: It ends within an entry.
    """
    entries = []
    at = 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise LayoutError("it ends within a length")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise LayoutError("it ends within an entry")
        entries.append(data[at : at + length])
        at += length
    return entries
