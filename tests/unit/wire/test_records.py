from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire_support import CHILD, MOTHER, SALTS, outcome_of, some_answers, some_header, some_records
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import MAX_IDENTIFIER
from zhiwang.wire.names import MAX_NAME
from zhiwang.wire.records import (
    Answers,
    CaseRecord,
    Outcome,
    SubjectRecord,
    decode_answers,
    decode_records,
    encode_answers,
    encode_records,
)

HEADER = some_header()
ENCODED = encode_records(HEADER, some_records())
SALT = st.binary(min_size=32, max_size=32)


def fits(limit: int, text: str) -> bool:
    return len(text.encode()) <= limit


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SUBJECTS = st.none() | st.builds(
    SubjectRecord,
    st.just("person"),
    TEXT.filter(lambda text: text != "" and fits(MAX_IDENTIFIER, text)),
    TEXT.filter(lambda text: fits(MAX_NAME, text)),
)
RECORDS = st.builds(
    CaseRecord, SALT, st.tuples(SUBJECTS, SUBJECTS), st.tuples(TEXT.filter(lambda text: fits(190, text)))
)


@given(st.tuples(RECORDS, RECORDS))
def test_records_come_back_as_they_went_in(records: tuple[CaseRecord, CaseRecord]) -> None:
    data = encode_records(HEADER, records)
    assert decode_records(HEADER, data) == list(records)


@given(st.tuples(RECORDS, RECORDS))
def test_length_tells_the_shape_and_nothing_else(records: tuple[CaseRecord, CaseRecord]) -> None:
    assert len(encode_records(HEADER, records)) == len(ENCODED) == HEADER.cases * HEADER.record_size


@given(st.binary(max_size=40), st.integers(0, len(ENCODED)))
def test_any_bytes_are_records_or_refused(data: bytes, place: int) -> None:
    changed = ENCODED[:place] + data + ENCODED[place + len(data) :]
    found = outcome_of(lambda: decode_records(HEADER, changed[: len(ENCODED)]))
    if isinstance(found, list):
        # One plaintext for each meaning: nothing can hide in the padding.
        assert encode_records(HEADER, found) == changed[: len(ENCODED)]
    else:
        assert found is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("size", [0, 1, len(ENCODED) - 1, len(ENCODED) + 1])
def test_a_plaintext_of_another_length_is_refused(size: int) -> None:
    assert outcome_of(lambda: decode_records(HEADER, bytes(size))) is Reason.REQUEST_MALFORMED


def test_padding_holds_nothing() -> None:
    header = some_header(cases=1)
    data = bytearray(encode_records(header, [CaseRecord(SALTS[0], (CHILD, None), ("x",))]))
    for place in (32 + 255, 32 + 256 + 100, len(data) - 1):
        changed = bytearray(data)
        changed[place] = 1
        assert outcome_of(partial(decode_records, header, bytes(changed))) is Reason.REQUEST_MALFORMED


def test_a_broken_text_is_refused_without_being_repeated() -> None:
    header = some_header(cases=1)
    data = encode_records(header, [CaseRecord(SALTS[0], (CHILD, MOTHER), ("x",))])
    broken = data.replace("张小明".encode(), "张小明".encode()[:-1] + b"\xff")
    with pytest.raises(RefusedError) as refused:
        decode_records(header, broken)
    assert refused.value.reason is Reason.REQUEST_MALFORMED
    assert refused.value.__context__ is None


def test_fifty_rare_characters_fit_beside_the_longest_identifier() -> None:
    subject = SubjectRecord("person", "A" * MAX_IDENTIFIER, "𪚥" * 50)
    record = CaseRecord(SALTS[0], (subject, subject), ("",))
    header = some_header(cases=1)
    assert decode_records(header, encode_records(header, [record])) == [record]


