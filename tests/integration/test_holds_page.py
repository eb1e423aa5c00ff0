"""docs/holds.md is followed word by word, in a city that runs."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import policy_support
from city_support import running_city
from zhiwang.wire.clock import CITY_TIME

PAGE = Path(__file__).parents[2] / "docs" / "holds.md"
CENTRE = (
    policy_support.CENTRE
    + """
[department.audit]
title = { zh = "审计局", en = "Audit office" }
home = "nbs:4403"
auditor.one.office = true
"""
)


def commands() -> list[list[str]]:
    text = PAGE.read_text("utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    until = (datetime.now(CITY_TIME).date() + timedelta(days=100)).isoformat()
    return [shlex.split(line.replace("2027-06-30", until)) for line in lines]


async def test_the_page_of_holds_and_evidence_is_followed_word_by_word(tmp_path: Path) -> None:
    found = commands()
    assert len(found) == 5
    members = ("edu", "hrss", "health", "audit")
    async with running_city(tmp_path, owners=("hrss",), centre=CENTRE, members=members) as city:
        async with city.client() as client:
            await client.verify(
                city.case(claims=["guardian: hrss.pension_months at_least 12"]), city.context(reference="2026-000123")
            )
        profile = city.profile("audit/auditor/one", name="auditor").path
        (tmp_path / "auditor.toml").write_text(profile.read_text().replace('"state"', f'"{profile.parent}/state"'))
        (tmp_path / "root").symlink_to(city.kit.city.root)

        def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
            program = [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:]]
            return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603 - the page's

        for arguments in found:
            done = await asyncio.to_thread(run, arguments)
            assert done.returncode == 0, (arguments, done.stderr)
    assert (tmp_path / "evidence" / "index.html").is_file()
