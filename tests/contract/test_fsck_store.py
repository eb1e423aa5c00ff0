"""A log's own store and its search database, bent in every kind of thing that is stored, and named with the index."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import audit_support as support
from audit.checkpoint import Checkpoint, CheckpointError, open_note
from audit.fsck import Examined
from audit.fsck_store import entries_of, examine_search, examine_store, newest_origin
from audit.search import SearchIndex
from audit.sqlite import open_readonly
from audit.store import LogStore
from certs_support import City
from exchange import app as hub_app
from exchange.config import StateFiles
from exchange.store import open_log
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.profile import load_profile

ORIGIN = support.HUB.log_origin
COUNT = 600


def access(number: int) -> audit_pb2.HubAccess:
    header = sealed_pb2.Header(
        system="spiffe://shenzhen/edu/system/enrolment",
        official=f"clerk-{number % 7}",
        role="edu/clerk",
        matter="school-enrolment",
        reference=f"2026-{number:06d}",
        jurisdiction=("nbs:440306", "nbs:440305")[number % 2],
        owner="hrss",
        claims=[sealed_pb2.ClaimShape(attribute="months"), sealed_pb2.ClaimShape(attribute="age")],
    )
    return audit_pb2.HubAccess(
        header=header.SerializeToString(),
        signature=bytes(64),
        sealed_hash=bytes(32),
        request_root=bytes(32),
        outcome=audit_pb2.OUTCOME_DENIED,
        reason="NOT_GRANTED",
        directory_version=7,
    )


class Stored:
    """A closed log and its search database, copied for each harm."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log.db"
        self.search = directory / "search.db"

    def copy(self, directory: Path) -> Stored:
        shutil.copytree(self.directory, directory)
        return Stored(directory)

    def harm(self, file: Path, *statements: str, values: tuple[Any, ...] = ()) -> None:
        """As somebody with the file does it, who takes the triggers away and puts them back."""
        connection = sqlite3.connect(file, isolation_level=None)
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement, values if "?" in statement else ())
        for _, sql in triggers:
            connection.execute(sql)
        connection.close()

    def examine(self, extends: tuple[Checkpoint, ...] = ()) -> Examined:
        engine = open_readonly(self.log)
        try:
            found = examine_store(engine, newest_origin(engine, ORIGIN), verify, extends=extends)
            size = found.checkpoint.size if found.checkpoint is not None else 0
            examine_search(self.search, ORIGIN, entries_of(engine, ORIGIN), size, found)
            return found
        finally:
            engine.dispose()

    def told(self) -> list[str]:
        return [str(fault) for fault in self.examine().faults]


def verify(note: bytes, pem: bytes) -> Checkpoint:
    if not pem:
        raise CheckpointError("no certificate")
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    return open_note(note, ORIGIN, support.verifier().verify(der, 1_800_000_000).public_key_raw)


def fill(store: LogStore, search: Path) -> None:
    with store.transaction() as connection:
        appended = store.append(connection, [store.new_entry(access(number)) for number in range(COUNT)])
    store.committed(appended)
    index = SearchIndex(search, store)
    while index.follow():
        pass
    index.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    stored = Stored(tmp_path_factory.mktemp("stored"))
    store = support.make_store(stored.log)
    fill(store, stored.search)
    support.close(store)
    yield stored
    support.check_log(stored.log)


def test_a_whole_store_has_no_fault(whole: Stored) -> None:
    found = whole.examine()
    assert (found.faults, found.entries) == ([], COUNT + 1)
    assert found.events == {"hub_access": COUNT, "log_opened": 1}


