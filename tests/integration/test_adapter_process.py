"""A real `zhiwang adapter` process beside a real database, attached to a hub over mTLS and asked by the real client."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from adapter_drivers import write_csv, write_xlsx
from adapter_process import (
    PENSION,
    SECONDS,
    AdapterProcess,
    case,
    metrics_address,
    outcomes,
    running_adapter,
    scrape,
    told,
)
from adapter_support import resident
from adapters.config import StateFiles
from city_support import CHILD, FATHER, MOTHER, running_city
from exchange.client.case import Answer, Status
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import Reason
from zhiwang.wire.process import read_address


class Replica(AdapterProcess):
    """A second process of the same adapter, over the first one's store and database."""

    def __init__(self, first: AdapterProcess) -> None:
        self.directory = first.directory / "second"
        self.directory.mkdir()
        self.state = StateFiles(self.directory / "state", first.state.directory)
        self.profile = first.directory / "second.toml"
        text = first.profile.read_text("utf-8")
        self.profile.write_text(
            'state = "second/state"\n' + text.replace("[adapter]", '[adapter]\nstore = "state"'), "utf-8"
        )
        self._begun = 0
        self.process = None


async def test_answers_come_from_the_database_and_stop_leaves_a_whole_log(tmp_path: Path) -> None:
    async with running_adapter(tmp_path) as (city, adapter):
        async with city.client() as client:
            assert told((await client.verify(case(name="李·梅"), city.context())).claims) == [Answer.YES, Answer.YES]
            assert told((await client.verify(case(FATHER), city.context())).claims) == [Answer.NO, Answer.YES]
            assert told((await client.verify(case(name="李四"), city.context())).claims) == [Answer.UNKNOWN] * 2
        address = read_address(adapter.state.directory)
        assert address is not None
        metrics = await asyncio.to_thread(scrape, address["metrics"])
        # How often it was answered, but not what: else two scrapes around a request would tell.
        assert 'zhiwang_adapter_claims_total{outcome="ANSWERED"} 6.0' in metrics
        assert 'outcome="UNKNOWN"' not in metrics
        assert await adapter.stop() == 0
        kinds = adapter.entries(city)
        assert kinds[0] == "log_opened"
        assert kinds.count("owner_access") == 3
        assert {"directory_change", "owner_key_published"} < set(kinds)
        for secret in (MOTHER, FATHER, CHILD, "李"):
            assert secret not in adapter.log
            assert secret not in metrics
        assert read_address(adapter.state.directory) is None


async def test_a_lost_link_is_taken_up_again(tmp_path: Path) -> None:
    async with running_adapter(tmp_path) as (city, adapter):
        lost = [link for link in city.hub.up.parts.hub.links if link.owner == "hrss"]
        for link in lost:
            link.end()
        async with asyncio.timeout(SECONDS):
            while any(link in lost for link in city.hub.up.parts.hub.links):  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.01)
        await adapter.attached(city)
        async with city.client() as client:
            assert told((await client.verify(case(), city.context())).claims) == [Answer.YES, Answer.YES]


async def test_a_killed_adapter_comes_back_with_every_answer_in_its_log(tmp_path: Path) -> None:
    async with running_adapter(tmp_path) as (city, adapter), city.client() as client:
        answered = 0

        async def ask() -> None:
            nonlocal answered
            while True:
                result = await client.verify(case(), city.context(), timeout=2.0)
                answered += all(claim.status is Status.ANSWERED for claim in result.claims)

        askers = [asyncio.create_task(ask()) for _ in range(8)]
        for _ in range(3):
            await asyncio.sleep(0.4)
            assert await adapter.stop(signal.SIGKILL) == -signal.SIGKILL
            await adapter.start()
            await adapter.attached(city)
        await asyncio.sleep(0.4)
        for asker in askers:
            asker.cancel()
        await asyncio.gather(*askers, return_exceptions=True)
        assert await adapter.stop() == 0
        assert 0 < answered <= adapter.entries(city).count("owner_access")


