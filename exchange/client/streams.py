"""How many streams of cases are open at an agent: each holds some thousand cases and their results in memory.

A stream holds its place until it ends, also while its caller reads nothing or sends nothing, so each caller has a share
of its own. Owned by the event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from zhiwang.wire.errors import Reason, RefusedError

MAX_STREAMS = 96
"""Streams of all callers."""

MAX_STREAMS_EACH = 48
"""Of one of them, so that none can take the others' place: a half."""


class OpenStreams:
    """The streams that are open."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Of all callers."""
        return self._open.total()

    @contextmanager
    def hold(self, caller: str) -> Iterator[None]:
        """Have a stream open.

        Args:
            caller: Whose it is.

        Raises:
            RefusedError: TOO_MANY_STREAMS.
        """
        if self._open[caller] >= MAX_STREAMS_EACH:
            raise RefusedError(Reason.TOO_MANY_STREAMS, f"{caller} has {MAX_STREAMS_EACH} streams open")
        if self.count >= MAX_STREAMS:
            raise RefusedError(Reason.TOO_MANY_STREAMS, f"{MAX_STREAMS} streams are open")
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
