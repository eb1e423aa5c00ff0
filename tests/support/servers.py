"""Real database servers for tests: found on this machine, started in a directory of their own, surely stopped.

A server listens on a Unix socket in a directory (0700) that only its own account and root may enter, so it needs no
password and no port. `running` starts at most one of each kind in a process and stops it when the process ends; should
the process be killed, the kernel ends the server too. The fixtures in tests/conftest.py hand them out.
"""

from __future__ import annotations

import atexit
import glob
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import ClassVar

from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.sql import text

START_SECONDS = 90.0
"""How long a server may take to answer; a machine that runs everything else too is slow."""

STOP_SECONDS = 20.0
"""How long it may take to end before it is killed."""

READER = "reader"
"""The account that mappings use: it may read what `create` made and nothing else."""


class MissingError(RuntimeError):
    """This machine lacks a server, or what is needed to start one; the message says which."""


def _tool(name: str, *patterns: str) -> str:
    """Path of a program in the newest of the places given, or on PATH."""
    for pattern in patterns:
        for directory in sorted(glob.glob(pattern), key=_version, reverse=True):  # noqa: PTH207 - a pattern from the root
            if (path := Path(directory) / name).is_file():
                return str(path)
    found = shutil.which(name)
    if found is None:
        raise MissingError(f"{name} is not installed")
    return found


def _version(directory: str) -> tuple[int, ...]:
    return tuple(int(part) for part in directory.split("/") if part.isdigit())


