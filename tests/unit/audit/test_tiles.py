"""The tree's arithmetic, held against the plain definition of RFC 6962 computed by recursion."""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import tiles
from zhiwang.wire import merkle

LEAVES = [sha256(number.to_bytes(4)).digest() for number in range(70_000)]


@cache
def plain_root(start: int, end: int) -> bytes:
    """MTH of RFC 6962 section 2.1, to the letter."""
    if start == end:
        return sha256(b"").digest()
    if end - start == 1:
        return LEAVES[start]
    k = 1
    while k * 2 < end - start:
        k *= 2
    return sha256(b"\x01" + plain_root(start, start + k) + plain_root(start + k, end)).digest()


def plain_path(index: int, start: int, end: int) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1."""
    if end - start == 1:
        return []
    k = 1
    while k * 2 < end - start:
        k *= 2
    if index < k:
        return [*plain_path(index, start, start + k), plain_root(start + k, end)]
    return [*plain_path(index - k, start + k, end), plain_root(start, start + k)]


def edge_of(size: int) -> tiles.RightEdge:
    edge = tiles.RightEdge()
    edge.extend(LEAVES[:size])
    return edge


def unfinished(size: int) -> list[list[bytes]]:
    """What a reader would load from storage."""
    found, hashes = [LEAVES[size >> 8 << 8 : size]], LEAVES[:size]
    while len(hashes) >= 256:
        hashes = [tiles.root_of_nodes(hashes[256 * i : 256 * (i + 1)]) for i in range(len(hashes) // 256)]
        found.append(hashes[len(hashes) >> 8 << 8 :])
    return found


def test_root_and_every_path_of_every_size_to_300_are_those_of_rfc_6962() -> None:
    edge = tiles.RightEdge()
    assert tiles.root(0, edge.node) == sha256(b"").digest()
    for size in range(1, 301):
        edge.extend([LEAVES[size - 1]])
        root = plain_root(0, size)
        assert tiles.root(size, edge.node) == root
        paths = tiles.paths(0, size, size, edge.node)
        for index, path in enumerate(paths):
            assert path == plain_path(index, 0, size)
            merkle.verify_inclusion(index, size, LEAVES[index], path, root)


def test_every_consistency_proof_of_every_pair_of_sizes_to_300_verifies() -> None:
    edge = edge_of(300)
    for new in range(1, 301):
        for old in range(1, new + 1):
            proof = tiles.consistency(old, new, edge.node)
            merkle.verify_consistency(old, new, plain_root(0, old), plain_root(0, new), proof)


def test_no_proof_between_trees_that_differ_verifies() -> None:
    edge = edge_of(100)
    for old in range(1, 100):
        proof = tiles.consistency(old, 100, edge.node)
        with pytest.raises(merkle.ProofError):
            merkle.verify_consistency(old, 100, plain_root(1, old + 1), plain_root(0, 100), proof)
        for place in range(len(proof)):
            bent = [*proof[:place], bytes(32), *proof[place + 1 :]]
            with pytest.raises(merkle.ProofError):
                merkle.verify_consistency(old, 100, plain_root(0, old), plain_root(0, 100), bent)


def test_sizes_that_fall_have_no_consistency_proof() -> None:
    with pytest.raises(ValueError, match="fall"):
        tiles.consistency(5, 4, edge_of(5).node)


@given(groups=st.lists(st.integers(min_value=1, max_value=700), min_size=1, max_size=8))
@settings(max_examples=30)
def test_growing_in_groups_gives_the_tree_of_growing_at_once(groups: list[int]) -> None:
    edge = tiles.RightEdge()
    for count in groups:
        first = edge.size
        edge.extend(LEAVES[first : first + count])
        size = edge.size
        assert tiles.root(size, edge.node) == plain_root(0, size)
        for offset, path in enumerate(tiles.paths(first, count, size, edge.node)):
            merkle.verify_inclusion(first + offset, size, LEAVES[first + offset], path, plain_root(0, size))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 65_792, 66_000])
def test_an_edge_loaded_from_storage_goes_on_as_the_one_that_grew(size: int) -> None:
    loaded = tiles.RightEdge(size, unfinished(size))
    assert tiles.root(size, loaded.node) == plain_root(0, size)
    loaded.extend(LEAVES[size : size + 700])
    assert tiles.root(size + 700, loaded.node) == plain_root(0, size + 700)
    paths = tiles.paths(size, 700, size + 700, loaded.node)
    merkle.verify_inclusion(size, size + 700, LEAVES[size], paths[0], plain_root(0, size + 700))


def test_an_edge_is_not_loaded_from_too_few_hashes() -> None:
    with pytest.raises(ValueError, match="another number"):
        tiles.RightEdge(300, [LEAVES[256:299], []])
    with pytest.raises(ValueError, match="missing"):
        tiles.RightEdge(5)


@given(kept=st.integers(min_value=0, max_value=600), extra=st.integers(min_value=0, max_value=900))
@settings(max_examples=40)
def test_a_truncated_edge_is_the_edge_before(kept: int, extra: int) -> None:
    edge = edge_of(kept)
    edge.extend(LEAVES[1000 : 1000 + extra])
    edge.truncate(kept)
    edge.extend(LEAVES[kept : kept + 50])
    assert tiles.root(kept + 50, edge.node) == plain_root(0, kept + 50)


def test_a_trimmed_edge_still_proves_what_is_recent_and_can_grow() -> None:
    edge = tiles.RightEdge()
    while edge.size < 69_000:
        edge.extend(LEAVES[edge.size : edge.size + 1000])
        edge.trim()
    with pytest.raises(KeyError):
        edge.node(0, 0)
    size = edge.size
    kept = tiles.KEPT_TILES[0] * tiles.TILE_WIDTH
    for old in range(size - kept, size, 97):
        proof = tiles.consistency(old, size, edge.node)
        merkle.verify_consistency(old, size, plain_root(0, old), plain_root(0, size), proof)
        (path,) = tiles.paths(old, 1, size, edge.node)
        merkle.verify_inclusion(old, size, LEAVES[old], path, plain_root(0, size))
    held = sum(len(nodes) for _, nodes in edge._levels)
    assert held < 4 * kept


def test_an_edge_is_never_truncated_below_what_it_holds() -> None:
    edge = tiles.RightEdge(600, unfinished(600))
    with pytest.raises(KeyError):
        edge.truncate(500)
    assert tiles.root(600, edge.node) == plain_root(0, 600)


def test_tiles_become_complete_once_and_hold_the_hashes_of_their_level() -> None:
    edge = tiles.RightEdge()
    seen: list[tuple[int, int]] = []
    for step in (100, 155, 1, 1, 300, 65_000, 300):
        before = edge.size
        edge.extend(LEAVES[before : before + step])
        for level, index in tiles.completed_tiles(before, edge.size):
            seen.append((level, index))
            width = 1 << 8 * level
            hashes = tiles.split_tile(edge.tile(level, index))
            assert hashes == [plain_root((256 * index + i) * width, (256 * index + i + 1) * width) for i in range(256)]
    assert seen == sorted(set(seen), key=seen.index)
    assert sorted(seen) == [(0, index) for index in range(65_857 >> 8)] + [(1, 0)]


@given(level=st.integers(min_value=0, max_value=7), place=st.integers(min_value=0))
def test_every_node_inside_a_tile_is_found_in_it(level: int, place: int) -> None:
    index = place % (512 >> level)
    tile_index = (index << level) >> 8
    tile = b"".join(LEAVES[256 * tile_index : 256 * (tile_index + 1)])
    assert tiles.node_in_tile(tile, level, index) == plain_root(index << level, (index + 1) << level)


def test_a_leaf_outside_the_tree_has_no_path() -> None:
    edge = edge_of(5)
    for first, count in ((5, 1), (4, 2), (-1, 1)):
        with pytest.raises(IndexError):
            tiles.paths(first, count, 5, edge.node)
    assert tiles.paths(5, 0, 5, edge.node) == []


def test_an_incomplete_node_is_no_node() -> None:
    edge = edge_of(5)
    for level, index in ((0, 5), (1, 2), (2, 1), (3, 0), (60, 0)):
        with pytest.raises(KeyError):
            edge.node(level, index)
