from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire_support import NOW, header_message, outcome_of, raw_header, some_header
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.claims import Predicate
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import (
    MAX_ANSWERS_PER_REQUEST,
    MAX_CASES,
    MAX_CERTIFICATE,
    MAX_CLAIMS_PER_CASE,
    MAX_HEADER,
    MAX_SLOTS,
    MAX_VALUES,
    ClaimShape,
    Header,
    SlotShape,
    check_envelope,
    check_sealed_size,
    check_times,
    parse_header,
)
from zhiwang.wire.places import Jurisdiction

Change = Callable[[sealed_pb2.Header], object]
VALID = raw_header()


def set_to(**values: object) -> Change:
    def change(message: sealed_pb2.Header) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return change


def claim(**values: object) -> Change:
    """Changes the third claim, which compares with nothing."""

    def change(message: sealed_pb2.Header) -> None:
        for name, value in values.items():
            setattr(message.claims[2], name, value)

    return change


def test_a_header_is_read_as_it_was_written() -> None:
    raw = raw_header()
    header = parse_header(raw)
    assert header.raw == raw
    assert header.hash == sha256(raw).digest()
    assert header.slots == (SlotShape("child", 0, "person"), SlotShape("guardian", 1, "person"))
    assert header.claims == (
        ClaimShape(0, "birth_mother", Predicate.RELATED, "", 1, None),
        ClaimShape(1, "children", Predicate.AT_MOST, "3", None, None),
        ClaimShape(0, "vaccinated", Predicate.VALID, "", None, None),
        ClaimShape(0, "hospital", Predicate.EQUALS, "", None, 0),
    )
    assert (header.values, header.cases) == (1, 2)
    assert header.record_size == 32 + 2 * 256 + 192
    assert header.reference_date == date(2026, 9, 1)
    assert header.jurisdiction == Jurisdiction("nbs", "440306")
    assert (header.issue_time, header.expire_time) == (NOW + 0.25, NOW + 30)
    assert (header.system, header.role) == ("spiffe://shenzhen/edu/system/enrolment", "edu/enrolment-clerk")
    assert (header.official, header.reference, header.owner) == ("clerk-17", "2026-000123", "health")


