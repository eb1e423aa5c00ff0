"""A file of names opens for the system for which it was sealed, as its sender made it, and for nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from certs.credentials import IdentityFiles
from certs.referrals import KEY_LIFE, make_key, open_file, parse_key, private_of, read_file, seal, verify_key
from certs.signing import CertificateVerifier
from certs_support import City
from zhiwang.adapter.v1 import roster_pb2
from zhiwang.wire.errors import Reason, RefusedError

NAMES = "key,identifier,name\r\n1,440399199001010011,某人\r\n".encode()


class Two:
    """A receiver with a key, an admin who hands names on, and somebody else."""

    def __init__(self, path: Path) -> None:
        self.city = City.create(path)
        self.receiver = self.city.enrol("civil/system/seniors")
        self.other = self.city.enrol("edu/system/enrolment")
        self.admin = self.city.enrol("police/admin/chen")
        self.verifier = CertificateVerifier(self.city.ca_pem, frozenset)
        self.now = self.receiver.signer().expires - 40 * 86_400
        self.private = path / "private"
        self.statement = make_key(self.private, self.receiver.signer(), self.now)

    def sealed(self, sender: IdentityFiles | None = None, made: float | None = None) -> bytes:
        key = verify_key(parse_key(self.statement), self.verifier, self.now)
        head = roster_pb2.ReferralHead(matter="senior-invite", reference="SI2026-0001", reason="cards", count=1)
        head.time.seconds = int(self.now if made is None else made)
        return seal(key, head, NAMES, (sender or self.admin).signer())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(tmp_path_factory.mktemp("referrals"))


def reason_of(error: pytest.ExceptionInfo[RefusedError]) -> Reason:
    return error.value.reason


def test_the_receiver_opens_what_was_sealed_and_learns_from_whom_and_why(two: Two) -> None:
    sealed = two.sealed()
    assert b"440399" not in sealed
    assert "某人".encode() not in sealed
    received = read_file(sealed, two.verifier)
    assert open_file(received, private_of(two.private), two.receiver.identity) == NAMES
    assert (received.sender.identity.short, received.head.reason, received.head.matter) == (
        "police/admin/chen",
        "cards",
        "senior-invite",
    )


def test_a_file_for_somebody_else_is_not_opened(two: Two, tmp_path: Path) -> None:
    private = private_of(two.private)
    with pytest.raises(RefusedError) as caught:
        open_file(read_file(two.sealed(), two.verifier), private, two.other.identity)
    assert reason_of(caught) is Reason.IDENTITY_MISMATCH
    make_key(tmp_path / "another", two.receiver.signer(), two.now)
    received = read_file(two.sealed(), two.verifier)
    with pytest.raises(RefusedError) as caught:
        open_file(received, private_of(tmp_path / "another"), two.receiver.identity)
    assert reason_of(caught) is Reason.KEY_UNKNOWN


@pytest.mark.parametrize("part", ["head", "enc", "nonce", "ciphertext", "signature"])
def test_a_file_that_was_changed_is_not_opened(two: Two, part: str) -> None:
    file = roster_pb2.ReferralFile.FromString(two.sealed())
    changed = bytearray(getattr(file, part))
    changed[-1] ^= 1
    setattr(file, part, bytes(changed))
    with pytest.raises(RefusedError):
        read_file(file.SerializeToString(), two.verifier)


def test_only_an_admin_hands_names_on(two: Two) -> None:
    with pytest.raises(RefusedError) as caught:
        read_file(two.sealed(two.other), two.verifier)
    assert reason_of(caught) is Reason.CERTIFICATE_INVALID


def test_a_file_of_a_sender_who_is_revoked_or_had_no_certificate_at_its_time_is_not_read(two: Two) -> None:
    sealed = two.sealed()
    sender = read_file(sealed, two.verifier).sender
    with pytest.raises(RefusedError) as caught:
        read_file(sealed, CertificateVerifier(two.city.ca_pem, lambda: {sender.serial}))
    assert reason_of(caught) is Reason.CERTIFICATE_REVOKED
    for made in (sender.not_before - 1, sender.not_after + 1):
        with pytest.raises(RefusedError) as caught:
            read_file(two.sealed(made=made), two.verifier)
        assert reason_of(caught) is Reason.CERTIFICATE_EXPIRED


def test_a_key_counts_within_its_time_and_as_its_holder_stated_it(two: Two) -> None:
    statement = parse_key(two.statement)
    for now in (two.now - 60, two.now + KEY_LIFE + 1):
        with pytest.raises(RefusedError) as caught:
            verify_key(statement, two.verifier, now)
        assert reason_of(caught) is Reason.KEY_UNKNOWN
    # Another system's signature under the same key: it may not be stated for somebody else.
    signer = two.other.signer()
    forged = roster_pb2.ReferralKeyStatement(
        key=statement.key, signature=signer.sign(b"zhiwang/referral-key/v1\0" + statement.key)
    )
    forged.certificate = signer.certificate_der
    with pytest.raises(RefusedError) as caught:
        verify_key(forged, two.verifier, two.now)
    assert reason_of(caught) is Reason.KEY_UNKNOWN
    revoked = {two.verifier.known(statement.certificate).serial}
    with pytest.raises(RefusedError) as caught:
        verify_key(statement, CertificateVerifier(two.city.ca_pem, lambda: revoked), two.now)
    assert reason_of(caught) is Reason.CERTIFICATE_REVOKED
    with pytest.raises(RefusedError):
        parse_key(b"\xff no statement")


def test_a_private_half_is_private_and_replaces_nothing(two: Two) -> None:
    assert two.private.stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        make_key(two.private, two.receiver.signer(), two.now)
