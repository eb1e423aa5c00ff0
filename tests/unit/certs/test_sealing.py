from __future__ import annotations

import hashlib

import pytest
from Crypto.PublicKey import ECC
from Crypto.PublicKey.ECC import EccKey
from hypothesis import given
from hypothesis import strategies as st

from certs.sealing import CONTEXT_LIFE, NONCE_SIZE, Opener, SealingContext
from zhiwang.wire.errors import Reason, RefusedError

KEY = ECC.generate(curve="Curve25519")
RAW = KEY.public_key().export_key(format="raw")
KEY_ID = hashlib.sha256(RAW).digest()[:16]
FINGERPRINT = b"f" * 32
HEADER = hashlib.sha256(b"header").digest()
OTHER_HEADER = hashlib.sha256(b"another header").digest()
CONTEXT = SealingContext("hrss", KEY_ID, RAW)


def keys(key_id: bytes) -> EccKey | None:
    return KEY if key_id == KEY_ID else None


def refused(call: object, *arguments: object) -> Reason:
    with pytest.raises(RefusedError) as caught:
        call(*arguments)  # type: ignore[operator]  # whatever the test hands over
    return caught.value.reason


@given(st.binary(max_size=5000), st.binary(min_size=32, max_size=32), st.binary(max_size=500))
def test_what_is_sealed_is_opened_and_so_is_its_reply(plaintext: bytes, header: bytes, answers: bytes) -> None:
    opener = Opener(keys)
    nonce, ciphertext = CONTEXT.seal(header, plaintext)
    found, sealer = opener.open(FINGERPRINT, KEY_ID, CONTEXT.enc, header, nonce, ciphertext)
    assert found == plaintext
    assert CONTEXT.open_reply(header, *sealer.seal(answers)) == answers


def test_a_request_flipped_or_cut_anywhere_does_not_open() -> None:
    opener = Opener(keys)
    nonce, ciphertext = CONTEXT.seal(HEADER, b"case records")
    whole = (CONTEXT.enc, HEADER, nonce, ciphertext)
    assert opener.open(FINGERPRINT, KEY_ID, *whole)[0] == b"case records"
    for part in range(len(whole)):
        for position in range(len(whole[part])):
            flipped = bytearray(whole[part])
            flipped[position] ^= 1
            # RFC 7748 ignores the highest bit of a point, but the encapsulated key itself is hashed into the secret.
            changed = [*whole[:part], bytes(flipped), *whole[part + 1 :]]
            assert refused(opener.open, FINGERPRINT, KEY_ID, *changed) is Reason.SEAL_BROKEN
            cut = [*whole[:part], whole[part][:position], *whole[part + 1 :]]
            assert refused(opener.open, FINGERPRINT, KEY_ID, *cut) is Reason.SEAL_BROKEN


def test_a_reply_opens_under_its_own_header_only_and_flipped_nowhere() -> None:
    opener = Opener(keys)
    _, sealer = opener.open(FINGERPRINT, KEY_ID, CONTEXT.enc, HEADER, *CONTEXT.seal(HEADER, b"x"))
    nonce, ciphertext = sealer.seal(b"answers")
    assert refused(CONTEXT.open_reply, OTHER_HEADER, nonce, ciphertext) is Reason.SEAL_BROKEN
    for position in range(len(ciphertext)):
        flipped = bytearray(ciphertext)
        flipped[position] ^= 1
        assert refused(CONTEXT.open_reply, HEADER, nonce, bytes(flipped)) is Reason.SEAL_BROKEN
        assert refused(CONTEXT.open_reply, HEADER, nonce, ciphertext[:position]) is Reason.SEAL_BROKEN
    assert refused(CONTEXT.open_reply, HEADER, b"", ciphertext) is Reason.SEAL_BROKEN


def test_a_request_and_its_reply_cannot_stand_for_one_another() -> None:
    opener = Opener(keys)
    nonce, ciphertext = CONTEXT.seal(HEADER, b"x")
    assert refused(CONTEXT.open_reply, HEADER, nonce, ciphertext) is Reason.SEAL_BROKEN
    _, sealer = opener.open(FINGERPRINT, KEY_ID, CONTEXT.enc, HEADER, nonce, ciphertext)
    assert refused(opener.open, FINGERPRINT, KEY_ID, CONTEXT.enc, HEADER, *sealer.seal(b"y")) is Reason.SEAL_BROKEN