def test_what_just_fits_its_place_is_taken_and_what_is_longer_refused() -> None:
    header = some_header(cases=1)
    just = CaseRecord(SALTS[0], (SubjectRecord("person", CHILD.identifier, "x" * 234), None), ("x" * 190,))
    assert decode_records(header, encode_records(header, [just])) == [just]
    long_name = CaseRecord(SALTS[0], (SubjectRecord("person", CHILD.identifier, "x" * 240), None), ("",))
    long_value = CaseRecord(SALTS[0], (CHILD, None), ("x" * 191,))
    assert outcome_of(lambda: encode_records(header, [long_name])) is Reason.NAME_INVALID
    assert outcome_of(lambda: encode_records(header, [long_value])) is Reason.VALUE_INVALID


def test_a_record_does_not_print_whom_it_is_about() -> None:
    shown = repr(some_records()) + str(some_records()[0].subjects) + repr(some_answers())
    assert "440399" not in shown
    assert "张" not in shown
    assert "妇幼" not in shown


@given(
    SALT,
    st.tuples(*[st.none() | st.integers(0, 1 << 40)] * 4),
    st.lists(st.sampled_from(Outcome), min_size=8, max_size=8),
)
def test_answers_come_back_as_they_went_in(
    salt: bytes, data_as_of: tuple[int | None, ...], outcomes: list[Outcome]
) -> None:
    answers = Answers(salt, data_as_of, bytes(outcomes))
    data = encode_answers(HEADER, answers)
    assert len(data) == 32 + 4 * 9 + 8
    assert decode_answers(HEADER, data) == answers


@given(st.binary(max_size=100) | st.binary(min_size=76, max_size=76))
def test_any_bytes_are_answers_or_refused(data: bytes) -> None:
    found = outcome_of(lambda: decode_answers(HEADER, data))
    if isinstance(found, Answers):
        assert encode_answers(HEADER, found) == data
    else:
        assert found is Reason.PROOF_INVALID


def test_an_as_of_is_known_or_nothing() -> None:
    data = bytearray(encode_answers(HEADER, some_answers()))
    assert data[32] == 1
    assert data[41:50] == bytes(9)
    for place, value in ((32, 2), (32, 0), (49, 1)):
        changed = bytearray(data)
        changed[place] = value
        assert outcome_of(partial(decode_answers, HEADER, bytes(changed))) is Reason.PROOF_INVALID


def test_answers_of_another_shape_are_not_written() -> None:
    answers = some_answers()
    with pytest.raises(ValueError, match="shape"):
        encode_answers(HEADER, Answers(answers.salt, answers.data_as_of, answers.outcomes[:-1]))
    with pytest.raises(ValueError, match="shape"):
        encode_answers(HEADER, Answers(answers.salt, answers.data_as_of[:-1], answers.outcomes))


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_says_whether_it_is_an_answer(outcome: Outcome) -> None:
    answered = outcome.status == verification_pb2.CLAIM_STATUS_ANSWERED
    assert answered == (outcome.answer != verification_pb2.ANSWER_UNSPECIFIED)
    assert answered == (outcome.reason is None)
    if outcome.status == verification_pb2.CLAIM_STATUS_UNAVAILABLE:
        assert outcome.reason is not None
        assert outcome.reason.status == "UNAVAILABLE"


def test_the_bytes_of_outcomes_stay_as_they_are() -> None:
    # Entries and receipts of former years hold them.
    answered = {"YES": 1, "NO": 2, "UNKNOWN": 3}
    denied = {"DENIED_BY_HUB": 16, "DENIED_BY_OWNER": 17, "GUESSES_SPENT": 18, "CELL_NOT_PUBLISHED": 19}
    denied |= {"DATE_NOT_PUBLISHED": 20, "CODE_SYSTEM_UNKNOWN": 21, "VALUE_INVALID": 22, "REPORTS_SPENT": 23}
    unavailable = {"DATABASE_UNAVAILABLE": 32, "PROBE_FAILED": 33, "TIMED_OUT": 34, "FAILED": 35}
    assert {outcome.name: int(outcome) for outcome in Outcome} == answered | denied | unavailable
