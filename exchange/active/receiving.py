"""Opening names that another department handed on, by the directory in force; and which files were opened already.

What was opened stands in the state of the receiving system (`roster/opened.jsonl`), by the hash under which the owner's
log has the file, so that the two can be held against each other. There is nothing of the people in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from Crypto.PublicKey.ECC import EccKey

from certs.credentials import IdentityFiles
from certs.referrals import open_file, read_file
from certs.signing import CertificateVerifier
from exchange.client.client import Client
from policy.model import Referral
from policy.referrals import check_received
from zhiwang.adapter.v1 import roster_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.kept import replace_durably
from zhiwang.wire.lists import people_in
from zhiwang.wire.profile import Profile

STATE: Final = "roster"
"""Within the profile's state directory: the directory as this command verified it last, and the record."""

OPENED: Final = "opened.jsonl"


@dataclass(frozen=True, slots=True)
class Opening:
    """That a file was opened; a line of the record.

    Attributes:
        time: Seconds since the epoch.
        file: SHA-256 of the file, in hex, as `people_referred` in the owner's log has it.
        sender: The admin who handed it over.
        matter: For which.
        reference: Of the job at the owner.
        people: How many.
        list: What it was opened as.
    """

    time: int
    file: str
    sender: str
    matter: str
    reference: str
    people: int
    list: str


class Book:
    """The record of a system; whoever has it open holds the lock of its directory.

    Args:
        directory: In which it lies.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / OPENED

    def openings(self) -> list[Opening]:
        """All of them, the oldest first.

        Raises:
            FatalError: INTERNAL: it cannot be read.
        """
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError):
            raise self._damaged() from None
        try:
            return [Opening(**json.loads(line)) for line in lines]
        except (ValueError, TypeError):
            raise self._damaged() from None

    def add(self, opening: Opening) -> None:
        """Another one, durably.

        Raises:
            FatalError: INTERNAL: it cannot be read.
            OSError: It cannot be written.
        """
        lines = [json.dumps(asdict(one), ensure_ascii=False) for one in (*self.openings(), opening)]
        replace_durably(self._path, "".join(f"{line}\n" for line in lines).encode())

    def _damaged(self) -> FatalError:
        return FatalError(
            Reason.INTERNAL,
            f"{self._path} is damaged, so nothing tells which files were opened already. Bring it back from a backup, "
            "or move it away to begin anew",
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """Names that were handed on, and may be taken up.

    Attributes:
        opening: As it is to be recorded.
        head: What the file says of itself.
        rule: Of the owner, by which they were handed on.
        content: The list, CSV in UTF-8.
        earlier: When the same file was opened before, in seconds since the epoch.
        book: Where it is to be recorded, before the list takes its name.
    """

    opening: Opening
    head: roster_pb2.ReferralHead
    rule: Referral
    content: bytes
    earlier: tuple[int, ...]
    book: Book


@asynccontextmanager
async def opened(profile: Profile, data: bytes, private: EccKey, out: Path, now: float) -> AsyncIterator[Opened]:
    """Open a file of names for the profile's system, while nobody else does so with its state.

    Args:
        profile: Of the system.
        data: The file.
        private: The key for which it was sealed.
        out: What it is opened as; for the record.
        now: Seconds since the epoch.

    Raises:
        RefusedError: HUB_UNREACHABLE or DIRECTORY_EXPIRED: there is no directory in force; or as `read_file`,
            `check_received` and `open_file`; SEAL_BROKEN: it holds another number of people than it says.
        ListError: What was sealed is no list.
        FatalError: As `Client.open` and `Book`.
    """
    files = IdentityFiles(profile.identity, profile.root)
    async with await Client.open(profile, state=STATE) as client:
        directory = client.directory
        received = read_file(data, CertificateVerifier(files.ca_pem, lambda: directory.revoked))
        head = received.head
        rule = check_received(directory, received.sender, head, files.identity, now)
        content = open_file(received, private, files.identity)
        if sum(1 for _ in people_in(content, out.name)) != head.count:
            raise RefusedError(Reason.SEAL_BROKEN, f"the list does not hold {head.count} people, as was recorded")
        sender = received.sender.identity.short
        file = hashlib.sha256(data).hexdigest()
        opening = Opening(int(now), file, sender, head.matter, head.reference, head.count, out.name)
        book = Book(profile.state / STATE)
        earlier = tuple(one.time for one in book.openings() if one.file == file)
        yield Opened(opening, head, rule, content, earlier, book)