SPOILT = "CAST(substr(data, 1, length(data) - 1) || CASE substr(data, -1) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)"
OTHER_TILE = "CAST(zeroblob(32) || substr(hashes, 33) AS BLOB)"
LOG_HARMS: list[tuple[str, str]] = [
    (f"UPDATE log_entry SET data = {SPOILT} WHERE idx = 300", "entry 300"),  # noqa: S608 - ours
    ("UPDATE log_entry SET leaf_hash = zeroblob(32) WHERE idx = 3", "log_entry, entry 3: the hash beside it"),
    ("UPDATE log_entry SET leaf_hash = zeroblob(32) WHERE idx = 599", "entry 599"),
    ("DELETE FROM log_entry WHERE idx = 280", "tile/entries/001: holds 255 entries"),
    ("DELETE FROM log_entry WHERE idx = 600", "tile/entries/002.p/89: holds 88 entries"),
    ("INSERT INTO log_entry SELECT 700, key, leaf_hash, data FROM log_entry WHERE idx = 5", "log_entry, entry 700"),
    (f"UPDATE log_tile SET hashes = {OTHER_TILE} WHERE idx = 1", "tile/0/001, entry 256"),  # noqa: S608 - ours
    ("DELETE FROM log_tile WHERE idx = 0", "tile/0/000: is missing"),
    ("INSERT INTO log_tile SELECT 0, 2, hashes FROM log_tile WHERE idx = 0", "tile 2 of level 0 belongs to no tree"),
    ("INSERT INTO log_tile SELECT 1, 0, hashes FROM log_tile WHERE idx = 0", "tile 0 of level 1 belongs to no tree"),
    ("UPDATE log_head SET root = zeroblob(32)", "store: its head says another size or root"),
    ("UPDATE log_head SET size = 600", "store: its head says another size or root"),
    (
        "UPDATE log_head SET checkpoint = CAST(replace(CAST(checkpoint AS TEXT), '601', '602') AS BLOB)",
        "checkpoint: is not signed",
    ),
    ("UPDATE log_head SET certificate = x'3000'", "checkpoint: is not signed by this log's key: no certificate"),
    ("DELETE FROM log_head", "store: holds no head"),
]


@pytest.mark.parametrize(("statement", "message"), LOG_HARMS, ids=[message for _, message in LOG_HARMS])
def test_whatever_is_bent_in_the_store_is_named(whole: Stored, tmp_path: Path, statement: str, message: str) -> None:
    bent = whole.copy(tmp_path / "bent")
    bent.harm(bent.log, statement)
    told = bent.told()
    assert any(message in one for one in told), told


def test_a_trigger_that_was_taken_away_is_named(whole: Stored, tmp_path: Path) -> None:
    bent = whole.copy(tmp_path / "bent")
    connection = sqlite3.connect(bent.log)
    (name, *_) = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchone()
    connection.execute(f"DROP TRIGGER {name}")
    connection.close()
    assert any("tables or triggers" in one for one in bent.told())


def test_a_store_that_does_not_reach_or_extend_its_guard_is_named(whole: Stored) -> None:
    for size, root, message in ((9999, bytes(32), "is older"), (100, bytes(32), "does not extend")):
        (fault,) = whole.examine((Checkpoint(ORIGIN, size, root),)).faults
        assert message in fault.message


NUMBERS = ("time", "seen", "version", "header")
WORDS = ("event", "department", "system", "official", "role", "matter", "place", "owner", "outcome")
ANOTHER = "(SELECT max(id) FROM word)"
COLUMNS = f"time, seen, {', '.join(WORDS)}, reason, emergency, reference, version, header"
SEARCH_HARMS: list[tuple[str, str]] = [
    *((f"UPDATE found SET {name} = {name} + 1 WHERE idx = 17", f"entry 17: {name} is not") for name in NUMBERS),  # noqa: S608 - ours
    ("UPDATE found SET reference = '2026-999999' WHERE idx = 18", "entry 18: reference is not"),
    *((f"UPDATE found SET {name} = {ANOTHER} WHERE idx = 19", f"entry 19: {name} is not") for name in WORDS),  # noqa: S608 - ours
    ("UPDATE found SET reason = NULL WHERE idx = 20", "entry 20: reason is not"),
    ("UPDATE found SET owner = 99999 WHERE idx = 21", "entry 21: owner is not"),
    ("DELETE FROM found WHERE idx = 22", "entry 22: its row is missing"),
    (f"INSERT INTO found SELECT 700, {COLUMNS} FROM found WHERE idx = 1", "entry 700: its row stands behind"),  # noqa: S608 - ours
    ("DELETE FROM asked WHERE idx = 23 AND attribute = (SELECT min(attribute) FROM asked)", "entry 23: attributes"),
    ("INSERT INTO asked VALUES ((SELECT id FROM word WHERE text = 'edu'), 24)", "entry 24: attributes is not"),
    ("INSERT INTO asked SELECT attribute, 0 FROM asked LIMIT 1", "entry 0: attributes is not"),
    ("INSERT INTO asked SELECT attribute, 9999 FROM asked LIMIT 1", "entry 9999: its row stands behind"),
    ("UPDATE word SET text = 'hrrs' WHERE text = 'hrss'", "entry 1: owner is not"),
    ("DELETE FROM word WHERE text = 'clerk-3'", "entry 4: official is not"),
    ("DELETE FROM place", "its list of places lacks"),
    ("INSERT INTO place SELECT id FROM word WHERE text = 'edu'", "its list of places has in vain"),
    ("UPDATE about SET size = 9999", "says that it has 9999 entries"),
    ("UPDATE about SET tip = zeroblob(32)", "is not the entry to which it says"),
    ("UPDATE about SET seen = 1", "is not the entry to which it says"),
    ("UPDATE about SET origin = 'x/y'", "is of the log x/y"),
    ("DELETE FROM about", "does not say of which log it is"),
    ("DROP TABLE asked", "cannot be read"),
]


