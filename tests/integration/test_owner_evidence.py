"""`zhiwang audit hold` and `produce` against a real adapter process, for its owner's own log."""

from __future__ import annotations

import json
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from adapter_process import case, running_adapter, told
from audit_served import zhiwang
from city_support import CHILD, FATHER, MOTHER
from exchange.client.case import Answer
from exchange.evidence.checking import check
from zhiwang.wire.clock import CITY_TIME

HELD_UNTIL = (datetime.now(CITY_TIME) + timedelta(days=90)).date().isoformat()


@pytest.mark.timeout(300)  # an adapter started twice, and five commands
async def test_an_owners_entries_are_held_and_produced_at_its_own_process(tmp_path: Path) -> None:
    """By the commands that an auditor of the department runs on the adapter's machine."""
    async with running_adapter(tmp_path) as (city, adapter):
        async with city.client() as client:
            assert told((await client.verify(case(), city.context())).claims) == [Answer.YES, Answer.YES]
        auditor = city.profile("hrss/auditor/wu", name="wu")
        where = ("--profile", str(auditor.path), "--owner", "hrss", "--from", str(adapter.state.directory))
        order = ("--order", "（2026）粤03民初1234号")
        held = await zhiwang("hold", *where, *order, "--until", HELD_UNTIL, "--matter", "school-enrolment", "--json")
        assert json.loads(held.stdout)["department"] == "hrss"
        out = tmp_path / "evidence"
        matter = ("--matter", "school-enrolment", "--event", "owner_access")
        made = json.loads((await zhiwang("produce", *where, *order, *matter, "--out", str(out), "--json")).stdout)
        assert (made["log"], made["entries"]) == ("shenzhen/hrss/adapter/main", 1)
        # The hold stands after a kill: nothing but the log says it.
        await adapter.stop(signal.SIGKILL)
        await adapter.start()
        await adapter.attached(city)
        (listed,) = json.loads((await zhiwang("hold", "list", *where, "--json")).stdout)
        assert listed["order"] == order[1]
        checked = check(out, city.kit.city.root)
        assert (checked.faults, checked.origin) == ([], made["log"])
        assert checked.production_index == made["production_index"]
        text = "".join(path.read_text("utf-8", "replace") for path in out.rglob("*") if path.is_file())
        assert "hrss.pension_months" in text
        assert not any(identifier in text for identifier in (MOTHER, FATHER, CHILD))
        # Another department's auditor sees nothing of it.
        other = ("--profile", str(city.profile("edu/auditor/x", name="x").path), *where[2:])
        assert json.loads((await zhiwang("hold", "list", *other, "--json")).stdout) == []
        assert await adapter.stop() == 0
        kinds = adapter.entries(city)
        assert [kinds.count(kind) for kind in ("hold_placed", "evidence_produced")] == [1, 1]
