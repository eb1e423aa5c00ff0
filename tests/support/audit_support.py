"""A log for tests: real authority, certificates and files; and the checker with which every test of a log ends."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from audit.appended import Appended, NewEntry
from audit.checkpoint import open_note
from audit.proofs import HeadChecker
from audit.query import Scope, scope_of
from audit.store import LogStore
from audit.yearly import YearlyLog
from certs.ca import Authority
from certs.identity import Identity, Kind
from certs.signing import CertificateVerifier, Signer
from log_places import Place, as_place
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError

CITY = "shenzhen"
HUB = Identity(CITY, "centre", Kind.HUB, "main")
ADAPTER = Identity(CITY, "hrss", Kind.ADAPTER, "main")


@lru_cache(maxsize=1)
def authority() -> Authority:
    directory = Path(tempfile.mkdtemp(prefix="zhiwang-ca-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Authority.create(directory, CITY, now=datetime.now(UTC) - timedelta(days=90))


def signer(identity: Identity = HUB, number: int = 0, *, days_ago: int = 0, days: float = 365) -> Signer:
    """The `number`-th signer of an identity, whose certificate begins `days_ago`; the same for the same arguments."""
    return _signer(identity, number, days_ago, days)


@lru_cache(maxsize=64)
def _signer(identity: Identity, number: int, days_ago: int, days: float) -> Signer:
    del number
    key = Ed25519PrivateKey.generate()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)]), critical=False)
        .sign(key, None)
    )
    pem = authority().issue(
        request.public_bytes(Encoding.PEM), now=datetime.now(UTC) - timedelta(days=days_ago), days=days
    )
    return Signer(key, x509.load_pem_x509_certificate(pem))


def see_everything(reader: Identity) -> Scope:
    """Auditors of the audit office, as the directory would say."""
    return scope_of(reader, "centre", office=True)


def verifier(revoked: Collection[int] = ()) -> CertificateVerifier:
    return CertificateVerifier(authority().certificate_pem, lambda: revoked)


def checker(*kinds: Kind, **options: object) -> HeadChecker:
    return HeadChecker(verifier(), kinds=kinds or (Kind.HUB,), **options)  # type: ignore[arg-type]  # options of the checker


def make_store(place: Path | Place, identity: Identity = HUB, *, guard: Path | None = None) -> LogStore:
    store = LogStore(as_place(place).create(), identity.log_origin, signer(identity), guard=guard, verifier=verifier())
    store.create()
    return store


def reopen(place: Path | Place, identity: Identity = HUB, *, guard: Path | None = None, number: int = 0) -> LogStore:
    """The log as another process would open it."""
    store = LogStore(
        as_place(place).open(), identity.log_origin, signer(identity, number), guard=guard, verifier=verifier()
    )
    try:
        store.open()
    except FatalError:
        close(store)
        raise
    return store


def close(*stores: LogStore | YearlyLog) -> None:
    for store in stores:
        store.close()
        store.engine.dispose()


def event(number: int = 1) -> audit_pb2.AuditRead:
    return audit_pb2.AuditRead(
        reader="spiffe://shenzhen/audit/auditor/one", method="ListEntries", start=number, count=1
    )


def new_entries(store: LogStore | YearlyLog, count: int, first: int = 0) -> list[NewEntry]:
    return [store.new_entry(event(first + number)) for number in range(count)]


def append(store: LogStore | YearlyLog, count: int) -> Appended:
    """Append `count` entries in a transaction of their own."""
    with store.transaction() as connection:
        appended = store.append(connection, new_entries(store, count))
    store.committed(appended)
    return appended


def rows(store: LogStore) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    with store.reading.connect() as connection:
        for row in connection.exec_driver_sql("SELECT idx, key, leaf_hash, data FROM log_entry ORDER BY idx"):
            yield tuple(row)


def check_log(place: Path | Place, *acknowledged: Appended, identity: Identity = HUB) -> int:
    """The invariants of a stored log, by code that shares nothing with the store but the hash functions.

    Indexes have no gaps, keys are unique, every leaf hash is that of its data, the root is the root over them, its
    checkpoint is signed and says the same, and every acknowledged entry is where its proof says. Returns the size.
    """
    store = reopen(place, identity)
    try:
        entries = list(rows(store))
        assert [row[0] for row in entries] == list(range(len(entries)))
        assert len({row[1] for row in entries}) == len(entries)
        leaves = [merkle.leaf_hash(row[3]) for row in entries]
        assert leaves == [row[2] for row in entries]
        tree = merkle.Tree(leaves)
        with store.reading.connect() as connection:
            size, root, note, certificate = connection.exec_driver_sql(
                "SELECT size, root, checkpoint, certificate FROM log_head"
            ).one()
            tiles = connection.exec_driver_sql("SELECT level, idx, hashes FROM log_tile ORDER BY level, idx").all()
        assert (size, root) == (len(entries), tree.root)
        key = verifier().verify(certificate, datetime.now(UTC).timestamp()).public_key_raw
        checkpoint = open_note(note, identity.log_origin, key)
        assert (checkpoint.size, checkpoint.root) == (size, root)
        assert [(level, index, hashes) for level, index, hashes in tiles] == _expected_tiles(leaves)
        for appended in acknowledged:
            older = merkle.Tree(leaves[: appended.size])
            assert appended.head.root == older.root
            for index, data, path_ in zip(appended.indexes, appended.entries, appended.paths, strict=True):
                assert entries[index][3] == data
                assert list(path_) == older.path(index)
        assert store.verify_all().size == size
        return int(size)
    finally:
        close(store)


def _expected_tiles(leaves: list[bytes]) -> list[tuple[int, int, bytes]]:
    found: list[tuple[int, int, bytes]] = []
    level, hashes = 0, leaves
    while len(hashes) >= 256:
        complete = len(hashes) // 256
        found += [(level, i, b"".join(hashes[256 * i : 256 * (i + 1)])) for i in range(complete)]
        hashes = [merkle.Tree(hashes[256 * i : 256 * (i + 1)]).root for i in range(complete)]
        level += 1
    return found


def write_signer(path: Path, identity: Identity = HUB, *, number: int = 0) -> None:
    """Key and certificate of a signer of an identity, and the authority's, for another process."""
    ours = signer(identity, number)
    key = ours._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(
        key
        + x509.load_der_x509_certificate(ours.certificate_der).public_bytes(Encoding.PEM)
        + authority().certificate_pem
    )
