"""What was seen of the logs is remembered, and nothing that contradicts it is believed."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import grpc
import pytest

from certs.signing import CertificateVerifier
from certs_support import City
from client_support import Log
from exchange.client import heads as heads_module
from exchange.client.heads import FILE, PATIENCE, Heads, OtherLogError
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import kept
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.merkle import consistency_path, largest_power_of_two_below, node_hash

HERE = "hub.city:7440"
THERE = "other.city:7440"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    return City.create(tmp_path_factory.mktemp("city"))


class Fixture:
    def __init__(self, city: City, state: Path) -> None:
        self.city = city
        self.state = state
        self.hub = Log(city.enrol("dsjj/hub/main").signer())

    def heads(self) -> Heads:
        return Heads(self.state, CertificateVerifier(self.city.ca_pem, frozenset), time.time)


@pytest.fixture
def fixture(city: City, tmp_path: Path) -> Fixture:
    return Fixture(city, tmp_path)


def grow(log: Log, number: int = 1) -> None:
    for _ in range(number):
        log.append(audit_pb2.Refusal(reason="NOT_GRANTED", count=1), at=time.time())


def head(log: Log, known: int = 0) -> audit_pb2.LogHead:
    leaves = log._leaves

    def subtree(start: int, end: int) -> bytes:
        if end - start == 1:
            return leaves[start]
        middle = start + largest_power_of_two_below(end - start)
        return node_hash(subtree(start, middle), subtree(middle, end))

    message = log.head()
    if known:
        message.known_tree_size = known
        message.consistency_path.extend(consistency_path(known, len(leaves), subtree))
    return message


def test_a_log_that_grows_is_followed(fixture: Fixture) -> None:
    heads = fixture.heads()
    assert heads.known(HERE) == 0
    heads.check_hub(HERE, head(fixture.hub))
    grow(fixture.hub, 3)
    assert heads.check_hub(HERE, head(fixture.hub, heads.known(HERE))).size == 8
    assert heads.known(HERE) == 8


def test_a_log_that_forks_is_noticed(fixture: Fixture) -> None:
    heads = fixture.heads()
    heads.check_hub(HERE, head(fixture.hub))
    known = heads.known(HERE)
    fixture.hub._leaves[2] = bytes(32)
    grow(fixture.hub)
    with pytest.raises(RefusedError) as caught:
        heads.check_hub(HERE, head(fixture.hub, known))
    assert caught.value.reason is Reason.PROOF_INVALID
    assert heads.known(HERE) == known


def test_a_log_that_fell_back_is_noticed_after_a_restart(fixture: Fixture) -> None:
    heads = fixture.heads()
    grow(fixture.hub, 4)
    heads.check_hub(HERE, head(fixture.hub))
    heads.save()
    del fixture.hub._leaves[-2:]
    again = fixture.heads()
    assert again.known(HERE) == 9
    with pytest.raises(RefusedError) as caught:
        again.check_hub(HERE, head(fixture.hub))
    assert caught.value.reason is Reason.PROOF_INVALID


def test_a_damaged_memory_stops_the_start(fixture: Fixture) -> None:
    heads = fixture.heads()
    heads.check_hub(HERE, head(fixture.hub))
    heads.save()
    (fixture.state / FILE).write_text("{}")
    with pytest.raises(FatalError):
        fixture.heads()


def test_a_memory_in_which_a_hubs_log_has_another_name_stops_the_start(fixture: Fixture) -> None:
    heads = fixture.heads()
    origin = heads.check_hub(HERE, head(fixture.hub)).origin
    heads.save()
    text = (fixture.state / FILE).read_text("utf-8")
    before, name, after = text.rpartition(f'"origin": "{origin}')
    assert name
    (fixture.state / FILE).write_text(f"{before}{name[:-1]}x{after}")
    with pytest.raises(FatalError, match="damaged"):
        fixture.heads()


def test_a_memory_that_nothing_changed_is_not_written(fixture: Fixture) -> None:
    fixture.heads().save()
    assert not (fixture.state / FILE).exists()


def test_another_hub_at_an_address_has_a_log_of_its_own(fixture: Fixture) -> None:
    heads = fixture.heads()
    heads.check_hub(HERE, head(fixture.hub))
    other = Log(fixture.city.enrol("dsjj/hub/second").signer(), before=2)
    assert heads.check_hub(HERE, head(other)).size == 2
    assert heads.known(HERE) == 2


def test_a_hub_that_moved_is_asked_again_by_what_was_seen_of_it(fixture: Fixture) -> None:
    heads = fixture.heads()
    heads.check_hub(HERE, head(fixture.hub))
    grow(fixture.hub)
    with pytest.raises(OtherLogError):
        heads.check_hub(THERE, head(fixture.hub))
    assert heads.check_hub(THERE, head(fixture.hub, heads.known(THERE))).size == 6


def test_only_a_hub_keeps_a_hubs_log(fixture: Fixture) -> None:
    owner = Log(fixture.city.enrol("hrss/adapter/main").signer())
    with pytest.raises(RefusedError):
        fixture.heads().check_hub(HERE, head(owner))


def test_only_the_owners_own_adapter_keeps_its_log(fixture: Fixture) -> None:
    heads = fixture.heads()
    owner = Log(fixture.city.enrol("hrss/adapter/main").signer())
    assert heads.check_owner("hrss", owner.head()).size == 5
    with pytest.raises(RefusedError):
        heads.check_owner("health", owner.head())
    with pytest.raises(RefusedError):
        heads.check_owner("dsjj", fixture.hub.head())


def test_an_owner_with_two_roots_of_one_size_is_noticed(fixture: Fixture) -> None:
    heads = fixture.heads()
    owner = Log(fixture.city.enrol("hrss/adapter/main").signer())
    heads.check_owner("hrss", owner.head())
    owner._leaves[0] = bytes(32)
    with pytest.raises(RefusedError) as caught:
        heads.check_owner("hrss", owner.head())
    assert caught.value.reason is Reason.PROOF_INVALID


def test_a_head_of_an_hour_ago_by_a_revoked_log_is_refused(fixture: Fixture) -> None:
    signer = fixture.city.enrol("hrss/adapter/main").signer()
    log = Log(signer)
    revoked: set[int] = set()
    verifier = CertificateVerifier(fixture.city.ca_pem, lambda: revoked)
    heads = Heads(fixture.state, verifier, time.time)
    heads.check_owner("hrss", log.head())
    revoked.add(verifier.verify(signer.certificate_der, time.time()).serial)
    with pytest.raises(RefusedError) as caught:
        heads.check_owner("hrss", log.head())
    assert caught.value.reason is Reason.CERTIFICATE_REVOKED


async def test_what_was_seen_is_written_again_after_a_full_disk(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_module, "SAVE_SECONDS", 0.01)
    heads = fixture.heads()
    heads.check_hub(HERE, head(fixture.hub))
    full, written = threading.Event(), threading.Event()
    replace = kept.replace_durably

    def first_fails(path: Path, data: bytes, *, follow: bool) -> None:
        if not full.is_set():
            full.set()
            raise OSError(28, "No space left on device")
        replace(path, data, follow=follow)
        written.set()

    monkeypatch.setattr(kept, "replace_durably", first_fails)
    keeping = asyncio.create_task(heads.keep())
    assert await asyncio.to_thread(written.wait, 30)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert full.is_set()
    assert fixture.heads().known(HERE) == 5


def test_a_log_that_forks_beside_what_was_seen_is_refused_at_once(fixture: Fixture) -> None:
    """The hub proves another history from an older head that was seen as well."""
    heads = fixture.heads()
    heads.check_hub(HERE, head(fixture.hub))
    shared = heads.known(HERE)
    other = list(fixture.hub._leaves)
    grow(fixture.hub, 2)
    heads.check_hub(HERE, head(fixture.hub, shared))
    fixture.hub._leaves = [*other, bytes(32), bytes(32), bytes(32)]
    with pytest.raises(RefusedError, match="proved from"):
        heads.check_hub(HERE, head(fixture.hub, shared))
    assert heads.known(HERE) == shared + 2


def test_a_hub_that_signed_two_trees_of_one_size_is_never_believed_again(fixture: Fixture) -> None:
    heads = fixture.heads()
    heads.check_hub(HERE, head(fixture.hub))
    honest = list(fixture.hub._leaves)
    fixture.hub._leaves[2] = bytes(32)
    with pytest.raises(RefusedError):
        heads.check_hub(HERE, head(fixture.hub))
    heads.save()
    fixture.hub._leaves = honest
    grow(fixture.hub)
    for again in (heads, fixture.heads()):
        with pytest.raises(RefusedError, match="audit office"):
            again.check_hub(HERE, head(fixture.hub, len(honest)))


def two_hubs(fixture: Fixture) -> tuple[Heads, int]:
    """Streams to two hubs of one log, which were told the same; what they were told."""
    heads = fixture.heads()
    heads.introduce(HERE, head(fixture.hub))
    heads.introduce(THERE, head(fixture.hub))
    assert heads.begin(HERE) == heads.begin(THERE)
    return heads, heads.known(HERE)


def proof(log: Log, old: int) -> audit_pb2.GetConsistencyProofResponse:
    shown = head(log, old)
    return audit_pb2.GetConsistencyProofResponse(head=shown, consistency_path=shown.consistency_path)


def test_hubs_of_one_log_prove_each_head_from_their_own_before(fixture: Fixture) -> None:
    heads, known = two_hubs(fixture)
    last = {HERE: known, THERE: known}
    for target in (HERE, THERE, THERE, HERE, THERE):
        grow(fixture.hub, 2)
        last[target] = heads.check_hub(target, head(fixture.hub, last[target])).size
    assert heads.known(HERE) == heads.known(THERE) == last[THERE]
    assert heads.wanted is not None
    old, new, origin = heads.wanted
    assert (old, new) == (last[HERE], last[THERE])
    heads.settle(old, new, origin, proof(fixture.hub, old))
    assert heads.wanted is None


def test_a_hub_that_lags_is_believed_though_the_other_has_shown_more_than_is_remembered(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.proofs.REMEMBERED", 8)
    heads, known = two_hubs(fixture)
    last = known
    for _ in range(12):
        grow(fixture.hub)
        last = heads.check_hub(HERE, head(fixture.hub, last)).size
    grow(fixture.hub)
    assert heads.check_hub(THERE, head(fixture.hub, known)).size == last + 1


def test_hubs_that_show_two_histories_are_found_out_while_they_go_on(fixture: Fixture) -> None:
    heads, known = two_hubs(fixture)
    other = Log(fixture.hub.signer)
    other._leaves = list(fixture.hub._leaves)
    grow(fixture.hub)
    grow(other, 3)
    heads.check_hub(HERE, head(fixture.hub, known))
    heads.check_hub(THERE, head(other, known))
    assert heads.wanted is not None
    old, new, origin = heads.wanted
    # The question is under way; both go on meanwhile.
    grow(fixture.hub)
    heads.check_hub(HERE, head(fixture.hub, known + 1))
    with pytest.raises(RefusedError, match="audit office"):
        heads.settle(old, new, origin, proof(other, old))
    heads.save()
    for again in (heads, fixture.heads()):
        with pytest.raises(RefusedError, match="audit office"):
            again.check_hub(HERE, head(fixture.hub, known + 2))


async def test_hubs_that_never_say_how_their_heads_are_related_are_no_longer_believed(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.client.heads.LINK_SECONDS", 0.0)
    heads, known = two_hubs(fixture)
    grow(fixture.hub)
    heads.check_hub(HERE, head(fixture.hub, known))
    grow(fixture.hub)
    heads.check_hub(THERE, head(fixture.hub, known))
    asked = asyncio.Event()
    rounds = 0

    def none() -> list[grpc.aio.Channel]:
        nonlocal rounds
        rounds += 1
        if rounds == PATIENCE:
            asked.set()
        return []

    relating = asyncio.create_task(heads.relate(none))
    await asyncio.wait_for(asked.wait(), 30)
    relating.cancel()
    await asyncio.gather(relating, return_exceptions=True)
    grow(fixture.hub)
    with pytest.raises(RefusedError, match="do not say"):
        heads.check_hub(THERE, head(fixture.hub, known + 2))


def test_what_a_new_hub_shows_is_proved_from_what_another_showed(fixture: Fixture) -> None:
    heads = fixture.heads()
    heads.check_hub(HERE, head(fixture.hub))
    heads.introduce(THERE, head(fixture.hub))
    known = heads.known(HERE)
    assert heads.begin(THERE)[1] == known
    grow(fixture.hub)
    with pytest.raises(RefusedError):
        heads.check_hub(THERE, head(fixture.hub))
    assert heads.check_hub(THERE, head(fixture.hub, known)).size == known + 1
