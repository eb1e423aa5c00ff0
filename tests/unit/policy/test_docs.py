"""The pages about policy cannot drift: their examples are parsed, their tables compared with the models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

import adapters.mapping
from policy.centre import parse_centre, parse_matter
from policy.document import parse_activations, parse_document, parse_suspensions
from policy.shapes import (
    ActivationEntry,
    ActivationFile,
    AssertFile,
    AttributeFile,
    CentreFile,
    DenyFile,
    DocumentFile,
    EmergencyFile,
    GrantFile,
    MatterFile,
    MemberFile,
    PointsClassFile,
    PointsFile,
    ReferFile,
    RuleFile,
    SuspendEntry,
    SuspendFile,
)
from zhiwang.wire.profile import Defaults, ProfileFile
from zhiwang.wire.tomlfile import load

DOCS = Path(__file__).parents[3] / "docs"
FILES = (DOCS / "files.md").read_text("utf-8")


def section(name: str) -> str:
    return FILES.partition(f"## {name}\n")[2].partition("\n## ")[0]


def example(name: str) -> bytes:
    (text,) = re.findall(r"```toml\n(.*?)```", section(name), re.DOTALL)
    return str(text).encode()


def test_the_examples_are_what_the_parsers_take() -> None:
    centre = parse_centre(example("centre.toml"))
    assert str(centre.home("edu", "enrolment")) == "nbs:4403"
    matter = parse_matter(example("matter.toml"))
    assert matter.rule is not None
    document = parse_document(example("document.toml"))
    assert len(document.grants) == 2
    assert [emergency.hours for emergency in document.emergencies] == [8]
    assert len(parse_activations(example("emergency.toml"))[1]) == 1
    assert len(parse_suspensions(example("suspend.toml"))[1]) == 3
    assert load(example("profile.toml"), ProfileFile).defaults.official == "clerk-17"


def test_the_example_mapping_is_what_the_adapter_takes() -> None:
    load(example("mapping.toml"), adapters.mapping.Mapping)


@pytest.mark.parametrize(
    ("name", "prefix", "model"),
    [
        ("centre.toml", "", CentreFile),
        ("centre.toml", "department.NAME.", MemberFile),
        ("centre.toml", "deny.", DenyFile),
        ("matter.toml", "", MatterFile),
        ("matter.toml", "rule.", RuleFile),
        ("matter.toml", "points.", PointsFile),
        ("matter.toml", "points.class.", PointsClassFile),
        ("document.toml", "", DocumentFile),
        ("document.toml", "attribute.NAME.", AttributeFile),
        ("document.toml", "grant.", GrantFile),
        ("document.toml", "emergency.", EmergencyFile),
        ("document.toml", "refer.", ReferFile),
        ("document.toml", "assert.", AssertFile),
        ("emergency.toml", "", ActivationFile),
        ("emergency.toml", "activation.", ActivationEntry),
        ("suspend.toml", "", SuspendFile),
        ("suspend.toml", "suspend.", SuspendEntry),
        ("profile.toml", "", ProfileFile),
        ("profile.toml", "defaults.", Defaults),
    ],
)
def test_every_key_is_explained(name: str, prefix: str, model: type[BaseModel]) -> None:
    first_cells = " ".join(line.split("|")[1] for line in section(name).splitlines() if line.startswith("| "))
    for key, field in model.model_fields.items():
        word = field.alias or key
        alternatives = (f"`{prefix}{word}", f"`[[{word}", f"`{word}`", f"`.{word}`", f"`{prefix}{word}.")
        assert any(text in first_cells for text in alternatives), f"{name}: {prefix}{word}"


def test_every_command_of_policy_and_registrar_is_in_the_table() -> None:
    import typer  # noqa: PLC0415 # only here

    from exchange.cli import policy, registrar  # noqa: PLC0415 # only here

    page = (DOCS / "policy.md").read_text("utf-8")
    for noun, app in (("policy", policy.app), ("registrar", registrar.app)):
        for command in typer.main.get_group(app).commands:
            assert f"zhiwang {noun} {command}" in page, f"{noun} {command}"
