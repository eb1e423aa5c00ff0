"""Administrative divisions: a code with its code system, whose length is its level (GB/T 2260, GB/T 10114)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from zhiwang.wire.errors import Reason, RefusedError

COMMON_DIGITS = 6
"""Codes of this many digits or fewer are common to all code systems (DESIGN section 12)."""

_WRITTEN = re.compile(r"([a-z][a-z0-9_]{0,15}):([0-9]{4}|[0-9]{6}|[0-9]{9}|[0-9]{12})")
_LEVELS = {4: 1, 6: 2, 9: 3, 12: 4}


class Level(IntEnum):
    """How far down a division stands."""

    CITY = 1
    DISTRICT = 2
    STREET = 3
    COMMUNITY = 4

    @property
    def word(self) -> str:
        """As documents write it."""
        return self.name.lower()

    @staticmethod
    def of_word(word: str) -> Level:
        """The level of a word.

        Raises:
            ValueError: There is none.
        """
        for level in Level:
            if level.word == word:
                return level
        raise ValueError("a level is city, district, street or community")


@dataclass(frozen=True, slots=True)
class Jurisdiction:
    """A place: "nbs:440306" is the district 440306 in the code system of the statistical bureau.

    Attributes:
        system: Code system.
        code: 4, 6, 9 or 12 digits.
    """

    system: str
    code: str

    @staticmethod
    def parse(text: str) -> Jurisdiction:
        """Read "nbs:440306".

        Raises:
            RefusedError: JURISDICTION_INVALID.
        """
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise RefusedError(Reason.JURISDICTION_INVALID, "written CODESYSTEM:CODE with 4, 6, 9 or 12 digits")
        return Jurisdiction(match.group(1), match.group(2))

    @property
    def level(self) -> Level:
        """By the length of the code."""
        return Level(_LEVELS[len(self.code)])

    @property
    def common(self) -> bool:
        """Whether the code means the same in every code system."""
        return len(self.code) <= COMMON_DIGITS

    def covers(self, other: Jurisdiction) -> bool:
        """Whether `other` is this place or lies in it.

        A longer code means nothing in another code system, so it is covered there by a common code only.
        """
        if not other.code.startswith(self.code):
            return False
        return self.common or self.system == other.system

    def __str__(self) -> str:
        return f"{self.system}:{self.code}"
