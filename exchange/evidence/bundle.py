"""A bundle of evidence for a court: entries, proofs, certificates, policy and receipts, in words and as data.

`files_of` makes every file of a bundle out of its data, and the same data always give the same bytes: whoever checks a
bundle reads the data back out of it, makes the files again, and compares. The manifest is a file for `sha256sum -c`;
its hash is what the log records of the production, so that entry, which comes last, holds the whole together. Pure.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from audit.checkpoint import Checkpoint
from audit.entry import decode_entry
from audit.mirror import vkey_of
from audit.tlog_proof import TlogProof
from exchange.cli.page import heading, page, paragraph, table
from exchange.evidence.account import account, rows
from exchange.evidence.rules import Past, Told, parties
from exchange.evidence.texts import NEVER_KEPT, NOT_PROVED, OTHERS_COULD_ADD, readme, statement
from policy.metadata import REVOCATIONS_FILE
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.clock import timestamp_text

FORMAT: Final = "zhiwang-evidence-1"
DATA: Final = "entries.json"
PAGE: Final = "index.html"
README: Final = "README.md"
STATEMENT: Final = "statement.md"
CHECKPOINT: Final = "checkpoint"
VKEY: Final = "log.vkey"
LOG_CERTIFICATE: Final = "certificates/log.pem"
AUTHORITY: Final = "certificates/ca.pem"
REVOCATIONS: Final = "certificates/crl.pem"
MANIFEST: Final = "SHA256SUMS"
PRODUCTION_ENTRY: Final = "production.entry"
PRODUCTION_PROOF: Final = "production.tlog-proof"
PRODUCTION_CERTIFICATE: Final = "production.pem"
PRODUCTION_CONSISTENCY: Final = "production.consistency"
AFTER: Final = frozenset({MANIFEST, PRODUCTION_ENTRY, PRODUCTION_PROOF, PRODUCTION_CERTIFICATE, PRODUCTION_CONSISTENCY})
"""Files that the manifest does not list: itself, and what the log says of it."""
DERIVED: Final = frozenset({DATA, PAGE, README, STATEMENT})
"""Files in words, which another version of this program may word otherwise."""
POLICY: Final = "policy/"
RECEIPTS: Final = "receipts/"


@dataclass(frozen=True, slots=True)
class Selected:
    """An entry with its proof under the bundle's checkpoint."""

    index: int
    data: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a bundle is made of.

    Attributes:
        order: Number of the order.
        query: What was selected, in words.
        produced_by: SPIFFE identity of who produced it.
        time: When, seconds since the epoch.
        program: Version of this program.
        head: Checkpoint that all proofs lead to, and the certificate of its key.
        checkpoint: What it says; verified.
        entries: What was selected, by rising index.
        supporting: Entries that prove which directories were in force.
        pasts: The directory of each version that an entry was decided by.
        ca_pem: The pinned authority.
        revocations: The revocation list, PEM; empty if there is none.
        certificates: Signing certificates of requesters, DER, by SHA-256 in hex.
        receipts: Files of receipts, by name.
        divisions: Names of the places of the entries, by code.
        previous: SHA-256 of the manifest of the bundle before it, where several are made together; else empty.
    """

    order: str
    query: str
    produced_by: str
    time: int
    program: str
    head: audit_pb2.LogHead
    checkpoint: Checkpoint
    entries: tuple[Selected, ...]
    supporting: tuple[Selected, ...] = ()
    pasts: Mapping[int, Past] = field(default_factory=dict)
    ca_pem: bytes = b""
    revocations: bytes = b""
    certificates: Mapping[str, bytes] = field(default_factory=dict)
    receipts: Mapping[str, bytes] = field(default_factory=dict)
    divisions: Mapping[str, str] = field(default_factory=dict)
    previous: bytes = b""


def files_of(evidence: Evidence) -> dict[str, bytes]:
    """Every file that the manifest lists, by name."""
    log_pem = _pem(evidence.head.certificate)
    told = as_object(evidence)
    files = {
        README: readme(evidence.checkpoint.origin, evidence.checkpoint.size).encode(),
        STATEMENT: statement().encode(),
        DATA: (json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode(),
        PAGE: _page(told).encode(),
        CHECKPOINT: evidence.head.checkpoint,
        VKEY: f"{vkey_of(evidence.checkpoint.origin, log_pem)}\n".encode(),
        LOG_CERTIFICATE: log_pem,
        AUTHORITY: evidence.ca_pem,
    }
    if evidence.revocations:
        files[REVOCATIONS] = evidence.revocations
    for fingerprint, der in evidence.certificates.items():
        files[f"certificates/{fingerprint}.pem"] = _pem(der)
    for one in (*evidence.entries, *evidence.supporting):
        files[f"entries/{one.index}.entry"] = one.data
        proof = TlogProof(one.index, one.path, evidence.head.checkpoint)
        files[f"entries/{one.index}.tlog-proof"] = proof.encode()
    for past in evidence.pasts.values():
        kept = {**(past.directory.files if past.directory is not None else {}), **past.recorded}
        files |= {POLICY + path: content for path, content in kept.items()}
    files |= {RECEIPTS + name: content for name, content in evidence.receipts.items()}
    return files


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    """What `sha256sum -c` reads."""
    return "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())).encode()


def production_of(evidence: Evidence, manifest: bytes) -> audit_pb2.EvidenceProduced:
    """What the log is to record; who produced it is filled in there."""
    return audit_pb2.EvidenceProduced(
        order=evidence.order,
        query=evidence.query,
        count=len(evidence.entries),
        tree_size=evidence.checkpoint.size,
        origin=evidence.checkpoint.origin,
        manifest_hash=sha256(manifest).digest(),
        previous_manifest_hash=evidence.previous,
    )


def production_files(response: audit_pb2.RecordProductionResponse, consistency: tuple[bytes, ...]) -> dict[str, bytes]:
    """What the log says of the production: its entry, its proof, and that its tree extends the bundle's."""
    logged = response.entry
    proof = TlogProof(logged.index, tuple(logged.inclusion_path), response.head.checkpoint)
    return {
        PRODUCTION_ENTRY: logged.entry,
        PRODUCTION_PROOF: proof.encode(),
        PRODUCTION_CERTIFICATE: _pem(response.head.certificate),
        PRODUCTION_CONSISTENCY: "".join(f"{one.hex()}\n" for one in consistency).encode(),
    }


