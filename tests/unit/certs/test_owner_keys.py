from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.owner_keys import GRACE, KEY_LIFE, ROTATE_AFTER, OwnerKeyStore, verify_statement
from certs.signing import CertificateVerifier, Signer
from certs_support import City
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.commitments import owner_key_message
from zhiwang.wire.errors import FatalError, Reason, RefusedError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = NOW.timestamp()
HOUR = 3600.0


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    return City.create(tmp_path_factory.mktemp("city"), now=NOW)


@pytest.fixture(scope="module")
def signer(city: City) -> Signer:
    return city.enrol("hrss/adapter/main", now=NOW).signer()


@pytest.fixture(scope="module")
def verifier(city: City) -> CertificateVerifier:
    return CertificateVerifier(city.ca_pem, frozenset)


class Clock:
    def __init__(self) -> None:
        self.now = START + 0.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, signer: Signer, clock: Clock) -> OwnerKeyStore:
    store = OwnerKeyStore(tmp_path, lambda: signer, clock)
    store.refresh()
    return store


def test_a_statement_verifies_and_its_private_key_is_at_hand(
    store: OwnerKeyStore, verifier: CertificateVerifier, clock: Clock
) -> None:
    (statement,) = store.statements()
    key = verify_statement(statement, verifier, "hrss", clock())
    assert (key.owner, key.adapter) == ("hrss", "main")
    private = store.private(key.key_id)
    assert private is not None
    assert private.public_key().export_key(format="raw") == key.public_key
    assert key.not_after - key.not_before <= KEY_LIFE
    assert store.private(b"?" * 16) is None


