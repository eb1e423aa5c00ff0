"""Everything that is left to chance comes from a seed, so that the same seed makes the same city."""

from __future__ import annotations

from random import Random


def source(seed: str) -> Random:
    """Return a source of chance. It makes invented people, and never a key."""
    return Random(seed)  # noqa: S311 - repeatable by purpose; nothing secret comes from it


def happens(rng: Random, share: float) -> bool:
    """Return true in this share of the calls."""
    return rng.random() < share