def revocation_list_in(pasts: Mapping[int, Past]) -> bytes:
    """The revocation list of the newest of these directories; empty if there is none."""
    for version in sorted(pasts, reverse=True):
        directory = pasts[version].directory
        for path, content in (directory.files if directory is not None else {}).items():
            if path.startswith("targets/") and path.endswith(f".{REVOCATIONS_FILE}"):
                return content
    return b""


def as_object(evidence: Evidence) -> dict[str, Any]:
    """The bundle as data."""
    return {
        "format": FORMAT,
        "program": evidence.program,
        "order": evidence.order,
        "selected": evidence.query,
        **({"previous_manifest_hash": evidence.previous.hex()} if evidence.previous else {}),
        "produced_by": evidence.produced_by,
        "produced_time": datetime.fromtimestamp(evidence.time, UTC).isoformat(),
        "log": evidence.checkpoint.origin,
        "size": evidence.checkpoint.size,
        "root": evidence.checkpoint.root.hex(),
        "entry_count": len(evidence.entries),
        "entries": [_account(one, evidence) for one in evidence.entries],
        "supporting_entries": [one.index for one in evidence.supporting],
        "directory_versions": sorted(evidence.pasts),
        "certificates": sorted(evidence.certificates),
        "receipts": sorted(evidence.receipts),
        "divisions": dict(sorted(evidence.divisions.items())),
        "never_kept": [{"zh": zh, "en": en} for zh, en in NEVER_KEPT],
        "others_could_add": [{"zh": zh, "en": en} for zh, en in OTHERS_COULD_ADD],
        "not_proved": [{"zh": zh, "en": en} for zh, en in NOT_PROVED],
    }


def _account(one: Selected, evidence: Evidence) -> dict[str, Any]:
    entry = decode_entry(one.data)
    past = evidence.pasts.get(parties(entry)[0], Past())
    return account(one.index, one.data, entry, Told(past, lambda code: evidence.divisions.get(code, "")))


def _page(told: dict[str, Any]) -> str:
    """The same for people, to be printed."""
    moment = datetime.fromisoformat(told["produced_time"]).timestamp()
    parts = [
        table(
            ("", ""),
            [
                ("文书编号 order", told["order"]),
                ("出具人 produced by", told["produced_by"]),
                ("出具时间 when", timestamp_text(moment)),
                ("日志 log", told["log"]),
                ("检查点 checkpoint", f"{told['size']} 条记录 entries\n{told['root']}"),
                ("选取条件 selected", told["selected"]),
                ("记录数 entries", told["entry_count"]),
            ],
            (25, 75),
        ),
        paragraph("以下每条记录都附有存在证明；核验方法见 README.md。"),
        paragraph("Each entry below comes with the proof that it is in the log; README.md says how to verify it."),
        heading("从未保存，因此无从出具  Never kept, so nobody can produce it here"),
        *_sentences(told["never_kept"]),
    ]
    for said in told["entries"]:
        title = f"记录 {said['index']}  Entry {said['index']}"
        parts += [heading(title), table(("", ""), list(rows(said)), (25, 75)), *_sources(said)]
    parts += [
        heading("其他方可以补充  What others could add"),
        *_sentences(told["others_could_add"]),
        heading("本包不证明  What this bundle does not prove"),
        *_sentences(told["not_proved"]),
    ]
    return page("核验日志证据  Evidence from the log of verifications", parts)


def _sentences(lines: list[dict[str, str]]) -> list[str]:
    return [paragraph(f"{line['zh']}\n{line['en']}", note=True) for line in lines]


def _sources(said: dict[str, Any]) -> list[str]:
    """The rules of an entry as they are written in the documents of their day."""
    written = {
        rule["id"]: rule["source"] for claim in said.get("claims", ()) for rule in claim["rules"] if rule["source"]
    }
    if not written:
        return []
    return [table(("规则 rule", "当日文件原文 as the document of that day has it"), list(written.items()), (25, 75))]


def _pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()
