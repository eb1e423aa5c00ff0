"""The registrar's checks: what it refuses before it is signed into a snapshot, and that a change is all or nothing."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Targets

import policy_support as support
from certs.identity import read_private
from certs_support import City
from policy import editing
from policy import repository as module
from policy.ceremony import make_root, next_root
from policy.directory import DirectoryHolder
from policy.keys import RegistrarKeys, load_key, new_key
from policy.metadata import CENTRE, Publication, TufSigner, meta_file, moment, raw_key, signed, target_file
from policy.model import Directory
from policy.publishing import Draft, sign
from policy.repository import Repository
from policy_support import DirectoryKit
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.kept import write_durably

SUSPEND = 'department = "hrss"\n[[suspend]]\nid = "x"\nrole = "edu/enrolment-clerk"\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return support.make_directory(tmp_path_factory.mktemp("made"))


@pytest.fixture
def kit(made: DirectoryKit, tmp_path: Path) -> DirectoryKit:
    return made.copy(tmp_path / "copy")


def drafted(kit: DirectoryKit, *files: str) -> Draft:
    (draft,) = kit.drafts(*files)
    return draft


def resigned(draft: Draft, kit: DirectoryKit, department: str, change: Callable[[Targets], None]) -> Publication:
    """The draft after a change, properly signed: what two careless or hostile admins could send."""
    change(draft.metadata.signed)
    return Publication(draft.role, signed(draft.metadata, map(TufSigner, kit.admins[department])), dict(draft.files))


def refused(kit: DirectoryKit, publication: Publication) -> RefusedError:
    """Refused, and nothing has changed."""
    before, directory = dict(kit.repository.files), kit.directory
    on_disk = everything(kit)
    with pytest.raises(RefusedError) as error:
        kit.repository.publish(publication)
    assert dict(kit.repository.files) == before
    assert kit.directory is directory
    assert everything(kit) == on_disk
    return error.value


def everything(kit: DirectoryKit) -> dict[str, bytes]:
    path = kit.repository._path
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_valid_change_is_in_force_at_once(kit: DirectoryKit, tmp_path: Path) -> None:
    before = kit.directory.version
    kit.publish(support.HRSS.replace("enrolment-pension", "other"))
    assert kit.directory.version == before + 1
    assert kit.directory.role_versions["hrss"] == kit.directory.documents["hrss"].version == 2
    assert kit.directory.documents["hrss"].grants[0].id == "other"
    assert kit.client(tmp_path / "state").refresh() == kit.directory


def test_what_is_published_survives_a_restart_and_can_be_signed_on(kit: DirectoryKit, tmp_path: Path) -> None:
    kit.publish(SUSPEND)
    again = Repository(kit.repository._path, kit.root_json, kit.keys, kit.city.ca_pem)
    assert again.directory == kit.directory
    again.resign()
    assert again.directory is not None
    assert again.directory.role_versions["timestamp"] == kit.directory.role_versions["timestamp"] + 1
    assert again.directory.version == kit.directory.version
    state = kit.client(tmp_path / "state")
    state.refresh()
    again.resign()
    kit.repository = again
    assert state.refresh() == again.directory


def test_signing_again_renews_the_snapshot_when_it_gets_old(kit: DirectoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "SNAPSHOT_LIFETIME", 14 * 86_400)
        kit.publish(SUSPEND)
    version = kit.directory.version
    for renewed in (version + 1, version + 1):
        kit.repository.resign()
        assert kit.directory.version == renewed


def test_files_that_nothing_lists_any_more_are_forgotten(kit: DirectoryKit) -> None:
    for number in range(3):
        kit.publish(f"{support.HRSS}\n# {number}\n")
    names = [name for name in everything(kit) if "hrss" in name]
    assert len([name for name in names if name.startswith("metadata")]) == 1
    assert len([name for name in names if name.startswith("targets")]) == 1
    assert set(everything(kit)) == set(kit.repository.files)


def test_signatures_of_one_admin_or_of_strangers_are_too_few(kit: DirectoryKit) -> None:
    draft = drafted(kit, support.HRSS + "\n# more\n")
    with pytest.raises(RefusedError, match="2 signatures"):
        sign(draft, [kit.admins["hrss"][0], kit.admins["edu"][0], kit.admins["edu"][1]])
    for signers in (kit.admins["hrss"][:1], kit.admins["hrss"][:1] * 2, kit.admins["edu"], []):
        metadata = signed(draft.metadata, map(TufSigner, signers))
        error = refused(kit, Publication("hrss", metadata, dict(draft.files)))
        assert error.reason is Reason.METADATA_INVALID


def test_one_admin_alone_can_suspend_but_not_a_stranger(kit: DirectoryKit) -> None:
    draft = drafted(kit, SUSPEND)
    stranger = signed(draft.metadata, map(TufSigner, kit.admins["edu"]))
    refused(kit, Publication("hrss-suspend", stranger, dict(draft.files)))
    kit.repository.publish(sign(draft, kit.admins["hrss"][:1]))
    assert [entry.id for entry in kit.directory.suspensions] == ["x"]


@pytest.mark.parametrize("change", ["taken out", "weakened"])
def test_what_one_admin_has_suspended_two_lift(kit: DirectoryKit, change: str) -> None:
    alone = kit.admins["hrss"][1:]
    kit.publish(SUSPEND, signers=alone)
    less = 'department = "hrss"\n' if change == "taken out" else SUSPEND + "not_before = 2099-01-01\n"
    told = refused(kit, sign(drafted(kit, less), alone))
    assert "two lift: zhiwang policy lift x" in told.detail
    # More may stand there at any time.
    kit.publish(SUSPEND + '[[suspend]]\nid = "y"\nsystem = "edu/baoan"\n', signers=alone)
    assert {entry.id for entry in kit.directory.suspensions} == {"x", "y"}
    kit.publish(editing.lifted(support.HRSS.encode(), ["x"]))
    assert {entry.id for entry in kit.directory.suspensions} == {"y"}
    # From here on it may go, and cannot come back under its name.
    kit.publish('department = "hrss"\n[[suspend]]\nid = "y"\nsystem = "edu/baoan"\n', signers=alone)
    both = SUSPEND + '[[suspend]]\nid = "y"\nsystem = "edu/baoan"\n'
    assert "take another id" in refused(kit, sign(drafted(kit, both), alone)).detail
    assert {entry.id for entry in kit.directory.suspensions} == {"y"}


def test_a_suspension_goes_by_its_own_end(tmp_path: Path) -> None:
    ahead = 0.0
    kit = support.make_directory(tmp_path, clock=lambda: time.time() + ahead)
    alone = kit.admins["hrss"][1:]
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    kit.publish(SUSPEND + f"not_after = {tomorrow}\n", signers=alone)
    refused(kit, sign(drafted(kit, 'department = "hrss"\n'), alone))
    ahead = timedelta(days=3).total_seconds()
    kit.repository.resign()
    kit.publish('department = "hrss"\n', signers=alone)
    assert kit.directory.suspensions == ()


def test_a_reader_keeps_a_suspension_that_a_newer_directory_has_merely_lost(kit: DirectoryKit) -> None:
    """A registrar that lets one admin shorten the list: who saw the suspension goes on denying."""
    kit.publish(SUSPEND, signers=kit.admins["hrss"][1:])
    holder = DirectoryHolder(time.time)
    holder.set(kit.directory)
    shortened = replace(kit.directory, suspensions=())
    holder.set(shortened)
    assert [entry.id for entry in holder.current.suspensions] == ["x"]
    holder.set(shortened)
    assert [entry.id for entry in holder.current.suspensions] == ["x"]
    hrss = replace(shortened.documents["hrss"], lifted=frozenset({"x"}))
    holder.set(replace(shortened, documents={**shortened.documents, "hrss": hrss}))
    assert holder.current.suspensions == ()


@pytest.mark.parametrize("step", [-1, 0, 2])
def test_only_the_next_version_is_taken(kit: DirectoryKit, step: int) -> None:
    def change(targets: Targets) -> None:
        targets.version = 1 + step if step else 1

    draft = drafted(kit, support.HRSS + "\n# more\n")
    if step < 0:
        data = signed(draft.metadata, map(TufSigner, kit.admins["hrss"])).replace(b'"version":2', b'"version":0')
        refused(kit, Publication("hrss", data, dict(draft.files)))
        return
    assert "version 2" in refused(kit, resigned(draft, kit, "hrss", change)).detail


def test_the_same_publication_cannot_be_sent_twice(kit: DirectoryKit) -> None:
    publication = sign(drafted(kit, support.HRSS + "\n# more\n"), kit.admins["hrss"])
    kit.repository.publish(publication)
    refused(kit, publication)


def expire_soon(targets: Targets) -> None:
    targets.expires = moment(time.time() + 60)


def expire_never(targets: Targets) -> None:
    targets.expires = moment(time.time() + 100 * 365 * 86_400)


def list_more(targets: Targets) -> None:
    targets.targets["hrss/more.toml"] = target_file("hrss/more.toml", b"")


def list_foreign(targets: Targets) -> None:
    targets.targets["health/document.toml"] = target_file("health/document.toml", b"")


def list_nothing_sent(targets: Targets) -> None:
    targets.targets["hrss/document.toml"] = target_file("hrss/document.toml", b"something else")


def drop_suspensions(targets: Targets) -> None:
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    targets.delegations.roles["hrss-suspend"].paths = ["hrss/*"]


@pytest.mark.parametrize(
    "change", [expire_soon, expire_never, list_more, list_foreign, list_nothing_sent, drop_suspensions]
)
def test_metadata_of_another_shape_is_refused(kit: DirectoryKit, change: Callable[[Targets], None]) -> None:
    error = refused(kit, resigned(drafted(kit, support.HRSS + "\n# more\n"), kit, "hrss", change))
    assert error.reason is Reason.METADATA_INVALID


def test_files_must_be_exactly_those_that_are_listed(kit: DirectoryKit) -> None:
    publication = sign(drafted(kit, support.HRSS + "\n# more\n"), kit.admins["hrss"])
    for files in (
        {},
        {"hrss/document.toml": b"other"},
        {**publication.files, "edu/document.toml": b""},
        {**publication.files, "../../etc/passwd": b""},
    ):
        assert refused(kit, dataclasses.replace(publication, files=files)).reason is Reason.METADATA_INVALID


@pytest.mark.parametrize(
    "role",
    [
        "police",
        "hrss-suspend-suspend",
        "edu-suspend/..",
        "snapshot",
        "timestamp",
        "",
        "targets/../hrss",
        "police-suspend",
    ],
)
def test_a_role_that_nobody_delegates_to_is_refused(kit: DirectoryKit, role: str) -> None:
    publication = sign(drafted(kit, support.HRSS + "\n# more\n"), kit.admins["hrss"])
    assert refused(kit, dataclasses.replace(publication, role=role)).reason is Reason.METADATA_INVALID


@pytest.mark.parametrize(
    "metadata", [b"", b"{}", b"[" * 100_000, b"x" * 2_000_000, b"\xff", b'{"signed": {"_type": "x"}}']
)
def test_what_is_no_metadata_is_refused(kit: DirectoryKit, metadata: bytes) -> None:
    for role in ("hrss", CENTRE, "root"):
        assert refused(kit, Publication(role, metadata, {})).reason is Reason.METADATA_INVALID


def test_metadata_of_another_type_is_refused(kit: DirectoryKit) -> None:
    files = kit.repository.files
    refused(kit, Publication("hrss", files["metadata/timestamp.json"], {}))
    refused(kit, Publication("root", files["metadata/1.hrss.json"], {}))
    refused(kit, Publication(CENTRE, files["metadata/1.hrss.json"], {}))


def publish_raw(kit: DirectoryKit, department: str, path: str, content: bytes) -> RefusedError:
    """Past the client's own checks: the registrar must not rely on them."""
    draft = drafted(kit, support.DOCUMENTS[department] + "\n# more\n")

    def change(targets: Targets) -> None:
        targets.targets[path] = target_file(path, content)

    publication = resigned(draft, kit, department, change)
    return refused(kit, dataclasses.replace(publication, files={path: content}))


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ('department = "hrss"', 'department = "edu"', "is not edu's"),
        ('ask = "hrss.insured exists"', 'ask = "health.birth_mother related"', "is not hrss's"),
        ('level = "district"', 'level = "province"', "grant[0].level"),
        ('subject = "person"', 'subject = "ship"', "no kind of subject ship"),
        ('type = "integer"', 'type = "ship"', "at_least"),
        ('matter = "senior-card"', 'matter = "none"', "there is no matter none"),
        ('role = "edu/enrolment-clerk"', 'role = "police/clerk"', "police is no member"),
        ("system.counter.roles", "system.other.roles", "no such system"),
    ],
)
def test_a_document_that_does_not_hold_together_is_refused_with_its_findings(
    kit: DirectoryKit, old: str, new: str, finding: str
) -> None:
    assert old in support.HRSS
    error = publish_raw(kit, "hrss", "hrss/document.toml", support.HRSS.replace(old, new).encode())
    assert error.reason is Reason.DOCUMENT_INVALID
    assert finding in error.detail
    assert any(finding in text for key, text in error.metadata.items() if key.startswith("finding-"))


