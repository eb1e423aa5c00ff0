"""Why one asks is complete and well formed before anything is sealed under it."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from client_support import CONTEXT, MOTHER, TODAY, directory
from exchange.client.case import Context
from exchange.client.question import Questions
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.profile import Defaults

DIRECTORY = directory()
DEFAULTS = Defaults(
    role="edu/enrolment-clerk", jurisdiction="nbs:440306", official="clerk-1", matter="school-enrolment"
)


def test_what_is_left_out_comes_from_the_profile() -> None:
    question = Questions(DEFAULTS).question(Context("", "2026-000001"), DIRECTORY, TODAY)
    assert question.planner.matter.name == "school-enrolment"
    assert (question.purpose.role, question.purpose.official) == ("edu/enrolment-clerk", "clerk-1")
    assert question.purpose.jurisdiction == "nbs:440306"


def test_the_reference_date_is_the_matters_or_the_day_of_asking() -> None:
    questions = Questions(DEFAULTS)
    fixed = questions.question(Context("", "2026-000001"), DIRECTORY, TODAY)
    assert fixed.purpose.reference_date == "2026-09-01"
    open_one = questions.question(Context("senior-card", "2026-000001"), DIRECTORY, date(2026, 10, 2))
    assert open_one.purpose.reference_date == "2026-10-02"
    chosen = questions.question(Context("", "2026-000001", reference_date="2026-09-03"), DIRECTORY, TODAY)
    assert chosen.purpose.reference_date == "2026-09-03"


def test_no_snapshot_is_kept_for_a_matter_that_is_not_asked_for_any_more() -> None:
    questions, before = Questions(DEFAULTS), directory()
    old = weakref.ref(questions.question(Context("senior-card", "2026-000001"), before, TODAY).planner)
    assert questions.question(Context("senior-card", "2026-000001"), before, TODAY).planner is old()
    questions.question(Context("", "2026-000001"), directory(), TODAY)
    gc.collect()
    assert old() is None


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"matter": "no-such"}, Reason.MATTER_NOT_ALLOWED, "context.matter"),
        ({"reference": "x"}, Reason.REFERENCE_INVALID, "context.reference"),
        ({"reference": ""}, Reason.REFERENCE_INVALID, "context.reference"),
        ({"official": "李"}, Reason.OFFICIAL_INVALID, "context.official"),
        ({"official": MOTHER}, Reason.OFFICIAL_INVALID, "context.official"),
        ({"official": ""}, Reason.OFFICIAL_INVALID, "context.official"),
        ({"matter": "senior-card", "reference": MOTHER}, Reason.REFERENCE_INVALID, "context.reference"),
        ({"matter": "senior-card", "reference": f"a-{MOTHER}"}, Reason.REFERENCE_INVALID, "context.reference"),
        ({"role": ""}, Reason.ROLE_NOT_HELD, "context.role"),
        ({"role": "no role"}, Reason.ROLE_NOT_HELD, "context.role"),
        ({"jurisdiction": "440306"}, Reason.JURISDICTION_INVALID, "context.jurisdiction"),
        ({"reference_date": "tomorrow"}, Reason.DATE_NOT_PUBLISHED, "context.reference_date"),
    ],
)
def test_a_context_that_cannot_be_asked_under_is_refused_by_its_field(
    changes: dict[str, Any], reason: Reason, field: str
) -> None:
    context = replace(CONTEXT, **changes)
    with pytest.raises(RefusedError) as caught:
        Questions(Defaults()).question(context, DIRECTORY, TODAY)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert MOTHER not in f"{caught.value} {caught.value.detail}"


def test_a_planner_lasts_for_one_snapshot() -> None:
    questions = Questions(DEFAULTS)
    first = questions.planner("school-enrolment", DIRECTORY)
    assert questions.planner("school-enrolment", DIRECTORY) is first
    assert questions.planner("school-enrolment", directory(version=8)) is not first
