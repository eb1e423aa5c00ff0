"""Nothing that leaves an owner tells why it cannot say: no record, another name, another place, null, stale, a bad row.

Byte for byte as long, charged and indexed alike, at the real adapter with a clock that stands still.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapter_frames import Bureau, grants
from adapter_support import attribute, resident
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.wire.records import Outcome

YES, NO = resident(1), resident(2)
UNKNOWN = {
    "no record": (resident(3), "安娜"),
    "another name": (resident(4), "安邦"),
    "another place": (resident(5), "安娜"),
    "null": (resident(6), "安娜"),
    "a row that cannot be read": (resident(7), "安娜"),
    "rows that disagree": (resident(8), "安娜"),
}
MONTHS = "child: hrss.months at_least 12"

MAPPING = """
[data.person]
table = "person"
subject = "id_card"
name = "full_name"
region = { column = "region", codes = "nbs" }

[attribute.months]
data = "person"
value = "months"
"""


@pytest.fixture
def bureau(tmp_path: Path) -> Iterator[Bureau]:
    bureau = Bureau(
        tmp_path,
        tables="CREATE TABLE person (id_card TEXT, full_name TEXT, region TEXT, months);"
        "CREATE INDEX person_id ON person (id_card);",
        rows={
            "person": [
                (YES, "安娜", "440306001001", 24),
                (NO, "安娜", "440306001001", 1),
                (resident(4), "安娜", "440306001001", 24),
                (resident(5), "安娜", "440305001001", 24),
                (resident(6), "安娜", "440306001001", None),
                (resident(7), "安娜", "440306001001", "两年"),
                (resident(8), "安娜", "440306001001", 24),
                (resident(8), "安娜", "440306001001", 1),
            ]
        },
        mapping=MAPPING,
        published=attribute("months", 'type = "integer"\nat_least = [6, 12]') + grants(["hrss.months at_least"]),
    )
    yield bureau
    bureau.close()


def _rows(bureau: Bureau) -> dict[str, int]:
    with closing(sqlite3.connect(bureau.directory / "state" / "adapter.db")) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own tables
            for table in ("guess", "trace", "replay", "log_entry")
        }


def _ask(bureau: Bureau, subject: tuple[str, str]) -> tuple[list[Outcome], dict[str, object]]:
    """The outcome, and all that a hub, a wire or a disk could measure of it."""
    before = _rows(bureau)
    request = bureau.request([MONTHS], [{"child": subject}], jurisdiction="nbs:440306")
    item: adapter_pb2.ReplyFrame.Item = bureau.send(request)[0]
    after = _rows(bureau)
    return bureau.open(request, item), {
        "request": len(request.ciphertext),
        "reply": len(item.reply.SerializeToString()),
        "entry": len(item.entry.entry),
        "reason": item.reason,
        "data_as_of": bureau.data_as_of,
        **{table: after[table] - before[table] for table in before},
    }


def test_nothing_that_can_be_measured_tells_one_unknown_from_another_or_from_an_answer(bureau: Bureau) -> None:
    outcome, measured = _ask(bureau, (YES, "安娜"))
    assert outcome == [Outcome.YES]
    assert measured["guess"]
    assert _ask(bureau, (NO, "安娜")) == ([Outcome.NO], measured)
    for why, subject in UNKNOWN.items():
        assert (why, *_ask(bureau, subject)) == (why, [Outcome.UNKNOWN], measured)


def test_a_group_of_unknowns_is_as_long_as_one_of_answers(bureau: Bureau) -> None:
    found = []
    for subjects in ([(YES, "安娜")] * 5, [(NO, "安娜")] * 5, list(UNKNOWN.values())[:5]):
        request = bureau.request([MONTHS], [{"child": one} for one in subjects], jurisdiction="nbs:440306")
        item = bureau.send(request)[0]
        found.append((len(request.ciphertext), len(item.reply.ciphertext), len(item.entry.entry)))
    assert len(set(found)) == 1