class Server(ABC):
    """A server that belongs to this process.

    Attributes:
        family: SQLAlchemy's name of its dialect.
        directory: Everything that it keeps.
    """

    family: ClassVar[str]
    account: ClassVar[str]
    """Account under which it runs where we are root: servers refuse to be root."""

    end: ClassVar[signal.Signals]
    """Ends it at once, its clients notwithstanding."""

    def __init__(self) -> None:
        self._setpriv = _tool("setpriv")
        self.program = self.find()
        self.directory = Path(tempfile.mkdtemp(prefix="zw-", dir="/tmp"))  # 0700; a socket's path must be short
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            self._user = self._who()
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        atexit.register(self.remove)
        try:
            self.initialise()
            self.start()
            self.prepare()
        except BaseException:
            self.remove()
            raise

    @abstractmethod
    def find(self) -> str:
        """Path of the server's program. Raises MissingError."""

    @abstractmethod
    def initialise(self) -> None:
        """Make the data directory."""

    @abstractmethod
    def command(self) -> list[str]:
        """Command line of the server."""

    @abstractmethod
    def socket(self) -> Path:
        """Where it listens."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the reading account."""

    @abstractmethod
    def url(self, database: str, user: str = READER) -> str:
        """SQLAlchemy's URL of a database."""

    @abstractmethod
    def create(self, database: str) -> None:
        """Make a database that the reader may read."""

    @abstractmethod
    def drop(self, database: str) -> None:
        """Remove a database, its clients notwithstanding."""

    @abstractmethod
    def running_statements(self) -> list[str]:
        """Statements of the reader that the server is executing now."""

    def _who(self) -> pwd.struct_passwd:
        for name in (self.account, "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise MissingError(f"there is no account {self.account} for it to run under")

    def as_account(self, *command: str) -> list[str]:
        """A command line that gives root up where we are root, and ends with us (prctl(2), PR_SET_PDEATHSIG)."""
        line = [self._setpriv, "--pdeathsig", "KILL"]
        if os.geteuid() == 0:
            line += [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
        return [*line, *command]

    def call(self, *command: str) -> None:
        """Run a tool of the server to its end."""
        with self.log.open("ab") as log:
            status = subprocess.run(  # noqa: S603 - programs that we found
                self.as_account(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, cwd="/"
            ).returncode
        if status:
            raise MissingError(f"{Path(command[0]).name} failed: {self._last_line()}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - programs that we found
                self.as_account(*self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        if not self.answers():
            raise MissingError(f"{self.family} does not start: {self._last_line()}")

    def answers(self) -> bool:
        """Whether it answers; after a crash of one of its processes that may take it a while."""
        deadline = time.monotonic() + START_SECONDS
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            if self._listens():
                with suppress(DBAPIError):
                    self.execute("", "SELECT 1")
                    return True
            time.sleep(0.05)
        return False

    def _listens(self) -> bool:
        """Asked first, since PyMySQL leaves its socket open where nobody does."""
        with socket.socket(socket.AF_UNIX) as ours:
            return ours.connect_ex(str(self.socket())) == 0

    def stop(self, by: signal.Signals | None = None) -> None:
        """Stop it at once, whoever is connected."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(by or self.end)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def crash(self) -> None:
        """End it as the loss of its machine would, but for what the kernel has still to write."""
        self.stop(signal.SIGKILL)

    def pids(self) -> list[int]:
        """The server and the processes that it made."""
        assert self._process is not None
        found = [self._process.pid]
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text("ascii", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == self._process.pid:
                found.append(int(status.parent.name))
        return found

    def remove(self) -> None:
        """Stop it and remove what it kept. May be called twice."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _last_line(self) -> str:
        lines = self.log.read_text("utf-8", "replace").split("\n") if self.log.is_file() else []
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def execute(
        self, database: str, *statements: str, rows: Mapping[str, Iterable[Sequence[object]]] | None = None
    ) -> None:
        """Run statements as the admin, then insert rows into tables."""
        with self.admin(database) as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            for table, values in (rows or {}).items():
                insert(connection, table, values)

    def admin(self, database: str) -> Connection:
        """A connection of the account that may do everything; each statement is a transaction.

        A server that starts, or recovers from the loss of a process, is waited for.
        """
        engine = create_engine(self.url(database, self.account_of_admin()), poolclass=NullPool)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            except OperationalError as error:
                if "the database system is" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    @abstractmethod
    def account_of_admin(self) -> str:
        """Name of that account."""


def copy_data(source: Path, target: Path) -> None:
    """Copy the data directory of a server that does not run, with its owner."""
    shutil.copytree(source, target)
    status = source.stat()
    target.chmod(0o700)
    for path in (target, *target.rglob("*")):
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def insert(connection: Connection, table: str, values: Iterable[Sequence[object]]) -> None:
    """Insert rows into all columns of a table. Its name is taken as SQL writes it."""
    rows = [{f"c{i}": value for i, value in enumerate(row)} for row in values]
    if rows:
        marks = ", ".join(f":{name}" for name in rows[0])
        connection.execute(text(f"INSERT INTO {table} VALUES ({marks})"), rows)  # noqa: S608 - a test's own table


class Postgresql(Server):
    """PostgreSQL 15 or newer."""

    family = "postgresql"
    account = "postgres"
    end = signal.SIGINT
    segment: ClassVar[int] = 16
    """MiB of a file of its write-ahead log."""

    def find(self) -> str:
        _tool("initdb", "/usr/lib/postgresql/*/bin")
        return _tool("postgres", "/usr/lib/postgresql/*/bin")

    def initialise(self) -> None:
        data = str(self.directory / "data")
        # The database's own order is that of the bytes; tests of other collations name them at the column.
        self.call(
            str(Path(self.program).with_name("initdb")),
            *("-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            f"--wal-segsize={self.segment}",
        )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "autovacuum": "off",
            "shared_buffers": "128MB",
            "max_connections": "60",
            # Anything but the city's, so that a statement that leans on the server's is found out.
            "timezone": "America/New_York",
            "datestyle": "SQL, DMY",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self.program, "-D", str(self.directory / "data"), *options]

    def socket(self) -> Path:
        return self.directory / ".s.PGSQL.5432"

    def prepare(self) -> None:
        self.execute("", f"CREATE ROLE {READER} LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")

    def account_of_admin(self) -> str:
        return "postgres"

    def url(self, database: str, user: str = READER) -> str:
        return f"postgresql+psycopg://{user}@/{database or 'postgres'}?host={self.directory}"

    def create(self, database: str) -> None:
        self.execute("", f"CREATE DATABASE {database} TEMPLATE template0")
        self.execute(
            database,
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER}",
            f"ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {READER}",
        )

    def drop(self, database: str) -> None:
        self.execute("", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def running_statements(self) -> list[str]:
        with self.admin("") as connection:
            rows = connection.exec_driver_sql(
                "SELECT query FROM pg_stat_activity WHERE usename = %s AND state = 'active'", (READER,)
            )
            return [row[0] for row in rows]


class Mariadb(Server):
    """MariaDB 10.11 or newer."""

    family = "mariadb"
    account = "mysql"
    end = signal.SIGTERM

    def find(self) -> str:
        _tool("mariadb-install-db")
        return _tool("mariadbd", "/usr/sbin", "/usr/libexec", "/usr/local/sbin")

    def initialise(self) -> None:
        self.call(
            _tool("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            *("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
        )

    def command(self) -> list[str]:
        return [
            self.program,
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            f"--socket={self.socket()}",
            f"--pid-file={self.directory / 'pid'}",
            "--skip-networking",
            "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=256M",
            "--max-connections=60",
            # As above: not the city's, and what old systems were set to.
            "--default-time-zone=-05:00",
            "--sql-mode=ALLOW_INVALID_DATES,PAD_CHAR_TO_FULL_LENGTH",
        ]

    def socket(self) -> Path:
        return self.directory / "s"

    def prepare(self) -> None:
        self.execute("", f"CREATE USER {READER}@localhost")

    def account_of_admin(self) -> str:
        return "root"

    def url(self, database: str, user: str = READER) -> str:
        return f"mariadb+pymysql://{user}@localhost/{database}?unix_socket={self.socket()}"

    def create(self, database: str) -> None:
        self.execute(
            "",
            f"CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            f"GRANT SELECT ON {database}.* TO {READER}@localhost",
        )

    def drop(self, database: str) -> None:
        self.execute(
            "",
            f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {READER}@localhost",
            f"DROP DATABASE IF EXISTS {database}",
        )

    def running_statements(self) -> list[str]:
        with self.admin("") as connection:
            rows = connection.exec_driver_sql(
                "SELECT info FROM information_schema.processlist WHERE user = %s AND command <> 'Sleep'", (READER,)
            )
            return [row[0] for row in rows if row[0]]


_KINDS: dict[str, type[Server]] = {"postgresql": Postgresql, "mariadb": Mariadb}


@cache
def _started(family: str) -> Server | MissingError:
    try:
        return _KINDS[family]()
    except MissingError as error:
        return error


def running(family: str) -> Server:
    """The server of this kind that this process has started, or starts now.

    Raises:
        MissingError: There is none to be had here; the message says why.
    """
    server = _started(family)
    if isinstance(server, MissingError):
        raise server
    return server


def fresh_name() -> str:
    """A name for a database that nobody has."""
    return f"zw_{secrets.token_hex(6)}"
