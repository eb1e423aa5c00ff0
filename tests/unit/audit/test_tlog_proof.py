"""C2SP tlog-proof, to the byte."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.tlog_proof import HEADER, MAX_PROOF_SIZE, TlogProof, TlogProofError

CHECKPOINT = (
    b"example.com/log\n9\nsFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\n\xe2\x80\x94 example.com/log AAAAAAA=\n"
)
SIBLING = sha256(b"sibling").digest()
PROOF = TlogProof(8, (SIBLING,), CHECKPOINT)


def test_a_proof_is_written_as_the_specification_says() -> None:
    # Lines, then an empty line, then the checkpoint verbatim (https://c2sp.org/tlog-proof, "Format").
    expected = f"c2sp.org/tlog-proof@v1\nindex 8\n{b64encode(SIBLING).decode()}\n\n".encode() + CHECKPOINT
    assert PROOF.encode() == expected
    assert TlogProof.parse(expected) == PROOF


def test_the_proof_of_a_lone_entry_has_no_hashes() -> None:
    lone = TlogProof(0, (), CHECKPOINT)
    assert lone.encode() == b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + CHECKPOINT
    assert TlogProof.parse(lone.encode()) == lone


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.binary(max_size=200),
)
def test_what_is_written_is_read(index: int, path: list[bytes], checkpoint: bytes) -> None:
    proof = TlogProof(index, tuple(path), checkpoint)
    assert TlogProof.parse(proof.encode()) == proof


@given(st.binary(max_size=300))
def test_what_is_read_has_one_spelling(data: bytes) -> None:
    for text in (data, f"{HEADER}\nindex 8\n".encode() + data):
        try:
            proof = TlogProof.parse(text)
        except TlogProofError:
            continue
        assert proof.encode() == text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"c2sp.org/tlog-proof@v2\nindex 8\n\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\n\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\nindex 8\n",
        b"c2sp.org/tlog-proof@v1\nindex 08\n\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\nindex -8\n\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\nindex " + b"9" * 5000 + b"\n\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\r\nindex 8\r\n\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\nextra AAAA\nindex 8\n\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\nindex 8\nAAAA\n\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\nindex 8\n" + b64encode(SIBLING)[:-2] + b"R=\n\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\nindex 8\n" + (b64encode(SIBLING) + b"\n") * 64 + b"\n" + CHECKPOINT,
        b"c2sp.org/tlog-proof@v1\nindex 8\n\n" + b"x" * MAX_PROOF_SIZE,
    ],
)
def test_what_is_no_proof_is_refused(data: bytes) -> None:
    with pytest.raises(TlogProofError):
        TlogProof.parse(data)
