"""The generated references cannot drift, leave out a file or a command, or show an example that does not hold."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from adapters.mapping import load_mapping
from dev import make_cli_docs, make_config_docs
from exchange.sweep.mapping import RosterColumns
from policy.centre import parse_centre, parse_matter
from policy.document import parse_activations, parse_document, parse_suspensions
from zhiwang.wire.profile import load_profile
from zhiwang.wire.tomlfile import StrictModel, load

FOLDERS = ("zhiwang.wire", "policy", "adapters", "exchange", "audit", "certs")
MESSAGES = {"adapters.extract_load"}
"""Modules whose models are messages between processes of ours, not files that people write."""
COMMANDS = dict(make_cli_docs.commands())


@pytest.mark.parametrize("made", [make_config_docs, make_cli_docs], ids=lambda module: str(module.__name__))
def test_a_page_is_what_its_source_says(made: Any) -> None:
    assert made.PAGE.read_text("utf-8") == made.page(), "run: make docs"


def test_every_model_of_a_file_is_in_the_reference() -> None:
    for folder in FOLDERS:
        package = importlib.import_module(folder)
        for module in pkgutil.walk_packages(package.__path__, f"{folder}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    told = {table.model for model, _ in make_config_docs.FILES.values() for table in make_config_docs.tables(model)}
    # Tests that ran before in this process may have models of their own.
    ours = [model for model in _models(StrictModel) if model.__module__.startswith(tuple(f"{one}." for one in FOLDERS))]
    known = {model for model in ours if model.__module__ not in MESSAGES}
    assert not {model.__qualname__ for model in known - told}, "name their file in FILES of dev/make_config_docs.py"


def _models(base: type[StrictModel]) -> set[type[StrictModel]]:
    return {base_or_below for model in base.__subclasses__() for base_or_below in {model, *_models(model)}}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("profile.toml", load_profile),
        ("mapping.toml", load_mapping),
        ("document.toml", parse_document),
        ("matter.toml", parse_matter),
        ("centre.toml", parse_centre),
        ("suspend.toml", parse_suspensions),
        ("emergency.toml", parse_activations),
        ("roster.toml", lambda path: load(path, RosterColumns)),
    ],
)
def test_the_example_of_a_file_is_accepted(name: str, read: Any) -> None:
    for path in make_config_docs.examples_of(name):
        read(path)


@pytest.mark.parametrize("name", make_config_docs.FILES)
def test_the_example_of_a_file_shows_every_key(name: str) -> None:
    model, _ = make_config_docs.FILES[name]
    data = [tomllib.loads(path.read_text("utf-8")) for path in make_config_docs.examples_of(name)]
    missing = []
    for table in make_config_docs.tables(model):
        for field_name, field in table.model.model_fields.items():
            key = field.alias or field_name
            try:
                make_config_docs.example(data, ("*", *table.path, key))
            except KeyError:
                missing.append(".".join((*table.path, key)))
    assert not missing, f"add them to examples/reference/{name}"


def test_a_key_without_a_meaning_fails_the_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(StrictModel):
        """A file.

        Attributes:
            told: What it is.
        """

        told: str = ""
        untold: str = ""

    monkeypatch.setattr(make_config_docs, "FILES", {"silent.toml": (Silent, "")})
    with pytest.raises(make_config_docs.UndescribedError, match=r"Silent\.untold$"):
        make_config_docs.page()


@pytest.mark.parametrize("words", COMMANDS)
def test_an_example_calls_its_own_command_with_options_that_it_has(words: str) -> None:
    command = COMMANDS[words]
    example = make_cli_docs.example_of(command)
    assert example is not None, 'the docstring shows no "Example: zhiwang …"'
    assert example.startswith(f"zhiwang {words} ") or example == f"zhiwang {words}"
    ours = itertools.takewhile(lambda word: word != "|", shlex.split(example))
    given = {word for word in ours if word.startswith("--")}
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert given <= known


def test_help_is_plain_text_of_the_pages_width() -> None:
    text = Path(make_cli_docs.PAGE).read_text("utf-8")
    blocks = text.split("```text\n")[1:]
    lines = [line for block in blocks for line in block.partition("\n```")[0].splitlines()]
    assert all(character.isprintable() for line in lines for character in line)
    assert len(lines) > len(COMMANDS)
    assert max(map(len, lines)) <= make_cli_docs.WIDTH


def _written(page: str) -> list[str]:
    """Our commands in the shell blocks of a page."""
    text = (make_cli_docs.PAGE.parent / page).read_text("utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [f"zhiwang {found[1]}" for line in lines if (found := re.search(r"(?:^|[ /])zhiwang ([a-z].*)", line))]


@pytest.mark.parametrize("page", ["backup.md", "network.md"])
def test_a_command_of_a_page_exists_with_the_options_that_it_is_given(page: str) -> None:
    lines = _written(page)
    assert lines
    for line in lines:
        words = shlex.split(line)
        command = COMMANDS[" ".join(words[1:3])]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line
