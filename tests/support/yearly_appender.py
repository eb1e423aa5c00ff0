"""A process that appends to the log of the year, by a clock that its test sets, and says what it was promised.

`python yearly_appender.py WHERE SIGNER CLOCK GROUP`: opens the log in a file or at a URL with key, certificate and
authority from a PEM file and appends groups of GROUP entries until the file CLOCK says "stop"; otherwise that says the
time of the city. After each acknowledged group it prints a line with the log's origin, the first index and the hex of
the leaf hashes. It says "open" first and begins when it is sent a line.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from audit.postgres import open_postgres
from audit.sqlite import open_sqlite
from audit.yearly import YearlyLog
from certs.signing import CertificateVerifier, Signer
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.clock import CITY_TIME


def main() -> None:
    where, pem, told, group = sys.argv[1:]
    data, clock = Path(pem).read_bytes(), Path(told)
    key = load_pem_private_key(data, None)
    assert isinstance(key, Ed25519PrivateKey)
    own, authority = x509.load_pem_x509_certificates(data)
    signer = Signer(key, own)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for promises
    now = 0.0

    def goes_on() -> bool:
        nonlocal now
        text = clock.read_text()
        if text == "stop":
            return False
        now = datetime.fromisoformat(text).replace(tzinfo=CITY_TIME).timestamp()
        return True

    goes_on()
    engine = open_postgres(where) if "://" in where else open_sqlite(Path(where))
    verifier = CertificateVerifier(authority.public_bytes(Encoding.PEM), frozenset)
    log = YearlyLog(engine, signer, lambda: now, verifier=verifier)
    log.open()
    os.write(1, b"open\n")
    sys.stdin.readline()
    done = 0
    while goes_on():
        event = audit_pb2.AuditRead(reader=f"process {os.getpid()}", start=done)
        with log.transaction() as connection:
            appended = log.append(connection, [log.new_entry(event) for _ in range(int(group))])
        log.committed(appended)
        # One write: a line is whole or missing.
        hashes = ",".join(leaf.hex() for leaf in appended.leaf_hashes)
        os.write(1, f"{appended.origin} {appended.first} {hashes}\n".encode())
        done += 1
    log.close()


if __name__ == "__main__":
    main()