def test_keys_rotate_daily_serials_rise_and_dead_keys_are_destroyed(
    store: OwnerKeyStore, verifier: CertificateVerifier, clock: Clock, tmp_path: Path
) -> None:
    serials: list[int] = []
    for _ in range(24 * 10):
        assert store.refresh() in {True, False}
        statements = store.statements()
        found = [verify_statement(statement, verifier, "hrss", clock()) for statement in statements]
        assert found == sorted(found, key=lambda key: -key.serial)
        newest = found[0]
        assert clock() - newest.not_before < ROTATE_AFTER + HOUR
        if newest.serial not in serials:
            serials.append(newest.serial)
        assert all(store.private(key.key_id) for key in found)
        assert 1 <= len(found) <= 2
        for file in tmp_path.glob("*.key"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(list(tmp_path.iterdir())) <= 2 * 3
        clock.now += HOUR
    assert serials == sorted(serials)
    assert len(serials) == 10


def test_nothing_is_stated_after_its_time_nor_opened_after_the_grace(store: OwnerKeyStore, clock: Clock) -> None:
    (statement,) = store.statements()
    key_id = sealed_pb2.OwnerKey.FromString(statement.key).key_id
    clock.now += KEY_LIFE + 1
    assert store.statements() == []
    assert store.private(key_id) is not None
    clock.now += GRACE
    assert store.private(key_id) is None


def test_a_restart_keeps_keys_and_serials(store: OwnerKeyStore, signer: Signer, clock: Clock, tmp_path: Path) -> None:
    (before,) = store.statements()
    again = OwnerKeyStore(tmp_path, lambda: signer, clock)
    assert not again.refresh()
    assert again.statements() == [before]
    clock.now += ROTATE_AFTER
    assert again.refresh()
    newest, oldest = (sealed_pb2.OwnerKey.FromString(item.key) for item in again.statements())
    assert newest.serial > oldest.serial


def test_replicas_that_share_a_directory_make_each_key_once(signer: Signer, clock: Clock, tmp_path: Path) -> None:
    one, other = (OwnerKeyStore(tmp_path, lambda: signer, clock) for _ in range(2))
    assert one.refresh()
    assert other.refresh()
    assert not other.refresh()
    clock.now += ROTATE_AFTER
    assert other.refresh()
    assert one.refresh()
    statements = one.statements()
    assert [statement.key for statement in statements] == [statement.key for statement in other.statements()]
    assert len(statements) == 2
    for statement in statements:
        key = sealed_pb2.OwnerKey.FromString(statement.key)
        assert one.private(key.key_id) == other.private(key.key_id)


def test_serials_rise_even_after_every_key_has_died(store: OwnerKeyStore, clock: Clock) -> None:
    before = sealed_pb2.OwnerKey.FromString(store.statements()[0].key).serial
    clock.now += 30 * 24 * HOUR
    assert store.refresh()
    (statement,) = store.statements()
    assert sealed_pb2.OwnerKey.FromString(statement.key).serial > before


def test_a_clock_that_was_set_back_gets_a_key_that_is_valid_at_once(
    store: OwnerKeyStore, verifier: CertificateVerifier, clock: Clock
) -> None:
    before = store.statements()[0]
    clock.now -= HOUR / 20
    assert store.refresh()
    newest = store.statements()[0]
    assert newest != before
    verify_statement(newest, verifier, "hrss", clock())


def test_a_renewed_certificate_signs_the_same_keys(
    city: City, store: OwnerKeyStore, verifier: CertificateVerifier, clock: Clock
) -> None:
    (before,) = store.statements()
    renewed = city.enrol("hrss/adapter/main", now=NOW).signer()
    store._signer = lambda: renewed
    (after,) = store.statements()
    assert after.key == before.key
    assert after.certificate == renewed.certificate_der
    verify_statement(after, verifier, "hrss", clock())


@pytest.mark.parametrize("damage", ["no statement", "other statement", "readable by others", "garbage"])
def test_a_damaged_key_stops_the_adapter(
    damage: str, store: OwnerKeyStore, signer: Signer, clock: Clock, tmp_path: Path
) -> None:
    clock.now += ROTATE_AFTER
    store.refresh()
    one, two = sorted(tmp_path.glob("*.owner_key"))
    key = one.with_suffix(".key")
    if damage == "no statement":
        one.unlink()
    elif damage == "other statement":
        one.write_bytes(two.read_bytes())
    elif damage == "readable by others":
        key.chmod(0o644)
    else:
        key.write_bytes(b"garbage")
    with pytest.raises(FatalError):
        OwnerKeyStore(tmp_path, lambda: signer, clock)


def state(signer: Signer, **changes: object) -> sealed_pb2.OwnerKeyStatement:
    """A statement as an adapter could sign it, honest unless changed."""
    raw = bytes(range(32))
    import hashlib  # noqa: PLC0415  only here

    key = sealed_pb2.OwnerKey(owner="hrss", key_id=hashlib.sha256(raw).digest()[:16], public_key=raw, serial=1)
    key.start_time.seconds = int(START)
    key.expire_time.seconds = int(START) + KEY_LIFE
    for name, value in changes.items():
        if name.endswith("_time"):
            getattr(key, name).seconds = value
        else:
            setattr(key, name, value)
    data = key.SerializeToString()
    return sealed_pb2.OwnerKeyStatement(
        key=data, signature=signer.sign(owner_key_message(data)), certificate=signer.certificate_der
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": "police"},
        {"key_id": b"?" * 16},
        {"public_key": b"short"},
        {"expire_time": int(START) + KEY_LIFE + 1},
        {"expire_time": int(START) - 1},
        {"start_time": int(START) + 3600},
        {"start_time": int(START) - 3600, "expire_time": int(START) - 1},
    ],
)
def test_a_statement_that_does_not_hold_together_is_refused(
    signer: Signer, verifier: CertificateVerifier, changes: dict[str, object]
) -> None:
    verify_statement(state(signer), verifier, "hrss", START)
    with pytest.raises(RefusedError) as caught:
        verify_statement(state(signer, **changes), verifier, "hrss", START)
    assert caught.value.reason is Reason.KEY_UNKNOWN


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("police/adapter/main", Reason.KEY_UNKNOWN),
        ("hrss/system/main", Reason.CERTIFICATE_INVALID),
        ("hrss/admin/li", Reason.CERTIFICATE_INVALID),
        ("data/hub/main", Reason.CERTIFICATE_INVALID),
    ],
)
def test_nobody_but_an_adapter_of_the_owner_states_its_keys(
    city: City, verifier: CertificateVerifier, other: str, reason: Reason
) -> None:
    poser = city.enrol(other, now=NOW).signer()
    with pytest.raises(RefusedError) as caught:
        verify_statement(state(poser), verifier, "hrss", START)
    assert caught.value.reason is reason


def test_a_statement_changed_by_who_relays_it_is_refused(signer: Signer, verifier: CertificateVerifier) -> None:
    statement = state(signer)
    for position in range(len(statement.key)):
        key = bytearray(statement.key)
        key[position] ^= 1
        changed = sealed_pb2.OwnerKeyStatement(
            key=bytes(key), signature=statement.signature, certificate=statement.certificate
        )
        with pytest.raises(RefusedError) as caught:
            verify_statement(changed, verifier, "hrss", START)
        assert caught.value.reason is Reason.SIGNATURE_INVALID
