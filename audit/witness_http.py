"""The HTTP side of a witness: one resource, strictly read, with a bound on everything a stranger can send or hold.

HTTP/1.1 (RFC 9110, RFC 9112) as far as a witness needs it: POST with a body of a stated length, connections that stay
open. Whatever is not of that form is refused and the connection closed, so no proxy before it can see another request
than this does. Nobody is authenticated: what counts is the log's signature in the body.
"""

from __future__ import annotations

import asyncio
import binascii
import re
import ssl
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import structlog

from audit.submission import CERTIFICATE_HEADER, MAX_SUBMISSION, PATH
from audit.witness import MALFORMED, Answer
from certs.signing import MAX_CERTIFICATE
from zhiwang.wire.errors import FatalError, Reason

MAX_HEAD: Final = 12_288
"""Bytes of a request's line and headers; a certificate in base64 takes half of it at most."""
HEAD_SECONDS: Final = 30.0
"""How long a connection may be open without a whole request head: at rest, or slow."""
BODY_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 10.0
"""How long an answer may take to be read."""
HANDSHAKE_SECONDS: Final = 5.0
MAX_CONNECTIONS: Final = 128
MAX_CONNECTIONS_EACH: Final = 16
"""Connections from one address, so that one host cannot keep the others out."""
STOP_SECONDS: Final = 5.0
"""How long what is being answered may take when the server stops."""

_REQUEST: Final = re.compile(r"([A-Z]{1,16}) (/[!-~]{0,1023}) HTTP/1\.([01])")
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH: Final = re.compile(r"[0-9]{1,9}")

_log = structlog.get_logger(__name__)


