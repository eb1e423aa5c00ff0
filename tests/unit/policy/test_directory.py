"""The directory under attack: a mirror or registrar that lies, a centre or department that reaches too far."""

from __future__ import annotations

import copy
import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Targets

import policy_support as support
from policy.directory import DirectoryClient, DirectoryHolder
from policy.metadata import (
    CENTRE,
    build_department,
    meta_file,
    moment,
    raw_key,
    role_keys,
    signed,
    target_file,
    tuf_key,
)
from policy.model import Directory
from policy_liars import LyingRegistrar, tuf
from policy_support import DirectoryKit
from zhiwang.wire.errors import FatalError, Reason, RefusedError, ZhiwangError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return support.make_directory(tmp_path_factory.mktemp("made"))


@pytest.fixture
def kit(made: DirectoryKit, tmp_path: Path) -> DirectoryKit:
    return made.copy(tmp_path / "copy")


class Carrier:
    """Carries the registrar's files, and can do anything to them that a hub could: it has no key."""

    def __init__(self, kit: DirectoryKit) -> None:
        self.kit = kit
        self.frozen: dict[str, bytes] | None = None
        self.changed: dict[str, bytes | None] = {}
        self.asked: list[str] = []

    def __call__(self, path: str) -> bytes:
        self.asked.append(path)
        files = self.kit.repository.files if self.frozen is None else self.frozen
        content = self.changed[path] if path in self.changed else files.get(path)
        if content is None:
            raise RefusedError(Reason.FILE_UNKNOWN)
        return content

    def freeze(self) -> None:
        self.frozen = dict(self.kit.repository.files)


def refused(client: DirectoryClient) -> ZhiwangError:
    with pytest.raises((FatalError, RefusedError)) as error:
        client.refresh()
    return error.value


# What a reader sees


def test_a_reader_sees_what_the_registrar_published(kit: DirectoryKit, tmp_path: Path) -> None:
    client = kit.client(tmp_path / "state")
    assert client.refresh() == kit.directory
    assert dict(client.files) == dict(kit.repository.files)


def test_what_a_reader_mirrors_serves_another_reader(kit: DirectoryKit, tmp_path: Path) -> None:
    kit.publish(support.HRSS + "\n# once more\n")
    hub = kit.client(tmp_path / "hub")
    hub.refresh()
    kit.publish('department = "hrss"\n[[suspend]]\nid = "x"\nrole = "edu/enrolment-clerk"\n')
    hub.refresh()

    def fetch(path: str) -> bytes:
        if path not in hub.files:
            raise RefusedError(Reason.FILE_UNKNOWN)
        return hub.files[path]

    assert kit.client(tmp_path / "adapter", fetch=fetch).refresh() == kit.directory


def test_a_reader_that_restarts_with_nobody_there_goes_on_from_disk(kit: DirectoryKit, tmp_path: Path) -> None:
    kit.client(tmp_path / "state").refresh()

    def unreachable(path: str) -> bytes:
        raise RefusedError(Reason.HUB_UNREACHABLE, path)

    client = kit.client(tmp_path / "state", fetch=unreachable)
    assert refused(client).reason is Reason.HUB_UNREACHABLE
    assert client.load() == kit.directory
    assert dict(client.files) == dict(kit.repository.files)
    assert refused(kit.client(tmp_path / "empty", fetch=unreachable)).reason is Reason.HUB_UNREACHABLE
    with pytest.raises(RefusedError):
        kit.client(tmp_path / "empty", fetch=unreachable).load()


def test_only_what_changed_is_fetched_again(kit: DirectoryKit, tmp_path: Path) -> None:
    carrier = Carrier(kit)
    client = kit.client(tmp_path / "state", fetch=carrier)
    client.refresh()
    kit.publish(support.HRSS + "\n# once more\n")
    carrier.asked.clear()
    client.refresh()
    assert sorted(path.rpartition(".")[0].split(".")[-1] for path in carrier.asked if path.startswith("metadata")) == [
        "hrss",
        "metadata/timestamp",
        "root",
        "snapshot",
    ]
    assert sum(path.startswith("targets") for path in carrier.asked) == 1


# A hub that lies


