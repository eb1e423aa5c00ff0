"""A scene of a whole adapter's store: sealed requests are answered, and nothing is answered that is not recorded.

Entry, replay row, charges and sealed reply stand or fall together, so afterwards there is a replay row for every entry
of an answer, and for every answer that anybody got.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from adapter_frames import Bureau, grants
from adapter_support import NOW, attribute, resident
from adapters.config import StateFiles
from adapters.store import open_store
from audit.checkpoint import CheckpointError, open_note
from audit.entry import decode_entry
from campaign.child import Said, Voice
from campaign.judge import REMEDY, Outcome, Verdict
from campaign.scene import Scene
from campaign.scenes import nothing
from certs.signing import Signer
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import merkle

PEOPLE: Final = tuple(resident(serial) for serial in range(1, 6))
TABLES: Final = "CREATE TABLE person (id_card TEXT, name TEXT, months INTEGER);\nCREATE INDEX by_id ON person (id_card)"
MAPPING: Final = """
[data.person]
table = "person"
subject = "id_card"
name = "name"
[attribute.months]
data = "person"
value = "months"
"""
CLAIM: Final = "child: hrss.months at_least 12"


def answering(directory: Path, voice: Voice) -> Iterator[None]:
    """An adapter answers frames of one and of several requests; what failed is asked again, with the same bytes."""
    bureau = Bureau(
        directory,
        tables=TABLES,
        rows={"person": [(one, "某某", 12 + number) for number, one in enumerate(PEOPLE)]},
        mapping=MAPPING,
        published=attribute("months", 'type = "integer"\nat_least = [12]') + grants(["hrss.months at_least"]),
    )
    signer = bureau.identity.signer()
    (directory / "signer.pem").write_bytes(
        signer._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + x509.load_der_x509_certificate(signer.certificate_der).public_bytes(Encoding.PEM)
    )
    requests = [bureau.request([CLAIM], [{"child": (one, "某某")}]) for one in PEOPLE]
    bureau.send(requests[0])
    yield
    for asked in ([requests[1]], requests[2:]) * 2:
        frame = adapter_pb2.RequestFrame()
        for number, request in enumerate(asked, 1):
            frame.items.add(correlation_id=number, request=request)
        reply = bureau.frames.process(frame)
        for request, item in zip(asked, reply.items, strict=True):
            if item.HasField("reply"):
                bureau.check(reply, request, item)
                leaf = merkle.leaf_hash(item.entry.entry).hex()
                voice.say("answered", index=item.entry.index, leaf=leaf, note=reply.log.checkpoint.decode())
            else:
                voice.say("withheld", reason=item.reason)


def _signer(directory: Path) -> Signer:
    data = (directory / "signer.pem").read_bytes()
    key = load_pem_private_key(data, None)
    assert isinstance(key, Ed25519PrivateKey)
    return Signer(key, x509.load_pem_x509_certificate(data))


def going_on(directory: Path, voice: Voice) -> Iterator[None]:
    """The next start."""
    yield
    log = open_store(StateFiles.alone(directory / "state"), _signer(directory), clock=lambda: NOW)
    with log.transaction() as connection:
        appended = log.append(connection, [log.new_entry(audit_pb2.Refusal(reason="OWNER_FAILED", count=1))])
    log.committed(appended)
    log.verify_all()
    voice.say("verified")
    log.close()
    log.engine.dispose()


def judge(directory: Path, said: Sequence[Said]) -> Verdict:
    """Every answer stands in the log, at its place, under the checkpoint that came with it; nothing is half there."""
    for one in said:
        if one.broken:
            return Verdict(Outcome.FAILED, f"a process ended with {one.broken[0]}")
    last = said[-1]
    if not last.of("verified"):
        words = last.refusals[-1] if last.refusals else "the next start neither went on nor refused"
        return Verdict(Outcome.REFUSED if REMEDY.search(words) else Outcome.FAILED, words)
    wrong = _wrong(directory, [word for one in said for word in one.of("answered")])
    return Verdict(Outcome.FAILED if wrong else Outcome.SURVIVED, wrong)


def _wrong(directory: Path, answered: Sequence[Mapping[str, Any]]) -> str:
    with closing(sqlite3.connect(directory / "state" / "adapter.db")) as connection:
        entries = [data for (data,) in connection.execute("SELECT data FROM log_entry ORDER BY idx")]
        replied = {index for (index,) in connection.execute("SELECT entry FROM replay")}
        (note,) = connection.execute("SELECT checkpoint FROM log_head").fetchone()
    leaves = [merkle.leaf_hash(data) for data in entries]
    accesses = {number for number, data in enumerate(entries) if decode_entry(data).HasField("owner_access")}
    if replied != accesses:
        return "entries of answers and kept replies differ"
    for word in answered:
        if word["index"] not in accesses or leaves[word["index"]].hex() != word["leaf"]:
            return f"answered, and not in the log: {word['index']}"
    signer = _signer(directory)
    try:
        for shown in (note, *(str(word["note"]).encode() for word in answered)):
            checkpoint = open_note(shown, signer.identity.log_origin, signer.public_key_raw)
            if merkle.Tree(leaves[: checkpoint.size]).root != checkpoint.root or checkpoint.size > len(leaves):
                return f"a checkpoint over {checkpoint.size} entries is of another history"
    except CheckpointError as error:
        return f"a checkpoint that somebody has: {error}"
    return ""


SCENES: Final = (Scene("adapter answers", nothing, answering, going_on, judge),)
