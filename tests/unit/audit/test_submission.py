from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import CheckpointError
from audit.submission import MAX_PROOF, MAX_SUBMISSION, Submission, parse_size

# The example of C2SP tlog-witness.
EXAMPLE = """old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
""".encode()  # noqa: E501 - as the specification prints it


def test_the_example_of_the_specification_is_read_and_written_back() -> None:
    read = Submission.parse(EXAMPLE)
    assert (read.old, len(read.proof)) == (20852014, 4)
    assert (read.checkpoint.origin, read.checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert read.encode() == EXAMPLE


@given(
    old=st.integers(0, (1 << 63) - 1),
    proof=st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_PROOF),
)
def test_what_is_sent_is_what_is_read(old: int, proof: list[bytes]) -> None:
    sent = Submission(old, tuple(proof), EXAMPLE.partition(b"\n\n")[2])
    assert Submission.parse(sent.encode()) == sent


HASH = b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "head",
    [
        "",
        "old",
        "old ",
        "old -1",
        "old +1",
        "old 01",
        "old 1 ",
        "Old 1",
        "old\t1",
        "old 1\r",
        "old ٣",
        "old 9223372036854775808",
        "old 99999999999999999999",
        "size 1",
        f"old 1\n{HASH[:-1]}",
        f"old 1\n{HASH} ",
        f"old 1\n {HASH}",
        "old 1\nAAAA",
        f"old 1\n{HASH[:-2]}B=",
        "old 1" + f"\n{HASH}" * (MAX_PROOF + 1),
    ],
)
def test_a_submission_of_another_form_is_refused(head: str) -> None:
    note = EXAMPLE.partition(b"\n\n")[2]
    with pytest.raises(CheckpointError):
        Submission.parse(head.encode() + b"\n\n" + note)


def test_a_submission_is_bounded_and_needs_its_empty_line() -> None:
    with pytest.raises(CheckpointError, match="limit"):
        Submission.parse(EXAMPLE + b"x" * MAX_SUBMISSION)
    for body in (b"", b"old 1\n", b"\n\n", EXAMPLE.partition(b"\n\n")[0]):
        with pytest.raises(CheckpointError):
            Submission.parse(body)


def test_the_largest_submission_that_a_log_can_make_is_read() -> None:
    largest = Submission((1 << 63) - 1, (bytes(32),) * MAX_PROOF, b"x" * 16_384)
    assert len(largest.encode()) <= MAX_SUBMISSION
    assert Submission.parse(largest.encode()) == largest


@pytest.mark.parametrize(("answer", "size"), [(b"0\n", 0), (b"20852014\n", 20852014)])
def test_the_size_of_a_conflict_is_read(answer: bytes, size: int) -> None:
    assert parse_size(answer) == size


@pytest.mark.parametrize(
    "answer", [b"", b"\n", b"50", b"050\n", b"-1\n", b"1\n\n", b"9223372036854775808\n", b"\xff\n"]
)
def test_anything_else_is_no_size(answer: bytes) -> None:
    with pytest.raises(CheckpointError):
        parse_size(answer)