def test_a_flipped_byte_in_any_file_is_refused(kit: DirectoryKit, tmp_path: Path) -> None:
    rnd = random.Random(7)  # noqa: S311 # the same bytes each time
    carrier = Carrier(kit)
    for number, (path, content) in enumerate(sorted(kit.repository.files.items())):
        if path.endswith("1.root.json"):
            continue  # pinned, never fetched
        place = rnd.randrange(len(content))
        bad = bytearray(content)
        bad[place] ^= 1 << rnd.randrange(7)
        if path.startswith("metadata") and _same_json(bytes(bad), content):
            continue  # white space that no signature and no hash of timestamp covers
        carrier.changed = {path: bytes(bad)}
        refused(kit.client(tmp_path / f"state-{number}", fetch=carrier))


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_a_withheld_file_is_refused_and_the_last_good_directory_stays(kit: DirectoryKit, tmp_path: Path) -> None:
    carrier = Carrier(kit)
    client = kit.client(tmp_path / "state", fetch=carrier)
    holder = DirectoryHolder()
    holder.set(client.refresh())
    before = holder.current
    kit.publish('department = "hrss"\n[[suspend]]\nid = "x"\nrole = "edu/enrolment-clerk"\n')
    needed = [*sorted(set(kit.repository.files) - set(client.files)), "metadata/timestamp.json"]
    assert len(needed) == 4, needed
    for number, path in enumerate(needed):
        carrier.changed = {path: None}
        shutil.copytree(tmp_path / "state", tmp_path / f"state-{number}", symlinks=True)
        holder.failed(str(refused(kit.client(tmp_path / f"state-{number}", fetch=carrier))))
        assert holder.current is before
        assert holder.problem
    carrier.changed = {}
    holder.set(client.refresh())
    assert holder.current.suspensions
    assert holder.problem is None


def test_an_older_directory_is_refused_even_after_a_restart(kit: DirectoryKit, tmp_path: Path) -> None:
    carrier = Carrier(kit)
    old = dict(kit.repository.files)
    kit.publish(support.HRSS.replace("enrolment-pension", "narrower"))
    kit.client(tmp_path / "state", fetch=carrier).refresh()
    carrier.frozen = old
    error = refused(kit.client(tmp_path / "state", fetch=carrier))
    assert error.reason is Reason.METADATA_INVALID
    assert "BadVersionNumber" in error.detail


def test_files_of_different_versions_cannot_be_mixed(kit: DirectoryKit, tmp_path: Path) -> None:
    carrier = Carrier(kit)
    old = dict(kit.repository.files)
    kit.publish(support.HRSS.replace("enrolment-pension", "narrower"))
    new = dict(kit.repository.files)
    snapshot_path = next(path for path in new if path.endswith("snapshot.json"))
    old_snapshot = next(path for path in old if path.endswith("snapshot.json"))
    carrier.changed = {snapshot_path: old[old_snapshot]}
    refused(kit.client(tmp_path / "a", fetch=carrier))
    carrier.changed = {"metadata/2.hrss.json": old["metadata/1.hrss.json"]}
    refused(kit.client(tmp_path / "b", fetch=carrier))
    new_document = next(path for path in new if "hrss" in path and path not in old and path.startswith("targets"))
    old_document = next(path for path in old if "hrss" in path and path.startswith("targets"))
    carrier.changed = {new_document: old[old_document]}
    refused(kit.client(tmp_path / "c", fetch=carrier))


def test_a_directory_expires_by_its_timestamp(tmp_path: Path) -> None:
    kit = support.make_directory(tmp_path, clock=lambda: time.time() - 86_000)
    times = [time.time()]
    holder = DirectoryHolder(lambda: times[0])
    holder.set(kit.client(tmp_path / "state").refresh())
    fresh = [holder.fresh]
    assert holder.enforcer.directory is holder.current
    times[0] += 1000
    fresh.append(holder.fresh)
    assert fresh == [True, False]
    with pytest.raises(RefusedError) as error:
        _ = holder.current
    assert error.value.reason is Reason.DIRECTORY_EXPIRED
    assert holder.revoked() == frozenset(), "what is revoked outlives the expiry"
    assert holder.latest is not None


