"""How each family of databases says the few things that SQL leaves to its dialects."""

from __future__ import annotations

from adapters.dialects.base import SEPARATOR, Dialect, Element, OrderedJoin, Row, names_of, spell_list
from adapters.dialects.mysql import Mysql
from adapters.dialects.oracle import Oracle
from adapters.dialects.postgresql import Postgresql
from adapters.dialects.sqlite import SMALL, Sqlite

__all__ = [
    "COMPILED_ONLY",
    "DIALECTS",
    "SEPARATOR",
    "SMALL",
    "Dialect",
    "Element",
    "OrderedJoin",
    "Row",
    "names_of",
    "spell_list",
]

DIALECTS: dict[str, type[Dialect]] = {
    "sqlite": Sqlite,
    "postgresql": Postgresql,
    "mysql": Mysql,
    "mariadb": Mysql,
}
"""By SQLAlchemy's name of the dialect. Others are refused by name, since equality there has not been looked at."""

COMPILED_ONLY: dict[str, type[Dialect]] = {"oracle": Oracle}
"""Statements are compiled and looked at in the tests, but have never met a server, so a mapping may not use these."""
