"""How many distinct guesses an owner admits, unless its mapping says otherwise.

An owner's own numbers are private, so whoever plans a roster goes by these.
"""

from typing import Final

VALUES: Final = 12
"""Compared values of one attribute, for one requesting department and one subject."""

NAMES: Final = 5
"""Names, for one requesting department and one subject."""

DAYS: Final = 30
"""Length of the window."""
