"""A process of its own that does something and tells what it was promised, over a socket that outlives it.

It is forked from a process that has everything loaded, which makes a case cost milliseconds instead of a second. The
parent must have one thread and no open database.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography import x509
from structlog.testing import ReturnLogger

from audit.appended import Appended, Head
from campaign.tracer import Strike, Tracer
from certs.signing import Signer
from zhiwang.wire.errors import ZhiwangError

PATIENCE: Final = 300.0
"""Seconds after which a process hangs; far more than any needs on a slow machine."""


class Voice:
    """What the process says. Each word is one `send`, whole or missing."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def say(self, word: str, **what: Any) -> None:
        """Say something to whoever listens."""
        self._channel.sendall(json.dumps({"word": word, **what}).encode() + b"\n")

    def acknowledged(self, appended: Appended) -> None:
        """Somebody was told that these entries are recorded, and has this checkpoint."""
        self.say(
            "acknowledged",
            first=appended.first,
            leaves=[leaf.hex() for leaf in appended.leaf_hashes],
            note=appended.head.checkpoint.decode(),
        )

    def shown(self, head: Head) -> None:
        """Somebody has this checkpoint."""
        self.say("shown", note=head.checkpoint.decode())

    def refused(self, error: ZhiwangError) -> None:
        """It was refused, in these words."""
        self.say("refused", detail=error.detail)


@dataclass
class Said:
    """What a process said until it ended.

    Attributes:
        words: In order.
        killed: Whether a signal ended it.
        struck: Whether the fault took place.
    """

    words: list[dict[str, Any]] = field(default_factory=list)
    killed: bool = False
    struck: bool = False

    def of(self, *words: str) -> list[dict[str, Any]]:
        """Those of a kind."""
        return [one for one in self.words if one["word"] in words]

    @property
    def refusals(self) -> list[str]:
        """Why it was refused."""
        return [str(one["detail"]) for one in self.of("refused")]

    @property
    def broken(self) -> list[str]:
        """Errors that are in nobody's words: what no process may end with."""
        return [str(one["error"]) for one in self.of("broken")]


Act = Callable[[Path, Voice], Iterator[None]]
"""What a process does in a directory; it yields once, where faults may begin."""


class TellingSigner(Signer):
    """A signer that tells what it signs before anybody has the signature."""

    def __init__(self, signer: Signer, voice: Voice) -> None:
        super().__init__(signer._key, x509.load_der_x509_certificate(signer.certificate_der))
        self._voice = voice

    def sign(self, message: bytes) -> bytes:
        """As `Signer.sign`."""
        self._voice.say("signed", body=message.decode())
        return super().sign(message)


class Running:
    """A process that does something, and waits where faults may begin until it is told to go.

    Args:
        act: What.
        directory: Where.
        early: Wait at once instead.
    """

    def __init__(self, act: Act, directory: Path, *, early: bool = False) -> None:
        self._channel, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._channel.close()
            _perform(act, directory, theirs, early=early)
        theirs.close()
        self._channel.settimeout(PATIENCE)
        self._lines = self._channel.makefile("rb")
        self._said = Said()
        self.waits = self._listen(lambda word: word == "ready")

    def go(self) -> None:
        """Go on, if it waits; it may have ended before."""
        if self.waits:
            self._channel.sendall(b"\n")

    def until(self, word: str, count: int) -> None:
        """Listen until it has said something so many times more, or has ended."""
        for _ in range(count):
            self._listen(lambda said: said == word)

    def kill(self) -> None:
        """End it by force."""
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> Said:
        """Listen until it has ended."""
        self._listen(lambda _: False)
        self._lines.close()
        self._channel.close()
        self._said.killed = os.WIFSIGNALED(os.waitpid(self.pid, 0)[1])
        return self._said

    def _listen(self, enough: Callable[[str], bool]) -> bool:
        """Whether it said what is enough before it ended."""
        try:
            for line in self._lines:
                word = json.loads(line)
                self._said.words.append(word)
                if enough(word["word"]):
                    return True
        except TimeoutError:
            self.kill()
            self._said.words.append({"word": "broken", "error": f"it hung for {PATIENCE:.0f} seconds"})
        return False


def run(
    act: Act, directory: Path, strike: Strike | None = None, *, trace: Path | None = None, whole: bool = False
) -> Said:
    """Do something in a process of its own, and listen until that has ended.

    Args:
        act: What.
        directory: Where.
        strike: What strikes it from its `yield` on.
        trace: Where a trace of its system calls goes from then on; needed for a strike.
        whole: Trace from the beginning instead, with the data.
    """
    running = Running(act, directory, early=whole)
    tracer = Tracer(running.pid, trace, strike, whole=whole) if trace is not None and running.waits else None
    running.go()
    said = running.end()
    if tracer is not None:
        tracer.wait()
    if strike is not None and trace is not None and trace.exists():
        said.struck = said.killed if not strike.error else "(INJECTED)" in trace.read_text("ascii")
    return said


def _perform(act: Act, directory: Path, channel: socket.socket, *, early: bool) -> None:
    voice = Voice(channel)
    # The log of operation goes nowhere: its writes would be struck as well, and be counted.
    structlog.configure(logger_factory=lambda *_: ReturnLogger())
    try:
        acting = act(directory, voice)
        if not early:
            next(acting)
        voice.say("ready")
        channel.recv(1)
        for _ in acting:
            pass
    except ZhiwangError as error:
        voice.refused(error)
    except BaseException as error:  # noqa: BLE001 - judged by whoever listens
        voice.say("broken", error=f"{type(error).__name__}: {error}")
    finally:
        channel.close()
        os._exit(0)
