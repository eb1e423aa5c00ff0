from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire_support import CHILD, MOTHER, SALTS, some_answers, some_header, some_records
from zhiwang.wire import commitments
from zhiwang.wire.commitments import (
    answer_leaf,
    answer_tree,
    claim_commitment,
    claim_commitments,
    claim_salt,
    compared_bytes,
    outcome_bytes,
    outcome_salt,
    parse_outcome_bytes,
    request_tree,
    subject_bytes,
)
from zhiwang.wire.merkle import verify_inclusion
from zhiwang.wire.records import CaseRecord, Outcome

HEADER = some_header()
RECORDS = some_records()
PARTS = st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=12)] * 3, st.binary(max_size=12))


def test_no_label_begins_another() -> None:
    labels = [value for name, value in vars(commitments).items() if name.endswith(("_LABEL", "_INFO"))]
    assert len(labels) == 9
    for label in labels:
        assert label.startswith(b"zhiwang/1/")
        assert [other for other in labels if other.startswith(label)] == [label]


@given(PARTS, PARTS)
def test_two_claims_that_differ_anywhere_have_two_commitments(
    one: tuple[str, str, str, bytes], other: tuple[str, str, str, bytes]
) -> None:
    assert (claim_commitment(SALTS[0], *one) == claim_commitment(SALTS[0], *other)) == (one == other)


def test_a_commitment_hides_behind_its_salt() -> None:
    fixed = ("person", CHILD.identifier, CHILD.name, b"\x00")
    assert claim_commitment(SALTS[0], *fixed) != claim_commitment(SALTS[1], *fixed)


def test_one_claim_opens_without_its_neighbours() -> None:
    tree = request_tree(HEADER, RECORDS)
    width = len(HEADER.claims)
    for number, record in enumerate(RECORDS):
        for index, claim in enumerate(HEADER.claims):
            subject = record.subjects[claim.slot]
            identifier, name = (subject.identifier, subject.name) if subject else ("", "")
            kind = HEADER.slots[claim.slot].kind
            value = compared_bytes(HEADER, claim, record)
            leaf = claim_commitment(claim_salt(record.salt, index), kind, identifier, name, value)
            place = number * width + index
            verify_inclusion(place, tree.size, leaf, tree.path(place), tree.root)


def test_a_claim_says_with_what_it_compares() -> None:
    related, cell, _, text = HEADER.claims
    assert compared_bytes(HEADER, related, RECORDS[0]) == b"\x02" + subject_bytes(
        "person", MOTHER.identifier, MOTHER.name
    )
    assert compared_bytes(HEADER, related, RECORDS[1]) == b"\x02" + subject_bytes("person", "", "")
    assert compared_bytes(HEADER, cell, RECORDS[0]) == b"\x00"
    assert compared_bytes(HEADER, text, RECORDS[0]) == b"\x01" + "市妇幼保健院".encode()


def test_the_request_root_moves_with_everything_that_is_sealed() -> None:
    root = request_tree(HEADER, RECORDS).root
    first, second = RECORDS
    changed = [
        [second, first],
        [first._replace(salt=SALTS[5]), second],
        [first._replace(subjects=(MOTHER, CHILD)), second],
        [first._replace(subjects=(CHILD._replace(name=""), MOTHER)), second],
        [first._replace(subjects=(CHILD, None)), second],
        [first._replace(values=("",)), second],
    ]
    roots = {request_tree(HEADER, records).root for records in changed}
    assert len(roots | {root}) == len(changed) + 1


def test_answers_open_one_by_one() -> None:
    answers = some_answers()
    leaves = claim_commitments(HEADER, RECORDS)
    tree = answer_tree(HEADER, leaves, answers)
    assert tree.size == len(answers.outcomes)
    for index, outcome in enumerate(answers.outcomes):
        data = outcome_bytes(outcome, answers.data_as_of[index % 4])
        leaf = answer_leaf(leaves[index], outcome_salt(answers.salt, index), data)
        verify_inclusion(index, tree.size, leaf, tree.path(index), tree.root)


def test_the_answer_root_moves_with_every_answer() -> None:
    answers = some_answers()
    leaves = claim_commitments(HEADER, RECORDS)
    roots = {answer_tree(HEADER, leaves, answers).root}
    for index in range(8):
        outcomes = bytearray(answers.outcomes)
        outcomes[index] = Outcome.FAILED
        roots.add(answer_tree(HEADER, leaves, replace(answers, outcomes=bytes(outcomes))).root)
    roots.add(answer_tree(HEADER, leaves, replace(answers, salt=SALTS[7])).root)
    roots.add(answer_tree(HEADER, leaves, replace(answers, data_as_of=(None, None, 0, None))).root)
    roots.add(answer_tree(HEADER, list(reversed(leaves)), answers).root)
    assert len(roots) == 12


@given(st.sampled_from(Outcome), st.none() | st.integers(0, 1 << 60))
def test_an_outcome_comes_back_as_it_went_in(outcome: Outcome, data_as_of: int | None) -> None:
    data = outcome_bytes(outcome, data_as_of)
    assert len(data) == 10
    assert parse_outcome_bytes(data) == (outcome, data_as_of)


@given(st.binary(max_size=12))
def test_any_bytes_are_an_outcome_or_refused(data: bytes) -> None:
    try:
        outcome, data_as_of = parse_outcome_bytes(data)
    except ValueError:
        return
    assert outcome_bytes(outcome, data_as_of) == data


def test_no_data_as_of_is_not_the_first_second() -> None:
    assert outcome_bytes(1, None) != outcome_bytes(1, 0)
    with pytest.raises(ValueError, match="malformed"):
        parse_outcome_bytes(b"\x01\x00" + bytes(7) + b"\x01")


def test_an_empty_slot_and_an_empty_subject_commit_alike() -> None:
    header = some_header(cases=1)
    empty = CaseRecord(SALTS[0], (CHILD, None), ("",))
    assert claim_commitments(header, [empty])[1] == claim_commitment(claim_salt(SALTS[0], 1), "person", "", "", b"\x00")
