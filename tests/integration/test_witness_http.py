"""A witness's HTTP side on loopback: what a well-behaved client gets, and what a badly-behaved one cannot do."""

from __future__ import annotations

import asyncio
import http.client
import socket
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import audit_support as support
from audit import witness_http
from audit.submission import CERTIFICATE_HEADER, MAX_SUBMISSION, SIZE_TYPE, parse_size
from audit.witness_client import HttpWitness
from audit.witness_http import WitnessServer
from certs.identity import Kind, server_name
from certs_support import City
from witness_support import Kit, submission
from zhiwang.wire.errors import FatalError, RefusedError

PATIENCE = 30.0


class Served:
    def __init__(self, kit: Kit, server: WitnessServer, address: str) -> None:
        self.kit = kit
        self.server = server
        self.address = address
        self.host, _, port = address.rpartition(":")
        self.port = int(port)

    async def raw(self, sent: bytes, *, close: bool = False) -> bytes:
        """Everything that comes back until the server closes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(sent)
        if close:
            writer.write_eof()
        try:
            async with asyncio.timeout(PATIENCE):
                return await reader.read()
        finally:
            writer.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    kit = Kit(tmp_path / "witness")
    statuses: list[int] = []
    server = WitnessServer(kit.witness.add_checkpoint, statuses.append)
    address = await server.start("127.0.0.1:0")
    yield Served(kit, server, address)
    await server.stop()
    kit.close()


async def test_a_plain_client_of_another_make_is_served(served: Served, tmp_path: Path) -> None:
    log = support.make_store(tmp_path / "log.db")
    head = support.append(log, 9).head
    body = submission(log, head, 0)
    headers = {"Content-Type": "text/plain", CERTIFICATE_HEADER: b64encode(head.certificate).decode()}

    def ask() -> None:
        connection = http.client.HTTPConnection(served.host, served.port, timeout=PATIENCE)
        # Two over one connection: it stays open.
        for status in (200, 409):
            connection.request("POST", "/add-checkpoint", body, headers)
            response = connection.getresponse()
            data = response.read()
            assert response.status == status
        assert response.headers["content-type"] == SIZE_TYPE
        assert parse_size(data) == head.size
        for method, path, status in (
            ("GET", "/add-checkpoint", 405),
            ("POST", "/other", 404),
            ("GET", "/", 404),
            ("POST", "/add-checkpoint", 400),
        ):
            connection.request(method, path, "" if method == "POST" else None)
            response = connection.getresponse()
            response.read()
            assert response.status == status, (method, path)
        connection.close()

    await asyncio.to_thread(ask)
    support.close(log)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"rubbish\r\n\r\n", b"400"),
        (b"POST /add-checkpoint HTTP/2.0\r\n\r\n", b"400"),
        (b"POST  /add-checkpoint HTTP/1.1\r\n\r\n", b"400"),
        (b"POST add-checkpoint HTTP/1.1\r\n\r\n", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\n\r\n", b"411"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\na", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"POST /add-checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", b"411"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\n folded: 3\r\n\r\n", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nA: b\x00c\r\n\r\n", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nA: b\nContent-Length: 3\r\n\r\nabc", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_SUBMISSION + 1), b"413"),
        (b"POST /add-checkpoint HTTP/1.1\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", b"431"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1\r\nZhiwang-Certificate: %%\r\n\r\na", b"400"),
        (
            b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1\r\nZhiwang-Certificate: "
            + b64encode(bytes(5000))
            + b"\r\n\r\na",
            b"400",
        ),
        (b"POST /add-checkpoint HTTP/1.0\r\nContent-Length: 1\r\n\r\na", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", b"400"),
    ],
)
async def test_what_is_not_strictly_http_ends_the_connection(served: Served, sent: bytes, status: bytes) -> None:
    # What follows on the connection is not answered: it could be what somebody smuggled.
    answer = await served.raw(sent + b"GET /second HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(served: Served) -> None:
    reader, writer = await asyncio.open_connection(served.host, served.port)
    writer.write(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"old 0")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_slow_clients_are_ended_and_cut_bodies_do_no_harm(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness_http, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(witness_http, "BODY_SECONDS", 0.2)
    assert await served.raw(b"") == b""
    assert await served.raw(b"POST /add-check") == b""
    assert await served.raw(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 100\r\n\r\nold") == b""
    assert await served.raw(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 100\r\n\r\nold", close=True) == b""
    # Nobody's place is taken for good.
    assert (await served.raw(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")).startswith(b"HTTP/1.1 404")
    assert not served.server._connections
    assert not served.server._open


async def test_one_host_cannot_hold_every_connection(served: Served) -> None:
    streams = [
        await asyncio.open_connection(served.host, served.port) for _ in range(witness_http.MAX_CONNECTIONS_EACH)
    ]
    async with asyncio.timeout(PATIENCE):
        while len(served.server._connections) < witness_http.MAX_CONNECTIONS_EACH:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        assert await served.raw(b"") == b"", "the next one is closed at once"
    for _, writer in streams:
        writer.close()
    async with asyncio.timeout(PATIENCE):
        while served.server._connections:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.01)
    assert (await served.raw(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")).startswith(b"HTTP/1.1 404")


async def test_stopping_ends_idle_connections_and_lets_answers_out(served: Served) -> None:
    reader, writer = await asyncio.open_connection(served.host, served.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        await served.server.stop()
        while await reader.read(1000):
            pass
    writer.close()
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection(served.host, served.port)


async def test_a_taken_port_is_said(served: Served) -> None:
    with pytest.raises(FatalError, match="cannot listen"):
        await WitnessServer(served.kit.witness.add_checkpoint).start(served.address)


async def test_the_hub_reaches_a_witness_only_if_its_certificate_is_a_witnesses(tmp_path: Path) -> None:
    city = City.create(tmp_path / "city")
    kit = Kit(tmp_path / "witness")
    for short, reached in (("data/witness/main", True), ("data/registrar/main", False)):
        files = city.enrol(short)
        server = WitnessServer(kit.witness.add_checkpoint, tls=files.tls_server_context())
        client = HttpWitness(await server.start("127.0.0.1:0"), city.ca_pem, "shenzhen")
        if reached:
            for _ in range(3):
                assert (await client.submit(b"old 0\n\nx", b"")).status == 400
            # Renewed at the next handshake, without a restart.
            city.enrol(short)
            assert files.reload()
            await client.close()
            assert (await client.submit(b"old 0\n\nx", b"")).status == 400
        else:
            with pytest.raises(RefusedError, match=server_name("shenzhen", Kind.WITNESS)):
                await client.submit(b"", b"")
        await client.close()
        await server.stop()
    other = City.create(tmp_path / "other")
    server = WitnessServer(kit.witness.add_checkpoint, tls=city.enrol("data/witness/main").tls_server_context())
    client = HttpWitness(await server.start("127.0.0.1:0"), other.ca_pem, "shenzhen")
    with pytest.raises(RefusedError, match="issuer certificate"):
        await client.submit(b"", b"")
    await server.stop()
    kit.close()


# What another witness may answer. ------------------------------------------------------------------------------------


async def answering(*answers: bytes) -> tuple[asyncio.Server, HttpWitness, list[bytes]]:
    heads: list[bytes] = []
    left = list(answers)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while left:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(4)
                writer.write(left.pop(0))
                await writer.drain()
        except EOFError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return server, HttpWitness(f"http://127.0.0.1:{port}/prefix/", b"", "shenzhen"), heads


async def test_answers_of_other_servers_are_read_in_each_of_their_forms() -> None:
    server, client, heads = await answering(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 409 Conflict\r\ncontent-type: text/x.tlog.size; x=y\r\n"
        b"content-length: 3\r\n\r\n12\n",
        b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\nT: railer\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    )
    reply = await client.submit(b"body", b"")
    assert (reply.status, reply.content_type, reply.body) == (409, "text/x.tlog.size", b"12\n")
    reply = await client.submit(b"body", b"certificate")
    assert (reply.status, reply.body) == (200, b"abc")
    assert (await client.submit(b"body", b"")).body == b"until the end"
    assert all(head.startswith(b"POST /prefix/add-checkpoint HTTP/1.1\r\n") for head in heads)
    assert b64encode(b"certificate") in heads[1]
    await client.close()
    server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + (b"x" * 4096 + b"\r\n1000\r\n") * 6,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
    ],
)
async def test_an_answer_that_is_none_or_too_long_is_a_witness_that_is_away(answer: bytes) -> None:
    server, client, _ = await answering(answer)
    with pytest.raises(RefusedError):
        await client.submit(b"body", b"")
    await client.close()
    server.close()


async def test_a_witness_that_never_ends_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.witness_client.SECONDS", 0.3)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            for _ in range(1000):
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.01)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    client = HttpWitness(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", b"", "shenzhen")
    with pytest.raises(RefusedError):
        await client.submit(b"body", b"")
    await client.close()
    server.close()


async def test_a_connection_that_was_closed_at_rest_is_opened_anew() -> None:
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    server, client, heads = await answering(ok)
    assert (await client.submit(b"body", b"")).body == b"ok"
    server.close()
    again, other, _ = await answering(ok)
    client._port = other._port  # it came back elsewhere
    async with asyncio.timeout(PATIENCE):
        assert (await client.submit(b"body", b"")).body == b"ok"
    assert len(heads) == 1
    await client.close()
    again.close()


def test_nothing_listens_on_more_than_was_asked_for() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = HttpWitness(f"http://127.0.0.1:{port}", b"", "shenzhen")

    async def ask() -> None:
        with pytest.raises(RefusedError, match="Connect"):
            await client.submit(b"body", b"")

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("before", "again", "said"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "announcements, and no answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n", "more trailers"),
    ],
)
async def test_a_witness_that_never_comes_to_its_answer_is_left(before: bytes, again: bytes, said: str) -> None:
    sent = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            await reader.read(100)
            writer.write(before)
            while True:
                writer.write(again * 100)
                await writer.drain()
                sent += 100
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        witness = HttpWitness(f"http://{host}:{port}", b"", support.CITY)
        with pytest.raises(RefusedError, match=said):
            await witness.submit(b"x", b"")
        await witness.close()
