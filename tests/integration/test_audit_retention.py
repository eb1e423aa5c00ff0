"""`zhiwang audit retention` on a hub's own machine: what is due, what may go, and what is left of it."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from audit.log import AuditLog
from audit.origins import shard_of
from audit.query import scope_of
from audit.search import SearchIndexes
from audit.service import RULES, AuditServicer
from audit.shards import tables_of
from audit.sqlite import open_sqlite
from audit.yearly import YearlyLog
from audit_served import write_profile, zhiwang
from certs_support import City
from exchange.config import StateFiles
from yearly_support import Calendar, append
from zhiwang.audit.v1 import audit_pb2_grpc
from zhiwang.wire.server import build_server


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City.create(tmp_path / "city")


def old_log(city: City, state: StateFiles) -> YearlyLog:
    """A hub's log of 2015 and of 2016, with its guard, as it stands today."""
    files, clock = city.enrol("centre/hub/main"), Calendar("2015-06-01")
    for directory in (state.directory, state.guard.parent):
        directory.mkdir(parents=True)
    log = YearlyLog(open_sqlite(state.log, create=True), files.signer(), clock, guard=state.guard)
    log.create()
    append(log, 40)
    clock.set("2016-03-01")
    append(log, 3)
    clock.now = time.time() - 60
    append(log, 2)
    log.close()
    log.engine.dispose()
    return YearlyLog(open_sqlite(state.log), files.signer())


async def test_a_year_goes_from_a_hubs_log_once_a_copy_of_it_was_shown(city: City, tmp_path: Path) -> None:
    hub = write_profile(city, "centre/hub/main")
    state = StateFiles(city.directory / f"state-{hub.stem}")
    log = old_log(city, state)
    log.open()
    files, audit_log = city.enrol("centre/hub/main"), AuditLog(log)
    indexes = SearchIndexes(state.search, log)
    audits = AuditServicer(
        log, audit_log.append, "centre", scope=lambda reader: scope_of(reader, "centre"), index=indexes
    )
    server = build_server(
        ((audit_pb2_grpc.add_AuditServiceServicer_to_server, audits),), RULES, city=files.identity.city
    )
    address = server.listen("127.0.0.1:0", files.server_credentials())
    await server.start()
    auditor, copy = str(write_profile(city, "centre/auditor/one", address)), tmp_path / "copy"
    command = ("retention", "--profile", str(hub))
    try:
        told = json.loads((await zhiwang(*command, "--json")).stdout)
        first, second = told["logs"]
        assert told["years"] == 5
        assert (first["origin"], first["size"], first["fate"]) == ("shenzhen/centre/hub/main", 41, "due")
        assert second["fate"] == "kept"
        stays = await zhiwang(*command, "--apply", status=1)
        assert "--exported" in stays.stdout
        await zhiwang("export", "--profile", auditor, "--out", str(copy), "--shard", "first")
        gone = json.loads((await zhiwang(*command, "--apply", "--exported", str(copy), "--json")).stdout)
        assert [one["fate"] for one in gone["logs"]] == ["removed", "kept"]
        await zhiwang("init", "--profile", auditor)
        # The process that served the log meanwhile goes on; what was removed is gone for auditors, what is left holds.
        verified = json.loads((await zhiwang("verify", "--profile", auditor, "--json")).stdout)
        assert verified["goes_on_from"]["origin"] == "shenzhen/centre/hub/main/2016"
        assert verified["events"]["shard_removed"] == 1
        refused = await zhiwang("verify", "--profile", auditor, "--shard", "first", status=1)
        assert "ENTRY_UNKNOWN" in refused.stderr
        assert (
            json.loads((await zhiwang("verify", "--profile", auditor, "--shard", "2016", "--json")).stdout)["size"] == 4
        )
        usage = await zhiwang("verify", "--profile", auditor, "--shard", "lately", status=2)
        assert "lately" in usage.stderr
    finally:
        await server.stop(0)
        await audit_log.close()
        indexes.close()
        log.engine.dispose()


async def test_one_years_log_of_a_store_is_computed_again_by_itself(city: City) -> None:
    hub = write_profile(city, "centre/hub/main")
    state = StateFiles(city.directory / f"state-{hub.stem}")
    log = old_log(city, state)
    log.open()
    indexes = SearchIndexes(state.search, log)
    while indexes.follow():
        pass
    years = [shard_of(store.origin) for store in log.shards()]
    indexes.close()
    log.close()
    log.engine.dispose()
    command = ("fsck", "--profile", str(hub), "--json")
    assert sorted(years) == ["2016", str(time.localtime().tm_year), "first"]
    for shard in years:
        facts = json.loads((await zhiwang(*command, "--shard", shard)).stdout)
        assert (shard_of(facts["origin"]), facts["fault_count"]) == (shard, 0)
        assert facts["search_entries"] == facts["entries"]
    unknown = await zhiwang(*command, "--shard", "2014", status=2)
    assert "it has those of first, 2016" in unknown.stderr
    # What is wrong in one year is not looked for in another.
    table = tables_of(2016).entry
    with closing(sqlite3.connect(state.log)) as connection:
        (trigger,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (f"{table}_update",)).fetchone()
        connection.execute(f"DROP TRIGGER {table}_update")
        connection.execute(f"UPDATE {table} SET data = x'00' WHERE idx = 2")  # noqa: S608 - our own table
        connection.execute(trigger)
        connection.commit()
    assert json.loads((await zhiwang(*command, "--shard", "first")).stdout)["fault_count"] == 0
    harmed = json.loads((await zhiwang(*command, "--shard", "2016", status=1)).stdout)
    assert 2 in {fault["index"] for fault in harmed["faults"]}
