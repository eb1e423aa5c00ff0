"""Make the test vectors of docs/protocol.md: tests/vectors/*.json, all keys and salts fixed.

`python dev/make_vectors.py` writes them; with `--check` it writes nothing and exits 1 when what is committed differs.
Bytes are written in hexadecimal. tests/unit/wire/test_vectors.py recomputes them a second time from the page alone.
"""

from __future__ import annotations

import argparse
import hmac
import json
import sys
from collections.abc import Callable, Iterable
from datetime import date
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from Crypto.Protocol.DH import import_x25519_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit.checkpoint import Checkpoint, sign
from audit.entry import encode_entry
from certs.sealing import Opener
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire import commitments as c
from zhiwang.wire.claims import Claim
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.header import Header, parse_header
from zhiwang.wire.identifiers import contains_identifier, scheme
from zhiwang.wire.merkle import Tree, consistency_path, leaf_hash
from zhiwang.wire.names import canonical_name, name_spellings
from zhiwang.wire.places import Jurisdiction
from zhiwang.wire.records import Answers, CaseRecord, Outcome, SubjectRecord, encode_answers, encode_records

VECTORS = Path(__file__).resolve().parent.parent / "tests" / "vectors"

TODAY = date(2026, 11, 24)
ISSUED = 1_795_000_000
OWNER_PRIVATE = bytes(range(1, 33))
EPHEMERAL_PRIVATE = bytes(range(33, 65))
REQUESTER_PRIVATE = bytes(range(65, 97))
OWNER_SIGNING_PRIVATE = bytes(range(97, 129))
REQUEST_NONCE = bytes(range(12))
REPLY_NONCE = bytes(range(12, 24))
SALTS = [bytes([number]) * 32 for number in (0xA1, 0xA2, 0xA3)]


