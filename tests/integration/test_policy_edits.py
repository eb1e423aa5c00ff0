"""A document changed by flags, and taken out as it was signed: what people keep in git is what is in force."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import policy_support as support
from registrar_support import ZHIWANG, World

pytestmark = pytest.mark.timeout(300)
"""Each test starts several processes one after the other, and the machine may be busy."""

COMMENTED = "# 本局的文件 kept in git\n" + support.HRSS.replace(
    '[[grant]]\nid = "enrolment-insured"', '# for Bao\'an only\n[[grant]]\nid = "enrolment-insured"'
)
LEASE = ("--grant", "lease", "--ask", "hrss.insured exists", "--role", "edu/enrolment-clerk", "--place", "nbs:440305")


class Desk:
    """The labour bureau's first admin."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.profile = world.path / "hrss.toml"
        self.sign = ("--sign", world.city.path("hrss/admin/first"))

    def run(self, *arguments: object, status: int = 0) -> Any:
        return self.world.run("policy", *arguments, "--profile", self.profile, status=status)

    def export(self, *more: object) -> bytes:
        command = [str(part) for part in (ZHIWANG, "policy", "export", "hrss", *more, "--profile", self.profile)]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)  # noqa: S603 # our own command
        return done.stdout


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    world = World(tmp_path, published=True)
    with world.registrar():
        yield Desk(world)


def test_a_document_is_exported_byte_for_byte_and_published_again_it_is_the_same(desk: Desk, tmp_path: Path) -> None:
    assert desk.world.kit is not None
    first = desk.world.kit.directory.version
    content = COMMENTED.replace("\n", "\r\n").encode()
    file = tmp_path / "hrss.toml.new"
    file.write_bytes(content)
    desk.world.publish("hrss", file)
    assert desk.export() == content
    assert desk.export("--version", first) == support.HRSS.encode()
    out = tmp_path / "git"
    listed = json.loads(desk.run("export", "--out", out, "--json").stdout)
    assert listed == {
        "directory": first + 1,
        "files": sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()),
    }
    assert (out / "hrss" / "document.toml").read_bytes() == content
    assert (out / "centre.toml").read_text() == support.CENTRE
    assert (out / "matters" / "school-enrolment.toml").read_text() == support.SCHOOL
    desk.world.publish("hrss", out / "hrss" / "document.toml")
    assert desk.export() == content


def test_a_change_by_flags_is_told_in_sentences_and_keeps_every_other_byte(desk: Desk, tmp_path: Path) -> None:
    desk.world.publish("hrss", desk.world.file("new.toml", COMMENTED))
    out = tmp_path / "changed.toml"
    flags = (*LEASE, "--matter", "school-enrolment", "--not-after", "2099-03-01", "--revoke", "enrolment-insured")
    told = desk.run("propose", *flags, "--add", "attribute.pension_months.at_least=9", "--out", out)
    assert "不再可以在440306" in told.stdout
    assert "in 440305, until before 2099-03-01" in told.stdout
    assert "6, 9, 12, 18, 24" in told.stdout
    assert "no matter none" in desk.run("propose", *LEASE, "--matter", "none", "--yes", *desk.sign, status=1).stderr
    (kept,) = json.loads(
        desk.run(
            "propose", *flags, "--add", "attribute.pension_months.at_least=9", "--yes", "--json", *desk.sign
        ).stdout
    )
    second = ("--sign", desk.world.city.path("hrss/admin/second"))
    desk.world.profile(
        "second", "hrss/admin/second", json.loads((desk.world.state / "address.json").read_text())["listen"]
    )
    desk.world.run(
        "policy", "approve", kept["id"], "--yes", "--publish", *second, "--profile", desk.world.path / "second.toml"
    )
    assert desk.export() == out.read_bytes()
    assert "for Bao'an only" not in out.read_text(), "the comment went with its grant"
    assert out.read_text().startswith("# 本局的文件 kept in git\n")
    # The file that was written, changed back by flags, is what was in force before.
    back = tmp_path / "back.toml"
    undo = ("--revoke", "lease", "--remove", "attribute.pension_months.at_least=9", "--out", back)
    desk.run("propose", "--from", out, *undo)
    assert back.read_text() == COMMENTED.replace(
        COMMENTED[COMMENTED.index("# for Bao") : COMMENTED.index("[[assert]]")], ""
    )


def test_a_changed_document_replaces_no_other_file_than_the_one_it_started_from(desk: Desk, tmp_path: Path) -> None:
    other = tmp_path / "precious.toml"
    other.write_text("precious")
    edit = ("--set", "grant.enrolment-insured.not_after=2099-03-01")
    assert "is not replaced" in desk.run("propose", *edit, "--out", other, status=2).stderr
    start = tmp_path / "document.toml"
    start.write_text(support.HRSS)
    assert "is not replaced" in desk.run("propose", *edit, "--from", start, "--out", other, status=2).stderr
    assert other.read_text() == "precious"
    desk.run("propose", *edit, "--from", start, "--out", start)
    assert "not_after = 2099-03-01" in start.read_text()


def test_flags_that_say_nothing_sound_are_refused_before_anything_is_signed(desk: Desk) -> None:
    sign = (*desk.sign, "--yes")
    for flags, status, says in (
        (("--set", "suites=none", "--set", "grant.enrolment-insured.mater=x"), 1, "did you mean matter"),
        (("--set", "grant.enrolment-insured.place=nbs:440306"), 2, "nothing would change"),
        (("--set", "department=edu"), 1, "is not edu's"),
    ):
        assert says in desk.run("propose", *flags, *sign, status=status).stderr
    assert json.loads(desk.run("proposals", "--json").stdout) == []


def test_a_change_of_what_has_been_replaced_meanwhile_is_not_signed(desk: Desk) -> None:
    command = [ZHIWANG, "policy", "propose", "--revoke", "enrolment-insured", *desk.sign, "--profile", desk.profile]
    with subprocess.Popen(  # noqa: S603 # our own command
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as asking:
        assert asking.stdout is not None
        assert any("不再可以在440306" in line for line in asking.stdout)
        desk.world.publish("hrss", desk.world.file("new.toml", COMMENTED))
        _, told = asking.communicate("y\n", timeout=60)
    assert asking.returncode == 1, told
    assert "another document since" in told
    assert json.loads(desk.run("proposals", "--json").stdout) == []
