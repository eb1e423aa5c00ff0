"""What a department's admins put beside the directory at their adapter: who may, what it does, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import Targets

from certs.signing import Signer
from local_support import INSURED, LIFTED, OTHER, PENSION, STOP, Adapter, Clock, publication, signed
from policy.beside import LocalPolicy
from policy.incoming import put
from policy.local import file_name
from policy.metadata import Publication, TufSigner, parse_metadata
from policy.publishing import sign
from policy.signed_file import parse_publication, publication_bytes
from policy_support import HRSS, DirectoryKit, make_directory
from zhiwang.wire.errors import FatalError, Reason, RefusedError


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return make_directory(tmp_path_factory.mktemp("city"))


@pytest.fixture
def kit(city: DirectoryKit, tmp_path: Path) -> DirectoryKit:
    return city.copy(tmp_path / "registrar")


@pytest.fixture
def adapter(kit: DirectoryKit, tmp_path: Path) -> Adapter:
    return Adapter(kit, tmp_path / "state", Clock())


def test_one_admin_stops_something_with_nobody_to_be_reached_also_after_a_restart(
    kit: DirectoryKit, adapter: Adapter
) -> None:
    assert adapter.denied() == ()
    (change,) = adapter.load(signed(kit, STOP))
    assert change.in_force
    assert adapter.denied() == (PENSION, INSURED)
    adapter.start()
    assert adapter.denied() == (PENSION, INSURED)
    assert adapter.look() == []
    assert adapter.denied() == (PENSION, INSURED)


def test_it_stands_beside_newer_directories_until_one_contains_it(kit: DirectoryKit, adapter: Adapter) -> None:
    content = signed(kit, STOP)
    adapter.load(content)
    kit.publish(HRSS + "\n# anew\n", signers=kit.admins["hrss"])
    assert adapter.follow() == []
    assert adapter.denied() == (PENSION, INSURED)
    kit.repository.publish(parse_publication(content))
    (change,) = adapter.follow()
    assert not change.in_force
    assert adapter.denied() == (PENSION, INSURED)
    assert not list((adapter.state / "local").glob("*.json"))
    adapter.start()
    assert adapter.denied() == (PENSION, INSURED)


def test_it_stands_beside_another_list_of_its_own_version(kit: DirectoryKit, adapter: Adapter) -> None:
    adapter.load(signed(kit, STOP))
    kit.publish(OTHER, signers=kit.admins["hrss"])
    assert adapter.follow() == []
    assert {entry.id for entry in adapter.holder.current.suspensions} == {"stop-1", "stop-2"}


def test_two_lists_of_one_version_both_stand(kit: DirectoryKit, adapter: Adapter) -> None:
    adapter.load(signed(kit, OTHER))
    assert adapter.denied() == (INSURED,)
    adapter.load(signed(kit, STOP))
    assert {entry.id for entry in adapter.holder.current.suspensions} == {"stop-1", "stop-2"}
    adapter.start()
    assert {entry.id for entry in adapter.holder.current.suspensions} == {"stop-1", "stop-2"}


def test_a_list_takes_nothing_away_that_stands_in_the_directory(kit: DirectoryKit, adapter: Adapter) -> None:
    kit.publish(OTHER, signers=kit.admins["hrss"])
    adapter.follow()
    adapter.load(signed(kit, STOP))
    assert {entry.id for entry in adapter.holder.current.suspensions} == {"stop-1", "stop-2"}


def test_a_list_can_only_deny_whatever_is_written_into_it(kit: DirectoryKit, adapter: Adapter) -> None:
    with pytest.raises((RefusedError, ValueError)):
        signed(kit, STOP + HRSS.partition("[[grant]]")[2])
    before = adapter.holder.current
    forged = publication(kit, STOP)
    for path in ("hrss/document.toml", "centre.toml", "edu/suspend/current.toml"):
        assert adapter.load(publication_bytes(replace(forged, files={path: HRSS.encode()}))) == []
        assert adapter.load(publication_bytes(replace(forged, files={**forged.files, path: HRSS.encode()}))) == []
    assert adapter.holder.current == before


def test_an_admin_alone_cannot_load_a_document(kit: DirectoryKit, adapter: Adapter) -> None:
    before = adapter.holder.current
    (drafted,) = kit.drafts(LIFTED)
    one = replace(publication(kit, LIFTED, kit.admins["hrss"]))
    metadata = drafted.metadata
    first = kit.admins["hrss"][0]
    half = publication_bytes(Publication("hrss", _only(one.metadata, first), one.files))
    assert metadata.signed.version == 2
    assert adapter.load(half) == []
    assert adapter.holder.current == before
    assert len(adapter.load(publication_bytes(one))) == 1


def _only(metadata: bytes, signer: Signer) -> bytes:
    """The same metadata with the signature of one key alone."""

    found = parse_metadata(metadata, Targets)
    key = TufSigner(signer).public_key.keyid
    found.signatures = {key: found.signatures[key]}
    return bytes(found.to_bytes())


def test_two_admins_lift_what_one_has_stopped(kit: DirectoryKit, adapter: Adapter) -> None:
    adapter.load(signed(kit, STOP))
    changes = adapter.load(signed(kit, LIFTED, kit.admins["hrss"]))
    assert [(change.local.role, change.in_force) for change in changes] == [("hrss", True), ("hrss-suspend", False)]
    assert adapter.denied() == ()
    adapter.start()
    assert adapter.denied() == ()
    adapter.load(signed(kit, STOP))
    assert adapter.denied() == (), "what was lifted cannot be put back"


def test_two_admins_lift_what_the_directory_has_and_the_directory_takes_over(
    kit: DirectoryKit, adapter: Adapter
) -> None:
    kit.publish(STOP, signers=kit.admins["hrss"])
    adapter.follow()
    assert adapter.denied() == (PENSION, INSURED)
    content = signed(kit, LIFTED, kit.admins["hrss"])
    adapter.load(content)
    assert adapter.denied() == ()
    assert adapter.holder.current.documents["hrss"].version == 2
    kit.repository.publish(parse_publication(content))
    (change,) = adapter.follow()
    assert not change.in_force
    assert adapter.denied() == ()
    assert adapter.local.standing == ()


def test_a_document_narrows_what_its_owner_grants(kit: DirectoryKit, adapter: Adapter) -> None:
    narrowed = HRSS.replace('place = "nbs:440306"\n\n', 'place = "nbs:440305"\n\n', 1)
    assert narrowed != HRSS
    adapter.load(signed(kit, narrowed, kit.admins["hrss"]))
    assert adapter.denied() == (INSURED,)
    adapter.start()
    assert adapter.denied() == (INSURED,)


def foreign(kit: DirectoryKit) -> Mapping[str, bytes]:
    """Files that change nothing, by what is wrong with them."""
    good = publication(kit, STOP)
    edu = kit.admins["edu"]
    theirs = STOP.replace('"hrss"', '"edu"')
    (drafted,) = kit.drafts(STOP)
    stranger = replace(drafted, keys=frozenset(key.public_key_raw for key in edu))
    return {
        "another department's": publication_bytes(publication(kit, theirs, edu)),
        "signed by another department's admins": publication_bytes(sign(stranger, edu)),
        "unsigned": publication_bytes(replace(good, metadata=_unsigned(good.metadata))),
        "another file": publication_bytes(replace(good, files={path: OTHER.encode() for path in good.files})),
        "another role": publication_bytes(replace(good, role="hrss")),
        "of the centre": publication_bytes(replace(good, role="targets")),
        "no publication": b"{}",
        "nothing": b"",
        "a list": b"[]",
        "deep": b"[" * 100_000,
        "no metadata": publication_bytes(replace(good, metadata=b"{}")),
    }


def _unsigned(metadata: bytes) -> bytes:

    found = parse_metadata(metadata, Targets)
    found.signatures = {}
    return bytes(found.to_bytes())


def test_a_foreign_or_broken_file_changes_nothing(kit: DirectoryKit, adapter: Adapter) -> None:
    before = adapter.holder.current
    for what, content in foreign(kit).items():
        assert adapter.load(content) == [], what
        assert adapter.holder.current == before, what
    assert adapter.denied() == ()
    assert not list((adapter.state / "local").glob("*.json"))


def test_an_older_list_changes_nothing(kit: DirectoryKit, adapter: Adapter) -> None:
    older = signed(kit, STOP)
    kit.publish(OTHER, signers=kit.admins["hrss"])
    adapter.follow()
    before = adapter.holder.current
    assert adapter.load(older) == []
    assert adapter.holder.current == before


def test_an_expired_list_changes_nothing(kit: DirectoryKit, adapter: Adapter) -> None:
    content = signed(kit, STOP)
    before = adapter.holder.current
    adapter.wind(3651 * 86_400)
    assert adapter.load(content) == []
    assert replace(adapter.holder.current, version=before.version, expires=before.expires) == before


def test_a_suspension_denies_nothing_before_its_time(kit: DirectoryKit, adapter: Adapter) -> None:
    adapter.load(signed(kit, STOP + "not_before = 2099-01-01\n"))
    assert adapter.denied() == ()
    assert [entry.id for entry in adapter.holder.current.suspensions] == ["stop-1"]


def test_a_suspension_that_ended_is_let_go_of(kit: DirectoryKit, adapter: Adapter) -> None:
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 2 * 86_400))
    adapter.load(signed(kit, f"{STOP}not_after = {day}\n"))
    assert adapter.denied() == (PENSION, INSURED)
    adapter.wind(2 * 86_400)
    assert adapter.denied() == ()
    assert adapter.look() == [], "kept while a clock that is fast could have ended it"
    adapter.wind(2 * 86_400)
    (change,) = adapter.look()
    assert not change.in_force
    assert adapter.local.standing == ()


def test_only_admins_that_are_pinned_count_where_some_are(kit: DirectoryKit, tmp_path: Path) -> None:
    keys = [signer.public_key_raw for signer in kit.admins["hrss"]]
    pinned = Adapter(kit, tmp_path / "pinned", Clock(), pins=frozenset(keys))
    # The directory delegates to both; this installation came to pin one of them only, beside what it has on disk.
    pinned.local = LocalPolicy(pinned.state / "local", "hrss", frozenset(keys[:1]), pinned.clock)
    assert pinned.load(signed(kit, STOP, kit.admins["hrss"][1:])) == []
    assert pinned.denied() == ()
    assert len(pinned.load(signed(kit, STOP))) == 1
    assert pinned.denied() == (PENSION, INSURED)


def test_what_was_taken_in_stands_although_its_signer_is_an_admin_no_longer(
    kit: DirectoryKit, adapter: Adapter
) -> None:
    adapter.load(signed(kit, STOP))
    second = kit.city.enrol("hrss/admin/third").signer()
    admins = [kit.admins["hrss"][1], second]
    centre = next(path for path in kit.repository.files if path.endswith("centre.toml"))
    kit.publish(
        kit.repository.files[centre],
        admins={"hrss": [one.public_key_raw for one in admins]},
        signers=kit.admins["dsjj"],
    )
    adapter.holder.set(adapter.client.refresh())
    assert "hrss" in adapter.holder.current.lapsed
    kit.publish(HRSS, signers=admins)
    assert adapter.follow() == []
    assert adapter.denied() == (PENSION, INSURED)
    adapter.start()
    assert adapter.denied() == (PENSION, INSURED)


def test_a_document_of_admins_who_are_so_no_longer_does_not_count(kit: DirectoryKit, adapter: Adapter) -> None:
    wider = HRSS.replace('place = "nbs:440306"\n\n', 'place = "nbs:4403"\n\n', 1)
    for number in range(3):
        wider += f"# {number}\n"
    adapter.load(signed(kit, wider, kit.admins["hrss"]))
    assert adapter.holder.current.documents["hrss"].grants[1].places[0].code == "4403"
    fresh = [kit.city.enrol(f"hrss/admin/{name}").signer() for name in ("fifth", "sixth")]
    adapter.client._roles = {**adapter.client.roles, "targets": _delegating(kit, fresh)}
    adapter.holder.again()
    assert adapter.holder.current.documents["hrss"].version == 1


def _delegating(kit: DirectoryKit, admins: list[Signer]) -> Targets:
    (drafted,) = kit.drafts(admins={"hrss": [one.public_key_raw for one in admins]})
    return drafted.metadata.signed


def test_an_adapter_does_not_start_over_a_damaged_file(kit: DirectoryKit, adapter: Adapter) -> None:
    adapter.load(signed(kit, STOP))
    (path,) = (adapter.state / "local").glob("*.json")
    assert path.name == file_name(adapter.local.standing[0])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FatalError, match="is damaged") as refused:
        adapter.start()
    assert refused.value.reason is Reason.INTERNAL


def test_what_is_put_there_waits_for_a_directory(kit: DirectoryKit, adapter: Adapter) -> None:
    waiting = put(adapter.state / "local", signed(kit, STOP))
    assert adapter.local.look(None, {}) == []
    assert waiting.exists()
    assert len(adapter.look()) == 1


def test_a_signed_file_reads_as_it_was_written(kit: DirectoryKit) -> None:
    written = publication(kit, STOP)
    assert parse_publication(publication_bytes(written)) == written
