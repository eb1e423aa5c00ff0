"""A process that keeps receipts and says which of them were durable, to be killed or to run out of disk.

`python receipt_keeper.py STORE KEYS RECEIPT GROUP`: opens the store, says "open", and begins when it is sent a line.
From then on it keeps the receipt of a file in groups under rising numbers, and says "kept NUMBER" after each group that
was kept and "refused NUMBER" after each that was not.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import structlog

from exchange.client.keeper import Keeper
from exchange.client.receipt import read_receipt
from exchange.client.receipt_rows import Paper
from exchange.client.receipt_store import ReceiptStore
from zhiwang.wire.errors import RefusedError


async def main(directory: str, keys: str, content: bytes, group: str) -> None:
    receipt = read_receipt(content)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for promises
    keeper = Keeper(ReceiptStore(Path(directory), Path(keys)), 86_400.0)
    os.write(1, b"open\n")
    await asyncio.to_thread(sys.stdin.readline)
    number = 0
    while True:
        try:
            await keeper.keep([Paper("2026-000123", str(number + index), receipt) for index in range(int(group))])
        except RefusedError:
            os.write(1, f"refused {number}\n".encode())
            await asyncio.sleep(0.05)
        else:
            # One write: a line is whole or missing.
            os.write(1, f"kept {number}\n".encode())
        number += int(group)


if __name__ == "__main__":
    store, key_directory, file, size = sys.argv[1:]
    asyncio.run(main(store, key_directory, Path(file).read_bytes(), size))