def test_a_document_with_a_key_of_ten_thousand_parts_is_refused_before_it_is_parsed(kit: DirectoryKit) -> None:
    content = f"{support.HRSS}\n[z]\n{'x.' * 10_000}y = 1\n".encode()
    error = publish_raw(kit, "hrss", "hrss/document.toml", content)
    assert error.reason is Reason.DOCUMENT_INVALID
    assert "is nested too deeply" in error.detail


def test_a_grant_that_breaks_an_assertion_is_refused(kit: DirectoryKit) -> None:
    grant = """
    [[grant]]
    id = "too-much"
    role = "edu/enrolment-clerk"
    ask = "hrss.pension_months at_least"
    matter = "senior-card"
    """
    publication = sign(drafted(kit, f"{support.HRSS}\n{grant}"), kit.admins["hrss"])
    error = refused(kit, publication)
    assert error.reason is Reason.ASSERTION_FAILED
    assert 'deny = "hrss.pension_months at_least"' in error.detail


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"centre": support.CENTRE.partition("[department.health]")[0]}, "health"),
        ({"centre": support.CENTRE.replace('dwelling = "house"', "")}, "no kind of subject dwelling"),
        ({"matter": support.SENIOR.replace('["hrss", "edu"]', '["police"]')}, "police is no member"),
    ],
)
def test_a_centre_that_does_not_hold_together_is_refused(
    kit: DirectoryKit, changed: dict[str, str], finding: str
) -> None:
    draft = drafted(kit, *changed.values())
    error = refused(kit, sign(draft, kit.admins[support.OPERATOR]))
    assert error.reason is Reason.DOCUMENT_INVALID
    assert finding in error.detail


