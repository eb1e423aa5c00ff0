"""The known traps of pycasbin (DESIGN section 9): each shown on stock use, then that ours does not fall into it."""

from __future__ import annotations

import ast
import dataclasses
import re
import threading
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import casbin
import pytest
from casbin.model import Model
from casbin.persist import Adapter
from casbin.persist.adapter import load_policy_line
from casbin.rbac.default_role_manager import RoleManager

import policy_support as support
from policy import directory as directory_module
from policy import enforcer as module
from policy.directory import DirectoryHolder
from policy.enforcer import MODEL, SENTINEL, Question, Row, check_rows, grant_row, make_enforcer
from policy.model import Directory, Grant
from policy.publishing import Named
from policy.rehearse import rehearsed
from zhiwang.wire.claims import Ask, Predicate
from zhiwang.wire.errors import FatalError
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.places import Jurisdiction

STOCK = """
[request_definition]
r = sub, now
[policy_definition]
p = sub, until, eft
[policy_effect]
e = {effect}
[matchers]
m = {matcher}
"""
ALLOW_AND_DENY = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
DENY_ONLY = "!some(where (p.eft == deny))"

GRANT = grant_row(Grant("g", "hrss", "edu/clerk", Ask("hrss", "months", Predicate.AT_LEAST), "school"))


def stock(lines: list[str], effect: str = ALLOW_AND_DENY, matcher: str = "r.sub == p.sub") -> Any:
    class Lines(Adapter):  # type: ignore[misc] # casbin carries no types
        def load_policy(self, model: Any) -> None:
            for line in lines:
                load_policy_line(line, model)

    model = Model()
    model.load_model_from_text(STOCK.format(effect=effect, matcher=matcher))
    return casbin.Enforcer(model, Lines())


def ask(enforcer: Any, **changed: str) -> bool:
    request = {
        "system": "edu/alpha",
        "role": "edu/clerk",
        "home": "nbs:4403",
        "level": "1",
        "owner": "hrss",
        "attribute": "months",
        "sensitivity": "3",
        "predicate": "at_least",
        "jurisdiction": "nbs:440306",
        "matter": "school",
        "assurance": "1",
        "now": module.fixed_time(1_000_000),
        "official": "-",
    } | changed
    result: bool = enforcer.enforce(*request.values(), [])
    return result


def test_the_questions_below_are_allowed_by_a_grant_that_fits() -> None:
    assert ask(make_enforcer([GRANT])) is True


def test_an_empty_rule_set_does_not_allow() -> None:
    # Without rules the stock enforcer evaluates the matcher once with empty fields: "" matches a matcher of "not".
    assert stock([], matcher="r.sub != p.sub").enforce("anybody", "1")
    empty = make_enforcer([])
    assert empty.get_policy() == [list(SENTINEL)]
    assert ask(empty) is False
    for field in ("system", "role", "home", "predicate", "jurisdiction", "official"):
        assert ask(empty, **{field: "nbs:4403" if field in {"home", "jurisdiction"} else ""}) is False


def test_the_sentinel_matches_nothing_even_if_asked_for_by_name() -> None:
    assert ask(make_enforcer([]), system="#", role="#", official="#", predicate="#", level="0") is False


@pytest.mark.parametrize("effect", ["Deny", "DENY", "denny", " deny", "", "allow "])
def test_a_misspelt_effect_is_refused_with_the_whole_set(effect: str) -> None:
    if effect == "Deny":
        enforcer = stock(["p, mallory, 9, allow", "p, mallory, 9, Deny"])
        assert enforcer.enforce("mallory", "1"), "stock: the misspelt deny is overlooked"
    with pytest.raises(FatalError):
        make_enforcer([GRANT, GRANT._replace(id="hrss/other", eft=effect)])


