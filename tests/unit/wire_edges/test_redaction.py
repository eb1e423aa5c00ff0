from __future__ import annotations

import datetime as dt
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from logging_support import captured_log
from zhiwang.exchange.v1 import exchange_pb2
from zhiwang.wire.call import CALL, Call
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.logging import configure
from zhiwang.wire.redaction import BLANK, SECRET_KEYS, redact_text, redact_value

RESIDENT = "11010519491231002X"
OLD_RESIDENT = "130503670401001"
COMPANY = "91350100M000100Y43"
HOUSE = "4403050120000123450000012"
NAME = "欧阳晓明"
SECRETS = [RESIDENT, OLD_RESIDENT, COMPANY, HOUSE, NAME, RESIDENT.lower(), "买买提·艾力"]


@pytest.fixture
def written() -> Iterator[Callable[[], str]]:
    """Everything that is logged, as the lines of a process that logs JSON."""
    with captured_log() as stream:
        yield stream.getvalue


def fail(kind: type[Exception]) -> None:
    raise kind(f"plain {NAME}")


def lines(written: Callable[[], str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written().splitlines()]


def clean(text_: str) -> bool:
    return not any(secret in text_ for secret in SECRETS) and text_.isascii()


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "no row for {}.", "id={},", "x{}y", "({})", "a {} b"])
def test_identifiers_and_names_are_blanked_in_any_text(secret: str, around: str) -> None:
    assert clean(redact_text(around.format(secret)))


@pytest.mark.parametrize(
    "spelt",
    ["110105-19491231-002X", "110105 19491231 002X", "1101 0519 4912 3100 2X", "１１０１０５１９４９１２３１００２Ｘ"],
)
def test_identifiers_are_found_in_groups_and_in_full_width(spelt: str) -> None:
    assert redact_text(f"for {spelt} failed") == f"for {BLANK} failed"


@given(st.text(), st.sampled_from(SECRETS), st.text())
def test_nothing_around_a_secret_protects_it(before: str, secret: str, after: str) -> None:
    assert secret not in redact_text(before + secret + after)


def test_what_operators_need_stays() -> None:
    for harmless in (
        "cannot listen on 127.0.0.1:7440; is another process there?",
        "edu/system/enrolment",
        "2026-03-01T12:00:00.123456Z",
        "serial 61318dd7c1274f91e3f579f48ac15e2bf0f04de5",
        "/zhiwang.exchange.v1.ExchangeService/Exchange",
        "hrss.pension_months at_least",
    ):
        assert redact_text(harmless) == harmless


def test_passwords_of_urls_are_blanked() -> None:
    assert "hunter2" not in redact_text("cannot reach postgresql+psycopg://reader:hunter2@db/insurance")


@pytest.mark.parametrize("key", sorted(SECRET_KEYS))
def test_keys_that_name_something_of_a_citizen_lose_their_values(key: str, written: Callable[[], str]) -> None:
    structlog.get_logger().info("event", **{key: "latin value", f"{key}s": ["another latin value"]})
    assert "latin" not in written()
    structlog.get_logger().info("event", **{f"{key.upper()}S": 17})
    assert "17" in written()


def test_numbers_that_are_identifiers_are_blanked() -> None:
    assert redact_value(int(OLD_RESIDENT)) == BLANK
    assert redact_value(12345) == 12345


def test_objects_are_named_by_their_type_since_their_text_could_hold_anything() -> None:
    message = exchange_pb2.GetFileRequest(path=f"{NAME}{RESIDENT}")
    for value in (message, {"a": {"b": {"c": {"d": {"e": NAME}}}}}, [message], {NAME: RESIDENT}, object(), (NAME,)):
        assert clean(json.dumps(redact_value(value)))
    assert redact_value(b"\x01" * 17) == "[17 bytes]"
    assert redact_value(Identity("shenzhen", "edu", Kind.AGENT, "one")) == "spiffe://shenzhen/edu/agent/one"
    assert redact_value(Path("state") / "x") == "state/x"
    assert redact_value(dt.date(2026, 3, 1)) == "2026-03-01"
    assert redact_value(Reason.NOT_GRANTED) == "NOT_GRANTED"


def test_an_exception_of_an_unknown_type_is_told_by_type_and_place_only(written: Callable[[], str]) -> None:
    guess = "plain latin guess"

    def look_up(identifier: str) -> None:
        local_copy = identifier
        raise ValueError(f"no such thing: {local_copy}")

    try:
        look_up(f"{guess} {NAME} {RESIDENT}")
    except ValueError:
        structlog.get_logger().exception("failed")
    text_ = written()
    assert clean(text_)
    assert guess not in text_
    assert "no such thing" not in text_
    (line,) = lines(written)
    assert "ValueError" in line["exception"]
    assert "in look_up" in line["exception"]
    assert "test_redaction.py" in line["exception"]


