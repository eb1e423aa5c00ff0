from __future__ import annotations

import json
from hashlib import sha256
from struct import pack
from typing import Any

import pytest

import protocol_reference as reference
from wire_support import ROOT, script
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire import commitments, header, identifiers, names
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.merkle import ProofError, verify_consistency, verify_inclusion

VECTORS = ROOT / "tests" / "vectors"


def read(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def unhex(vector: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


def test_the_vectors_are_what_the_code_says() -> None:
    files = script("make_vectors").made()
    assert files == {path.name: path.read_text(encoding="utf-8") for path in VECTORS.glob("*.json")}


def test_both_sides_export_the_secret_of_the_page() -> None:
    vector = read("request")
    owner, public, ephemeral, enc, secret = unhex(
        vector, "owner_private_key", "owner_public_key", "ephemeral_private_key", "enc", "exported_secret"
    )
    assert reference.exported_secret(owner, enc) == secret
    assert reference.exported_secret(ephemeral, enc, sender_of=public) == secret
    assert sha256(public).digest()[:16].hex() == vector["owner_key_id"]


def test_the_request_opens_to_its_records() -> None:
    vector = read("request")
    secret, header, nonce, ciphertext = unhex(vector, "exported_secret", "header", "nonce", "ciphertext")
    header_hash = sha256(header).digest()
    assert header_hash.hex() == vector["header_hash"]
    key = reference.derived_key(secret, b"zhiwang/1/request-key", header_hash)
    assert key.hex() == vector["request_key"]
    plaintext = reference.opened(key, nonce, ciphertext, header_hash)
    assert plaintext.hex() == vector["plaintext"]
    size = 32 + 2 * 256 + 192
    for number, record in enumerate(vector["records"]):
        data = plaintext[number * size : (number + 1) * size]
        assert data[:32].hex() == record["salt"]
        for slot, subject in enumerate(record["subjects"]):
            place = data[32 + slot * 256 : 288 + slot * 256]
            if subject is None:
                assert place == bytes(256)
                continue
            identifier, at = reference.text_at(place, 0)
            name, at = reference.text_at(place, at)
            assert subject == {"identifier": identifier, "name": name}
            assert place[at:] == bytes(256 - at)
        value, at = reference.text_at(data[544:], 0)
        assert [value] == record["values"]
        assert data[544 + at :] == bytes(192 - at)


def test_the_requester_signed_what_it_sealed() -> None:
    vector = read("request")
    header = sealed_pb2.Header.FromString(bytes.fromhex(vector["header"]))
    leaves = []
    for number, record in enumerate(vector["records"]):
        subjects = [
            reference.subject_bytes(slot.kind, *((subject["identifier"], subject["name"]) if subject else ("", "")))
            for slot, subject in zip(header.slots, record["subjects"], strict=True)
        ]
        for index, claim in enumerate(header.claims):
            value = b"\x00"
            if claim.HasField("compared_slot"):
                value = b"\x02" + subjects[claim.compared_slot]
            elif claim.HasField("compared_value"):
                value = b"\x01" + record["values"][claim.compared_value].encode()
            salt = reference.salt_of(bytes.fromhex(record["salt"]), index)
            leaves.append(reference.commitment(salt, subjects[claim.slot], value))
            stated = vector["claims"][number * len(header.claims) + index]
            assert (stated["salt"], stated["value"]) == (salt.hex(), value.hex())
            assert stated["commitment"] == leaves[-1].hex()
    root = reference.root(leaves)
    assert root.hex() == vector["request_root"]
    enc, nonce, ciphertext, public, signature = unhex(
        vector, "enc", "nonce", "ciphertext", "requester_public_key", "signature"
    )
    sealed = sha256(enc + nonce + ciphertext).digest()
    assert sealed.hex() == vector["sealed_hash"]
    message = b"zhiwang/1/request-signature" + bytes.fromhex(vector["header_hash"]) + sealed + root
    assert message.hex() == vector["signature_message"]
    assert reference.verified(public, signature, message)


def test_the_reply_opens_to_the_answers_of_its_root() -> None:
    request, vector = read("request"), read("reply")
    header_hash, nonce, ciphertext = unhex(vector, "header_hash", "nonce", "ciphertext")
    key = reference.derived_key(bytes.fromhex(request["exported_secret"]), b"zhiwang/1/reply-key", header_hash)
    assert key.hex() == vector["reply_key"]
    plaintext = reference.opened(key, nonce, ciphertext, header_hash)
    assert plaintext.hex() == vector["plaintext"]
    width = len(vector["data_as_of"])
    columns = b"".join(pack(">Bq", at is not None, at or 0) for at in vector["data_as_of"])
    assert plaintext == bytes.fromhex(vector["salt"]) + columns + bytes.fromhex(vector["outcomes"])
    leaves = []
    for index, outcome in enumerate(bytes.fromhex(vector["outcomes"])):
        salt = reference.salt_of(bytes.fromhex(vector["salt"]), index)
        at = vector["data_as_of"][index % width]
        data = pack(">BBq", outcome, at is not None, at or 0)
        claim = bytes.fromhex(request["claims"][index]["commitment"])
        leaves.append(reference.answer(claim, salt, data))
        assert vector["answers"][index] == {"salt": salt.hex(), "outcome": data.hex(), "leaf": leaves[-1].hex()}
    assert reference.root(leaves).hex() == vector["answer_root"]


def test_a_report_follows_the_answer_in_its_place_and_the_root_commits_to_it() -> None:
    vector = read("report")
    salt, told = unhex(vector, "salt", "report")
    plaintext = salt + pack(">Bq", 0, 0) + b"\x01" + (pack(">I", len(told)) + told).ljust(1 << 16, b"\0")
    assert len(plaintext) == vector["plaintext_size"]
    assert sha256(plaintext).hexdigest() == vector["plaintext_sha256"]
    outcome = pack(">BBq", 1, 0, 0) + sha256(told).digest()
    leaf = reference.answer(bytes.fromhex(vector["commitment"]), reference.salt_of(salt, 0), outcome)
    assert leaf.hex() == vector["answer_root"]
    for refused in vector["refused"]:
        with pytest.raises(RefusedError) as caught:
            header.parse_header(bytes.fromhex(refused["header"]))
        assert caught.value.reason.name == refused["reason"], refused["what"]


def test_one_claim_opens_from_its_paths() -> None:
    request, vector = read("request"), read("reply")
    opened, size = vector["opened"], len(vector["answers"])
    index = opened["index"]
    for leaf, path, root in (
        (request["claims"][index]["commitment"], opened["commitment_path"], request["request_root"]),
        (vector["answers"][index]["leaf"], opened["outcome_path"], vector["answer_root"]),
    ):
        nodes = [bytes.fromhex(node) for node in path]
        verify_inclusion(index, size, bytes.fromhex(leaf), nodes, bytes.fromhex(root))
        with pytest.raises(ProofError):
            verify_inclusion(index + 1, size, bytes.fromhex(leaf), nodes, bytes.fromhex(root))


def test_the_owner_stated_its_key() -> None:
    vector = read("owner_key")
    key, message, signature, public = unhex(vector, "key", "message", "signature", "signing_public_key")
    assert message == b"zhiwang/1/owner-key" + key
    assert reference.verified(public, signature, message)
    stated = sealed_pb2.OwnerKey.FromString(key)
    assert stated.key_id == sha256(stated.public_key).digest()[:16]


def test_the_trees_are_those_of_rfc_6962() -> None:
    leaves = [reference.leaf(bytes([number])) for number in range(7)]
    trees = {tree["size"]: tree for tree in read("log")["trees"]}
    for size, tree in trees.items():
        root = reference.root(leaves[:size])
        assert root.hex() == tree["root"]
        for index, path in enumerate(tree["inclusion"]):
            verify_inclusion(index, size, leaves[index], [bytes.fromhex(node) for node in path], root)
        for old, path in enumerate(tree["consistency"], 1):
            nodes = [bytes.fromhex(node) for node in path]
            verify_consistency(old, size, reference.root(leaves[:old]), root, nodes)


def test_the_checkpoint_covers_its_entry() -> None:
    vector = read("log")
    entry, leaf, public = unhex(vector, "entry", "entry_leaf_hash", "signing_public_key")
    assert reference.leaf(entry) == leaf
    assert reference.checkpoint(vector["checkpoint"], public) == ("shenzhen/health/adapter/main", 1, leaf)


def page_table(head: str) -> dict[str, str]:
    """First and second column of a table of docs/protocol.md."""
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = text.partition(f"| {head} | value |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip().strip("`") for cell in row.split("|")[1:3]] for row in rows]
    return {cell[0]: cell[1] for cell in cells}


def test_the_page_states_every_label() -> None:
    labels = {name: value.decode() for name, value in vars(commitments).items() if name.endswith(("_LABEL", "_INFO"))}
    assert page_table("label") == labels


def test_the_page_states_the_limits() -> None:
    known = {**vars(header), "MAX_IDENTIFIER": identifiers.MAX_IDENTIFIER, "MAX_NAME": names.MAX_NAME}
    stated = page_table("limit")
    assert len(stated) == 14
    assert {name: float(value) for name, value in stated.items()} == {name: known[name] for name in stated}
    limits = {name for name in vars(header) if name.startswith("MAX_")}
    assert limits <= stated.keys()
