"""HMAC-SHA-256 from its two hashes."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwang.wire.keyed import BLOCK, Keyed


@given(st.binary(max_size=BLOCK), st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_it_is_the_hmac_of_the_standard_library(key: bytes, messages: list[bytes]) -> None:
    keyed = Keyed(key)
    assert [keyed.digest(message) for message in messages] == [
        hmac.digest(key, message, "sha256") for message in messages
    ]


def test_a_published_vector_holds() -> None:
    # RFC 4231 section 4.3.
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert Keyed(b"Jefe").digest(b"what do ya want for nothing?").hex() == expected


def test_a_key_longer_than_a_block_is_refused_and_not_cut() -> None:
    with pytest.raises(ValueError, match="longer than a block"):
        Keyed(bytes(BLOCK + 1))
