"""The certificates of one process: read, checked, used for TLS at both ends, and reloaded without a restart.

A server's TLS certificate changes at the next handshake. A client's cannot change inside a channel: listen with
`on_change` and build a new channel (`zhiwang.wire.channel.RenewableChannel`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certs.identity import (
    AUTH_CERTIFICATE,
    AUTH_KEY,
    AUTH_NEW_KEY,
    CA_CERTIFICATE,
    SIGNING_CERTIFICATE,
    SIGNING_KEY,
    SIGNING_NEW_KEY,
    Identity,
    read_private,
)
from certs.signing import MALFORMED, Purpose, Signer, check_issued, load_authorities, subject_of
from zhiwang.wire.errors import FatalError, Reason, RefusedError, ZhiwangError

RELOAD_SECONDS = 5.0
"""How often the files are looked at."""

_READINGS = 3
"""How often files that do not belong together are read again at once: they may have been replaced in between."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate is good, since the epoch."""

    start: float
    end: float

    @property
    def days(self) -> float:
        """Its length."""
        return (self.end - self.start) / 86_400


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One consistent reading of the files."""

    identity: Identity
    ca_pem: bytes
    auth_key_pem: bytes
    auth_pem: bytes
    signing_pem: bytes
    signer: Signer | None
    validities: Mapping[Purpose, Validity]
    ca_expires: float


class IdentityFiles:
    """An identity directory and a pinned root directory, as one process uses them.

    Owned by the event loop's thread; only the server's certificate fetcher runs elsewhere, and takes what is cached.

    Args:
        directory: Holds `auth.key`, `auth.pem` and, unless the identity only speaks TLS, `signing.key`, `signing.pem`.
        root_dir: Holds `ca.pem`.

    Raises:
        FatalError: CERTIFICATE_INVALID, if a file is missing, open to others, or the files do not belong together.
    """

    def __init__(self, directory: Path, root_dir: Path) -> None:
        self.directory = directory
        self.root_dir = root_dir
        self._loaded = self._load()
        self._listeners: list[Callable[[], None]] = []
        self._servers: list[deque[grpc.ServerCertificateConfiguration]] = []

    @property
    def identity(self) -> Identity:
        """Whom the certificates name."""
        return self._loaded.identity

    @property
    def ca_pem(self) -> bytes:
        """The pinned root's certificates."""
        return self._loaded.ca_pem

    @property
    def expires(self) -> float:
        """When the first of the certificates in use expires."""
        return min(validity.end for validity in self._loaded.validities.values())

    @property
    def validities(self) -> Mapping[Purpose, Validity]:
        """From when until when each certificate in use is good."""
        return self._loaded.validities

    @property
    def ca_expires(self) -> float:
        """When the last of the pinned certificates of the authority expires."""
        return self._loaded.ca_expires

    def check_valid(self, now: float) -> None:
        """Refuse before anything is dialled what the other side would refuse without saying why.

        Raises:
            RefusedError: CERTIFICATE_EXPIRED.
        """
        if now >= self.expires:
            raise RefusedError(
                Reason.CERTIFICATE_EXPIRED,
                f"{self.identity.short}: your own certificate has expired: zhiwang certs renew {self.directory}",
            )

    def signer(self) -> Signer:
        """The signer in force. Ask again for each use that may come after a reload.

        Raises:
            FatalError: CERTIFICATE_INVALID, if the directory has no signing certificate.
        """
        if self._loaded.signer is None:
            raise FatalError(Reason.CERTIFICATE_INVALID, f"{self.identity.short} has no {SIGNING_CERTIFICATE}")
        return self._loaded.signer

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a client, with the certificate in force at this moment."""
        loaded = self._loaded
        return grpc.ssl_channel_credentials(loaded.ca_pem, loaded.auth_key_pem, loaded.auth_pem)

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a server that demands a client certificate of this city. Reloads at the next handshake.

        Raises:
            FatalError: CERTIFICATE_INVALID, if this kind of identity does not serve.
        """
        if not self.identity.kind.serves:
            raise FatalError(Reason.CERTIFICATE_INVALID, f"{self.identity.short}: this kind of identity does not serve")
        pending: deque[grpc.ServerCertificateConfiguration] = deque(maxlen=1)
        self._servers.append(pending)

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Runs on a thread of gRPC at each handshake: takes what lies ready, or keeps what is in use.
            try:
                return pending.pop()
            except IndexError:
                return None

        return grpc.dynamic_ssl_server_credentials(
            self._server_configuration(), fetch, require_client_authentication=True
        )

    def tls_server_context(self) -> ssl.SSLContext:
        """For a server that does not speak gRPC: it shows its certificate and asks for none. Reloads by itself.

        Raises:
            FatalError: CERTIFICATE_INVALID, if this kind of identity does not serve.
        """
        if not self.identity.kind.serves:
            raise FatalError(Reason.CERTIFICATE_INVALID, f"{self.identity.short}: this kind of identity does not serve")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2

        def load() -> None:
            certificate = x509.load_pem_x509_certificate(self._loaded.auth_pem)
            found = find_key(self.directory, certificate, AUTH_KEY, AUTH_NEW_KEY)
            name = AUTH_KEY if found is None else found[0]
            context.load_cert_chain(self.directory / AUTH_CERTIFICATE, self.directory / name)

        load()
        self.on_change(load)
        return context

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each reload that changed something."""
        self._listeners.append(listener)

    def reload(self) -> bool:
        """Read the files again.

        What does not hold together (a certificate whose key has not been written yet) changes nothing and is logged.

        Returns:
            Whether anything changed.
        """
        try:
            loaded = self._load()
        except ZhiwangError as error:
            _log.warning("certificates not reloaded", detail=error.detail)
            return False
        before = self._loaded
        if (loaded.auth_pem, loaded.signing_pem, loaded.ca_pem) == (before.auth_pem, before.signing_pem, before.ca_pem):
            return False
        if loaded.identity != before.identity:
            _log.error("certificates not reloaded: they name another identity", found=loaded.identity.short)
            return False
        self._loaded = loaded
        for pending in self._servers:
            pending.append(self._server_configuration())
        for listener in self._listeners:
            try:
                listener()
            except Exception as error:  # noqa: BLE001 - one user of the certificates must not keep the others from renewing
                _log.error("a renewed certificate was not taken up", exc_info=error)
        _log.info("certificates reloaded", holder=loaded.identity.short, expires=self.expires)
        return True

    async def watch(self, interval: float = RELOAD_SECONDS) -> None:
        """Reload whenever the files change; runs until it is cancelled."""
        while True:
            await asyncio.sleep(interval)
            self.reload()

    def _server_configuration(self) -> grpc.ServerCertificateConfiguration:
        loaded = self._loaded
        return grpc.ssl_server_certificate_configuration(
            [(loaded.auth_key_pem, loaded.auth_pem)], root_certificates=loaded.ca_pem
        )

    def _load(self) -> _Loaded:
        try:
            for _ in range(_READINGS - 1):
                try:
                    return self._read()
                except _MixedError:
                    continue
            return self._read()
        except FileNotFoundError as error:
            name = Path(str(error.filename)).name
            raise FatalError(
                Reason.CERTIFICATE_INVALID, f"{name} is missing; was the certificate issued and copied here?"
            ) from None
        except PermissionError as error:
            raise FatalError(Reason.CERTIFICATE_INVALID, str(error)) from None
        except (OSError, *MALFORMED) as error:
            raise FatalError(
                Reason.CERTIFICATE_INVALID, f"a certificate or key cannot be read: {type(error).__name__}"
            ) from None

    def _read(self) -> _Loaded:
        ca_pem = (self.root_dir / CA_CERTIFICATE).read_bytes()
        authorities = load_authorities(ca_pem)
        auth_pem = (self.directory / AUTH_CERTIFICATE).read_bytes()
        auth = x509.load_pem_x509_certificate(auth_pem)
        key, auth_key_pem = self._key(auth, AUTH_CERTIFICATE, AUTH_KEY, AUTH_NEW_KEY)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise FatalError(Reason.CERTIFICATE_INVALID, f"{AUTH_KEY} is not a key for TLS")
        check_issued(auth, authorities)
        identity = subject_of(auth)
        validities: dict[Purpose, Validity] = {"auth": _validity(auth)}
        ca_expires = max(_validity(one).end for one in authorities)
        signing_path = self.directory / SIGNING_CERTIFICATE
        if not signing_path.exists():
            return _Loaded(identity, ca_pem, auth_key_pem, auth_pem, b"", None, validities, ca_expires)
        signing_pem = signing_path.read_bytes()
        signing = x509.load_pem_x509_certificate(signing_pem)
        check_issued(signing, authorities)
        signing_key, _ = self._key(signing, SIGNING_CERTIFICATE, SIGNING_KEY, SIGNING_NEW_KEY)
        if not isinstance(signing_key, Ed25519PrivateKey):
            raise FatalError(Reason.CERTIFICATE_INVALID, f"{SIGNING_KEY} is not an Ed25519 key")
        signer = Signer(signing_key, signing)
        if signer.identity != identity:
            raise FatalError(
                Reason.CERTIFICATE_INVALID, f"{SIGNING_CERTIFICATE} names another identity than {AUTH_CERTIFICATE}"
            )
        validities["signing"] = _validity(signing)
        return _Loaded(identity, ca_pem, auth_key_pem, auth_pem, signing_pem, signer, validities, ca_expires)

    def _key(self, certificate: x509.Certificate, name: str, key_name: str, new_name: str) -> tuple[Any, bytes]:
        """The private key of a certificate, and its file's bytes.

        The certificate chooses: replacing its file is the one step by which a fresh key takes the old one's place, and
        there is no moment at which a reader finds neither. The new one is looked at first, since it gets the other's
        name afterwards.
        """
        found = find_key(self.directory, certificate, key_name, new_name)
        if found is None:
            raise _MixedError(Reason.CERTIFICATE_INVALID, f"{name} is not the certificate of {key_name}")
        return found[1], found[2]


def _validity(certificate: x509.Certificate) -> Validity:
    return Validity(certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp())


class _MixedError(FatalError):
    """Certificate and key do not belong together, at this reading."""


def find_key(directory: Path, certificate: x509.Certificate, *names: str) -> tuple[str, Any, bytes] | None:
    """The private key of a certificate among files of an identity directory.

    Args:
        directory: Where they lie.
        certificate: Whose key.
        names: Name of the key's file, then that of the fresh key, which need not be there.

    Returns:
        The file's name, the key, and the file's bytes; None if none of them is the certificate's.

    Raises:
        FileNotFoundError: There is none at all.
        PermissionError: One of them is open to others.
        ValueError: One of them holds no key.
    """
    missing: FileNotFoundError | None = None
    public = certificate.public_key()
    for name in reversed(names):
        try:
            pem = read_private(directory / name)
        except FileNotFoundError as error:
            missing = error
            continue
        key = load_pem_private_key(pem, None)
        if key.public_key() == public:
            return name, key, pem
        missing = None
    if missing is not None:
        raise missing
    return None
