"""What a receipt is worth later: when certificates have expired or were revoked, and the log has moved on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from certs.revocation import RevocationList
from client_support import Log, World, unchecked
from exchange.client.receipt import build_receipt
from exchange.client.receipt_times import Revocations, Trust, Word, prove
from exchange.client.receipt_verify import ProvedPart, verify_receipt
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError

Receipt = verification_pb2.Receipt

HOLDERS = ("edu/system/enrolment", "hrss/adapter/main", "dsjj/hub/main")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def receipt_of(world: World, *, now: float | None = None) -> Receipt:
    return build_receipt([unchecked(world, one) for one in world.seal(world.prepare(), now=now)], 0)


@pytest.fixture(scope="module")
def receipt(world: World) -> Receipt:
    return receipt_of(world)


@pytest.fixture
def logs(world: World) -> Iterator[World]:
    """The same city, whose logs and signers may be replaced by others."""
    signer, hub, owners = world.signer, world.hub, dict(world._owners)
    yield world
    world.signer, world.hub, world._owners = signer, hub, owners


def parts_by_holder(world: World, receipt: Receipt) -> dict[str, tuple[ProvedPart, int]]:
    """Serial number of each certificate, with a part in which it stands."""
    return {
        certificate.identity.short: (part, certificate.serial)
        for part in verify_receipt(receipt, world.verifier)
        for certificate in part.certificates
    }


def trust(world: World, times: Mapping[int, float], as_of: float | None = None) -> Trust:
    return Trust(world.verifier, revocations=Revocations(times, time.time() + 86_400 if as_of is None else as_of))


def test_a_receipt_holds_when_all_its_certificates_have_expired(logs: World) -> None:
    then = datetime.now(UTC) - timedelta(days=800)
    logs.signer = logs.city.enrol("edu/system/old", now=then, days=10).signer()
    logs.hub = Log(logs.city.enrol("dsjj/hub/old", now=then, days=10).signer())
    for owner in ("hrss", "health"):
        logs._owners[owner] = Log(logs.city.enrol(f"{owner}/adapter/old", now=then, days=10).signer())
    old = receipt_of(logs, now=(then + timedelta(days=9)).timestamp())
    parts = verify_receipt(old, logs.verifier)
    assert all(one.not_after < time.time() - 86_400 * 700 for part in parts for one in part.certificates)
    # One that had expired by then is another matter.
    with pytest.raises(RefusedError) as caught:
        verify_receipt(receipt_of(logs, now=(then + timedelta(days=11)).timestamp()), logs.verifier)
    assert caught.value.reason is Reason.CERTIFICATE_EXPIRED


def test_a_receipt_holds_when_the_logs_have_moved_on_under_renewed_keys(logs: World) -> None:
    before = receipt_of(logs)
    for log in (logs.hub, *logs._owners.values()):
        log.grow(300)
        log.signer = logs.city.enrol(log.signer.identity.short).signer()
    after = receipt_of(logs)
    assert verify_receipt(before, logs.verifier)
    assert verify_receipt(after, logs.verifier)
    assert after.parts[0].hub_log.certificate != before.parts[0].hub_log.certificate


def test_a_receipt_of_a_yearly_shard_holds(logs: World) -> None:
    logs.hub = Log(logs.hub.signer, shard="/2027")
    logs._owners["hrss"] = Log(logs.owner("hrss").signer, shard="/2026")
    parts = verify_receipt(receipt_of(logs), logs.verifier)
    origins = {(part.header.owner, part.owner_checkpoint.origin, part.hub_checkpoint.origin) for part in parts}
    assert origins == {
        ("hrss", "shenzhen/hrss/adapter/main/2026", "shenzhen/dsjj/hub/main/2027"),
        ("health", "shenzhen/health/adapter/main", "shenzhen/dsjj/hub/main/2027"),
    }


@pytest.mark.parametrize("shard", ["/", "/27", "/20271", "/2027/1", "2027", "/２０２７", "/0027", "-2/2027"])
def test_a_log_of_any_other_name_is_not_its_keepers(logs: World, shard: str) -> None:
    logs.hub = Log(logs.hub.signer, shard=shard)
    with pytest.raises(RefusedError) as caught:
        verify_receipt(receipt_of(logs), logs.verifier)
    assert caught.value.reason is Reason.PROOF_INVALID


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("earlier", [0.0, 1.0, 86_400.0])
def test_what_was_revoked_before_the_entry_voids_the_receipt(
    world: World, receipt: Receipt, holder: str, earlier: float
) -> None:
    part, serial = parts_by_holder(world, receipt)[holder]
    made = part.hub_time if "hub" in holder else part.owner_time
    with pytest.raises(RefusedError) as caught:
        prove(receipt, trust(world, {serial: made - earlier}))
    assert caught.value.reason is Reason.CERTIFICATE_REVOKED
    assert holder in caught.value.detail


@pytest.mark.parametrize(("holder", "word"), list(zip(HOLDERS, (Word.HUB, Word.HUB, Word.OWN), strict=True)))
def test_what_was_revoked_since_voids_nothing_and_is_said(
    world: World, receipt: Receipt, holder: str, word: Word
) -> None:
    part, serial = parts_by_holder(world, receipt)[holder]
    proved = prove(receipt, trust(world, {serial: part.hub_time + 1, serial + 1: 0.0}))
    (since,) = proved.revoked_since
    assert (since.certificate.identity.short, since.time, since.word) == (holder, part.hub_time + 1, word)


def test_a_list_that_is_older_than_the_entries_says_nothing_about_them(world: World, receipt: Receipt) -> None:
    with pytest.raises(RefusedError, match="newer one"):
        prove(receipt, trust(world, {}, as_of=time.time() - 86_400))


def test_without_a_list_revocation_is_not_asked_and_that_is_known(world: World, receipt: Receipt) -> None:
    assert prove(receipt, Trust(world.verifier)).revocations_as_of is None
    assert prove(receipt, trust(world, {}, as_of=4e9)).revocations_as_of == 4e9


def test_the_authoritys_own_list_tells_when_each_was_revoked(logs: World) -> None:
    signer = logs.signer = logs.city.enrol("edu/system/stolen").signer()
    before = receipt_of(logs)
    _, serial = parts_by_holder(logs, before)["edu/system/stolen"]
    moment = datetime.now(UTC) + timedelta(minutes=10)
    logs.city.authority.revoke(serial, now=moment)
    logs.signer = signer
    after = receipt_of(logs, now=moment.timestamp() + 60)
    pem = logs.city.authority.crl(now=moment + timedelta(hours=1))
    listed = Revocations.of_list(RevocationList.parse(pem, logs.city.ca_pem))
    (since,) = prove(before, Trust(logs.verifier, revocations=listed)).revoked_since
    assert abs(since.time - moment.timestamp()) < 1
    with pytest.raises(RefusedError) as caught:
        prove(after, Trust(logs.verifier, revocations=listed))
    assert caught.value.reason is Reason.CERTIFICATE_REVOKED
