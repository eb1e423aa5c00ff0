"""The C2SP tlog-tiles layout: paths and bundles. Example paths are those of the specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.layout import MAX_ENTRY, LayoutError, decode_bundle, encode_bundle, tile_path, widths


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ((0, 0), "tile/0/000"),
        ((0, 1234067), "tile/0/x001/x234/067"),
        ((2, 999), "tile/2/999"),
        ((2, 1000), "tile/2/x001/000"),
        ((1, 0, 17), "tile/1/000.p/17"),
        (("entries", 1234, 1), "tile/entries/x001/234.p/1"),
    ],
)
def test_paths_are_those_of_the_specification(arguments: tuple[int | str, ...], path: str) -> None:
    assert tile_path(*arguments) == path  # type: ignore[arg-type]  # a table of arguments


@pytest.mark.parametrize(
    ("size", "levels"),
    [
        (0, []),
        (1, [(0, 0, 1)]),
        (256, [(0, 1, 0), (1, 0, 1)]),
        (70000, [(0, 273, 112), (1, 1, 17), (2, 0, 1)]),
    ],
)
def test_each_level_has_the_tiles_that_its_tree_has(size: int, levels: list[tuple[int, int, int]]) -> None:
    assert list(widths(size)) == levels


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_back_its_entries(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries)) == entries


def test_a_bundle_that_is_cut_is_refused() -> None:
    bundle = encode_bundle([b"one", b"two"])
    for length in (1, 4, 6, 9):
        with pytest.raises(LayoutError):
            decode_bundle(bundle[:length])


def test_an_entry_that_no_bundle_can_hold_is_refused() -> None:
    encode_bundle([bytes(MAX_ENTRY)])
    with pytest.raises(LayoutError):
        encode_bundle([bytes(MAX_ENTRY + 1)])