async def test_two_replicas_share_one_log_and_one_goes_on_alone(tmp_path: Path) -> None:
    async with running_adapter(tmp_path) as (city, first), city.client() as client:
        second = Replica(first)
        await second.init()
        assert (await second.command("init", "--profile", str(second.profile)))[0] == 1
        await second.start()
        try:
            await second.attached(city, links=2)
            results = [
                result
                for _ in range(6)
                for result in await asyncio.gather(*(client.verify(case(), city.context()) for _ in range(40)))
            ]
            assert all(told(result.claims) == [Answer.YES, Answer.YES] for result in results)
            served = [outcomes(await asyncio.to_thread(scrape, metrics_address(one))) for one in (first, second)]
            assert all(number > 0 for number in served), served
            assert await first.stop(signal.SIGKILL) == -signal.SIGKILL
            async with asyncio.timeout(SECONDS):
                while len(list(city.hub.up.parts.hub.links)) > 1:  # noqa: ASYNC110 - seen from outside only
                    await asyncio.sleep(0.01)
            assert told((await client.verify(case(), city.context())).claims) == [Answer.YES, Answer.YES]
        finally:
            await second.stop()
        assert first.entries(city).count("owner_access") == len(results) + 1


async def test_a_database_that_goes_and_comes_back_makes_claims_unavailable_in_between(tmp_path: Path) -> None:
    async with running_adapter(tmp_path) as (city, adapter), city.client() as client:
        assert told((await client.verify(case(), city.context())).claims) == [Answer.YES, Answer.YES]
        elsewhere = adapter.database.with_suffix(".gone")
        adapter.database.rename(elsewhere)
        result = await client.verify(case(), city.context())
        assert told(result.claims) == [Reason.DATABASE_UNAVAILABLE] * 2
        async with asyncio.timeout(SECONDS):
            while '"condition": "database", "holds": false' not in adapter.log:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.1)
        # Another file in its place, as after a nightly load.
        shutil.copyfile(elsewhere, elsewhere.with_suffix(".new"))
        elsewhere.with_suffix(".new").rename(adapter.database)
        assert told((await client.verify(case(), city.context())).claims) == [Answer.YES, Answer.YES]


async def test_a_renewed_certificate_takes_over_without_a_gap(tmp_path: Path) -> None:
    async with running_adapter(tmp_path) as (city, adapter), city.client() as client:
        done = asyncio.Event()
        results: list[Answer | Reason | None] = []

        async def ask() -> None:
            while not done.is_set():
                results.extend(told((await client.verify(case(), city.context())).claims))
                await asyncio.sleep(0.01)

        asker = asyncio.create_task(ask())
        city.kit.city.enrol("hrss/adapter/main")
        await adapter.attached(city, links=2)
        await adapter.attached(city, links=1)
        done.set()
        await asker
        assert set(results) == {Answer.YES}


async def test_a_failing_probe_makes_its_attribute_unavailable_never_no(tmp_path: Path) -> None:
    async with running_city(tmp_path, owners=()) as city:
        adapter = AdapterProcess(city, tmp_path / "adapter")
        with sqlite3.connect(adapter.database) as connection:
            connection.execute("UPDATE person SET months = 0 WHERE id_card = ?", (MOTHER,))
        connection.close()
        await adapter.init()
        await adapter.start()
        await adapter.attached(city)
        try:
            async with city.client() as client:
                assert told((await client.verify(case(), city.context())).claims) == [Reason.PROBE_FAILED, Answer.YES]
        finally:
            await adapter.stop()


async def test_a_column_that_vanishes_under_a_running_adapter_closes_its_attribute_until_it_is_back(
    tmp_path: Path,
) -> None:
    async with running_adapter(tmp_path) as (city, adapter), city.client() as client:

        async def until(*expected: Answer | Reason) -> None:
            async with asyncio.timeout(3 * SECONDS):
                while told((await client.verify(case(), city.context())).claims) != list(expected):  # noqa: ASYNC110 - seen from outside only
                    await asyncio.sleep(0.2)

        def alter(change: str) -> None:
            with sqlite3.connect(adapter.database) as connection:
                connection.execute(f"ALTER TABLE person {change}")
            connection.close()

        await until(Answer.YES, Answer.YES)
        alter("RENAME COLUMN months TO weeks")
        await until(Reason.PROBE_FAILED, Answer.YES)
        metrics = await asyncio.to_thread(scrape, metrics_address(adapter))
        assert 'zhiwang_adapter_columns_changed{attribute="pension_months"} 1.0' in metrics
        assert '"event": "columns changed"' in adapter.log
        alter("RENAME COLUMN weeks TO months")
        await until(Answer.YES, Answer.YES)


