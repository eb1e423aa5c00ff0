"""An entry in words: every kind of event has a title, and whatever a log says is harmless where it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from audit.entry import decode_entry, encode_entry
from emergency_support import DOCUMENTS
from exchange.evidence.account import EVENTS, account, rows
from exchange.evidence.rules import Past, Told, parties
from policy.centre import parse_centre
from policy.document import parse_document
from policy.history import PastDirectory
from policy_support import CENTRE
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2

EVENT_NAMES = [field.name for field in audit_pb2.Entry.DESCRIPTOR.oneofs_by_name["event"].fields]
HOSTILE = "\x1b[2J\u202e<b>"


def told(event: Any) -> dict[str, Any]:
    data = encode_entry(event, nonce=bytes(16), time=1_800_000_000)
    return account(7, data, decode_entry(data), Told(Past()))


def access(**changed: Any) -> audit_pb2.HubAccess:
    header = sealed_pb2.Header(
        system=f"spiffe://shenzhen/edu/system/{HOSTILE}",
        official=HOSTILE,
        role=HOSTILE,
        matter=HOSTILE,
        reference=HOSTILE,
        jurisdiction=HOSTILE,
        owner=HOSTILE,
        claims=[sealed_pb2.ClaimShape(slot=99, attribute=HOSTILE, cell=HOSTILE), sealed_pb2.ClaimShape()],
    )
    said: dict[str, Any] = {
        "header": header.SerializeToString(),
        "signature": bytes(64),
        "sealed_hash": bytes(32),
        "request_root": bytes(32),
        "outcome": audit_pb2.OUTCOME_ANSWERED,
        "rule_ids": [f"hrss/{HOSTILE},+3"],
        "denied_claims": [1, 44],
        "directory_version": 3,
    }
    return audit_pb2.HubAccess(**(said | changed))


@pytest.mark.parametrize("name", EVENT_NAMES)
def test_every_kind_of_event_has_a_title_in_both_languages(name: str) -> None:
    zh, en = EVENTS[name]
    assert zh
    assert en


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, one in value.items() for text in [key, *texts(one)]]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []


def test_what_a_log_says_commands_no_terminal_and_turns_no_line_around() -> None:
    said = told(access())
    for text in [*texts(said), *(cell for row in rows(said) for cell in row)]:
        assert all(character.isprintable() for character in text), text
    assert said["claims"][0]["rules"][1]["sentence"]["en"] == "3 more, not named in the entry"
    assert [claim["denied"] for claim in said["claims"]] == [False, True]


def test_an_entry_whose_header_cannot_be_read_is_told_all_the_same() -> None:
    said = told(access(header=b"\xff\xff"))
    assert "unreadable" in said
    assert list(rows(said))
    data = encode_entry(access(header=b"\xff\xff"), nonce=bytes(16), time=1)
    assert parties(decode_entry(data)) == (3, set(), set())


def test_without_the_directory_of_its_day_names_stand_for_themselves() -> None:
    data = encode_entry(access(reason="NOT_GRANTED", outcome=2), nonce=bytes(16), time=1)
    said = account(1, data, decode_entry(data), Told(Past(problem=("没有", "gone"))))
    assert said["rules"]["unavailable"] == {"zh": "没有", "en": "gone"}
    assert said["rules"]["verified"] == []
    assert said["reason"]["code"] == "NOT_GRANTED"
    assert said["outcome"]["code"] == "DENIED"


def test_a_rule_of_an_opened_emergency_is_told_with_what_was_prepared() -> None:
    source = DOCUMENTS["health"].encode()
    past = PastDirectory(3, {}, parse_centre(CENTRE.encode()), {"health": parse_document(source)}, {"health": source})
    said = Told(Past(past)).rule("health/emergency/outbreak/edu-20261127-3f9c2a")
    assert "any one admin of Education can open it, for 8 hours at most" in said["sentence"]["en"]
    assert "opened as edu-20261127-3f9c2a" in said["sentence"]["en"]
    assert said["source"].startswith("[[emergency]]")
    assert source.decode().splitlines()[said["line"] - 1] == "[[emergency]]"
    gone = Told(Past(past)).rule("health/emergency/flood/edu-1")
    assert "has no such rule" in gone["sentence"]["en"]
