"""The files of an exported log, from a directory or from a static file server."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import urllib3

from audit.fsck import Fetch
from audit.layout import MAX_ENTRY
from audit.tiles import TILE_WIDTH
from zhiwang.wire.errors import FatalError, Reason

MAX_FILE: Final = TILE_WIDTH * (MAX_ENTRY + 2)
"""Bytes of the largest file of the layout: a bundle of the longest entries."""
TIMEOUT: Final = urllib3.Timeout(connect=10, read=30)
NOT_FOUND: Final = 404
FOUND: Final = 200


def directory(path: Path) -> Fetch:
    """Files of a directory."""

    def fetch(name: str) -> bytes | None:
        try:
            with (path / name).open("rb") as file:
                return file.read(MAX_FILE + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    return fetch


def server(url: str) -> Fetch:
    """Files of a static file server; over one connection.

    Raises (when a file is fetched):
        FatalError: INTERNAL: the server cannot be reached, or answers with neither the file nor 404.
    """
    pool = urllib3.PoolManager(timeout=TIMEOUT, retries=urllib3.Retry(3, redirect=0, respect_retry_after_header=False))
    base = url.rstrip("/")

    def fetch(name: str) -> bytes | None:
        try:
            response = pool.request("GET", f"{base}/{name}", preload_content=False)
            data = response.read(MAX_FILE + 1)
            response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise FatalError(Reason.INTERNAL, f"{base}/{name}: {type(error).__name__}") from None
        if response.status == NOT_FOUND:
            return None
        if response.status != FOUND:
            raise FatalError(Reason.INTERNAL, f"{base}/{name}: the server answers {response.status}")
        return data

    return fetch
