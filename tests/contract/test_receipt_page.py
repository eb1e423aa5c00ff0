"""A receipt on paper: what it says, what it hides, and that it fits on a sheet."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from typer.testing import CliRunner

from client_support import CASE, CHILD, FATHER, MOTHER, World, directory, unchecked
from exchange.cli import receipt_trust
from exchange.cli.receipt import app
from exchange.cli.receipt_page import CLAIMS_FIRST, CLAIMS_MORE, LOGS_FIRST, Sheet, make_page
from exchange.cli.receipt_words import words
from exchange.client.case import Case, Subject
from exchange.client.receipt import build_receipt, write_receipt
from exchange.client.receipt_files import load_receipt
from exchange.client.receipt_times import Proved, RevokedSince, Trust, Word, prove
from exchange.client.receipt_verify import ProvedPart
from exchange.client.time_stamps import Stamped
from policy.model import Directory, Title
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.records import Outcome

Receipt = verification_pb2.Receipt

HOSTILE = "\x1b[2J</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e\u0007"
VOID = {"meta", "col"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def receipt_about(world: World, case: Case = CASE, outcomes: bytes | None = None) -> Receipt:
    sealed = world.seal(world.prepare(case))
    return build_receipt([unchecked(world, one, outcomes=outcomes) for one in sealed], 0)


@pytest.fixture(scope="module")
def proved(world: World) -> Proved:
    return prove(receipt_about(world), Trust(world.verifier))


def sheet(proved: Proved, known: Directory | None = None, *, full: bool = False, file: str = "case.json") -> Sheet:
    return Sheet(proved, bytes(32), b"\1" * 32, known, full, 1_800_000_000.0, file)


class Elements(HTMLParser):
    """Elements, attributes and text of a page; fails on what does not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_says_who_asked_what_and_what_was_answered(proved: Proved) -> None:
    text = Elements(make_page(sheet(proved, directory()))).text
    for part in proved.parts:
        assert part.header.reference in text
        assert part.owner_checkpoint.root.hex() in text
        assert f"#{part.hub_index} / {part.hub_checkpoint.size}" in text
    for said in (
        "edu/system/enrolment", "edu/enrolment-clerk", "school-enrolment", "是 YES", "无见证", "无时间戳",
        "不证明：答复属实", "only that the owner stated it", "UNKNOWN never rejects anybody", "zhiwang receipt verify",
        "c2sp.org/tlog-proof", bytes(32).hex(), "0755-",
    ):  # fmt: skip
        assert said in text, said


def test_titles_and_counters_are_the_directorys_and_said_to_be_no_part_of_the_proof(proved: Proved) -> None:
    known = directory()
    matter = known.matters["school-enrolment"]
    with_titles = Elements(make_page(sheet(proved, known))).text
    assert matter.title.zh in with_titles
    assert "不属证明内容" in with_titles
    without = Elements(make_page(sheet(proved))).text
    assert matter.title.zh not in without
    assert "未取用名录" in without
    assert "见该部门公布" in without


def test_identifiers_are_masked_unless_they_are_asked_for(proved: Proved) -> None:
    masked, full = make_page(sheet(proved, directory())), make_page(sheet(proved, directory(), full=True))
    for identifier in (CHILD, MOTHER):
        assert identifier in full
        assert identifier not in masked
        assert identifier[6:14] not in masked  # the day of birth
    assert f"440{'*' * 13}{CHILD[-2:]}" in masked


def test_an_identifier_among_compared_values_is_masked_too(world: World) -> None:
    asked = "guardian: hrss.name equals 李梅"
    proved = prove(receipt_about(world, Case((Subject("guardian", MOTHER),), (asked,))), Trust(world.verifier))
    (part,) = proved.parts
    claim = replace(part.claims[0], claim=f"guardian: hrss.name equals {FATHER} 李梅")
    changed = replace(proved, parts=(replace(part, claims=(claim,)),))
    assert FATHER not in make_page(sheet(changed))
    assert FATHER in make_page(sheet(changed, full=True))


def hostile(known: Directory) -> Directory:
    """As if every title and counter, of centre and owners, were written by somebody who attacks the reader."""
    title = Title(HOSTILE, HOSTILE)
    documents = {
        name: replace(
            document,
            title=title,
            attributes=MappingProxyType(
                {key: replace(one, title=title, counter=HOSTILE) for key, one in document.attributes.items()}
            ),
        )
        for name, document in known.documents.items()
    }
    matters = {name: replace(matter, title=title, basis=HOSTILE) for name, matter in known.matters.items()}
    departments = {name: replace(info, title=title) for name, info in known.centre.departments.items()}
    centre = replace(known.centre, departments=MappingProxyType(departments))
    return replace(known, centre=centre, documents=MappingProxyType(documents), matters=MappingProxyType(matters))


def hostile_part(part: ProvedPart) -> ProvedPart:
    claims = tuple(replace(one, claim=f"{one.claim} {HOSTILE}", name=HOSTILE, kind=HOSTILE) for one in part.claims)
    header = replace(part.header, reference=HOSTILE, official=HOSTILE, role=HOSTILE, matter="school-enrolment")
    return replace(part, header=header, claims=claims)


def test_no_text_from_elsewhere_becomes_more_than_text(proved: Proved) -> None:
    plain = Elements(make_page(sheet(proved, directory())))
    attacked = replace(proved, parts=tuple(map(hostile_part, proved.parts)))
    page = make_page(sheet(attacked, hostile(directory()), full=True, file=HOSTILE))
    found = Elements(page)
    assert "alert(1)" in found.text
    # The same elements with the same attributes, whatever the texts are.
    assert set(found.elements) == set(plain.elements)
    assert found.attributes == plain.attributes
    assert "\u202e" not in page
    assert "\u0007" not in page