def test_an_expired_timestamp_is_refused(tmp_path: Path) -> None:
    kit = support.make_directory(tmp_path, clock=lambda: time.time() - 80_000)
    client = kit.client(tmp_path / "state")
    client.refresh()
    late = LyingRegistrar(kit)
    late.timestamp.expires = moment(time.time() - 1)
    late.sign()
    error = refused(kit.client(tmp_path / "state", fetch=late))
    assert "Expired" in error.detail


def test_a_root_that_is_not_the_pinned_one_is_not_believed(kit: DirectoryKit, tmp_path: Path) -> None:
    other = support.make_directory(tmp_path / "other")
    assert refused(kit.client(tmp_path / "state", fetch=other.fetch)).reason is Reason.METADATA_INVALID


# A registrar that lies: it has its keys, and no department's


def test_the_registrar_cannot_write_a_departments_document(kit: DirectoryKit, tmp_path: Path) -> None:
    liar = LyingRegistrar(kit)
    content = support.HRSS.replace('"enrolment-pension"', '"mine"').encode()
    metadata = build_department(
        "hrss", liar.role("hrss").signed, document=content, admins=kit.directory.admin_keys["hrss"], now=time.time()
    )
    liar.put("hrss", signed(metadata, [kit.keys.snapshot, kit.keys.timestamp]), {"hrss/document.toml": content})
    directory = kit.client(tmp_path / "state", fetch=liar).refresh()
    assert "hrss" not in directory.documents
    assert "hrss" in directory.lapsed


def test_one_admin_alone_cannot_write_a_document(kit: DirectoryKit, tmp_path: Path) -> None:
    liar = LyingRegistrar(kit)
    content = support.HRSS.replace('"enrolment-pension"', '"mine"').encode()
    keys = kit.directory.admin_keys["hrss"]
    metadata = build_department("hrss", liar.role("hrss").signed, document=content, admins=keys, now=time.time())
    liar.put("hrss", signed(metadata, tuf([kit.admins["hrss"][0]] * 2)), {"hrss/document.toml": content})
    assert "hrss" in kit.client(tmp_path / "state", fetch=liar).refresh().lapsed


def test_the_registrar_cannot_roll_one_department_back(kit: DirectoryKit, tmp_path: Path) -> None:
    old = kit.repository.files["metadata/1.hrss.json"]
    kit.publish(support.HRSS.replace("enrolment-pension", "narrower"))
    client = kit.client(tmp_path / "state")
    client.refresh()
    liar = LyingRegistrar(kit)
    liar.files["metadata/1.hrss.json"] = old
    liar.snapshot.meta["hrss.json"] = meta_file(1, old)
    liar.sign()
    assert "BadVersionNumber" in refused(kit.client(tmp_path / "state", fetch=liar)).detail


def test_the_registrar_cannot_drop_a_department(kit: DirectoryKit, tmp_path: Path) -> None:
    kit.client(tmp_path / "state").refresh()
    liar = LyingRegistrar(kit)
    del liar.snapshot.meta["hrss.json"]
    liar.sign()
    assert "missing info" in refused(kit.client(tmp_path / "state", fetch=liar)).detail


def test_a_snapshot_without_hashes_is_refused(kit: DirectoryKit, tmp_path: Path) -> None:
    liar = LyingRegistrar(kit)
    liar.snapshot.meta["hrss.json"].hashes = None
    liar.snapshot.meta["hrss.json"].length = None
    liar.sign()
    assert "no hash" in refused(kit.client(tmp_path / "state", fetch=liar)).detail


@pytest.mark.parametrize(
    "content",
    [
        b"this is no TOML",
        support.EDU.encode(),
        support.HRSS.replace('department = "hrss"', 'department = "health"').encode(),
        support.HRSS.replace('ask = "hrss.insured exists"', 'ask = "health.birth_mother related"').encode(),
        support.HRSS.replace('level = "district"', 'level = "province"').encode(),
        support.HRSS.encode() + b'\n[[grant]]\nid = "x"\n',
        support.HRSS.encode() + b"\nunknown = 1\n",
    ],
)
def test_a_malformed_document_in_a_snapshot_leaves_the_last_good_directory(
    kit: DirectoryKit, tmp_path: Path, content: bytes
) -> None:
    client = kit.client(tmp_path / "state")
    holder = DirectoryHolder()
    holder.set(client.refresh())
    liar = LyingRegistrar(kit)
    keys = kit.directory.admin_keys["hrss"]
    metadata = build_department("hrss", liar.role("hrss").signed, document=content, admins=keys, now=time.time())
    liar.put("hrss", signed(metadata, tuf(kit.admins["hrss"])), {"hrss/document.toml": content})
    error = refused(kit.client(tmp_path / "state", fetch=liar))
    assert error.reason is Reason.DOCUMENT_INVALID
    assert "hrss/document.toml" in error.detail
    holder.failed(error.detail)
    assert holder.current.documents["hrss"].grants