def test_a_new_member_joins_and_a_former_one_leaves(kit: DirectoryKit, tmp_path: Path) -> None:
    police = '[department.police]\ntitle = { zh = "公安局", en = "Police" }\nhome = "nbs:4403"\n'
    admins = [signer.public_key_raw for signer in kit.enrol_admins("police")]
    kit.publish(support.CENTRE + police, admins={"police": admins})
    kit.publish('department = "police"\ntitle = { zh = "公安局", en = "Police" }\n')
    assert "police" in kit.directory.documents
    reader = kit.client(tmp_path / "state")
    reader.refresh()
    kit.publish(support.CENTRE, admins={"police": []})
    assert "police" not in kit.directory.documents
    assert reader.refresh() == kit.directory


def test_new_admins_sign_the_standing_suspensions_again(kit: DirectoryKit, tmp_path: Path) -> None:
    kit.publish(SUSPEND)
    keys = [signer.public_key_raw for signer in kit.enrol_admins("hrss", ("new-one", "new-two"))]
    kit.publish(support.CENTRE, admins={"hrss": keys}, signers=kit.admins[support.OPERATOR])
    assert "hrss" in kit.directory.lapsed, "until its new admins have signed"
    kit.publish(support.HRSS)
    assert not kit.directory.lapsed
    assert [entry.id for entry in kit.directory.suspensions] == ["x"]
    assert kit.client(tmp_path / "state").refresh() == kit.directory


