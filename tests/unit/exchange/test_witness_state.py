"""A witness's state: made once, and whatever is missing or does not belong together stops its start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audit.witness_store import WitnessStore
from certs_support import City
from exchange import witness
from exchange.witness import StateFiles
from zhiwang.wire.errors import FatalError
from zhiwang.wire.profile import Profile, load_profile

PROFILE = """
registrar = "127.0.0.1:7443"
root = "{root}"
identity = "{identity}"
state = "state"

[[witness.log]]
origin = "shenzhen/data/hub/main"
"""


class Made:
    """A witness that was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.city = City.create(path / "city")
        self.profile = self.write(PROFILE)
        self.key = witness.init(self.profile)
        self.state = StateFiles(self.profile.state)

    def write(self, text: str, identity: str = "office/witness/main") -> Profile:
        if not self.city.path(identity).exists():
            self.city.enrol(identity)
        file = self.path / "witness.toml"
        file.write_text(text.format(root=self.city.root, identity=self.city.path(identity)))
        return load_profile(file)

    def start(self) -> None:
        """Everything that a start looks at before it serves."""
        witness.witness_identity(self.profile)
        witness.followed(self.profile)
        witness.load_key(self.state)
        WitnessStore.open(self.state.store, self.state.guard).close()


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_what_was_made_is_private_and_starts(made: Made) -> None:
    made.start()
    assert made.state.directory.stat().st_mode & 0o777 == 0o700
    for path in (made.state.key, made.state.store, made.state.guard):
        assert path.stat().st_mode & 0o777 == 0o600
    assert made.key.name == "shenzhen/office/witness/main"
    assert witness.verifier_key(made.state) == made.key
    assert b"PRIVATE" not in made.state.vkey.read_bytes()


def test_it_is_made_once(made: Made) -> None:
    with pytest.raises(FatalError, match="already"):
        witness.init(made.profile)
    # Not even if its key is gone: its memory is still there.
    made.state.key.unlink()
    with pytest.raises(FatalError):
        witness.init(made.profile)


def test_only_a_witnesss_certificates_make_and_run_one(made: Made) -> None:
    profile = made.write(PROFILE.replace('"state"', '"elsewhere"'), "data/hub/main")
    with pytest.raises(FatalError, match="no witness"):
        witness.init(profile)
    assert not profile.state.exists()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda state: state.key.chmod(0o644), "chmod 600"),
        (lambda state: state.key.unlink(), "No such file"),
        (lambda state: state.key.write_bytes(b"no key"), "holds no key"),
        (lambda state: state.vkey.unlink(), "no witness in"),
        (lambda state: state.vkey.write_bytes(b"x+y+z"), "damaged"),
        (lambda state: state.vkey.write_bytes(b"\xff"), "damaged"),
        (lambda state: state.store.unlink(), "no store"),
        (lambda state: state.store.write_bytes(b"x" * 9000), "cannot be opened"),
        (lambda state: state.guard.unlink(), "guard"),
    ],
)
def test_a_state_that_lacks_something_does_not_start(
    made: Made, harm: Callable[[StateFiles], object], said: str
) -> None:
    harm(made.state)
    with pytest.raises(FatalError, match=said):
        made.start()


def test_a_key_of_another_witness_is_refused(made: Made, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    other = Made(tmp_path / "two")
    made.state.key.write_bytes(other.state.key.read_bytes())
    with pytest.raises(FatalError, match="do not belong together"):
        made.start()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.partition("[[witness.log]]")[0], "name the logs"),
        (lambda text: text.replace('registrar = "127.0.0.1:7443"\n', ""), "say with `registrar`"),
    ],
)
def test_a_profile_that_names_no_log_or_no_directory_does_not_start(
    made: Made, change: Callable[[str], str], said: str
) -> None:
    made.profile = made.write(change(PROFILE))
    with pytest.raises(FatalError, match=said):
        made.start()