# A centre or department that reaches too far


def centre_with(kit: DirectoryKit, change: Callable[[Targets], None]) -> LyingRegistrar:
    liar = LyingRegistrar(kit)
    metadata = liar.role(CENTRE)
    metadata.signed.version += 1
    change(metadata.signed)
    liar.put(CENTRE, signed(metadata, tuf(kit.admins[support.OPERATOR])))
    return liar


def delegation(targets: Targets, name: str) -> DelegatedRole:
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    return targets.delegations.roles[name]


def list_document(targets: Targets) -> None:
    targets.targets["hrss/document.toml"] = target_file("hrss/document.toml", b"")


def widen_health(targets: Targets) -> None:
    delegation(targets, "health").paths = ["health/*", "health/suspend/*", "hrss/*"]


def star_first(targets: Targets) -> None:
    delegations = targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    star = copy.deepcopy(delegations.roles["health"])
    star.name = "aaa"
    star.paths = ["*/document.toml"]
    delegations.roles = {"aaa": star, **delegations.roles}


def one_eye(targets: Targets) -> None:
    delegation(targets, "hrss").threshold = 1


def not_terminating(targets: Targets) -> None:
    delegation(targets, "hrss").terminating = False


def same_key_twice(targets: Targets) -> None:
    """The same public key under two ids would let one admin sign for two."""
    delegations = targets.delegations
    assert delegations is not None
    role = delegation(targets, "hrss")
    key = delegations.keys[role.keyids[0]]
    twin = type(key)("ab" * 32, key.keytype, key.scheme, key.keyval)
    delegations.keys[twin.keyid] = twin
    role.keyids = [key.keyid, twin.keyid]


def bad_name(targets: Targets) -> None:
    role = delegation(targets, "hrss")
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    role.name = "hrss-suspend"
    role.paths = ["hrss-suspend/*", "hrss-suspend/suspend/*"]
    targets.delegations.roles["hrss-suspend"] = role
    del targets.delegations.roles["hrss"]


@pytest.mark.parametrize(
    "change", [list_document, widen_health, star_first, one_eye, not_terminating, same_key_twice, bad_name]
)
def test_a_centre_that_reaches_into_a_department_is_refused(
    kit: DirectoryKit, tmp_path: Path, change: Callable[[Targets], None]
) -> None:
    liar = centre_with(kit, change)
    assert refused(kit.client(tmp_path / "state", fetch=liar)).reason is Reason.METADATA_INVALID


def department_with(kit: DirectoryKit, change: Callable[[Targets], None], files: dict[str, bytes]) -> LyingRegistrar:
    liar = LyingRegistrar(kit)
    metadata = liar.role("health")
    metadata.signed.version += 1
    change(metadata.signed)
    liar.put("health", signed(metadata, tuf(kit.admins["health"])), files)
    return liar


def claim_hrss(targets: Targets) -> None:
    targets.targets["hrss/document.toml"] = target_file("hrss/document.toml", support.HRSS.encode())


def list_suspensions(targets: Targets) -> None:
    targets.targets["health/suspend/current.toml"] = target_file("health/suspend/current.toml", b"x")


def delegate_more(targets: Targets) -> None:
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    role = copy.deepcopy(targets.delegations.roles["health-suspend"])
    role.name = "hrss"
    role.paths = ["hrss/*"]
    targets.delegations.roles["hrss"] = role


def delegate_document(targets: Targets) -> None:
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    targets.delegations.roles["health-suspend"].paths = ["health/*"]


@pytest.mark.parametrize("change", [claim_hrss, list_suspensions, delegate_more, delegate_document])
def test_a_department_that_reaches_beyond_its_own_is_refused(
    kit: DirectoryKit, tmp_path: Path, change: Callable[[Targets], None]
) -> None:
    files = {"hrss/document.toml": support.HRSS.encode()} if change is claim_hrss else {}
    liar = department_with(kit, change, files)
    assert refused(kit.client(tmp_path / "state", fetch=liar)).reason is Reason.METADATA_INVALID


