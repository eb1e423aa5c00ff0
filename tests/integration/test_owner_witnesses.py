"""An adapter's and a registrar's logs are cosigned as the hub's is: each asks the city's witness by itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import policy_support
from adapter_support import make_database
from certs.credentials import IdentityFiles
from city_support import MOTHER
from exchange.evidence.checking import check
from witness_city import WitnessCity, page
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.process import read_address

pytestmark = pytest.mark.timeout(300)  # four processes, some of them started several times

ADAPTER = "shenzhen/hrss/adapter/main"
REGISTRAR = "shenzhen/dsjj/registrar/main"
TABLES = """
CREATE TABLE person (id_card TEXT, months INTEGER);
CREATE INDEX person_id ON person (id_card);
CREATE TABLE load (at TEXT);
INSERT INTO load VALUES (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
"""
MAPPING = """
department = "hrss"

[database]
url = "sqlite:///file:hrss.db?mode=ro&uri=true"

[data.person]
table = "person"
subject = "id_card"
loaded = "SELECT at FROM load"

[attribute.pension_months]
data = "person"
value = "months"

[attribute.insured]
data = "person"
"""
PROFILE = """
hub = ["{hub}"]
root = "{root}"
identity = "{identity}"
state = "adapter-state"
listen = "127.0.0.1:0"
metrics = "127.0.0.1:0"

[adapter]
mapping = "mapping.toml"
document = "document.toml"
"""
COSIGNING = """
[cosigning]
every = 1
alarm_after = 5
witness.bar = "127.0.0.1:{port}"
"""


class OwnerCity(WitnessCity):
    """A registrar, a hub, an owner's adapter, and one witness that follows the logs of both ends."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("bar",), 1)
        self.states["adapter"] = path / "adapter-state"
        self.make_hub()
        followed = "".join(f'\n[[witness.log]]\norigin = "{origin}"\n' for origin in (ADAPTER, REGISTRAR))
        self.write("bar", (path / "bar.toml").read_text() + followed)
        self.write("registrar", (path / "registrar.toml").read_text() + COSIGNING.format(port=self.ports["bar"]))
        make_database(path / "hrss.db", TABLES, {"person": [(MOTHER, 24)]})
        (path / "mapping.toml").write_text(MAPPING, "utf-8")
        (path / "document.toml").write_text(policy_support.HRSS, "utf-8")
        self.adapter: IdentityFiles = self.city.enrol("hrss/adapter/main")

    def write_adapter(self, hub: str) -> None:
        text = PROFILE.format(hub=hub, root=self.city.root, identity=self.adapter.directory)
        self.write("adapter", text + COSIGNING.format(port=self.ports["bar"]))

    def noun(self, name: str) -> str:
        return "adapter" if name == "adapter" else super().noun(name)

    def witnessed(self, auditor: str, *arguments: str) -> list[str]:
        """Who cosigned a log, as an auditor is told."""
        done = self.run("audit", "verify", "--json", *arguments, name=auditor)
        found = json.loads(done.stdout)["witnessed"]
        assert found["quorum"] == 1
        return [one["witness"] for one in found["cosignatures"]]

    def metrics_of(self, name: str) -> str:
        address = read_address(self.states[name])
        assert address is not None
        return page(f"http://{address['metrics']}/metrics")


def cosigned_size(state: Path) -> int:
    """Entries of the newest tree that was cosigned, as its keeper wrote it down; 0 for none."""
    try:
        note: str = json.loads((state / "cosigned.json").read_bytes())["note"]
    except FileNotFoundError:
        return 0
    return int(note.split("\n", 2)[1])


@pytest.fixture
def city(tmp_path: Path) -> Iterator[OwnerCity]:
    city = OwnerCity(tmp_path)
    with city.running("registrar"), city.running("hub"):
        hub = city.auditor()
        city.write_adapter(hub)
        city.write("auditor", (tmp_path / "auditor.toml").read_text() + f'registrar = "127.0.0.1:{city.registrar}"\n')
        city.run("adapter", "init")
        city.write(
            "own",
            f'hub = ["{hub}"]\nroot = "{city.city.root}"\nstate = "own-state"\n'
            f'identity = "{city.city.enrol("hrss/auditor/wu").directory}"\n',
        )
        for auditor in ("auditor", "own"):
            city.run("audit", "init", name=auditor)
        yield city


def test_logs_of_adapter_and_registrar_are_cosigned_and_an_auditor_is_told(city: OwnerCity) -> None:
    owner = ("--owner", "hrss", "--from", str(city.states["adapter"]))
    witness = city.start("bar")
    try:
        with city.running("adapter"):
            for keeper in ("adapter", "registrar"):
                city.eventually((city.states[keeper] / "cosigned.json").is_file, lambda: city.log("bar"))
            assert city.witnessed("own", *owner) == ["bar"]
            assert city.witnessed("auditor", "--from", "registrar") == ["bar"]

            # Without its witness the adapter alarms, records it and goes on; doctor tells.
            city.end(witness)
            missing = "no quorum of witnesses cosigns the log"
            city.eventually(lambda: missing in city.log("adapter") and missing in city.log("registrar"))
            text = city.metrics_of("adapter")
            failures = r'^zhiwang_adapter_witness_failures_total\{kind="unreachable",witness="bar"\} [1-9]'
            assert re.search(failures, text, re.MULTILINE)
            lag = re.search(r"^zhiwang_adapter_cosign_lag_seconds (\S+)", text, re.MULTILINE)
            assert lag is not None
            assert float(lag[1]) > 4
            said = json.loads(city.run("doctor", "--json", name="adapter", status=1).stdout)
            assert any(one["area"] == "witnesses" and one["state"] == "wrong" for one in said)
            changes = ("audit", "search", "--event", "quorum_change", "--json", *owner)
            city.eventually(lambda: "quorum_change" in city.run(*changes, name="own").stdout)
    finally:
        city.end(witness)
    assert "Traceback" not in city.log("adapter") + city.log("registrar")


def test_an_adapter_whose_log_does_not_extend_what_was_cosigned_does_not_start(city: OwnerCity) -> None:
    state = city.states["adapter"]
    copy = city.path / "copy"
    shutil.copytree(state, copy)
    with city.running("bar"), city.running("adapter"):
        city.eventually(lambda: cosigned_size(state) > 1, lambda: city.log("adapter"))
    cosigned = (state / "cosigned.json").read_bytes()
    # The whole state, guard and all, but for what the witness had cosigned.
    shutil.rmtree(state)
    shutil.copytree(copy, state)
    (state / "cosigned.json").write_bytes(cosigned)
    failed = city.run("adapter", "run", status=1)
    assert "rolled back or rewritten" in failed.stdout + failed.stderr


def test_steps_in_the_registrars_log_are_held_and_produced(city: OwnerCity) -> None:
    """The same commands as for the hub's log: what was recorded of the directory's publications."""
    where = ("--from", "registrar")
    until = (datetime.now(CITY_TIME) + timedelta(days=90)).date().isoformat()
    city.run("audit", "hold", *where, "--order", "A-7", "--until", until, "--event", "policy_step", name="auditor")
    (held,) = json.loads(city.run("audit", "hold", "list", *where, "--json", name="auditor").stdout)
    assert (held["order"], held["department"]) == ("A-7", "dsjj")
    out = city.path / "evidence"
    order = ("--order", "A-7", "--out", str(out), "--event", "policy_step", "--json")
    made = json.loads(city.run("audit", "produce", *where, *order, name="auditor").stdout)
    assert made["log"] == REGISTRAR
    assert made["entries"] >= 1
    checked = check(out, city.city.root)
    assert (checked.faults, checked.origin) == ([], REGISTRAR)


def test_a_registrar_does_not_stop_for_witnesses(tmp_path: Path) -> None:
    city = OwnerCity(tmp_path)
    city.write("registrar", (tmp_path / "registrar.toml").read_text() + "stop_releasing_after = 60\n")
    refused = city.run("registrar", "run", status=1)
    assert "a registrar releases no answers" in refused.stdout + refused.stderr
