"""A real `zhiwang adapter` process beside a small database, attached to the hub of a running city."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import sysconfig
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import policy_support
from adapter_support import make_database
from adapters.config import StateFiles
from audit.entry import decode_entry
from audit.sqlite import open_sqlite
from audit.store import LogStore
from certs.credentials import IdentityFiles
from city_support import CHILD, FATHER, MOTHER, RunningCity, running_city
from exchange.client.case import Answer, Case, ClaimResult, Status, Subject
from zhiwang.wire.errors import Reason
from zhiwang.wire.process import read_address

ZHIWANG = [sys.executable, str(Path(sysconfig.get_path("scripts")) / "zhiwang"), "adapter"]
SECONDS = 30.0

TABLES = """
CREATE TABLE person (id_card TEXT, full_name TEXT, region TEXT, months INTEGER);
CREATE INDEX person_id ON person (id_card);
CREATE TABLE load (at TEXT);
INSERT INTO load VALUES (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
"""

MAPPING = """
department = "hrss"

[database]
url = "sqlite:///file:hrss.db?mode=ro&uri=true"

[data.person]
table = "person"
subject = "id_card"
name = "full_name"
region = { column = "region", codes = "nbs" }
loaded = "SELECT at FROM load"

[attribute.pension_months]
data = "person"
value = "months"

[attribute.insured]
data = "person"

[[probe]]
claim = "hrss.pension_months at_least 12"
subject = "MOTHER"
answer = "YES"
"""

PENSION = "guardian: hrss.pension_months at_least 12"
INSURED = "guardian: hrss.insured exists"


class AdapterProcess:
    """The process and its files.

    Args:
        city: Whose hub it dials.
        directory: For its files; made.
        people: More rows of its database: identifier, name, region, months.
    """

    def __init__(
        self, city: RunningCity, directory: Path, people: Sequence[tuple[str, str, str, int | None]] = ()
    ) -> None:
        self.directory = directory
        directory.mkdir()
        self.state = StateFiles.alone(directory / "state")
        self.database = make_database(
            directory / "hrss.db",
            TABLES,
            {
                "person": [
                    (MOTHER, "李·梅", "440306001", 24),
                    (FATHER, "王", "440306", 6),
                    (CHILD, "小明", "440306", None),
                    *people,
                ]
            },
        )
        (directory / "mapping.toml").write_text(MAPPING.replace("MOTHER", MOTHER), "utf-8")
        (directory / "document.toml").write_text(policy_support.HRSS, "utf-8")
        city.kit.city.enrol("hrss/adapter/main")
        self.profile = directory / "profile.toml"
        self.profile.write_text(
            f'hub = ["{city.hub.address}"]\nroot = "{city.kit.city.root}"\n'
            f'identity = "{city.kit.city.path("hrss/adapter/main")}"\n'
            'listen = "127.0.0.1:0"\nmetrics = "127.0.0.1:0"\n'
            '[adapter]\nmapping = "mapping.toml"\ndocument = "document.toml"\n',
            "utf-8",
        )
        self._begun = 0
        self.process: asyncio.subprocess.Process | None = None

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *ZHIWANG, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
        return process.returncode or 0, out.decode(), err.decode()

    async def init(self) -> None:
        status, _, err = await self.command("init", "--profile", str(self.profile))
        assert status == 0, err

    async def start(self) -> None:
        self._begun = len(self.log) if (self.directory / "log").exists() else 0
        log = os.open(self.directory / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            self.process = await asyncio.create_subprocess_exec(
                *ZHIWANG, "run", "--profile", str(self.profile), stderr=log, stdout=log
            )
        finally:
            os.close(log)

    async def attached(self, city: RunningCity, *, links: int = 1) -> None:
        async with asyncio.timeout(SECONDS):
            # The hub may not have noticed yet that a former process is gone, so this one must say it too.
            while (
                sum(link.owner == "hrss" for link in city.hub.up.parts.hub.links) != links
                or '"event": "attached"' not in self.log[self._begun :]
            ):
                assert self.process is not None
                assert self.process.returncode is None, self.log
                await asyncio.sleep(0.05)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), SECONDS)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text("utf-8")

    def entries(self, city: RunningCity) -> list[str]:
        """Kinds of the entries of the owner's log, opened and checked from the first to the last."""
        signer = IdentityFiles(city.kit.city.path("hrss/adapter/main"), city.kit.city.root).signer()
        store = LogStore(open_sqlite(self.state.store), signer.identity.log_origin, signer)
        try:
            store.open()
            store.verify_all()
            return [decode_entry(data).WhichOneof("event") or "" for data in store.entries(0, 100_000)]
        finally:
            store.close()
            store.engine.dispose()


@asynccontextmanager
async def running_adapter(
    tmp_path: Path, people: Sequence[tuple[str, str, str, int | None]] = ()
) -> AsyncIterator[tuple[RunningCity, AdapterProcess]]:
    async with running_city(tmp_path, owners=()) as city:
        adapter = AdapterProcess(city, tmp_path / "adapter", people)
        await adapter.init()
        await adapter.start()
        try:
            await adapter.attached(city)
            yield city, adapter
        finally:
            await adapter.stop()


def case(guardian: str = MOTHER, name: str = "", claims: tuple[str, ...] = (PENSION, INSURED)) -> Case:
    return Case((Subject("child", CHILD), Subject("guardian", guardian, name)), claims)


def told(claims: tuple[ClaimResult, ...]) -> list[Answer | Reason | None]:
    return [claim.answer if claim.status is Status.ANSWERED else claim.reason for claim in claims]


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics") as response:
        text: str = response.read().decode()
    return text


def metrics_address(adapter: AdapterProcess) -> str:
    address = read_address(adapter.state.directory)
    assert address is not None
    return str(address["metrics"])


def outcomes(metrics: str) -> float:
    """How many claims a process has settled."""
    lines = [line for line in metrics.splitlines() if line.startswith("zhiwang_adapter_claims_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