async def test_answers_that_turn_unknown_are_suspended_until_the_next_load_and_rosters_keep_their_hours(
    tmp_path: Path,
) -> None:
    now = datetime.now(CITY_TIME)
    hours = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    watched = 'value = "months"\nwatch = { unknown = [0.0, 0.3], least = 100, suspend = true }'
    async with running_city(tmp_path, owners=()) as city:
        adapter = AdapterProcess(city, tmp_path / "adapter")
        path = adapter.directory / "mapping.toml"
        text = path.read_text("utf-8").replace('value = "months"', watched)
        path.write_text(f'{text}\n[limits]\nbulk_hours = "{hours}"\nstatements_per_second = 1000\n', "utf-8")
        await adapter.init()
        await adapter.start()
        await adapter.attached(city)
        try:
            async with city.client() as client:
                nobody = [case(resident(number), claims=(PENSION,)) for number in range(100, 200)]
                results = await asyncio.gather(*(client.verify(one, city.context()) for one in nobody))
                assert {told(result.claims)[0] for result in results} == {Answer.UNKNOWN}
                assert told((await client.verify(case(), city.context())).claims) == [Reason.PROBE_FAILED, Answer.YES]
                metrics = await asyncio.to_thread(scrape, metrics_address(adapter))
                key = 'attribute="pension_months",department="edu",predicate="at_least"'
                assert f"zhiwang_adapter_answers_suspended{{{key}}} 1.0" in metrics
                assert '"event": "answers out of band"' in adapter.log
                roster = [result async for result in client.verify_many([case()], city.context())]
                assert told(roster[0].claims) == [Reason.BULK_CLOSED] * 2
                with sqlite3.connect(adapter.database) as connection:
                    connection.execute("UPDATE load SET at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '+1 minute')")
                connection.close()
                async with asyncio.timeout(3 * SECONDS):
                    while told((await client.verify(case(), city.context())).claims) != [Answer.YES, Answer.YES]:  # noqa: ASYNC110 - seen from outside only
                        await asyncio.sleep(0.2)
            kept = adapter.state.answers
            assert kept.stat().st_mode & 0o777 == 0o600
            assert "pension_months" in kept.read_text("utf-8")
        finally:
            await adapter.stop()


@pytest.mark.parametrize(
    "change",
    [('value = "months"', 'value = "no_such_column"'), ("mode=ro&", ""), ('table = "person"', 'table = "people"')],
)
async def test_an_adapter_whose_mapping_does_not_hold_does_not_start(tmp_path: Path, change: tuple[str, str]) -> None:
    async with running_city(tmp_path, owners=()) as city:
        adapter = AdapterProcess(city, tmp_path / "adapter")
        await adapter.init()
        path = adapter.directory / "mapping.toml"
        path.write_text(path.read_text("utf-8").replace(*change), "utf-8")
        await adapter.start()
        assert adapter.process is not None
        assert await asyncio.wait_for(adapter.process.wait(), SECONDS) == 1
        assert "mapping.toml" in adapter.log
        status, out, _ = await adapter.command("check", str(path), str(adapter.directory / "document.toml"), "--json")
        assert status == 1
        found = json.loads(out)["findings"]
        assert found
        assert all(one["line"] > 0 for one in found)


async def test_check_says_what_can_be_learnt_and_init_makes_a_state_once(tmp_path: Path) -> None:
    async with running_city(tmp_path, owners=()) as city:
        adapter = AdapterProcess(city, tmp_path / "adapter")
        status, out, _ = await adapter.command(
            "check", str(adapter.directory / "mapping.toml"), str(adapter.directory / "document.toml"), "--json"
        )
        report = json.loads(out)
        assert (status, report["ok"], report["findings"]) == (0, True, [])
        assert {tuple(one["attributes"]): one["bits"] for one in report["bounds"]} == {
            ("pension_months",): 2.322,
            ("insured",): 1.0,
        }
        await adapter.init()
        status, _, err = await adapter.command("init", "--profile", str(adapter.profile))
        assert status == 1
        assert "never made over another" in err


