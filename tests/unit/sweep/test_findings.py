"""What is known of a row survives packing, and what was settled survives every later asking."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exchange.client.case import Answer, Ruling, Status
from exchange.sweep.findings import Finding, Judge, merge, open_claims, pack, unpack
from exchange.sweep.mapping import RosterColumns, subjects_from, templates_of
from sweep_support import directory

ANSWERS = st.sampled_from([Answer.YES, Answer.NO, Answer.UNKNOWN])
FINDINGS = st.one_of(
    st.builds(
        Finding,
        st.integers(0, 2), st.integers(0, 1), st.integers(0, 1), st.just(Status.ANSWERED), ANSWERS,
        st.just(""), st.integers(0, 2**32 - 1), st.sampled_from(["", "0755-1"]),
    ),
    st.builds(
        Finding,
        st.integers(0, 2), st.integers(0, 1), st.integers(0, 1), st.sampled_from([Status.DENIED, Status.UNAVAILABLE]),
        st.just(Answer.NONE), st.sampled_from(["NOT_GRANTED", "BULK_CLOSED"]), st.just(0), st.just("0755-1"),
    ),
)  # fmt: skip
ROWS = st.lists(FINDINGS, max_size=12, unique_by=lambda one: one[:3])


@given(ROWS)
def test_packing_loses_nothing(findings: list[Finding]) -> None:
    words: list[str] = []

    def number(text: str) -> int:
        if text not in words:
            words.append(text)
        return words.index(text)

    assert unpack(pack(findings, number), words.__getitem__) == findings


@given(ROWS, ROWS)
def test_what_was_settled_stays_and_what_was_not_is_replaced(before: list[Finding], now: list[Finding]) -> None:
    merged = {one[:3]: one for one in merge(before, now)}
    assert set(merged) == {one[:3] for one in (*before, *now)}
    for one in before:
        if one.settled:
            assert merged[one[:3]] == one
    for one in now:
        if not any(other[:3] == one[:3] and other.settled for other in before):
            assert merged[one[:3]] == one


@given(ROWS)
def test_claims_are_open_until_everybody_is_settled(findings: list[Finding]) -> None:
    mask = open_claims(findings, 0b111)
    for claim in range(3):
        own = [one for one in findings if one.claim == claim]
        assert bool(mask >> claim & 1) == (not own or any(not one.settled for one in own))


def test_a_row_is_judged_as_its_case_would_be_and_only_if_all_of_the_matters_claims_were_asked() -> None:
    matter = directory().matters["senior-card"]
    columns = RosterColumns(subject=subjects_from(["senior=a"]))
    templates = templates_of(columns, matter)

    def found(**said: Answer) -> list[Finding]:
        return [
            Finding(index, 0, 0, Status.ANSWERED, said.get(name, Answer.YES), "", 0, "")
            for index, name in enumerate(matter.claims)
        ]

    judge = Judge(matter, templates)
    assert judge(found()) is Ruling.PASSED
    assert judge(found(registered=Answer.NO)) is Ruling.PASSED
    assert judge(found(living=Answer.NO)) is Ruling.DATA_DISAGREES
    assert judge(found(living=Answer.UNKNOWN)) is Ruling.CHECK_BY_HAND
    assert Judge(matter, templates[:-1])(found()[:-1]) is Ruling.NONE
