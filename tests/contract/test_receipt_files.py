"""A receipt as files: put together again, verified by tools that are not ours, and changed in every place."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from base64 import b64decode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client_support import CASE, FATHER, MOTHER, Witness, World, complete
from exchange.client.case import Case, Subject
from exchange.client.check import check_answer
from exchange.client.receipt import build_receipt, encode_receipt, read_receipt, write_receipt
from exchange.client.receipt_files import CLAIMS, files_of, load_receipt, receipt_of, replace_receipt, write_directory
from exchange.client.receipt_verify import verify_receipt
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError

Receipt = verification_pb2.Receipt

GO_SOURCES = Path("/usr/share/gocode")
VERIFIERS = Path(__file__).parents[1] / "verifiers"

# A changed certificate may have a serial number that its parser only warns about; it is refused all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def receipt_about(world: World, *cases: Case, case: int = 0) -> Receipt:
    answered = [check_answer(one, world.deliver(one)) for one in world.seal(world.prepare(*cases))]
    return build_receipt(answered, case)


@pytest.fixture(scope="module")
def receipt(world: World) -> Receipt:
    return receipt_about(world, CASE)


@pytest.fixture(scope="module")
def small(world: World) -> Receipt:
    """Of one owner and one claim."""
    return receipt_about(world, Case((Subject("guardian", MOTHER, "李梅"),), ("guardian: hrss.insured exists",)))


def read_from(files: Mapping[str, bytes]) -> Receipt:
    def read(name: str, limit: int) -> bytes:
        if name not in files or len(files[name]) > limit:
            raise RefusedError(Reason.PROOF_INVALID, f"{name} is missing")
        return files[name]

    return receipt_of(read)


def test_a_receipt_is_put_together_again_from_its_files(world: World, receipt: Receipt, tmp_path: Path) -> None:
    files = write_directory(tmp_path / "case", receipt)
    assert {"hrss.owner.tlog-proof", "hrss.owner.entry", "hrss.hub.tlog-proof", "health.hub.vkey"} <= set(files)
    assert load_receipt(tmp_path / "case") == receipt
    assert verify_receipt(load_receipt(tmp_path / "case"), world.verifier)


def test_the_files_can_be_read_by_their_owner_only_and_never_replace_others(receipt: Receipt, tmp_path: Path) -> None:
    files = write_directory(tmp_path / "case", receipt)
    assert stat.S_IMODE((tmp_path / "case").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    with pytest.raises(FileExistsError):
        write_directory(tmp_path / "case", receipt)


def test_no_file_name_and_no_file_for_the_logs_names_anybody(receipt: Receipt) -> None:
    for name, content in files_of(receipt).items():
        assert name == CLAIMS or not any(text.encode() in content for text in (MOTHER, "李"))


def test_no_byte_of_any_file_can_be_changed(world: World, small: Receipt) -> None:
    files = files_of(small)
    seen = 0
    for name, content in files.items():
        # Every byte of the files for other people's tools; of the claims, the bits of a receipt are tested elsewhere.
        for place in range(0, len(content), 7 if name == CLAIMS else 1):
            changed = bytearray(content)
            changed[place] ^= 1 << place % 8
            with pytest.raises(RefusedError):
                verify_receipt(read_from(files | {name: bytes(changed)}), world.verifier)
            seen += 1
        for other in (b"", content[:-1], content + b"\n", content + b"\0"):
            if name == CLAIMS and other in {content[:-1], content + b"\n"}:
                continue  # spaces around the text
            with pytest.raises(RefusedError):
                verify_receipt(read_from(files | {name: other}), world.verifier)
    assert seen > 3000


def test_a_file_that_is_missing_is_named(receipt: Receipt, tmp_path: Path) -> None:
    files = write_directory(tmp_path / "case", receipt)
    for name, path in files.items():
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(RefusedError, match=name):
            load_receipt(tmp_path / "case")
        path.write_bytes(content)
    assert load_receipt(tmp_path / "case") == receipt


def test_files_of_two_receipts_cannot_be_put_together(world: World, receipt: Receipt) -> None:
    other = receipt_about(world, Case((Subject("child", MOTHER), Subject("guardian", FATHER))))
    mine, theirs = files_of(receipt), files_of(other)
    assert set(mine) == set(theirs)
    seen = 0
    for name, content in theirs.items():
        if content != mine[name]:
            with pytest.raises(RefusedError):
                verify_receipt(read_from(mine | {name: content}), world.verifier)
            seen += 1
    assert seen >= 9


def test_what_belongs_into_other_files_is_refused_in_the_claims(receipt: Receipt, tmp_path: Path) -> None:
    write_directory(tmp_path / "case", receipt)
    (tmp_path / "case" / CLAIMS).unlink()
    write_receipt(tmp_path / "case" / CLAIMS, receipt)
    with pytest.raises(RefusedError):
        load_receipt(tmp_path / "case")


def test_no_second_copy_of_what_a_file_holds_hides_in_the_claims(receipt: Receipt) -> None:
    files = files_of(receipt)
    for log, field, value in (
        ("owner_log", "certificate", b"x"),
        ("hub_log", "checkpoint", receipt.parts[0].hub_log.checkpoint),
        ("owner_entry", "entry", b"x"),
        ("hub_entry", "index", 7),
    ):
        claims = read_receipt(files[CLAIMS])
        setattr(getattr(claims.parts[0], log), field, value)
        with pytest.raises(RefusedError, match="other files"):
            read_from(files | {CLAIMS: encode_receipt(claims)})


@pytest.mark.parametrize("name", [CLAIMS, "hrss.owner.entry", "hrss.hub.tlog-proof", "hrss.hub.pem"])
def test_a_file_larger_than_any_is_not_read_whole(receipt: Receipt, tmp_path: Path, name: str) -> None:
    files = write_directory(tmp_path / "case", receipt)
    os.truncate(files[name], 1 << 40)  # sparse: whoever reads it whole runs out of memory
    with pytest.raises(RefusedError, match="larger than"):
        load_receipt(tmp_path / "case")


def test_a_receipts_file_larger_than_any_is_not_read_whole(receipt: Receipt, tmp_path: Path) -> None:
    write_receipt(tmp_path / "case.json", receipt)
    os.truncate(tmp_path / "case.json", 1 << 40)
    with pytest.raises(RefusedError, match="larger than"):
        load_receipt(tmp_path / "case.json")


def check_by_hand(files: Mapping[str, bytes], name: str, entry: str = "") -> str:
    """A tlog-proof, verified with hashes and a signature library alone, as its specification says; the log's origin."""
    head, _, note = files[f"{name}.tlog-proof"].decode().partition("\n\n")
    header, index_line, *path = head.split("\n")
    assert header == "c2sp.org/tlog-proof@v1"
    index = int(index_line.removeprefix("index "))
    body, _, signatures = note.partition("\n\n")
    origin, size, root = body.split("\n")
    key = x509.load_pem_x509_certificate(files[f"{name}.pem"]).public_key()
    assert isinstance(key, Ed25519PublicKey)
    (signature,) = [line.split(" ")[2] for line in signatures.splitlines() if line.split(" ")[1] == origin]
    key.verify(b64decode(signature)[4:], f"{body}\n".encode())
    # RFC 9162 section 2.1.3.2, written out once more.
    number, last, node = index, int(size) - 1, sha256(b"\0" + files[f"{entry or name}.entry"]).digest()
    for sibling in map(b64decode, path):
        left = number % 2 == 1 or number == last
        node = sha256(b"\1" + (sibling + node if left else node + sibling)).digest()
        if left:
            while number and number % 2 == 0:
                number, last = number // 2, last // 2
        number, last = number // 2, last // 2
    assert (last, node) == (0, b64decode(root))
    return origin


