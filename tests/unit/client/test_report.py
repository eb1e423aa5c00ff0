"""What owners are asked for and what is believed of their reports; how a report is shown."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client_support import directory
from exchange.cli.subject_report import Titles, as_object, as_page
from exchange.client.check import Answered
from exchange.client.outcome import Failure
from exchange.client.report import OwnerReport, report_claims, told
from policy.document import parse_document
from zhiwang.adapter.v1 import subject_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason
from zhiwang.wire.records import Answers, Outcome

HOSTILE = '</td><script src="x">\u202e\x1b[2J'


def answered(report: bytes, outcome: Outcome = Outcome.YES) -> Answered:
    answers = Answers(b"s" * 32, (None,), bytes([outcome]), report)
    return cast("Answered", SimpleNamespace(answers=answers))


def test_a_report_is_believed_of_the_owner_that_was_asked_alone() -> None:
    mine = subject_pb2.SubjectReport(owner="hrss", years=[2026])
    assert told("hrss", answered(mine.SerializeToString())) == OwnerReport("hrss", mine)
    assert told("health", answered(mine.SerializeToString())).reason is Reason.PROOF_INVALID
    assert told("hrss", answered(b"\xff")).reason is Reason.PROOF_INVALID


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Failure(Reason.OWNER_NOT_ATTACHED), Reason.OWNER_NOT_ATTACHED),
        (answered(b"", Outcome.REPORTS_SPENT), Reason.REPORTS_SPENT),
        (answered(b"", Outcome.UNKNOWN), Reason.OWNER_FAILED),
    ],
)
def test_an_owner_without_a_report_is_named_with_why(outcome: Any, reason: Reason) -> None:
    assert told("hrss", outcome) == OwnerReport("hrss", None, reason)


def test_every_owner_is_asked_or_named_as_one_that_publishes_no_report() -> None:
    text = (Path(__file__).parents[3] / "examples" / "documents" / "hrss.toml").read_bytes()
    found = directory()
    documents = {**found.documents, "hrss": parse_document(text)}
    claims = report_claims(SimpleNamespace(documents=documents), "self", "person")  # type: ignore[arg-type]
    owners = {owner for owner, document in documents.items() if document.attributes}
    assert claims.keys() == owners
    assert claims["hrss"] == "self: hrss.lookups report"
    assert {claim for owner, claim in claims.items() if owner != "hrss"} == {None}
    assert report_claims(SimpleNamespace(documents=documents), "home", "dwelling")["hrss"] is None  # type: ignore[arg-type]


def hostile_report() -> subject_pb2.SubjectReport:
    asked = subject_pb2.Asked(attribute=HOSTILE, predicate=sealed_pb2.PREDICATE_EXISTS, fate=subject_pb2.FATE_ALLOWED)
    row = subject_pb2.Lookups(
        department="edu", system=HOSTILE, official=HOSTILE, matter=HOSTILE, reference=HOSTILE, entries=1, asked=[asked]
    )
    return subject_pb2.SubjectReport(owner="hrss", lookups=[row], left_out=3)


def test_what_an_owner_says_commands_neither_page_nor_terminal() -> None:
    parts = [OwnerReport("hrss", hostile_report()), OwnerReport("health", None, Reason.OWNER_NOT_ATTACHED)]
    page = as_page(parts, Titles(), reference="AR2026-000001", made="today")
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "本报告不完整" in page
    assert "health" in page
    assert "3" in page


def test_a_report_says_that_queries_may_be_delayed_whether_or_not_one_is() -> None:
    delayed = subject_pb2.SubjectReport(owner="hrss")
    notes = [as_object([OwnerReport("hrss", report)], Titles())["notes"] for report in (delayed, hostile_report())]
    assert notes[0] == notes[1]
    assert any("延期告知" in note["zh"] for note in notes[0])
