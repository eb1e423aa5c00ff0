"""Which columns an expression rests on: however they are written, and rather one too many than one too few."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from adapter_support import Owner, attribute
from adapters.drift import ColumnWatch


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("n", "n"),
        ("n x", '"n x"'),
        ("n x", "[n x]"),
        ("n:x", '"n\\:x"'),
        ("n$x", "n$x"),
        ('n"x', '"n""x"'),
        ("n`x", "`n``x`"),
        ("n%x", '"n%x"'),
        # A quote within a text opens no name.
        ("n x", """CASE WHEN y = '5"' THEN 0 ELSE "n x" END"""),
        # Nothing of this is a column, so it may read any.
        ("n", "1 + 1"),
    ],
)
def test_a_column_is_relied_on_however_an_expression_writes_it(tmp_path: Path, column: str, value: str) -> None:
    quoted = '"' + column.replace('"', '""') + '"'
    owner = Owner(
        tmp_path,
        tables=f"CREATE TABLE person (id_card TEXT, y TEXT, {quoted} INTEGER)",
        rows={},
        mapping=f"[data.person]\ntable = 'person'\nsubject = 'id_card'\n[attribute.n]\ndata = 'person'\n"
        f"value = '''{value}'''\n",
        published=attribute("n", 'type = "integer"\nat_least = [1]'),
    )
    watch = ColumnWatch(owner.connections, owner.mapping)
    watch.look()
    with sqlite3.connect(owner.database) as connection:
        connection.execute(f"ALTER TABLE person DROP COLUMN {quoted}")
        connection.execute(f"ALTER TABLE person ADD COLUMN {quoted} TEXT")
    connection.close()
    assert watch.look()
    assert watch.drifted == {"n"}
    owner.close()