def test_rows_of_an_unknown_shape_are_refused_and_not_skipped() -> None:
    enforcer = stock(["p, alice, 9, allow", "x, mallory, 9, deny", "#p, mallory, 9, deny"])
    assert len(enforcer.get_policy()) == 1, "stock: rows of unknown type vanish"
    with pytest.raises(FatalError):
        check_rows([GRANT, Row(*GRANT[:-1], "")])
    with pytest.raises(FatalError):
        check_rows([GRANT[:-1]])  # type: ignore[list-item] # the trap
    with pytest.raises(FatalError):
        check_rows([(*GRANT, "more")])  # type: ignore[list-item] # the trap


@pytest.mark.parametrize("field", Row._fields)
@pytest.mark.parametrize("value", ["", "\n", "a,b", 7, None])
def test_every_field_is_checked(field: str, value: object) -> None:
    with pytest.raises(FatalError):
        check_rows([GRANT._replace(**{field: value})]) if field != "id" or value != "a,b" else check_rows([()])  # type: ignore[list-item, arg-type] # an id may hold a comma: rows never become text lines


def test_numbers_are_compared_by_value_since_their_text_has_a_fixed_width() -> None:
    enforcer = stock(["p, alice, 10, allow"], matcher="r.sub == p.sub && r.now < p.until")
    assert not enforcer.enforce("alice", "9"), "stock: as text 9 is not less than 10"
    times = [0, 9, 10, 99, 100, 10**9, 10**10, 10**11]
    texts = [module.fixed_time(time) for time in times]
    assert texts == sorted(texts)
    assert len({len(text) for text in texts}) == 1
    ended = make_enforcer([GRANT._replace(not_after=module.fixed_time(10))])
    assert ask(ended, now=module.fixed_time(9)) is True
    assert ask(ended, now=module.fixed_time(100)) is False
    assert module.fixed_time(10**13) < "9" * 12, "a rule without an end has none"
    assert module.fixed_time(-5) >= "0" * 12


def test_the_matcher_evaluates_nothing_that_a_rule_could_smuggle_in() -> None:
    matcher = MODEL.split("[matchers]")[1]
    for trap in ("eval(", "regexMatch", "keyMatch", "globMatch", "ipMatch", " in "):
        assert trap not in matcher
    assert set(re.findall(r"([a-zA-Z_]+)\(", matcher)) - {""} == {"placed", "matched"}


def test_a_rule_that_is_an_expression_is_refused_and_never_evaluated() -> None:
    enforcer = stock(["p, r.sub != r.now, 9, allow"], matcher="eval(p.sub)")
    assert enforcer.enforce("mallory", "1"), "stock: the text of a rule is a program"
    for field in Row._fields:
        if field != "id":
            with pytest.raises(FatalError):
                make_enforcer([GRANT._replace(**{field: "r.role != r.now"})])
    # A rule's name is free text; it is noted and never read.
    assert ask(make_enforcer([GRANT._replace(id="hrss/r.role != r.now", role="edu/other")])) is False


def test_a_rule_that_looks_like_a_pattern_matches_only_itself() -> None:
    enforcer = stock(["p, .*, 9, allow"], matcher="regexMatch(r.sub, p.sub)")
    assert enforcer.enforce("mallory", "1"), "stock: a pattern in a rule matches everybody"
    with pytest.raises(FatalError):
        make_enforcer([GRANT._replace(role=".*")])
    with pytest.raises(FatalError):
        make_enforcer([GRANT._replace(place="nbs:44*")])


def test_a_place_is_no_plain_prefix_of_text() -> None:
    enforcer = stock(["p, nbs:44030*, 9, allow"], matcher="keyMatch(r.sub, p.sub)")
    assert enforcer.enforce("nbs:4403061", "1"), "stock: any beginning of a text would do, whole codes or not"
    assert enforcer.enforce("nbs:440306:mca:440305", "1"), "stock: whatever follows"
    with pytest.raises(FatalError):
        make_enforcer([GRANT._replace(place="nbs:44030*")])
    with pytest.raises(FatalError):
        make_enforcer([GRANT._replace(place="nbs:")])
    other_system = make_enforcer([GRANT._replace(place="mca:440306001")])
    assert ask(other_system, jurisdiction="nbs:440306001") is False
    assert ask(other_system, jurisdiction="mca:440306001002") is True


