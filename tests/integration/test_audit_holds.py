"""`zhiwang audit hold` as a person runs it, against a log that is served over mTLS."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from adapter_support import ANNA
from audit_served import served, write_profile, zhiwang
from certs_support import City
from zhiwang.wire.clock import CITY_TIME

ORDER = "（2026）粤03民初1234号"


def day(number: int) -> str:
    """A day of the city, so many days ahead."""
    return (datetime.now(CITY_TIME).date() + timedelta(days=number)).isoformat()


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City.create(tmp_path / "city")


async def test_a_hold_is_placed_listed_renewed_and_lifted_over_the_wire(city: City, tmp_path: Path) -> None:
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        office = ("--profile", str(write_profile(city, "office/auditor/one", hub.address)))
        placed = json.loads(
            (
                await zhiwang(
                    "hold", *office, "--order", ORDER, "--until", day(200), "--matter", "senior-card", "--json"
                )
            ).stdout
        )
        assert (placed["order"], placed["department"], placed["conditions"]) == (ORDER, "office", "matter=senior-card")
        # The last day counts to its end, in the city's time.
        assert placed["until_time"] == f"{day(200)}T16:00:00+00:00"
        shown = json.loads((await zhiwang("show", str(placed["index"]), *office, "--json")).stdout)
        assert shown["event"] == "hold_placed"
        renewed = await zhiwang("hold", *office, "--order", ORDER, "--until", day(231), "--matter", "senior-card")
        assert f"{day(232)} 00:00:00 +08:00" in renewed.stdout
        differs = await zhiwang("hold", *office, "--order", ORDER, "--until", day(300), status=1)
        assert "HOLD_DIFFERS" in differs.stderr
        (held,) = json.loads((await zhiwang("hold", "list", *office, "--json")).stdout)
        assert held["until_time"] == f"{day(231)}T16:00:00+00:00"

        # Another department's auditor sees neither this hold nor more than its own entries through one of its own.
        other = ("--profile", str(write_profile(city, "civil/auditor/two", hub.address)))
        assert "0 项" in (await zhiwang("hold", "list", *other)).stderr
        unknown = await zhiwang("hold", "lift", *other, "--order", ORDER, "--department", "office", status=1)
        assert "HOLD_UNKNOWN" in unknown.stderr
        own = json.loads((await zhiwang("hold", *other, "--order", "A-1", "--until", day(200), "--json")).stdout)
        assert own["scope"] == {"department": "civil", "place": ""}

        await zhiwang("hold", "lift", *office, "--order", ORDER)
        assert "A-1" in (await zhiwang("hold", "list", *office)).stdout
        await zhiwang("hold", "lift", *office, "--order", "A-1", "--department", "civil")
        assert json.loads((await zhiwang("hold", "list", *office, "--json")).stdout) == []


async def test_wrong_usage_of_a_hold_is_told(city: City, tmp_path: Path) -> None:
    async with served(city, "centre/hub/main", tmp_path / "log.db") as hub:
        office = ("--profile", str(write_profile(city, "office/auditor/one", hub.address)))
        assert "--until" in (await zhiwang("hold", *office, "--order", "A-1", status=2)).stderr
        assert "is a day" in (await zhiwang("hold", *office, "--order", "A-1", "--until", "soon", status=2)).stderr
        for order, until in ((ANNA, day(200)), ("A-1", day(-2)), ("A-1", day(800))):
            told = await zhiwang("hold", *office, "--order", order, "--until", until, status=2)
            assert "ORDER_INVALID" in told.stderr
            assert ANNA not in told.stderr
        assert hub.log.store.refresh().size == 1
