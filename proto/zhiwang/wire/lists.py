"""Lists of an owner's own people as private files, and what was recorded of them at its adapter.

A list is a CSV file in UTF-8 with the columns of `HEADINGS`. Beside it lies its record (`LIST.record`, JSON): which
roster and matter it is of, the entry of the owner's log, and 32 random bytes that tie the entry to the file. The entry
has no plain hash of a file, since a file of few people could be found by trying.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from zhiwang.wire.kept import PRIVATE, open_aside, sync_path, written_aside

HEADINGS: Final = ("key", "identifier", "name")
RECORD: Final = ".record"
LEFT_OUT: Final = ".left-out.csv"
"""How the name of what lies beside a list ends: its record, and the rows that were left out of it."""
SALT_SIZE: Final = 32
BLOCK: Final = 5_000
"""People of one entry at most: the owner's log is written by nobody else meanwhile."""


class ListError(ValueError):
    """A list or its record cannot be used. Says why, and quotes nothing of the list."""


class Person(NamedTuple):
    """A row of a list."""

    key: str
    identifier: str
    name: str


@dataclass(frozen=True, slots=True)
class ListRecord:
    """What was recorded of a list.

    Attributes:
        owner: Department whose people they are.
        action: DRAWN or INVITED.
        roster: Name in the owner's mapping.
        kind: Kind of subject.
        matter: For which.
        reference: Of the job.
        official: For whom.
        as_of: Day as of which it was drawn, YYYY-MM-DD.
        count: How many people.
        entry: Index of the newest entry about it.
        salt: In hex.
    """

    owner: str
    action: str
    roster: str
    kind: str
    matter: str
    reference: str
    official: str
    as_of: str
    count: int
    entry: int
    salt: str


def commitment_of(salt: bytes, digest: bytes) -> bytes:
    """What an entry says of a file.

    Args:
        salt: 32 random bytes.
        digest: SHA-256 of the file.
    """
    return hashlib.sha256(salt + digest).digest()


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def record_of(path: Path) -> Path:
    """Where the record of a list lies."""
    return path.with_name(path.name + RECORD)


def read_record(path: Path) -> ListRecord:
    """What was recorded of a list, if the list is still the one of which it was.

    Raises:
        ListError: There is no record, it cannot be read, or the list has changed since.
    """
    beside = record_of(path)
    try:
        said = json.loads(beside.read_bytes())
        digest = said.pop("sha256")
        record = ListRecord(**said)
    except FileNotFoundError:
        raise ListError(f"{path.name} has no {beside.name} beside it: only a list that was recorded is used") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise ListError(f"{beside.name} cannot be read; draw the roster anew") from None
    if digest_of(path).hex() != digest:
        raise ListError(f"{path.name} is not as it was recorded; put it back, or draw the roster anew")
    return record


def read_people(path: Path) -> Iterator[Person]:
    """The rows of a list.

    Raises:
        ListError: It is not as it was written.
    """
    with path.open(encoding="utf-8", newline="") as file:
        yield from _people(file, path.name)


def people_in(content: bytes, name: str) -> Iterator[Person]:
    """The rows of a list whose bytes are at hand; `name` is for messages.

    Raises:
        ListError: It is not as it was written.
    """
    yield from _people(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline=""), name)


def _people(file: TextIO, name: str) -> Iterator[Person]:
    rows = csv.reader(file, strict=True)
    try:
        if tuple(next(rows, ())) != HEADINGS:
            raise ListError(f"{name} is no list: its columns must be {', '.join(HEADINGS)}")
        for row in rows:
            if len(row) != len(HEADINGS):
                raise ListError(f"{name} has a row of {len(row)} fields")
            yield Person(*row)
    except (csv.Error, UnicodeDecodeError):
        raise ListError(f"{name} is no CSV in UTF-8") from None


def blocks_of(people: Iterable[Person]) -> Iterator[list[str]]:
    """Identifiers of a list, as many at a time as one entry is about.

    Raises:
        ListError: The list is not as it was written.
    """
    block: list[str] = []
    for person in people:
        block.append(person.identifier)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


class NewList:
    """A list that has not taken its name yet. Made by `new_list`.

    Attributes:
        path: Where it lies meanwhile.
        file: To write it.
    """

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path = path
        self.file = file
        self._beside: dict[str, bytes | None] = {}

    def digest(self) -> bytes:
        """SHA-256 of what was written up to now."""
        self.file.flush()
        return digest_of(self.path)

    def record(self, record: ListRecord, digest: bytes) -> None:
        """What was recorded of the list; takes its name with it."""
        said = asdict(record) | {"sha256": digest.hex()}
        self.put_beside(RECORD, (json.dumps(said, ensure_ascii=False, indent=2) + "\n").encode())

    def put_beside(self, ending: str, content: bytes | None) -> None:
        """A private file that takes its name with the list; nothing, if an earlier one is only to go.

        Args:
            ending: Of its name, behind the list's.
            content: All of it.
        """
        self._beside[ending] = content

    def publish(self, path: Path) -> None:
        """Let the list take its name, and then what lies beside it; nothing of it, if another list has the name.

        All of it is on disk before, so that nothing but the end of the process can come between; the list has no record
        then that fits, and is not used.

        Raises:
            ListError: There is something of that name.
            OSError: It cannot be written.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        with ExitStack() as stack:
            ready: list[tuple[Path, Path | None]] = []
            for ending, content in self._beside.items():
                place = path.with_name(path.name + ending)
                aside = None if content is None else stack.enter_context(written_aside(place, content))
                ready.append((place, aside))
            try:
                os.link(self.path, path)
            except FileExistsError:
                raise ListError(f"{path} has appeared meanwhile; a list never replaces another") from None
            for place, aside in ready:
                if aside is None:
                    place.unlink(missing_ok=True)
                else:
                    aside.replace(place)
        sync_path(path.parent)


@contextmanager
def new_list(path: Path) -> Iterator[NewList]:
    """A new private file that takes its name only when everything went well, and never another's.

    Of several who make the same list at once, one's list takes the name, and only that one's files lie beside it.

    Yields:
        The list; it goes if anything is raised.

    Raises:
        ListError: There is something of that name.
        OSError: It cannot be written.
    """
    if os.path.lexists(path):
        raise ListError(f"{path} is there already; a list never replaces another. Finish with it, or remove it")
    aside, descriptor = open_aside(path, PRIVATE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            os.fchmod(descriptor, PRIVATE)
            new = NewList(aside, file)
            yield new
            new.publish(path)
    finally:
        aside.unlink(missing_ok=True)
