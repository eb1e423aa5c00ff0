"""What stands between a log's process and its PostgreSQL: it follows every statement, and strikes at a chosen one.

It reads the frontend/backend protocol (PostgreSQL documentation, "Message Formats") far enough to know where a
statement ends: at a Query or a Sync, and its answer at ReadyForQuery. It changes nothing until its blow falls.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from servers import Postgresql

PLACES: Final = ("before", "half", "during", "after")
"""Before the server has the statement, when it has half of it, while it executes it, after it has answered."""
DEEDS: Final[dict[str, Sequence[str]]] = {
    "connection cut": PLACES,
    "session ended": ("before", "during", "after"),
    "server process killed": ("before", "during", "after"),
    "server killed": ("before", "during", "after"),
    "server shut down at once": ("before", "during", "after"),
    "server frozen": ("before", "after"),
    "statement fails": ("before",),
}
"""What a blow does, and where. A server that is frozen `before` has the statement waiting when it goes on."""

_PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault.

    Attributes:
        deed: Of `DEEDS`.
        place: Of `PLACES`.
        number: At which statement since this was told, from 1, on any connection.
        words: Only statements in which these occur are counted.
    """

    deed: str
    place: str
    number: int = 1
    words: str = ""


@dataclass(slots=True, eq=False)
class _Session:
    """A connection, and what came over it that is not whole yet."""

    client: socket.socket
    server: socket.socket
    asked: bytearray = field(default_factory=bytearray)
    statement: bytes = b""
    begun: bool = False
    answered: bytearray = field(default_factory=bytearray)
    backend: int = 0
    blow: Blow | None = None

    def close(self) -> None:
        """Both ends."""
        for one in (self.client, self.server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Between:
    """Listens at a port of this machine. `serve` is its loop: for a thread, or a process of its own (`fork`).

    Args:
        server: To whose socket it connects.
    """

    def __init__(self, server: Postgresql) -> None:
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._ours, self._theirs = socket.socketpair()
        self._ours.settimeout(_PATIENCE)
        self._lines = self._ours.makefile("rb")
        self._selector = selectors.DefaultSelector()
        self._sessions: set[_Session] = set()
        self._armed: Blow | None = None
        self._seen: list[str] = []
        self._counted = 0
        self._struck = ""
        self._pid = 0

    def url(self, database: str, account: str) -> str:
        """SQLAlchemy's URL of a database behind it."""
        return f"postgresql+psycopg://{account}@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable"

    # Whoever uses it.

    def fork(self) -> None:
        """Serve in a process of its own."""
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._ours.close()
                self.serve()
            except BaseException:  # noqa: BLE001 - whoever forked it is told
                traceback.print_exc()
            finally:
                os._exit(0)
        for one in (self._listening, self._theirs, self._selector):
            one.close()

    def arm(self, blow: Blow | None) -> None:
        """Count from here on, and strike where the blow says; None to look only."""
        self._ask({"arm": None if blow is None else asdict(blow)})

    def seen(self) -> list[str]:
        """How the statements begin that came since it was armed."""
        return [str(one) for one in self._ask({"seen": True})["seen"]]

    def struck(self) -> str:
        """The statement that was struck; empty if none was yet."""
        return str(self._ask({"seen": True})["struck"])

    def close(self) -> None:
        """End it, and every connection through it."""
        self._lines.close()
        self._ours.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def _ask(self, what: dict[str, Any]) -> dict[str, Any]:
        self._ours.sendall(json.dumps(what).encode() + b"\n")
        told: dict[str, Any] = json.loads(self._lines.readline())
        return told

    # The loop.

    def serve(self) -> None:
        """Pass on, until it is closed."""
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        self._selector.register(self._theirs, selectors.EVENT_READ, self._told)
        try:
            while True:
                for key, _ in self._selector.select():
                    key.data()
        except EOFError:
            for session in list(self._sessions):
                self._end(session)
        finally:
            for one in (self._listening, self._theirs, self._selector):
                one.close()

    def _told(self) -> None:
        data = self._theirs.recv(65536)
        if not data:
            raise EOFError
        told = json.loads(data)
        if "arm" in told:
            self._armed = None if told["arm"] is None else Blow(**told["arm"])
            self._seen, self._counted, self._struck = [], 0, ""
        self._theirs.sendall(json.dumps({"seen": self._seen, "struck": self._struck}).encode() + b"\n")

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._server.socket()))
        except OSError:
            client.close()
            server.close()
            return
        session = _Session(client, server)
        self._sessions.add(session)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._asked(session))
        self._selector.register(server, selectors.EVENT_READ, lambda: self._answered(session))

    def _end(self, session: _Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
            for one in (session.client, session.server):
                self._selector.unregister(one)
            session.close()

    def _asked(self, session: _Session) -> None:
        data = _received(session.client)
        if not data:
            self._end(session)
            return
        session.asked += data
        while session in self._sessions and (message := _message(session.asked, typed=session.begun)):
            if not session.begun:
                session.begun = True
                self._pass_on(session, message)
                continue
            session.statement += message
            if message[:1] in b"QS":
                statement, session.statement = session.statement, b""
                self._statement(session, statement)
            elif message[:1] == b"X":
                self._pass_on(session, message)

    def _statement(self, session: _Session, statement: bytes) -> None:
        text = _text(statement)
        self._seen.append(text)
        blow = self._armed
        if blow is not None and blow.words in text:
            self._counted += 1
            if self._counted == blow.number:
                self._struck, self._armed = text, None
                self._strike(session, statement, blow)
                return
        self._pass_on(session, statement)

    def _strike(self, session: _Session, statement: bytes, blow: Blow) -> None:
        if blow.place == "before":
            self._do(session, blow)
            self._pass_on(session, _wrong(statement) if blow.deed == "statement fails" else statement)
        elif blow.place == "half":
            self._pass_on(session, statement[: len(statement) // 2])
            self._do(session, blow)
        elif blow.place == "during":
            self._pass_on(session, statement)
            self._do(session, blow)
        else:
            session.blow = blow
            self._pass_on(session, statement)

    def _answered(self, session: _Session) -> None:
        data = _received(session.server)
        if not data:
            self._end(session)
            return
        session.answered += data
        passed = b""
        while message := _message(session.answered, typed=True):
            passed += message
            if message[:1] == b"K":
                session.backend = int.from_bytes(message[5:9], "big")
            elif message[:1] == b"Z" and session.blow is not None:
                # The answer is kept back: the process never learns of it.
                blow, session.blow = session.blow, None
                self._do(session, blow)
                if blow.deed != "server frozen":
                    self._end(session)
                return
        if session.blow is None and passed:
            with suppress(OSError):
                session.client.sendall(passed)

    def _do(self, session: _Session, blow: Blow) -> None:
        with suppress(ProcessLookupError):
            if blow.deed == "connection cut":
                self._end(session)
            elif blow.deed == "session ended":
                os.kill(session.backend, signal.SIGTERM)
            elif blow.deed == "server process killed":
                os.kill(session.backend, signal.SIGKILL)
            elif blow.deed == "server shut down at once":
                os.kill(self._server.pids()[0], signal.SIGQUIT)
            elif blow.deed == "server killed":
                signal_all(self._server.pids(), signal.SIGKILL)
            elif blow.deed == "server frozen":
                signal_all(self._server.pids(), signal.SIGSTOP)

    def _pass_on(self, session: _Session, data: bytes) -> None:
        if session in self._sessions:
            with suppress(OSError):
                session.server.sendall(data)


def signal_all(pids: Sequence[int], which: signal.Signals) -> None:
    """Signal processes that may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, which)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _message(data: bytearray, *, typed: bool) -> bytes:
    """The first message, taken away; empty if it is not whole yet."""
    start = 1 if typed else 0
    if len(data) < start + 4:
        return b""
    size = start + int.from_bytes(data[start : start + 4], "big")
    if len(data) < size:
        return b""
    message = bytes(data[:size])
    del data[:size]
    return message


def _place_of_text(statement: bytes) -> int:
    """Where the SQL begins; where none is sent, the name of the prepared statement that is executed."""
    return 5 if statement[:1] == b"Q" else statement.index(0, 5) + 1


def _text(statement: bytes) -> str:
    start = _place_of_text(statement)
    return statement[start : statement.index(0, start)][:60].decode("ascii", "replace")


def _wrong(statement: bytes) -> bytes:
    """The same with a wrong first letter: the server refuses it."""
    start = _place_of_text(statement)
    return statement[:start] + b"!" + statement[start + 1 :]
