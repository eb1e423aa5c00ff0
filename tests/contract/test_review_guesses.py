"""One compared value is one guess, whatever characters it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapter_frames import Bureau, grants
from adapter_support import ANNA, BO, attribute
from adapters.dialects import SEPARATOR
from log_places import PostgresDatabase
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.records import CaseRecord, Outcome, SubjectRecord

TABLES = "CREATE TABLE person (id_card TEXT, status TEXT, motto TEXT);"

MAPPING = """
[data.person]
table = "person"
subject = "id_card"

[attribute.status]
data = "person"
value = "status"

[attribute.motto]
data = "person"
value = "motto"
"""

PUBLISHED = "".join([
    attribute("status", 'type = "code"\nasks = ["equals"]'),
    attribute("motto", 'type = "text"\nasks = ["equals"]'),
    grants(["hrss.status equals", "hrss.motto equals"]),
])  # fmt: skip


@pytest.fixture
def bureau(tmp_path: Path, store: PostgresDatabase | None) -> Iterator[Bureau]:
    rows = {"person": [(ANNA, "A1", "安"), (BO, "", "")]}
    bureau = Bureau(tmp_path, store=store, tables=TABLES, rows=rows, mapping=MAPPING, published=PUBLISHED)
    yield bureau
    bureau.close()


def _ask(bureau: Bureau, attribute: str, subject: str, value: str) -> Outcome:
    """Ask as a requester with a program of its own would, past every check of an agent."""
    request = bureau.request([f"child: hrss.{attribute} equals A1"], [{"child": subject}])
    message = sealed_pb2.Header.FromString(request.header)
    record = CaseRecord(b"s" * 32, (SubjectRecord("person", subject, ""),), (value,))
    request = bureau.seal(bureau.requester(), message, [record])
    (outcome,) = bureau.open(request, bureau.send(request)[0])
    return outcome


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("status", f"X1{SEPARATOR}A1{SEPARATOR}X2"),
        ("status", f"X1{SEPARATOR}A1"),
        ("motto", f"平{SEPARATOR}安"),
    ],
)
def test_a_list_of_values_is_no_guess(bureau: Bureau, attribute: str, value: str) -> None:
    assert _ask(bureau, attribute, ANNA, value) is Outcome.VALUE_INVALID


@pytest.mark.parametrize("value", [f"X1{SEPARATOR}", f"{SEPARATOR}X1"])
@pytest.mark.parametrize("attribute", ["status", "motto"])
def test_a_guess_never_is_the_empty_value_as_well(bureau: Bureau, attribute: str, value: str) -> None:
    assert _ask(bureau, attribute, BO, value) is Outcome.VALUE_INVALID
