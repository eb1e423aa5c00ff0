"""A process that appends to a log and says what it was promised, to be killed or to compete with others.

`python audit_appender.py DB SIGNER COUNT GROUP`: opens the log in a file or at a URL with key, certificate and
authority from a PEM file, appends COUNT groups of GROUP entries (for ever if COUNT is 0) and prints, after each
acknowledged one, a line with its first index, its size, and the hex of its leaf hashes. It says "open" first and
begins when it is sent a line.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from audit.postgres import open_postgres
from audit.sqlite import open_sqlite
from audit.store import LogStore
from certs.signing import CertificateVerifier, Signer
from zhiwang.audit.v1 import audit_pb2


def main() -> None:
    where, pem, count, group = sys.argv[1:]
    data = Path(pem).read_bytes()
    key = load_pem_private_key(data, None)
    assert isinstance(key, Ed25519PrivateKey)
    own, authority = x509.load_pem_x509_certificates(data)
    signer = Signer(key, own)
    verifier = CertificateVerifier(authority.public_bytes(Encoding.PEM), frozenset)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for promises
    in_file = "://" not in where
    engine = open_sqlite(Path(where)) if in_file else open_postgres(where)
    store = LogStore(engine, signer.identity.log_origin, signer, verifier=verifier)
    store.open()
    os.write(1, b"open\n")
    sys.stdin.readline()
    done = 0
    while done < int(count) or int(count) == 0:
        event = audit_pb2.AuditRead(reader=f"process {os.getpid()}", start=done)
        entries = [store.new_entry(event) for _ in range(int(group))]
        with store.transaction() as connection:
            appended = store.append(connection, entries)
            if in_file:
                connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS charge (first INTEGER PRIMARY KEY)")
                connection.exec_driver_sql("INSERT INTO charge VALUES (?)", (appended.first,))
        store.committed(appended)
        # One write: a line is whole or missing.
        hashes = ",".join(leaf.hex() for leaf in appended.leaf_hashes)
        os.write(1, f"{appended.first} {appended.size} {hashes}\n".encode())
        done += 1
    store.close()


if __name__ == "__main__":
    main()
