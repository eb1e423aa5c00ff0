"""A receipt as a directory of files of which other people's tools verify those that concern the logs.

For each log of each part: the entry's bytes (the leaf), a C2SP tlog-proof, the certificate of the log's key, and that
key as tools for signed notes take it. A cosigned proof that leads over the ends of years is a chain of such proofs: the
entry in the final tree of its log, and the first entry of each later log, which names that tree, in the next.
`claims.json` holds the rest: requests, opened claims, and which files there are.
Nothing stands twice but the key, so a receipt is put together again from the files, and every byte of them counts.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from audit.checkpoint import CheckpointError, split_note
from audit.entry import EntryError, decode_entry
from audit.mirror import vkey_of
from audit.tlog_proof import MAX_PROOF_SIZE, SUFFIX, TlogProof, TlogProofError
from certs.identity import write_private
from exchange.client.receipt import MAX_FILE, encode_receipt, read_receipt
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import MAX_CERTIFICATE, parse_header
from zhiwang.wire.kept import replace_durably

CLAIMS: Final = "claims.json"
MAX_ENTRY: Final = 64 << 10
"""Bytes of the largest entry that is read; a header has a quarter of it at most."""
MAX_RESPONSE: Final = 64 << 10
"""Bytes of the largest answer of a time-stamping authority that is read."""
STAMPED_HEADER: Final = "zhiwang receipt time stamp v1"

_MAX_PEM: Final = 2 * MAX_CERTIFICATE
_PRIVATE: Final = 0o700

Part = verification_pb2.Receipt.Part


class Log(NamedTuple):
    """Where a part holds what it says of one log.

    Attributes:
        name: In file names.
        entry: Field of the entry with its path.
        head: Field of the head.
    """

    name: str
    entry: str
    head: str


LOGS: Final = (Log("owner", "owner_entry", "owner_log"), Log("hub", "hub_entry", "hub_log"))
COSIGNED: Final = "hub.cosigned"


def log_proof(part: Part, log: Log) -> TlogProof:
    """The tlog-proof of the entry in a log, as it came with the answer."""
    logged, head = getattr(part, log.entry), getattr(part, log.head)
    return TlogProof(logged.index, tuple(logged.inclusion_path), head.checkpoint)


def part_hash(part: Part) -> bytes:
    """What a time stamp says of a part: SHA-256 of its hub's tlog-proof.

    The hub's root binds its entry; that names request, signature and the owner's checkpoint, whose root binds the
    owner's entry with the root of the answers.
    """
    return sha256(log_proof(part, LOGS[1]).encode()).digest()


def stamped_text(part_hashes: Sequence[bytes]) -> bytes:
    """The text over which a time stamp is made."""
    lines = "".join(f"{value.hex()}\n" for value in part_hashes)
    return f"{STAMPED_HEADER}\n{lines}".encode()


def files_of(receipt: verification_pb2.Receipt) -> dict[str, bytes]:
    """A receipt as files, by their names.

    Raises:
        RefusedError: PROOF_INVALID: it is none.
    """
    rest = verification_pb2.Receipt()
    rest.CopyFrom(receipt)
    files: dict[str, bytes] = {}
    for part in rest.parts:
        owner = parse_header(part.request.header).owner
        for log in LOGS:
            _take_log(files, part, log, f"{owner}.{log.name}")
        if part.HasField("hub_cosigned"):
            _take_cosigned(files, part, f"{owner}.{COSIGNED}")
        for log in LOGS:
            part.ClearField(log.entry)  # type: ignore[arg-type]  # one of the names above
            part.ClearField(log.head)  # type: ignore[arg-type]  # the same
    for number, stamp in enumerate(rest.time_stamps, 1):
        files[f"timestamp-{number}.txt"] = stamped_text(stamp.part_hashes)
        files[f"timestamp-{number}.tsr"] = stamp.response
        stamp.Clear()
    return {CLAIMS: encode_receipt(rest), **files}


def receipt_of(read: Callable[[str, int], bytes]) -> verification_pb2.Receipt:
    """A receipt out of its files.

    Args:
        read: Gives a file's bytes by its name, of which there are at most so many.

    Raises:
        RefusedError: PROOF_INVALID: they are not the files of a receipt. What they prove is not verified.
    """
    claims = read_receipt(read(CLAIMS, MAX_FILE))
    receipt = verification_pb2.Receipt()
    receipt.CopyFrom(claims)
    for part in receipt.parts:
        owner = parse_header(part.request.header).owner
        for log in LOGS:
            name = f"{owner}.{log.name}"
            proof, certificate = _proof(read, name), _certificate(read, name)
            logged, head = getattr(part, log.entry), getattr(part, log.head)
            logged.entry = read(f"{name}.entry", MAX_ENTRY)
            logged.index = proof.index
            logged.inclusion_path.extend(proof.inclusion_path)
            head.checkpoint, head.certificate = proof.checkpoint, certificate
        if part.HasField("hub_cosigned"):
            _give_cosigned(read, part, f"{owner}.{COSIGNED}")
    for number, stamp in enumerate(receipt.time_stamps, 1):
        stamp.part_hashes.extend(_hashes(read(f"timestamp-{number}.txt", MAX_FILE)))
        stamp.response = read(f"timestamp-{number}.tsr", MAX_RESPONSE)
    _check_spelling(claims, receipt, read)
    return receipt


def write_directory(directory: Path, receipt: verification_pb2.Receipt) -> dict[str, Path]:
    """Write a receipt's files into a new or empty directory that only its owner can read: they name citizens.

    Returns:
        Where each file is.

    Raises:
        FileExistsError: It is not empty.
        RefusedError: PROOF_INVALID: it is no receipt.
    """
    files = files_of(receipt)
    directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(directory))
    directory.chmod(_PRIVATE)
    for name, content in files.items():
        write_private(directory / name, content)
    return {name: directory / name for name in files}


def replace_receipt(path: Path, receipt: verification_pb2.Receipt) -> None:
    """Put what a receipt has gained into its file, or into its directory of files.

    A reader sees the receipt of before or the whole new one; in a directory, what is new before it is told of.

    Raises:
        OSError: It cannot be written; the receipt of before is still there.
    """
    if not path.is_dir():
        replace_durably(path, encode_receipt(receipt))
        return
    files = files_of(receipt)
    claims = files.pop(CLAIMS)
    for name, content in files.items():
        if not (path / name).exists() or (path / name).read_bytes() != content:
            replace_durably(path / name, content)
    replace_durably(path / CLAIMS, claims)


def load_receipt(path: Path) -> verification_pb2.Receipt:
    """A receipt from its file, or from its directory of files. Nothing of it is verified.

    Raises:
        RefusedError: PROOF_INVALID.
        OSError: It cannot be read.
    """
    if path.is_dir():
        return receipt_of(lambda name, limit: _read(path / name, limit))
    return read_receipt(_read(path, MAX_FILE))


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise RefusedError(Reason.PROOF_INVALID, f"{path.name} is missing") from None
    if len(data) > limit:
        _broken(f"{path.name} is larger than any of a receipt")
    return data


def _take_log(files: dict[str, bytes], part: Part, log: Log, name: str) -> None:
    files[f"{name}.entry"] = getattr(part, log.entry).entry
    _put_log(files, name, log_proof(part, log), getattr(part, log.head).certificate)


def _take_cosigned(files: dict[str, bytes], part: Part, name: str) -> None:
    """The entry under the cosigned checkpoint; over the ends of years, one proof for each log from it to that one."""
    later, notes = part.hub_cosigned, [part.hub_cosigned.checkpoint]
    notes += [_predecessor(logged.entry) for logged in later.opened]
    entry = TlogProof(part.hub_entry.index, tuple(later.inclusion_path), notes[-1])
    if not later.opened:
        _put_log(files, name, entry, later.certificate)
    else:
        files[f"{name}{SUFFIX}"] = entry.encode()
    for number, (logged, note) in enumerate(zip(reversed(later.opened), reversed(notes[:-1]), strict=True), 1):
        proof = TlogProof(logged.index, tuple(logged.inclusion_path), note)
        files[f"{name}-{number}.entry"] = logged.entry
        files[f"{name}-{number}{SUFFIX}"] = proof.encode()
        if number == len(later.opened):
            _put_log(files, f"{name}-{number}", proof, later.certificate)
    count = len(later.opened)
    later.Clear()
    later.SetInParent()
    # So many files there are.
    later.opened.extend(audit_pb2.LoggedEntry() for _ in range(count))


def _give_cosigned(read: Callable[[str, int], bytes], part: Part, name: str) -> None:
    """Put together again what `_take_cosigned` took apart."""
    later, proof = part.hub_cosigned, _proof(read, name)
    if proof.index != part.hub_entry.index:
        _broken(f"{name}{SUFFIX} is of another entry")
    later.inclusion_path.extend(proof.inclusion_path)
    for number, logged in enumerate(reversed(later.opened), 1):
        proof = _proof(read, f"{name}-{number}")
        logged.entry = read(f"{name}-{number}.entry", MAX_ENTRY)
        logged.index = proof.index
        logged.inclusion_path.extend(proof.inclusion_path)
    later.checkpoint = proof.checkpoint
    later.certificate = _certificate(read, f"{name}-{len(later.opened)}" if later.opened else name)


def _predecessor(entry: bytes) -> bytes:
    """The signed checkpoint that the first entry of a later year's log names."""
    try:
        return decode_entry(entry).log_opened.predecessor
    except EntryError as error:
        raise RefusedError(Reason.PROOF_INVALID, f"the first entry of a later log: {error}") from None


