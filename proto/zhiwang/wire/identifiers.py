"""Identifiers of subjects: canonical form, accepted spellings, and finding one where none may stand.

Pure. The schemes are those that the centre names for its kinds of subject (DESIGN section 12): resident identifiers
(GB 11643, check character by ISO 7064 MOD 11-2), unified social credit codes (GB 32100), 25-digit house codes, and
plain ones with a pattern of the centre's. Of a resident identifier the date and the check character decide; its
division code says nothing about where somebody lives, nor whether the identifier is good: Hong Kong, Macau and Taiwan
residence permits (81, 82, 83) and foreign permanent residents (9) have none of the mainland's.

No error here repeats what was refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from operator import mul
from typing import NoReturn

from zhiwang.wire.errors import Reason, RefusedError

MAX_IDENTIFIER = 48
"""Longest canonical identifier in bytes, so that a name of 50 characters fits beside it into a slot."""

_RESIDENT = re.compile(r"[1-9][0-9]{16}[0-9X]")
_RESIDENT_15 = re.compile(r"[1-9][0-9]{14}")
_RESIDENT_WEIGHTS = tuple(2 ** (17 - place) % 11 for place in range(17))
_RESIDENT_CHECKS = "10X98765432"
_RESIDENT_ZEROS = sum(_RESIDENT_WEIGHTS) * ord("0")

_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC = re.compile(rf"[{_USCC_ALPHABET}]{{2}}[0-9]{{6}}[{_USCC_ALPHABET}]{{10}}")
_USCC_VALUES = {character: value for value, character in enumerate(_USCC_ALPHABET)}
_USCC_WEIGHTS = tuple(3**place % 31 for place in range(17))

_HOUSE = re.compile(r"[1-9][0-9]{24}")

_WIDE = str.maketrans({code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000})
_RAW_LIMIT = 4 * MAX_IDENTIFIER
_CACHED_SCHEMES = 256
_EARLIEST_YEAR = 1800
_LATEST_YEAR = 2199

_SEPARATORS = re.compile(r"[ \-._/:]+")
_RUN = re.compile(r"[0-9A-Z]{15,}")
_SHORTEST = 15


class Scheme:
    """How the identifiers of one kind of subject are written.

    Args:
        name: "resident", "uscc", "house" or "plain".
        check: Gives the canonical form of a text that is normalised, stripped and upper-case, or refuses it.
        spell: Gives further spellings of a canonical identifier.
    """

    __slots__ = ("_check", "_spell", "name")

    def __init__(self, name: str, check: Callable[[str, date], str], spell: Callable[[str], tuple[str, ...]]) -> None:
        self.name = name
        self._check = check
        self._spell = spell

    def canonical(self, text: str, *, today: date) -> str:
        """The one form in which an identifier is compared, committed to and indexed.

        Args:
            text: As somebody typed or stored it: full width, lower case and outer spaces are welcome.
            today: No date in an identifier lies after it.

        Raises:
            RefusedError: IDENTIFIER_INVALID.
        """
        if len(text) > _RAW_LIMIT:
            _refuse("too long")
        if not text.isascii():
            text = unicodedata.normalize("NFKC", text)
        text = text.strip().upper()
        if not text:
            _refuse("empty")
        return self._check(text, today)

    def spellings(self, canonical: str) -> tuple[str, ...]:
        """What a database may hold for a canonical identifier; the canonical form comes first, none comes twice."""
        return tuple(dict.fromkeys((canonical, *self._spell(canonical))))


@lru_cache(maxsize=_CACHED_SCHEMES)
def scheme(name: str, pattern: str | None = None) -> Scheme:
    """The scheme of this name.

    Args:
        name: "resident", "uscc", "house" or "plain".
        pattern: Regular expression that a whole plain identifier in canonical form matches; only for "plain".

    Raises:
        ValueError: There is no such scheme, or the pattern is missing, superfluous or no regular expression.
    """
    if (pattern is None) == (name == "plain"):
        raise ValueError('a pattern belongs to scheme "plain", and to no other')
    if pattern is not None:
        try:
            return _plain(re.compile(pattern, re.ASCII))
        except re.error as error:
            raise ValueError(f"not a pattern: {error}") from None
    try:
        return _SCHEMES[name]
    except KeyError:
        raise ValueError("a scheme is one of " + ", ".join([*_SCHEMES, "plain"])) from None


def contains_identifier(text: str, *, grouped: bool = False) -> bool:
    """Whether a citizen's, a company's or a dwelling's identifier stands in a text, in whatever width and case.

    Everything that a scheme other than "plain" accepts counts, whatever stands around it. Any 25 digits are a house
    code; and since 15 digits have no check character, some long numbers count that are none.

    Args:
        text: To be searched.
        grouped: Whether to look through spaces and punctuation as well, as in 440399-19900101-0011. For short texts:
            in a long one, neighbours that have nothing to do with each other would count together.
    """
    if len(text) < _SHORTEST:
        return False
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.upper()
    return _holds_identifier(text) or (grouped and _holds_identifier(_SEPARATORS.sub("", text)))


def _holds_identifier(text: str) -> bool:
    return any(_run_holds_identifier(match[0]) for match in _RUN.finditer(text))


def _run_holds_identifier(run: str) -> bool:
    """For each place of the run, in order of cost: the patterns first, the sums only where they match."""
    for start in range(len(run) - _SHORTEST + 1):
        if _RESIDENT_15.match(run, start) and _plausible_date("19" + run[start + 6 : start + 12]):
            return True
        part = run[start : start + 18]
        if _RESIDENT.match(run, start) and _plausible_date(part[6:14]) and _resident_check(part) == part[17]:
            return True
        if _USCC.match(run, start) and _uscc_check(part) == part[17]:
            return True
        if _HOUSE.match(run, start):
            return True
    return False


def _resident(text: str, today: date) -> str:
    if _RESIDENT_15.fullmatch(text):
        # The form before 1999 leaves out the century, which is the twentieth, and the check character.
        text = f"{text[:6]}19{text[6:]}"
        text += _resident_check(text)
    elif not _RESIDENT.fullmatch(text):
        _refuse("a resident identifier has 18 places (or 15 digits), the last a digit or X")
    elif _resident_check(text) != text[17]:
        _refuse("the check character is another")
    day = _date(text[6:14])
    if day is None or day.year < _EARLIEST_YEAR or day > today:
        _refuse("the date does not exist, or lies in the future")
    return text


def _resident_spellings(canonical: str) -> tuple[str, ...]:
    # Each of both widths is cut from one text: translating costs more than all the rest.
    wide = canonical.translate(_WIDE)
    last = canonical[17] == "X"
    old = canonical.startswith("19", 6)
    return (
        canonical,
        *((canonical[:17] + "x",) if last else ()),
        *((canonical[:6] + canonical[8:17],) if old else ()),
        wide,
        *((wide[:17] + "\uff58",) if last else ()),
        *((wide[:6] + wide[8:17],) if old else ()),
    )


def _resident_check(text: str) -> str:
    """ISO 7064 MOD 11-2 over the first 17 digits."""
    return _RESIDENT_CHECKS[(sum(map(mul, text.encode(), _RESIDENT_WEIGHTS)) - _RESIDENT_ZEROS) % 11]


def _uscc(text: str, _today: date) -> str:
    # The first two places are letters for some kinds of organisation, which python-stdnum refuses.
    if not _USCC.fullmatch(text):
        _refuse("a unified social credit code has 18 places, six digits from the third on, and no I, O, S, V, Z")
    if _uscc_check(text) != text[17]:
        _refuse("the check character is another")
    return text


def _uscc_check(text: str) -> str:
    """GB 32100 section 4.5, modulo 31 over the first 17 places."""
    return _USCC_ALPHABET[-sum(map(mul, map(_USCC_VALUES.__getitem__, text[:17]), _USCC_WEIGHTS)) % 31]


def _house(text: str, _today: date) -> str:
    if not _HOUSE.fullmatch(text):
        _refuse("a house code has 25 digits")
    return text


def _plain(pattern: re.Pattern[str]) -> Scheme:
    def check(text: str, _today: date) -> str:
        # What is printable can be encoded: a lone surrogate is not.
        if not text.isprintable() or len(text.encode()) > MAX_IDENTIFIER or not pattern.fullmatch(text):
            _refuse("not of the pattern of its kind")
        return text

    return Scheme("plain", check, _letter_spellings)


def _letter_spellings(canonical: str) -> tuple[str, ...]:
    lower = canonical.lower()
    return lower, canonical.translate(_WIDE), lower.translate(_WIDE)


_SCHEMES = {
    "resident": Scheme("resident", _resident, _resident_spellings),
    "uscc": Scheme("uscc", _uscc, _letter_spellings),
    "house": Scheme("house", _house, _letter_spellings),
}


def _date(digits: str) -> date | None:
    """The day of eight digits, None if there is none."""
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def _plausible_date(digits: str) -> bool:
    day = _date(digits)
    return day is not None and _EARLIEST_YEAR <= day.year <= _LATEST_YEAR


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(Reason.IDENTIFIER_INVALID, detail)
