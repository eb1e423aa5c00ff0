from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from certs_support import City
from zhiwang.wire.call import LOCAL, Peer, PeerTable, current_peer
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.errors import DOMAIN, Reason, RefusedError
from zhiwang.wire.identity import Kind
from zhiwang.wire.metrics import RpcMetrics, make_registry
from zhiwang.wire.server import Server, build_server, is_local, status_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "11010519491231002X"


def over_the_wire(error: RefusedError, call_id: str = "") -> grpc.aio.AioRpcError:
    """What a client gets of it."""
    status = rpc_status.to_status(status_of(error, call_id))
    return grpc.aio.AioRpcError(
        status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata), details=status.details
    )


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_real_status_and_comes_back_as_itself(reason: Reason) -> None:
    received = over_the_wire(RefusedError(reason))
    assert received.code() is grpc.StatusCode[reason.status]
    assert received.code() not in {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED}
    assert refusal_of(received).reason is reason


def test_the_public_form_says_reason_field_facts_and_both_languages_and_keeps_the_detail() -> None:
    error = RefusedError(
        Reason.CLOCK_SKEW, f"detail about {SECRET}", field="context.matter", metadata={"clock_offset_ms": "6000"}
    )
    status = status_of(error)
    assert SECRET not in str(status)
    info, chinese, bad = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.LocalizedMessage(),
        error_details_pb2.BadRequest(),
    )
    for message, packed in zip((info, chinese, bad), status.details, strict=True):
        assert packed.Unpack(message)
    assert (info.reason, info.domain, info.metadata["clock_offset_ms"]) == ("CLOCK_SKEW", DOMAIN, "6000")
    assert (chinese.locale, chinese.message) == ("zh-CN", Reason.CLOCK_SKEW.value.zh)
    assert bad.field_violations[0].field == "context.matter"
    received = refusal_of(over_the_wire(error))
    assert (received.reason, received.field, received.metadata) == (error.reason, error.field, error.metadata)


def test_an_internal_error_tells_under_which_id_the_log_has_it() -> None:
    assert refusal_of(over_the_wire(RefusedError(Reason.INTERNAL), "abc")).metadata == {"call_id": "abc"}
    assert refusal_of(over_the_wire(RefusedError(Reason.NOT_GRANTED), "abc")).metadata == {}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.HUB_UNREACHABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED),
        (grpc.StatusCode.UNIMPLEMENTED, Reason.RPC_NOT_ALLOWED),
        (grpc.StatusCode.DATA_LOSS, Reason.INTERNAL),
    ],
)
def test_a_status_of_somebody_else_gets_the_nearest_reason_and_its_text_is_dropped(
    code: grpc.StatusCode, reason: Reason
) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=SECRET)
    assert refusal_of(error).reason is reason
    assert SECRET not in str(refusal_of(error))


@given(st.binary(max_size=200))
def test_details_that_are_not_ours_are_survived(value: bytes) -> None:
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", value))
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), metadata)
    assert refusal_of(error).reason in Reason


@pytest.mark.parametrize(("domain", "reason"), [("example.com", "NOT_GRANTED"), (DOMAIN, "NO_SUCH_REASON")])
def test_a_reason_outside_the_catalogue_is_not_believed(domain: str, reason: str) -> None:
    status = status_of(RefusedError(Reason.NOT_GRANTED))
    info = error_details_pb2.ErrorInfo(domain=domain, reason=reason)
    status.details[0].Pack(info)
    raw = rpc_status.to_status(status)
    error = grpc.aio.AioRpcError(raw.code, grpc.aio.Metadata(), grpc.aio.Metadata(*raw.trailing_metadata))
    assert refusal_of(error).reason is Reason.RPC_NOT_ALLOWED


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    return City.create(tmp_path_factory.mktemp("city"), now=NOW)


def context(directory: Path, *uris: str) -> Mapping[str, list[bytes]]:
    """What gRPC says of a caller with this certificate."""
    return {
        "transport_security_type": [b"ssl"],
        "x509_pem_cert": [(directory / "auth.pem").read_bytes()],
        "peer_uri": [uri.encode() for uri in uris],
    }


