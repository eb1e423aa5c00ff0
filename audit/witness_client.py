"""How a log's keeper reaches a witness: HTTP/1.1 over a connection that stays open, bounded in time and in bytes.

What comes back is believed in nothing but its form: cosignatures are verified by whoever asked.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import Final, Protocol
from urllib.parse import urlsplit

from audit.submission import CERTIFICATE_HEADER, MAX_ANSWER, PATH, TEXT_TYPE
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Kind, server_name

SECONDS: Final = 10.0
"""How long a witness may take for everything, from the name's look-up to the last byte."""
MAX_HEAD: Final = 16_384

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,6})(?:;[^\r\n]*)?\r\n")
_INTERIM: Final = 200
"""Statuses below only announce an answer."""
_MAX_INTERIM: Final = 8
_MAX_TRAILERS: Final = 32
"""What is read of those, and of the fields behind an answer in chunks: without a bound they would
take the time of all."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a witness answered.

    Attributes:
        content_type: Without its parameters.
        body: At most `MAX_ANSWER` bytes.
    """

    status: int
    content_type: str
    body: bytes


class WitnessClient(Protocol):
    """Reaches one witness. Used by one task at a time."""

    async def submit(self, body: bytes, certificate: bytes) -> Reply:
        """Send a submission.

        Args:
            body: From `Submission.encode`.
            certificate: DER of the certificate of the key that signed the checkpoint.

        Raises:
            RefusedError: HUB_UNREACHABLE: no answer came, or none that can be read.
        """

    async def close(self) -> None:
        """Close the connection."""


class HttpWitness:
    """A witness behind an address.

    Args:
        address: "host:port" of a witness with a certificate of this city, or the URL of another, whose certificate an
            authority issued that this machine trusts.
        ca_pem: The pinned authority of this city.
        city: Its name.
    """

    def __init__(self, address: str, ca_pem: bytes, city: str) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._tls: ssl.SSLContext | None = None
        self._server_name: str | None = None
        prefix = ""
        if "://" in address:
            parts = urlsplit(address)
            prefix = parts.path.rstrip("/")
            self._host = parts.hostname or ""
            self._port = parts.port or (443 if parts.scheme == "https" else 80)
            authority = parts.netloc.rpartition("@")[2]
            if parts.scheme == "https":
                self._tls = ssl.create_default_context()
                self._server_name = self._host
        else:
            host, _, port = address.rpartition(":")
            self._host, self._port, authority = host.strip("[]"), int(port), address
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls.load_verify_locations(cadata=ca_pem.decode("ascii"))
            self._server_name = server_name(city, Kind.WITNESS)
        self._head = f"POST {prefix}{PATH} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: {TEXT_TYPE}\r\n"

    async def submit(self, body: bytes, certificate: bytes) -> Reply:
        """As `WitnessClient.submit`."""
        head = f"{self._head}Content-Length: {len(body)}\r\n"
        if certificate:
            head += f"{CERTIFICATE_HEADER}: {b64encode(certificate).decode()}\r\n"
        message = f"{head}\r\n".encode("ascii") + body
        try:
            async with asyncio.timeout(SECONDS):
                if self._streams is not None:
                    # The other end may have closed it while it was at rest. A submission may be sent twice.
                    with suppress(OSError, EOFError):
                        return await self._exchange(message)
                    await self.close()
                self._streams = await asyncio.open_connection(
                    self._host, self._port, limit=MAX_HEAD, ssl=self._tls, server_hostname=self._server_name
                )
                return await self._exchange(message)
        except (OSError, EOFError, TimeoutError, ValueError, HTTPException, asyncio.LimitOverrunError) as error:
            await self.close()
            said = getattr(error, "verify_message", "") or str(error) or "no answer in time"
            raise RefusedError(Reason.HUB_UNREACHABLE, f"{self._address}: {type(error).__name__}: {said}") from None
        except BaseException:
            # Cancelled in between: what comes on this connection would be taken for the answer to another request.
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()

    async def _exchange(self, message: bytes) -> Reply:
        if self._streams is None:
            raise EOFError
        reader, writer = self._streams
        writer.write(message)
        await writer.drain()
        status, headers = await _read_head(reader)
        body = await _read_body(reader, headers)
        if body is None:
            # Its end is the connection's.
            body = await _read_rest(reader)
            await self.close()
        elif headers.get("connection", "").lower() == "close":
            await self.close()
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return Reply(status, kind, body)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    for _ in range(1 + _MAX_INTERIM):
        raw = await reader.readuntil(b"\r\n\r\n")
        first = _STATUS.match(raw)
        if first is None:
            raise ValueError("not an answer of HTTP/1.1")
        if int(first[1]) >= _INTERIM:
            headers = parse_headers(BytesIO(raw[first.end() :]))
            return int(first[1]), {name.lower(): value for name, value in headers.items()}
    raise ValueError("announcements, and no answer")


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes | None:
    """The body, if its length is told."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _read_chunks(reader)
    length = headers.get("content-length")
    if length is None:
        return None
    if not length.isascii() or not length.isdigit() or len(length) > len(str(MAX_ANSWER)) or int(length) > MAX_ANSWER:
        raise ValueError("an answer longer than any of a witness")
    return await reader.readexactly(int(length))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        line = _CHUNK.fullmatch(await reader.readuntil(b"\r\n"))
        size = -1 if line is None else int(line[1], 16)
        if size < 0 or len(body) + size > MAX_ANSWER:
            raise ValueError("not the chunks of an answer of a witness")
        if not size:
            for _ in range(1 + _MAX_TRAILERS):
                if await reader.readuntil(b"\r\n") == b"\r\n":
                    return body
            raise ValueError("more trailers than any of a witness")
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("not the chunks of an answer of a witness")


async def _read_rest(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while piece := await reader.read(MAX_ANSWER):
        body += piece
        if len(body) > MAX_ANSWER:
            raise ValueError("an answer longer than any of a witness")
    return body
