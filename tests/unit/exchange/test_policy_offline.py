"""Signing without the registrar: how many admins are lacking is told by signatures that verify, and not by names."""

from __future__ import annotations

from pathlib import Path

import pytest
from tuf.api.metadata import Signature, Targets

from exchange.cli.policy_offline import Offline, Signed, sign_offline
from local_support import LIFTED, publication
from policy.metadata import Publication, TufSigner, parse_metadata
from policy.publishing import Named, read_current
from policy.signed_file import publication_bytes
from policy_support import DirectoryKit, make_directory


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return make_directory(tmp_path_factory.mktemp("city"))


def handed(kit: DirectoryKit, *junk: str) -> Named:
    """A document that one admin has signed, and that claims to be signed by these keys too."""
    one = publication(kit, LIFTED, kit.admins["hrss"])
    metadata = parse_metadata(one.metadata, Targets)
    first = TufSigner(kit.admins["hrss"][0]).public_key.keyid
    metadata.signatures = {first: metadata.signatures[first], **{name: Signature(name, "00") for name in junk}}
    return Named(str(Path("lift.json")), publication_bytes(Publication(one.role, metadata.to_bytes(), one.files)))


def signed(kit: DirectoryKit, file: Named, number: int) -> Signed:
    offline = Offline(read_current(kit.fetch, kit.root_json, kit.clock()), kit.directory)
    return sign_offline(offline, file, kit.admins["hrss"][number : number + 1])


def test_a_signature_that_does_not_verify_or_does_not_count_is_still_lacking(kit: DirectoryKit) -> None:
    second = TufSigner(kit.admins["hrss"][1]).public_key.keyid
    stranger = TufSigner(kit.admins["edu"][0]).public_key.keyid
    assert signed(kit, handed(kit, second, stranger), 0).lacking == 1


def test_when_both_have_signed_nobody_is_lacking(kit: DirectoryKit) -> None:
    assert signed(kit, handed(kit), 1).lacking == 0
