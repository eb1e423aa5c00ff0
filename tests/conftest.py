"""Servers for tests that need real ones; a test is skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest

from servers import MissingError, Server, running


def _running(family: str) -> Server:
    try:
        return running(family)
    except MissingError as error:
        pytest.skip(f"no {family} here: {error}")


@pytest.fixture(scope="session")
def postgresql() -> Server:
    """A PostgreSQL of this worker's own."""
    return _running("postgresql")


@pytest.fixture(scope="session")
def mariadb() -> Server:
    """A MariaDB of this worker's own."""
    return _running("mariadb")
