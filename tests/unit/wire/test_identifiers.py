from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import ric, uscc
from stdnum.iso7064 import mod_11_2

from wire_support import outcome_of
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import MAX_IDENTIFIER, contains_identifier, scheme

TODAY = date(2026, 11, 24)
WIDE = str.maketrans({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
AREAS = st.sampled_from(["440399", "110101", "810000", "820000", "830000", "911100", "999999"])
SERIALS = st.from_regex(r"[0-9]{3}", fullmatch=True)
BIRTHS = st.dates(date(1800, 1, 1), TODAY)
USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
AROUND = st.text("-/ .:abcXYZ号", max_size=6)


def resident(area: str, born: date, serial: str) -> str:
    digits = f"{area}{born:%Y%m%d}{serial}"
    return digits + mod_11_2.calc_check_digit(digits)


RESIDENTS = st.builds(resident, AREAS, BIRTHS, SERIALS)
USCCS = st.builds(
    lambda kind, area, code: f"{kind}{area}{code}" + uscc.calc_check_digit(f"{kind}{area}{code}"),
    st.sampled_from(["91", "12", "N2", "Y1", "A1"]),
    st.from_regex(r"[0-9]{6}", fullmatch=True),
    st.text(USCC_ALPHABET, min_size=9, max_size=9),
)
HOUSES = st.from_regex(r"[1-9][0-9]{24}", fullmatch=True)
ALL = st.one_of(
    RESIDENTS.map(lambda one: ("resident", one)),
    USCCS.map(lambda one: ("uscc", one)),
    HOUSES.map(lambda one: ("house", one)),
)


@given(ALL)
def test_a_canonical_identifier_is_itself(one: tuple[str, str]) -> None:
    name, identifier = one
    assert scheme(name).canonical(identifier, today=TODAY) == identifier


@given(ALL)
def test_every_spelling_is_read_as_the_identifier_and_none_comes_twice(one: tuple[str, str]) -> None:
    name, identifier = one
    spellings = scheme(name).spellings(identifier)
    assert spellings[0] == identifier
    assert len(set(spellings)) == len(spellings)
    assert {scheme(name).canonical(spelling, today=TODAY) for spelling in spellings} == {identifier}


@given(ALL)
def test_spaces_case_and_width_do_not_matter(one: tuple[str, str]) -> None:
    name, identifier = one
    typed = f"　{identifier.lower().translate(WIDE)} \n"
    assert scheme(name).canonical(typed, today=TODAY) == identifier


@given(RESIDENTS, st.integers(0, 17), st.integers(1, 9))
def test_a_mistyped_digit_is_noticed(identifier: str, place: int, step: int) -> None:
    if identifier[place] == "X":
        return
    wrong = identifier[:place] + str((int(identifier[place]) + step) % 10) + identifier[place + 1 :]
    with pytest.raises(RefusedError) as refused:
        scheme("resident").canonical(wrong, today=TODAY)
    assert refused.value.reason is Reason.IDENTIFIER_INVALID


@given(RESIDENTS)
def test_the_check_character_is_that_of_others(identifier: str) -> None:
    assert ric.calc_check_digit(identifier) == identifier[17]


@given(AREAS, st.dates(date(1900, 1, 1), date(1999, 12, 31)), SERIALS)
def test_fifteen_digits_become_eighteen_and_are_a_spelling(area: str, born: date, serial: str) -> None:
    short = f"{area}{born:%y%m%d}{serial}"
    whole = scheme("resident").canonical(short, today=TODAY)
    assert whole == resident(area, born, serial)
    assert short in scheme("resident").spellings(whole)


def test_no_fifteen_digits_stand_for_another_century() -> None:
    identifier = resident("440399", date(2001, 1, 1), "001")
    assert not [spelling for spelling in scheme("resident").spellings(identifier) if len(spelling) != 18]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resident", ""),
        ("resident", "4403991990010100"),
        ("resident", resident("440399", date(2026, 11, 25), "001")),
        ("resident", "440399" + "20230230" + "001" + mod_11_2.calc_check_digit("44039920230230001")),
        ("resident", "440399" + "00000000" + "001" + mod_11_2.calc_check_digit("44039900000000001")),
        ("resident", "440399 19900101 0018"),
        ("resident", "440399990230001"),
        ("resident", "040399199001010018"),
        ("resident", "4" * 10_000),
        ("uscc", "91110000600037341M"),
        ("uscc", "9111000060003734IL"),
        ("uscc", "9A110000600037341L"[:17]),
        ("house", "4" * 24),
        ("house", "0" + "4" * 24),
        ("house", "4" * 24 + "X"),
    ],
)
def test_what_does_not_follow_its_scheme_is_refused_and_not_repeated(name: str, text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        scheme(name).canonical(text, today=TODAY)
    assert refused.value.reason is Reason.IDENTIFIER_INVALID
    assert not text or text not in str(refused.value)
    assert refused.value.__context__ is None


def test_a_division_code_never_decides() -> None:
    for area in ("440399", "810000", "820000", "830000", "911100", "100000", "999999"):
        identifier = resident(area, date(1990, 1, 1), "001")
        assert scheme("resident").canonical(identifier, today=TODAY) == identifier


def test_codes_of_organisations_may_begin_with_letters() -> None:
    code = "N2440300MA5EXAMPL".replace("I", "1")
    whole = code + uscc.calc_check_digit(code)
    assert scheme("uscc").canonical(whole.lower(), today=TODAY) == whole


def test_a_plain_identifier_follows_its_pattern() -> None:
    permit = scheme("plain", "[A-Z0-9]{6,20}")
    assert permit.canonical(" ab1234５\t", today=TODAY) == "AB12345"
    assert set(permit.spellings("AB12345")) >= {"AB12345", "ab12345"}
    for wrong in ("AB123", "AB-1234", "ＡＢ１２３", "AB12345\u200b", "A" * 21, "\ud800BCDEFG"):
        with pytest.raises(RefusedError, match="IDENTIFIER_INVALID"):
            permit.canonical(wrong, today=TODAY)
    with pytest.raises(RefusedError, match="IDENTIFIER_INVALID"):
        scheme("plain", ".*").canonical("A" * (MAX_IDENTIFIER + 1), today=TODAY)


@pytest.mark.parametrize(("name", "pattern"), [("plain", None), ("resident", "x"), ("passport", None), ("plain", "(")])
def test_a_scheme_that_is_none_is_refused(name: str, pattern: str | None) -> None:
    with pytest.raises(ValueError, match=r"pattern|scheme"):
        scheme(name, pattern)


@given(st.sampled_from(["resident", "uscc", "house"]), st.text())
def test_any_text_is_an_identifier_or_refused(name: str, text: str) -> None:
    found = outcome_of(lambda: scheme(name).canonical(text, today=TODAY))
    if isinstance(found, Reason):
        assert found is Reason.IDENTIFIER_INVALID
    else:
        assert contains_identifier(found)


@given(ALL, AROUND, AROUND, st.data())
def test_an_identifier_is_found_whatever_stands_around_it(
    one: tuple[str, str], before: str, after: str, data: st.DataObject
) -> None:
    name, identifier = one
    spelling = data.draw(st.sampled_from(scheme(name).spellings(identifier)))
    assert contains_identifier(f"{before}{spelling}{after}")


@given(ALL, st.integers(1, 17), st.sampled_from("-_ ./:"))
def test_an_identifier_in_groups_is_found_where_that_is_wanted(one: tuple[str, str], place: int, mark: str) -> None:
    _, identifier = one
    assert contains_identifier(f"{identifier[:place]}{mark}{identifier[place:]}", grouped=True)


@pytest.mark.parametrize(
    "text",
    ["", "2026-000123", "clerk-17", "spiffe://shenzhen/edu/system/enrolment", "urn:matter:school-enrolment:2026"],
)
def test_references_are_not_taken_for_identifiers(text: str) -> None:
    assert not contains_identifier(text, grouped=True)


def test_patterns_are_of_ascii_digits_only() -> None:
    arabic = "".join(chr(0x660 + int(digit)) for digit in "440399199001010018")
    assert re.fullmatch(r"\d{18}", arabic)
    with pytest.raises(RefusedError, match="IDENTIFIER_INVALID"):
        scheme("resident").canonical(arabic, today=TODAY)


@pytest.mark.parametrize(
    "text",
    [
        "440399901301001",  # no month 13
        "440399900132001",  # no 32 January
        "440399202613310018",
        "91110000600037341M",
        "4" * 14,
        "0" * 17,
    ],
)
def test_what_no_scheme_accepts_is_not_found(text: str) -> None:
    assert not contains_identifier(f"no {text}.")
