"""How deep a TOML file goes, seen before it is parsed: `tomllib` takes time by the square of a dotted key's parts.

What is sent in is parsed before anybody else has agreed to it, so this is what keeps one file of 2 MB from keeping a
server busy for hours. Texts and comments are passed over as TOML has them: dots that stand there are no key's.
"""

from __future__ import annotations

import re
from typing import Final

MAX_DEPTH: Final = 16
"""Parts of a dotted key, and tables and arrays within one another. Our own files go to 5."""

_KEY = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]++|\\[^\n])*+"?+|'[^'\n]*+'?+)"""
_DOT = r"[ \t]*+\.[ \t]*+"
# Nothing is ever given back, and every alternative takes what it has begun with even if its end is missing: the time
# grows with the length of the text alone. Where something does not end, tomllib refuses it as soon as it gets there.
_SHALLOW = re.compile(
    rf"""(?:
        [^A-Za-z0-9_"'\#-]++
        | \#[^\n]*+
        | \"""(?:[^"\\]++|\\.|"{{1,2}}+(?!"))*+(?:"{{3,5}}+)?+
        | '''(?:[^']++|'{{1,2}}+(?!'))*+(?:'{{3,5}}+)?+
        | {_KEY}(?:{_DOT}{_KEY}){{0,{MAX_DEPTH - 1}}}+(?!{_DOT}{_KEY})
    )*+""",
    re.DOTALL | re.VERBOSE,
)


def long_key(text: str) -> int | None:
    """Line, from 1, of the first dotted key that has more than MAX_DEPTH parts; None without one.

    Args:
        text: With plain line feeds at the ends of its lines; it need not be TOML.
    """
    match = _SHALLOW.match(text)
    end = 0 if match is None else match.end()
    return None if end == len(text) else text.count("\n", 0, end) + 1