def test_a_revocation_is_in_force_and_a_forged_one_refused(kit: DirectoryKit, tmp_path: Path) -> None:
    files = kit.city.enrol("edu/agent/thief")
    serial = serial_of((files.directory / "auth.pem").read_bytes())
    kit.city.authority.revoke(serial)
    kit.publish(kit.city.authority.crl())
    assert serial in kit.directory.revoked
    assert serial in kit.client(tmp_path / "state").refresh().revoked
    other = City.create(tmp_path / "other").authority.crl()
    error = refused(kit, sign(drafted(kit, other.decode()), kit.admins[support.OPERATOR]))
    assert error.reason is Reason.METADATA_INVALID


def serial_of(pem: bytes) -> int:
    from cryptography import x509  # noqa: PLC0415 # only here

    return x509.load_pem_x509_certificate(pem).serial_number


def test_a_matter_can_go_and_grants_for_it_never_apply(kit: DirectoryKit) -> None:
    with pytest.raises(RefusedError) as error:
        kit.publish(support.CENTRE, removed=["school-enrolment"], signers=[])
    assert error.value.reason is Reason.METADATA_INVALID
    kit.publish(support.CENTRE, removed=["school-enrolment"])
    assert set(kit.directory.matters) == {"senior-card"}
    assert kit.directory.documents["hrss"].grants, "the document stands"


