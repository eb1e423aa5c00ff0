from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire_support import outcome_of
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.names import LOOK_ALIKES, MAX_NAME, canonical_name, name_spellings

NAMES = st.text(
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5) | st.sampled_from("·ABcd 𠀀𪚥㐂"), max_size=40
)


@given(st.text())
def test_a_canonical_name_is_itself_and_holds_nothing_invisible(text: str) -> None:
    name = outcome_of(lambda: canonical_name(text))
    if isinstance(name, Reason):
        assert name is Reason.NAME_INVALID
        return
    assert canonical_name(name) == name
    assert len(name.encode()) <= MAX_NAME
    assert name == name.strip()
    assert "  " not in name
    categories = {unicodedata.category(character) for character in name}
    assert not categories & {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


@given(NAMES.map(canonical_name))
def test_every_spelling_is_read_as_the_name_and_none_comes_twice(name: str) -> None:
    spellings = name_spellings(name)
    assert spellings[0] == name
    assert len(set(spellings)) == len(spellings)
    assert {canonical_name(spelling) for spelling in spellings} == {name}


@pytest.mark.parametrize("dot", LOOK_ALIKES + "·\u0387")
def test_what_looks_like_a_middle_dot_is_one(dot: str) -> None:
    assert canonical_name(f"阿依古丽{dot}买买提") == "阿依古丽·买买提"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", ""),
        ("　张 　 三\r\n", "张 三"),
        ("ＭＡＲＩＡ　ｄｅ　Ｊｅｓｕｓ", "MARIA de Jesus"),
        ("\u7acb\u00a0x", "立 x"),
        ("龍應台", "龍應台"),
        ("𪚥𠮷", "𪚥𠮷"),
        ("J. Doe", "J. Doe"),
        ("\U00031350\U000323af", "\U00031350\U000323af"),
    ],
)
def test_width_and_spaces_are_folded_and_nothing_else(text: str, name: str) -> None:
    assert canonical_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "张\u200b三",
        "张\u202e三",
        "张\n三",
        "张\t三",
        "张\u2028三",
        "张\ue000三",
        "张\U000f0000三",
        "张\u0378三",
        "张\ud800三",
        "张\x00三",
        "\ufeff张三",
        "张\U0002ffff三",
    ],
)
def test_control_invisible_private_and_unassigned_characters_are_refused(text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        canonical_name(text)
    assert refused.value.reason is Reason.NAME_INVALID
    assert "张" not in str(refused.value)


def test_fifty_of_the_rarest_characters_fit_and_more_are_refused() -> None:
    assert canonical_name("𪚥" * 50) == "𪚥" * 50
    with pytest.raises(RefusedError, match="NAME_INVALID"):
        canonical_name("𪚥" * 51)
    with pytest.raises(RefusedError, match="NAME_INVALID"):
        canonical_name("张" * 100_000)


def test_letters_are_also_stored_full_width() -> None:
    assert name_spellings("!~ Az") == ("!~ Az", "！～　Ａｚ")
    assert name_spellings("阿·买") == ("阿·买", "阿•买", "阿‧买", "阿・买", "阿．买")
    assert name_spellings("张三") == ("张三",)
