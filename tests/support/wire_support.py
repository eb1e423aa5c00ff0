"""Well-formed headers, records and answers for the tests of the pure protocol."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import Header, parse_header
from zhiwang.wire.records import Answers, CaseRecord, Outcome, SubjectRecord

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
NOW = 1_795_000_000.0
CHILD = SubjectRecord("person", "440399201905010010", "张小明")
MOTHER = SubjectRecord("person", "440399199001010018", "阿依古丽·买买提")
SALTS = tuple(bytes([number]) * 32 for number in range(1, 10))


def outcome_of(call: Callable[[], T]) -> T | Reason:
    """What a call gives, or the reason why it is refused. Anything else that it raises fails the test."""
    try:
        return call()
    except RefusedError as error:
        return error.reason


def script(name: str) -> ModuleType:
    """A script of `dev/`, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "dev" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def header_message(*, cases: int = 2) -> sealed_pb2.Header:
    """Two slots and four claims: a compared slot, a cell, nothing, and a compared text."""
    message = sealed_pb2.Header(
        suite="zhiwang-1",
        request_id=bytes(range(16)),
        system="spiffe://shenzhen/edu/system/enrolment",
        certificate_fingerprint=bytes(range(32)),
        role="edu/enrolment-clerk",
        official="clerk-17",
        assurance=sealed_pb2.ASSURANCE_ASSERTED,
        matter="school-enrolment",
        matter_version=bytes(range(16, 32)),
        reference_date="2026-09-01",
        reference="2026-000123",
        jurisdiction="nbs:440306",
        owner="health",
        owner_key_id=bytes(range(32, 48)),
        owner_document_version=3,
        cases=cases,
        priority=sealed_pb2.PRIORITY_INTERACTIVE,
    )
    message.slots.add(name="child", kind="person")
    message.slots.add(name="guardian", ordinal=1, kind="person")
    message.claims.add(slot=0, attribute="birth_mother", predicate=sealed_pb2.PREDICATE_RELATED, compared_slot=1)
    message.claims.add(slot=1, attribute="children", predicate=sealed_pb2.PREDICATE_AT_MOST, cell="3")
    message.claims.add(slot=0, attribute="vaccinated", predicate=sealed_pb2.PREDICATE_VALID)
    message.claims.add(slot=0, attribute="hospital", predicate=sealed_pb2.PREDICATE_EQUALS, compared_value=0)
    message.issue_time.seconds = int(NOW)
    message.issue_time.nanos = 250_000_000
    message.expire_time.seconds = int(NOW) + 30
    return message


def raw_header(change: Callable[[sealed_pb2.Header], object] = lambda _: None, *, cases: int = 2) -> bytes:
    """The bytes of that header after a change."""
    message = header_message(cases=cases)
    change(message)
    return message.SerializeToString(deterministic=True)


def some_header(change: Callable[[sealed_pb2.Header], object] = lambda _: None, *, cases: int = 2) -> Header:
    """That header after a change, parsed."""
    return parse_header(raw_header(change, cases=cases))


def some_records() -> list[CaseRecord]:
    """Two cases; the second has no guardian."""
    return [
        CaseRecord(SALTS[0], (CHILD, MOTHER), ("市妇幼保健院",)),
        CaseRecord(SALTS[1], (MOTHER, None), ("人民医院",)),
    ]


def some_answers() -> Answers:
    """Answers to those two cases."""
    outcomes = (Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.DENIED_BY_HUB) * 2
    return Answers(SALTS[2], (1_794_900_000, None, 0, None), bytes(outcomes))
