"""Mistakes of a mapping, by key and line, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_support import attribute, document, mapping_text
from adapters.mapping import has_bare_at, load_mapping
from zhiwang.wire.tomlfile import FileError

GOOD = """
[data.insured]
table = "person"
subject = "id_card"
loaded = "SELECT max(at) FROM load"

[attribute.months]
data = "insured"
value = "months"

[[probe]]
claim = "hrss.months at_least 12"
subject = "440399199001010011"
answer = "YES"
"""

PUBLISHED = attribute("months", 'type = "integer"\nat_least = [6, 12]\nmax_age = "45d"')


def findings(tmp_path: Path, text: str, published: str = PUBLISHED) -> list[str]:
    path = tmp_path / "mapping.toml"
    path.write_text(text, "utf-8")
    try:
        load_mapping(path, document(published))
    except FileError as error:
        return [f"{one.line} {one.key}: {one.message}" for one in error.findings]
    return []


def test_a_mapping_that_fits_its_document_is_taken(tmp_path: Path) -> None:
    assert findings(tmp_path, mapping_text(GOOD)) == []


def test_every_mistake_is_named_by_line_and_key_at_once(tmp_path: Path) -> None:
    text = mapping_text(GOOD).replace('value = "months"', 'value = "months"\ncolour = "red"')
    text = text.replace('loaded = "SELECT max(at) FROM load"', 'rows = "many"\nregion = { column = "r" }')
    found = findings(tmp_path, text)
    assert len(found) == 3
    assert [one.split()[1] for one in found] == [
        "data.insured.rows:",
        "data.insured.region.codes:",
        "attribute.months.colour:",
    ]
    lines = text.splitlines()
    assert "rows" in lines[int(found[0].split()[0]) - 1]
    assert "colour" in lines[int(found[2].split()[0]) - 1]


def test_two_attributes_of_one_name_are_refused(tmp_path: Path) -> None:
    text = mapping_text(GOOD) + '\n[attribute.months]\ndata = "insured"\nvalue = "x"\n'
    (found,) = findings(tmp_path, text)
    assert "TOML" in found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("mode=ro&", ""), "database.url: permits writing"),
        (
            ("sqlite:///file:data.db?mode=ro&uri=true", "postgresql+psycopg://reader:s3cr@t@db/x"),
            "database.url: has an @ too many: write @ : / in a password as %40 %3A %2F",
        ),
        (("sqlite:///file:data.db?mode=ro&uri=true", "mssql://x"), "database.url: mssql is not among"),
        (("sqlite:///file:data.db?mode=ro&uri=true", "oracle://x"), "database.url: oracle has never been tried"),
        (('table = "person"', 'table = "person; DROP TABLE x"'), "data.insured.table: must be the name"),
        (('table = "person"', 'table = "person"\nselect = "SELECT 1"'), "data.insured: needs either table or select"),
        (('table = "person"', 'select = "DELETE FROM person"'), "data.insured.select: must begin with SELECT"),
        (('value = "months"', 'value = "months) OR (1=1"'), "attribute.months.value: has brackets"),
        (('value = "months"', 'value = "months -- all"'), "attribute.months.value: must be one expression"),
        (('value = "months"', 'value = "months + :other"'), "attribute.months.value: :other is no parameter"),
        (('table = "person"', 'table = "__[POSTCOMPILE_x]"'), "data.insured: holds __[POSTCOMPILE_"),
        (('subject = "id_card"', 'subject = "__[POSTCOMPILE_x]"'), "data.insured: holds __[POSTCOMPILE_"),
        (('value = "months"', "value = '\"__[POSTCOMPILE_x]\"'"), "attribute.months: holds __[POSTCOMPILE_"),
        (('data = "insured"', 'data = "nowhere"'), "attribute.months.data: there is no data set nowhere"),
        (('value = "months"', ""), "attribute.months: is published for at_least and needs a value"),
        (
            ('value = "months"', 'valid = { from = "a", to = "b" }\nvalue = "months"'),
            "attribute.months.valid: an attribute has a value or an interval",
        ),
        (('loaded = "SELECT max(at) FROM load"', ""), "data.insured: needs loaded: months is published with a max_age"),
        (("hrss.months at_least 12", "police.months at_least 12"), "probe[0].claim: is about police"),
        (("hrss.months at_least 12", "hrss.years at_least 12"), "probe[0].claim: there is no attribute years"),
        (("hrss.months at_least 12", "hrss.months exists"), "probe[0].claim: months is not published for exists"),
        (("hrss.months at_least 12", "hrss.months at_least"), "probe[0].claim: "),
        (('department = "hrss"', 'department = "police"'), "department: the document is that of hrss"),
    ],
)
def test_a_mistake_is_found(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    text = mapping_text(GOOD)
    assert change[0] in text
    found = findings(tmp_path, text.replace(*change))
    assert any(expected in one for one in found), found


def test_what_is_mapped_must_be_published_and_the_reverse(tmp_path: Path) -> None:
    published = PUBLISHED.replace("months", "years")
    found = findings(tmp_path, mapping_text(GOOD), published)
    assert any("months: is mapped but not published" in one for one in found)
    assert any("years is published in the document but not mapped" in one for one in found)


def test_valid_needs_an_interval(tmp_path: Path) -> None:
    found = findings(tmp_path, mapping_text(GOOD), attribute("months", 'asks = ["valid"]'))
    assert any("is published for valid and needs an interval" in one for one in found)


def test_one_data_set_is_about_one_kind_of_subject(tmp_path: Path) -> None:
    text = mapping_text(GOOD) + '\n[attribute.firm]\ndata = "insured"\n'
    found = findings(tmp_path, text, PUBLISHED + attribute("firm", 'asks = ["exists"]', subject="entity"))
    assert any(
        "attribute.firm.data: is about a entity, but months of this data set about a person" in one for one in found
    )


def test_quotes_hide_what_looks_like_sql(tmp_path: Path) -> None:
    text = mapping_text(GOOD).replace('value = "months"', "value = \"CASE WHEN kind <> '--;(' THEN months END\"")
    assert findings(tmp_path, text) == []


def test_absence_needs_a_data_set_that_is_known_to_be_fresh(tmp_path: Path) -> None:
    published = attribute("months", 'type = "integer"\nat_least = [12]\nasks = ["absent"]\nmax_age = "45d"')
    assert findings(tmp_path, mapping_text(GOOD), published) == []
    for text, wrong in (
        (GOOD.replace('loaded = "SELECT max(at) FROM load"\n', ""), published),
        (GOOD, published.replace('\nmax_age = "45d"', "")),
    ):
        assert any(
            "attribute.months: is published for absent" in one for one in findings(tmp_path, mapping_text(text), wrong)
        )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://reader:s3cr@t@db.host/insurance",
        "postgresql+psycopg://reader:s3@cr/t@db.host/insurance",
        "mysql+pymysql://reader:s3@cr?t=@db.host/insurance",
        "mysql+pymysql://reader@corp:@@db.host/insurance",
    ],
)
def test_a_url_whose_password_would_be_taken_for_its_host_is_refused_unread(tmp_path: Path, url: str) -> None:
    text = mapping_text(GOOD).replace("sqlite:///file:data.db?mode=ro&uri=true", url)
    (found,) = findings(tmp_path, text)
    assert "as %40 %3A %2F" in found
    assert not any(part in found for part in ("s3", "cr@", "db.host"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://reader:s3cr%40t@db.host/insurance",
        "postgresql+psycopg://reader@corp:s3cret@db.host:5432/insurance",
        "mysql+pymysql://reader@db.host/insurance",
        "sqlite:////home/a:b@c@d/data.db",
    ],
)
def test_a_url_with_escaped_passwords_or_at_signs_elsewhere_is_taken(url: str) -> None:
    assert not has_bare_at(url)