def test_no_text_from_elsewhere_commands_a_terminal(proved: Proved) -> None:
    attacked = replace(proved, parts=tuple(map(hostile_part, proved.parts)))
    lines = words(attacked)
    assert any("alert(1)" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_page_runs_nothing_and_loads_nothing(proved: Proved) -> None:
    page = make_page(sheet(proved, directory()))
    found = Elements(page)
    assert not {"script", "img", "link", "iframe", "form", "object", "svg", "a"} & set(found.elements)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in {"src", "href"}]
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|https?://", page)


def sized(proved: Proved, claims: int, owners: int) -> Proved:
    """As if so many owners had answered so many claims."""
    part = proved.parts[0]
    each = [claims // owners + (number < claims % owners) for number in range(owners)]
    parts = tuple(replace(part, claims=tuple([part.claims[0]] * count)) for count in each)
    stamps = (Stamped(1_800_000_000.0, "CN=An authority with a long name,O=Another long name", 4711, "1.2.3"),) * 2
    since = RevokedSince(part.certificates[0], 1_800_000_000.0, Word.TIME_STAMP)
    return replace(proved, parts=parts, stamps=stamps, revoked_since=(since,), revocations_as_of=1_800_000_000.0)


@pytest.mark.parametrize(("claims", "owners", "sheets"), [
    (1, 1, 1),
    (CLAIMS_FIRST, LOGS_FIRST // 2, 1),
    (CLAIMS_FIRST + 1, 1, 2),
    (CLAIMS_FIRST + CLAIMS_MORE + 1, 1, 3),
    (8, LOGS_FIRST // 2 + 1, 3),
])  # fmt: skip
def test_what_is_many_goes_on_sheets_of_its_own(proved: Proved, claims: int, owners: int, sheets: int) -> None:
    page = make_page(sheet(sized(proved, claims, owners), directory()))
    assert page.count('class="sheet"') == sheets - 1
    assert page.count("是 YES") == claims


@pytest.mark.skipif(
    shutil.which("weasyprint") is None or shutil.which("pdfinfo") is None,
    reason="no headless renderer (Debian: weasyprint, poppler-utils, fonts-wqy-microhei)",
)
@pytest.mark.parametrize(("more", "sheets"), [(0, 1), (CLAIMS_MORE, 2)])
def test_a_sheet_is_one_side_of_a4(proved: Proved, tmp_path: Path, more: int, sheets: int) -> None:
    much = sized(proved, CLAIMS_FIRST + more, LOGS_FIRST // 2)
    (tmp_path / "page.html").write_text(make_page(sheet(much, directory(), full=True)))
    subprocess.run(["weasyprint", "-q", "page.html", "page.pdf"], cwd=tmp_path, check=True)  # noqa: S607 - whichever is installed
    told = subprocess.run(["pdfinfo", "page.pdf"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout  # noqa: S607 - the same
    assert re.search(r"Page size:\s+595.\d+ x 841.\d+ pts \(A4\)", told)
    assert f"Pages:           {sheets}\n" in told


def test_every_outcome_is_told_in_words(world: World) -> None:
    for outcome in (Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.DENIED_BY_HUB):
        receipt = receipt_about(
            world, Case((Subject("guardian", MOTHER),), ("guardian: hrss.insured exists",)), bytes([outcome])
        )
        text = Elements(make_page(sheet(prove(receipt, Trust(world.verifier)))))
        assert outcome.answer or outcome.reason
        assert {Outcome.YES: "是 YES", Outcome.NO: "否 NO", Outcome.UNKNOWN: "无法核实"}.get(
            outcome, "未答复"
        ) in text.text


# The command.


@pytest.fixture
def given(world: World, tmp_path: Path) -> Path:
    path = tmp_path / "case.json"
    write_receipt(path, receipt_about(world))
    return path


def run(world: World, given: Path, *options: str) -> Any:
    arguments = ["print", str(given), "--root", str(world.city.root), "--out", str(given.with_suffix(".html"))]
    return CliRunner().invoke(app, [*arguments, *options])


def test_the_command_writes_a_page_that_only_its_owner_reads_and_replaces_none(world: World, given: Path) -> None:
    done = run(world, given, "--json")
    assert done.exit_code == 0, done.output
    out = given.with_suffix(".html")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    said = json.loads(done.stdout)
    assert (said["file"], said["claims"], said["titles_of_directory"]) == (str(out), 3, None)
    assert said["sha256"] in out.read_text("utf-8")
    assert isinstance(run(world, given).exception, FileExistsError)


def test_a_receipt_that_does_not_hold_is_not_printed(world: World, given: Path) -> None:
    receipt = load_receipt(given)
    receipt.parts[0].claims[0].outcome = bytes([Outcome.NO]) + receipt.parts[0].claims[0].outcome[1:]
    given.unlink()
    write_receipt(given, receipt)
    done = run(world, given)
    assert done.exit_code == 1
    assert not given.with_suffix(".html").exists()


def test_with_a_profile_titles_come_from_its_directory(
    world: World, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = directory()
    monkeypatch.setattr(receipt_trust, "kept", lambda _host, _ca_pem: known)
    profile = given.with_name("edu.toml")
    profile.write_text(
        f'hub = ["localhost:1"]\nroot = "{world.city.root}"\nidentity = "{given.parent}"\nstate = "state"\n'
    )
    done = run(world, given, "--profile", str(profile))
    assert done.exit_code == 0, done.output
    assert known.matters["school-enrolment"].title.zh in given.with_suffix(".html").read_text("utf-8")


def test_roots_or_a_profile_must_be_named(given: Path) -> None:
    done = CliRunner().invoke(app, ["print", str(given), "--out", str(given.with_suffix(".html"))])
    assert done.exit_code == 2
