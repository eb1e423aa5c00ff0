"""What a column's collation takes for equal although it is not, and that the adapter is not taken in.

Each pair of different texts is compared by the live database in the very column's collation and type, as any other
program would compare them, and then by the adapter's own recheck, byte by byte (DESIGN section 12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, Text, bindparam, cast, column, false, literal_column, select, union_all
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import NullType

from adapters.dialects import DIALECTS, Element, spell_list
from adapters.mapping import DataSet, MappedAttribute
from adapters.statements import fragment, source
from adapters.usage import KnownColumn, Use


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that are not the same.

    Attributes:
        chinese: What a collation does not see that takes them for the same.
        english: The same in English.
        one: The one,
        other: and the other.
    """

    chinese: str
    english: str
    one: str
    other: str


PAIRS = (
    Pair("大小写", "case", "LI", "li"),
    Pair("全角半角", "width", "10X", "１０Ｘ"),
    Pair("行尾空格", "trailing spaces", "张三", "张三 "),
    Pair("扩展区汉字", "characters beyond the BMP", "𠮷", "𡋣"),
    Pair("ß 与 ss", "ß and ss", "Strauß", "Strauss"),
    Pair("附加符号", "accents", "José", "Jose"),
    Pair("间隔号", "middle dots", "阿·波", "阿・波"),
    Pair("数字前缀", "a number and a text that begins with it", "440306", "440306abc"),
)
"""What collations are known not to see."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a column does with the pairs.

    Attributes:
        key: Path of the key in the mapping.
        column: The column, with its table where that is known, or the expression.
        collation: Its collation and type, where the database tells.
        equated: Pairs that it takes for the same, as any other program would find.
        fooled: Those of them that the adapter would take for the same too: none, or it must not start.
        unheld: Pairs that the column's type or character set cannot hold.
    """

    key: tuple[str | int, ...]
    column: str
    collation: str
    equated: tuple[Pair, ...]
    fooled: tuple[Pair, ...]
    unheld: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """A column or expression that texts are compared with."""

    key: tuple[str | int, ...]
    data: str
    written: str
    expression: Element


Verdict: TypeAlias = "tuple[tuple[Pair, ...], tuple[Pair, ...], tuple[Pair, ...]]"
"""Equated, fooled, unheld."""


def compare_texts(
    connection: Connection,
    data_sets: Mapping[str, DataSet],
    texts: Mapping[str, MappedAttribute],
    uses: Mapping[str, Sequence[Use]],
    parameters: Callable[[Any], dict[str, Any]],
) -> Iterator[Compared]:
    """Compare the pairs as every column would that the adapter compares texts with.

    Columns of one type and collation behave alike, so each kind of column is asked once.

    Args:
        connection: To the database.
        data_sets: Those that can be read.
        texts: Attributes that are compared as texts.
        uses: What each data set uses.
        parameters: Gives a statement's `as_of`, if it has one.
    """
    known: dict[tuple[str, str], Verdict] = {}
    for place in _places(data_sets, texts):
        data = data_sets[place.data]
        column_, table = _column(place, data, uses.get(place.data, ()))
        # SQLite tells a column's collation only where it must be the default one.
        told = column_ is not None and (column_.collation or connection.dialect.name != "sqlite")
        kind = (column_.type, column_.collation) if column_ is not None and told else None
        verdict = known.get(kind) if kind is not None else None
        if verdict is None:
            verdict = _verdict(connection, place.expression, data, parameters)
            if kind is not None:
                known[kind] = verdict
        collation = "" if column_ is None else " ".join(filter(None, (column_.type, column_.collation)))
        yield Compared(
            place.key, f"{table}.{column_.name}" if column_ is not None else place.written, collation, *verdict
        )


def _places(data_sets: Mapping[str, DataSet], texts: Mapping[str, MappedAttribute]) -> Iterator[_Place]:
    for name, data in data_sets.items():
        yield _Place(("data", name, "subject"), name, data.subject, column(data.subject))
        if data.name is not None:
            yield _Place(("data", name, "name"), name, data.name, column(data.name))
    for name, mapped in texts.items():
        if mapped.value is not None:
            yield _Place(("attribute", name, "value"), mapped.data, mapped.value, fragment(mapped.value))


def _column(place: _Place, data: DataSet, uses: Sequence[Use]) -> tuple[KnownColumn | None, str]:
    """The table's column that an expression is, if it is one."""
    written = place.written.strip().strip('"`')
    for use in uses if data.table is not None else ():
        for one in use.table.columns:
            if one.name == written or one.name.casefold() == written.casefold():
                return one, use.table.title
    return None, ""


def _verdict(
    connection: Connection, of: Element, data: DataSet, parameters: Callable[[Any], dict[str, Any]]
) -> Verdict:
    try:
        judged = list(_ask(connection, of, data, parameters, PAIRS))
    except DBAPIError:
        # One pair that the column cannot hold spoils the statement: one at a time.
        judged = []
        for pair in PAIRS:
            try:
                judged += _ask(connection, of, data, parameters, [pair])
            except DBAPIError:
                judged.append((pair, None, False))
    return (
        tuple(pair for pair, equated, _ in judged if equated),
        tuple(pair for pair, _, fooled in judged if fooled),
        tuple(pair for pair, equated, _ in judged if equated is None),
    )


def _ask(
    connection: Connection,
    of: Element,
    data: DataSet,
    parameters: Callable[[Any], dict[str, Any]],
    pairs: Sequence[Pair],
) -> Iterator[tuple[Pair, bool | None, bool]]:
    """Each pair; whether it is equated, None if that is no question; and whether the recheck would be fooled."""
    statement = union_all(*(_comparison(connection, of, data, number) for number in range(len(pairs))))
    given = parameters(statement)
    for number, pair in enumerate(pairs):
        given |= {f"one{number}": pair.one, f"other{number}": pair.other, f"asked{number}": pair.other}
        given[f"list{number}"] = spell_list([pair.other])
    for row in connection.execute(statement, given):
        number, equated, same, listed = row
        yield pairs[number], None if equated is None else bool(equated), bool(same) or bool(listed)


def _comparison(connection: Connection, of: Element, data: DataSet, number: int) -> Select[Any]:
    """One pair; the first text stands in a relation that has the column's type and collation and no row of its own."""
    dialect = DIALECTS[connection.dialect.name]()
    # A parameter without a type takes the column's, as a literal of another program would.
    none: Select[Any] = select(of.label("x")).select_from(source(data)).where(false())
    given: Select[Any] = select(bindparam(f"one{number}", type_=NullType()).label("x"))
    held = union_all(none, given).subquery(f"u{number}")
    other: Element = bindparam(f"other{number}", type_=NullType())
    # The recheck has its parameters as texts of their own: one that is shared would take the column's type here too.
    asked: Element = cast(bindparam(f"asked{number}"), Text)
    answers: list[Element] = [
        literal_column(str(number)).label("pair"),
        (held.c.x == other).label("equated"),
        dialect.same(held.c.x, asked).label("same"),
        dialect.listed(cast(bindparam(f"list{number}"), Text), held.c.x).label("listed"),
    ]
    return select(*answers)