FILES = """
department = "hrss"

[database]
url = "files:extracts"

[file.person]
path = "person_*.csv"
columns = { id_card = "身份证号", full_name = "姓名", region = "区划", months = "月数" }
encoding = "gb18030"
settle = 0

[file.card]
path = "card_*.xlsx"
columns = ["id_card"]
settle = 0

[data.person]
table = "person"
subject = "id_card"
name = "full_name"
region = { column = "region", codes = "nbs" }

[data.card]
table = "card"
subject = "id_card"

[attribute.pension_months]
data = "person"
value = "months"

[attribute.insured]
data = "card"

[[probe]]
claim = "hrss.pension_months at_least 12"
subject = "FATHER"
answer = "NO"
"""


class Extracted:
    """The files of an adapter that has no database."""

    def __init__(self, adapter: AdapterProcess) -> None:
        self.adapter = adapter
        self.directory = adapter.directory / "extracts"
        self.directory.mkdir()
        adapter.database.unlink()
        (adapter.directory / "mapping.toml").write_text(FILES.replace("FATHER", FATHER), "utf-8")

    def persons(self, day: int, *, mother: int | str, father: int = 6) -> None:
        """Drop a file as a careful sender does: under another name first."""
        rows = [
            ("身份证号", "姓名", "区划", "月数"),
            (MOTHER, "李·梅", "440306001", mother),
            (FATHER, "王𠮷", "440306", father),
        ]
        name = f"person_{day}.csv"
        write_csv(self.directory / f".{name}", rows, encoding="gb18030").rename(self.directory / name)

    def cards(self, day: int, *subjects: str) -> None:
        name = f"card_{day}.xlsx"
        rows = [("id_card",), *((one,) for one in subjects)]
        write_xlsx(self.directory / f".{name}", rows).rename(self.directory / name)

    async def logged(self, *texts: str) -> None:
        async with asyncio.timeout(SECONDS):
            while not all(text in self.adapter.log for text in texts):  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.05)


async def test_files_are_replaced_under_load_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    async with running_city(tmp_path, owners=()) as city:
        adapter = AdapterProcess(city, tmp_path / "adapter")
        files = Extracted(adapter)
        files.persons(1, mother=24)
        files.cards(1, MOTHER)
        await adapter.init()
        await adapter.start()
        try:
            await adapter.attached(city)
            async with city.client() as client:
                seen: list[tuple[Answer | Reason | None, ...]] = []
                done = asyncio.Event()

                async def ask() -> None:
                    while not done.is_set():
                        seen.append(tuple(told((await client.verify(case(), city.context())).claims)))
                        await asyncio.sleep(0.01)

                async def became(*answers: Answer | Reason) -> None:
                    async with asyncio.timeout(SECONDS):
                        while not seen or seen[-1] != answers:  # noqa: ASYNC110 - seen from outside only
                            await asyncio.sleep(0.05)

                askers = [asyncio.create_task(ask()) for _ in range(2)]
                await became(Answer.YES, Answer.YES)
                files.cards(2, FATHER)
                files.persons(2, mother=3)
                await became(Answer.NO, Answer.UNKNOWN)
                files.persons(3, mother="4.40399E+17")
                await files.logged("extract not taken", "person_3.csv: row 2, column months")
                metrics = await asyncio.to_thread(scrape, metrics_address(adapter))
                assert 'zhiwang_adapter_extract_failing{extract="person"} 1.0' in metrics
                assert 'zhiwang_adapter_extract_loads_total{extract="person",result="loaded"} 2.0' in metrics
                # A load that makes a probe fail is found out at once, not at the next hour.
                files.persons(4, mother=24, father=24)
                await became(Reason.PROBE_FAILED, Answer.UNKNOWN)
                files.persons(5, mother=24)
                await became(Answer.YES, Answer.UNKNOWN)
                done.set()
                await asyncio.gather(*askers)
            order = list(dict.fromkeys(seen))
            assert set(order) - {(Answer.NO, Answer.UNKNOWN)} <= {
                (Answer.YES, Answer.YES),
                (Answer.YES, Answer.UNKNOWN),
                (Reason.PROBE_FAILED, Answer.UNKNOWN),
            }, order
            assert seen.index((Answer.YES, Answer.UNKNOWN)) > seen.index((Answer.NO, Answer.UNKNOWN))
            assert await adapter.stop() == 0
            for secret in (MOTHER, FATHER, "李", "4.40399"):
                assert secret not in adapter.log
            private = adapter.state.directory / "extracts"
            assert [path.name for path in private.iterdir()] == ["extracts.db"]
            assert (private / "extracts.db").stat().st_mode & 0o777 == 0o600
        finally:
            await adapter.stop()
