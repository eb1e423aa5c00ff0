"""A keeper of receipts that is killed, and one whose disk is full: what was promised is there, what was not is told."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import receipt_keeper
from client_support import CASE, CONTEXT, World
from exchange.client.check import check_answer
from exchange.client.receipt import build_receipt, write_receipt
from exchange.client.receipt_store import ReceiptStore
from exchange.client.receipt_verify import verify_receipt

GROUP = 7


class Keeper:
    """The process of receipt_keeper.py over a new store."""

    def __init__(self, path: Path) -> None:
        self.world = World(path / "world")
        sealed = self.world.seal(self.world.prepare(CASE))
        self.receipt = build_receipt([check_answer(one, self.world.deliver(one)) for one in sealed], 0)
        write_receipt(path / "receipt.json", self.receipt)
        self.directory, self.keys = path / "receipts", path / "keys"
        assert ReceiptStore.create(self.directory, self.keys, time.time())
        command = [sys.executable, receipt_keeper.__file__, str(self.directory), str(self.keys)]
        command += [str(path / "receipt.json"), str(GROUP)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - ours
        assert self.line() == "open"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().rstrip("\n")

    def until(self, word: str, seen: list[str], count: int = 1) -> None:
        """Read lines until so many begin with a word."""
        while count:
            seen.append(self.line())
            assert seen[-1], "the process has ended"
            count -= seen[-1].startswith(word)

    def kill(self) -> list[str]:
        """Kill it; returns what it had still said."""
        self.process.send_signal(signal.SIGKILL)
        assert self.process.stdout is not None
        rest = self.process.stdout.read().decode().splitlines()
        self.process.wait(60)
        return rest

    def kept(self) -> list[int]:
        """Numbers of the receipts that are there; each is whole and holds."""
        numbers = []
        with closing(ReceiptStore(self.directory, self.keys)) as store:
            store.check_keys()
            for found in store.find(CONTEXT.reference):
                assert found.receipt == self.receipt
                numbers.append(int(found.key))
        assert verify_receipt(self.receipt, self.world.verifier)
        return numbers


@contextmanager
def keeping(path: Path) -> Iterator[Keeper]:
    keeper = Keeper(path)
    try:
        yield keeper
    finally:
        if keeper.process.poll() is None:
            keeper.kill()
        for stream in (keeper.process.stdin, keeper.process.stdout):
            assert stream is not None
            stream.close()


def promised(lines: list[str], word: str = "kept") -> set[int]:
    firsts = [int(line.split()[1]) for line in lines if line.startswith(word)]
    return {first + index for first in firsts for index in range(GROUP)}


@pytest.mark.parametrize("groups", [1, 5, 40])
def test_a_kill_loses_no_receipt_that_was_promised_and_leaves_no_part_of_a_group(tmp_path: Path, groups: int) -> None:
    with keeping(tmp_path) as keeper:
        keeper.go()
        lines: list[str] = []
        keeper.until("kept", lines, groups)
        lines += keeper.kill()
        kept = keeper.kept()
    assert len(set(kept)) == len(kept)
    assert promised(lines) <= set(kept)
    assert len(kept) % GROUP == 0
    assert len(kept) - len(promised(lines)) <= GROUP


def test_on_a_full_disk_nothing_is_promised_and_with_space_it_goes_on(tmp_path: Path) -> None:
    with keeping(tmp_path) as keeper:
        # No file of that process grows beyond this: the kernel refuses the write, as a full disk does.
        _, hard = resource.prlimit(keeper.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(keeper.process.pid, resource.RLIMIT_FSIZE, (400_000, hard))
        keeper.go()
        lines: list[str] = []
        keeper.until("refused", lines, 3)
        resource.prlimit(keeper.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        keeper.until("kept", lines, 3)
        lines += keeper.kill()
        kept = set(keeper.kept())
    assert promised(lines) <= kept
    assert promised(lines, "refused")
    assert not promised(lines, "refused") & kept