def test_the_parameters_of_a_statement_do_not_reach_the_log(written: Callable[[], str]) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        try:
            connection.execute(
                text("SELECT * FROM no_table WHERE id = :id AND name = :name"), {"id": RESIDENT, "name": "Li Ming"}
            )
        except SQLAlchemyError as error:
            structlog.get_logger().error("statement failed", exc_info=error)
            structlog.get_logger().error("statement failed", error=error)
            logging.getLogger("sqlalchemy").warning("failed: %s", error)
            logging.getLogger("sqlalchemy").exception("failed")
    engine.dispose()
    assert clean(written())
    assert "Li Ming" not in written()
    assert "no_table" not in written()
    assert "sqlalchemy.exc.OperationalError" in written()


def test_causes_are_told_and_their_messages_are_not(written: Callable[[], str]) -> None:
    try:
        try:
            fail(KeyError)
        except KeyError as error:
            raise RefusedError(Reason.OWNER_FAILED, f"group of {RESIDENT} failed") from error
    except RefusedError as error:
        structlog.get_logger().error("failed", exc_info=error)
    assert clean(written())
    (line,) = lines(written)
    assert "OWNER_FAILED" in line["exception"]
    assert "KeyError" in line["exception"]


def test_groups_of_exceptions_are_told_by_type(written: Callable[[], str]) -> None:
    group = ExceptionGroup(NAME, [ValueError("plain latin guess"), RefusedError(Reason.OVERLOADED)])
    structlog.get_logger().error("failed", exc_info=group)
    assert clean(written())
    assert "plain" not in written()
    assert "OVERLOADED" in written()


def test_records_of_other_libraries_keep_their_template_only(written: Callable[[], str]) -> None:
    foreign = logging.getLogger("somebody.else")
    foreign.warning("row %s of %s", NAME, "plain latin value")
    foreign.warning("row " + RESIDENT + NAME)
    foreign.log(35, ["not", "text", NAME])
    foreign.info("below their level: %s", "plain")
    assert clean(written())
    assert "plain" not in written()
    assert [line["event"] for line in lines(written)] == ["row %s of %s", f"row {BLANK * 2}", "[list]"]
    assert lines(written)[0]["logger"] == "somebody.else"


def test_warnings_are_told_by_category_and_place(written: Callable[[], str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn(f"value {NAME} plain latin value", stacklevel=1)
    assert clean(written())
    assert "plain" not in written()
    assert written()


def test_an_uncaught_exception_is_told_without_its_message(written: Callable[[], str]) -> None:
    error = RuntimeError(f"plain {NAME}")
    sys.excepthook(type(error), error, None)
    assert "plain" not in written()
    assert "RuntimeError" in written()


def test_a_line_names_its_process_and_its_call(written: Callable[[], str]) -> None:
    nothing: Any = None
    call = Call("/package.Service/Method", nothing)
    token = CALL.set(call)
    structlog.get_logger().info("event", listen="127.0.0.1:1")
    CALL.reset(token)
    (line,) = lines(written)
    assert (line["process"], line["rpc"], line["call"]) == ("test", call.method, call.id)
    assert line["listen"] == "127.0.0.1:1"


def test_a_caller_that_is_gone_before_its_answer_is_no_error_of_ours(written: Callable[[], str]) -> None:
    core = logging.getLogger("grpc._cython.cygrpc")
    for error in (grpc.aio.InternalError("Failed ExecuteBatch"), ValueError("something else")):
        try:
            raise error
        except type(error):
            core.exception("%s raised in core by servicer method [%s]", type(error).__name__, "/package.Service/Method")
    gone, other = lines(written)
    assert (gone["level"], "exception" in gone) == ("info", False)
    assert (other["level"], "exception" in other) == ("error", True)


def test_a_terminal_gets_the_same_redaction(written: Callable[[], str]) -> None:  # noqa: ARG001  restores the log
    stream = io.StringIO()
    configure("test", json=False, stream=stream)
    try:
        fail(ValueError)
    except ValueError:
        structlog.get_logger().exception("failed", subject=NAME, note=RESIDENT)
    assert clean(stream.getvalue())
    assert "plain" not in stream.getvalue()
    assert "in test_a_terminal" in stream.getvalue()


@given(
    st.recursive(
        st.sampled_from(SECRETS) | st.integers() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(SECRETS), inner),
    )
)
def test_no_structure_hides_a_secret(value: Any) -> None:
    assert clean(json.dumps(redact_value(value)))
