"""docs/sweep.md is followed word by word, in a city that runs; its mapping is the page's own."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from city_support import MOTHER, child, running_city
from exchange.sweep.rosters import find_roster
from zhiwang.wire.tables import Form

PAGE = Path(__file__).parents[2] / "docs" / "sweep.md"
ROWS = 600


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return found


def write_roster(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["编号", "学生身份证号", "学生姓名", "监护人身份证号"])
        writer.writerows([f"R{number}", child(number), "小明", MOTHER] for number in range(rows))


async def test_the_page_of_sweeps_is_followed_word_by_word(tmp_path: Path) -> None:
    (mapping,) = blocks("toml")
    given = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    commands = [words for words in given if words[1] == "sweep"]
    # The fourth looks for receipts, which this profile does not keep: test_sweep_receipts.py does.
    assert (len(given), len(commands)) == (4, 3)
    (tmp_path / "columns.toml").write_text(mapping, "utf-8")
    write_roster(tmp_path / "roster.csv", ROWS)
    async with running_city(tmp_path) as city:
        profile = city.profile().path
        (tmp_path / "edu.toml").write_text(profile.read_text().replace('"state"', f'"{profile.parent}/state"'))

        def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
            program = [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:], "--json"]
            return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603 - the page's

        told = []
        for arguments in commands:
            done = await asyncio.to_thread(run, arguments)
            assert done.returncode == 0, (arguments, done.stdout, done.stderr)
            assert "440399" not in done.stdout + done.stderr
            told.append(json.loads(done.stdout))
            write_roster(tmp_path / "roster.csv", ROWS + 1)
    plan, first, second = told
    assert (plan["rows"], plan["calls"], plan["denials"], plan["rate"]) == (
        ROWS,
        {"health": 2, "hrss": 2},
        [],
        "--rate",
    )
    assert (plan["seconds"], plan["away"], plan["caps"]) == (ROWS / 300, [], [])
    # The page's first command planned a roster of one row less.
    assert first["outcomes"]["ANSWERED"] == ROWS + 1
    assert (second["changed"], second["gone"]) == (0, 0)
    with find_roster(tmp_path / "tonight.xlsx", Form()).table() as table:
        lines = list(table.take(table.places({name: name for name in ("key", "outcome", "ruling", "parent")})))
    assert [line.cells for line in lines] == [(f"R{number}", "ANSWERED", "PASSED", "YES") for number in range(ROWS + 1)]
    assert len((tmp_path / "changes.csv").read_text("utf-8").splitlines()) == 1
