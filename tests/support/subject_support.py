"""An owner whose log tells who asked about somebody, and its own people who read and order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_frames import Bureau, grants
from adapter_support import ANNA, BO, CHEN, DING, attribute
from adapters.ledger import Ledger
from adapters.subject_service import SubjectAdminServicer, SubjectServicer
from audit.holds import Hold, HoldBook
from audit.query import EVERYTHING, Query, scope_of
from certs.identity import Identity
from log_places import PostgresDatabase
from zhiwang.adapter.v1 import subject_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.call import Peer, PeerTable
from zhiwang.wire.header import parse_header
from zhiwang.wire.identifiers import scheme
from zhiwang.wire.records import Answers, Outcome, decode_answers

TABLES = """
CREATE TABLE person (id_card TEXT, region TEXT, months INTEGER);
CREATE INDEX person_id ON person (id_card);
CREATE TABLE parent (child TEXT, parent TEXT);
CREATE INDEX parent_child ON parent (child);
"""
ROWS: dict[str, Sequence[Sequence[object]]] = {
    "person": [(ANNA, "440306001001", 12), (BO, "440305", 3), (DING, "440306", None)],
    "parent": [(ANNA, BO)],
}
MAPPING = """
[limits]
values = 2
reports = 3
department_reports = 4

[data.person]
table = "person"
subject = "id_card"
region = { column = "region", codes = "nbs" }

[data.parent]
table = "parent"
subject = "child"

[attribute.months]
data = "person"
value = "months"

[attribute.secret]
data = "person"
value = "months"

[attribute.parent]
data = "parent"
value = "parent"
rows = "any"
"""
PUBLISHED = "".join([
    attribute("months", 'type = "integer"\nat_least = [6, 12]'),
    attribute("secret", 'type = "integer"\nat_least = [6, 12]'),
    attribute("parent", 'type = "person"\nasks = ["related"]'),
    attribute("lookups", 'asks = ["report"]'),
    grants(["hrss.months at_least", "hrss.parent related"]),
    grants(["hrss.lookups report"], roles=["civil/clerk"]).replace("g-civil-0", "g-desk"),
])  # fmt: skip

MONTHS = "child: hrss.months at_least 12"
PARENT = "child: hrss.parent related @guardian"
REPORT = "child: hrss.lookups report"
EVERYBODY = (ANNA, BO, CHEN, DING)
DESK = "civil/system/cards"


def bureau_in(directory: Path, store: PostgresDatabase | None = None) -> Bureau:
    return Bureau(directory, store=store, tables=TABLES, rows=ROWS, mapping=MAPPING, published=PUBLISHED)


def report_request(bureau: Bureau, who: str, **fields: Any) -> sealed_pb2.SealedRequest:
    return bureau.request([REPORT], [{"child": who}], short=DESK, **({"reference": "2026-700001"} | fields))


def opened(bureau: Bureau, request: sealed_pb2.SealedRequest) -> Answers:
    """What the desk reads of the reply, which commits to it."""
    item = bureau.send(request)[0]
    assert not item.reason, item.reason
    header = parse_header(request.header)
    context = bureau.requester(DESK).context
    return decode_answers(header, context.open_reply(header.hash, item.reply.nonce, item.reply.ciphertext))


def told(bureau: Bureau, who: str, **fields: Any) -> subject_pb2.SubjectReport:
    """The report that a desk gets."""
    answers = opened(bureau, report_request(bureau, who, **fields))
    assert list(answers.outcomes) == [Outcome.YES]
    return subject_pb2.SubjectReport.FromString(answers.report)


def shown(report: subject_pb2.SubjectReport) -> list[subject_pb2.Lookups]:
    """What it tells beside the desk's own look-ups."""
    return [row for row in report.lookups if not any(one.attribute == "hrss.lookups" for one in row.asked)]


@dataclass
class People:
    """The owner's own people, at its services."""

    bureau: Bureau
    caller: str = "hrss/auditor/wu"

    def __post_init__(self) -> None:
        bureau, log = self.bureau, self.bureau.log
        schemes = {"person": scheme("resident")}
        ledger = Ledger(b"k" * 32, bureau.mapping.limits, self.now)
        trace = bureau.trace()
        self.reader = SubjectServicer(
            bureau.frames.subjects,
            log,
            trace,
            ledger,
            lambda: schemes,
            lambda identity: scope_of(identity, "hrss", office=identity.department == "office"),
            self.now,
            self.peer,
        )
        self.admin = SubjectAdminServicer(
            "hrss", log, trace, lambda: schemes, bureau.state.store, HoldBook(log), self.now, self.peer
        )

    def now(self) -> float:
        return self.bureau.now

    def peer(self) -> Peer:
        return Peer(Identity.parse_short("shenzhen", self.caller), 1, b"", 0.0, 1e12, PeerTable("shenzhen"))

    def read(self, who: str, *, whole: bool = False, reference: str = "2026-800001") -> subject_pb2.SubjectReport:
        request = subject_pb2.ReportRequest(
            subject=subject_pb2.Subject(kind="person", identifier=who), reference=reference, whole=whole
        )
        response: subject_pb2.ReportResponse = asyncio.run(self.reader.Report(request, None))
        return response.report

    def delay(self, seconds: float, **fields: str) -> int:
        request = subject_pb2.DelayRequest()
        for name, text in ({"order": "2026-D-1"} | fields).items():
            setattr(request, name, text)
        request.until_time.seconds = int(self.bureau.now + seconds)
        return int(asyncio.run(self.admin.Delay(request, None)).index)

    def hold(self, matter: str) -> None:
        by = Identity.parse_short("shenzhen", self.caller).uri
        now = self.bureau.now
        hold = Hold("2026-H-1", by, now, now + 86_400, Query(matter=matter), EVERYTHING)
        self.bureau.frames.record([hold.event()])

    def erase(self, who: str) -> subject_pb2.EraseResponse:
        request = subject_pb2.EraseRequest(subject=subject_pb2.Subject(kind="person", identifier=who), order="2026-E-1")
        return asyncio.run(self.admin.Erase(request, None))
