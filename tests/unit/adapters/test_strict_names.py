"""On SQLite a quoted name is a name: misspelt, it is an error, and never a text that nobody has."""

from __future__ import annotations

import sqlite3

import pytest

from adapters.dialects.sqlite import strict_names


@pytest.mark.parametrize(
    ("sql", "strict"),
    [
        ('SELECT "身份证" FROM t', "SELECT `身份证` FROM t"),
        ("""SELECT "a""b`c", 'it''s "x"' FROM "T" """, """SELECT `a"b``c`, 'it''s "x"' FROM `T` """),
        ("""SELECT [x "y"], `z "w"`, '' FROM t""", """SELECT [x "y"], `z "w"`, '' FROM t"""),
    ],
)
def test_only_names_between_double_quotes_change_their_quotes(sql: str, strict: str) -> None:
    assert strict_names(sql) == strict


def test_a_misspelt_name_is_an_error_and_a_right_one_is_read() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute('CREATE TABLE t ("身份证号" TEXT, "a""b" TEXT)')
    connection.execute("INSERT INTO t VALUES ('1', '2')")
    assert connection.execute('SELECT "身份证" FROM t').fetchall() == [("身份证",)]
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        connection.execute(strict_names('SELECT "身份证" FROM t'))
    assert connection.execute(strict_names('SELECT "身份证号", "a""b" FROM t')).fetchall() == [("1", "2")]
    connection.close()
