"""Whoever was revoked stays so, however carelessly the centre publishes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

import policy_support as support
from policy.metadata import REVOCATIONS_FILE, Publication, TufSigner, signed
from policy.publishing import sign
from policy_support import DirectoryKit, make_directory
from zhiwang.wire.errors import Reason, RefusedError


@pytest.fixture
def kit(tmp_path: Path) -> DirectoryKit:
    return make_directory(tmp_path)


def test_a_revocation_list_neither_goes_nor_grows_older(kit: DirectoryKit) -> None:
    authority = kit.city.authority
    files = kit.city.enrol("edu/agent/thief")
    serial = x509.load_pem_x509_certificate((files.directory / "auth.pem").read_bytes()).serial_number
    empty = authority.crl(datetime.now(UTC) - timedelta(hours=1))
    authority.revoke(serial)
    kit.publish(authority.crl())
    for attempt in (_without, lambda kit: _with(kit, empty)):
        with pytest.raises(RefusedError) as error:
            kit.repository.publish(attempt(kit))
        assert error.value.reason is Reason.METADATA_INVALID
        assert REVOCATIONS_FILE in (error.value.detail or "")
        assert serial in kit.directory.revoked
    kit.publish(authority.crl())
    assert serial in kit.directory.revoked


def _with(kit: DirectoryKit, pem: bytes) -> Publication:
    (draft,) = kit.drafts(pem)
    return sign(draft, kit.admins[support.OPERATOR])


def _without(kit: DirectoryKit) -> Publication:
    (draft,) = kit.drafts(support.CENTRE)
    del draft.metadata.signed.targets[REVOCATIONS_FILE]
    return Publication(
        draft.role, signed(draft.metadata, map(TufSigner, kit.admins[support.OPERATOR])), dict(draft.files)
    )
