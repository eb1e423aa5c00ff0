"""What an admin asks of files on a desk, as commands: nothing is published and nobody is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import emergency_support
from policy_support import CENTRE, DOCUMENTS, HRSS, SCHOOL, SENIOR

ZHIWANG = Path(sys.executable).with_name("zhiwang")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    desk = tmp_path_factory.mktemp("desk")
    files = {"centre": CENTRE, "school": SCHOOL, "senior": SENIOR, **DOCUMENTS}
    for name, text in files.items():
        (desk / f"{name}.toml").write_text(text, "utf-8")
    return desk


def run(desk: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(  # noqa: S603  our own command
        [ZHIWANG, "policy", *arguments], cwd=desk, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def whole(desk: Path, option: str) -> list[str]:
    return [word for file in sorted(desk.glob("[!_]*.toml")) for word in (option, file.name)]


def as_json(desk: Path, *arguments: str, status: int = 0) -> Any:
    return json.loads(run(desk, *arguments, "--json", status=status).stdout)


def test_who_can_ask_an_attribute_is_told_with_place_and_grant(desk: Path) -> None:
    rights = as_json(desk, "who-can", "hrss.insured", *whole(desk, "--with"))["rights"]
    assert {right["system"]: right["places_text"]["en"] for right in rights} == {
        "edu/enrolment": "440306",
        "edu/baoan": "440306",
        "edu/street": "nbs:440306001",
    }
    assert {tuple(right["rules"]) for right in rights} == {("hrss/enrolment-insured",)}
    nearby = as_json(desk, "who-can", "hrss.insured", "--place", "nbs:440306002", *whole(desk, "--with"))["rights"]
    assert {right["system"] for right in nearby} == {"edu/enrolment", "edu/baoan"}
    run(desk, "who-can", "hrss.nothing", *whole(desk, "--with"), status=2)


@pytest.mark.parametrize(
    ("who", "asks"),
    [
        ("edu/street", {"hrss.insured exists", "health.birth_mother related"}),
        ("edu/enrolment-clerk", {"hrss.insured exists", "health.birth_mother related", "hrss.pension_months at_least"}),
        ("nbs:440305", {"health.birth_mother related", "hrss.pension_months at_least"}),
        ("hrss/clerk", set()),
    ],
)
def test_what_a_system_a_role_and_a_place_can_ask_is_told(desk: Path, who: str, asks: set[str]) -> None:
    rights = as_json(desk, "what-can", who, *whole(desk, "--with"))["rights"]
    assert {right["ask"] for right in rights} == asks


def test_a_name_that_nobody_has_is_wrong_usage(desk: Path) -> None:
    assert "there is no system and no role" in run(desk, "what-can", "edu/x", *whole(desk, "--with"), status=2).stderr
    run(desk, "what-can", "edu/enrolment", status=2)


def test_the_list_shows_questions_in_chinese(desk: Path) -> None:
    shown = run(desk, "list", *whole(desk, "--with"), "--owner", "hrss").stdout
    assert "养老保险是否已连续缴费满 N 个月？" in shown
    assert "at_least 6 12 18 24" in shown
    assert "birth_mother" not in shown


def test_a_diff_says_who_loses_what_and_changes_nothing(desk: Path, tmp_path: Path) -> None:
    changed = tmp_path / "hrss.toml"
    changed.write_text(
        HRSS.replace('place = "nbs:440306"\n\n[[assert]]', 'place = "nbs:440305"\n\n[[assert]]'), "utf-8"
    )
    shown = run(desk, "diff", str(changed), *whole(desk, "--against")).stdout
    assert "－3 ＋1" in shown
    assert "不再可以在440306" in shown
    told = as_json(desk, "diff", str(changed), *whole(desk, "--against"))
    assert {(change["system"], change["allowed"]) for change in told["changes"]} == {
        ("edu/enrolment", False),
        ("edu/enrolment", True),
        ("edu/baoan", False),
        ("edu/street", False),
    }
    run(desk, "diff", str(changed), *whole(desk, "--against"), "--exit-code", status=1)
    same = run(desk, "diff", "hrss.toml", *whole(desk, "--against"), "--exit-code")
    assert "Nobody's rights change" in same.stderr


def test_what_is_prepared_for_emergencies_is_told_and_checked(desk: Path, tmp_path: Path) -> None:
    prepared = tmp_path / "health.toml"
    prepared.write_text(emergency_support.DOCUMENTS["health"], "utf-8")
    told = as_json(desk, "diff", str(prepared), *whole(desk, "--against"))
    assert told["changes"] == [], "what is prepared permits nothing"
    assert ["health", "emergency", "outbreak"] in [fact["path"] for fact in told["facts"]]
    city = [*whole(desk, "--with"), "--with", str(prepared)]
    city = [part for at, part in enumerate(city) if "health.toml" not in city[at : at + 2] or part == str(prepared)]
    for who in ("who-can", "health.vaccinated"), ("what-can", "edu/baoan"), ("what-can", "edu/enrolment-clerk"):
        (found,) = as_json(desk, *who, *city)["emergencies"]
        assert (found["id"], found["hours"], found["admins"]) == ("health/outbreak", 8, ["edu"])
    assert "由教育局任一管理员启用" in run(desk, "who-can", "health.vaccinated", *city).stdout
    asked = ["health.vaccinated exists", "--system", "edu/baoan", "--role", "edu/enrolment-clerk"]
    where = ["--matter", "school-enrolment", "--jurisdiction", "nbs:440306"]
    assert "is prepared and not open" in run(desk, "explain", *asked, *where, *city, status=1).stdout
    files = [file.name for file in sorted(desk.glob("*.toml")) if file.name != "health.toml"]
    text = prepared.read_text("utf-8")
    prepared.write_text(text.replace('admins = ["edu"]', 'admins = ["fire"]'), "utf-8")
    line = prepared.read_text().splitlines().index('admins = ["fire"]') + 1
    wrong = run(desk, "check", *files, str(prepared), status=1).stderr
    assert f"health.toml:{line}: emergency[0].admins: fire is no member" in wrong
    prepared.write_text(text.replace("hours = 8", "hours = 13"), "utf-8")
    assert "hours" in run(desk, "check", str(prepared), status=1).stderr


def test_check_tells_what_is_wrong_and_what_is_strange_by_line(desk: Path, tmp_path: Path) -> None:
    files = [file.name for file in sorted(desk.glob("*.toml"))]
    assert "值得一看" not in run(desk, "check", *files).stdout
    odd = tmp_path / "hrss.toml"
    odd.write_text(
        HRSS.replace('role = "edu/enrolment-clerk"\nask = "hrss.insured', 'role = "edu/ghost"\nask = "hrss.insured')
    )
    files.remove("hrss.toml")
    strange = run(desk, "check", *files, str(odd)).stdout
    line = odd.read_text().splitlines().index('role = "edu/ghost"') + 1
    assert f"hrss.toml:{line}: grant[1].role: never matches" in strange
    run(desk, "check", *files, str(odd), "--strict", status=1)
    broken = tmp_path / "broken" / "hrss.toml"
    broken.parent.mkdir()
    broken.write_text(HRSS.replace('deny = "hrss.pension_months', 'allow = "hrss.pension_months'))
    assert "does not hold: allow" in run(desk, "check", *files, str(broken), status=1).stderr
