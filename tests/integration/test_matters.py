"""`zhiwang matter` over the real processes of a city: every row's ruling and points are those of the truth."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from exchange.demo.build import Layout, examples_directory
from exchange.demo.generate import generate
from exchange.demo.matters import Case, rosters
from exchange.demo.places import read_places
from policy.authorise import local_date

ZHIWANG = str(Path(sysconfig.get_path("scripts")) / "zhiwang")
STUDENTS, RESIDENTS, SEED = 40, 2500, 1
PROFILES = {
    "residence-permit": "permits.toml",
    "senior-card": "seniors.toml",
    "housing-lease": "leases.toml",
    "school-points": "edu.toml",
}
IDENTIFIER = re.compile(r"440399[0-9]{11}[0-9X]")
pytestmark = pytest.mark.timeout(600)  # a city is eleven processes, and the machine may have other work


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own commands
        [ZHIWANG, *arguments], input=given, capture_output=True, text=True, timeout=400, check=False
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    city = tmp_path_factory.mktemp("matters") / "city"
    try:
        done = run("demo", "--keep", "--dir", str(city), "--students", str(STUDENTS), "--residents", str(RESIDENTS))
        assert done.returncode == 0, done.stderr
        yield city
    finally:
        processes = Layout(city).processes
        if processes.exists():
            pids = json.loads(processes.read_text("utf-8")).values()
            run("demo", "--stop", "--dir", str(city))
            for pid in pids:
                try:
                    os.killpg(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


@pytest.fixture(scope="module")
def expected() -> dict[str, Case]:
    today = local_date(time.time())
    places = read_places(examples_directory() / "shenzhen_divisions.csv")
    return rosters(generate(seed=SEED, residents=RESIDENTS, students=STUDENTS, places=places, today=today), today)


def asked(directory: Path, case: Case, *more: str) -> list[str]:
    found = ["matter", "run", case.matter, "--profile", str(directory / PROFILES[case.matter])]
    return [*found, "--reference", case.reference, "--official", "clerk-17", *more]


def columns(subjects: Sequence[str]) -> list[str]:
    return [text for subject in subjects for text in ("--subject", subject)]


def results(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("matter", PROFILES)
def test_every_ruling_of_a_roster_is_that_of_the_truth(
    matter: str, directory: Path, expected: dict[str, Case], tmp_path: Path
) -> None:
    case, out = expected[matter], tmp_path / "results.csv"
    roster = directory / "rosters" / f"{matter}.csv"
    done = run(*asked(directory, case, "--roster", str(roster), "--out", str(out), *columns(case.subjects), "--json"))
    assert done.returncode == 1, done.stderr
    assert not IDENTIFIER.search(done.stdout + done.stderr + out.read_text("utf-8"))
    found = results(out)
    assert [one["ruling"] for one in found] == [line.ruling for line in case.lines]
    rulings = {line.ruling for line in case.lines}
    assert rulings == {"PASSED", "CHECK_BY_HAND", "DATA_DISAGREES"} or matter == "housing-lease"
    for one in found:
        assert (one["because"] == "") == (one["ruling"] == "PASSED")
        if one["because"]:
            parts = one["because"].split("; ")
            assert all(", 0755-" in part for part in parts)
            # Of a company that nobody named no data was looked at.
            assert all("data as of 20" in part or part.startswith("licensed: UNKNOWN") for part in parts)
    if matter == "school-points":
        for one, line in zip(found, case.lines, strict=True):
            if line.ruling != "DATA_DISAGREES":
                assert (int(one["points_least"]), int(one["points_most"])) == line.points
            assert one["points"] == (str(line.points[0]) if line.ruling == "PASSED" and line.points else "")


def test_a_number_is_found_in_seven_rounds_for_the_whole_roster(
    directory: Path, expected: dict[str, Case], tmp_path: Path
) -> None:
    """What hrss logged is at most six rounds of as many requests as there are cells, beside the first of all claims."""
    case = expected["school-points"]

    def logged() -> int:
        done = run("audit", "verify", "--profile", str(directory / "auditor.toml"), "--json")
        return int(json.loads(done.stdout)["size"]) if done.returncode == 0 else -1

    run("audit", "init", "--profile", str(directory / "auditor.toml"))
    before = logged()
    out = tmp_path / "results.csv"
    roster = directory / "rosters" / "school-points.csv"
    done = run(*asked(directory, case, "--roster", str(roster), "--out", str(out), *columns(case.subjects), "--json"))
    assert done.returncode == 1, done.stderr
    requests, rows = logged() - before, len(case.lines)
    assert 0 < requests < rows, "a roster is asked in rounds, not row by row"


def standing(case: Case, row: dict[str, str]) -> list[str]:
    """Who is in a row, as it is given on standard input."""
    lines = []
    for subject in case.subjects:
        slot, _, headings = subject.partition("=")
        identifier, _, name = headings.partition(",")
        if row[identifier]:
            lines.append(f"{slot}={row[identifier]},{row.get(name, '')}".rstrip(","))
    return lines


def one_case(directory: Path, case: Case, row: dict[str, str], *more: str) -> dict[str, Any]:
    lines = standing(case, row)
    slots = dict.fromkeys(line.partition("=")[0] for line in lines)
    given = [text for slot in slots for text in ("--subject", f"{slot}=-")]
    done = run(*asked(directory, case, *given, "--json", *more), given="\n".join(lines))
    assert done.returncode in {0, 1}, done.stderr
    assert not IDENTIFIER.search(done.stdout + done.stderr)
    told: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == (told["ruling"] == "PASSED")
    return told


@pytest.mark.parametrize("ruling", ["PASSED", "CHECK_BY_HAND", "DATA_DISAGREES"])
def test_one_case_is_ruled_as_in_a_roster(ruling: str, directory: Path, expected: dict[str, Case]) -> None:
    case = expected["school-points"]
    line = next(one for one in case.lines if one.ruling == ruling)
    told = one_case(directory, case, dict(line.cells))
    assert told["ruling"] == ruling
    numbers = [one for one in told["claims"] if one["name"] == "insured"]
    guardians = max(one["ordinals"]["guardian"] for one in numbers) + 1
    assert len(numbers) <= 7 * guardians
    if ruling != "DATA_DISAGREES":
        assert (told["points"]["least"], told["points"]["most"]) == line.points
    assert bool(told["because"]) == (ruling != "PASSED")
    assert all(one["counter"] and one["data_as_of"] for one in told["because"])


def test_counts_are_shown_by_place_and_claim_and_a_matter_in_words(
    directory: Path, expected: dict[str, Case], tmp_path: Path
) -> None:
    case, out = expected["residence-permit"], tmp_path / "results.csv"
    roster = directory / "rosters" / "residence-permit.csv"
    done = run(
        *asked(directory, case, "--roster", str(roster), "--out", str(out), *columns(case.subjects), "--summary")
    )
    assert done.returncode == 1
    assert "nbs:4403" in done.stdout
    counted = json.loads(run("matter", "summary", str(out), "--json").stdout)
    passed = sum(line.ruling == "PASSED" for line in case.lines)
    assert counted["rows"][0]["counts"]["passed"] in {passed, None}
    assert all(n is None or n >= counted["minimum"] for one in counted["rows"] for n in one["counts"].values())
    shown = run("matter", "show", "school-points", "--profile", str(directory / "edu.toml"))
    assert shown.returncode == 0
    assert "completed months only, at both ends, arrears not counted" in shown.stdout


def test_the_page_of_matters_is_followed_word_by_word(
    directory: Path, expected: dict[str, Case], tmp_path: Path
) -> None:
    """What it prints and writes is what it says; the city of the page lies where the reader stands."""
    page = (Path(__file__).parents[2] / "docs" / "matters.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    (tmp_path / "city").symlink_to(directory)
    passed = next(one for one in expected["school-points"].lines if one.ruling == "PASSED")
    told = []
    for words in commands:
        assert words[:2] == ["zhiwang", "matter"]
        given = "\n".join(standing(expected["school-points"], dict(passed.cells))) if "child=-" in words else ""
        done = subprocess.run(  # noqa: S603 - our own command
            [ZHIWANG, *words[1:]], input=given, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False
        )
        not_all_pass = "--roster" in words and "--plan" not in words
        assert done.returncode == not_all_pass, (words, done.stdout, done.stderr)
        assert not IDENTIFIER.search(done.stdout + done.stderr)
        told.append(done.stdout)
    shown, case, planned, swept, counted, _ = told
    assert "No ruling rejects anybody." in shown
    assert passed.points is not None
    assert f"积分 points: {passed.points[0]}" in case
    rows = len(expected["residence-permit"].lines)
    assert re.search(rf"行 rows +│ +{rows} ", planned)
    assert counted in swept
    assert results(tmp_path / "changes.csv") == []
    first, full = results(tmp_path / "results.csv"), results(tmp_path / "tonight.csv")
    assert [one["ruling"] for one in first] == [line.ruling for line in expected["residence-permit"].lines]
    assert [one | {"changed": ""} for one in first] == [one | {"changed": ""} for one in full]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("run", "nothing", "--reference", "x", "--subject", "child=x"), 1),
        (("run", "school-points", "--reference", "x", "--subject", "child=x"), 2),
        (("run", "school-points", "--reference", "2026-P000001"), 2),
        (("run", "school-points", "--reference", "2026-P000001", "--subject", "aunt=x"), 2),
        (("run", "school-points", "--reference", "2026-P000001", "--subject", "child=440399"), 2),
        (("run", "school-points", "--reference", "2026-P000001", "--subject", "child=x", "--out", "r.csv"), 2),
        (("run", "school-points", "--subject", "child=x", "--header", "2"), 2),
        (("run", "school-points", "--subject", "child=x", "--changed-since", "{}"), 2),
        (("run", "school-points", "--subject", "child=x", "--plan"), 2),
        (("run", "school-points", "--subject", "child=x", "--yes"), 2),
        (("run", "school-points", "--roster", "{}", "--out", "r.csv", "--timeout", "5"), 2),
        (("run", "school-points", "--roster", "{}", "--out", "r.csv", "--encoding", "latin-1"), 2),
        (("run", "school-points", "--roster", "{}", "--out", "r.csv", "--summary", "--json"), 2),
        (("run", "school-points", "--roster", "{}", "--summary", "--plan"), 2),
        (("run", "school-points", "--roster", "{}", "--out", "r.csv", "--summary", "--changed-since", "{}"), 2),
        (("show", "nothing"), 1),
    ],
)
def test_wrong_usage_is_told_in_words(arguments: tuple[str, ...], status: int, directory: Path) -> None:
    roster = str(directory / "rosters" / "school-points.csv")
    done = run("matter", *(text.format(roster) for text in arguments), "--profile", str(directory / "edu.toml"))
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
