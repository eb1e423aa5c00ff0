"""A backup is whole and as its manifest says, or it is refused; what is restored replaces nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from zhiwang.wire import archive
from zhiwang.wire.errors import FatalError, Reason

OWN = {"kind": "hub", "identity": "shenzhen/dsjj/hub/main"}
FILES = {"log.db": b"entries", "directory/metadata/1.root.json": b"{}", "owner_logs/hrss_main.json": b"{}"}


def packed(out: Path, files: Mapping[str, bytes] = FILES) -> Path:
    def fill(stage: Path) -> dict[str, str | int]:
        for name, content in files.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).write_bytes(content)
        return {"log_size": 7}

    archive.pack(out, fill, now=1_800_000_000, **OWN)
    return out


def rewritten(source: Path, change: object = None, *, extra: tarfile.TarInfo | None = None, drop: str = "") -> Path:
    """The same archive with one member changed, added or taken away."""
    out = source.with_name("rewritten.tar")
    with tarfile.open(source) as old, tarfile.open(out, "w") as new:
        for info in old:
            content = old.extractfile(info)
            assert content is not None
            data = content.read()
            if info.name == drop:
                continue
            if change is not None and info.name == "log.db":
                data = b"Entries"
            new.addfile(info, io.BytesIO(data))
        if extra is not None:
            new.addfile(extra, io.BytesIO(b"x" * extra.size))
    return out


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    (path / "guard").mkdir(parents=True)
    (path / "lock").touch()
    return path


def test_what_is_restored_is_what_was_packed_and_closed_to_others(tmp_path: Path, state: Path) -> None:
    backup = packed(tmp_path / "backup.tar")
    assert backup.stat().st_mode & 0o777 == 0o600
    assert archive.read_manifest(backup).facts == {"log_size": 7}
    with archive.restoring(backup, state, **OWN):
        pass
    found = {path.relative_to(state).as_posix(): path for path in state.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items() if name != "lock"} == FILES
    assert {path.stat().st_mode & 0o777 for name, path in found.items() if name != "lock"} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (state / "directory").rglob("*") if path.is_dir()} == {0o700}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.tar", "state"]


@pytest.mark.parametrize("drop", [*FILES, archive.MANIFEST])
def test_a_backup_from_which_something_is_missing_is_refused(tmp_path: Path, drop: str) -> None:
    backup = rewritten(packed(tmp_path / "backup.tar"), drop=drop)
    with pytest.raises(FatalError, match=r"missing|first member"):
        archive.unpack(backup, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_backup_of_which_one_byte_changed_is_refused(tmp_path: Path) -> None:
    backup = rewritten(packed(tmp_path / "backup.tar"), "log.db")
    with pytest.raises(FatalError, match=r"log\.db is not what the manifest says"):
        archive.unpack(backup, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_backup_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    backup = packed(tmp_path / "backup.tar")
    os.truncate(backup, 2000)
    with pytest.raises(FatalError, match="damaged"):
        archive.unpack(backup, tmp_path / "into")


def _link() -> tarfile.TarInfo:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


def _named(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = 1
    return info


@pytest.mark.parametrize("extra", [_named("../escaped"), _named("/escaped"), _named("more"), _named("log.db"), _link()])
def test_nothing_is_unpacked_that_the_manifest_does_not_name(tmp_path: Path, extra: tarfile.TarInfo) -> None:
    backup = rewritten(packed(tmp_path / "backup.tar"), extra=extra)
    with pytest.raises(FatalError, match="does not name"):
        archive.unpack(backup, tmp_path / "into")
    assert {path.name for path in tmp_path.iterdir()} == {"backup.tar", "rewritten.tar"}


@pytest.mark.parametrize("name", ["../escaped", ".hidden", "a/../b", "a//b", "/a"])
def test_a_manifest_that_names_what_lies_outside_is_refused(tmp_path: Path, name: str) -> None:
    backup = packed(tmp_path / "backup.tar", {"aaaaaaaaaa"[: len(name)]: b""})
    data = backup.read_bytes().replace(b'"' + b"aaaaaaaaaa"[: len(name)] + b'"', b'"' + name.encode() + b'"')
    backup.write_bytes(data)
    with pytest.raises(FatalError, match="names a file that no backup may hold"):
        archive.read_manifest(backup)


def _made(path: Path, files: Mapping[str, bytes], *, manifest: bytes | None = None) -> Path:
    """An archive that no release of ours would write."""
    listed = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    head = {"format": archive.FORMAT, "zhiwang": "0", "time": 1, "facts": {}, "files": listed, **OWN}
    with tarfile.open(path, "w") as tar:
        for name, data in {archive.MANIFEST: manifest or json.dumps(head).encode(), **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _record(key: str, value: str) -> bytes:
    """A record of a pax header: its own length, key and value."""
    rest = f" {key}={value}\n".encode()
    size = len(rest) + len(str(len(rest)))
    return str(len(rest) + len(str(size))).encode() + rest


def _sparse(path: Path, size: int, blocks: bytes) -> Path:
    """A backup of one member that is `size` zeros long and takes one block in the archive (GNU sparse format 1.0)."""
    content = bytes(size)
    _made(path, {"log.db": content})
    with tarfile.open(path) as tar:
        manifest = tar.extractfile(archive.MANIFEST)
        assert manifest is not None
        text = manifest.read()
    head = {"major": "1", "minor": "0", "name": "log.db", "realsize": str(size)}
    records = b"".join(_record(f"GNU.sparse.{key}", value) for key, value in head.items())
    with path.open("wb") as file:
        for name, kind, data in (
            (archive.MANIFEST, tarfile.REGTYPE, text),
            ("pax", tarfile.XHDTYPE, records),
            ("log.db", tarfile.REGTYPE, blocks),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data)
            file.write(info.tobuf(tarfile.USTAR_FORMAT) + data.ljust(-(-len(data) // 512) * 512, b"\0"))
        file.write(bytes(1024))
    return path


def test_a_sparse_member_is_refused_before_it_grows(tmp_path: Path) -> None:
    source = _sparse(tmp_path / "backup.tar", 600, b"0\n".ljust(512, b"\0"))
    with pytest.raises(FatalError, match="does not name"):  # it is no more than the archive could hold
        archive.unpack(source, tmp_path / "into")
    source = _sparse(tmp_path / "backup.tar", 1 << 20, b"0\n".ljust(512, b"\0"))
    with pytest.raises(FatalError, match="names more than it can hold"):
        archive.unpack(source, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_header_that_cannot_be_read_is_a_refusal(tmp_path: Path) -> None:
    source = _sparse(tmp_path / "backup.tar", 600, b"x\n".ljust(512, b"\0"))
    with pytest.raises(FatalError, match="damaged"):
        archive.unpack(source, tmp_path / "into")


@pytest.mark.parametrize(
    "manifest", [b"[" * 200_000, b'{"format": 1, "files": {"a": {"size": 1e999, "sha256": ""}}}'], ids=["deep", "huge"]
)
def test_a_manifest_that_cannot_be_read_is_a_refusal(tmp_path: Path, manifest: bytes) -> None:
    with pytest.raises(FatalError, match="its manifest cannot be read"):
        archive.read_manifest(_made(tmp_path / "backup.tar", {}, manifest=manifest))


@pytest.mark.parametrize("name", ["lock", "guard/checkpoint", "lost+found/a"])
def test_what_a_restore_keeps_is_never_replaced_by_a_backup(tmp_path: Path, state: Path, name: str) -> None:
    (state / "lock").write_text("held")
    with (
        pytest.raises(FatalError, match="names a file that no backup may hold"),
        archive.restoring(_made(tmp_path / "backup.tar", {name: b"x", "a": b"y"}), state, **OWN),
    ):
        pytest.fail("it went on")
    assert {path.name for path in state.iterdir()} == {"guard", "lock"}
    assert (state / "lock").read_text() == "held"
    with pytest.raises(FatalError, match="no backup may hold"):
        packed(tmp_path / "other.tar", {name: b"x"})


def test_a_compressed_file_is_no_backup(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "backup.tar.gz", "w:gz") as tar:
        tar.addfile(_named(archive.MANIFEST), io.BytesIO(b"x"))
    with pytest.raises(FatalError, match="is no backup"):
        archive.read_manifest(tmp_path / "backup.tar.gz")


def test_a_backup_overwrites_nothing_and_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    out = tmp_path / "backup.tar"
    out.write_text("older")
    with pytest.raises(FatalError, match="exists"):
        packed(out)
    assert out.read_text() == "older"

    def fail(stage: Path) -> dict[str, str | int]:
        (stage / "log.db").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        archive.pack(tmp_path / "other.tar", fail, now=0, **OWN)
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


def test_a_file_that_is_made_while_a_backup_is_written_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "backup.tar"

    def fill(stage: Path) -> dict[str, str | int]:
        (stage / "log.db").write_bytes(b"entries")
        out.write_text("another backup")
        return {}

    with pytest.raises(FatalError, match="meanwhile"):
        archive.pack(out, fill, now=0, **OWN)
    assert out.read_text() == "another backup"
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


def test_a_file_system_without_hard_links_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(FatalError, match="no hard links"):
        packed(tmp_path / "backup.tar")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["log.db", "directory", ".restoring"])
def test_a_state_that_is_not_empty_is_left_alone(tmp_path: Path, state: Path, there: str) -> None:
    (state / there).mkdir()
    with (
        pytest.raises(FatalError, match="not empty"),
        archive.restoring(packed(tmp_path / "backup.tar"), state, **OWN),
    ):
        pytest.fail("it went on")
    assert {path.name for path in state.iterdir()} == {"guard", "lock", there}


def test_what_was_judged_wrong_leaves_the_state_as_it_was(tmp_path: Path, state: Path) -> None:
    def judge(stage: Path) -> None:
        assert (stage / "log.db").read_bytes() == b"entries"
        raise FatalError(Reason.LOG_UNAVAILABLE, "somebody has seen more")

    with (
        pytest.raises(FatalError, match="somebody has seen more"),
        archive.restoring(packed(tmp_path / "backup.tar"), state, **OWN) as stage,
    ):
        judge(stage)
    assert {path.name for path in state.iterdir()} == {"guard", "lock"}


@pytest.mark.parametrize("other", [{"kind": "adapter"}, {"identity": "shenzhen/dsjj/hub/second"}])
def test_a_backup_of_another_process_is_refused(tmp_path: Path, state: Path, other: dict[str, str]) -> None:
    with (
        pytest.raises(FatalError, match="is the backup of hub shenzhen/dsjj/hub/main"),
        archive.restoring(packed(tmp_path / "backup.tar"), state, **(OWN | other)),
    ):
        pytest.fail("it went on")


def test_drafts_locks_and_what_vanishes_meanwhile_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "client").mkdir(parents=True)
    for name in (".heads.json.77", "lock", "client/lock", "gone", "heads.json"):
        (source / name).write_text(name)
    (source / "root.json").symlink_to(source / "heads.json")
    copyfile = shutil.copyfile

    def copy(path: Path, target: Path) -> object:
        if Path(path).name == "gone":
            raise FileNotFoundError
        return copyfile(path, target)

    monkeypatch.setattr(shutil, "copyfile", copy)
    archive.copy_tree(source, tmp_path / "target", skip={"lock"})
    found = {path.relative_to(tmp_path / "target").as_posix() for path in (tmp_path / "target").rglob("*")}
    assert found == {"client", "heads.json", "root.json"}
    assert not (tmp_path / "target" / "root.json").is_symlink()
