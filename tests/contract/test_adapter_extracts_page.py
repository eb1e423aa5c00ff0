"""docs/extracts.md: its mapping is checked and asked over files such as it describes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from openpyxl import Workbook
from typer.testing import CliRunner

from adapter_drivers import write_csv
from adapter_support import ANNA, BO, CHEN, NOW, SCHEMES, Owner, attribute
from adapters.check import inspect
from adapters.cli import app
from adapters.extracts import Extracts
from adapters.mapping import Mapping
from zhiwang.wire.records import Outcome

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN
PAGE = Path(__file__).parents[2] / "docs" / "extracts.md"

PUBLISHED = attribute("pension_months", 'type = "integer"\nat_least = [6, 12]\nmax_age = "3d"') + attribute(
    "contract", 'asks = ["valid", "absent"]\nmax_age = "3d"'
)


def page_mapping() -> str:
    found = re.search(r"```toml\n(department.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    # The files of a test need not stand still before anybody believes that they are complete.
    return re.sub(r"(\[file\.\w+\]\n)", r"\1settle = 0\n", found[1])


def write_files(directory: Path) -> Path:
    directory.mkdir()
    person = write_csv(
        directory / "person_20260920.csv",
        [
            ("身份证号", "姓名", "性别", "区划代码", "累计月数(养老)"),
            (f"\t{ANNA}", "安娜", "女", "440306001", 24),
            (f"\t{BO}", "𠮷", "男", "440305", 3),
        ],
        encoding="gb18030",
    )
    book = Workbook()
    page = book.active
    assert page is not None
    page.title = "合同"
    page.append(["2026 年合同", None, None])
    page.merge_cells("A1:C1")
    page.append(["id_card", "begins", "ends"])
    page.append([ANNA, date(2026, 1, 1), None])
    page.append([BO, date(2024, 1, 1), date(2025, 1, 1)])
    page.append([CHEN, date(2026, 1, 1), None])
    book.create_sheet("说明")
    book.save(directory / "contracts.xlsx")
    for path in directory.iterdir():
        os.utime(path, (NOW - 86400, NOW - 86400))
    digest = hashlib.sha256(person.read_bytes()).hexdigest()
    (directory / "person_20260920.csv.sha256").write_text(f"{digest}  {person.name}\n", "ascii")
    return person


class FilesOwner(Owner):
    """An owner as the page describes it."""

    def lay_out(self, *_given: object) -> str:
        write_files(self.directory / "extracts")
        return page_mapping()

    def opened(self, mapping: Mapping) -> Mapping:
        return Extracts(self.directory / "private", lambda: NOW).begin(mapping, self.mapping_path)[0]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    owner = FilesOwner(tmp_path, tables="", rows={}, mapping="", published=PUBLISHED)
    yield owner
    owner.close()


def test_the_pages_mapping_answers_from_such_files(owner: Owner) -> None:
    assert owner.ask("pension_months at_least", ANNA, BO, CHEN, value="12", name=None) == [YES, NO, UNKNOWN]
    assert owner.ask("pension_months at_least", BO, value="6", name="𠮷") == [NO]
    assert owner.ask("contract valid", ANNA, BO, CHEN) == [YES, NO, UNKNOWN]
    assert owner.ask("contract absent", ANNA, CHEN) == [NO, YES]


def test_check_holds_over_files_and_leaves_none(tmp_path: Path) -> None:
    write_files(tmp_path / "extracts")
    (tmp_path / "mapping.toml").write_text(page_mapping(), "utf-8")
    head = 'department = "hrss"\ntitle = { zh = "部门", en = "Department" }\n'
    (tmp_path / "document.toml").write_text(head + PUBLISHED, "utf-8")
    _, report = inspect(tmp_path / "mapping.toml", tmp_path / "document.toml", SCHEMES, clock=lambda: NOW)
    assert report.findings == []
    assert {finding.key for finding in report.warnings} <= {"probe", "data.contract.select", "data.contract.subject"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["document.toml", "extracts", "mapping.toml"]
    wrong = page_mapping().replace('value = "months"', 'value = "weeks"')
    (tmp_path / "mapping.toml").write_text(wrong, "utf-8")
    _, report = inspect(tmp_path / "mapping.toml", tmp_path / "document.toml", SCHEMES, clock=lambda: NOW)
    assert [(one.key, "no such column: weeks" in one.message) for one in report.findings] == [
        ("attribute.pension_months.value", True)
    ]


def test_check_names_a_bad_file_by_row_and_line_of_the_mapping_and_by_no_value(tmp_path: Path) -> None:
    person = write_files(tmp_path / "extracts")
    person.write_text(person.read_text("gb18030").replace("\t", "").replace(BO, "4.40399E+17"), "gb18030")
    (tmp_path / "extracts" / f"{person.name}.sha256").write_text(
        hashlib.sha256(person.read_bytes()).hexdigest(), "ascii"
    )
    text = page_mapping()
    (tmp_path / "mapping.toml").write_text(text, "utf-8")
    head = 'department = "hrss"\ntitle = { zh = "部门", en = "Department" }\n'
    (tmp_path / "document.toml").write_text(head + PUBLISHED, "utf-8")
    result = CliRunner().invoke(
        app, ["check", str(tmp_path / "mapping.toml"), str(tmp_path / "document.toml"), "--json"]
    )
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["key"], text.splitlines()[finding["line"] - 1]) == ("file.person", "[file.person]")
    assert "person_20260920.csv: row 3, column id_card: is a number with an exponent" in finding["message"]
    for secret in ("4.40399", ANNA, "安娜", "𠮷"):
        assert secret not in result.output
