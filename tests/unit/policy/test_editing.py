"""Documents changed as text: what was asked for changes, and nothing else, to the byte."""

from __future__ import annotations

import tomllib
from datetime import date
from difflib import ndiff
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import policy_support as support
from policy.document import parse_document
from policy.editing import Edit, How, edit, edited, lifted, parse_edit
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.tomllines import key_lines, statements

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "documents").glob("*.toml"))
COMMENTED = """\
# 本局的文件 The document of hrss.

department = "hrss"   # the name
title = { zh = "人社局", en = "Labour" }
system.counter.roles = ["clerk"]  # at the counter

# Pensions, see the ordinance.
[attribute.insured]
title.zh = "是否参保？"
title.en = "Insured?"
subject = 'person'
asks = ["exists"]

# Until the lease of 2027.
[[grant]]
id = "first"
role = "edu/clerk"
ask = "hrss.insured exists"
matter = "school"
# because the basis ends
not_after = 2027-03-01
# place = "nbs:440306"

# For the card.
[[grant]]
id = "a.b"
role = "edu/clerk"
ask = "hrss.insured exists"
matter = "card"
# the last line, without an end"""


def change(how: str, text: str) -> Edit:
    return parse_edit(How(how), text)


def lines_that_differ(before: str, after: str) -> list[str]:
    return [line for line in ndiff(before.splitlines(), after.splitlines()) if line[:1] in "+-"]


def test_a_value_is_replaced_and_its_comment_stays() -> None:
    after = edited(COMMENTED.encode(), [change("set", "title.en=Labour and Social Security")]).decode()
    assert lines_that_differ(COMMENTED, after) == [
        '- title = { zh = "人社局", en = "Labour" }',
        '+ title = { zh = "人社局", en = "Labour and Social Security" }',
    ]
    after = edited(COMMENTED.encode(), [change("add", "system.counter.roles=lead")]).decode()
    assert '+ system.counter.roles = ["clerk", "lead"]  # at the counter' in lines_that_differ(COMMENTED, after)


def test_what_is_removed_takes_the_comment_above_it_along_and_no_other() -> None:
    after = edited(COMMENTED.encode(), [change("remove", "grant.first")]).decode()
    gone = COMMENTED[COMMENTED.index("# Until the lease") : COMMENTED.index("# For the card.")]
    assert after == COMMENTED.replace(gone, "")
    after = edited(COMMENTED.encode(), [change("remove", "grant.first.not_after")]).decode()
    assert lines_that_differ(COMMENTED, after) == ["- # because the basis ends", "- not_after = 2027-03-01"]
    after = edited(COMMENTED.encode(), [change("remove", "attribute.insured.title")]).decode()
    assert lines_that_differ(COMMENTED, after) == ['- title.zh = "是否参保？"', '- title.en = "Insured?"']


def test_a_grant_whose_name_has_a_dot_is_named_in_quotes() -> None:
    after = edited(COMMENTED.encode(), [change("set", 'grant."a.b".matter=school')])
    assert parse_document(after).grants[1].matter == "school"


def test_new_items_stand_behind_those_of_their_kind() -> None:
    after = edited(
        COMMENTED.encode(),
        [
            change("set", "grant.new.ask=hrss.insured exists"),
            change("set", "grant.new.role=edu/clerk"),
            change("set", "grant.new.matter=points"),
            change("set", 'attribute.old={title={zh="旧", en="Old"}, subject="person", asks=["exists"]}'),
            change("set", 'system.desk.roles=["clerk"]'),
            change("add", 'assert={deny="hrss.insured exists", role="edu/clerk", matter="x", place="nbs:440306"}'),
            change("set", 'suites=["zhiwang-1"]'),
        ],
    ).decode()
    order = [
        "system.counter",
        "system.desk",
        "suites",
        "[attribute.insured]",
        "[attribute.old]",
        '"first"',
        '"a.b"',
        "# the last line",
        'id = "new"',
        "[[assert]]",
    ]
    assert [after.index(part) for part in order] == sorted(after.index(part) for part in order)
    document = parse_document(after.encode())
    assert [grant.id for grant in document.grants] == ["first", "a.b", "new"]
    assert len(document.assertions) == 1
    assert set(document.roles) == {"counter", "desk"}


