from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import Checkpoint, CheckpointError, open_note, parse_key, sign, split_note
from audit.cosignature import (
    MAX_TIME,
    Cosignature,
    WitnessPolicy,
    add_cosignatures,
    cosign,
    parse_witness_key,
    verify_cosignature,
)
from zhiwang.wire.vkey import ALGORITHM_COSIGNATURE, VerifierKey

ORIGIN = "shenzhen/centre/hub/main"
LOG = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOG_KEY = VerifierKey(ORIGIN, LOG.public_key().public_bytes_raw())
NOTE = sign(Checkpoint(ORIGIN, 20852163, bytes(range(32))), ORIGIN, LOG_KEY.public_key_raw, LOG.sign)
TEXT = split_note(NOTE)[0]

# What other people's programs made: a checkpoint of a public test log of certificate transparency, with the
# cosignatures of four witnesses of the public witness network, and the keys that these witnesses publish.
PUBLIC_NOTE = """arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
""".encode()  # noqa: E501 - as the log serves it
PUBLIC_LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
PUBLIC_WITNESSES = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
]


class Witness:
    def __init__(self, number: int, name: str | None = None) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        raw = self.private.public_key().public_bytes_raw()
        self.key = VerifierKey(name or f"shenzhen/audit{number}/witness/main", raw, ALGORITHM_COSIGNATURE)

    def line(self, time: int, text: str = TEXT) -> tuple[str, bytes, bytes]:
        return cosign(text, self.key, self.private.sign, time)


W1, W2, W3, W4 = (Witness(number) for number in range(1, 5))


def policy(*witnesses: Witness, quorum: int) -> WitnessPolicy:
    return WitnessPolicy({f"w{number}": [one.key] for number, one in enumerate(witnesses, 1)}, quorum)


def test_cosignatures_of_four_public_witnesses_verify() -> None:
    trusted = WitnessPolicy.of_keys(PUBLIC_WITNESSES, 4)
    names = {key.partition("+")[0] for key in PUBLIC_WITNESSES}
    assert {one.name for one in trusted.cosignatures(PUBLIC_NOTE)} == names
    assert {one.time for one in trusted.cosignatures(PUBLIC_NOTE)} == {0x6A122120}
    assert trusted.satisfied_by(PUBLIC_NOTE)
    log = parse_key(PUBLIC_LOG)
    assert open_note(PUBLIC_NOTE, log.name, log.public_key_raw).size == 1432088532


@pytest.mark.parametrize("text", PUBLIC_WITNESSES)
def test_a_verifier_key_is_written_as_others_write_it(text: str) -> None:
    key = parse_witness_key(f" {text}\n")
    assert str(key) == text
    # Computed without our functions.
    name, _, rest = text.partition("+")
    identifier, _, encoded = rest.partition("+")
    assert sha256(name.encode() + b"\n" + b64decode(encoded)).hexdigest()[:8] == identifier


def test_a_cosignature_signs_time_and_the_whole_text() -> None:
    text = TEXT + "an extension line\n"
    name, identifier, signature = W1.line(1679315147, text)
    assert name == W1.key.name
    assert identifier == sha256(name.encode() + b"\n\x04" + W1.key.public_key_raw).digest()[:4]
    assert len(signature) == 72
    assert signature[:8] == (1679315147).to_bytes(8, "big")
    message = b"cosignature/v1\ntime 1679315147\n" + text.encode()
    Ed25519PublicKey.from_public_bytes(W1.key.public_key_raw).verify(signature[8:], message)
    assert verify_cosignature(text, W1.key, signature) == 1679315147


@given(time=st.integers(0, MAX_TIME), number=st.integers(1, 200))
def test_what_a_witness_signed_is_read_back(time: int, number: int) -> None:
    witness = Witness(number)
    note = add_cosignatures(NOTE, [witness.line(time)])
    assert policy(witness, quorum=1).cosignatures(note) == (Cosignature("w1", time),)


@pytest.mark.parametrize("time", [-1, MAX_TIME + 1])
def test_a_time_that_no_verifier_reads_is_not_signed(time: int) -> None:
    with pytest.raises(CheckpointError, match="time"):
        W1.line(time)


def test_a_cosignature_of_a_time_beyond_the_limit_is_refused() -> None:
    time = MAX_TIME + 1
    signature = time.to_bytes(8, "big") + W1.private.sign(f"cosignature/v1\ntime {time}\n{TEXT}".encode())
    with pytest.raises(CheckpointError, match="no time"):
        verify_cosignature(TEXT, W1.key, signature)


def test_a_log_key_does_not_cosign_and_a_witness_key_is_no_log_key() -> None:
    with pytest.raises(CheckpointError, match="not the key of a witness"):
        cosign(TEXT, LOG_KEY, LOG.sign, 1)
    with pytest.raises(CheckpointError, match="another use"):
        parse_witness_key(str(LOG_KEY))
    with pytest.raises(CheckpointError, match="another use"):
        parse_key(str(W1.key))


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.replace("+", " ", 1),
        lambda key: key[1:],
        lambda key: key[:-4],
        lambda key: key[:-4] + "AAA=",
        lambda key: key.partition("+")[0],
        lambda key: key[:0],
        lambda key: key.upper(),
        lambda key: key.replace("audit1", "audit2"),
    ],
)
def test_a_verifier_key_with_anything_changed_is_refused(change: object) -> None:
    assert callable(change)
    with pytest.raises(CheckpointError):
        parse_witness_key(change(str(W1.key)))


