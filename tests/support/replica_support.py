"""Replicas of one adapter as on several hosts: each with a state and a key of its own, over one PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from adapter_process import AdapterProcess
from adapters.postgres_store import STORE
from audit.entry import decode_entry
from certs.identity import Identity
from certs.request import make_requests
from city_support import RunningCity, running_city
from log_places import PostgresDatabase
from servers import Postgresql
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.header import parse_header

ADAPTER = "hrss/adapter/main"


class Replica(AdapterProcess):
    """One of them.

    Args:
        city: Whose hub it dials.
        directory: For its files; made.
        place: The store that all of them share.
    """

    def __init__(self, city: RunningCity, directory: Path, place: PostgresDatabase) -> None:
        super().__init__(city, directory)
        self.place = place
        identity = directory / "identity"
        for request in make_requests(identity, Identity.parse_short(city.kit.city.authority.city, ADAPTER)):
            request.with_suffix(".pem").write_bytes(city.kit.city.authority.issue(request.read_bytes()))
        shared = f'identity = "{city.kit.city.path(ADAPTER)}"'
        text = self.profile.read_text("utf-8")
        assert shared in text
        text = text.replace(shared, f'identity = "{identity}"')
        self.profile.write_text(f'{text}\n[log]\nurl = "{place.url()}"\n', "utf-8")

    async def join(self, first: AdapterProcess) -> None:
        """A person brings the keys, and the replica joins."""
        shutil.copytree(first.state.keys, self.state.keys)
        status, _, err = await self.command("init", "--join", "--profile", str(self.profile))
        assert status == 0, err

    def accesses(self) -> list[audit_pb2.OwnerAccess]:
        """What the owner's log says was answered."""
        with self.place.raw("postgres") as connection:
            rows = connection.execute("SELECT data FROM zhiwang.log_entry ORDER BY idx").fetchall()
        entries = [decode_entry(row[0]) for row in rows]
        return [entry.owner_access for entry in entries if entry.WhichOneof("event") == "owner_access"]

    def check_replies(self) -> int:
        """Every reply that is kept belongs to the entry that it names. How many there are."""
        with self.place.raw("postgres") as connection:
            rows = connection.execute(
                "SELECT r.key, e.data FROM zhiwang.replay r JOIN zhiwang.log_entry e ON e.idx = r.entry"
            )
            kept = rows.fetchall()
            (number,) = connection.execute("SELECT count(*) FROM zhiwang.replay").fetchone() or (0,)
        assert len(kept) == number
        for key, data in kept:
            header = parse_header(decode_entry(data).owner_access.header)
            assert key == sha256(header.system.encode()).digest()[:16] + header.request_id
        return number


@asynccontextmanager
async def shared_store(server: Postgresql) -> AsyncIterator[PostgresDatabase]:
    place = PostgresDatabase(server, STORE)
    place.create_empty()
    try:
        yield place
    finally:
        place.drop()


@asynccontextmanager
async def running_replicas(tmp_path: Path, server: Postgresql) -> AsyncIterator[tuple[RunningCity, Replica, Replica]]:
    async with shared_store(server) as place, replicas_over(tmp_path, place) as running:
        yield running


@asynccontextmanager
async def replicas_over(tmp_path: Path, place: PostgresDatabase) -> AsyncIterator[tuple[RunningCity, Replica, Replica]]:
    async with running_city(tmp_path, owners=()) as city:
        first, second = (Replica(city, tmp_path / name, place) for name in ("one", "two"))
        await first.init()
        await second.join(first)
        try:
            for number, replica in enumerate((first, second), 1):
                await replica.start()
                await replica.attached(city, links=number)
            yield city, first, second
        finally:
            for replica in (first, second):
                await replica.stop()