def test_thresholds_rise_wherever_one_is_added() -> None:
    document = parse_document(edited(support.HRSS.encode(), [change("add", "attribute.pension_months.at_least=9")]))
    assert document.attributes["pension_months"].at_least == ("6", "9", "12", "18", "24")


def test_one_place_becomes_a_list_when_another_is_added() -> None:
    after = edited(support.HRSS.encode(), [change("add", "grant.enrolment-insured.place=nbs:440305")])
    assert 'place = ["nbs:440306", "nbs:440305"]' in after.decode()


def test_an_emergency_is_prepared_and_changed_by_its_id() -> None:
    asks = 'asks=["hrss.insured exists"]'
    flood = f'title={{zh="水灾", en="Flood"}}, role="edu/clerk", {asks}, matter="school", hours=4, admins=["hrss"]'
    made = edited(support.HRSS.encode(), [change("set", f"emergency.flood={{{flood}}}")])
    assert parse_document(edited(made, [change("set", "emergency.flood.hours=6")])).emergencies[0].hours == 6
    assert edited(made, [change("remove", "emergency.flood")]) == support.HRSS.encode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=2027-03-01", date(2027, 3, 1)),
        ("a=edu/clerk", "edu/clerk"),
        ('a="12"', "12"),
        ("a=12", 12),
        ("a = nbs:440306", "nbs:440306"),
        ('a=["x", "y"]', ["x", "y"]),
        ("a=1 # no comment", "1 # no comment"),
        ("a=1, 2", "1, 2"),
        ("a=x = y", "x = y"),
        ("a=1]\nb=[2", "1]\nb=[2"),
        ('a="1"\nb="2"', '"1"\nb="2"'),
        ("a=", ""),
    ],
)
def test_a_value_is_toml_or_else_a_text_and_never_two_things(text: str, value: object) -> None:
    parsed = change("set", text)
    assert (parsed.key, parsed.value) == (("a",), value)
    assert tomllib.loads(f"a = {parsed.literal}") == {"a": value}


@pytest.mark.parametrize("value", ["[" * 5000, "[" * 5000 + "]" * 5000, "{x=" * 5000 + "1" + "}" * 5000])
def test_a_value_that_is_nested_too_deeply_for_toml_is_a_text(value: str) -> None:
    assert change("set", f"a={value}").value == value


@pytest.mark.parametrize("text", ["", "=x", "a", "a b=c", ".=x", "[0]=x", "a[x]=1", 'a.""=1'])
def test_what_is_no_edit_is_refused_with_how_one_is_written(text: str) -> None:
    with pytest.raises(RefusedError, match="KEY=VALUE"):
        change("set", text)


@pytest.mark.parametrize(
    ("how", "text", "says"),
    [
        ("remove", "grant.none", "no grant none"),
        ("remove", "attribute.none", "there is no attribute.none"),
        ("remove", "system.counter.roles=none", "none of it"),
        ("remove", 'grant={role="edu/enrolment-clerk"}', "2 of it"),
        ("add", "system.counter.roles=clerk", "already"),
        ("add", "assert=x", "add a table"),
        ("add", 'grant={role="x"}', "each grant has an id"),
        ("set", "assert[7].place=x", "nothing that could have such a key"),
        ("set", "department.name=x", "nothing that could have such a key"),
        ("set", "grant.new={}", "which keys"),
    ],
)
def test_an_edit_that_has_no_object_is_refused(how: str, text: str, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        edited(support.HRSS.encode(), [change(how, text)])


@pytest.mark.parametrize("content", [b"\xff", b"a = ", b"a = 1\r\nb = 2\n", b"a = 2027-99-99"])
def test_a_file_that_cannot_be_edited_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedError):
        edited(content, [change("set", "a=1")])


