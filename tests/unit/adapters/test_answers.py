"""Shares of answers: what alarms, what does not, whom it closes an attribute for, and until when."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from pydantic import ValidationError

from adapters.answers import LEARNT, AnswerWatch, Key, wilson
from adapters.database import DatabaseError
from adapters.limits import Watch
from adapters.mapping import MappedAttribute
from zhiwang.wire.claims import Predicate
from zhiwang.wire.records import Outcome

LEAST = 200
ASKED = Predicate.AT_LEAST
BANDS = Watch(unknown=(0.0, 0.3), no=(0.05, 0.6), least=LEAST, suspend=True)


def watching(watch: Watch | None = None, path: Path | None = None) -> AnswerWatch:
    return AnswerWatch({"months": MappedAttribute(data="person", watch=watch or Watch(least=LEAST))}, path)


def note(
    watch: AnswerWatch, yes: int = 0, no: int = 0, unknown: int = 0, *, by: str = "edu", loaded: int | None = 1000
) -> list[dict[str, Any]]:
    """Answers to one request about many cases, after a claim that was denied. Returns what was logged."""
    codes = [Outcome.YES] * yes + [Outcome.NO] * no + [Outcome.UNKNOWN] * unknown
    claims = [SimpleNamespace(attribute=name, predicate=ASKED) for name in ("other", "months")]
    outcomes = bytearray(b"".join(bytes([Outcome.DENIED_BY_HUB, code]) for code in codes))
    examination: Any = SimpleNamespace(
        header=SimpleNamespace(claims=claims), outcomes=outcomes, data_as_of=[None, loaded]
    )
    with structlog.testing.capture_logs() as lines:
        watch.note(by, examination)
    return [dict(line) for line in lines]


def closed(watch: AnswerWatch, by: str = "edu") -> bool:
    return watch.closed("months", ASKED, by)


def test_the_interval_is_wilsons() -> None:
    assert wilson(0, 10, 1.96) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(5, 10, 1.96) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(10, 10, 1.96) == pytest.approx((0.7225, 1), abs=1e-4)


def test_noise_around_a_share_within_its_band_alarms_nobody() -> None:
    watch, chance = watching(BANDS), random.Random(7)  # noqa: S311 - the same numbers each time
    for _ in range(500):
        unknown = sum(chance.random() < 0.3 for _ in range(LEAST))
        no = sum(chance.random() < 0.3 for _ in range(LEAST - unknown))
        assert not [line for line in note(watch, LEAST - unknown - no, no, unknown) if line["log_level"] == "error"]
    assert not closed(watch)


def test_a_share_outside_its_band_alarms_once_and_closes_when_the_window_is_full() -> None:
    watch = watching(BANDS)
    assert note(watch, no=20, unknown=LEAST - 21) == []
    assert not closed(watch)
    (alarm,) = note(watch, yes=1)
    assert (alarm["event"], alarm["log_level"], alarm["attribute"], alarm["department"]) == (
        "answers out of band", "error", "months", "edu",
    )  # fmt: skip
    assert (alarm["answer"], alarm["share"], alarm["band"], alarm["suspended"]) == ("UNKNOWN", 0.9, (0.0, 0.3), True)
    assert closed(watch)
    assert watch.take_alarm()
    assert not watch.take_alarm()
    assert note(watch, unknown=LEAST) == []


def test_a_share_below_its_band_alarms_too() -> None:
    watch = watching(BANDS)
    assert [line["answer"] for line in note(watch, yes=2 * LEAST)] == ["NO"]


def test_without_a_band_a_jump_from_what_is_usual_alarms_and_closes_nothing() -> None:
    jumps: dict[str, dict[str, Any]] = {answer: {answer: LEAST} for answer in ("yes", "no", "unknown")}
    for answer, jump in jumps.items():
        watch = watching()
        for _ in range(LEARNT):
            assert note(watch, yes=80, no=60, unknown=60) == []
        (alarm,) = note(watch, **jump)
        assert (alarm["answer"], alarm["suspended"]) == (answer.upper(), False)
        assert not closed(watch)
        assert watch.outside == {Key("months", ASKED, "edu")}
        assert [line["event"] for line in note(watch, yes=80, no=60, unknown=60)] == [
            "answers are within their bands again"
        ]


def test_before_anything_is_usual_only_bands_alarm() -> None:
    watch = watching()
    for _ in range(LEARNT):
        assert note(watch, unknown=LEAST) == []


def test_a_department_that_asks_rubbish_closes_an_attribute_for_itself_alone() -> None:
    watch = watching(BANDS)
    note(watch, yes=40, no=20, unknown=20, by="civil")
    note(watch, unknown=50 * LEAST, by="edu")
    assert closed(watch, "edu")
    note(watch, yes=80, no=40, by="civil")
    assert not closed(watch, "civil")
    assert not watch.closed("months", Predicate.EXISTS, "edu")
    # Nor do the few answers of one fill the window of another.
    watch = watching(BANDS)
    note(watch, yes=LEAST - 1, by="edu")
    note(watch, unknown=LEAST, by="civil")
    assert (closed(watch, "edu"), closed(watch, "civil")) == (False, True)


def test_what_is_suspended_is_answered_again_after_a_newer_load_and_for_nothing_else() -> None:
    watch = watching(BANDS)
    note(watch, unknown=LEAST, loaded=1000)
    for loaded in (None, 999, 1000):
        watch.lift(lambda _attribute, loaded=loaded: loaded)  # type: ignore[misc]  # of this round
        assert closed(watch)
    note(watch, yes=LEAST, loaded=2000)
    assert closed(watch)
    watch.lift(lambda _attribute: 1001)
    assert not closed(watch)
    # If the new load is no better, it is closed again.
    note(watch, unknown=LEAST, loaded=1001)
    assert closed(watch)


def test_what_was_suspended_while_no_load_was_told_is_answered_again_after_the_next(tmp_path: Path) -> None:
    watch = watching(BANDS, tmp_path / "answers.json")
    note(watch, unknown=LEAST, loaded=None)
    assert closed(watch)
    watch.lift(lambda _attribute: None)
    assert closed(watch)
    watch.lift(lambda _attribute: 1)
    assert not closed(watch)


def test_a_window_is_as_new_as_its_newest_load() -> None:
    watch = watching(BANDS)
    # One request of the window was answered from the newer load, whatever came after it.
    note(watch, unknown=1, loaded=2000)
    note(watch, unknown=LEAST, loaded=None)
    watch.lift(lambda _attribute: 2000)
    assert closed(watch)
    note(watch, unknown=LEAST, loaded=1000)
    watch.lift(lambda _attribute: 1500)
    assert closed(watch)
    watch.lift(lambda _attribute: 2001)
    assert not closed(watch)


def test_a_data_set_whose_load_cannot_be_read_keeps_no_other_one_suspended() -> None:
    names = ("broken", "months")
    watch = AnswerWatch({name: MappedAttribute(data=name, watch=BANDS) for name in names})
    for name in names:
        examination: Any = SimpleNamespace(
            header=SimpleNamespace(claims=[SimpleNamespace(attribute=name, predicate=ASKED)]),
            outcomes=bytearray([Outcome.UNKNOWN] * LEAST),
            data_as_of=[1000],
        )
        watch.note("edu", examination)

    def loaded(attribute: str) -> int:
        if attribute == "broken":
            raise DatabaseError
        return 2000

    watch.lift(loaded)
    assert {key.attribute for key in watch.suspended} == {"broken"}


def test_shares_that_could_not_be_kept_are_kept_as_soon_as_they_can_be(tmp_path: Path) -> None:
    path = tmp_path / "full" / "answers.json"
    watch = watching(path=path)
    note(watch, yes=LEAST)
    with pytest.raises(FileNotFoundError):
        watch.save()
    path.parent.mkdir()
    watch.save()
    assert "months" in path.read_text("utf-8")


def test_only_usual_shares_outlive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    watch = watching(path=path)
    for _ in range(LEARNT):
        note(watch, yes=100, no=60, unknown=40)
    note(watch, yes=7, by="civil")
    watch.save()
    assert path.stat().st_mode & 0o777 == 0o600
    # A window that is not full leaves nothing on disk.
    assert "civil" not in path.read_text("utf-8")
    again = watching(path=path)
    assert [line["answer"] for line in note(again, unknown=LEAST)] == ["UNKNOWN"]
    written = path.stat().st_mtime_ns
    watch.save()
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "text", ["", "{}", '{"usual": [["months"]]}', '{"usual": [["months", "at_least", "edu", "x", 1, 0, 0]]}']
)
def test_shares_that_cannot_be_read_are_learnt_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "answers.json"
    path.touch(0o600)
    path.write_text(text, "utf-8")
    watch = watching(path=path)
    for _ in range(LEARNT):
        assert note(watch, yes=LEAST) == []
    watch.save()
    assert "edu" in path.read_text("utf-8")


@pytest.mark.parametrize("band", [(0.3, 0.3), (0.5, 0.1), (-0.1, 0.5), (0.5, 1.1)])
def test_a_band_that_is_none_is_refused(band: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="must be two shares"):
        Watch(unknown=band)
