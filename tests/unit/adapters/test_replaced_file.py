"""A database file that a nightly load replaces while it is read."""

from __future__ import annotations

from pathlib import Path

from adapter_support import make_database
from adapters.database import connect_to
from adapters.mapping import Database


def test_a_connection_that_was_lent_while_its_file_was_replaced_never_serves_again(tmp_path: Path) -> None:
    make_database(tmp_path / "data.db", "CREATE TABLE load (n)", {"load": [(1,)]})
    connections = connect_to(Database(url="sqlite:///file:data.db?mode=ro&uri=true"), tmp_path)
    with connections.lend() as before:
        assert before.fetch("SELECT n FROM load") == [(1,)]
        make_database(tmp_path / "new.db", "CREATE TABLE load (n)", {"load": [(2,)]}).rename(tmp_path / "data.db")
        with connections.lend() as after:
            assert after.fetch("SELECT n FROM load") == [(2,)]
        # Whoever has begun with one load ends with it.
        assert before.fetch("SELECT n FROM load") == [(1,)]
    for _ in range(3):
        with connections.lend() as lent, connections.lend() as other:
            assert (lent.fetch("SELECT n FROM load"), other.fetch("SELECT n FROM load")) == ([(2,)], [(2,)])
    connections.close()
