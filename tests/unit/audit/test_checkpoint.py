from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import Checkpoint, CheckpointError, open_note, sign, sign_note, split_note, verify_note
from zhiwang.wire.vkey import key_id

ORIGIN = "shenzhen/centre/hub/main"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
CHECKPOINT = Checkpoint(ORIGIN, 20852163, bytes(range(32)))
NOTE = sign(CHECKPOINT, ORIGIN, PUBLIC, KEY.sign)

# The example of golang.org/x/mod/sumdb/note: a key, its printed form, and a note that it signed.
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = f"""{GO_TEXT}
— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
""".encode()


def go_key() -> tuple[str, bytes, bytes]:
    name, identifier, encoded = GO_VERIFIER.split("+", 2)
    decoded = b64decode(encoded)
    assert decoded[:1] == b"\x01"
    return name, bytes.fromhex(identifier), decoded[1:]


def test_a_note_of_the_go_implementation_verifies() -> None:
    name, identifier, public = go_key()
    assert key_id(name, public) == identifier
    assert verify_note(GO_NOTE, name, public) == GO_TEXT


def test_we_sign_the_very_bytes_that_the_go_implementation_signs() -> None:
    name, _, public = go_key()
    private = Ed25519PrivateKey.from_private_bytes(b64decode(GO_SIGNER.split("+", 4)[4])[1:])
    assert sign_note(GO_TEXT, name, public, private.sign) == GO_NOTE


def test_a_checkpoint_is_three_lines_of_text() -> None:
    assert CHECKPOINT.body == f"{ORIGIN}\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert NOTE.startswith(CHECKPOINT.body.encode() + f"\n— {ORIGIN} ".encode())


@given(size=st.integers(min_value=0, max_value=(1 << 63) - 1), root=st.binary(min_size=32, max_size=32))
def test_what_was_signed_is_read_back(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert open_note(sign(checkpoint, ORIGIN, PUBLIC, KEY.sign), ORIGIN, PUBLIC) == checkpoint


@pytest.mark.parametrize("position", range(len(NOTE)))
def test_a_note_with_any_byte_changed_is_refused(position: int) -> None:
    for change in (0x01, 0x80):
        data = bytearray(NOTE)
        data[position] ^= change
        with pytest.raises(CheckpointError):
            open_note(bytes(data), ORIGIN, PUBLIC)


@pytest.mark.parametrize("length", range(len(NOTE)))
def test_a_note_that_was_cut_is_refused(length: int) -> None:
    with pytest.raises(CheckpointError):
        open_note(NOTE[:length], ORIGIN, PUBLIC)


def test_another_key_or_another_name_is_refused() -> None:
    other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    for name, key in ((ORIGIN, other), ("shenzhen/hrss/adapter/main", PUBLIC)):
        with pytest.raises(CheckpointError, match="not signed by the expected key"):
            open_note(NOTE, name, key)


def test_a_checkpoint_of_another_log_is_refused_even_if_the_key_signed_it() -> None:
    foreign = sign(Checkpoint("shenzhen/hrss/adapter/main", 1, bytes(32)), ORIGIN, PUBLIC, KEY.sign)
    with pytest.raises(CheckpointError, match="another log"):
        open_note(foreign, ORIGIN, PUBLIC)


def test_a_witness_can_add_its_signature_and_the_log_still_verifies() -> None:
    witness = Ed25519PrivateKey.generate()
    line = b64encode(b"\xab\xcd\xef\x01" + b"t" * 8 + witness.sign(b"other bytes")).decode()
    cosigned = NOTE + f"— witness.example/w1 {line}\n".encode()
    assert open_note(cosigned, ORIGIN, PUBLIC) == CHECKPOINT
    assert [name for name, _, _ in split_note(cosigned)[1]] == [ORIGIN, "witness.example/w1"]


def test_extension_lines_are_passed_over() -> None:
    note = sign_note(CHECKPOINT.body + "extension one\n", ORIGIN, PUBLIC, KEY.sign)
    assert open_note(note, ORIGIN, PUBLIC) == CHECKPOINT


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "o\n01\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "o\n+1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "o\n-1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "o\n１\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "o\n9223372036854775808\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "o\n\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "o\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\n",  # not canonical base64
        "o\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==\n",  # 31 bytes
        "o\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n",
        "o\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\nx\n",
        "o\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused_though_it_is_signed(text: str) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u3000b", "a\nb"])
def test_a_key_has_no_name_that_a_note_cannot_carry(name: str) -> None:
    with pytest.raises(CheckpointError):
        sign_note("text\n", name, PUBLIC, KEY.sign)


def test_a_note_larger_than_its_limit_or_of_too_many_signatures_is_refused() -> None:
    with pytest.raises(CheckpointError, match="limit"):
        open_note(NOTE + b"x" * 20_000, ORIGIN, PUBLIC)
    line = NOTE[NOTE.rindex("—".encode()) :]
    with pytest.raises(CheckpointError, match="too many"):
        open_note(NOTE + line * 100, ORIGIN, PUBLIC)


def test_a_text_without_its_last_line_break_is_never_signed() -> None:
    with pytest.raises(CheckpointError):
        sign_note("text", ORIGIN, PUBLIC, KEY.sign)
