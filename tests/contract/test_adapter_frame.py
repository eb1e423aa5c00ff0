"""A frame from sealed bytes to the reply that the hub gets, with the real log, certificates, policy and seal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from sqlalchemy import Connection

from adapter_frames import Bureau, grants
from adapter_support import ANNA, BO, CHEN, DING, NOW, attribute, resident
from adapters import frame
from audit.checkpoint import open_note
from audit.entry import decode_entry
from log_places import PostgresDatabase
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.commitments import sealed_hash, signature_message
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.merkle import verify_consistency
from zhiwang.wire.records import Outcome

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN

TABLES = """
CREATE TABLE person (id_card TEXT, full_name TEXT, region TEXT, months INTEGER, employer TEXT);
CREATE INDEX person_id ON person (id_card);
CREATE TABLE parent (child TEXT, parent TEXT);
CREATE INDEX parent_child ON parent (child);
CREATE TABLE load (loaded_at TEXT);
"""

MAPPING = """
[limits]
values = 3
names = 2
places = 2
days = 30

[data.person]
table = "person"
subject = "id_card"
name = "full_name"
region = { column = "region", codes = "nbs" }
loaded = "SELECT max(loaded_at) FROM load"

[data.parent]
table = "parent"
subject = "child"

[attribute.months]
data = "person"
value = "months"

[attribute.old_months]
data = "person"
value = "months"

[attribute.status]
data = "person"
value = "employer"

[attribute.card]
data = "person"

