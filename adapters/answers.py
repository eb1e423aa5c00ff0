"""The shares of YES, NO and UNKNOWN that a requester gets of an attribute, and whether they are what they should be.

A load that went wrong says UNKNOWN of everybody, or NO, and no probe may notice. So answers are counted, for each
attribute, predicate and requesting department by itself, in windows of a fixed number. A full window is judged and
forgotten; what remains of it are three shares. A share is outside its band only if its Wilson score interval is.

Each department is judged by nothing but the answers that it got itself. So whoever asks rubbish closes an attribute for
itself alone, and a closed attribute tells nobody what others were answered (docs/adr/watched-answers.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Dictionary
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import structlog

from adapters.database import DatabaseError
from adapters.mapping import MappedAttribute
from adapters.questions import Examination
from certs.identity import read_private
from zhiwang.wire.claims import Predicate
from zhiwang.wire.kept import KeptFile
from zhiwang.wire.records import Outcome

ANSWERS = (Outcome.YES, Outcome.NO, Outcome.UNKNOWN)

Z = 4.0
"""Standard deviations of the Wilson interval: by chance alone a share is taken for outside once in 16,000 windows."""

LEARNT = 5
"""Windows after which the usual shares are known well enough to notice a jump."""

MEMORY = 0.1
"""Weight of the newest window in the usual shares."""

_VERSION = 1
_log = structlog.get_logger(__name__)


class Key(NamedTuple):
    """Whose answers to what are counted together."""

    attribute: str
    predicate: Predicate
    department: str


@dataclass(frozen=True, slots=True)
class Usual:
    """What the shares of one key are in the long run.

    Attributes:
        windows: How many were learnt from.
        shares: Of YES, NO and UNKNOWN.
    """

    windows: int
    shares: tuple[float, ...]

    def learn(self, shares: Sequence[float]) -> Usual:
        """With one window more: the mean of the first ten, then newer ones weigh more."""
        weight = max(MEMORY, 1 / (self.windows + 1))
        mixed = tuple(old + weight * (new - old) for old, new in zip(self.shares, shares, strict=True))
        return Usual(self.windows + 1, mixed)


def wilson(hits: int, count: int, z: float = Z) -> tuple[float, float]:
    """Score interval of a share (E. B. Wilson, JASA 22 (1927), p. 209): holds near 0 and 1, where others do not."""
    share, square = hits / count, z * z
    centre = share + square / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return (centre - half) / (1 + square / count), (centre + half) / (1 + square / count)


class AnswerWatch:
    """Counts answers and judges them. May be used from several threads.

    Args:
        attributes: Of the mapping, with their bands.
        path: Where the usual shares are kept over a restart; None to forget them.
    """

    def __init__(self, attributes: Dictionary[str, MappedAttribute], path: Path | None = None) -> None:
        self._attributes = attributes
        self._file = KeptFile(path) if path is not None else None
        self._lock = Lock()
        self._counts: dict[Key, list[int]] = {}
        # Newest load that a window was answered from; None is a load that was not told, and older than any.
        self._loads: dict[Key, int | None] = {}
        self._usual = _read(path, attributes) if path is not None else {}
        self._kept = True
        self._outside: frozenset[Key] = frozenset()
        self._suspended: dict[Key, int | None] = {}
        self._alarmed = False
        self.shares: dict[Key, tuple[float, ...]] = {}

    @property
    def outside(self) -> frozenset[Key]:
        """Whose last full window was outside its band."""
        return self._outside

    @property
    def suspended(self) -> frozenset[Key]:
        """What is not answered for now."""
        with self._lock:
            return frozenset(self._suspended)

    def closed(self, attribute: str, predicate: Predicate, department: str) -> bool:
        """Whether a department is not answered for now."""
        return bool(self._suspended) and Key(attribute, predicate, department) in self._suspended

    def note(self, department: str, examination: Examination) -> None:
        """Count the answers to one request, after they were recorded."""
        claims = examination.header.claims
        with self._lock:
            for i, claim in enumerate(claims):
                column = examination.outcomes[i :: len(claims)]
                counts = [column.count(answer) for answer in ANSWERS]
                if any(counts):
                    key = Key(claim.attribute, claim.predicate, department)
                    self._count(key, counts, examination.data_as_of[i])

    def _count(self, key: Key, counts: Sequence[int], loaded: int | None) -> None:
        window = self._counts.setdefault(key, [0] * len(ANSWERS))
        for place, number in enumerate(counts):
            window[place] += number
        loaded = self._loads[key] = _newer(self._loads.get(key), loaded)
        mapped = self._attributes.get(key.attribute)
        if mapped is not None and sum(window) >= mapped.watch.least:
            del self._counts[key], self._loads[key]
            self._judge(key, mapped, window, loaded)

    def _judge(self, key: Key, mapped: MappedAttribute, window: Sequence[int], loaded: int | None) -> None:
        """Hold a full window against its bands, and learn from it."""
        count = sum(window)
        shares = tuple(number / count for number in window)
        usual = self._usual.get(key, Usual(0, shares))
        outside = []
        for answer, hits, share in zip(ANSWERS, window, usual.shares, strict=True):
            band = mapped.watch.band(answer)
            if band is None:
                # Of what used to be answered otherwise, more than half is not any more.
                band = (0.0, (1 + share) / 2 if usual.windows >= LEARNT else 1.0)
            low, high = wilson(hits, count)
            if high < band[0] or low > band[1]:
                outside.append((answer, hits / count, band))
        self.shares[key] = shares
        self._usual[key] = usual.learn(shares)
        self._kept = False
        if not outside:
            if key in self._outside:
                self._outside -= {key}
                _log.info("answers are within their bands again", **key._asdict())
            return
        if mapped.watch.suspend:
            self._suspended[key] = _newer(self._suspended.get(key), loaded)
        if key not in self._outside:
            self._outside |= {key}
            self._alarmed = True
            for answer, found, (lowest, highest) in outside:
                _log.error(
                    "answers out of band",
                    **key._asdict(),
                    answer=answer.name,
                    share=round(found, 2),
                    band=(round(lowest, 2), round(highest, 2)),
                    answers=count,
                    suspended=mapped.watch.suspend,
                )

    # Called every few seconds, off the way of requests.

    def take_alarm(self) -> bool:
        """Whether there was an alarm since this was asked before."""
        with self._lock:
            alarmed, self._alarmed = self._alarmed, False
        return alarmed

    def lift(self, loaded: Callable[[str], int | None]) -> None:
        """Answer again what was suspended over an older load of its data set than there is now.

        Args:
            loaded: Time of the last load of an attribute's data set; None if it is not known or a probe fails. May
                raise DatabaseError: that attribute stays suspended, and the others are looked at.
        """
        for key in sorted(self.suspended):
            now = None
            with suppress(DatabaseError):
                now = loaded(key.attribute)
            with self._lock:
                before = self._suspended[key]
                if now is None or (before is not None and now <= before):
                    continue
                del self._suspended[key]
                self._outside -= {key}
            _log.warning("answered again: the data set was loaded anew", **key._asdict())

    def save(self) -> None:
        """Keep the usual shares, if they changed.

        Raises:
            OSError: They cannot be written.
        """
        with self._lock:
            if self._file is None or self._kept:
                return
            rows = [[*key, usual.windows, *usual.shares] for key, usual in self._usual.items()]
            write = self._file.writing(json.dumps({"version": _VERSION, "usual": rows}).encode())
            self._kept = True
        try:
            write()
        except OSError:
            self._kept = False
            raise


def _newer(one: int | None, other: int | None) -> int | None:
    """The newer of two loads."""
    return max((time for time in (one, other) if time is not None), default=None)


def _read(path: Path, attributes: Iterable[str]) -> dict[Key, Usual]:
    """What was kept; nothing, if it cannot be read: it is learnt again."""
    usual: dict[Key, Usual] = {}
    with suppress(FileNotFoundError):
        try:
            kept = json.loads(read_private(path))
            for attribute, predicate, department, windows, *shares in kept["usual"]:
                if attribute in attributes and len(shares) == len(ANSWERS):
                    key = Key(attribute, Predicate(predicate), str(department))
                    usual[key] = Usual(int(windows), tuple(map(float, shares)))
        except (PermissionError, ValueError, TypeError, KeyError) as error:
            _log.warning("the usual shares of answers cannot be read and are learnt again", error=type(error).__name__)
            return {}
    return usual
