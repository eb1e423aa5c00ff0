"""A city of real processes with several hubs over one log in PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from audit.entry import decode_entry
from breaking_support import RealCity, command
from certs.ca import Authority
from certs.identity import Identity, write_public
from certs.request import make_requests
from exchange.demo.auditing import is_serving
from exchange.demo.build import CITY, HUB
from exchange.demo.processes import zhiwang
from log_places import PostgresDatabase
from ports import free_port
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.identity import Kind, server_name


@dataclass
class SharedCity(RealCity):
    """A city whose two hubs have keys of their own and one name, and share a log.

    Attributes:
        further: Ports of the hubs after the first, by their places.
    """

    further: dict[str, int] = field(default_factory=lambda: {"second": free_port()})

    @property
    def hubs(self) -> tuple[str, ...]:
        return ("hub", *self.further)

    @property
    def places(self) -> tuple[str, ...]:
        begun = [place for place in self.further if place in self.fleet.pids]
        return ("hub", *begun, *self.owners, "agent")

    def hub_address_of(self, place: str) -> str:
        return f"127.0.0.1:{self.further[place]}" if place in self.further else self.hub_address

    @property
    def hub_addresses(self) -> list[str]:
        return [self.hub_address_of(place) for place in self.hubs]

    def join(self) -> None:
        """Make the further hubs, and start them."""
        authority = Authority.load(self.layout.directory / "authority")
        for place in self.further:
            home = self.layout.home(place)
            home.mkdir(mode=0o700)
            for request in make_requests(home / "identity", Identity.parse_short(CITY, HUB)):
                write_public(request.with_suffix(".pem"), authority.issue(request.read_bytes()))
            text = self.layout.profile("hub").read_text().replace(self.hub_address, self.hub_address_of(place))
            first = os.path.relpath(self.layout.identity(HUB), self.layout.home("hub"))
            self.layout.profile(place).write_text(text.replace(f'"{first}"', '"identity"'))
            made = command("hub", "init", "--join", "--profile", str(self.layout.profile(place)))
            assert made.returncode == 0, made.stderr
            self.start(place)

    def start(self, place: str) -> None:
        if place in self.further:
            self.fleet.start(place, zhiwang("hub", "run", "--profile", str(self.layout.profile(place))))
        else:
            super().start(place)

    async def serving(self, place: str) -> bool:
        if place not in self.hubs:
            return await super().serving(place)
        name = server_name(CITY, Kind.HUB)
        return await is_serving(self.hub_address_of(place), self.auditor.channel_credentials(), name)


@dataclass
class ThreeHubs(SharedCity):
    """As it is, with a third."""

    further: dict[str, int] = field(default_factory=lambda: {"second": free_port(), "third": free_port()})


@contextmanager
def shared_city(
    kind: type[SharedCity], place: PostgresDatabase, path: Path, owners: Sequence[str]
) -> Iterator[SharedCity]:
    """A city over an empty database whose server trusts this machine; ready with all of its hubs, ended at the end."""
    place.create_empty()
    city = kind.build(path, owners, hub={"log": {"url": place.url()}})
    try:
        city.join()
        city.wait_ready()
        yield city
    finally:
        city.stop()


def hub_entries(place: PostgresDatabase) -> list[audit_pb2.Entry]:
    """The one log of all hubs, as it stands in the database."""
    with place.raw("postgres") as connection:
        rows = connection.execute("SELECT data FROM zhiwang.log_entry ORDER BY idx").fetchall()
    return [decode_entry(row[0]) for row in rows]
