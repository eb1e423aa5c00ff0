"""Sealing keys are believed only from their owner, used only within their time, and fetched no more than needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.owner_keys import KEY_LIFE, ROTATE_AFTER, OwnerKeyStore, VerifiedOwnerKey
from certs.signing import CertificateVerifier
from certs_support import City
from exchange.client.keys import FRESH_SECONDS, PAUSE_SECONDS, SPARE_SECONDS, SPURNED_SECONDS, OwnerKeys
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError

START = float(int(time.time()))
ENROLLED = datetime.fromtimestamp(START - 3600, UTC)
"""Of every certificate: however late in a long run a test comes, it is valid at START."""


class Fixture:
    def __init__(self, city: City, path: Path) -> None:
        self.now = START
        self.fetched = 0
        self.statements: list[sealed_pb2.OwnerKeyStatement] = []
        self.revoked: set[int] = set()
        self.city = city
        self.path = path
        self.verifier = CertificateVerifier(city.ca_pem, lambda: self.revoked)
        self.keys = OwnerKeys(self._fetch, self.verifier, lambda: self.now)

    def store(self, owner: str) -> OwnerKeyStore:
        directory = self.path / owner
        directory.mkdir(exist_ok=True)
        store = OwnerKeyStore(
            directory, self.city.enrol(f"{owner}/adapter/main", now=ENROLLED).signer, lambda: self.now
        )
        store.refresh()
        return store

    async def _fetch(self) -> Iterable[sealed_pb2.OwnerKeyStatement]:
        self.fetched += 1
        await asyncio.sleep(0)
        return self.statements


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    return City.create(tmp_path_factory.mktemp("city"), now=ENROLLED)


@pytest.fixture
def fixture(city: City, tmp_path: Path) -> Fixture:
    return Fixture(city, tmp_path)


async def test_one_context_serves_many_requests_and_not_for_ever(fixture: Fixture) -> None:
    fixture.statements = fixture.store("hrss").statements()
    assert fixture.keys.ready("hrss") is None
    first = await fixture.keys.context("hrss")
    assert fixture.keys.ready("hrss") is first
    fixture.now += 599
    assert fixture.keys.ready("hrss") is first
    fixture.now += 1
    assert fixture.keys.ready("hrss") is None
    second = await fixture.keys.context("hrss")
    assert second.enc != first.enc


async def test_many_who_need_a_key_fetch_once(fixture: Fixture) -> None:
    fixture.statements = fixture.store("hrss").statements()
    contexts = await asyncio.gather(*[fixture.keys.context("hrss") for _ in range(10)])
    assert fixture.fetched == 1
    assert len({context.enc for context in contexts}) == 1


async def test_an_owner_without_a_key_is_not_attached_and_is_not_asked_for_all_the_time(fixture: Fixture) -> None:
    for _ in range(5):
        with pytest.raises(RefusedError) as caught:
            await fixture.keys.context("hrss")
        assert caught.value.reason is Reason.OWNER_NOT_ATTACHED
    assert fixture.fetched == 1
    fixture.statements = fixture.store("hrss").statements()
    fixture.now += PAUSE_SECONDS
    assert await fixture.keys.context("hrss")


async def test_a_key_that_another_department_states_is_not_used(fixture: Fixture) -> None:
    store = fixture.store("health")
    (statement,) = store.statements()
    signer = fixture.city.enrol("health/adapter/main", now=ENROLLED).signer()
    key = sealed_pb2.OwnerKey.FromString(statement.key)
    key.owner = "hrss"
    raw = key.SerializeToString()
    from zhiwang.wire.commitments import owner_key_message  # noqa: PLC0415

    fixture.statements = [
        sealed_pb2.OwnerKeyStatement(
            key=raw, signature=signer.sign(owner_key_message(raw)), certificate=signer.certificate_der
        )
    ]
    with pytest.raises(RefusedError):
        await fixture.keys.context("hrss")


async def test_a_statement_that_was_changed_is_not_used(fixture: Fixture) -> None:
    (statement,) = fixture.store("hrss").statements()
    statement.signature = bytes(64)
    fixture.statements = [statement]
    with pytest.raises(RefusedError):
        await fixture.keys.context("hrss")


async def test_the_newest_key_is_used(fixture: Fixture) -> None:
    store = fixture.store("hrss")
    fixture.statements = store.statements()
    old = await fixture.keys.context("hrss")
    fixture.now += ROTATE_AFTER
    store.refresh()
    fixture.statements = store.statements()
    assert len(fixture.statements) == 2
    assert (await fixture.keys.context("hrss")).key_id != old.key_id


async def test_a_key_is_not_used_at_the_end_of_its_life(fixture: Fixture) -> None:
    fixture.statements = fixture.store("hrss").statements()
    await fixture.keys.context("hrss")
    fixture.now = START + KEY_LIFE - SPARE_SECONDS
    with pytest.raises(RefusedError):
        await fixture.keys.context("hrss")


async def test_a_key_that_its_owner_does_not_know_is_spurned(fixture: Fixture) -> None:
    fixture.statements = fixture.store("hrss").statements()
    context = await fixture.keys.context("hrss")
    fixture.keys.spurn("hrss", context.key_id)
    with pytest.raises(RefusedError):
        await fixture.keys.context("hrss")
    assert fixture.fetched == 2


async def test_a_key_that_was_spurned_is_used_again_after_a_minute(fixture: Fixture) -> None:
    fixture.statements = fixture.store("hrss").statements()
    context = await fixture.keys.context("hrss")
    fixture.keys.spurn("hrss", context.key_id)
    fixture.now += SPURNED_SECONDS - 1
    with pytest.raises(RefusedError):
        await fixture.keys.context("hrss")
    fixture.now += 1
    assert (await fixture.keys.context("hrss")).key_id == context.key_id


async def test_keys_are_verified_anew_when_the_directory_changed(fixture: Fixture) -> None:
    fixture.statements = fixture.store("hrss").statements()
    await fixture.keys.context("hrss")
    fixture.revoked.add(fixture.verifier.verify(fixture.statements[0].certificate, fixture.now).serial)
    fixture.keys.forget()
    with pytest.raises(RefusedError):
        await fixture.keys.context("hrss")


async def test_a_fetch_that_fails_is_told_and_tried_again(fixture: Fixture) -> None:
    async def fail() -> Iterable[sealed_pb2.OwnerKeyStatement]:
        await asyncio.sleep(0)
        raise RefusedError(Reason.HUB_UNREACHABLE)

    keys = OwnerKeys(fail, fixture.verifier, lambda: fixture.now)
    for _ in range(2):
        with pytest.raises(RefusedError) as caught:
            await keys.context("hrss")
        assert caught.value.reason is Reason.HUB_UNREACHABLE


async def test_old_keys_are_looked_at_again(fixture: Fixture) -> None:
    store = fixture.store("hrss")
    fixture.statements = store.statements()
    await fixture.keys.context("hrss")
    fixture.now += FRESH_SECONDS
    await fixture.keys.context("hrss")
    assert fixture.fetched == 1
    fixture.now += 600
    await fixture.keys.context("hrss")
    assert fixture.fetched == 2


async def test_agents_share_themselves_out_among_replicas_and_no_key_with_a_successor_is_taken(
    fixture: Fixture,
) -> None:
    def replica(name: str) -> OwnerKeyStore:
        (fixture.path / name).mkdir()
        signer = fixture.city.enrol("hrss/adapter/main", now=ENROLLED).signer()
        return OwnerKeyStore(fixture.path / name, lambda: signer, lambda: fixture.now)

    one, two = replica("one"), replica("two")
    one.refresh()
    fixture.now += 3600
    two.refresh()
    # The first replica's next key comes while its former one still opens what is sealed.
    fixture.now += ROTATE_AFTER - 3600
    one.refresh()
    fixture.statements = [*one.statements(), *two.statements()]
    offered: list[list[bytes]] = []

    def choose(keys: Sequence[VerifiedOwnerKey]) -> VerifiedOwnerKey:
        offered.append([key.key_id for key in keys])
        return keys[len(offered) % len(keys)]

    chosen = set()
    for _ in range(2):
        keys = OwnerKeys(fixture._fetch, fixture.verifier, lambda: fixture.now, choose)
        chosen.add((await keys.context("hrss")).key_id)
    ids = {sealed_pb2.OwnerKey.FromString(one.statements()[0].key).key_id}
    ids.add(sealed_pb2.OwnerKey.FromString(two.statements()[0].key).key_id)
    assert len(fixture.statements) == 3
    assert [set(one) for one in offered] == [ids, ids]
    assert chosen == ids
    # Whose replica is gone is taken by nobody, once its owner has said so.
    gone = chosen.pop()
    keys = OwnerKeys(fixture._fetch, fixture.verifier, lambda: fixture.now)
    keys.spurn("hrss", gone)
    assert (await keys.context("hrss")).key_id != gone