@pytest.mark.parametrize(("statement", "message"), SEARCH_HARMS, ids=[message for _, message in SEARCH_HARMS])
def test_whatever_is_bent_in_the_search_database_is_named(
    whole: Stored, tmp_path: Path, statement: str, message: str
) -> None:
    bent = whole.copy(tmp_path / "bent")
    bent.harm(bent.search, statement)
    told = bent.told()
    assert all(one.startswith("search.db") for one in told), told
    assert any(message in one for one in told), told


def test_a_flipped_bit_in_the_file_of_the_search_database_is_found(whole: Stored, tmp_path: Path) -> None:
    bent = whole.copy(tmp_path / "bent")
    data = bytearray(bent.search.read_bytes())
    place = data.index(b"2026-000333")
    data[place + 10] ^= 1
    bent.search.write_bytes(bytes(data))
    assert any("entry 334" in one or "damaged" in one for one in bent.told())


def test_a_search_database_that_was_dropped_is_made_again_and_holds(whole: Stored, tmp_path: Path) -> None:
    bent = whole.copy(tmp_path / "bent")
    bent.search.unlink()
    assert bent.told() == ["search.db: is missing: the process makes it again when it starts"]
    store = support.reopen(bent.log)
    index = SearchIndex(bent.search, store)
    while index.follow():
        pass
    index.close()
    support.close(store)
    assert bent.told() == []


def zhiwang(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("zhiwang")), "audit", "fsck", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603 - ours
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A hub's profile, whose log has entries."""
    city = City.create(tmp_path / "city")
    city.enrol("centre/hub/main")
    path = tmp_path / "hub.toml"
    path.write_text(
        'registrar = "127.0.0.1:1"\nroot = "city/root"\nidentity = "city/identities/centre/hub/main"\nstate = "hub"\n'
    )
    hub_app.init(load_profile(path))
    return path


def test_the_command_looks_at_a_store_that_is_in_use_and_writes_nothing(hub: Path) -> None:
    state = hub.parent / "hub"
    profile = load_profile(hub)
    log = open_log(hub_app.hub_identity(profile), StateFiles(state))
    try:
        store = log.shard()
        fill(store, state / "search.db")
        before = (state / "log.db").read_bytes()
        facts = json.loads(zhiwang("--profile", str(hub), "--json").stdout)
        assert (facts["size"], facts["search_entries"], facts["fault_count"]) == (COUNT + 1, COUNT + 1, 0)
        assert (state / "log.db").read_bytes() == before
        assert "0" in zhiwang("--profile", str(hub)).stdout
    finally:
        log.close()
        log.engine.dispose()
    Stored(state).harm(state / "search.db", "DELETE FROM found WHERE idx = 5")
    assert "entry 5: its row is missing" in zhiwang("--profile", str(hub), status=1).stderr
    assert "say what to check" in zhiwang(status=2).stderr
    assert "say what to check" in zhiwang("logs", "--profile", str(hub), status=2).stderr
