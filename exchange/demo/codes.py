"""Identifiers for invented people, companies and dwellings: valid by their check digits, held by nobody.

The division 440399 is not assigned, so no citizen has an identifier that begins with it. The arithmetic stands here a
second time on purpose: what the generator writes must not be proved right by the code that it tests.
"""

from __future__ import annotations

from datetime import date

UNASSIGNED_DIVISION = "440399"
"""First six digits of every invented resident and company."""

_RESIDENT_CHECK = "10X98765432"
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_ORGANISATION_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_USCC_BASE = 31
_ORGANISATION_BASE = 11
_FIFTEEN_DIGIT_CENTURY = 1900


def resident(born: date, sequence: int) -> str:
    """Return the 18-character resident identifier (GB 11643, ISO 7064 MOD 11-2).

    Args:
        born: Date of birth.
        sequence: 0 to 999; odd for men, even for women.
    """
    body = f"{UNASSIGNED_DIVISION}{born:%Y%m%d}{sequence:03d}"
    total = sum(int(digit) * pow(2, 17 - index, 11) for index, digit in enumerate(body))
    return body + _RESIDENT_CHECK[total % 11]


def fifteen(identifier: str) -> str | None:
    """Return the spelling of before 1999 with 15 digits, or None for somebody born in another century."""
    if int(identifier[6:10]) // 100 * 100 != _FIFTEEN_DIGIT_CENTURY:
        return None
    return identifier[:6] + identifier[8:17]


def full_width(text: str) -> str:
    """Return digits and capitals in their full-width forms."""
    return "".join(chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else character for character in text)


def company(number: int) -> str:
    """Return a unified social credit code (GB 32100) whose organisation part (GB 11714) is made from a number."""
    digits = []
    for _ in range(8):
        number, digit = divmod(number, 10)
        digits.append(str(digit))
    body = "M" + "".join(reversed(digits))[1:]
    weighted = sum(
        _ORGANISATION_ALPHABET.index(character) * weight
        for character, weight in zip(body, _ORGANISATION_WEIGHTS, strict=True)
    )
    check = (_ORGANISATION_BASE - weighted % _ORGANISATION_BASE) % _ORGANISATION_BASE
    organisation = body + ("X" if check == 10 else str(check))  # noqa: PLR2004 - the standard writes 10 as X
    code = "91" + UNASSIGNED_DIVISION + organisation
    total = sum(_USCC_ALPHABET.index(character) * pow(3, index, _USCC_BASE) for index, character in enumerate(code))
    return code + _USCC_ALPHABET[(_USCC_BASE - total % _USCC_BASE) % _USCC_BASE]


def house(community: str, grid: int, building: int, room: int) -> str:
    """Return the 25-digit house code: community (12), grid (2), building (5), room (6)."""
    return f"{community}{grid:02d}{building:05d}{room:06d}"


PROBE_ADULT = resident(date(1990, 1, 1), 998)
"""Test subject of the owners' probes, present in every database and no resident; so are those below."""

PROBE_CHILD = resident(date(2015, 1, 1), 999)
PROBE_SPOUSE = resident(date(1988, 1, 1), 999)
PROBE_COMPANY = company(9_999_999)
PROBE_COMMUNITY = "440306017001"
PROBE_HOUSE = house(PROBE_COMMUNITY, 99, 99_999, 999_999)
PROBE_NAME = "测试样例"