def _put_log(files: dict[str, bytes], name: str, proof: TlogProof, certificate: bytes) -> None:
    pem = _pem(certificate)
    files[f"{name}{SUFFIX}"] = proof.encode()
    files[f"{name}.pem"] = pem
    files[f"{name}.vkey"] = _vkey(proof, pem)


def _vkey(proof: TlogProof, pem: bytes) -> bytes:
    try:
        origin = split_note(proof.checkpoint)[0].partition("\n")[0]
    except CheckpointError as error:
        raise RefusedError(Reason.PROOF_INVALID, str(error)) from None
    return f"{vkey_of(origin, pem)}\n".encode()


def _pem(certificate: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(certificate).encode()


def _proof(read: Callable[[str, int], bytes], name: str) -> TlogProof:
    try:
        return TlogProof.parse(read(f"{name}{SUFFIX}", MAX_PROOF_SIZE))
    except TlogProofError as error:
        raise RefusedError(Reason.PROOF_INVALID, f"{name}{SUFFIX}: {error}") from None


def _certificate(read: Callable[[str, int], bytes], name: str) -> bytes:
    pem = read(f"{name}.pem", _MAX_PEM)
    try:
        der = ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
    except ValueError:
        raise RefusedError(Reason.PROOF_INVALID, f"{name}.pem is no certificate") from None
    return der


def _hashes(text: bytes) -> list[bytes]:
    lines = text.decode("ascii", "replace").splitlines()
    try:
        return [bytes.fromhex(line) for line in lines[1:]]
    except ValueError:
        raise RefusedError(Reason.PROOF_INVALID, "what a time stamp was made of cannot be read") from None


def _check_spelling(
    claims: verification_pb2.Receipt, receipt: verification_pb2.Receipt, read: Callable[[str, int], bytes]
) -> None:
    """Each file must be what this receipt writes: no second spelling, and nothing beside what the files hold."""
    files = files_of(receipt)
    if read_receipt(files.pop(CLAIMS)) != claims:
        _broken(f"{CLAIMS} holds what belongs into other files")
    for name, content in files.items():
        if read(name, MAX_FILE) != content:
            _broken(f"{name} is not written as receipts' files are")


def _broken(detail: str) -> NoReturn:
    raise RefusedError(Reason.PROOF_INVALID, detail)