def test_an_array_of_grants_on_one_line_is_edited_too_or_refused_and_never_spoilt() -> None:
    content = b'department = "hrss"\ngrant = [{ id = "x", role = "a/b" }, { id = "y" }]\n'
    after = edited(content, [change("set", "grant.x.role=c/d"), change("remove", "grant.y")])
    assert tomllib.loads(after.decode())["grant"] == [{"id": "x", "role": "c/d"}]
    with pytest.raises(RefusedError, match="by hand"):
        edited(content, [change("set", "grant.z.role=c/d")])


def test_several_elements_are_removed_by_the_numbers_that_they_had() -> None:
    four = support.HRSS + "".join(
        f'\n[[assert]]\ndeny = "hrss.insured exists"\nrole = "edu/r{number}"\nmatter = "m"\nplace = "nbs:4403"\n'
        for number in range(1, 4)
    )
    after = edited(four.encode(), [change("remove", "assert[0]"), change("remove", "assert[2]")])
    assert [one.role for one in parse_document(after).assertions] == ["edu/r1", "edu/r3"]


def test_lifting_twice_says_it_once() -> None:
    once = lifted(support.HRSS.encode(), ["x", "x"])
    assert lifted(once, ["x"]) == once
    assert parse_document(lifted(once, ["y"])).lifted == {"x", "y"}


# Properties ----------------------------------------------------------------------------------------------------------