def test_suspensions_under_anothers_name_are_refused(kit: DirectoryKit, tmp_path: Path) -> None:
    kit.publish('department = "health"\n[[suspend]]\nid = "x"\nrole = "edu/enrolment-clerk"\n')
    liar = LyingRegistrar(kit)
    content = b'department = "hrss"\n[[suspend]]\nid = "x"\nrole = "edu/enrolment-clerk"\n'
    metadata = liar.role("health-suspend")
    metadata.signed.version += 1
    path = "health/suspend/current.toml"
    metadata.signed.targets[path] = target_file(path, content)
    liar.put("health-suspend", signed(metadata, tuf(kit.admins["health"][:1])), {path: content})
    assert refused(kit.client(tmp_path / "state", fetch=liar)).reason is Reason.DOCUMENT_INVALID


def test_an_adapter_refuses_admins_that_it_has_not_pinned(kit: DirectoryKit, tmp_path: Path) -> None:
    pins = {"hrss": frozenset(signer.public_key_raw for signer in kit.admins["hrss"])}
    kit.client(tmp_path / "state", pins=pins).refresh()
    strangers = [signer.public_key_raw for signer in kit.enrol_admins("hrss", ("third", "fourth"))]
    kit.publish(support.CENTRE, admins={"hrss": strangers}, signers=kit.admins[support.OPERATOR])
    kit.publish(support.HRSS.replace("enrolment-pension", "mine"))
    assert "hrss" in kit.client(tmp_path / "hub").refresh().documents
    error = refused(kit.client(tmp_path / "state", pins=pins))
    assert "not pinned" in error.detail


# One department's trouble is its own


def expire_department(kit: DirectoryKit) -> LyingRegistrar:
    liar = LyingRegistrar(kit)
    metadata = liar.role("hrss")
    metadata.signed.version += 1
    metadata.signed.expires = moment(time.time() - 1)
    liar.put("hrss", signed(metadata, tuf(kit.admins["hrss"])))
    return liar


def lose_suspensions(kit: DirectoryKit) -> LyingRegistrar:
    kit.publish('department = "hrss"\n[[suspend]]\nid = "x"\nrole = "edu/enrolment-clerk"\n')
    liar = LyingRegistrar(kit)
    metadata = liar.role("hrss-suspend")
    metadata.signed.version += 1
    metadata.signed.expires = moment(time.time() - 1)
    liar.put("hrss-suspend", signed(metadata, tuf(kit.admins["hrss"])))
    return liar


@pytest.mark.parametrize("trouble", [expire_department, lose_suspensions])
def test_a_department_that_lapses_is_left_out_alone(
    kit: DirectoryKit, tmp_path: Path, trouble: Callable[[DirectoryKit], LyingRegistrar]
) -> None:
    liar = trouble(kit)
    client = kit.client(tmp_path / "state", fetch=liar)
    directory = client.refresh()
    assert set(directory.documents) == {"edu", "health"}
    assert set(directory.lapsed) == {"hrss"}
    mirrored = dict(client.files)
    again = kit.client(tmp_path / "next", fetch=lambda path: serve(mirrored, path)).refresh()
    assert again == directory, "a mirror passes on what lapsed, so that others see it too"
    assert set(client.load().lapsed) == {"hrss"}


def serve(files: dict[str, bytes], path: str) -> bytes:
    if path not in files:
        raise RefusedError(Reason.FILE_UNKNOWN)
    return files[path]


def test_keys_are_known_by_their_content(kit: DirectoryKit) -> None:
    raw = kit.admins["hrss"][0].public_key_raw
    assert raw_key(tuf_key(raw)) == raw
    assert raw in kit.directory.admin_keys["hrss"]
    assert isinstance(kit.directory, Directory)


def test_role_keys_of_nobody_are_none(kit: DirectoryKit) -> None:
    targets = LyingRegistrar(kit).role(CENTRE).signed
    assert role_keys(targets, "nobody") == frozenset()
    assert isinstance(targets.delegations, Delegations)
