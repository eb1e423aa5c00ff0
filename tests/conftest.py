"""Servers for tests that need real ones; a test is skipped, with the reason, where there is none."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from servers import MissingError, Postgresql, Server, running

if TYPE_CHECKING:
    from log_places import PostgresDatabase

# No test asserts an absolute time, and hypothesis would: 200 ms for an example, and a second for making some.
settings.register_profile("zhiwang", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zhiwang")

# As every process of `zhiwang` begins (exchange/cli/__init__.py); gRPC is not in use yet.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# A shell has what it runs in the background ignore Ctrl-C, and so would everything that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _running(family: str) -> Server:
    try:
        return running(family)
    except MissingError as error:
        pytest.skip(f"no {family} here: {error}")


@pytest.fixture(scope="session")
def postgresql() -> Server:
    """A PostgreSQL of this worker's own."""
    return _running("postgresql")


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[Postgresql]:
    """A PostgreSQL of a module's own, for tests that freeze it, kill it or change who may come in."""
    try:
        server = Postgresql()
    except MissingError as error:
        pytest.skip(f"no postgresql here: {error}")
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[PostgresDatabase | None]:
    """Where an adapter's store stands: in a file of its state, or in a database of its own."""
    if request.param == "sqlite":
        yield None
        return
    from adapters.postgres_store import STORE  # noqa: PLC0415 - most tests need none of it
    from log_places import PostgresDatabase  # noqa: PLC0415 - the same

    place = PostgresDatabase(request.getfixturevalue("postgresql"), STORE)
    place.create_empty()
    yield place
    place.drop()


@pytest.fixture(scope="session")
def mariadb() -> Server:
    """A MariaDB of this worker's own."""
    return _running("mariadb")