def test_what_readers_would_refuse_is_never_written(kit: DirectoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever mistake the registrar makes itself: a real client reads the candidate first."""
    publication = sign(drafted(kit, SUSPEND), kit.admins["hrss"])
    monkeypatch.setattr(module, "meta_file", lambda version, _: meta_file(version, b"another"))
    assert "a reader would refuse it" in refused(kit, publication).detail


# The root


def test_the_root_can_be_renewed_with_other_keys_of_the_registrar(kit: DirectoryKit, tmp_path: Path) -> None:
    reader = kit.client(tmp_path / "reader")
    reader.refresh()
    keys = RegistrarKeys.create(tmp_path / "keys")
    roots = [kit.city.directory / f"root-{number}.key" for number in range(2)]
    data = next_root(kit.root_json, key_files=roots, registrar=keys.public, now=time.time())
    restarted = Repository(kit.repository._path, kit.root_json, keys, kit.city.ca_pem)
    restarted.publish(Publication("root", data, {}))
    kit.repository = restarted
    assert reader.refresh().role_versions["root"] == 2
    assert kit.client(tmp_path / "fresh").refresh() == restarted.directory
    restarted.resign()
    assert reader.refresh() == restarted.directory


def test_a_root_signed_by_too_few_is_refused(kit: DirectoryKit) -> None:
    root = kit.city.directory / "root-0.key"
    with pytest.raises(RefusedError):
        next_root(kit.root_json, key_files=[root], now=time.time())
    good = Metadata[Any].from_bytes(
        next_root(kit.root_json, key_files=[root, kit.city.directory / "root-1.key"], now=time.time())
    )
    refused(kit, Publication("root", signed(good, [load_key(root)]), {}))
    refused(kit, Publication("root", kit.root_json, {}))


def test_the_ceremony_makes_private_keys_once(tmp_path: Path, kit: DirectoryKit) -> None:
    admins = [signer.public_key_raw for signer in kit.admins[support.OPERATOR]]
    options: dict[str, Any] = {"registrar": kit.keys.public, "admins": admins, "now": time.time()}
    path = make_root(tmp_path / "root", **options)
    keys = sorted((tmp_path / "root").glob("*.key"))
    assert len(keys) == 3
    assert all(key.stat().st_mode & 0o777 == 0o600 for key in keys)
    assert all(read_private(key) for key in keys)
    Repository.create(tmp_path / "repository")
    Repository(tmp_path / "repository", path.read_bytes(), kit.keys, kit.city.ca_pem)
    with pytest.raises(FatalError):
        make_root(tmp_path / "root", **options)
    for wrong in ({"admins": admins[:1]}, {"admins": admins[:1] * 2}, {"threshold": 4}, {"threshold": 0}):
        with pytest.raises(RefusedError):
            make_root(tmp_path / "none", **(options | wrong))


# Keys, disk and crashes


def test_keys_are_private_and_never_replaced(tmp_path: Path) -> None:
    RegistrarKeys.create(tmp_path / "keys")
    with pytest.raises(FileExistsError):
        RegistrarKeys.create(tmp_path / "keys")
    file = tmp_path / "keys" / "snapshot.key"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    with pytest.raises(PermissionError):
        load_key(file)
    bad = tmp_path / "bad.key"
    descriptor = os.open(bad, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, b"no key")
    os.close(descriptor)
    with pytest.raises(FatalError):
        load_key(bad)
    assert b"PRIVATE KEY" in new_key()


def test_no_repository_comes_into_being_by_itself(tmp_path: Path, kit: DirectoryKit) -> None:
    with pytest.raises(FatalError, match="registrar init"):
        Repository(tmp_path / "missing", kit.root_json, kit.keys, kit.city.ca_pem)
    with pytest.raises(FileExistsError):
        Repository.create(kit.repository._path)


def test_a_crash_at_any_write_leaves_the_old_directory_or_the_new_one(
    kit: DirectoryKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(Exception):  # noqa: N818 # stands for SIGKILL
        pass

    write = write_durably
    for number in range(20):
        copy = kit.copy(tmp_path / f"crash-{number}")
        publication = sign(drafted(copy, support.HRSS + "\n# more\n"), copy.admins["hrss"])
        left = [number]

        def crashing(path: Path, content: bytes, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            write(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(module, "write_durably", crashing)
            try:
                copy.repository.publish(publication)
                finished = True
            except Crash:
                finished = False
        again = Repository(copy.repository._path, copy.root_json, copy.keys, copy.city.ca_pem)
        copy.repository = again
        assert again.directory is not None
        assert again.directory.documents["hrss"].version == (2 if finished else 1)
        again.publish(sign(drafted(copy, support.HRSS + "\n# later\n"), copy.admins["hrss"]))
        copy.client(tmp_path / f"reader-{number}").refresh()
        if finished:
            assert number > 2
            return
    pytest.fail("never finished")


def test_raw_keys_are_those_of_the_root(kit: DirectoryKit) -> None:
    assert {raw_key(key.public_key) for key in kit.root_keys} == {
        raw_key(load_key(kit.city.directory / f"root-{number}.key").public_key) for number in range(3)
    }
    assert isinstance(kit.directory, Directory)