def test_another_context_does_not_open_the_reply() -> None:
    _, sealer = Opener(keys).open(FINGERPRINT, KEY_ID, CONTEXT.enc, HEADER, *CONTEXT.seal(HEADER, b"x"))
    other = SealingContext("hrss", KEY_ID, RAW)
    assert other.enc != CONTEXT.enc
    assert refused(other.open_reply, HEADER, *sealer.seal(b"y")) is Reason.SEAL_BROKEN


def test_equal_requests_are_never_sealed_alike() -> None:
    sealed = {CONTEXT.seal(HEADER, b"the same") for _ in range(100)}
    assert len(sealed) == 100
    assert {len(nonce) for nonce, _ in sealed} == {NONCE_SIZE}


def test_an_unknown_key_is_told_apart_from_a_broken_seal() -> None:
    nonce, ciphertext = CONTEXT.seal(HEADER, b"x")
    assert (
        refused(Opener(keys).open, FINGERPRINT, b"?" * 16, CONTEXT.enc, HEADER, nonce, ciphertext) is Reason.KEY_UNKNOWN
    )


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), b"", b"short", b"x" * 33, b"\xff" * 32])
def test_points_that_give_no_secret_are_refused_on_both_sides(point: bytes) -> None:
    nonce, ciphertext = CONTEXT.seal(HEADER, b"x")
    assert refused(Opener(keys).open, FINGERPRINT, KEY_ID, point, HEADER, nonce, ciphertext) is Reason.SEAL_BROKEN
    if point != b"\xff" * 32:
        assert refused(SealingContext, "hrss", KEY_ID, point) is Reason.KEY_UNKNOWN


def test_a_remembered_secret_dies_with_its_private_key() -> None:
    alive = {KEY_ID: KEY}
    opener = Opener(alive.get)
    sealed = CONTEXT.seal(HEADER, b"x")
    opener.open(FINGERPRINT, KEY_ID, CONTEXT.enc, HEADER, *sealed)
    alive.clear()
    assert refused(opener.open, FINGERPRINT, KEY_ID, CONTEXT.enc, HEADER, *sealed) is Reason.KEY_UNKNOWN


def test_the_private_key_works_once_for_a_context() -> None:
    asked: list[bytes] = []

    class Counting(Opener):
        def _remember(self, fingerprint: bytes, place: bytes, secret: bytes) -> None:
            asked.append(place)
            super()._remember(fingerprint, place, secret)

    opener = Counting(keys)
    for _ in range(5):
        opener.open(FINGERPRINT, KEY_ID, CONTEXT.enc, HEADER, *CONTEXT.seal(HEADER, b"x"))
    assert len(asked) == 1
    opener.open(b"another requester", KEY_ID, CONTEXT.enc, HEADER, *CONTEXT.seal(HEADER, b"x"))
    assert len(asked) == 2
    opener.forget()
    opener.open(FINGERPRINT, KEY_ID, CONTEXT.enc, HEADER, *CONTEXT.seal(HEADER, b"x"))
    assert len(asked) == 3


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=80))
def test_remembered_secrets_are_bounded_and_one_requester_displaces_its_own_first(uses: list[tuple[int, int]]) -> None:
    opener = Opener(keys, cached=6, cached_of_one=3)
    model: dict[bytes, list[bytes]] = {}
    for requester, place in uses:
        fingerprint, key = bytes([requester]), bytes([place])
        opener._remember(fingerprint, key, b"secret")
        own = model.setdefault(fingerprint, [])
        if key not in own:
            own.append(key)
        if len(own) > 3:
            own.pop(0)
        assert opener._count == sum(len(secrets) for secrets in opener._secrets.values()) <= 6
        assert all(0 < len(secrets) <= 3 for secrets in opener._secrets.values())
        assert key in opener._secrets[fingerprint]


def test_one_requester_with_ever_new_contexts_does_not_push_out_another() -> None:
    opener = Opener(keys, cached=40, cached_of_one=3)
    opener._remember(b"quiet", b"place", b"secret")
    for number in range(1000):
        opener._remember(b"noisy", number.to_bytes(4, "big"), b"secret")
    assert opener._secrets[b"quiet"] == {b"place": b"secret"}


def test_a_context_ends_after_its_life_and_when_the_clock_is_set_back() -> None:
    now = [1000.0]
    context = SealingContext("hrss", KEY_ID, RAW, clock=lambda: now[0])
    assert not context.expired(now[0])
    assert not context.expired(now[0] + CONTEXT_LIFE - 1)
    assert context.expired(now[0] + CONTEXT_LIFE)
    assert context.expired(now[0] - 1)
