"""Documents, matters and the centre's file: what they mean, and that every mistake is named by key and line at once."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import policy_support as support
from policy.authorise import follows
from policy.centre import parse_centre, parse_matter
from policy.document import canonical_decimal, parse_document, parse_suspensions
from policy.shapes import DEFAULT_OFFICIAL, DEFAULT_REFERENCE
from zhiwang.wire.claims import Predicate
from zhiwang.wire.places import Level
from zhiwang.wire.tomlfile import FileError

MARCH = 1772294400  # 2026-03-01 00:00 +08:00


def findings(error: pytest.ExceptionInfo[FileError]) -> dict[str, str]:
    return {finding.key: finding.message for finding in error.value.findings}


def document(text: str) -> str:
    return f'department = "hrss"\ntitle = {{ zh = "局", en = "Bureau" }}\n{text}'


ATTRIBUTE = """
[attribute.months]
title = { zh = "?", en = "?" }
subject = "person"
type = "integer"
at_least = [6, 12]
"""


def grant(**changed: str) -> str:
    keys = {
        "id": '"g"',
        "role": '"edu/clerk"',
        "ask": '"hrss.months at_least"',
        "matter": '"school"',
    } | changed
    return "[[grant]]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items()) + "\n"


def test_the_example_document_says_what_it_should() -> None:
    found = parse_document(support.HRSS.encode(), version=7)
    attribute = found.attributes["pension_months"]
    assert found.version == 7
    assert found.roles == {"counter": frozenset({"hrss/clerk"})}
    assert found.suites == ("zhiwang-1",)
    assert attribute.predicates == {Predicate.AT_LEAST}
    assert attribute.cells(Predicate.AT_LEAST) == ("6", "12", "18", "24")
    assert attribute.max_age == 45 * 86400
    assert [grant.id for grant in found.grants] == ["enrolment-pension", "enrolment-insured"]
    assert found.grants[0].places == ()
    assert found.grants[0].level is Level.DISTRICT
    assert [str(place) for place in found.grants[1].places] == ["nbs:440306"]
    assert not found.assertions[0].allow


def test_days_begin_at_midnight_in_china_and_the_end_is_exclusive() -> None:
    found = parse_document(document(ATTRIBUTE + grant(not_before="2026-03-01", not_after="2026-03-02")).encode())
    assert (found.grants[0].not_before, found.grants[0].not_after) == (MARCH, MARCH + 86400)


def test_a_document_that_names_anothers_attribute_is_refused_by_line() -> None:
    text = document(ATTRIBUTE + grant(ask='"police.age at_least"'))
    with pytest.raises(FileError) as error:
        parse_document(text.encode())
    (finding,) = error.value.findings
    assert finding.key == "grant[0].ask"
    assert text.splitlines()[finding.line - 1].startswith("ask =")
    assert "police.age is not hrss's" in finding.message


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "document.toml"
    path.write_text(
        document(
            ATTRIBUTE.replace("[6, 12]", "[12, 6]")
            + grant()
            + grant(ask='"hrss.years at_least"')
            + grant(id='"h"', ask='"hrss.months exists"')
            + grant(id='"i"', not_before="2026-03-02", not_after="2026-03-01")
            + grant(id='"j"', sensitivity="[4, 2]")
        ),
        "utf-8",
    )
    with pytest.raises(FileError) as error:
        parse_document(path)
    assert set(findings(error)) == {
        "attribute.months.at_least",
        "grant[1].ask",
        "grant[1].id",
        "grant[2].ask",
        "grant[3].not_after",
        "grant[4].sensitivity",
    }
    assert all(finding.line > 2 and finding.file == str(path) for finding in error.value.findings)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("extra = 1", "extra"),
        ('system.a.roles = ["x", "x"]', "system.a.roles"),
        ("system.a.role = []", "system.a.role"),
        (ATTRIBUTE + "sensitivity = 6", "attribute.months.sensitivity"),
        (ATTRIBUTE + 'sensitivity = "2"', "attribute.months.sensitivity"),
        (ATTRIBUTE + 'max_age = "45 days"', "attribute.months.max_age"),
        (ATTRIBUTE + "dates = []", "attribute.months.dates"),
        (ATTRIBUTE + 'asks = ["equal"]', "attribute.months.asks[0]"),
        (ATTRIBUTE + 'asks = ["exists", "exists"]', "attribute.months.asks"),
        (ATTRIBUTE + 'asks = ["related"]', "attribute.months.type"),
        (ATTRIBUTE + 'asks = ["report"]', "attribute.months"),
        (ATTRIBUTE.replace("[6, 12]", "[6.5]"), "attribute.months.at_least"),
        (ATTRIBUTE.replace("[6, 12]", '["6"]'), "attribute.months.at_least"),
        (ATTRIBUTE.replace("[6, 12]", "[true]"), "attribute.months.at_least"),
        (ATTRIBUTE.replace("[6, 12]", "[6, 6]"), "attribute.months.at_least"),
        (ATTRIBUTE.replace("[6, 12]", "[]"), "attribute.months"),
        (ATTRIBUTE.replace('"integer"', '"text"'), "attribute.months.at_least"),
        (ATTRIBUTE.replace('type = "integer"\n', ""), "attribute.months.at_least"),
        (ATTRIBUTE + grant(role='"clerk"'), "grant[0].role"),
        (ATTRIBUTE + grant(place='"Shenzhen"'), "grant[0].place"),
        (ATTRIBUTE + grant(place="[]"), "grant[0].place"),
        (ATTRIBUTE + grant(place='["@self"]'), "grant[0].place"),
        (ATTRIBUTE + grant(level='"DISTRICT"'), "grant[0].level"),
        (ATTRIBUTE + grant(level='"province"'), "grant[0].level"),
        (ATTRIBUTE + grant(assurance='"sworn"'), "grant[0].assurance"),
        (ATTRIBUTE + grant(not_before="2026-03-01T00:00:00Z"), "grant[0].not_before"),
        (ATTRIBUTE + grant(ask='"hrss.months at_least 12"'), "grant[0].ask"),
        (ATTRIBUTE + grant(eft='"allow"'), "grant[0].eft"),
        (ATTRIBUTE + grant(id='"a\\nb"'), "grant[0].id"),
        (
            ATTRIBUTE + '[[assert]]\nrole = "edu/clerk"\nmatter = "school"\nplace = "nbs:4403"\n',
            "assert[0]",
        ),
        (
            ATTRIBUTE
            + '[[assert]]\nallow = "hrss.months at_least"\ndeny = "hrss.months at_least"\n'
            + 'role = "edu/clerk"\nmatter = "school"\nplace = "nbs:4403"\n',
            "assert[0]",
        ),
    ],
)
def test_a_mistake_in_a_document_is_named_by_its_key(text: str, key: str) -> None:
    with pytest.raises(FileError) as error:
        parse_document(document(text).encode())
    assert key in findings(error), error.value.findings


def test_cells_are_canonical_text() -> None:
    text = ATTRIBUTE.replace('"integer"', '"decimal"').replace("[6, 12]", '[0.5, "1.50", 2, 1000000.0]')
    assert parse_document(document(text).encode()).attributes["months"].at_least == ("0.5", "1.5", "2", "1000000")
    text = ATTRIBUTE.replace('"integer"', '"date"').replace("[6, 12]", "[2025-09-01, 2026-09-01]")
    assert parse_document(document(text).encode()).attributes["months"].at_least == ("2025-09-01", "2026-09-01")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_canonical_decimals_keep_their_value(number: object) -> None:
    from decimal import Decimal  # noqa: PLC0415 # only here

    text = canonical_decimal(Decimal(str(number)))
    assert Decimal(text) == Decimal(str(number))
    assert "E" not in text
    assert not text.endswith(".")
    assert canonical_decimal(Decimal(text)) == text


@given(st.text(max_size=300))
def test_no_text_crashes_the_parsers(text: str) -> None:
    for parse in (parse_document, parse_matter, parse_centre, parse_suspensions):
        with pytest.raises(FileError):
            parse(text.encode("utf-8", "surrogatepass"))


# Suspensions


def test_a_suspension_names_what_it_denies() -> None:
    department, entries = parse_suspensions(
        b'department = "edu"\n[[suspend]]\nid = "x"\nofficial = "edu/clerk-17"\nnot_after = 2026-03-01\n'
        b'[[suspend]]\nid = "y"\nattribute = "hrss.months"\n'
    )
    assert department == "edu"
    assert (entries[0].official, entries[0].not_after) == ("edu/clerk-17", MARCH)
    assert (entries[1].owner, entries[1].attribute, entries[1].predicate) == ("hrss", "months", None)
    assert parse_suspensions(b'department = "edu"') == ("edu", ())


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ('id = "x"', "suspend[0]"),
        ('system = "edu/a"', "suspend[0].id"),
        ('id = "x"\nsystem = "a"', "suspend[0].system"),
        ('id = "x"\nsystem = "edu/a"\nallow = true', "suspend[0].allow"),
        ('id = "x"\nask = "a.b exists"\nattribute = "a.b"', "suspend[0].attribute"),
        ('id = "x"\nrole = "edu/a"\n[[suspend]]\nid = "x"\nrole = "edu/a"', "suspend[1].id"),
    ],
)
def test_a_mistake_in_suspensions_is_named_by_its_key(entry: str, key: str) -> None:
    with pytest.raises(FileError) as error:
        parse_suspensions(f'department = "edu"\n[[suspend]]\n{entry}\n'.encode())
    assert key in findings(error)


# Matters


def test_the_example_matter_says_what_it_should() -> None:
    matter = parse_matter(support.SCHOOL.encode())
    assert matter.reference_date == date(2026, 9, 1)
    assert matter.slots["guardian"].up_to == 2
    assert matter.claims["parent"].compared_slot == "guardian"
    assert matter.rule is not None
    assert matter.rule.some == {"guardian": ("parent", "pension")}
    assert len(matter.version) == 16
    assert matter.version != parse_matter(support.SCHOOL.encode() + b"\n").version


def test_a_matter_without_a_rule_requires_all_its_claims() -> None:
    text = support.SCHOOL.partition("[rule]")[0]
    matter = parse_matter(text.encode())
    assert matter.rule is not None
    assert matter.rule.all == ("parent", "pension", "insured")
    assert parse_matter(support.SENIOR.encode()).rule is None


def test_the_only_slot_may_be_left_out_of_a_claim() -> None:
    matter = parse_matter((support.SENIOR + '[claims]\naged = "police.age at_least 65"\n').encode())
    assert matter.claims["aged"].slot == "holder"


def matter(old: str, new: str) -> bytes:
    assert old in support.SCHOOL
    return support.SCHOOL.replace(old, new).encode()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('requesters = ["edu"]', "requesters = []", "requesters"),
        ("reference_date = 2026-09-01", 'reference_date = "tomorrow"', "reference_date"),
        ('reference = "2026-[0-9]{6}"', 'reference = "(a+)+$"', "reference"),
        ('reference = "2026-[0-9]{6}"', 'reference = "a*b*c*d*e*"', "reference"),
        ('reference = "2026-[0-9]{6}"', 'reference = ".*"', "reference"),
        ('reference = "2026-[0-9]{6}"', 'reference = "[z-a]"', "reference"),
        ('child = "person"', 'child = "person"\nup_to = 2', "slots.up_to"),
        ("up_to = 2", "up_to = 0", "slots.guardian"),
        ('pension = "guardian: ', 'pension = "', "claims.pension"),
        ('pension = "guardian: ', 'pension = "uncle: ', "claims.pension"),
        ("related @guardian", "related @uncle", "claims.parent"),
        (
            'pension = "guardian: hrss.pension_months at_least 12"',
            'pension = "guardian: hrss.x report"',
            "claims.pension",
        ),
        ("at_least 12", "at least 12", "claims.pension"),
        ('some.guardian = ["parent", "pension"]', "", "rule"),
        ('some.guardian = ["parent", "pension"]', 'all = ["parents"]', "rule.all"),
        ('some.guardian = ["parent", "pension"]', 'all = ["parent", "parent"]', "rule.all"),
        ('some.guardian = ["parent", "pension"]', 'all = ["parent"]\nany.x = ["pension"]', "rule.any.x"),
        ('some.guardian = ["parent", "pension"]', 'all = ["x"]\nany.x = []', "rule.any.x"),
        ('some.guardian = ["parent", "pension"]', 'all = ["x", "parent"]\nany.parent = ["pension"]', "rule.any.parent"),
        ('some.guardian = ["parent", "pension"]', 'some.uncle = ["parent"]', "rule.some.uncle"),
        ('some.guardian = ["parent", "pension"]', 'some.home = ["parent"]', "rule.some.home"),
    ],
)
def test_a_mistake_in_a_matter_is_named_by_its_key(old: str, new: str, key: str) -> None:
    with pytest.raises(FileError) as error:
        parse_matter(matter(old, new))
    assert any(found == key or found.startswith(f"{key}.") for found in findings(error)), error.value.findings


def test_absence_counts_only_beside_an_identity_claim_about_the_same_slot() -> None:
    def with_rule(claims: str, rule: str) -> bytes:
        head = support.SCHOOL.partition("[claims]")[0]
        return f"{head}[claims]\n{claims}\n[rule]\n{rule}\n".encode()

    none = 'none = "guardian: title.owner absent"'
    with pytest.raises(FileError, match="absence"):
        parse_matter(with_rule(none, 'all = ["none"]'))
    with pytest.raises(FileError, match="absence"):
        parse_matter(with_rule(none + '\nknown = "child: police.record exists"', 'all = ["none", "known"]'))
    with pytest.raises(FileError, match="absence"):
        parse_matter(with_rule(none + '\naged = "guardian: police.age at_least 18"', 'all = ["none", "aged"]'))
    with pytest.raises(FileError, match="absence"):
        parse_matter(
            with_rule(
                none + '\nknown = "guardian: police.record exists"', 'all = ["x", "known"]\nany.x = ["none"]'
            ).replace(b'all = ["x", "known"]', b'all = ["x"]')
        )
    known = none + '\nknown = "guardian: police.record exists"'
    parse_matter(with_rule(known, 'all = ["none", "known"]'))
    parse_matter(with_rule(known, 'some.guardian = ["none", "known"]'))
    parse_matter(with_rule(known, 'all = ["x", "known"]\nany.x = ["none"]'))
    with pytest.raises(FileError, match="absence"):  # known of the child, not of this guardian
        parse_matter(
            with_rule(known.replace("guardian: police", "child: police"), 'all = ["known"]\nsome.guardian = ["none"]')
        )


@pytest.mark.parametrize("text", ["2026-000123", "A/b.c_d-9", "x" * 64])
def test_the_default_reference_takes_short_ascii(text: str) -> None:
    assert follows(DEFAULT_REFERENCE, text)


@pytest.mark.parametrize("text", ["", "x" * 65, "张三", "a b", "a\n"])
def test_the_default_patterns_take_nothing_else(text: str) -> None:
    assert not follows(DEFAULT_REFERENCE, text)
    assert not follows(DEFAULT_OFFICIAL, text)


# The centre


def test_the_example_centre_says_what_it_should() -> None:
    centre = parse_centre(support.CENTRE.encode())
    assert centre.subjects["person"].scheme == "resident"
    assert str(centre.home("edu", "baoan")) == "nbs:440306"
    assert str(centre.home("hrss", "counter")) == "nbs:4403", (
        "a system without a home is at home where its department is"
    )
    assert centre.home("edu", "other") is None
    assert centre.home("other", "baoan") is None


def test_the_centre_can_define_kinds_of_its_own() -> None:
    text = support.CENTRE.replace(
        'dwelling = "house"', 'dwelling = "house"\npermit = { scheme = "plain", pattern = "[A-Z0-9]{6,20}" }'
    )
    assert parse_centre(text.encode()).subjects["permit"].pattern == "[A-Z0-9]{6,20}"


WITNESSES = [
    "shenzhen/data/witness/main+3c3f0633+BIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c",
    "lawyers.example/witness+06ccafd9+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU",
    "lawyers.example/witness+811c3b9b+BO1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfR",
]


def witnessed(quorum: str, **keys: str) -> str:
    named = "\n".join(f"{name}.key = {key}" for name, key in keys.items())
    return f"{quorum}\n{support.CENTRE}\n[witness]\n{named}\n"


def test_the_centre_names_witnesses_and_their_quorum() -> None:
    text = witnessed("witness_quorum = 2", data=f'"{WITNESSES[0]}"', lawyers=f'["{WITNESSES[1]}", "{WITNESSES[2]}"]')
    centre = parse_centre(text.encode())
    assert {name: [str(key) for key in keys] for name, keys in centre.witnesses.items()} == {
        "data": WITNESSES[:1],
        "lawyers": WITNESSES[1:],
    }
    assert centre.witness_quorum == 2
    assert parse_centre(support.CENTRE.encode()).witness_quorum == 0


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (witnessed("", data=f'"{WITNESSES[0]}"'), "witness"),
        (f"witness_quorum = 1\n{support.CENTRE}", "witness_quorum"),
        (witnessed("witness_quorum = 0", data=f'"{WITNESSES[0]}"'), "witness_quorum"),
        (witnessed("witness_quorum = 2", data=f'"{WITNESSES[0]}"'), "witness_quorum"),
        # Half of them: two histories could each find as many.
        (witnessed("witness_quorum = 1", data=f'"{WITNESSES[0]}"', other=f'"{WITNESSES[1]}"'), "witness_quorum"),
        # The same key twice would count twice.
        (witnessed("witness_quorum = 2", data=f'"{WITNESSES[0]}"', other=f'"{WITNESSES[0]}"'), "witness_quorum"),
        (witnessed("witness_quorum = 1", data="[]"), "witness.data.key"),
        (witnessed("witness_quorum = 1", data=f'"{WITNESSES[0][:-1]}"'), "witness.data.key"),
        # A log's key is not a witness's.
        (
            witnessed(
                "witness_quorum = 1", data='"PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"'
            ),
            "witness.data.key",
        ),
    ],
)
def test_witnesses_that_could_not_be_relied_on_are_refused_by_key(text: str, key: str) -> None:
    with pytest.raises(FileError) as error:
        parse_centre(text.encode())
    assert any(found.startswith(key) for found in findings(error)), error.value.findings


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('[department.root]\ntitle = { zh = "a", en = "b" }\nhome = "nbs:4403"', "department.root"),
        ('[department.a-b]\ntitle = { zh = "a", en = "b" }\nhome = "nbs:4403"', "department"),
        ('[department.x]\ntitle = { zh = "a", en = "b" }', "department.x.home"),
        (
            '[department.x]\ntitle = { zh = "a", en = "b" }\nhome = "nbs:440306"\nsystem.s.home = "nbs:4403"',
            "department.x.system.s.home",
        ),
        ("[[deny]]", "deny[0]"),
        ('[[deny]]\nask = "a.b exists"\nattribute = "a.b"', "deny[0].attribute"),
        ('[[deny]]\nid = "d"\nmatter = "m"\n[[deny]]\nid = "d"\nmatter = "m"', "deny[1].id"),
        ('[[deny]]\neffect = "allow"', "deny[0].effect"),
    ],
)
def test_a_mistake_of_the_centre_is_named_by_its_key(more: str, key: str) -> None:
    with pytest.raises(FileError) as error:
        parse_centre(f"{support.CENTRE}\n{more}\n".encode())
    assert any(found.startswith(key) for found in findings(error)), error.value.findings
