"""Names of subjects: canonical form and accepted spellings (DESIGN section 12).

NFKC; what looks like a middle dot becomes U+00B7; outer spaces go, inner runs become one. Nothing else is folded: rare
and traditional characters stay, and a near miss is the owner's UNKNOWN. Control, format (zero-width), private-use,
surrogate and unassigned characters are refused. Pure; no error repeats the name.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NoReturn

from zhiwang.wire.errors import Reason, RefusedError

MAX_NAME = 200
"""Longest canonical name in bytes: 50 characters of four bytes each."""

MIDDLE_DOT = "\u00b7"

LOOK_ALIKES = "\u2022\u2027\u2219\u22c5\u30fb\uff0e\uff65"
"""What is written in place of U+00B7: • ‧ ∙ ⋅ ・ ． ･"""

_STORED_DOTS = "\u2022\u2027\u30fb\uff0e"
"""Those of them that input methods and code pages make; a database is searched for these."""

_RAW_LIMIT = 4 * MAX_NAME
_DOTS = str.maketrans(dict.fromkeys(LOOK_ALIKES, MIDDLE_DOT))
_SPACES = re.compile(r"  +")
_WIDE = str.maketrans({code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000})
# Planes 2 and 3 are set aside for ideographs. Which of them an interpreter's Unicode tables know depends on its age,
# and nobody is refused because of that.
_IDEOGRAPHIC_PLANES = re.compile("[\U00020000-\U0002fffd\U00030000-\U0003fffd]")


def canonical_name(text: str) -> str:
    """The one form in which a name is compared and committed to. The empty name stays empty.

    Raises:
        RefusedError: NAME_INVALID.
    """
    if len(text) > _RAW_LIMIT:
        _refuse("too long")
    # The full-width full stop would normalise to a full stop, so the dots come first; half-width ones come from it.
    text = unicodedata.normalize("NFKC", text.translate(_DOTS)).translate(_DOTS)
    if not text.isprintable():
        # Other spaces than U+0020 are left by NFKC in a few scripts; line ends around a name are a form's business.
        text = "".join([" " if unicodedata.category(c) == "Zs" else c for c in text.strip()])
        if not text.isprintable() and not _IDEOGRAPHIC_PLANES.sub("", text).isprintable():
            _refuse("holds control, invisible, private-use or unassigned characters")
    text = _SPACES.sub(" ", text.strip())
    # Only a lone surrogate cannot be encoded, and that is not printable.
    if len(text.encode()) > MAX_NAME:
        _refuse(f"longer than {MAX_NAME} bytes")
    return text


def name_spellings(canonical: str) -> tuple[str, ...]:
    """What a database may hold for a canonical name: it first, then other middle dots and full-width letters."""
    spellings = [canonical]
    if MIDDLE_DOT in canonical:
        spellings += [canonical.replace(MIDDLE_DOT, dot) for dot in _STORED_DOTS]
    wide = canonical.translate(_WIDE)
    if wide != canonical:
        spellings.append(wide)
    return tuple(spellings)


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(Reason.NAME_INVALID, detail)