def test_every_log_proof_holds_when_recomputed_without_our_code(receipt: Receipt) -> None:
    files = files_of(receipt)
    origins = [check_by_hand(files, name.removesuffix(".tlog-proof")) for name in files if name.endswith("proof")]
    assert sorted(origins) == [
        "shenzhen/dsjj/hub/main",
        "shenzhen/dsjj/hub/main",
        "shenzhen/health/adapter/main",
        "shenzhen/hrss/adapter/main",
    ]


def test_what_a_receipt_has_gained_stands_in_files_too(world: World, receipt: Receipt, tmp_path: Path) -> None:
    completed = completed_from(world, receipt)
    write_directory(tmp_path / "case", receipt)
    replace_receipt(tmp_path / "case", completed)
    assert load_receipt(tmp_path / "case") == completed
    assert check_by_hand(files_of(completed), "hrss.hub.cosigned", "hrss.hub") == "shenzhen/dsjj/hub/main"
    # Of another entry than the one beside it, or told of and missing.
    files = files_of(completed)
    for name in ("hrss.hub.cosigned.tlog-proof", "hrss.hub.cosigned.pem", "hrss.hub.cosigned.vkey"):
        with pytest.raises(RefusedError):
            read_from({key: value for key, value in files.items() if key != name})
    with pytest.raises(RefusedError, match="another entry"):
        read_from(files | {"hrss.hub.cosigned.tlog-proof": files["health.hub.cosigned.tlog-proof"]})


def completed_from(world: World, receipt: Receipt) -> Receipt:
    completed = Receipt()
    completed.CopyFrom(receipt)
    world.hub.grow(77)
    complete(world, completed, [Witness("example.com/a"), Witness("example.com/b")], time.time())
    return completed


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed (Debian: golang-go)")
@pytest.mark.skipif(
    not (GO_SOURCES / "src/golang.org/x/mod/sumdb").is_dir(), reason="Debian's golang-golang-x-mod-dev is not installed"
)
def test_gos_own_transparency_log_code_verifies_every_log_proof(world: World, receipt: Receipt, tmp_path: Path) -> None:
    files = write_directory(tmp_path / "case", completed_from(world, receipt))
    environment = {
        **os.environ,
        "GOPATH": str(GO_SOURCES),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOCACHE": str(tmp_path / "cache"),
    }
    binary = tmp_path / "proof"
    built = subprocess.run(  # noqa: S603 - a compiler
        ["go", "build", "-o", str(binary), str(VERIFIERS / "go" / "proof" / "main.go")],  # noqa: S607 - whichever is installed
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr

    def verified(name: str, kind: str = "") -> subprocess.CompletedProcess[str]:
        of_log = [files[f"{name}.entry"], files[f"{name}{kind}.tlog-proof"], files[f"{name}{kind}.vkey"]]
        return subprocess.run([binary, *of_log], capture_output=True, text=True, check=False)  # noqa: S603 - just built

    for part in receipt.parts:
        owner = "hrss" if b"hrss" in part.request.header else "health"
        for log, logged in (("owner", part.owner_entry), ("hub", part.hub_entry)):
            done = verified(f"{owner}.{log}")
            assert done.returncode == 0, done.stderr
            assert done.stdout.split()[1] == str(logged.index)
        # Witnesses' lines are passed over, as signed-note says of keys that one does not know.
        assert verified(f"{owner}.hub", ".cosigned").returncode == 0
    # What it accepts, it accepts for these bytes only.
    for kind in ("entry", "tlog-proof", "vkey"):
        path = files[f"hrss.hub.{kind}"]
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert verified("hrss.hub").returncode != 0
        path.write_bytes(content)
