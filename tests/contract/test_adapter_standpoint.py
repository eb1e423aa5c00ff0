"""A published document that a running adapter's mapping does not fit: what is closed by it, and what opens it again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapter_frames import Bureau, grants
from adapter_support import ANNA, BO, attribute, document
from adapters.ledger import Ledger
from adapters.mapping import unfit
from adapters.standpoint import Standpoint, Standpoints
from policy.directory import DirectoryHolder
from zhiwang.wire.records import Outcome

YES, CLOSED = Outcome.YES, Outcome.PROBE_FAILED

MAPPING = f"""
[data.home]
table = "home"
subject = "id_card"

[data.person]
table = "person"
subject = "id_card"

[attribute.home]
data = "home"

[attribute.owner]
data = "home"

[attribute.card]
data = "person"

[[probe]]
claim = "hrss.card exists"
subject = "{ANNA}"
answer = "YES"
"""

EXISTS = 'asks = ["exists"]'
FRESH = 'asks = ["exists", "absent"]\nmax_age = "2d"'
OWNER, CARD = attribute("owner", EXISTS), attribute("card", EXISTS)
PUBLISHED = attribute("home", EXISTS) + OWNER + CARD
ASKED = ["child: hrss.home exists", "child: hrss.owner exists", "child: hrss.card exists"]


class Office(Bureau):
    """A bureau whose requests are decided by `Standpoints`, as those of a process are."""

    def __init__(self, directory: Path) -> None:
        granted = grants(["hrss.home exists", "hrss.owner exists", "hrss.card exists"])
        super().__init__(
            directory,
            tables="CREATE TABLE home (id_card TEXT); CREATE TABLE person (id_card TEXT);",
            rows={"home": [(ANNA,)], "person": [(ANNA,)]},
            mapping=MAPPING,
            published=PUBLISHED + granted,
        )
        ledger = Ledger(b"k" * 32, self.mapping.limits, lambda: self.now)
        self.holder = DirectoryHolder(lambda: self.now)
        self.standpoints = Standpoints(
            self.holder, self.connections, self.mapping, ledger, self.document, self.answers, lambda: self.now
        )
        self.holder.on_change(self.standpoints.refresh)
        self.holder.set(self.directory_)
        self.standpoints.probe()

    def standpoint(self) -> Standpoint:
        return self.standpoints.current()

    def publish(self, text: str, asks: list[str]) -> None:
        newer = replace(document(text + grants(asks)), version=3)
        self.holder.set(replace(self.directory_, documents={**self.directory_.documents, "hrss": newer}))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.close()


def test_absence_is_not_told_by_a_document_that_the_mapping_does_not_fit(office: Office) -> None:
    assert office.ask_all(ASKED, {"child": ANNA}) == [YES] * 3
    asks = ["hrss.home exists", "hrss.home absent", "hrss.owner exists", "hrss.card exists"]
    office.publish(attribute("home", FRESH) + OWNER + CARD, asks)
    # When the homes were loaded is not known, so nobody is without one; what needs `loaded` is the whole data set.
    assert office.ask_all(["child: hrss.home absent"], {"child": BO}) == [CLOSED]
    assert office.ask_all(ASKED, {"child": ANNA}) == [CLOSED, CLOSED, YES]
    office.publish(PUBLISHED, ["hrss.home exists", "hrss.owner exists", "hrss.card exists"])
    assert office.ask_all(ASKED, {"child": ANNA}) == [YES] * 3


@pytest.mark.parametrize(
    ("published", "closed"),
    [
        (PUBLISHED, set()),
        (PUBLISHED + attribute("new", EXISTS), {"new"}),
        (PUBLISHED.replace(CARD, attribute("card", 'type = "integer"\nat_least = [1]')), {"card"}),
        (PUBLISHED.replace(CARD, attribute("card", EXISTS, subject="dwelling")), set()),
        # Both lie in one table, and either may be the one that is wrong.
        (PUBLISHED.replace(OWNER, attribute("owner", EXISTS, subject="dwelling")), {"home", "owner"}),
        (attribute("home", 'asks = ["exists"]\nmax_age = "2d"') + OWNER + CARD, {"home", "owner"}),
        (attribute("home", EXISTS) + OWNER, {"card"}),
    ],
)
def test_a_document_closes_what_its_mistakes_concern_and_nothing_else(
    office: Office, published: str, closed: set[str]
) -> None:
    assert unfit(office.mapping, document(published))[0] == closed


def test_a_document_of_another_department_closes_everything(office: Office) -> None:
    assert unfit(office.mapping, document(PUBLISHED, "police"))[0] == {"home", "owner", "card"}