def test_a_peer_is_what_its_only_uri_and_its_certificate_say(city: City) -> None:
    files = city.enrol("edu/system/enrolment", now=NOW)
    table = PeerTable("shenzhen", clock=NOW.timestamp)
    peer = table.identify(context(files.directory, files.identity.uri))
    certificate = x509.load_pem_x509_certificate((files.directory / "auth.pem").read_bytes())
    assert peer.identity == files.identity
    assert peer.caller is Kind.SYSTEM
    assert peer.serial == certificate.serial_number
    assert peer.fingerprint == hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    peer.check()
    assert table.identify(context(files.directory, files.identity.uri)) is peer


def test_a_peer_without_one_identity_of_the_city_is_refused(city: City) -> None:
    files = city.enrol("edu/system/enrolment", now=NOW)
    uri = files.identity.uri
    for table, uris in (
        (PeerTable("guangzhou"), [uri]),
        (PeerTable(None), [uri]),
        (PeerTable("shenzhen"), []),
        (PeerTable("shenzhen"), [uri, uri]),
        (PeerTable("shenzhen"), ["https://shenzhen/edu/system/enrolment"]),
        (PeerTable("shenzhen"), ["spiffe://shenzhen/edu/system/\u00e9"]),
    ):
        with pytest.raises(RefusedError) as caught:
            table.identify(context(files.directory, *uris))
        assert caught.value.reason is Reason.CERTIFICATE_INVALID
    with pytest.raises(RefusedError):
        PeerTable("shenzhen").identify({"transport_security_type": [b"ssl"]})


def test_a_peer_is_checked_against_clock_and_revocation_each_time(city: City) -> None:
    files = city.enrol("edu/system/enrolment", now=NOW)
    now, revoked = [NOW.timestamp()], set[int]()
    peer = PeerTable("shenzhen", lambda: revoked, lambda: now[0]).identify(context(files.directory, files.identity.uri))
    peer.check()
    now[0] = files.expires + 1
    with pytest.raises(RefusedError) as caught:
        peer.check()
    assert caught.value.reason is Reason.CERTIFICATE_EXPIRED
    now[0] = NOW.timestamp()
    revoked.add(peer.serial)
    with pytest.raises(RefusedError) as caught:
        peer.check()
    assert caught.value.reason is Reason.CERTIFICATE_REVOKED


def test_a_local_caller_has_no_identity_to_take() -> None:
    peer = PeerTable(None).identify({})
    assert peer.local
    assert peer.caller is LOCAL
    peer.check()
    with pytest.raises(RefusedError) as caught:
        _ = peer.identity
    assert caught.value.reason is Reason.RPC_NOT_ALLOWED


def test_there_is_no_peer_outside_an_rpc() -> None:
    with pytest.raises(RefusedError):
        current_peer()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:7441", "[::1]:7441", "localhost:7441", "unix:/run/zhiwang/agent", "127.9.9.9:0"]
)
def test_addresses_of_this_machine_are_told_from_others(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:7441", "[::]:7441", ":7441", "7441", "hub.city:7441", "10.0.0.1:7441", "localhost.evil:1"]
)
def test_addresses_that_others_can_reach_are_not_local(address: str) -> None:
    assert not is_local(address)


def test_a_channel_with_credentials_names_its_server_and_one_without_does_not() -> None:
    credentials = grpc.ssl_channel_credentials()
    for arguments in (("127.0.0.1:1", credentials, ""), ("127.0.0.1:1", None, "hub.shenzhen.zhiwang.internal")):
        target, given_credentials, name = arguments
        with pytest.raises(ValueError, match="belong together"):
            open_channel(target, given_credentials, server_name=name)


def test_metrics_of_rpcs_count_by_method_and_code() -> None:
    registry = make_registry()
    metrics = RpcMetrics(registry)
    for _ in range(3):
        metrics("/a.B/C", "OK", 0.01)
    metrics("/a.B/C", "PERMISSION_DENIED", 0.01)

    def count(code: str) -> Any:
        return registry.get_sample_value("zhiwang_rpc_seconds_count", {"method": "a.B/C", "code": code})

    assert (count("OK"), count("PERMISSION_DENIED"), count("INTERNAL")) == (3, 1, None)
    assert registry.get_sample_value("process_cpu_seconds_total") is not None


async def test_a_server_tells_which_services_it_has() -> None:
    server = build_server([], {}, city=None)
    assert isinstance(server, Server)
    assert server._wrapper.services == ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
    assert not [method for method in server._wrapper._handlers if method not in server._wrapper._rules]


def test_a_peer_is_a_plain_value() -> None:
    assert Peer.__dataclass_params__.frozen  # type: ignore[attr-defined]  # every dataclass has it
