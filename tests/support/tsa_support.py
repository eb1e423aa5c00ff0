"""A time-stamping authority of the test's own: certificates by `cryptography`, answers by OpenSSL's `ts`."""

from __future__ import annotations

import http.server
import importlib.util
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

needs_tsa = pytest.mark.skipif(
    shutil.which("openssl") is None or importlib.util.find_spec("rfc3161_client") is None,
    reason="OpenSSL's command or the extra `timestamps` (rfc3161-client) is not installed",
)

SETTINGS = """
[tsa]
default_tsa = one
[one]
serial = {directory}/serial
signer_cert = {directory}/tsa.pem
signer_key = {directory}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = {digests}
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class Tsa:
    """An authority in a directory.

    Args:
        directory: New.
        name: Of the authority.
        digests: Hashes that it takes.

    Attributes:
        root_path: PEM of the certificate that others pin.
        asked: Queries that it got.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "Test TSA",
        digests: str = "sha256",
    ) -> None:
        directory.mkdir()
        self._directory = directory
        self.root_path = directory / "ca.pem"
        self.asked: list[bytes] = []
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        ca_name = _name(f"{name} CA")
        ca = (
            x509.CertificateBuilder(ca_name, ca_name, ca_key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(ca_key, hashes.SHA256())
        )
        certificate = (
            x509.CertificateBuilder(ca_name, _name(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
            .sign(ca_key, hashes.SHA256())
        )
        self.root_path.write_bytes(ca.public_bytes(Encoding.PEM))
        (directory / "tsa.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (directory / "tsa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (directory / "serial").write_text("01\n")
        (directory / "openssl.cnf").write_text(SETTINGS.format(directory=directory, digests=digests))

    @property
    def root(self) -> tuple[x509.Certificate, ...]:
        return (x509.load_pem_x509_certificate(self.root_path.read_bytes()),)

    def ask(self, query: bytes) -> bytes:
        """What it answers to a query."""
        self.asked.append(query)
        (self._directory / "query").write_bytes(query)
        subprocess.run(
            ["openssl", "ts", "-reply", "-config", "openssl.cnf", "-queryfile", "query", "-out", "answer"],  # noqa: S607 - whichever is installed
            cwd=self._directory,
            capture_output=True,
            check=True,
        )
        return (self._directory / "answer").read_bytes()

    @contextmanager
    def serving(self, status: int = 200) -> Iterator[str]:
        """Its address, while it answers over HTTP on loopback."""
        tsa = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/timestamp-query"
                answer = tsa.ask(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_arguments: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
