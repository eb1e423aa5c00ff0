from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator

from zhiwang.wire.tomlfile import MAX_FILE, FileError, Finding, StrictModel, as_findings, load
from zhiwang.wire.tomllines import Key, key_lines


class Grant(StrictModel):
    id: str
    level: Literal["city", "district"] = "city"
    not_after: date | None = None


class Slot(StrictModel):
    kind: str
    up_to: Annotated[int, Field(ge=1, le=16)] = 1


class Document(StrictModel):
    department: str
    at_least: tuple[int, ...] = ()
    slots: dict[str, str | Slot] = Field(default_factory=dict)
    grant: tuple[Grant, ...] = ()

    @field_validator("department")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "nobody":
            raise ValueError("is the name of nobody")
        return value


GOOD = b"""
department = "hrss"
at_least = [6, 12]
[slots]
child = "person"
guardian = { kind = "person", up_to = 2 }
[[grant]]
id = "one"
[[grant]]
id = "two"
not_after = 2027-03-01
"""

BAD = b"""departmnt = "hrss"
at_least = [
  6,
  "12",
]
[slots]
guardian = { kind = "person", up_to = 20 }
child = 7
[[grant]]
id = "one"
[[grant]]
level = "street"
not_after = "2027-03-01"
"""


def findings(source: bytes | Path, model: type[StrictModel] = Document) -> list[str]:
    with pytest.raises(FileError) as refused:
        load(source, model, name="" if isinstance(source, Path) else "d.toml")
    # The model's error would hold the values.
    assert not isinstance(refused.value.__context__, ValidationError)
    assert str(refused.value) == "\n".join(map(str, refused.value.findings))
    return [str(finding) for finding in refused.value.findings]


def test_a_good_file_is_read(tmp_path: Path) -> None:
    document = load(GOOD, Document)
    assert document.at_least == (6, 12)
    assert document.slots == {"child": "person", "guardian": Slot(kind="person", up_to=2)}
    assert [grant.not_after for grant in document.grant] == [None, date(2027, 3, 1)]
    path = tmp_path / "d.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"))
    assert load(path, Document) == document


def test_a_key_that_belongs_elsewhere_is_not_proposed_in_its_own_place() -> None:
    (told,) = findings(GOOD.replace(b"[slots]", b"level = 'city'\n[slots]"))
    assert told.endswith("level: is not a key that stands here")


def test_every_mistake_is_named_by_line_and_key_at_once() -> None:
    assert findings(BAD) == [
        "d.toml:1: department: is missing",
        "d.toml:1: departmnt: is not a key; did you mean department?",
        "d.toml:4: at_least[1]: must be a whole number",
        "d.toml:7: slots.guardian.up_to: must be at most 16",
        "d.toml:8: slots.child: must be a text, or must be a table",
        "d.toml:11: grant[1].id: is missing",
        "d.toml:12: grant[1].level: must be 'city' or 'district'",
        "d.toml:13: grant[1].not_after: must be a date, as 2026-03-01 without quotes",
    ]


def test_what_a_validator_says_is_said() -> None:
    assert findings(b'department = "nobody"') == ["d.toml:1: department: is the name of nobody"]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (b"a = 1\nb = \n", "d.toml:2: is not TOML: Invalid value (column 5)"),
        (b"a = 1\na = 2\n", "d.toml:2: is not TOML: Cannot overwrite a value (column 6)"),
        (b'a = "x', "d.toml:1: is not TOML: Unterminated string (at end of document)"),
        (b"a = 1\n\xff", "d.toml:2: is not UTF-8"),
        (b"a = " + b"[" * 50_000, "d.toml:1: is nested too deeply"),
        (b"#" * (MAX_FILE + 1), f"d.toml: is longer than {MAX_FILE} bytes"),
    ],
)
def test_what_is_not_toml_is_a_finding_too(text: bytes, finding: str) -> None:
    found = findings(text)
    assert len(found) == 1
    assert found[0].startswith(finding.split(" (at", maxsplit=1)[0])


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_document_or_findings(data: bytes) -> None:
    try:
        document = load(data, Document)
    except FileError as error:
        found = error.findings
    else:
        found = (Finding("", 1, "", document.department),)
    assert found


def test_a_file_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    assert findings(tmp_path / "none.toml") == [f"{tmp_path / 'none.toml'}: No such file or directory"]


def test_values_are_not_repeated() -> None:
    secret = "440399199001010018"
    text = f'department = ["{secret}"]\nat_least = ["{secret}"]\n[[grant]]\nid = "x"\nlevel = "{secret}"'
    assert secret not in "".join(findings(text.encode()))


def test_callers_own_mistakes_get_lines() -> None:
    found = as_findings(GOOD, [(("grant", 1, "id"), "stands twice"), (("grant", 0, "role"), "is missing")], name="d")
    assert found == [Finding("d", 7, "grant[0].role", "is missing"), Finding("d", 10, "grant[1].id", "stands twice")]


EXAMPLE = r'''# not.a = "key"
a.b."c d" = 1
x = { y = 1, z = { w = [1, 2] } }
long = """
[not.a.table]
no = "key" ""\""""" # comment
list = [
  1, # ]
  { k = "v]", 'l' = 2 },
  [3,
   4],
]
[t]
u = 1979-05-27 07:32:00
[[g]]
id = 1
[g.sub]
v = '#'
[[g]]
id = 2
  [[g.inner]]
  q = \'\'\'
[no]\'\'\'\'
  [[g.inner]]
  q = 1
["q\u0041.x"]
r = true
'''.replace("\\'", "'")


def test_lines_of_a_file_with_everything_in_it() -> None:
    lines = key_lines(EXAMPLE)
    expected: dict[Key, int] = {
        ("a", "b", "c d"): 2,
        ("x", "z", "w", 1): 3,
        ("long",): 4,
        ("list",): 7,
        ("list", 0): 8,
        ("list", 1, "l"): 9,
        ("list", 2, 1): 11,
        ("t", "u"): 14,
        ("g", 0, "id"): 16,
        ("g", 0, "sub", "v"): 18,
        ("g", 1, "id"): 20,
        ("g", 1, "inner", 0, "q"): 22,
        ("g", 1, "inner", 1, "q"): 25,
        ("qA.x", "r"): 27,
    }
    assert {key: lines.get(key) for key in expected} == expected


def test_every_key_that_tomllib_reads_has_its_line() -> None:
    lines = key_lines(EXAMPLE)
    for path in _paths(tomllib.loads(EXAMPLE)):
        assert path in lines
    assert len(lines) == len(list(_paths(tomllib.loads(EXAMPLE))))


def _paths(data: Any, path: Key = ()) -> Any:
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from _paths(value, (*path, key))


KEYS = st.text("ab\"'.é \\", min_size=1, max_size=3)
VALUES = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_every_key_of_any_file_has_the_line_on_which_it_was_written(data: dict[str, Any]) -> None:
    text = ""
    expected: dict[Key, int] = {}
    for number, (key, value) in enumerate(data.items(), 1):
        text += f"{_quoted(key)} = {_written(value)}\n"
        expected[key,] = number
        expected |= dict.fromkeys(_paths(value, (key,)), number)
    assert tomllib.loads(text) == data
    assert key_lines(text) == expected


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08X}" if c in '"\\' or not c.isprintable() else c for c in text) + '"'


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)} = {_written(item)}" for key, item in value.items()) + "}"
    return str(value)
