"""Real processes: signals, the state directory, the address file, the exit status, metrics."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from zhiwang.wire.errors import FatalError
from zhiwang.wire.metrics import MetricsServer, counter, make_registry
from zhiwang.wire.process import locked_state, read_address, write_address

PROGRAM = """
import asyncio, gc, sys
from pathlib import Path
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.process import Process, run

async def fail() -> None:
    raise ValueError("plain guess 11010519491231002X")

async def main(process: Process) -> None:
    mode = sys.argv[2]
    if mode == "fatal":
        raise FatalError(Reason.LOG_UNAVAILABLE, "the log cannot be opened")
    if mode == "bug":
        raise ValueError("plain guess 11010519491231002X")
    process.announce(listen="127.0.0.1:1", metrics=None)
    if mode == "loop":
        asyncio.ensure_future(fail())
        await asyncio.sleep(0.1)
        gc.collect()
    await process.stopping.wait()
    if mode == "stuck":
        await asyncio.sleep(3600)
    Path(sys.argv[1], "orderly").touch()

sys.exit(run("test", main, state=Path(sys.argv[1])))
"""


@contextmanager
def program(
    state: Path, mode: str = "serve", env: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603  our own interpreter and program
        [sys.executable, "-c", PROGRAM, str(state), mode], stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def wait_for_address(state: Path, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while read_address(state) is None:
        assert child.poll() is None, child.stderr and child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_an_orderly_way_and_takes_the_address_back(tmp_path: Path, number: signal.Signals) -> None:
    with program(tmp_path) as child:
        wait_for_address(tmp_path, child)
        assert read_address(tmp_path) == {"listen": "127.0.0.1:1", "pid": child.pid}
        child.send_signal(number)
        assert child.wait(30) == 0
    assert (tmp_path / "orderly").exists()
    assert read_address(tmp_path) is None


def test_a_second_signal_ends_a_process_that_does_not_stop(tmp_path: Path) -> None:
    with program(tmp_path, "stuck") as child:
        wait_for_address(tmp_path, child)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert child.poll() is None
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 1
    assert read_address(tmp_path) is None


def test_two_processes_never_share_a_state_directory(tmp_path: Path) -> None:
    with program(tmp_path) as first:
        wait_for_address(tmp_path, first)
        with program(tmp_path) as second:
            _, said = second.communicate(timeout=30)
            assert second.returncode == 1
            assert "another process uses the state directory" in said
        assert read_address(tmp_path) == {"listen": "127.0.0.1:1", "pid": first.pid}
        first.kill()
        first.wait(30)
        with program(tmp_path) as third:
            deadline = time.monotonic() + 30
            while (read_address(tmp_path) or {}).get("pid") != third.pid:
                assert time.monotonic() < deadline
                time.sleep(0.02)


def test_no_state_directory_comes_into_being_by_running(tmp_path: Path) -> None:
    with program(tmp_path / "missing") as child:
        _, said = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "init" in said
    assert not (tmp_path / "missing").exists()


def test_an_error_that_stops_the_process_is_told_in_words_and_by_the_exit_status(tmp_path: Path) -> None:
    with program(tmp_path, "fatal") as child:
        _, said = child.communicate(timeout=30)
    assert child.returncode == 1
    (line,) = [json.loads(line) for line in said.splitlines()]
    assert (line["reason"], line["detail"]) == ("LOG_UNAVAILABLE", "the log cannot be opened")


@pytest.mark.parametrize("mode", ["bug", "loop"])
def test_a_mistake_of_ours_is_told_without_its_text(tmp_path: Path, mode: str) -> None:
    with program(tmp_path, mode) as child:
        if mode == "loop":
            wait_for_address(tmp_path, child)
            time.sleep(0.2)
            child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=30)
    assert child.returncode == (1 if mode == "bug" else 0)
    assert "11010519491231002X" not in said
    assert "plain guess" not in said
    assert "ValueError" in said
    assert "Traceback" not in said


def test_an_address_file_is_never_seen_half_written(tmp_path: Path) -> None:
    for number in range(200):
        write_address(tmp_path, listen="127.0.0.1:1", metrics=f"127.0.0.1:{number}")
        content = read_address(tmp_path)
        assert content == {"listen": "127.0.0.1:1", "metrics": f"127.0.0.1:{number}", "pid": os.getpid()}
    (tmp_path / "address.json").write_text("[1", "utf-8")
    assert read_address(tmp_path) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["address.json"]


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    with locked_state(tmp_path), pytest.raises(FatalError), locked_state(tmp_path):
        pass
    with locked_state(tmp_path):
        pass


async def test_metrics_are_served_with_the_cpu_seconds_of_the_process() -> None:
    registry = make_registry()
    counter("zhiwang_things", "Things", ["kind"], registry=registry).labels("one").inc(3)
    server = MetricsServer("127.0.0.1:0", registry)

    def fetch(port: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(fetch, server.port)
    assert 'zhiwang_things_total{kind="one"} 3.0' in text
    assert "process_cpu_seconds_total" in text
    with pytest.raises(FatalError):
        MetricsServer(server.address, registry)
    server.close()


@pytest.mark.parametrize("address", ["127.0.0.1:x", "127.0.0.1:99999", "no.such.host.invalid:0"])
def test_metrics_on_an_impossible_address_are_refused_in_words(address: str) -> None:
    with pytest.raises(FatalError, match="metrics cannot be served"):
        MetricsServer(address)


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_hears_that_a_process_serves_lives_and_stops(tmp_path: Path, *, abstract: bool) -> None:
    name = f"\0zhiwang-{os.getpid()}-{abstract}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(30)
        told = {"NOTIFY_SOCKET": name.replace("\0", "@"), "WATCHDOG_USEC": "200000"}
        with program(tmp_path, env=told) as child:
            heard = {manager.recv(4096) for _ in range(4)}
            assert heard == {b"READY=1", b"WATCHDOG=1"}
            child.terminate()
            while manager.recv(4096) != b"STOPPING=1":
                pass
            assert child.wait(30) == 0


def test_a_process_whose_manager_does_not_listen_goes_on(tmp_path: Path) -> None:
    with program(tmp_path, env={"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "soon"}) as child:
        wait_for_address(tmp_path, child)
        child.terminate()
        assert child.wait(30) == 0
