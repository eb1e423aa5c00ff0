from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.places import Jurisdiction, Level

PLACES = st.builds(
    Jurisdiction,
    st.sampled_from(["nbs", "mca"]),
    st.sampled_from([4, 6, 9, 12]).flatmap(lambda size: st.text("01", min_size=size, max_size=size)),
)


@given(PLACES)
def test_what_a_place_prints_reads_as_the_same_place(place: Jurisdiction) -> None:
    assert Jurisdiction.parse(str(place)) == place


@given(PLACES, PLACES, PLACES)
def test_a_place_in_a_place_in_a_place_lies_in_the_outermost(
    outer: Jurisdiction, middle: Jurisdiction, inner: Jurisdiction
) -> None:
    if outer.covers(middle) and middle.covers(inner):
        assert outer.covers(inner)


@given(PLACES, PLACES)
def test_only_common_codes_cover_across_code_systems(outer: Jurisdiction, inner: Jurisdiction) -> None:
    if outer.covers(inner):
        assert outer.level <= inner.level
        assert outer.common or outer.system == inner.system


@pytest.mark.parametrize(
    ("outer", "inner", "covers"),
    [
        ("nbs:4403", "nbs:440306", True),
        ("nbs:440306", "nbs:440306", True),
        ("nbs:440306", "nbs:4403", False),
        ("nbs:440306", "nbs:440305001", False),
        ("nbs:440306", "mca:440306", True),
        ("nbs:440306", "mca:440306001", True),
        ("nbs:440306001", "mca:440306001", False),
        ("nbs:440306001", "mca:440306001002", False),
        ("nbs:440306001", "nbs:440306001002", True),
    ],
)
def test_longer_codes_mean_nothing_in_another_code_system(outer: str, inner: str, *, covers: bool) -> None:
    assert Jurisdiction.parse(outer).covers(Jurisdiction.parse(inner)) is covers


@pytest.mark.parametrize(
    "text",
    ["", "440306", "nbs:", "nbs:44030", "nbs:4403061", "NBS:440306", "nbs:４４０３０６", "nbs:440306 ", "nbs:44030a"],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        Jurisdiction.parse(text)
    assert refused.value.reason is Reason.JURISDICTION_INVALID


def test_the_length_of_a_code_is_its_level() -> None:
    levels = [Jurisdiction("nbs", "4" * size).level for size in (4, 6, 9, 12)]
    assert levels == list(Level)
    assert [Level.of_word(level.word) for level in Level] == list(Level)


@pytest.mark.parametrize("word", ["", "City", "province"])
def test_what_is_no_level_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="city, district"):
        Level.of_word(word)
