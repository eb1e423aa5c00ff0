"""A PostgreSQL for benchmarks of the log: as those of the tests, but what it says is durable is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from servers import Postgresql


class Durable(Postgresql):
    """It syncs, as the tests' servers need not, and cleans up behind itself."""

    def command(self) -> list[str]:
        """Command line of the server."""
        return [*super().command(), "-c", "fsync=on", "-c", "autovacuum=on"]


@contextmanager
def durable() -> Iterator[Durable]:
    """A server of its own, taken away at the end.

    Raises:
        MissingError: This machine has no PostgreSQL.
    """
    server = Durable()
    try:
        yield server
    finally:
        server.remove()