def _outcome(call: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": call()}
    except RefusedError as error:
        return {"refused": error.reason.name}


def claims() -> Any:
    """The claim syntax."""
    texts = [
        "child: police.age at_least 6",
        "health.vaccinated exists",
        "child: health.parent related @guardian",
        "guardian: police.former_name equals 张 三: @x",
        "home: housing.lease_start at_most 2026-03-01",
        "title.homes absent",
        "guardian: police.permit valid",
        "police.age",
        "police.age older 6",
        "police.age exists 6",
        "police.age at_least",
        "police.age equals @Child",
        "Police.age exists",
        "child:police.age exists",
    ]
    return [{"text": text} | _outcome(partial(_claim, text)) for text in texts]


def _claim(text: str) -> dict[str, Any]:
    claim = Claim.parse(text)
    return {
        "slot": claim.slot,
        "owner": claim.owner,
        "attribute": claim.attribute,
        "predicate": claim.predicate.value,
        "cell": claim.cell,
        "text": claim.text,
        "compared_slot": claim.compared_slot,
    }


def identifiers() -> Any:
    """Canonical forms, spellings, and what is found in a text. `today` is 2026-11-24."""
    plain = "[A-Z0-9]{6,20}"
    texts = [
        ("resident", None, "440399199001010018"),
        ("resident", None, " ４４０３９９１９９００１０１００１８\n"),
        ("resident", None, "440399900101001"),
        ("resident", None, "44039919900101004x"),
        ("resident", None, "810000199001010019"),
        ("resident", None, "440399199001010019"),
        ("resident", None, "440399202611250013"),
        ("resident", None, "440399199002300017"),
        ("resident", None, "440399 19900101 0018"),
        ("uscc", None, "91110000600037341l"),
        ("uscc", None, "91110000600037341M"),
        ("house", None, "4403060010020030004000506"),
        ("house", None, "440306001002003000400050"),
        ("plain", plain, " ab1234５"),
        ("plain", plain, "ab-1234"),
    ]
    return {
        "canonical": [
            {"scheme": name, "pattern": pattern, "text": text} | _outcome(partial(_spelled, name, pattern, text))
            for name, pattern, text in texts
        ],
        "contains": [
            {"text": text, "grouped": grouped, "result": contains_identifier(text, grouped=grouped)}
            for text in ("2026-000123", "x440399199001010018y", "440399-19900101-0018", "91110000600037341L")
            for grouped in (False, True)
        ],
    }


def _spelled(name: str, pattern: str | None, text: str) -> dict[str, Any]:
    one = scheme(name, pattern)
    canonical = one.canonical(text, today=TODAY)
    return {"canonical": canonical, "spellings": list(one.spellings(canonical))}


def names() -> Any:
    """Canonical names and their spellings."""
    texts = [
        "",
        "　张 　 三",
        "阿依古丽・买买提",
        "ＭＡＲＩＡ．Ｂ",
        "𪚥" * 50,
        "𪚥" * 51,
        "张\u200b三",
        "张\ue000三",
        "张\n三",
        "龍應台",
    ]

    def spelled(text: str) -> dict[str, Any]:
        name = canonical_name(text)
        return {"canonical": name, "spellings": list(name_spellings(name))}

    return [{"text": text} | _outcome(partial(spelled, text)) for text in texts]


def places() -> Any:
    """Which place covers which."""
    texts = ["nbs:4403", "nbs:440306", "mca:440306", "nbs:440306001", "mca:440306001", "mca:440306001002"]
    return [
        {"place": outer, "other": inner, "covers": Jurisdiction.parse(outer).covers(Jurisdiction.parse(inner))}
        for outer in texts
        for inner in texts
    ]


def _header() -> Header:
    public = X25519PrivateKey.from_private_bytes(OWNER_PRIVATE).public_key().public_bytes_raw()
    message = sealed_pb2.Header(
        suite="zhiwang-1",
        request_id=bytes(range(16)),
        system="spiffe://shenzhen/edu/system/enrolment",
        certificate_fingerprint=sha256(b"a certificate").digest(),
        role="edu/enrolment-clerk",
        official="clerk-17",
        assurance=sealed_pb2.ASSURANCE_AUTHENTICATED,
        matter="school-enrolment",
        matter_version=sha256(b"a matter").digest()[:16],
        reference_date="2026-09-01",
        reference="2026-000123",
        jurisdiction="nbs:440306",
        owner="health",
        owner_key_id=sha256(public).digest()[:16],
        owner_document_version=3,
        cases=2,
        priority=sealed_pb2.PRIORITY_BULK,
    )
    message.slots.add(name="child", kind="person")
    message.slots.add(name="guardian", ordinal=1, kind="person")
    message.claims.add(slot=0, attribute="birth_mother", predicate=sealed_pb2.PREDICATE_RELATED, compared_slot=1)
    message.claims.add(slot=1, attribute="children", predicate=sealed_pb2.PREDICATE_AT_MOST, cell="3")
    message.claims.add(slot=0, attribute="hospital", predicate=sealed_pb2.PREDICATE_EQUALS, compared_value=0)
    message.issue_time.seconds, message.issue_time.nanos = ISSUED, 250_000_000
    message.expire_time.seconds = ISSUED + 60
    return parse_header(message.SerializeToString(deterministic=True))


def _records() -> list[CaseRecord]:
    child = SubjectRecord("person", "440399201905010010", "张小明")
    mother = SubjectRecord("person", "440399199001010018", "阿依古丽·买买提")
    other = SubjectRecord("person", "44039920190601008X", "")
    return [CaseRecord(SALTS[0], (child, mother), ("市妇幼保健院",)), CaseRecord(SALTS[1], (other, None), ("",))]


def _answers() -> Answers:
    outcomes = (
        Outcome.YES,
        Outcome.DENIED_BY_OWNER,
        Outcome.NO,
        Outcome.UNKNOWN,
        Outcome.DENIED_BY_OWNER,
        Outcome.UNKNOWN,
    )
    return Answers(SALTS[2], (ISSUED - 86_400, None, ISSUED - 3600), bytes(outcomes))


def _secret(header: Header, enc: bytes) -> bytes:
    private = import_x25519_private_key(OWNER_PRIVATE)
    return Opener(lambda _: private).secret(header.certificate_fingerprint, header.owner_key_id, enc)


def header() -> Any:
    """A header with its fields, and what is refused of what stands close to it."""
    good = _header()

    def changed(**values: Any) -> bytes:
        message = sealed_pb2.Header.FromString(good.raw)
        for name, value in values.items():
            setattr(message, name, value)
        return message.SerializeToString(deterministic=True)

    refused = {
        "an unknown field": good.raw + b"\xfa\x3f\x01x",
        "a field twice": good.raw + b"\x0a\x09zhiwang-1",
        "a varint that is longer than it must be": b"\x0a\x89\x00" + good.raw[2:],
        "cut": good.raw[:-1],
        "another suite": changed(suite="zhiwang-2"),
        "an identifier as reference": changed(reference="440399199001010018"),
        "an identifier as official, in groups": changed(official="440399-19900101-0018"),
        "no place": changed(jurisdiction="440306"),
        "a date in another form": changed(reference_date="20260901"),
        "too many cases": changed(cases=513),
        "no cases": changed(cases=0),
    }
    return {
        "header": good.raw.hex(),
        "hash": good.hash.hex(),
        "record_size": good.record_size,
        "refused": [
            {"why": why, "header": raw.hex()} | _outcome(partial(parse_header, raw)) for why, raw in refused.items()
        ],
    }


def request() -> Any:
    """One request, from keys to signature."""
    good, records = _header(), _records()
    owner = X25519PrivateKey.from_private_bytes(OWNER_PRIVATE).public_key().public_bytes_raw()
    enc = X25519PrivateKey.from_private_bytes(EPHEMERAL_PRIVATE).public_key().public_bytes_raw()
    secret = _secret(good, enc)
    key = hmac.digest(secret, c.REQUEST_KEY_LABEL + good.hash, "sha256")
    plaintext = encode_records(good, records)
    ciphertext = AESGCM(key).encrypt(REQUEST_NONCE, plaintext, good.hash)
    sealed = c.sealed_hash(enc, REQUEST_NONCE, ciphertext)
    root = c.request_tree(good, records).root
    signer = Ed25519PrivateKey.from_private_bytes(REQUESTER_PRIVATE)
    message = c.signature_message(good.hash, sealed, root)
    return {
        "owner_private_key": OWNER_PRIVATE.hex(),
        "owner_public_key": owner.hex(),
        "owner_key_id": good.owner_key_id.hex(),
        "ephemeral_private_key": EPHEMERAL_PRIVATE.hex(),
        "enc": enc.hex(),
        "exported_secret": secret.hex(),
        "header": good.raw.hex(),
        "header_hash": good.hash.hex(),
        "records": [
            {
                "salt": record.salt.hex(),
                "subjects": [
                    subject and {"identifier": subject.identifier, "name": subject.name} for subject in record.subjects
                ],
                "values": list(record.values),
            }
            for record in records
        ],
        "plaintext": plaintext.hex(),
        "request_key": key.hex(),
        "nonce": REQUEST_NONCE.hex(),
        "ciphertext": ciphertext.hex(),
        "sealed_hash": sealed.hex(),
        "claims": list(_commitments(good, records)),
        "request_root": root.hex(),
        "requester_private_key": REQUESTER_PRIVATE.hex(),
        "requester_public_key": signer.public_key().public_bytes_raw().hex(),
        "signature_message": message.hex(),
        "signature": signer.sign(message).hex(),
    }


def _commitments(good: Header, records: Iterable[CaseRecord]) -> Iterable[dict[str, Any]]:
    for number, record in enumerate(records):
        for index, claim in enumerate(good.claims):
            subject = record.subjects[claim.slot] or SubjectRecord("person", "", "")
            value = c.compared_bytes(good, claim, record)
            salt = c.claim_salt(record.salt, index)
            leaf = c.claim_commitment(salt, subject.kind, subject.identifier, subject.name, value)
            yield {
                "case_index": number,
                "claim_index": index,
                "salt": salt.hex(),
                "kind": subject.kind,
                "identifier": subject.identifier,
                "name": subject.name,
                "value": value.hex(),
                "commitment": leaf.hex(),
            }


def reply() -> Any:
    """The reply to that request, and one claim opened as a receipt opens it."""
    good, records, answers = _header(), _records(), _answers()
    enc = X25519PrivateKey.from_private_bytes(EPHEMERAL_PRIVATE).public_key().public_bytes_raw()
    key = hmac.digest(_secret(good, enc), c.REPLY_KEY_LABEL + good.hash, "sha256")
    plaintext = encode_answers(good, answers)
    requests = c.request_tree(good, records)
    tree = c.answer_tree(good, requests.leaves, answers)
    opened = 2
    return {
        "header_hash": good.hash.hex(),
        "salt": answers.salt.hex(),
        "data_as_of": list(answers.data_as_of),
        "outcomes": answers.outcomes.hex(),
        "plaintext": plaintext.hex(),
        "reply_key": key.hex(),
        "nonce": REPLY_NONCE.hex(),
        "ciphertext": AESGCM(key).encrypt(REPLY_NONCE, plaintext, good.hash).hex(),
        "answers": [
            {
                "salt": c.outcome_salt(answers.salt, index).hex(),
                "outcome": c.outcome_bytes(outcome, answers.data_as_of[index % len(good.claims)]).hex(),
                "leaf": leaf.hex(),
            }
            for index, (outcome, leaf) in enumerate(zip(answers.outcomes, tree.leaves, strict=True))
        ],
        "answer_root": tree.root.hex(),
        "opened": {
            "index": opened,
            "commitment_path": [node.hex() for node in requests.path(opened)],
            "outcome_path": [node.hex() for node in tree.path(opened)],
        },
    }


def report() -> Any:
    """A request for a report, what its reply seals, and the root that commits to it."""
    message = sealed_pb2.Header.FromString(_header().raw)
    message.owner, message.matter, message.cases = "hrss", "access-report", 1
    message.priority = sealed_pb2.PRIORITY_INTERACTIVE
    del message.slots[:], message.claims[:]
    message.slots.add(name="self", kind="person")
    message.claims.add(slot=0, attribute="lookups", predicate=sealed_pb2.PREDICATE_REPORT)
    good = parse_header(message.SerializeToString(deterministic=True))
    records = [CaseRecord(SALTS[0], (SubjectRecord("person", "440399199001010018", ""),), ())]
    told = bytes(range(1, 200))
    answers = Answers(SALTS[2], (None,), bytes([Outcome.YES]), told)
    requests = c.request_tree(good, records)
    plaintext = encode_answers(good, answers)
    return {
        "header": good.raw.hex(),
        "commitment": requests.leaves[0].hex(),
        "salt": answers.salt.hex(),
        "report": told.hex(),
        "plaintext_size": len(plaintext),
        "plaintext_sha256": sha256(plaintext).hexdigest(),
        "answer_root": c.answer_tree(good, requests.leaves, answers).root.hex(),
        "refused": [
            {"what": what, "header": raw.hex(), "reason": _reason(raw)}
            for what, raw in (
                ("two cases", _changed(message, cases=2)),
                ("a roster", _changed(message, priority=sealed_pb2.PRIORITY_BULK)),
                ("beside another claim", _beside(message)),
            )
        ],
    }


def _changed(message: sealed_pb2.Header, **values: Any) -> bytes:
    other = sealed_pb2.Header.FromString(message.SerializeToString())
    for name, value in values.items():
        setattr(other, name, value)
    return other.SerializeToString(deterministic=True)


def _beside(message: sealed_pb2.Header) -> bytes:
    other = sealed_pb2.Header.FromString(message.SerializeToString())
    other.claims.add(slot=0, attribute="pension_months", predicate=sealed_pb2.PREDICATE_AT_LEAST, cell="12")
    return other.SerializeToString(deterministic=True)


def _reason(raw: bytes) -> str:
    try:
        parse_header(raw)
    except RefusedError as error:
        return error.reason.name
    raise AssertionError("it was to be refused")


def owner_key() -> Any:
    """A sealing key as its adapter states it."""
    public = X25519PrivateKey.from_private_bytes(OWNER_PRIVATE).public_key().public_bytes_raw()
    key = sealed_pb2.OwnerKey(owner="health", key_id=sha256(public).digest()[:16], public_key=public, serial=7)
    key.start_time.seconds, key.expire_time.seconds = ISSUED - 3600, ISSUED + 3600
    raw = key.SerializeToString(deterministic=True)
    signer = Ed25519PrivateKey.from_private_bytes(OWNER_SIGNING_PRIVATE)
    message = c.owner_key_message(raw)
    return {
        "signing_private_key": OWNER_SIGNING_PRIVATE.hex(),
        "signing_public_key": signer.public_key().public_bytes_raw().hex(),
        "key": raw.hex(),
        "message": message.hex(),
        "signature": signer.sign(message).hex(),
    }


def log() -> Any:
    """RFC 6962 trees with all their proofs, an entry, and a checkpoint."""
    leaves = [leaf_hash(bytes([number])) for number in range(7)]
    trees = []
    for size in range(len(leaves) + 1):
        tree = Tree(leaves[:size])
        trees.append(
            {
                "size": size,
                "root": tree.root.hex(),
                "inclusion": [[node.hex() for node in tree.path(index)] for index in range(size)],
                "consistency": [
                    [node.hex() for node in consistency_path(old, size, _subtree(leaves))] for old in range(1, size)
                ],
            }
        )
    event = audit_pb2.LogOpened(origin="shenzhen/health/adapter/main")
    entry = encode_entry(event, nonce=bytes(range(16)), time=ISSUED + 0.5)
    signer = Ed25519PrivateKey.from_private_bytes(OWNER_SIGNING_PRIVATE)
    public = signer.public_key().public_bytes_raw()
    checkpoint = Checkpoint("shenzhen/health/adapter/main", 1, leaf_hash(entry))
    note = sign(checkpoint, checkpoint.origin, public, signer.sign)
    return {
        "leaves": "the bytes 00 to 06, one byte each",
        "trees": trees,
        "entry": entry.hex(),
        "entry_leaf_hash": leaf_hash(entry).hex(),
        "signing_public_key": public.hex(),
        "checkpoint": note.decode(),
    }


def _subtree(leaves: list[bytes]) -> Callable[[int, int], bytes]:
    return lambda start, end: Tree(leaves[start:end]).root


MAKERS = (claims, identifiers, names, places, header, request, reply, report, owner_key, log)


def made() -> dict[str, str]:
    """Text of every file by its name."""
    return {
        f"{maker.__name__}.json": json.dumps(maker(), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        for maker in MAKERS
    }


def main() -> None:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    check = parser.parse_args().check
    files = made()
    present = {path.name: path.read_text(encoding="utf-8") for path in VECTORS.glob("*.json")}
    if check:
        stale = sorted(name for name in files.keys() | present if files.get(name) != present.get(name))
        if stale:
            print("test vectors are not what the code says; run dev/make_vectors.py:")
            print(*(f"  tests/vectors/{name}" for name in stale), sep="\n")
            sys.exit(1)
        return
    VECTORS.mkdir(exist_ok=True)
    for name, text in files.items():
        (VECTORS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
