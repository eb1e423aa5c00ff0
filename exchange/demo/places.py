"""The divisions of the city as the statistical bureau codes them (code system `nbs`).

Community names repeat within the city, so places are carried by code and never joined by name.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

CODE_SYSTEM = "nbs"


@dataclass(frozen=True, slots=True)
class Places:
    """Codes of the divisions of one city, and their names.

    Attributes:
        city: The city's code, four digits.
        districts: Codes of six digits.
        communities: Codes of twelve digits, in the order of the file.
        names: Name of every code.
    """

    city: str
    districts: tuple[str, ...]
    communities: tuple[str, ...]
    names: dict[str, str]


def read_places(path: Path) -> Places:
    """Read a divisions file with the columns level, code, name and parent."""
    by_level: dict[str, list[str]] = {"city": [], "district": [], "street": [], "community": []}
    names: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_level[row["level"]].append(row["code"])
            names[row["code"]] = row["name"]
    return Places(by_level["city"][0], tuple(by_level["district"]), tuple(by_level["community"]), names)
