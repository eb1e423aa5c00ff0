"""Flags of `policy propose` and `policy export` that cannot be meant are refused before anybody is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.cli.policy import app


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("propose --sign .", "name files, or say by flags"),
        ("propose profile.toml --revoke x --sign .", "name files, or say by flags"),
        ("propose --role edu/clerk --sign .", "say which grant: --grant ID"),
        ("propose --grant lease --sign .", "say what changes of grant lease"),
        ("propose --revoke lease --sign . --json", "give --yes"),
        ("propose profile.toml --out x.toml --sign .", "go with flags"),
        ("propose --grant lease --not-after tomorrow --sign .", "tomorrow"),
        ("export", "say where to"),
        ("export hrss --json", "say where to"),
        ("export --version 0 --out .", "greater than"),
    ],
)
def test_flags_that_cannot_be_meant_are_wrong_usage(
    arguments: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody listens there: had anybody been asked, the command would have failed otherwise.
    (tmp_path / "profile.toml").write_text('registrar = "127.0.0.1:1"\nroot = "root"\nidentity = "i"\nstate = "s"\n')
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*arguments.split(), "--profile", "profile.toml"])
    assert done.exit_code == 2, done.output
    assert says in done.output