[attribute.parent]
data = "parent"
value = "parent"
rows = "any"
"""

PUBLISHED = "".join([
    attribute("months", 'type = "integer"\nat_least = [6, 12]\nat_most = [6]'),
    attribute("old_months", 'type = "integer"\nat_least = [6, 12]\nmax_age = "1d"'),
    attribute("status", 'type = "code"\nasks = ["equals"]'),
    attribute("card", 'asks = ["exists", "absent"]\nmax_age = "30d"'),
    attribute("parent", 'type = "person"\nasks = ["related"]'),
    grants([
        "hrss.months at_least", "hrss.old_months at_least", "hrss.status equals", "hrss.card exists",
        "hrss.card absent", "hrss.parent related",
    ]),
])  # fmt: skip

MONTHS = "child: hrss.months at_least 12"


@pytest.fixture
def bureau(tmp_path: Path, store: PostgresDatabase | None) -> Iterator[Bureau]:
    bureau = Bureau(
        tmp_path,
        store=store,
        tables=TABLES,
        rows={
            "person": [
                (ANNA, "安娜", "440306001001", 12, "A1"),
                (BO, "波", "440305", 3, "B2"),
                (DING, "丁", "440306", None, None),
            ],
            "parent": [(ANNA, BO), (ANNA, CHEN)],
            "load": [("2026-09-19 08:00:00",)],
        },
        mapping=MAPPING,
        published=PUBLISHED,
    )
    yield bureau
    bureau.close()


def test_a_sealed_request_becomes_answers_that_its_signed_log_proves(bureau: Bureau) -> None:
    request = bureau.request([MONTHS, "child: hrss.card exists"], [{"child": ANNA}, {"child": BO}, {"child": CHEN}])
    item = bureau.send(request)[0]
    assert bureau.open(request, item) == [YES, YES, NO, YES, UNKNOWN, UNKNOWN]
    entry = bureau.entry(bureau.last, item)
    assert (entry.header, entry.signature) == (request.header, request.signature)
    assert (entry.cases, entry.claims, entry.directory_version, entry.document_version) == (3, 2, 7, 3)
    assert list(entry.rule_ids) == ["hrss/g-edu-0", "hrss/g-edu-3"]
    assert bureau.data_as_of == (1789776000, 1789776000)


def test_the_same_bytes_get_the_same_reply_and_are_charged_and_recorded_once(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": (ANNA, "安娜")}])
    first = bureau.send(request)[0]
    size, charged = bureau.log.newest.size, _count(bureau, "guess")
    bureau.now += 3
    again = bureau.send(request)[0]
    assert (again.reply, again.entry.entry) == (first.reply, first.entry.entry)
    assert (bureau.log.newest.size, _count(bureau, "guess")) == (size, charged)


def test_nothing_is_asked_or_charged_while_witnesses_are_missing_for_too_long(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": (ANNA, "安娜")}])
    size, charged = bureau.log.newest.size, _count(bureau, "guess")
    bureau.withheld = lambda: True
    assert bureau.send(request)[0].reason == "NOT_WITNESSED"
    assert (bureau.log.newest.size, _count(bureau, "guess")) == (size, charged)
    bureau.withheld = lambda: False
    assert bureau.open(request, bureau.send(request)[0]) == [YES]


def test_an_answer_is_kept_back_if_the_quorum_is_lost_while_it_is_made(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": (ANNA, "安娜")}])
    lost = iter([False, True])
    bureau.withheld = lambda: next(lost)
    assert bureau.send(request)[0].reason == "NOT_WITNESSED"
    size, charged = bureau.log.newest.size, _count(bureau, "guess")
    bureau.withheld = lambda: False
    assert bureau.open(request, bureau.send(request)[0]) == [YES]
    assert (bureau.log.newest.size, _count(bureau, "guess")) == (size, charged)


def test_a_repeat_beside_something_fresh_is_proved_under_the_same_head(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    bureau.send(request)
    fresh = bureau.request([MONTHS], [{"child": BO}])
    items = bureau.send(fresh, request)
    assert bureau.open(fresh, items[0]) == [NO]
    assert bureau.open(request, items[1]) == [YES]


def test_the_same_bytes_twice_in_one_frame_are_answered_once(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    size = bureau.log.newest.size
    items = bureau.send(request, request)
    assert items[0].reply == items[1].reply
    assert bureau.log.newest.size == size + 1


@pytest.mark.parametrize("together", [True, False])
def test_other_bytes_under_a_used_id_are_refused(bureau: Bureau, together: bool) -> None:  # noqa: FBT001 - two cases
    first = bureau.request([MONTHS], [{"child": ANNA}], request_id=b"i" * 16)
    other = bureau.request([MONTHS], [{"child": BO}], request_id=b"i" * 16)
    items = bureau.send(first, other) if together else [bureau.send(first)[0], bureau.send(other)[0]]
    assert bureau.open(first, items[0]) == [YES]
    assert items[1].reason == "REPLAYED"
    # Another system may use the same number.
    third = bureau.request([MONTHS], [{"child": BO}], request_id=b"i" * 16, short="civil/system/cards")
    assert bureau.open(third, bureau.send(third)[0]) == [NO]


def test_a_replay_is_remembered_for_as_long_as_its_request_would_be_taken(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    bureau.send(request)
    bureau.now += 34
    bureau.send(bureau.request([MONTHS], [{"child": BO}]))
    size = bureau.log.newest.size
    assert not bureau.send(request)[0].reason
    assert bureau.log.newest.size == size
    bureau.now += 2
    assert bureau.send(request)[0].reason == "REQUEST_EXPIRED"
    bureau.now += 20
    bureau.send(bureau.request([MONTHS], [{"child": BO}]))
    # Of the three that were answered, the first is forgotten.
    assert _count(bureau, "replay") == 2


def _flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


SPOILERS: dict[str, Callable[[sealed_pb2.SealedRequest], None]] = {
    "no header": lambda r: r.ClearField("header"),
    "header is no protobuf": lambda r: setattr(r, "header", b"\xff" * 20),
    "header too large": lambda r: setattr(r, "header", bytes(20_000)),
    "enc cut": lambda r: setattr(r, "enc", r.enc[:-1]),
    "nonce cut": lambda r: setattr(r, "nonce", b""),
    "ciphertext cut": lambda r: setattr(r, "ciphertext", r.ciphertext[:-1]),
    "signature cut": lambda r: setattr(r, "signature", r.signature[:-1]),
    "enc flipped": lambda r: setattr(r, "enc", _flip(r.enc)),
    "nonce flipped": lambda r: setattr(r, "nonce", _flip(r.nonce)),
    "ciphertext flipped": lambda r: setattr(r, "ciphertext", _flip(r.ciphertext)),
    "root flipped": lambda r: setattr(r, "request_root", _flip(r.request_root)),
    "signature flipped": lambda r: setattr(r, "signature", _flip(r.signature)),
    "certificate is none": lambda r: setattr(r, "certificate", b"certificate"),
    "no certificate": lambda r: setattr(r, "certificate", b""),
}
EXPECTED = {
    "header too large": "REQUEST_TOO_LARGE",
    "certificate is none": "CERTIFICATE_INVALID",
    **{f"{part} flipped": "SIGNATURE_INVALID" for part in ("enc", "nonce", "ciphertext", "root", "signature")},
}


@pytest.mark.parametrize("name", SPOILERS)
def test_a_spoilt_request_is_refused_recorded_and_harms_no_neighbour(bureau: Bureau, name: str) -> None:
    good, bad = bureau.request([MONTHS], [{"child": ANNA}]), bureau.request([MONTHS], [{"child": BO}])
    SPOILERS[name](bad)
    size = bureau.log.newest.size
    items = bureau.send(bad, good)
    assert items[0].reason == EXPECTED.get(name, "REQUEST_MALFORMED")
    assert not items[0].HasField("reply")
    assert bureau.open(good, items[1]) == [YES]
    assert bureau.log.newest.size == size + 2


HEADERS: dict[str, tuple[dict[str, object], str]] = {
    "other owner": ({"owner": "police"}, "REQUEST_MALFORMED"),
    "other matter version": ({"matter_version": b"v" * 16}, "MATTER_CHANGED"),
    "no such matter": ({"matter": "party"}, "MATTER_NOT_ALLOWED"),
    "other date": ({"reference_date": "2026-09-02"}, "DATE_NOT_PUBLISHED"),
    "outside its home": ({"jurisdiction": "nbs:3301"}, "OUTSIDE_HOME"),
    "role of another": ({"role": "edu/boss"}, "ROLE_NOT_HELD"),
    "unknown key": ({"owner_key_id": b"k" * 16}, "KEY_UNKNOWN"),
    "other suite": ({"suite": "zhiwang-9"}, "SUITE_NOT_ACCEPTED"),
    "newer document": ({"owner_document_version": 4}, "DIRECTORY_BEHIND"),
    "another system": ({"system": "spiffe://shenzhen/edu/system/futian"}, "IDENTITY_MISMATCH"),
    "another certificate": ({"certificate_fingerprint": b"f" * 32}, "IDENTITY_MISMATCH"),
    "an identifier for a reference": ({"reference": ANNA}, "REFERENCE_INVALID"),
    "an identifier for an official": ({"official": f"x{ANNA}"}, "OFFICIAL_INVALID"),
    "a reference of another form": ({"reference": "2027-1"}, "REFERENCE_INVALID"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_may_not_be_is_refused_before_anything_is_opened(bureau: Bureau, name: str) -> None:
    fields, reason = HEADERS[name]
    request = bureau.request([MONTHS], [{"child": ANNA}])
    header = sealed_pb2.Header.FromString(request.header)
    for key, value in fields.items():
        setattr(header, key, value)
    raw = header.SerializeToString(deterministic=True)
    resigned = _resign(bureau, request, raw)
    assert bureau.send(resigned)[0].reason == reason


def _resign(
    bureau: Bureau, request: sealed_pb2.SealedRequest, raw: bytes, short: str = "edu/system/enrolment"
) -> sealed_pb2.SealedRequest:
    """The same sealed part under other header bytes, properly signed."""
    signer = bureau.requester(short).signer
    sealed = sealed_hash(request.enc, request.nonce, request.ciphertext)
    changed = sealed_pb2.SealedRequest()
    changed.CopyFrom(request)
    changed.header = raw
    changed.certificate = signer.certificate_der
    changed.signature = signer.sign(signature_message(sha256(raw).digest(), sealed, request.request_root))
    return changed


def test_a_header_resigned_by_another_requester_does_not_open(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    header = sealed_pb2.Header.FromString(request.header)
    other = bureau.requester("civil/system/cards").signer
    header.system, header.role, header.certificate_fingerprint = other.identity.uri, "civil/clerk", other.fingerprint
    raw = header.SerializeToString(deterministic=True)
    assert bureau.send(_resign(bureau, request, raw, "civil/system/cards"))[0].reason == "SEAL_BROKEN"


def test_a_commitment_to_other_claims_than_the_sealed_ones_is_refused(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    request.request_root = b"r" * 32
    assert bureau.send(_resign(bureau, request, request.header))[0].reason == "COMMITMENT_MISMATCH"


@pytest.mark.parametrize(("seconds", "reason"), [(36, "REQUEST_EXPIRED"), (-6, "CLOCK_SKEW"), (34, ""), (-4, "")])
def test_a_request_lives_from_issue_to_expiry_with_five_seconds_of_skew(
    bureau: Bureau, seconds: float, reason: str
) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    bureau.now += seconds
    item = bureau.send(request)[0]
    assert item.reason == reason
    if reason == "CLOCK_SKEW":
        assert item.clock_offset_ms == -6000


def test_a_revoked_certificate_is_refused_at_the_next_frame(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    bureau.send(request)
    der = bureau.requester().signer.certificate_der
    bureau.revoked.add(x509.load_der_x509_certificate(der).serial_number)
    assert bureau.send(bureau.request([MONTHS], [{"child": ANNA}]))[0].reason == "CERTIFICATE_REVOKED"


def test_nothing_is_decided_by_an_expired_directory(bureau: Bureau) -> None:
    bureau.directory_ = replace(bureau.directory_, expires=NOW - 1)
    assert bureau.send(bureau.request([MONTHS], [{"child": ANNA}]))[0].reason == "DIRECTORY_EXPIRED"


def test_a_claim_that_is_denied_leaves_its_neighbours_answered(bureau: Bureau) -> None:
    claims = [MONTHS, "child: hrss.months at_least 7", "child: hrss.months at_most 6", "child: hrss.nothing exists"]
    request = bureau.request(claims, [{"child": ANNA}])
    item = bureau.send(request)[0]
    assert bureau.open(request, item) == [
        YES, Outcome.CELL_NOT_PUBLISHED, Outcome.DENIED_BY_OWNER, Outcome.DENIED_BY_OWNER,
    ]  # fmt: skip
    entry = bureau.entry(bureau.last, item)
    assert (list(entry.denied_claims), list(entry.rule_ids)) == ([1, 2, 3], ["hrss/g-edu-0", "", "", ""])


def test_what_the_hub_denied_is_skipped_and_the_answer_root_says_so(bureau: Bureau) -> None:
    request = bureau.request([MONTHS, "child: hrss.card exists"], [{"child": ANNA}])
    frame = adapter_pb2.RequestFrame()
    frame.items.add(correlation_id=9, request=request, denied_claims=[1])
    reply = bureau.frames.process(frame)
    bureau.check(reply, request, reply.items[0])
    assert bureau.open(request, reply.items[0]) == [YES, Outcome.DENIED_BY_HUB]


def test_a_request_of_which_nothing_is_allowed_is_refused_unopened(bureau: Bureau) -> None:
    request = bureau.request(["child: hrss.nothing exists"], [{"child": ANNA}])
    assert bureau.send(request)[0].reason == "NOT_GRANTED"


def test_an_empty_slot_is_unknown(bureau: Bureau) -> None:
    claims = [
        MONTHS,
        "child: hrss.parent related @guardian",
        "guardian: hrss.card exists",
        "guardian: hrss.card absent",
    ]
    assert bureau.ask_all(claims, {"child": ANNA}) == [YES, UNKNOWN, UNKNOWN, UNKNOWN]


def test_a_relation_is_confirmed_by_the_compared_slot(bureau: Bureau) -> None:
    claim = ["child: hrss.parent related @guardian"]
    assert bureau.ask_all(claim, {"child": ANNA, "guardian": BO}) == [YES]
    assert bureau.ask_all(claim, {"child": ANNA, "guardian": DING}) == [NO]
    assert bureau.ask_all(claim, {"child": BO, "guardian": ANNA}) == [UNKNOWN]


def test_a_data_set_that_is_too_old_says_nothing_and_its_age_is_told(bureau: Bureau) -> None:
    claims = [MONTHS, "child: hrss.old_months at_least 12"]
    assert bureau.ask_all(claims, {"child": ANNA}) == [YES, UNKNOWN]
    assert bureau.data_as_of == (1789776000, 1789776000)


def test_a_longer_code_of_another_system_is_denied_and_absent_is_not(bureau: Bureau) -> None:
    claims = [MONTHS, "child: hrss.card absent"]
    assert bureau.ask_all(claims, {"child": ANNA}, jurisdiction="nbs:440306001") == [YES, NO]
    assert bureau.ask_all(claims, {"child": ANNA}, jurisdiction="gov:440306") == [YES, NO]


def test_a_failing_probe_makes_its_attribute_unavailable(bureau: Bureau) -> None:
    bureau.closed = lambda name: name == "months"
    assert bureau.ask_all([MONTHS, "child: hrss.card exists"], {"child": ANNA}) == [Outcome.PROBE_FAILED, YES]


def test_a_database_that_is_gone_leaves_a_recorded_unavailable(bureau: Bureau) -> None:
    bureau.database.rename(bureau.database.with_suffix(".gone"))
    assert bureau.ask_all([MONTHS], {"child": ANNA}) == [Outcome.DATABASE_UNAVAILABLE]


def test_a_value_that_is_not_of_the_type_is_told_so(bureau: Bureau) -> None:
    assert bureau.ask_all(["child: hrss.parent related 12345"], {"child": ANNA}) == [Outcome.VALUE_INVALID]


def test_an_identifier_that_is_not_canonical_is_unknown(bureau: Bureau) -> None:
    assert bureau.ask_all([MONTHS, "child: hrss.card absent"], {"child": ANNA[:17] + "0"}) == [UNKNOWN, UNKNOWN]


# The ledger.


def test_guesses_beyond_the_cap_are_refused_whatever_the_answer_and_repeats_cost_nothing(bureau: Bureau) -> None:
    def guess(value: str, **fields: object) -> list[Outcome]:
        return bureau.ask_all([f"child: hrss.status equals {value}"], {"child": ANNA}, **fields)

    assert [guess(value)[0] for value in ("X1", "X2", "A1")] == [NO, NO, YES]
    assert guess("X3") == [Outcome.GUESSES_SPENT]
    assert guess("A1") == [YES]
    assert guess("X2") == [NO]
    # Another department has guesses of its own; another system of the same one has not.
    assert guess("X3", short="civil/system/cards") == [NO]
    bureau.now += 31 * 86_400
    bureau.directory_ = replace(bureau.directory_, expires=bureau.now + 10)


def test_a_spent_guess_leaves_other_claims_about_the_subject_answered(bureau: Bureau) -> None:
    for value in ("X1", "X2", "X3"):
        bureau.ask_all([f"child: hrss.status equals {value}"], {"child": ANNA})
    assert bureau.ask_all(["child: hrss.status equals A1", MONTHS], {"child": ANNA}) == [Outcome.GUESSES_SPENT, YES]


def test_requests_of_one_frame_see_each_others_charges(bureau: Bureau) -> None:
    requests = [
        bureau.request([f"child: hrss.status equals {value}"], [{"child": ANNA}])
        for value in ("X1", "X2", "A1", "X3", "A1")
    ]
    items = bureau.send(*requests)
    outcomes = [bureau.open(request, item)[0] for request, item in zip(requests, items, strict=True)]
    assert outcomes == [NO, NO, YES, Outcome.GUESSES_SPENT, YES]


def test_names_are_counted_for_a_subject_and_a_spent_name_closes_every_claim(bureau: Bureau) -> None:
    claims = [MONTHS, "child: hrss.card exists"]
    assert bureau.ask_all(claims, {"child": (ANNA, "甲")}) == [UNKNOWN, UNKNOWN]
    assert bureau.ask_all(claims, {"child": (ANNA, "安娜")}) == [YES, YES]
    assert bureau.ask_all(claims, {"child": (ANNA, "乙")}) == [Outcome.GUESSES_SPENT] * 2
    assert bureau.ask_all(claims, {"child": (ANNA, "安娜")}) == [YES, YES]
    assert bureau.ask_all(claims, {"child": ANNA}) == [YES, YES]


def test_places_are_counted_for_a_subject(bureau: Bureau) -> None:
    assert bureau.ask_all([MONTHS], {"child": ANNA}, jurisdiction="nbs:440305") == [UNKNOWN]
    assert bureau.ask_all([MONTHS], {"child": ANNA}, jurisdiction="nbs:440306") == [YES]
    assert bureau.ask_all([MONTHS], {"child": ANNA}, jurisdiction="nbs:440304") == [Outcome.GUESSES_SPENT]


def test_a_related_guess_is_charged_under_both_identifiers(bureau: Bureau) -> None:
    claim = ["child: hrss.parent related @guardian"]
    for number in (201, 202, 203):
        assert bureau.ask_all(claim, {"child": resident(number), "guardian": BO}) == [UNKNOWN]
    assert bureau.ask_all(claim, {"child": ANNA, "guardian": BO}) == [Outcome.GUESSES_SPENT]
    assert bureau.ask_all(claim, {"child": ANNA, "guardian": CHEN}) == [YES]


def test_everything_about_a_subject_costs_the_same_whatever_is_on_record(bureau: Bureau) -> None:
    costs = []
    for subject in (ANNA, BO, DING, resident(300)):
        before = _count(bureau, "guess")
        bureau.ask_all([MONTHS, "child: hrss.status equals A1"], {"child": (subject, "安娜")})
        costs.append(_count(bureau, "guess") - before)
    assert set(costs) == {3}


# The log, and what stands in the store.


def administer(bureau: Bureau, in_file: str, in_database: str) -> None:
    """Do something to the store that the adapter does not."""
    if bureau.place is not None:
        bureau.place.run(in_database)
        return
    with closing(sqlite3.connect(bureau.state.store)) as connection:
        connection.execute(in_file)
        connection.commit()


def test_nothing_is_answered_when_the_log_cannot_be_written(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    administer(
        bureau,
        "CREATE TRIGGER full BEFORE INSERT ON replay BEGIN SELECT RAISE(ABORT, 'disk full'); END",
        "REVOKE INSERT ON zhiwang.replay FROM hub",
    )
    item = bureau.send(request)[0]
    assert (item.reason, item.HasField("reply")) == ("LOG_UNAVAILABLE", False)
    assert not bureau.log.healthy
    administer(bureau, "DROP TRIGGER full", "GRANT INSERT ON zhiwang.replay TO hub")
    # The next frame opens the log anew, and the same bytes are answered then.
    assert bureau.open(request, bureau.send(request)[0]) == [YES]


def test_subjects_are_indexed_under_a_key_and_nowhere_in_clear(bureau: Bureau) -> None:
    bureau.ask_all(["child: hrss.parent related @guardian"], {"child": (ANNA, "安娜"), "guardian": BO})
    assert _count(bureau, "trace") == 2
    bureau.log.close()
    for path in (bureau.directory / "state").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for secret in (ANNA, BO, "安娜"):
            assert secret.encode() not in content, path.name
        assert path.stat().st_mode & 0o077 == 0 or path.suffix != ".key"


def test_no_log_line_names_a_subject_or_a_value(bureau: Bureau) -> None:
    with structlog.testing.capture_logs() as lines:
        bureau.ask_all(["child: hrss.status equals SECRET"], {"child": (ANNA, "安娜")})
        bad = bureau.request([MONTHS], [{"child": (BO, "波")}])
        bad.signature = bytes(64)
        bureau.send(bad)
        bureau.database.write_bytes(b"no database")
        bureau.ask_all(["child: hrss.status equals SECRET"], {"child": (ANNA, "安娜")})
    assert lines
    for secret in (ANNA, BO, "安娜", "波", "SECRET"):
        assert secret not in str(lines)


def test_refusals_beyond_a_rate_are_counted_in_one_entry(bureau: Bureau) -> None:
    bad = bureau.request([MONTHS], [{"child": ANNA}])
    bad.signature = bytes(64)
    size = bureau.log.newest.size
    for _ in range(15):
        bureau.send(*[bad] * 10)
    assert bureau.log.newest.size - size == 100
    bureau.now += 60
    bureau.send(bad)
    bureau.frames.housekeep()
    entries = [decode_entry(data).refusal for data in bureau.log.entries(size, 1000)]
    assert sum(entry.count for entry in entries) == 151
    assert bureau.frames.refused == {Reason.SIGNATURE_INVALID: 151}


def test_a_consistency_proof_leads_from_what_the_hub_has_seen(bureau: Bureau) -> None:
    bureau.send(bureau.request([MONTHS], [{"child": ANNA}]))
    known = bureau.log.newest
    bureau.send(*[bureau.request([MONTHS], [{"child": BO}]) for _ in range(5)], known=known.size)
    head = bureau.last.log
    note = open_note(head.checkpoint, bureau.log.origin, bureau.identity.signer().public_key_raw)
    assert head.known_tree_size == known.size
    verify_consistency(known.size, note.size, known.root, note.root, list(head.consistency_path))


def test_two_processes_over_one_store_answer_the_same_bytes_once(bureau: Bureau) -> None:
    other_log = bureau.reopened()
    other = bureau.processor(other_log)
    request = bureau.request([MONTHS], [{"child": ANNA}])
    first = bureau.send(request)[0]
    bureau.frames, mine = other, bureau.frames
    again = bureau.send(request)[0]
    assert again.reply == first.reply
    assert bureau.ask_all(["child: hrss.status equals X1"], {"child": ANNA}) == [NO]
    bureau.frames = mine
    assert [bureau.ask_all([f"child: hrss.status equals {v}"], {"child": ANNA})[0] for v in ("X2", "X3", "X4")] == [
        NO, NO, Outcome.GUESSES_SPENT,
    ]  # fmt: skip
    other_log.close()
    other_log.engine.dispose()


def _meanwhile(bureau: Bureau, request: sealed_pb2.SealedRequest) -> list[adapter_pb2.ReplyFrame.Item]:
    """Have another process of the store answer a request between this one's review and its transaction, once."""
    log = bureau.reopened()
    other = bureau.processor(log)
    found: list[adapter_pb2.ReplyFrame.Item] = []
    seal = bureau.frames._seal

    def sealing(opened: object) -> object:
        if not found:
            frame = adapter_pb2.RequestFrame()
            frame.items.add(correlation_id=1, request=request)
            found.extend(other.process(frame).items)
            log.close()
            log.engine.dispose()
        return seal(opened)  # type: ignore[arg-type]  # passed on as it came

    bureau.frames._seal = sealing  # type: ignore[assignment,method-assign]  # the very moment matters
    return found


