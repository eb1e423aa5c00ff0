"""A log as plain files: exported, grown, verified by others, and damaged in every place."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

import audit_support as support
from audit import fetch
from audit.auditor import Auditor
from audit.checkpoint import Checkpoint, CheckpointError, split_note
from audit.cosignature import add_cosignatures, cosign
from audit.fsck import Examined, examine
from audit.log import AuditLog
from audit.mirror import CERTIFICATE, Mirror, verify_by_key, verify_by_root, vkey_of
from audit.service import AuditServicer
from audit.store import LogStore
from certs.identity import CA_CERTIFICATE, Identity, Kind
from zhiwang.wire.call import Peer, PeerTable
from zhiwang.wire.errors import FatalError, RefusedError
from zhiwang.wire.vkey import ALGORITHM_COSIGNATURE, VerifierKey

READER = Peer(Identity(support.CITY, "audit-office", Kind.AUDITOR, "one"), 1, b"", 0.0, 1e12, PeerTable(support.CITY))
GO_SOURCES = Path("/usr/share/gocode")
VERIFIERS = Path(__file__).parents[1] / "verifiers"
TLOG_SCALES = Path(__file__).parents[2] / "dev" / "requirements-tlog-scales.txt"


class Exported:
    """A log and its export.

    Attributes:
        path: Where it is exported to.
    """

    def __init__(self, directory: Path) -> None:
        self.store: LogStore = support.make_store(directory / "log.db")
        self.log = AuditLog(self.store)
        self.path = directory / "exported"
        self.root = directory / "root"
        self.root.mkdir()
        (self.root / CA_CERTIFICATE).write_bytes(support.authority().certificate_pem)
        self._servicer = AuditServicer(
            self.store, self.log.append, "centre", scope=support.see_everything, peer=lambda: READER
        )

    def stub(self) -> Any:
        servicer = self._servicer

        class Stub:
            def __getattr__(self, method: str) -> Any:
                async def call(request: Any, **_options: float) -> Any:
                    return await getattr(servicer, method)(request, None)

                return call

        return Stub()

    async def export(self, *, entries: bool = True) -> Checkpoint:
        mirror = Mirror(self.path, entries=entries)
        auditor = Auditor(self.stub(), support.checker())
        view = await auditor.meet()
        await auditor.read(view, edge=mirror.edge, take=mirror.take)
        mirror.seal(auditor.head, view.newest)
        return view.newest

    def fsck(self, extends: Checkpoint | None = None, *, entries: bool = True) -> Examined:
        reads = fetch.directory(self.path)
        return examine(
            reads,
            lambda note: verify_by_root(note, reads(CERTIFICATE), self.root),
            entries=entries,
            extends=[] if extends is None else [extends],
        )


@pytest.fixture
async def exported(tmp_path: Path) -> AsyncIterator[Exported]:
    exported = Exported(tmp_path)
    yield exported
    await exported.log.close()
    exported.store.engine.dispose()
    support.check_log(tmp_path / "log.db")


def faults(found: Examined) -> list[tuple[str, int | None]]:
    return [(fault.path, fault.index) for fault in found.faults]


@pytest.mark.parametrize("entries", [True, False])
async def test_an_exported_log_holds_at_whatever_size_it_was_exported(exported: Exported, *, entries: bool) -> None:
    kept = None
    # Through every edge of a tile: empty but for its first entry, one short, full, one more, several tiles at once.
    for count in (1, 200, 53, 0, 1, 255, 1300):
        if count:
            support.append(exported.store, count)
        checkpoint = await exported.export(entries=entries)
        found = exported.fsck(kept, entries=entries)
        assert (found.faults, found.checkpoint) == ([], checkpoint)
        assert found.entries == (checkpoint.size if entries else 0)
        assert sum(found.events.values()) == found.entries
        kept = checkpoint
    growing = sorted(str(path.relative_to(exported.path)) for path in exported.path.rglob("*.p/*"))
    full, width = divmod(kept.size if kept else 0, 256)
    assert f"tile/0/{full:03d}.p/{width}" in growing
    assert len(growing) == (3 if entries else 2)


async def test_what_a_killed_export_was_writing_is_taken_away_by_the_next(exported: Exported) -> None:
    support.append(exported.store, 300)
    await exported.export()
    for place in (exported.path, exported.path / "tile" / "0", exported.path / "tile" / "entries"):
        (place / ".001.0123456789abcdef").write_bytes(b"half")
    await exported.export()
    assert not [path for path in exported.path.rglob("*") if path.name.startswith(".")]


async def test_what_was_complete_is_not_written_again(exported: Exported) -> None:
    support.append(exported.store, 600)
    await exported.export()
    before = {
        path: path.stat().st_mtime_ns
        for path in exported.path.rglob("*")
        if path.is_file() and path.parent.suffix != ".p"
    }
    support.append(exported.store, 600)
    await exported.export()
    tiles = {path: when for path, when in before.items() if "tile" in path.parts}
    assert len(tiles) == 4
    assert {path: path.stat().st_mtime_ns for path in tiles} == tiles


async def test_entries_are_readable_by_their_owner_only_and_hashes_by_everybody(exported: Exported) -> None:
    await exported.export()
    assert stat.S_IMODE((exported.path / "tile" / "entries").stat().st_mode) == 0o700
    assert not (exported.path / "tile" / "0").stat().st_mode & stat.S_IWOTH


async def test_every_damage_is_named_by_its_place(exported: Exported) -> None:
    support.append(exported.store, 1100)
    kept = await exported.export()
    whole = exported.path.with_name("whole")
    shutil.copytree(exported.path, whole)

    def damaged(name: str, at: int = -1, *, gone: bool = False) -> list[tuple[str, int | None]]:
        shutil.rmtree(exported.path)
        shutil.copytree(whole, exported.path)
        path = exported.path / name
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.unlink()
        if not gone:
            path.write_bytes(data)
        return faults(exported.fsck(kept))

    assert damaged("tile/0/001", 5 * 32) == [("tile/0/001", 256 + 5)]
    assert damaged("tile/1/000.p/4", 2 * 32) == [("tile/1/000.p/4", 512)]
    assert damaged("tile/0/002", gone=True) == [("tile/0/002", None)]
    assert damaged("tile/0/004.p/77", 76 * 32) == [("tile/0/004.p/77", 1100)]
    assert ("tile/entries/003", None) in damaged("tile/entries/003", 0)
    found = damaged("tile/entries/003")
    assert ("tile/0/003", 1023) in found
    assert ("checkpoint", None) in found
    assert ("tile/entries/001", None) in damaged("tile/entries/001", gone=True)
    assert damaged("checkpoint", 3)[0] == ("checkpoint", None)
    assert damaged("checkpoint", gone=True) == [("checkpoint", None)]
    assert damaged("certificate.pem", gone=True) == [("checkpoint", None)]


async def test_taking_entries_away_hides_nothing(exported: Exported) -> None:
    support.append(exported.store, 600)
    await exported.export()
    bundle = exported.path / "tile" / "entries" / "001"
    data = bytearray(bundle.read_bytes())
    data[-1] ^= 1
    bundle.write_bytes(data)
    changed = exported.fsck().number
    assert changed
    (exported.path / "tile" / "entries" / "000").unlink()
    assert exported.fsck().number > changed
    shutil.rmtree(exported.path / "tile" / "entries")
    assert exported.fsck().number == 3
    # Only whoever says that there are none does without them.
    assert exported.fsck(entries=False).faults == []


async def test_what_an_unsigned_checkpoint_says_is_not_followed(exported: Exported) -> None:
    await exported.export()
    note = (exported.path / "checkpoint").read_text().replace("\n1\n", f"\n{1 << 60}\n", 1)
    (exported.path / "checkpoint").write_text(note)
    assert faults(exported.fsck()) == [("checkpoint", None)]


async def test_everything_is_on_the_disk_before_the_checkpoint_is(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    support.append(exported.store, 700)
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    await exported.export()
    files = [path.removeprefix(f"{exported.path}/") for path in synced]
    written = {str(path.relative_to(exported.path)) for path in exported.path.rglob("*") if path.is_file()}
    assert len([path for path in files if "/." in f"/{path}"]) == len(written)
    last = max(place for place, path in enumerate(files) if path.startswith(".checkpoint"))
    assert {"tile/0", "tile/entries", "tile/1/000.p"} <= set(files[:last])
    assert files[-1] == str(exported.path)


async def test_a_tile_of_zeros_is_a_fault_and_not_a_gap(exported: Exported) -> None:
    support.append(exported.store, 300)
    await exported.export()
    (exported.path / "tile" / "0" / "000").write_bytes(bytes(8192))
    found = exported.fsck()
    assert found.number == 256
    assert found.faults[0].index == 0


async def test_a_log_that_forgot_or_changed_what_was_kept_is_named(exported: Exported) -> None:
    support.append(exported.store, 700)
    checkpoint = await exported.export()
    assert exported.fsck(Checkpoint(checkpoint.origin, 300, b"\1" * 32)).number == 1
    assert exported.fsck(Checkpoint(checkpoint.origin, 9000, b"\1" * 32)).number == 1
    assert exported.fsck(Checkpoint("another/hub/main", 300, b"\1" * 32)).number == 1


async def test_another_key_a_foreign_authority_and_a_broken_key_are_refused(exported: Exported) -> None:
    await exported.export()
    note = (exported.path / "checkpoint").read_bytes()
    key = (exported.path / "log.vkey").read_text()
    assert verify_by_key(note, key).size == 1
    name, identifier, public = key.strip().split("+", 2)
    for wrong in ("", name, f"{name}+00000000+{public}", f"other+{identifier}+{public}", f"{name}+{identifier}+AAAA"):
        with pytest.raises(CheckpointError):
            verify_by_key(note, wrong)
    # A certificate of a version that does not exist, which its parser reports by an error of its own.
    certificate = x509.load_pem_x509_certificate((exported.path / CERTIFICATE).read_bytes())
    der = certificate.public_bytes(Encoding.DER).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x42", 1)
    odd = ssl.DER_cert_to_PEM_cert(der).encode()
    assert vkey_of("any/origin", odd) == ""
    with pytest.raises(CheckpointError):
        verify_by_root(note, odd, exported.root)
    shutil.copy(exported.path / CERTIFICATE, exported.root / CA_CERTIFICATE)
    with pytest.raises((RefusedError, FatalError)):
        verify_by_root(note, (exported.path / CERTIFICATE).read_bytes(), exported.root)


async def test_an_export_goes_on_only_in_a_directory_that_holds(exported: Exported) -> None:
    support.append(exported.store, 300)
    await exported.export()
    with pytest.raises(FatalError, match="as it was begun"):
        await exported.export(entries=False)
    growing = next(exported.path.glob("tile/0/001.p/*"))
    growing.write_bytes(b"\1" * growing.stat().st_size)
    with pytest.raises(FatalError, match="audit fsck"):
        await exported.export()
    other = exported.path.with_name("other")
    other.mkdir()
    (other / "file").touch()
    exported.path = other
    with pytest.raises(FatalError, match="not empty"):
        await exported.export()


async def test_an_export_that_was_interrupted_goes_on(exported: Exported) -> None:
    support.append(exported.store, 900)
    await exported.export()
    support.append(exported.store, 900)
    mirror = Mirror(exported.path, entries=True)
    auditor = Auditor(exported.stub(), support.checker())
    view = await auditor.meet()
    await auditor.read(view, edge=mirror.edge, take=mirror.take)
    # The machine stops before the checkpoint is written: what is there is still the log of before.
    found = exported.fsck()
    assert found.checkpoint is not None
    assert (found.faults, found.checkpoint.size) == ([], 901)
    await exported.export()
    assert exported.fsck().faults == []


@pytest.fixture
def server(exported: Exported) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=exported.path))
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}/"
    serving.shutdown()
    serving.server_close()
    thread.join()


async def test_a_log_behind_a_file_server_is_checked_like_one_in_a_directory(exported: Exported, server: str) -> None:
    support.append(exported.store, 300)
    checkpoint = await exported.export()
    key = (exported.path / "log.vkey").read_text()
    found = examine(fetch.server(server), lambda note: verify_by_key(note, key))
    assert (found.faults, found.checkpoint, found.entries) == ([], checkpoint, 301)
    (exported.path / "tile" / "0" / "000").unlink()
    assert faults(examine(fetch.server(server), lambda note: verify_by_key(note, key))) == [("tile/0/000", None)]


async def test_a_file_server_that_is_not_there_is_said_so() -> None:
    with pytest.raises(FatalError, match=r"127\.0\.0\.1:9"):
        fetch.server("http://127.0.0.1:9")("checkpoint")


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed (Debian: golang-go)")
@pytest.mark.skipif(
    not (GO_SOURCES / "src/golang.org/x/mod/sumdb").is_dir(), reason="Debian's golang-golang-x-mod-dev is not installed"
)
async def test_gos_own_transparency_log_code_verifies_our_export(exported: Exported, tmp_path: Path) -> None:
    support.append(exported.store, 1500)
    checkpoint = await exported.export()
    environment = {
        **os.environ,
        "GOPATH": str(GO_SOURCES),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOCACHE": str(tmp_path / "cache"),
    }
    binary = tmp_path / "verify"
    built = subprocess.run(  # noqa: ASYNC221, S603 - a compiler, before anything runs
        ["go", "build", "-o", str(binary), str(VERIFIERS / "go" / "main.go")],  # noqa: S607 - whichever is installed
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr

    def verified() -> subprocess.CompletedProcess[str]:
        return subprocess.run([binary, exported.path], capture_output=True, text=True, check=False)  # noqa: S603 - just built

    assert verified().stdout.strip() == str(checkpoint.size)
    tile = exported.path / "tile" / "0" / "002"
    data = bytearray(tile.read_bytes())
    data[0] ^= 1
    tile.write_bytes(data)
    assert verified().returncode != 0


@pytest.fixture(scope="module")
def tlog_scales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the second verifier is installed, in a directory of its own and exactly as pinned."""
    target = tmp_path_factory.mktemp("tlog-scales")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    command += ["--no-deps", "--retries", "1", "--target", str(target), "-r", str(TLOG_SCALES)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - pinned by hashes
    if installed.returncode:
        if "DO NOT MATCH" in installed.stderr:
            pytest.fail(installed.stderr)
        pytest.skip(f"tlog-scales cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    return target


async def test_a_python_verifier_that_we_did_not_write_verifies_our_export_and_our_proofs(
    exported: Exported, tmp_path: Path, tlog_scales: Path
) -> None:
    support.append(exported.store, 700)
    size = (await exported.export()).size
    store = exported.store
    pairs = [(1, 2), (1, size), (255, 256), (256, 257), (256, size), (257, 600), (511, 513), (size - 1, size)]
    proofs: dict[str, list[tuple[int, int, list[str]]]] = {
        "inclusion": [
            (index, among, [node.hex() for node in store.inclusion_path(index, among)])
            for among in (1, 2, 255, 256, 257, 513, size)
            for index in {0, among // 2, among - 1}
        ],
        "consistency": [(old, new, [node.hex() for node in store.consistency(old, new)]) for old, new in pairs],
    }
    witness = Ed25519PrivateKey.generate()
    key = VerifierKey("shenzhen/audit/witness/main", witness.public_key().public_bytes_raw(), ALGORITHM_COSIGNATURE)
    note = (exported.path / "checkpoint").read_bytes()
    cosigned = add_cosignatures(note, [cosign(split_note(note)[0], key, witness.sign, 1_790_000_000)]).decode()
    given = tmp_path / "proofs.json"

    def give(cosigned: str = cosigned) -> None:
        given.write_text(json.dumps({**proofs, "cosigned": [[cosigned, str(key)]]}))

    give()

    async def verified() -> str:
        """What it prints; its complaint if it refuses."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(VERIFIERS / "python" / "verify.py"), str(exported.path), str(given)),
            env={"PYTHONPATH": str(tlog_scales)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, complaint = await process.communicate()
        return out.decode().strip() if process.returncode == 0 else complaint.decode().strip().splitlines()[-1]

    assert await verified() == str(size)
    for file, at, complaint in (
        ("tile/0/001", 7 * 32, "InclusionProofInvalid"),
        ("tile/1/000.p/2", 32, "another root"),
        ("tile/entries/001", -1, "InclusionProofInvalid"),
        ("checkpoint", 0, "InvalidSignature"),
    ):
        path = exported.path / file
        whole = path.read_bytes()
        data = bytearray(whole)
        data[at] ^= 1
        path.write_bytes(data)
        assert complaint in await verified(), file
        path.write_bytes(whole)
    for kind, place in (("inclusion", 10), ("consistency", 4)):
        nodes = proofs[kind][place][2]
        kept, nodes[0] = nodes[0], f"{int(nodes[0][:2], 16) ^ 1:02x}{nodes[0][2:]}"
        give()
        assert f"{kind.capitalize()}ProofInvalid" in await verified(), kind
        nodes[0] = kept
    give(cosigned.replace(f"\n{size}\n", f"\n{size + 1}\n", 1))
    assert "InvalidSignature" in await verified()
