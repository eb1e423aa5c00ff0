"""`zhiwang doctor` tells of every emergency that is open, and of none that is not."""

from __future__ import annotations

import time
from pathlib import Path

from emergency_support import DOCUMENTS, HOUR, entry, opening
from exchange.doctor import directory
from exchange.doctor.local import Host
from policy_support import CITY, make_directory
from zhiwang.wire.diagnosis import State
from zhiwang.wire.identity import Identity
from zhiwang.wire.profile import load_profile


def test_doctor_warns_of_what_is_open_and_says_who_ends_it(tmp_path: Path) -> None:
    kit = make_directory(tmp_path / "kit", documents=DOCUMENTS)
    identity = tmp_path / "identity"
    identity.mkdir()
    profile = tmp_path / "hub.toml"
    profile.write_text(f'root = "{kit.city.root}"\nidentity = "{identity}"\nstate = "{tmp_path}"\n', "utf-8")
    now = time.time()
    kit.repository.publish(opening(kit, entry(now)))

    def told(at: float) -> list[tuple[State, str]]:
        host = Host(load_profile(profile), None, Identity.parse_short(CITY, "dsjj/hub/main"), at)
        return [(one.state, one.remedy) for one in directory.look(host, kit.directory) if one.area == "emergency"]

    ((state, remedy),) = told(now + HOUR)
    assert state is State.WARNING
    assert "zhiwang policy review edu-a" in remedy
    assert told(now + 9 * HOUR) == []