def test_rules_are_never_loaded_anew_in_place() -> None:
    """The next two tests show why."""
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    calls = {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not [call for call in calls if "policy" in call and call.startswith(("load", "add", "remove", "clear"))]
    assert not calls & {"set_model", "enable_enforce"}


ROLES = """
[request_definition]
r = sub
[policy_definition]
p = sub, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = p.sub == "*" || g(r.sub, p.sub)
"""


def test_rules_loaded_in_place_fail_open_under_threads_and_a_swapped_snapshot_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stock clears the roles that are in force before it has the new ones; a deny by role is gone in between."""
    cleared, go_on = threading.Event(), threading.Event()

    class Slow(RoleManager):  # type: ignore[misc] # casbin carries no types
        def clear(self) -> None:
            super().clear()
            if threading.current_thread() is not threading.main_thread():
                cleared.set()
                assert go_on.wait(100)

    class Lines(Adapter):  # type: ignore[misc] # the same
        def load_policy(self, model: Any) -> None:
            for line in ("p, *, allow", "p, suspended, deny", "g, mallory, suspended"):
                load_policy_line(line, model)

    model = Model()
    model.load_model_from_text(ROLES)
    enforcer = casbin.Enforcer(model, Lines())
    enforcer.set_role_manager(Slow(10))
    enforcer.build_role_links()
    assert not enforcer.enforce("mallory")
    loading = threading.Thread(target=enforcer.load_policy)
    loading.start()
    try:
        assert cleared.wait(100)
        assert enforcer.enforce("mallory"), "stock: whoever asks while the same rules are loaded again is allowed"
    finally:
        go_on.set()
        loading.join()
    assert not enforcer.enforce("mallory")
    asked = ours_while_it_is_swapped(monkeypatch)
    assert asked == [("edu/baoan", False), ("edu/enrolment", True)] * (len(asked) // 2)
    assert len(asked) >= 12


def ours_while_it_is_swapped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What another thread is told about a suspended system and one that is granted, while versions come in."""
    suspended = 'department = "hrss"\n[[suspend]]\nid = "x"\nsystem = "edu/baoan"\n'
    texts = [support.CENTRE, *support.DOCUMENTS.values(), *support.MATTERS.values(), suspended]
    directory = rehearsed(None, [Named(str(number), text.encode()) for number, text in enumerate(texts)])
    holder = DirectoryHolder()
    holder.set(directory)
    seen: list[tuple[str, bool]] = []

    def ask_both() -> None:
        for system in ("baoan", "enrolment"):
            question = Question(
                Identity(support.CITY, "edu", Kind.SYSTEM, system),
                "edu/enrolment-clerk",
                "hrss",
                "insured",
                Predicate.EXISTS,
                Jurisdiction("nbs", "440306"),
                "school-enrolment",
                1,
                1_790_000_000.0,
            )
            seen.append((f"edu/{system}", holder.enforcer.decide(question).allowed))

    class Slow(module.Enforcer):
        """Between any two steps of taking a directory in, somebody else asks."""

        def __init__(self, directory: Directory) -> None:
            for step in (super().__init__, lambda _: None):
                step(directory)
                asking = threading.Thread(target=ask_both)
                asking.start()
                asking.join()

    monkeypatch.setattr(directory_module, "Enforcer", Slow)
    for number in range(1, 4):
        holder.set(dataclasses.replace(directory, version=number))
    return seen


def test_a_filtered_load_in_place_is_open_while_the_denies_are_still_to_come() -> None:
    """The other way in which stock fills the rules that are in force."""

    class Halfway(Adapter):  # type: ignore[misc] # casbin carries no types
        asked: bool | None = None

        def load_policy(self, model: Any) -> None:
            self.load_filtered_policy(model, None)

        def is_filtered(self) -> bool:
            return True

        def load_filtered_policy(self, model: Any, _filter: Any) -> None:
            load_policy_line("p, mallory, 9, allow", model)
            if model is enforcer.model:
                self.asked = enforcer.enforce("mallory", "1")
            load_policy_line("p, mallory, 9, deny", model)

    enforcer = stock([])
    adapter = enforcer.adapter = Halfway()
    enforcer.load_policy()
    assert not enforcer.enforce("mallory", "1")
    enforcer.load_filtered_policy(None)
    assert adapter.asked is True, "stock: whoever asks in the gap is allowed"
    # Ours has its rows before it is an enforcer, and no way to give it others.
    allow, deny = GRANT, GRANT._replace(id="centre/d", eft="deny", place="*")
    assert ask(make_enforcer([allow, deny])) is False


def test_the_stock_sql_adapter_drops_columns_and_deletes_what_was_not_named(tmp_path: Path) -> None:
    """Why the directory is the store. Nothing here needs that package; where somebody has it, this shows it."""
    package = pytest.importorskip("casbin_sqlalchemy_adapter", reason="the stock SQL adapter is not installed")
    adapter = package.Adapter(f"sqlite:///{tmp_path / 'rules.db'}")
    adapter.add_policy("p", "p", ["mallory", "1", "2", "3", "4", "5", "deny"])
    adapter.add_policies("p", "p", [["alice", "read"], ["alice", "write"], ["bob", "read"], ["bob", "write"]])
    adapter.remove_policies("p", "p", [["alice", "read"], ["bob", "write"]])
    model = Model()
    model.load_model_from_text(STOCK.format(effect=ALLOW_AND_DENY, matcher="r.sub == p.sub"))
    adapter.load_policy(model)
    rows = model["p"]["p"].policy
    assert not [row for row in rows if row[0] in {"alice", "bob"}], "stock: all four are gone"
    assert rows == [["mallory", "1", "2", "3", "4", "5"]], "stock: the seventh column, a deny, is gone without a word"


def test_no_row_loses_columns_beyond_the_sixth() -> None:
    """The stock SQL adapters keep v0 to v5; the directory is our store, so no adapter of theirs is in use."""
    needed = " ".join(requires("zhiwang") or ())
    assert "pycasbin" in needed
    assert "adapter" not in needed
    enforcer = make_enforcer([GRANT])
    assert [len(row) for row in enforcer.get_policy()] == [len(Row._fields)] * 2
    assert len(Row._fields) > 6
    assert enforcer.get_policy()[0] == list(GRANT)


def test_pycasbin_2_and_a_safe_simpleeval_are_installed_and_the_old_casbin_is_not() -> None:
    assert int(version("pycasbin").split(".")[0]) >= 2
    assert tuple(map(int, version("simpleeval").split(".")[:3])) >= (1, 0, 5)
    with pytest.raises(Exception, match="casbin"):
        version("casbin")


def test_an_enforcer_that_is_switched_off_would_allow_so_ours_is_never() -> None:
    enforcer = stock(["p, alice, 9, allow"])
    enforcer.enable_enforce(False)
    assert enforcer.enforce("mallory", "1"), "stock: disabled means allowed"
    assert make_enforcer([GRANT]).enabled is True


def test_two_grants_of_one_shape_are_both_kept() -> None:
    other = GRANT._replace(id="hrss/other")
    assert len(make_enforcer([GRANT, other]).get_policy()) == 3


def test_deny_wins_whatever_the_order() -> None:
    deny = GRANT._replace(id="centre/d", eft="deny", place="*")
    for rows in ([GRANT, deny], [deny, GRANT]):
        assert ask(make_enforcer(rows)) is False


def test_grants_of_the_model_become_rows_that_pass_the_strict_check() -> None:
    grant = Grant(
        "g.1_x-2",
        "hrss",
        "edu/enrolment-clerk",
        Ask("hrss", "months", Predicate.RELATED),
        "school",
        places=(Jurisdiction.parse("nbs:440306"), Jurisdiction.parse("nbs:440305001001")),
        not_before=5,
        not_after=10**11,
    )
    check_rows([grant_row(grant), grant_row(dataclasses.replace(grant, places=()))])
