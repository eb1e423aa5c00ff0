"""A process that is killed at one statement of the turn of the year, or of a removal.

`python yearly_killed.py DB SIGNER NOW STEP WHAT`: opens the log at the time NOW with key and certificate from a PEM
file, then appends one entry ("roll") or removes the first year ("remove"), and kills itself before the STEP-th
statement from there on. With STEP 0 it comes to the end, and prints how many there were.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import event

from audit.holds import HoldBook
from audit.retention import remove
from audit.sqlite import open_sqlite
from audit.yearly import YearlyLog
from certs.signing import Signer
from zhiwang.audit.v1 import audit_pb2


def main() -> None:
    path, pem, now, step, what = sys.argv[1:]
    data = Path(pem).read_bytes()
    key = load_pem_private_key(data, None)
    assert isinstance(key, Ed25519PrivateKey)
    signer = Signer(key, x509.load_pem_x509_certificate(data))
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    engine = open_sqlite(Path(path))
    left = int(step) or 1 << 60
    armed = False

    def trace(_statement: str) -> None:
        nonlocal left
        if armed:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    @event.listens_for(engine, "checkout")
    def watch(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_trace_callback(trace)

    log = YearlyLog(engine, signer, lambda: float(now))
    log.open()
    armed = True
    if what == "roll":
        with log.transaction() as connection:
            read = audit_pb2.AuditRead(reader="process", start=1)
            appended = log.append(connection, [log.new_entry(read)])
        log.committed(appended)
    else:
        remove(log, HoldBook(log), log.log, years=1, now=float(now), note="x")
    armed = False
    os.write(1, f"done {(1 << 60) - left}\n".encode())
    log.close()


if __name__ == "__main__":
    main()