_comments = st.sampled_from(["", "", "# 说明 why\n", "\n# apart\n\n", "# [[grant]] of old\n", "\n\n"])
_remarks = st.sampled_from(["", "", "  # = [ { 说明"])


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Documents in the many ways in which people write them; each of them is sound."""

    def pairs(*given: str) -> str:
        return "".join(
            f"{draw(_comments)}{pair}{draw(_remarks)}\n" for pair in draw(st.permutations(given)) if pair != ""
        )

    def maybe(*values: str) -> str:
        return draw(st.sampled_from(["", *values]))

    title = draw(
        st.sampled_from(
            ['title = { zh = "标题", en = "T" }', 'title.zh = "标题"\ntitle.en = "T"', "title={zh='a',en='b'}"]
        )
    )
    systems = "\n".join(f'system.s{n}.roles = ["a", "b"]' for n in range(draw(st.integers(0, 2))))
    head = pairs('department = "hrss"', title, systems, maybe('lifted = ["x-1"]'))
    parts = []
    if not systems and draw(st.booleans()):
        parts += [f'[system.s{n}]\nroles = [\n  "a",\n  "b",\n]\n' for n in range(2)]
    names = [f"a{n}" for n in range(draw(st.integers(1, 3)))]
    parts += [
        f"[attribute.{name}]\n"
        + pairs(title, 'subject = "person"', 'type = "integer"', "at_least = [6, 12]", maybe('max_age = "45d"'))
        for name in names
    ]
    parts += [
        "[[grant]]\n"
        + pairs(
            f'id = "g{n}"',
            'role = "edu/clerk"',
            f'ask = "hrss.{draw(st.sampled_from(names))} at_least"',
            'matter = "school"',
            maybe('place = "@self"', 'place = ["nbs:440306", "nbs:440305"]'),
            maybe("not_after = 2027-03-01"),
        )
        for n in range(draw(st.integers(0, 3)))
    ]
    parts += [
        "[[assert]]\n" + pairs('deny = "hrss.a0 at_least"', f'role = "edu/r{n}"', 'matter = "m"', 'place = "nbs:4403"')
        for n in range(draw(st.integers(0, 2)))
    ]
    text = head + "".join(draw(_comments) + part for part in parts) + draw(_comments)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return (draw(st.sampled_from(["", "", "\ufeff"])) + text).encode()


def plain(content: bytes) -> dict[str, Any]:
    return tomllib.loads(content.decode("utf-8-sig"))


@settings(max_examples=40, deadline=None)
@given(documents())
def test_what_is_added_and_taken_back_leaves_the_same_bytes(content: bytes) -> None:
    data = plain(content)
    grant = [edit(How.SET, ("grant", "new", key), value) for key, value in (("role", "a/b"), ("matter", "m"))]
    undone: list[tuple[list[Edit], list[Edit]]] = [
        (grant, [change("remove", "grant.new")]),
        ([change("set", 'system.new.roles=["x"]')], [change("remove", "system.new")]),
        ([change("set", "attribute.new.subject=person")], [change("remove", "attribute.new")]),
        ([change("add", 'assert={matter="new", role="a/b"}')], [change("remove", 'assert={matter="new"}')]),
        ([change("set", "attribute.a0.sensitivity=4")], [change("remove", "attribute.a0.sensitivity")]),
        ([change("add", "attribute.a0.at_least=9")], [change("remove", "attribute.a0.at_least=9")]),
        ([change("set", 'suites=["x"]')], [change("remove", "suites")]),
        ([change("set", "attribute.a0.type=date")], [change("set", 'attribute.a0.type="integer"')]),
        ([change("set", "department=edu")], [change("set", 'department="hrss"')]),
    ]
    if data.get("grant"):
        undone.append(([change("set", "grant.g0.level=city")], [change("remove", "grant.g0.level")]))
    if data.get("system"):
        undone.append(([change("add", "system.s0.roles=c")], [change("remove", "system.s0.roles=c")]))
    for there, back in undone:
        changed = edited(content, there)
        assert changed != content
        assert edited(changed, back) == content
    together = [one for there, _ in undone[:7] for one in there]
    assert edited(edited(content, together), [one for _, back in undone[:7] for one in back]) == content


@settings(max_examples=40, deadline=None)
@given(documents(), st.data())
def test_what_is_taken_away_is_gone_and_everything_else_says_what_it_said(content: bytes, data: st.DataObject) -> None:
    before = plain(content)
    ids = [grant["id"] for grant in before.get("grant", [])]
    gone = set(data.draw(st.lists(st.sampled_from(ids), unique=True))) if ids else set()
    if not gone:
        return
    after = edited(content, [Edit(How.REMOVE, ("grant", name)) for name in gone])
    kept = [grant for grant in before["grant"] if grant["id"] not in gone]
    assert plain(after).get("grant", []) == kept
    assert {**plain(after), "grant": None} == {**before, "grant": None}
    assert len(parse_document(after).grants) == len(kept)
    # Each line that is left stood there before, in that order.
    lines = iter(content.decode().rstrip("\r\n").splitlines())
    assert all(line in lines for line in after.decode().rstrip("\r\n").splitlines())


@settings(max_examples=40, deadline=None)
@given(documents())
def test_a_document_that_is_parsed_written_and_parsed_says_the_same(content: bytes) -> None:
    parsed = parse_document(content)
    assert edited(content, []) == content
    # Each of its values set to what it is: the bytes may be spelt otherwise, what they say may not.
    text = content.decode("utf-8-sig").replace("\r\n", "\n")
    edits = []
    for found in statements(text):
        if not found.header:
            value: Any = plain(content)
            for part in found.path:
                value = value[part]
            edits.append(edit(How.SET, found.path, value))
    written = edited(content, edits)
    assert parse_document(written) == parsed
    assert edited(written, edits) == written


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_published_examples_can_be_changed_and_changed_back(path: Path) -> None:
    content = path.read_bytes()
    there = [change("set", "grant.new.role=a/b"), change("set", "system.new.roles=[]"), change("set", "suites=[]")]
    back = [change("remove", "grant.new"), change("remove", "system.new"), change("remove", "suites")]
    assert edited(edited(content, there), back) == content


@settings(max_examples=40, deadline=None)
@given(documents())
def test_statements_are_where_the_keys_are(content: bytes) -> None:
    text = content.decode("utf-8-sig").replace("\r\n", "\n")
    lines = key_lines(text)
    for found in statements(text):
        assert text.count("\n", 0, found.start) + 1 >= lines[found.path]
        if not found.header:
            value: Any = plain(content)
            for part in found.path:
                value = value[part]
            assert tomllib.loads(f"v = {text[found.value : found.end]}")["v"] == value