MALFORMED: dict[str, Change] = {
    "request id of 15 bytes": set_to(request_id=bytes(15)),
    "fingerprint of 20 bytes": set_to(certificate_fingerprint=bytes(20)),
    "matter version of 32 bytes": set_to(matter_version=bytes(32)),
    "key id missing": set_to(owner_key_id=b""),
    "system is no URI": set_to(system="edu/system/enrolment"),
    "role without department": set_to(role="clerk"),
    "role missing": set_to(role=""),
    "matter missing": set_to(matter=""),
    "owner is no name": set_to(owner="Health"),
    "owner too long": set_to(owner="h" * 65),
    "assurance missing": set_to(assurance=0),
    "assurance unknown": set_to(assurance=9),
    "priority missing": set_to(priority=0),
    "date missing": set_to(reference_date=""),
    "date does not exist": set_to(reference_date="2026-02-30"),
    "date in another form": set_to(reference_date="20260901"),
    "date of a week": set_to(reference_date="2026-W01-1"),
    "no slots": lambda message: message.ClearField("slots"),
    "no claims": lambda message: message.ClearField("claims"),
    "a slot twice": lambda message: message.slots[1].CopyFrom(message.slots[0]),
    "a slot without a name": lambda message: message.slots[0].ClearField("name"),
    "a slot without a kind": lambda message: message.slots[0].ClearField("kind"),
    "an ordinal too high": lambda message: setattr(message.slots[0], "ordinal", MAX_SLOTS),
    "a slot that nobody needs": lambda message: message.slots.add(name="home", kind="dwelling"),
    "too many slots": lambda message: [message.slots.add(name=f"s{i}", kind="person") for i in range(MAX_SLOTS)],
    "slot outside the header": claim(slot=2),
    "attribute missing": claim(attribute=""),
    "attribute with its owner": claim(attribute="health.vaccinated"),
    "predicate missing": claim(predicate=0),
    "predicate unknown": claim(predicate=99),
    "valid with a cell": claim(cell="3"),
    "valid compared": claim(compared_slot=1),
    "threshold without a cell": claim(predicate=sealed_pb2.PREDICATE_AT_LEAST),
    "threshold with a text": claim(predicate=sealed_pb2.PREDICATE_AT_LEAST, cell="'; DROP TABLE"),
    "equals without anything": claim(predicate=sealed_pb2.PREDICATE_EQUALS),
    "compared slot outside the header": claim(predicate=sealed_pb2.PREDICATE_EQUALS, compared_slot=2),
    "compared values with a gap": claim(predicate=sealed_pb2.PREDICATE_EQUALS, compared_value=2),
    "too many compared values": claim(predicate=sealed_pb2.PREDICATE_EQUALS, compared_value=MAX_VALUES),
    "no issue time": lambda message: message.ClearField("issue_time"),
    "no expire time": lambda message: message.ClearField("expire_time"),
    "nanoseconds below zero": lambda message: setattr(message.issue_time, "nanos", -1),
    "nanoseconds of a second": lambda message: setattr(message.issue_time, "nanos", 1_000_000_000),
    "time before 1970": lambda message: setattr(message.issue_time, "seconds", -1),
    "time after 9999": lambda message: setattr(message.expire_time, "seconds", 1 << 60),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_refused(change: Change) -> None:
    assert outcome_of(lambda: some_header(change)) is Reason.REQUEST_MALFORMED


REFUSED: dict[str, tuple[Change, Reason]] = {
    "another suite": (set_to(suite="zhiwang-2"), Reason.SUITE_NOT_ACCEPTED),
    "no place": (set_to(jurisdiction="shenzhen"), Reason.JURISDICTION_INVALID),
    "no reference": (set_to(reference=""), Reason.REFERENCE_INVALID),
    "a reference outside ASCII": (set_to(reference="2026年123号"), Reason.REFERENCE_INVALID),
    "a reference of two lines": (set_to(reference="2026\n"), Reason.REFERENCE_INVALID),
    "a long reference": (set_to(reference="2" * 65), Reason.REFERENCE_INVALID),
    "an identifier as reference": (set_to(reference="x440399199001010018"), Reason.REFERENCE_INVALID),
    "an identifier in groups": (set_to(reference="440399-19900101-0018"), Reason.REFERENCE_INVALID),
    "an old identifier": (set_to(reference="2026-440399900101001"), Reason.REFERENCE_INVALID),
    "a company's code": (set_to(reference="91110000600037341l"), Reason.REFERENCE_INVALID),
    "no official": (set_to(official=""), Reason.OFFICIAL_INVALID),
    "an official's name": (set_to(official="张三"), Reason.OFFICIAL_INVALID),
    "an official's identifier": (set_to(official="440399199001010018"), Reason.OFFICIAL_INVALID),
    "no cases": (set_to(cases=0), Reason.TOO_MANY_CLAIMS),
    "too many cases": (set_to(cases=MAX_CASES + 1), Reason.TOO_MANY_CLAIMS),
}


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=REFUSED)
def test_each_refusal_says_why(change: Change, reason: Reason) -> None:
    assert outcome_of(lambda: some_header(change)) is reason


def with_claims(count: int) -> Change:
    def change(message: sealed_pb2.Header) -> None:
        del message.claims[:]
        del message.slots[1:]
        for number in range(count):
            message.claims.add(attribute=f"a{number}", predicate=sealed_pb2.PREDICATE_EXISTS)

    return change


def test_as_many_claims_as_the_protocol_admits_are_read() -> None:
    assert len(some_header(with_claims(MAX_CLAIMS_PER_CASE)).claims) == MAX_CLAIMS_PER_CASE
    cases = MAX_ANSWERS_PER_REQUEST // MAX_CLAIMS_PER_CASE
    assert some_header(with_claims(MAX_CLAIMS_PER_CASE), cases=cases).cases == cases
    assert some_header(cases=1).cases == 1
    assert some_header(cases=MAX_CASES).cases == MAX_CASES
    with pytest.raises(RefusedError, match="TOO_MANY_CLAIMS"):
        some_header(with_claims(MAX_CLAIMS_PER_CASE), cases=cases + 1)


@pytest.mark.parametrize(
    ("count", "reasons"),
    [(MAX_CLAIMS_PER_CASE + 1, {Reason.TOO_MANY_CLAIMS}), (10_000, {Reason.TOO_MANY_CLAIMS, Reason.REQUEST_TOO_LARGE})],
)
def test_ten_thousand_claims_are_refused(count: int, reasons: set[Reason]) -> None:
    assert outcome_of(lambda: some_header(with_claims(count))) in reasons


def test_a_long_header_is_not_even_read() -> None:
    assert outcome_of(lambda: parse_header(b"\xff" * (MAX_HEADER + 1))) is Reason.REQUEST_TOO_LARGE


