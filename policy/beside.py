"""What stands beside the directory at one adapter, on its disk: taken in, told to the owner's log, and let go of.

That it came into force, and is so no longer, is told until the owner's log has it: a file that stands gets a mark once
its beginning is recorded, and stays under another name until its end is. What a file says and whether it counts is
`policy.local`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, Final

import structlog

from policy.incoming import read_waiting, waiting
from policy.local import Local, Roles, amended, check_local, file_name, read_local, verify_local
from policy.metadata import DAY
from policy.model import Directory
from policy.signed_file import parse_publication
from policy.standing import missing
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.kept import sync_path

MAX_STANDING: Final = 64
"""Files that stand beside the directory at once; far more than admins sign while a city is cut off."""

RECORDED: Final = ".recorded"
"""Ending of the empty file beside one that stands: the owner's log has that it came into force."""

CLOCK_AHEAD: Final = DAY
"""Seconds by which the clock can be ahead of the registrar's while a directory counts as fresh: a timestamp's life. So
long after its end a suspension is kept, lest a clock that was wrong for a moment ends it for good."""

ENDED: Final = ".ended"
"""Ending of the name of a file that stands no longer, until the owner's log has that."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """That something came into force beside the directory, or is so no longer.

    Attributes:
        local: What it says.
        in_force: Whether it is from now on.
        key_ids: TUF ids of the keys that signed it and count by the directory at this time, in order.
    """

    local: Local
    in_force: bool
    key_ids: tuple[str, ...]


class LocalPolicy:
    """What stands beside the directory at one adapter. Any thread may call it; `look` and `recorded` block.

    Args:
        place: Directory of the files that stand.
        department: Whose adapter this is.
        pins: As `verify_local`.
        clock: Seconds since the epoch.
    """

    def __init__(self, place: Path, department: str, pins: frozenset[bytes] | None, clock: Callable[[], float]) -> None:
        self._place = place
        self._department = department
        self._pins = pins
        self._clock = clock
        self._standing: Mapping[str, Local] = MappingProxyType({})  # by file name; replaced as one
        self._announced: set[str] = set()  # of those that stand, which have been told to be in force
        self._ended: list[Local] = []  # that stand no longer, and are to be told so
        self._failing: dict[str, str] = {}  # what waits and cannot be read, and why
        self._lock = Lock()

    def load(self) -> None:
        """Take up what stood when the process ended.

        Raises:
            FatalError: INTERNAL: a file is damaged, so it is not known what was stopped.
        """
        found = {}
        for path in sorted(self._place.glob("*.json")):
            try:
                found[path.name] = read_local(parse_publication(path.read_bytes()), self._department)
            except (RefusedError, OSError) as error:
                raise FatalError(
                    Reason.INTERNAL,
                    f"{path} is damaged ({error}), and nothing else says what it suspended. Load the signed file again "
                    "in its place; or remove it, if the directory has what it said",
                ) from None
        self._standing = MappingProxyType(found)
        self._announced = {name for name in found if self._mark(name).exists()}
        for path in sorted(self._place.glob(f"*.json{ENDED}")):
            try:
                self._ended.append(read_local(parse_publication(path.read_bytes()), self._department))
            except (RefusedError, OSError) as error:
                _log.error("the end of a local file is not recorded; it is damaged", file=path.name, detail=str(error))

    @property
    def standing(self) -> tuple[Local, ...]:
        """What stands beside the directory."""
        return tuple(self._standing.values())

    def over(self, directory: Directory, roles: Roles) -> Directory:
        """A directory as it is decided by here.

        Args:
            directory: As it was verified.
            roles: Its metadata.
        """
        return amended(directory, self._department, self._counted(directory, roles), self._clock())

    def _counted(self, directory: Directory, roles: Roles) -> list[Local]:
        counted = []
        for local in self._standing.values():
            if local.document is not None:
                own = directory.documents.get(self._department)
                if own is None or local.version <= own.version:
                    continue
                try:
                    verify_local(local, self._department, roles, self._pins)
                except RefusedError as error:
                    _log.error("a local document no longer counts", version=local.version, detail=error.detail)
                    continue
            counted.append(local)
        return counted

    def look(self, directory: Directory | None, roles: Roles) -> list[Change]:
        """Take in what was put here, and let go of what the directory says by itself.

        Args:
            directory: As it was verified, without what stands here. While there is none, or it has expired, nothing
                is answered and everything waits: a clock that is wrong must not end what stands.
            roles: Its metadata.

        Returns:
            What changed, and what stands that was not recorded before the process ended; the directory has to be
            amended anew if there is anything. Each has to be recorded, and then told to `recorded`.

        Raises:
            OSError: The place cannot be read or written.
        """
        if directory is None or self._clock() >= directory.expires:
            return []
        with self._lock:
            failing = {}
            for path in waiting(self._place):
                try:
                    self._take(path, directory, roles)
                except OSError as error:
                    failing[path.name] = error.strerror or str(error)
                    if self._failing.get(path.name) != failing[path.name]:
                        _log.error("a local file cannot be taken in", file=path.name, detail=failing[path.name])
            self._failing = failing
            begun = [local for local in self._ended if not self._mark(file_name(local)).exists()]
            begun += [local for name, local in self._standing.items() if name not in self._announced]
            self._announced.update(self._standing)
            ended = self._ended + self._settled(directory, roles)
            self._ended = []
        changes = [*((local, True) for local in begun), *((local, False) for local in ended)]
        return [Change(local, in_force, self._signers(local, roles)) for local, in_force in changes]

    def recorded(self, name: str, *, in_force: bool) -> None:
        """The owner's log has a change, so it need not be told again.

        Args:
            name: Of the file, as `file_name` gives it.
            in_force: Of the change.

        Raises:
            OSError: The place cannot be written; then it is told again after a restart.
        """
        with self._lock:
            if in_force:
                if name in self._standing or (self._place / f"{name}{ENDED}").exists():
                    self._mark(name).touch()
            else:
                if name not in self._standing:
                    self._mark(name).unlink(missing_ok=True)
                (self._place / f"{name}{ENDED}").unlink(missing_ok=True)

    def _mark(self, name: str) -> Path:
        return self._place / f"{name}{RECORDED}"

    def _signers(self, local: Local, roles: Roles) -> tuple[str, ...]:
        try:
            return verify_local(local, self._department, roles, self._pins)
        except RefusedError:
            return ()  # whoever signed what stands may be an admin no longer

    def _take(self, path: Path, directory: Directory, roles: Roles) -> None:
        try:
            local = read_local(parse_publication(read_waiting(path)), self._department)
            name = file_name(local)
            if name in self._standing:
                path.unlink()
                return
            check_local(local, self.over(directory, roles), roles, self._pins, self._department, self._clock())
            self._check_room()
        except RefusedError as error:
            _log.error("a local file changes nothing", file=path.name, reason=error.reason.name, detail=error.detail)
            path.unlink()
            return
        self._mark(name).unlink(missing_ok=True)  # of a time when it stood before
        # In place of a copy: a full disk must not keep something from being stopped.
        path.replace(self._place / name)
        sync_path(self._place)
        self._standing = MappingProxyType({**self._standing, name: local})
        _log.warning("in force beside the directory", **_told(local))

    def _check_room(self) -> None:
        if len(self._standing) >= MAX_STANDING:
            raise RefusedError(Reason.OVERLOADED, f"{MAX_STANDING} files stand here already; publish some")

    def _settled(self, directory: Directory, roles: Roles) -> list[Local]:
        """Let go of those that stand no longer; all of a department stay that has lapsed, as nothing is known of it."""
        own = directory.documents.get(self._department)
        if own is None or not self._standing:
            return []
        surely, documents = self._clock() - CLOCK_AHEAD, self.over(directory, roles).documents
        done = {
            name: local
            for name, local in self._standing.items()
            if (
                local.version <= own.version
                if local.document is not None
                else not missing(local.suspensions, directory.suspensions, documents, surely)
            )
        }
        for name, local in done.items():
            (self._place / name).replace(self._place / f"{name}{ENDED}")
            _log.info("no longer beside the directory", **_told(local))
        if done:
            left = {name: local for name, local in self._standing.items() if name not in done}
            self._standing = MappingProxyType(left)
            self._announced &= left.keys()
        return list(done.values())


def _told(local: Local) -> dict[str, Any]:
    return {"role": local.role, "version": local.version, "suspensions": [entry.id for entry in local.suspensions]}
