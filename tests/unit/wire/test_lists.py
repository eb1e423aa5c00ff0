"""A list and what lies beside it belong together, whoever else makes the same list at the same time."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from zhiwang.wire.lists import HEADINGS, LEFT_OUT, RECORD, ListError, ListRecord, NewList, new_list, read_record

NAME = "seniors.csv"


def record(entry: int) -> ListRecord:
    return ListRecord(
        "police", "DRAWN", "seniors", "person", "senior-invite", "R1", "clerk-1", "2026-01-01", 1, entry, "00" * 32
    )


def fill(new: NewList, entry: int) -> None:
    """A list of one person, recorded under an entry, with a row that was left out."""
    writer = csv.writer(new.file)
    writer.writerow(HEADINGS)
    writer.writerow((f"key-{entry}", "440399196001010016", ""))
    new.record(record(entry), new.digest())
    new.put_beside(LEFT_OUT, f"left out by {entry}".encode())


def test_of_two_runs_one_takes_the_name_and_its_record_stays_with_it(tmp_path: Path) -> None:
    path = tmp_path / NAME

    def overtaken() -> None:
        with new_list(path) as slow:
            fill(slow, 1)
            with new_list(path) as quick:
                fill(quick, 2)

    with pytest.raises(ListError, match="has appeared meanwhile"):
        overtaken()
    assert read_record(path).entry == 2
    assert (tmp_path / (NAME + LEFT_OUT)).read_bytes() == b"left out by 2"
    assert sorted(one.name for one in tmp_path.iterdir()) == [NAME, NAME + LEFT_OUT, NAME + RECORD]


def test_who_is_overtaken_at_the_last_moment_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NAME
    link = os.link

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        with new_list(path) as quick:
            fill(quick, 2)
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    with pytest.raises(ListError, match="has appeared meanwhile"), new_list(path) as slow:
        fill(slow, 1)
    assert read_record(path).entry == 2
    assert (tmp_path / (NAME + LEFT_OUT)).read_bytes() == b"left out by 2"


def test_what_lies_beside_a_list_is_private_and_an_earlier_lists_goes(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with new_list(path) as new:
        fill(new, 1)
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o600}
    path.unlink()
    with new_list(path) as new:
        fill(new, 2)
        new.put_beside(LEFT_OUT, None)
    assert read_record(path).entry == 2
    assert not (tmp_path / (NAME + LEFT_OUT)).exists()


def test_a_list_whose_record_did_not_take_its_name_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NAME
    with new_list(path) as new:
        fill(new, 1)
    path.unlink()

    def killed(_self: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt), new_list(path) as new:
        fill(new, 2)
    assert path.exists()
    with pytest.raises(ListError, match="is not as it was recorded"):
        read_record(path)


def test_nothing_of_a_list_that_failed_is_left(tmp_path: Path) -> None:
    def failing() -> None:
        with new_list(tmp_path / NAME) as new:
            fill(new, 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert list(tmp_path.iterdir()) == []
