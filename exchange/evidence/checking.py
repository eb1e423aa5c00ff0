"""A bundle of evidence is checked offline, with nothing but the pinned authority and root.

What is data in it (entries, proofs, certificates, policy, receipts) is verified; then every file is made again out of
that data, and must be the one that is there. So no file can be changed, added or left out unnoticed, and no sentence in
it says anything else than its entries. It goes on after a fault, since whoever reads the bundle wants all of them.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from audit.checkpoint import Checkpoint, CheckpointError
from audit.cosignature import WitnessPolicy
from audit.entry import EntryError, decode_entry
from audit.mirror import verify_by_root
from audit.origins import log_of
from audit.proofs import check_entry
from audit.tlog_proof import TlogProof, TlogProofError
from certs.identity import CA_CERTIFICATE, ROOT_METADATA
from certs.revocation import RevocationList
from certs.signing import CertificateVerifier
from exchange.client.receipt import read_receipt
from exchange.client.receipt_times import Revocations, Trust, prove
from exchange.evidence import bundle
from exchange.evidence.bundle import POLICY, RECEIPTS, Evidence, Selected, files_of, manifest_of
from exchange.evidence.checked import BrokenError, Checked, check_manifest, read_files
from exchange.evidence.rules import Access, Past, parties, read_past
from policy.archive import timestamp_path
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire import merkle
from zhiwang.wire.clock import day_of
from zhiwang.wire.commitments import signature_message
from zhiwang.wire.errors import Reason, RefusedError

_ROOT: Final = re.compile(r"policy/metadata/[0-9]+\.root\.json")


def check(directory: Path, root: Path) -> Checked:
    """Check a bundle.

    Args:
        directory: The bundle.
        root: The pinned root directory.
    """
    found = Checked()
    try:
        files = read_files(directory)
        check_manifest(files, found)
        _Bundle(files, root, found).check()
    except BrokenError as error:
        found.fault(error.file, error.message)
    return found


class _Bundle:
    """The data of a bundle, read and verified part by part.

    Args:
        files: All of them, by name.
        root: The pinned root directory.
        found: Takes up what is found.
    """

    def __init__(self, files: Mapping[str, bytes], root: Path, found: Checked) -> None:
        self._files = files
        self._root = root
        self._found = found
        self._ca_pem = (root / CA_CERTIFICATE).read_bytes()
        self._verifier = CertificateVerifier(self._ca_pem, frozenset)
        self._revocations = self._revocation_list()

    def check(self) -> None:
        """Everything."""
        found = self._found
        checkpoint, head = self._head()
        found.origin = checkpoint.origin
        told = self._told()
        found.order, found.selected = str(told.get("order", "")), str(told.get("selected", ""))
        found.manifest_hash = sha256(self._need(bundle.MANIFEST)).digest()
        found.previous = _hash(told.get("previous_manifest_hash"))
        entries = self._entries(told, checkpoint)
        supporting = self._supporting(told, checkpoint)
        pasts = self._pasts(entries, supporting)
        certificates = self._certificates()
        evidence = Evidence(
            order=found.order,
            query=found.selected,
            produced_by=str(told.get("produced_by", "")),
            time=_seconds(told.get("produced_time")),
            program=str(told.get("program", "")),
            head=head,
            checkpoint=checkpoint,
            entries=entries,
            supporting=supporting,
            pasts=pasts,
            ca_pem=self._need(bundle.AUTHORITY),
            revocations=self._files.get(bundle.REVOCATIONS, b""),
            certificates=certificates,
            receipts={
                name.removeprefix(RECEIPTS): data for name, data in self._files.items() if name.startswith(RECEIPTS)
            },
            divisions=_texts(told.get("divisions")),
            previous=found.previous,
        )
        self._compare(evidence)
        self._check_production(evidence)
        self._check_signatures(entries, certificates)
        self._check_receipts(evidence)
        self._check_revocations(evidence, head)
        self._note_witnesses(pasts, head)
        found.notes += [past.problem[1] for past in pasts.values() if past.directory is None]
        if evidence.ca_pem != self._ca_pem:
            found.notes.append(f"{bundle.AUTHORITY} is not the file that is pinned here; the pinned one was used")

    def _head(self) -> tuple[Checkpoint, audit_pb2.LogHead]:
        note = self._need(bundle.CHECKPOINT)
        pem = self._need(bundle.LOG_CERTIFICATE)
        try:
            checkpoint = verify_by_root(note, pem, self._root)
        except (RefusedError, CheckpointError) as error:
            detail = getattr(error, "detail", "") or str(error)
            raise BrokenError(bundle.CHECKPOINT, f"is not signed by a log of this city: {detail}") from None
        return checkpoint, audit_pb2.LogHead(checkpoint=note, certificate=_der(pem))

    def _told(self) -> dict[str, Any]:
        try:
            told = json.loads(self._need(bundle.DATA))
        except ValueError:
            told = None
        if not isinstance(told, dict) or told.get("format") != bundle.FORMAT:
            raise BrokenError(bundle.DATA, f"is not {bundle.FORMAT}")
        return told

    def _entries(self, told: dict[str, Any], checkpoint: Checkpoint) -> tuple[Selected, ...]:
        listed = told.get("entries")
        indexes = [one.get("index") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        return self._selected(indexes, checkpoint)

    def _supporting(self, told: dict[str, Any], checkpoint: Checkpoint) -> tuple[Selected, ...]:
        listed = told.get("supporting_entries")
        return self._selected(listed if isinstance(listed, list) else [], checkpoint)

    def _selected(self, indexes: list[Any], checkpoint: Checkpoint) -> tuple[Selected, ...]:
        selected = []
        for index in indexes:
            name = f"entries/{index}.entry"
            try:
                data = self._need(name)
                proof = TlogProof.parse(self._need(f"entries/{index}.tlog-proof"))
                path = tuple(proof.inclusion_path)
                logged = audit_pb2.LoggedEntry(entry=data, index=int(index), inclusion_path=path)
                check_entry(logged, checkpoint)
            except (TlogProofError, RefusedError, ValueError, TypeError, BrokenError) as error:
                self._found.fault(name, f"is not proved to be in the log: {getattr(error, 'detail', '') or error}")
                continue
            self._found.entries += 1
            selected.append(Selected(int(index), data, path))
        return tuple(selected)

    def _pasts(self, entries: tuple[Selected, ...], supporting: tuple[Selected, ...]) -> dict[int, Past]:
        stamps = {}
        for one in sorted((*supporting, *entries), key=lambda one: one.index):
            change = decode_entry(one.data).directory_change
            if change.timestamp_hash and POLICY + timestamp_path(change.timestamp_hash) in self._files:
                stamps[change.directory_version] = change.timestamp_hash
        needed: dict[int, tuple[set[str], set[str]]] = {}
        for one in entries:
            number, departments, matters = parties(decode_entry(one.data))
            if number:
                known = needed.setdefault(number, (set(), set()))
                known[0].update(departments)
                known[1].update(matters)
        root_json = (self._root / ROOT_METADATA).read_bytes()
        pasts = {}
        for number, (departments, matters) in sorted(needed.items()):
            pasts[number] = read_past(root_json, self._fetch, number, departments, matters, stamps.get(number, b""))
            problem = pasts[number].problem[1]
            if problem and f"{POLICY}metadata/{number}.snapshot.json" in self._files:
                self._found.fault(f"{POLICY}metadata/{number}.snapshot.json", problem)
        return pasts

    def _fetch(self, path: str) -> bytes:
        if POLICY + path not in self._files:
            raise RefusedError(Reason.FILE_UNKNOWN, path)
        return self._files[POLICY + path]

    def _certificates(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        fixed = {bundle.LOG_CERTIFICATE, bundle.AUTHORITY, bundle.REVOCATIONS}
        for name, data in self._files.items():
            if not name.startswith("certificates/") or name in fixed:
                continue
            try:
                der = _der(data)
                self._verifier.known(der)
            except (ValueError, RefusedError) as error:
                self._found.fault(name, f"is no signing certificate of this city: {getattr(error, 'detail', '')}")
                continue
            found[sha256(der).hexdigest()] = der
        return found

    def _compare(self, evidence: Evidence) -> None:
        """Every file made again must be the one that is there."""
        try:
            made = files_of(evidence)
        except (EntryError, ValueError, OverflowError) as error:
            raise BrokenError(bundle.DATA, f"is not made of these entries: {error}") from None
        same_program = evidence.program == version("zhiwang")
        for name in sorted(made.keys() | (self._files.keys() - bundle.AFTER)):
            if _ROOT.fullmatch(name):
                # Whoever has pinned a later root begins the chain there; the manifest has the hash of each.
                continue
            if name not in made:
                self._found.fault(name, "belongs to nothing in the bundle")
            elif name not in self._files:
                self._found.fault(name, "is missing")
            elif made[name] != self._files[name]:
                if name in bundle.DERIVED and not same_program:
                    self._found.notes.append(
                        f"{name} was worded by version {evidence.program} of this program; its hash holds, its words "
                        "were not made again"
                    )
                    continue
                self._found.fault(name, "is not what the entries and the policy say")
        rest = {name: data for name, data in self._files.items() if name not in bundle.AFTER}
        if manifest_of(rest) != self._files[bundle.MANIFEST]:
            self._found.fault(bundle.MANIFEST, "is not the manifest of these files")

    def _check_production(self, evidence: Evidence) -> None:
        """What the log says of the bundle: it names the manifest by hash."""
        name = bundle.PRODUCTION_ENTRY
        try:
            proof = TlogProof.parse(self._need(bundle.PRODUCTION_PROOF))
            pem = self._need(bundle.PRODUCTION_CERTIFICATE)
            later = verify_by_root(proof.checkpoint, pem, self._root)
            logged = audit_pb2.LoggedEntry(
                entry=self._need(name), index=proof.index, inclusion_path=proof.inclusion_path
            )
            entry = check_entry(logged, later)
            path = [bytes.fromhex(line) for line in self._need(bundle.PRODUCTION_CONSISTENCY).decode().splitlines()]
            if later.origin == evidence.checkpoint.origin:
                merkle.verify_consistency(
                    evidence.checkpoint.size, later.size, evidence.checkpoint.root, later.root, path
                )
        except (TlogProofError, RefusedError, CheckpointError, merkle.ProofError, ValueError, BrokenError) as error:
            self._found.fault(name, f"is not proved to be in the log: {getattr(error, 'detail', '') or error}")
            return
        if path and later.origin != evidence.checkpoint.origin:
            self._found.fault(bundle.PRODUCTION_CONSISTENCY, "holds a proof between two logs, of which there is none")
        expected = bundle.production_of(evidence, self._files[bundle.MANIFEST])
        expected.produced_by = evidence.produced_by
        if log_of(later.origin) != log_of(evidence.checkpoint.origin) or entry.evidence_produced != expected:
            self._found.fault(name, "is the log's entry of another production than this bundle")
            return
        head = audit_pb2.LogHead(checkpoint=proof.checkpoint, certificate=_der(pem))
        made = bundle.production_files(audit_pb2.RecordProductionResponse(entry=logged, head=head), tuple(path))
        for other in (one for one, data in made.items() if data != self._files[one]):
            # It says the same in other bytes.
            self._found.fault(other, "is not spelt as it was made")
        self._found.production_index = proof.index

    def _check_signatures(self, entries: tuple[Selected, ...], certificates: Mapping[str, bytes]) -> None:
        """The requesters' own signatures over their requests, where their certificates are at hand."""
        unchecked = 0
        for one in entries:
            entry = decode_entry(one.data)
            kind = entry.WhichOneof("event")
            if kind not in {"hub_access", "owner_access"}:
                continue
            access = getattr(entry, kind)
            try:
                header = sealed_pb2.Header.FromString(access.header)
            except DecodeError:
                continue
            der = certificates.get(header.certificate_fingerprint.hex())
            if der is None:
                unchecked += 1
                continue
            try:
                self._check_signature(der, entry.time.seconds, header.system, access)
            except RefusedError as error:
                self._found.fault(
                    f"entries/{one.index}.entry", f"is not signed by its requester: {error.detail or error.reason.name}"
                )
                continue
            self._found.signatures += 1
        if unchecked:
            self._found.notes.append(
                f"{unchecked} requests were signed with certificates that are not in the bundle (see --certificate): "
                "the log says who asked, the requesters' own signatures were not checked here"
            )

    def _check_signature(self, der: bytes, at: float, system: str, access: Access) -> None:
        certificate = self._verifier.verify(der, at)
        if self._revocations is not None and self._revocations.times.get(certificate.serial, at + 1) <= at:
            raise RefusedError(Reason.CERTIFICATE_REVOKED, "its certificate was revoked before")
        if certificate.identity.uri != system:
            raise RefusedError(Reason.SIGNATURE_INVALID, "the certificate is of another system")
        message = signature_message(sha256(access.header).digest(), access.sealed_hash, access.request_root)
        certificate.verify_signature(access.signature, message)

    def _check_receipts(self, evidence: Evidence) -> None:
        logged = {sha256(header).digest() for header in _header_bytes(evidence.entries)}
        for name, data in evidence.receipts.items():
            try:
                receipt = read_receipt(data)
                proved = prove(receipt, Trust(self._verifier))
                listed = self._revocations
                if listed is not None and listed.this_update >= max(part.hub_time for part in proved.parts):
                    prove(receipt, Trust(self._verifier, revocations=Revocations.of_list(listed)))
            except RefusedError as error:
                self._found.fault(RECEIPTS + name, f"does not hold: {error.detail or error.reason.name}")
                continue
            if not any(sha256(part.request.header).digest() in logged for part in receipt.parts):
                self._found.notes.append(f"{RECEIPTS}{name} holds, and is of none of these entries")

    def _revocation_list(self) -> RevocationList | None:
        pem = self._files.get(bundle.REVOCATIONS)
        if pem is None:
            self._found.notes.append("there is no revocation list in the bundle")
            return None
        try:
            return RevocationList.parse(pem, self._ca_pem)
        except RefusedError as error:
            self._found.fault(bundle.REVOCATIONS, f"is no revocation list of this city: {error.detail}")
            return None

    def _check_revocations(self, evidence: Evidence, head: audit_pb2.LogHead) -> None:
        """Nothing counts that a key signed after it was revoked: a checkpoint is younger than the entries under it."""
        listed = self._revocations
        if listed is None:
            return
        entries = (*evidence.entries, *evidence.supporting)
        newest = max((decode_entry(one.data).time.seconds for one in entries), default=0)
        signed = [(bundle.LOG_CERTIFICATE, head.certificate, newest)]
        if self._found.production_index is not None:
            made = decode_entry(self._need(bundle.PRODUCTION_ENTRY)).time.seconds
            signed.append((bundle.PRODUCTION_CERTIFICATE, _der(self._need(bundle.PRODUCTION_CERTIFICATE)), made))
        for name, der, at in signed:
            revoked = listed.times.get(self._verifier.known(der).serial)
            if revoked is not None and revoked <= at:
                self._found.fault(name, f"was revoked on {_day(revoked)}, before it signed this")
            elif revoked is not None:
                self._found.notes.append(f"{name} was revoked later, on {_day(revoked)}")
        if listed.this_update < newest:
            self._found.notes.append("the revocation list is older than the newest entry (see --crl)")

    def _note_witnesses(self, pasts: Mapping[int, Past], head: audit_pb2.LogHead) -> None:
        for number in sorted(pasts, reverse=True):
            directory = pasts[number].directory
            if directory is None or not directory.centre.witnesses:
                continue
            policy = WitnessPolicy(directory.centre.witnesses, directory.centre.witness_quorum)
            try:
                self._found.witnesses = tuple(one.name for one in policy.cosignatures(head.checkpoint))
            except CheckpointError as error:
                self._found.fault(bundle.CHECKPOINT, f"a cosignature does not hold: {error}")
                return
            if not policy.satisfied_by(head.checkpoint):
                self._found.notes.append("the checkpoint is not cosigned by a quorum of the witnesses of that day")
            return

    def _need(self, name: str) -> bytes:
        if name not in self._files:
            raise BrokenError(name, "is missing")
        return self._files[name]


def _header_bytes(entries: tuple[Selected, ...]) -> Iterator[bytes]:
    for one in entries:
        entry = decode_entry(one.data)
        kind = entry.WhichOneof("event")
        if kind in {"hub_access", "owner_access"}:
            yield getattr(entry, kind).header


def _texts(value: Any) -> dict[str, str]:
    return {str(code): str(name) for code, name in value.items()} if isinstance(value, dict) else {}


def _seconds(text: Any) -> int:
    try:
        return int(datetime.fromisoformat(str(text)).timestamp())
    except (ValueError, OverflowError):
        return 0


def _hash(text: Any) -> bytes:
    try:
        return bytes.fromhex(str(text or ""))
    except ValueError:
        return b""


def _day(moment: float | None) -> str:
    return "an unknown day" if moment is None else day_of(moment).isoformat()


def _der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