def test_unknown_fields_are_refused_at_every_depth() -> None:
    unknown = b"\xfa\x3f\x01x"  # field 1023, one byte
    nested = header_message()
    nested.slots[0].MergeFromString(unknown)
    timed = header_message()
    timed.issue_time.MergeFromString(unknown)
    for raw in (VALID + unknown, nested.SerializeToString(), timed.SerializeToString()):
        assert outcome_of(partial(parse_header, raw)) is Reason.REQUEST_MALFORMED


def test_a_header_has_one_spelling() -> None:
    assert outcome_of(lambda: parse_header(VALID + b"\x0a\x09zhiwang-1")) is Reason.REQUEST_MALFORMED  # suite twice
    assert outcome_of(lambda: parse_header(b"\x0a\x89\x00zhiwang-1" + VALID[11:])) is Reason.REQUEST_MALFORMED
    last = header_message()
    last.ClearField("suite")
    moved = last.SerializeToString(deterministic=True) + b"\x0a\x09zhiwang-1"
    assert outcome_of(lambda: parse_header(moved)) is Reason.REQUEST_MALFORMED


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    assert isinstance(outcome_of(lambda: parse_header(data)), Header | Reason)


@given(st.data())
def test_a_header_that_was_changed_anywhere_is_another_header_or_refused(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(VALID)))
    cut = data.draw(st.integers(0, 3))
    changed = VALID[:place] + data.draw(st.binary(max_size=4)) + VALID[place + cut :]
    found = outcome_of(lambda: parse_header(changed))
    assert isinstance(found, Header | Reason)
    if isinstance(found, Header) and changed != VALID:
        assert found.hash != sha256(VALID).digest()
        assert found.raw == changed


def test_a_refusal_repeats_nothing_of_the_header() -> None:
    for change in (set_to(reference_date="440399199001010018"), set_to(reference="440399199001010018")):
        with pytest.raises(RefusedError) as refused:
            some_header(change)
        assert "4403" not in str(refused.value)
        assert refused.value.__context__ is None


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW + 0.25 - 5.1, Reason.CLOCK_SKEW),
        (NOW + 0.25 - 4.9, None),
        (NOW + 1, None),
        (NOW + 34.9, None),
        (NOW + 35.1, Reason.REQUEST_EXPIRED),
    ],
)
def test_a_request_lives_between_issue_and_expiry_give_or_take_the_skew(now: float, reason: Reason | None) -> None:
    assert outcome_of(lambda: check_times(some_header(), now)) is reason


def test_a_skewed_clock_is_told_by_how_much() -> None:
    with pytest.raises(RefusedError) as refused:
        check_times(some_header(), NOW - 59.75)
    assert refused.value.metadata == {"clock_offset_ms": "-60000"}


@pytest.mark.parametrize("seconds", [0, -1, 61])
def test_a_request_lives_for_a_minute_at_most_and_not_backwards(seconds: int) -> None:
    header = some_header(lambda message: setattr(message.expire_time, "seconds", int(NOW) + seconds))
    assert outcome_of(lambda: check_times(header, NOW)) is Reason.LIFETIME_TOO_LONG


def envelope() -> sealed_pb2.SealedRequest:
    return sealed_pb2.SealedRequest(
        header=VALID,
        enc=bytes(32),
        nonce=bytes(12),
        ciphertext=bytes(16),
        request_root=bytes(32),
        signature=bytes(64),
        certificate=b"x",
    )


def test_an_envelope_of_the_right_sizes_is_taken() -> None:
    assert outcome_of(lambda: check_envelope(envelope())) is None


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("header", 0, Reason.REQUEST_MALFORMED),
        ("enc", 31, Reason.REQUEST_MALFORMED),
        ("nonce", 16, Reason.REQUEST_MALFORMED),
        ("request_root", 0, Reason.REQUEST_MALFORMED),
        ("signature", 65, Reason.REQUEST_MALFORMED),
        ("certificate", 0, Reason.REQUEST_MALFORMED),
        ("certificate", MAX_CERTIFICATE + 1, Reason.REQUEST_MALFORMED),
        ("ciphertext", 8_000_000, Reason.REQUEST_TOO_LARGE),
    ],
)
def test_an_envelope_of_another_size_is_refused(name: str, size: int, reason: Reason) -> None:
    request = envelope()
    setattr(request, name, bytes(size))
    assert outcome_of(lambda: check_envelope(request)) is reason


def test_the_sealed_part_is_exactly_as_long_as_the_header_says() -> None:
    header = some_header()
    right = 2 * (32 + 2 * 256 + 192) + 16
    check_sealed_size(header, right)
    for wrong in (0, right - 1, right + 1):
        with pytest.raises(RefusedError, match="REQUEST_MALFORMED"):
            check_sealed_size(header, wrong)
