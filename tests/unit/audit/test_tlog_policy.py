"""C2SP tlog-policy, as far as a quorum of ours can say it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import CheckpointError
from audit.tlog_policy import MAX_POLICY_SIZE, parse_policy
from zhiwang.wire.vkey import ALGORITHM_COSIGNATURE, VerifierKey

# The same in every process, since they stand in the names of tests.
ONE, TWO, THREE = (VerifierKey(f"example.com/{name}", name.encode() * 32, ALGORITHM_COSIGNATURE) for name in "abc")
LOG = VerifierKey("example.com/log", b"l" * 32)
WITNESSES = f"witness A {ONE}\nwitness B {TWO} https://b.example\nwitness C {THREE}\n"


def test_a_policy_of_two_in_three_is_read() -> None:
    policy = parse_policy(f"# of the court\nlog {LOG}\n\n{WITNESSES} \tgroup G 2 A\tB  C \nquorum G\n".encode())
    assert (policy.quorum, policy.names, set(policy.keys)) == (2, ("A", "B", "C"), {ONE, TWO, THREE})


def test_a_single_witness_and_all_of_a_group_are_quorums() -> None:
    assert parse_policy(f"{WITNESSES}quorum B".encode()).names == ("B",)
    assert parse_policy(f"{WITNESSES}group G all A B\nquorum G".encode()).quorum == 2
    assert parse_policy(f"{WITNESSES}group G any A\nquorum G".encode()).quorum == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no line"),
        (WITNESSES, "no line"),
        (f"{WITNESSES}quorum none", "no witness"),
        (f"{WITNESSES}quorum D", "not defined"),
        (f"quorum A\n{WITNESSES}", "not defined"),
        (f"{WITNESSES}quorum A\nquorum B", "second quorum"),
        (f"{WITNESSES}group G any A B C\nquorum G", "more than half"),
        (f"{WITNESSES}group G 1 A B\nquorum G", "more than half"),
        (f"{WITNESSES}group G 4 A B C\nquorum G", "from 1 to its size"),
        (f"{WITNESSES}group G 0 A B C\nquorum G", "from 1 to its size"),
        (f"{WITNESSES}group G ² A B C\nquorum G", "from 1 to its size"),
        (f"{WITNESSES}group G 2 A A B\nquorum G", "each once"),
        (f"{WITNESSES}group G 2 A B\ngroup H all G C\nquorum H", "groups of groups"),
        (f"{WITNESSES}witness A {THREE}\nquorum A", "already"),
        (f"witness A {ONE}\nwitness B {ONE}\ngroup G all A B\nquorum G", "same key"),
        (f"witness A {LOG}\nquorum A", "verifier key"),
        (f"witness none {ONE}\nquorum none", "already"),
        (f"witness A {ONE} url more\nquorum A", "line 1"),
        ("witness A\x0b", "control"),
        ("watch A", "line 1"),
        ("#" * MAX_POLICY_SIZE + "\n", "larger"),
    ],
)
def test_what_is_no_policy_of_ours_is_refused_and_says_why(text: str, why: str) -> None:
    with pytest.raises(CheckpointError, match=why):
        parse_policy(text.encode())


@given(st.binary(max_size=200))
def test_whatever_is_given_is_read_or_refused(data: bytes) -> None:
    for text in (data, WITNESSES.encode() + data):
        try:
            parse_policy(text)
        except CheckpointError:
            continue
