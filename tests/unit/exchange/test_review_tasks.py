"""What runs in the background of a hub survives a disk that is full for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from exchange import app
from exchange.views import OwnerViews


class _FullAtFirst(OwnerViews):
    """One view has changed; the first time it is written the disk is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = {path: 0}
        self.attempts = 0
        self.saved = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def changed(self) -> dict[Path, Callable[[], None]]:
        if self._written[self._path] == 7:
            return {}
        self._written[self._path] = 7
        return {self._path: lambda: None}

    def save(self, files: Mapping[Path, Callable[[], None]]) -> None:  # type: ignore[override]  # static in the real one
        del files
        self.attempts += 1
        if self.attempts == 1:
            raise OSError(28, "No space left on device")
        self._loop.call_soon_threadsafe(self.saved.set)


async def test_what_was_seen_of_owners_is_written_again_after_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SAVE_SECONDS", 0.01)
    views = _FullAtFirst(tmp_path / "hrss_main.json")
    keeping = asyncio.create_task(app._keep_views(views))
    async with asyncio.timeout(10):
        await views.saved.wait()
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