class _BadRequestError(Exception):
    """Ends a connection with an answer; what follows on it cannot be understood any more."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, f"{text}\n".encode())


@dataclass(frozen=True, slots=True)
class _Head:
    """A request without its body.

    Attributes:
        keep: Whether the connection stays open.
        headers: By lower-case name; none twice.
    """

    method: str
    path: str
    keep: bool
    headers: dict[str, str]

    @classmethod
    def parse(cls, raw: bytes) -> _Head:
        """Read it, strictly.

        Raises:
            _BadRequestError: It is not of the form that RFC 9112 gives.
        """
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        request = _REQUEST.fullmatch(first)
        if request is None:
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, "not a request of HTTP/1.1")
        headers: dict[str, str] = {}
        for line in lines:
            header = _HEADER.fullmatch(line)
            if header is None:
                raise _BadRequestError(HTTPStatus.BAD_REQUEST, "not a header")
            name = header[1].lower()
            if name in headers and name in {"content-length", "transfer-encoding", "connection", CERTIFICATE_HEADER}:
                raise _BadRequestError(HTTPStatus.BAD_REQUEST, f"{name} stands twice")
            headers[name] = header[2].strip(" \t")
        keep = request[3] == "1" and headers.get("connection", "").lower() != "close"
        return cls(request[1], request[2], keep, headers)

    @property
    def length(self) -> int:
        """Bytes of the body that follows.

        Raises:
            _BadRequestError: It is not said, or too much.
        """
        if "transfer-encoding" in self.headers:
            raise _BadRequestError(HTTPStatus.LENGTH_REQUIRED, "send the body with a Content-Length")
        text = self.headers.get("content-length", "0" if self.method != "POST" else "")
        if not text:
            raise _BadRequestError(HTTPStatus.LENGTH_REQUIRED, "send the body with a Content-Length")
        if not _LENGTH.fullmatch(text):
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, "not a Content-Length")
        if int(text) > MAX_SUBMISSION:
            raise _BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "larger than any submission")
        return int(text)

    @property
    def certificate(self) -> bytes:
        """The log's certificate, DER; empty if it did not come.

        Raises:
            _BadRequestError: It is not base64, or too long.
        """
        try:
            der = b64decode(self.headers.get(CERTIFICATE_HEADER, ""), validate=True)
        except (binascii.Error, ValueError):
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, f"{CERTIFICATE_HEADER} is not base64") from None
        if len(der) > MAX_CERTIFICATE:
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, f"{CERTIFICATE_HEADER} is too long")
        return der


class WitnessServer:
    """Serves one witness. Owned by the event loop.

    Args:
        add_checkpoint: Answers a submission; blocks, and is called in worker threads.
        observe: Told the status of each answer.
        tls: The server's certificate; None for plain HTTP, in tests.
    """

    def __init__(
        self,
        add_checkpoint: Callable[[bytes, bytes], Answer],
        observe: Callable[[int], None] = lambda _status: None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._add_checkpoint = add_checkpoint
        self._observe = observe
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: Counter[str] = Counter()
        # Connections by their tasks, and whether one is being answered right now.
        self._connections: dict[asyncio.Task[None], bool] = {}

    async def start(self, address: str) -> str:
        """Listen; gives the address, which tells the port if 0 was asked for.

        Raises:
            FatalError: INTERNAL: the address cannot be had.
        """
        host, _, port = address.rpartition(":")
        options = {} if self._tls is None else {"ssl_handshake_timeout": HANDSHAKE_SECONDS}
        try:
            self._server = await asyncio.start_server(
                self._connected, host.strip("[]"), int(port), limit=MAX_HEAD, ssl=self._tls, **options
            )
        except (OSError, ValueError, OverflowError) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            raise FatalError(Reason.INTERNAL, f"cannot listen on {address}: {said}") from None
        return f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Take nothing more, let what is being answered end, and close."""
        if self._server is None:
            return
        self._server.close()
        for task, busy in list(self._connections.items()):
            if not busy:
                task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=STOP_SECONDS)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        if task is None or len(self._connections) >= MAX_CONNECTIONS or self._open[peer] >= MAX_CONNECTIONS_EACH:
            writer.close()
            return
        self._connections[task] = False
        self._open[peer] += 1
        try:
            while await self._serve(task, reader, writer):
                pass
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
            # Gone, slow, or to be stopped; nobody is owed an answer.
            pass
        except Exception as error:  # noqa: BLE001 - one connection must not bring down the others unheard
            _log.error("a connection failed", exc_info=error)
        finally:
            del self._connections[task]
            self._open[peer] -= 1
            self._open += Counter()  # forgets who has none any more
            writer.close()

    async def _serve(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request; whether another may follow."""
        keep = False
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                raw = await reader.readuntil(b"\r\n\r\n")
            self._connections[task] = True
            head = _Head.parse(raw)
            answer = await self._answer(head, reader, writer)
            keep = head.keep and self._server is not None and self._server.is_serving()
        except asyncio.LimitOverrunError:
            answer = Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"larger than any head of a request\n")
        except _BadRequestError as error:
            answer = error.answer
        self._observe(answer.status)
        async with asyncio.timeout(ANSWER_SECONDS):
            await _send(writer, answer, keep=keep)
        self._connections[task] = False
        return keep

    async def _answer(self, head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        length = head.length
        certificate = head.certificate
        if head.headers.get("expect", "").lower() == "100-continue" and length:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with asyncio.timeout(BODY_SECONDS):
            body = await reader.readexactly(length)
        if head.path != PATH:
            return Answer(HTTPStatus.NOT_FOUND, b"this is a witness; it serves POST /add-checkpoint\n")
        if head.method != "POST":
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"POST a submission here\n")
        if not body:
            return Answer(MALFORMED, b"the body is empty\n")
        return await _in_thread(self._add_checkpoint, body, certificate)


def _in_thread(add: Callable[[bytes, bytes], Answer], body: bytes, certificate: bytes) -> Awaitable[Answer]:
    # Shielded: what is being written goes on when the connection is cut, and so does the answer's making.
    return asyncio.shield(asyncio.to_thread(add, body, certificate))


async def _send(writer: asyncio.StreamWriter, answer: Answer, *, keep: bool) -> None:
    lines = [
        f"HTTP/1.1 {int(answer.status)} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        f"Connection: {'keep-alive' if keep else 'close'}",
    ]
    if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: POST")
    writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
    await writer.drain()