def test_the_log_signature_verifies_below_cosignatures() -> None:
    note = add_cosignatures(NOTE, [W1.line(1), W2.line(2)])
    assert open_note(note, ORIGIN, LOG_KEY.public_key_raw).size == 20852163
    assert note.startswith(NOTE)
    assert note.decode().count("— ") == 3


def test_a_newer_line_of_a_key_takes_the_place_of_the_older() -> None:
    note = add_cosignatures(NOTE, [W1.line(1), W2.line(2)])
    renewed = add_cosignatures(note, [W1.line(9)])
    assert len(renewed) == len(note)
    assert policy(W1, W2, quorum=2).cosignatures(renewed) == (Cosignature("w1", 9), Cosignature("w2", 2))


def test_a_note_never_grows_beyond_what_is_read() -> None:
    with pytest.raises(CheckpointError, match="too many"):
        add_cosignatures(NOTE, [Witness(number).line(1) for number in range(1, 102)])


def test_lines_of_unknown_keys_are_passed_over() -> None:
    known = policy(W1, W2, quorum=2)
    stranger = Witness(9)
    same_name = Witness(8, W1.key.name)
    note = add_cosignatures(NOTE, [W1.line(1), stranger.line(1), same_name.line(1)])
    # Neither a stranger nor another key of the same name counts.
    assert known.cosignatures(note) == (Cosignature("w1", 1),)
    assert not known.satisfied_by(note)
    assert known.satisfied_by(add_cosignatures(note, [W2.line(1)]))


def test_a_bad_signature_of_a_known_key_spoils_the_note() -> None:
    known = policy(W1, W2, W3, quorum=2)
    name, identifier, signature = W3.line(5)
    for wrong in (
        signature[:-1] + bytes([signature[-1] ^ 1]),
        signature[:7] + b"\x06" + signature[8:],
        signature[:-1],
        W3.line(5, TEXT.replace("20852163", "20852164"))[2],
    ):
        note = add_cosignatures(NOTE, [W1.line(1), W2.line(1), (name, identifier, wrong)])
        with pytest.raises(CheckpointError):
            known.satisfied_by(note)
        # Whoever does not know that witness is not concerned.
        assert policy(W1, W2, quorum=2).satisfied_by(note)


def test_a_quorum_is_of_different_witnesses() -> None:
    successor = Witness(7, W1.key.name)
    changing = WitnessPolicy({"one": [W1.key, successor.key], "two": [W2.key], "three": [W3.key]}, 2)
    note = add_cosignatures(NOTE, [W1.line(1), successor.line(2)])
    assert changing.cosignatures(note) == (Cosignature("one", 2),)
    assert not changing.satisfied_by(note)
    assert changing.satisfied_by(add_cosignatures(note, [W3.line(1)]))
    assert changing.names == ("one", "two", "three")


def test_the_age_of_a_quorum_is_that_of_its_last_member() -> None:
    three = policy(W1, W2, W3, quorum=2)
    assert three.quorum_time(NOTE) is None
    assert three.quorum_time(add_cosignatures(NOTE, [W1.line(100)])) is None
    # One witness whose clock is far ahead does not make an old quorum look new.
    assert three.quorum_time(add_cosignatures(NOTE, [W1.line(10**9), W2.line(50), W3.line(40)])) == 50


@pytest.mark.parametrize(("count", "quorum"), [(1, 0), (1, 2), (2, 1), (3, 1), (4, 2), (3, 4), (0, 0)])
def test_a_quorum_that_two_histories_could_find_is_refused(count: int, quorum: int) -> None:
    with pytest.raises(CheckpointError, match="quorum"):
        policy(*[W1, W2, W3, W4][:count], quorum=quorum)


@pytest.mark.parametrize(("count", "quorum"), [(1, 1), (2, 2), (3, 2), (3, 3), (4, 3)])
def test_more_than_half_is_a_quorum(count: int, quorum: int) -> None:
    witnesses = [W1, W2, W3, W4][:count]
    assert policy(*witnesses, quorum=quorum).quorum == quorum
    assert WitnessPolicy.of_keys([str(one.key) for one in witnesses]).quorum == count // 2 + 1


def test_one_key_under_two_names_does_not_count_twice() -> None:
    twin = VerifierKey("shenzhen/other/witness/main", W1.key.public_key_raw, ALGORITHM_COSIGNATURE)
    for other in (twin, W1.key):
        with pytest.raises(CheckpointError, match="same key"):
            WitnessPolicy({"one": [W1.key], "two": [other]}, 2)
    with pytest.raises(CheckpointError, match="key of its own"):
        WitnessPolicy({"one": [W1.key], "two": []}, 2)
    with pytest.raises(CheckpointError, match="for cosignatures"):
        WitnessPolicy({"one": [LOG_KEY]}, 1)


def test_a_key_that_is_no_point_is_refused() -> None:
    raw = b"\x04" + (2).to_bytes(32, "little")
    name = "shenzhen/audit/witness/main"
    identifier = sha256(name.encode() + b"\n" + raw).hexdigest()[:8]
    text = f"{name}+{identifier}+{b64encode(raw).decode()}"
    key = parse_witness_key(text)
    with pytest.raises(CheckpointError):
        verify_cosignature(TEXT, key, bytes(72))