def test_bytes_that_another_process_answers_meanwhile_get_that_answer(bureau: Bureau) -> None:
    request = bureau.request([MONTHS], [{"child": ANNA}])
    size = bureau.log.newest.size
    theirs = _meanwhile(bureau, request)
    ours = bureau.send(request)[0]
    assert (ours.reply, ours.entry.entry) == (theirs[0].reply, theirs[0].entry.entry)
    assert bureau.log.refresh().size == size + 1


def test_a_guess_that_another_process_spends_meanwhile_is_spent(bureau: Bureau) -> None:
    for value in ("X1", "X2"):
        bureau.ask_all([f"child: hrss.status equals {value}"], {"child": ANNA})
    theirs = _meanwhile(bureau, bureau.request(["child: hrss.status equals X3"], [{"child": ANNA}]))
    assert bureau.ask_all(["child: hrss.status equals A1"], {"child": ANNA}) == [Outcome.GUESSES_SPENT]
    assert not theirs[0].reason


def _count(bureau: Bureau, table: str) -> int:
    with bureau.log.engine.connect() as connection:
        found: int = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()  # noqa: S608 - our names
    return found


def _break_after_commit(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next transaction is committed, and says that it failed."""
    backend = bureau.log.backend
    writing = backend.writing

    @contextmanager
    def broken() -> Iterator[Connection]:
        monkeypatch.setattr(backend, "writing", writing)
        with writing() as connection:
            yield connection
        raise FatalError(Reason.LOG_UNAVAILABLE, "nobody knows whether it was committed")

    monkeypatch.setattr(backend, "writing", broken)


def _refusals(bureau: Bureau, start: int) -> int:
    """How many refusals the log tells of, from an entry on."""
    found = [decode_entry(data) for data in bureau.log.entries(start, 1000)]
    return sum(entry.refusal.count for entry in found if entry.WhichOneof("event") == "refusal")


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "rolled back"])
def test_refusals_of_a_frame_that_failed_stand_in_the_log_once(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    bad = bureau.request([MONTHS], [{"child": ANNA}])
    bad.signature = bytes(64)
    good = bureau.request([MONTHS], [{"child": BO}])
    size = bureau.log.newest.size
    bureau.frames.turn_away(Reason.OVERLOADED, 7)
    bureau.now += 6
    if committed:
        _break_after_commit(bureau, monkeypatch)
    else:
        monkeypatch.setattr(bureau.frames, "_write", lambda *_: 1 / 0)
    items = bureau.send(bad, good)
    assert {item.reason for item in items} == {"LOG_UNAVAILABLE" if committed else "OWNER_FAILED"}
    monkeypatch.undo()
    for _ in range(3):
        bureau.frames.housekeep()
    assert _refusals(bureau, size) == 1 + 7
    # What its sender was told is what is counted, once for each item.
    assert bureau.frames.refused == {Reason.OVERLOADED: 7, Reason[items[0].reason]: 2}
    charged, size = _count(bureau, "guess"), bureau.log.newest.size
    assert bureau.open(good, bureau.send(good)[0]) == [NO]
    assert (_count(bureau, "guess") == charged) is committed
    assert bureau.log.newest.size == size + (not committed)


def test_refusals_of_frames_that_fail_for_long_are_bounded_and_still_counted(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "MAX_OWED", 5)
    bad = bureau.request([MONTHS], [{"child": ANNA}])
    bad.signature = bytes(64)
    good = bureau.request([MONTHS], [{"child": BO}])
    size = bureau.log.newest.size
    with monkeypatch.context() as failing:
        failing.setattr(bureau.frames, "_write", lambda *_: 1 / 0)
        for _ in range(4):
            bureau.send(bad, bad, bad, good)
    assert len(bureau.frames._owed) == 5
    bureau.now += 6
    bureau.frames.housekeep()
    assert _refusals(bureau, size) == 12
