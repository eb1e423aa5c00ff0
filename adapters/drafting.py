"""`zhiwang adapter init --url`: from a database that exists to three files to go through. The I/O around the draft.

Nothing is overwritten, the database is only read, and neither a value nor a password is printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from adapters.dialects import DIALECTS, names_of
from adapters.draft import DraftSet, draft, slug
from adapters.draft_text import Place, chosen, document_text, mapping_text, profile_text
from adapters.mapping import BARE_AT, Database, has_bare_at, sqlite_location
from adapters.messages import told
from adapters.schema import read_schema
from adapters.sessions import UrlError, open_engine
from zhiwang.wire.errors import FatalError, Reason

MAPPING, DOCUMENT, PROFILE, PASSWORD = "mapping.toml", "document.toml", "adapter.toml", "database.password"

_SECRET_QUERY = re.compile(r"(?i)pass(word|wd)?\Z|sslpassword\Z")
_DEPARTMENT = re.compile(r"[a-z](?:[a-z0-9_]{0,46}[a-z0-9])?")


class UnusableError(ValueError):
    """What was typed cannot be meant; the message says what to type instead."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """What was made.

    Attributes:
        files: Every file that was written.
        sets: The data sets in them.
        active: Name of the one whose `exists` is active; None if there is none.
        left: Tables without a subject.
        department: Name of the department in them.
    """

    files: tuple[Path, ...]
    sets: tuple[DraftSet, ...]
    active: str | None
    left: tuple[str, ...]
    department: str

    @property
    def profile(self) -> Path:
        """adapter.toml."""
        return self.files[2]


def make_draft(
    url: str,
    out: Path,
    *,
    department: str | None,
    hub: str | None,
    password_file: Path | None,
    today: date,
    root: Path | None = None,
    identity: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Drafted:
    """Read the schema and write mapping.toml, document.toml and adapter.toml into `out`.

    Args:
        url: SQLAlchemy URL of the database. A password in it is moved into a file of its own.
        out: Directory of the files; made if it is missing.
        department: Name of the department; that of the database if left out.
        hub: Address of the hub, for adapter.toml.
        password_file: File with the account's password.
        today: For dates within identifiers.
        root: Pinned root directory, for adapter.toml.
        identity: Directory of the adapter's certificates, for adapter.toml.
        progress: Told after each table how many are done, and of how many.

    Raises:
        UnusableError: The URL or a name cannot be used.
        FatalError: INTERNAL: a file is there already, or the database cannot be read.
        FileError: The password file cannot be used.
    """
    parsed, secret = _understood(url, password_file)
    name = department if department is not None else slug(Path(parsed.database or "").stem) or "department"
    if not _DEPARTMENT.fullmatch(name):
        raise UnusableError("--department is a name of small letters, digits and _, as in the certificates: hrss")
    wanted = [out / MAPPING, out / DOCUMENT, out / PROFILE, *([out / PASSWORD] if secret else [])]
    there = [str(path) for path in wanted if path.exists()]
    if there:
        raise FatalError(
            Reason.INTERNAL, f"{', '.join(there)}: is there already and stays as it is; give another --out, or move it"
        )
    database = Database(
        url=parsed.render_as_string(hide_password=False),
        password_file=None if password_file is None else str(password_file.absolute()),
    )
    try:
        engine = open_engine(database, Path.cwd())
        try:
            tables = read_schema(engine, today, progress)
        finally:
            engine.dispose()
    except UrlError as error:
        raise UnusableError(f"--url {error.what}; {error.todo}") from None
    except (SQLAlchemyError, OSError) as error:
        raise FatalError(
            Reason.INTERNAL,
            f"the database cannot be read: {told(error)}. Are address, account and password right, and does it run?",
        ) from None
    sets, left = draft(tables, names_of(engine.dialect).quote, engine.dialect.name)
    if secret:
        password_file = out / PASSWORD
    place = Place(
        name,
        _as_written(parsed, out),
        _beside(password_file, out),
        hub,
        None if root is None else os.path.relpath(root, out),
        None if identity is None else os.path.relpath(identity, out),
    )
    out.mkdir(parents=True, exist_ok=True)
    if secret:
        _write(out / PASSWORD, f"{secret}\n", 0o600)
    _write(out / MAPPING, mapping_text(place, sets, left), 0o600)
    _write(out / DOCUMENT, document_text(place, sets), 0o644)
    _write(out / PROFILE, profile_text(place), 0o644)
    first = chosen(sets)
    return Drafted(tuple(wanted), tuple(sets), None if first is None else first.name, tuple(left), name)


def _understood(url: str, password_file: Path | None) -> tuple[URL, str | None]:
    """The URL, and the password that stood in it."""
    if has_bare_at(url):
        raise UnusableError(f"--url {BARE_AT}")
    try:
        parsed = make_url(url)
        family = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        # The library's message quotes the URL.
        raise UnusableError("--url is no database URL; as postgresql+psycopg://reader@db.host/insurance") from None
    if family not in DIALECTS:
        raise UnusableError(f"--url: {family} is not among the databases that the adapter knows: {', '.join(DIALECTS)}")
    if not parsed.database:
        raise UnusableError("--url names no database after the host: …/insurance")
    if any(_SECRET_QUERY.search(key) for key in parsed.query):
        raise UnusableError("--url holds a password in its query; write it into a file and give --password-file")
    secret = None if parsed.password is None else str(parsed.password)
    if secret and password_file is not None:
        raise UnusableError("--url holds a password, and --password-file another; give one")
    if family == "sqlite":
        file = Path(sqlite_location(url)[0])
        if not file.is_file():
            raise UnusableError(f"--url: there is no file {file}")
    return parsed, secret


def _as_written(parsed: URL, out: Path) -> str:
    """The URL as the mapping says it: without a password, and of SQLite for reading only, from the mapping's place."""
    if parsed.get_backend_name() != "sqlite":
        # `set` takes None for "unchanged", so the URL is made anew.
        bare = URL.create(parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database)
        return bare.set(query=parsed.query).render_as_string(hide_password=False)
    file = Path(sqlite_location(parsed.render_as_string(hide_password=False))[0])
    return f"sqlite:///file:{_beside(file, out)}?mode=ro&uri=true"


def _beside(file: Path | None, out: Path) -> str | None:
    """A path as a file in `out` says it: relative if it lies within, absolute otherwise."""
    if file is None:
        return None
    whole, base = file.resolve(), out.resolve()
    return str(whole.relative_to(base) if whole.is_relative_to(base) else whole)


def _write(path: Path, text: str, mode: int) -> None:
    """A new file; one that is there is never touched."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
