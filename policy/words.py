"""Policy in sentences, Chinese and English: what becomes allowed or denied, what a grant says.

Names of divisions come from whoever calls; without them codes stand for themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from policy.model import Attribute, Centre, Emergency, Grant, Matter
from policy.reach import EVERYBODY, FOREVER, Change, Span, Where, span_of
from zhiwang.wire.claims import Ask
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.places import Jurisdiction, Level

PlaceName = Callable[[Jurisdiction], str]

_LEVELS: Final = {Level.CITY: "市", Level.DISTRICT: "区", Level.STREET: "街道", Level.COMMUNITY: "社区"}
_ASSURANCES: Final = {1: ("自称", "asserted"), 2: ("已认证", "authenticated"), 3: ("证书", "certificate")}


class Titles(Protocol):
    """What has titles: a directory."""

    @property
    def centre(self) -> Centre:
        """Of the departments."""

    @property
    def matters(self) -> Mapping[str, Matter]:
        """Of the matters."""

    def attribute(self, owner: str, name: str) -> Attribute | None:
        """Of the attributes."""


class Sentence(NamedTuple):
    """The same in both languages."""

    zh: str
    en: str


def place_text(place: Jurisdiction) -> str:
    """A division by its code alone; a code that is common to all systems needs none."""
    return place.code if place.common else str(place)


class Words:
    """Sentences about one city.

    Args:
        directories: Where titles are looked up, the first that has one first; of today or of the past.
        name: Gives a division's name.
    """

    def __init__(self, *directories: Titles, name: PlaceName = place_text) -> None:
        self._directories = directories
        self._name = name

    def changes(self, found: Iterable[Change], now: float) -> list[Sentence]:
        """Changes as sentences: one for all systems of a role to which the same happens.

        Args:
            found: From `policy.reach.changes`.
            now: The time from which on they were compared.
        """
        groups: dict[tuple[object, ...], list[Change]] = defaultdict(list)
        for change in found:
            key = change.key
            groups[
                change.allowed, key.role, key.ask, key.matter, change.assurances, change.officials, change.span,
                change.places, change.home.level,
            ].append(change)  # fmt: skip
        return [self._change(group, now) for group in groups.values()]

    def _change(self, group: Sequence[Change], now: float) -> Sentence:
        change = group[0]
        key = change.key
        ask, matter, when = self.ask(key.ask), self.matter(key.matter), _when(change.span, now)
        who = _officials(change)
        level = change.home.level
        systems = " ".join(sorted({other.key.system for other in group}))
        department = key.role.partition("/")[0]
        places = self.places(change.places)
        zh = (
            f"{self.department(department).zh}的 {key.role}（{_LEVELS[level]}级系统 {systems}）{who.zh}{when.zh}"
            f"{'可以' if change.allowed else '不再可以'}在{places.zh}为“{matter.zh}”询问{ask.zh}"
        )
        en = (
            f"{key.role} of {self.department(department).en} ({level.word} system {systems}){who.en} "
            f"{'may' if change.allowed else 'may no longer'} ask {ask.en} for {matter.en}, in {places.en}{when.en}"
        )
        return Sentence(zh, en)

    def grant(self, grant: Grant) -> Sentence:
        """What a grant says."""
        ask, matter = self.ask(grant.ask), self.matter(grant.matter)
        department = grant.role.partition("/")[0]
        if grant.places:
            names = [self._name(place) for place in grant.places]
            where = Sentence("、".join(names), ", ".join(names))
        else:
            where = Sentence("其自身辖区", "its own place")
        until = _when(span_of(grant), float("-inf"))
        zh, en = _ASSURANCES[grant.assurance]
        assured = (
            Sentence(f"，经办人至少{zh}", f", official at least {en}") if grant.assurance > 1 else Sentence("", "")
        )
        return Sentence(
            f"{self.department(department).zh}的 {grant.role}（{_LEVELS[grant.level]}级及以上）{until.zh}可以"
            f"在{where.zh}为“{matter.zh}”询问{ask.zh}{assured.zh}",
            f"{grant.role} of {self.department(department).en}, of a {grant.level.word} or above, may ask {ask.en} for "
            f"{matter.en}, in {where.en}{until.en}{assured.en}",
        )

    def emergency(self, owner: str, emergency: Emergency) -> list[Sentence]:
        """What is prepared for an emergency: who can open it for how long, then each of its grants."""
        titles = [self.department(name) for name in sorted(emergency.admins)]
        zh, en = "、".join(title.zh for title in titles), ", ".join(title.en for title in titles)
        return [
            Sentence(
                f"应急授权 {owner}/{emergency.id}“{emergency.title.zh}”："
                f"由{zh}任一管理员启用，每次至多 {emergency.hours} 小时",
                f"emergency {owner}/{emergency.id} ({emergency.title.en}): any one admin of {en} can open it, for "
                f"{emergency.hours} hours at most",
            ),
            *map(self.grant, emergency.grants),
        ]

    def ask(self, ask: Ask) -> Sentence:
        """What is asked: the owner, the attribute's question and its name."""
        for directory in self._directories:
            attribute = directory.attribute(ask.owner, ask.attribute)
            if attribute is not None:
                owner, title = self.department(ask.owner), attribute.title
                return Sentence(f"{owner.zh}“{title.zh}”（{ask}）", f"{ask} (“{title.en}”)")
        return Sentence(f"{self.department(ask.owner).zh}的 {ask}", str(ask))

    def matter(self, name: str) -> Sentence:
        """A matter by its title."""
        for directory in self._directories:
            matter = directory.matters.get(name)
            if matter is not None:
                return Sentence(matter.title.zh, f"{name} ({matter.title.en})")
        return Sentence(name, name)

    def department(self, name: str) -> Sentence:
        """A department by its title."""
        for directory in self._directories:
            info = directory.centre.departments.get(name)
            if info is not None:
                return Sentence(info.title.zh, info.title.en)
        return Sentence(name, name)

    def places(self, places: Iterable[Where]) -> Sentence:
        """Places; what is left out is said."""
        zh, en = [], []
        for where in places:
            name = self._name(where.place)
            without = [self._name(place) for place in where.without]
            if where.part == "all":
                zh.append(name)
                en.append(name)
            elif where.part == "itself":
                zh.append(f"{name}全域名义")
                en.append(f"{name} as a whole")
            elif without:
                zh.append(f"{name}内（{'、'.join(without)}除外）")
                en.append(f"within {name} but for {', '.join(without)}")
            else:
                zh.append(f"{name}内")
                en.append(f"within {name}")
        return Sentence("、".join(zh), "; ".join(en))


def _officials(change: Change) -> Sentence:
    parts_zh, parts_en = [], []
    if change.assurances != (1, 2, 3):
        parts_zh.append("经办人" + "或".join(_ASSURANCES[number][0] for number in change.assurances))
        parts_en.append("official " + " or ".join(_ASSURANCES[number][1] for number in change.assurances))
    if change.officials:
        named = [official for official in change.officials if official != EVERYBODY]
        if EVERYBODY in change.officials:
            parts_zh.append("未被点名停权的经办人" + "".join(f"及 {official}" for official in named))
            parts_en.append("for officials whom no suspension names" + "".join(f" and {one}" for one in named))
        else:
            parts_zh.append("仅经办人 " + "、".join(named))
            parts_en.append("for " + ", ".join(named) + " only")
    if not parts_zh:
        return Sentence("", "")
    return Sentence(f"（{'，'.join(parts_zh)}）", f" [{'; '.join(parts_en)}]")


def _when(span: Span, now: float) -> Sentence:
    begins, ends = day_text(span.since), day_text(span.until)
    since, until = span.since > now, span.until < FOREVER
    if since and until:
        return Sentence(f"自{begins}至{ends}前", f", from {begins} to before {ends}")
    if since:
        return Sentence(f"自{begins}起", f", from {begins} on")
    return Sentence(f"至{ends}前", f", until before {ends}") if until else Sentence("", "")


def day_text(time: float) -> str:
    """A day of the city, with the time of day where it is not midnight; empty for ever."""
    if abs(time) == FOREVER:
        return ""
    moment = datetime.fromtimestamp(time, UTC).astimezone(CITY_TIME)
    midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return moment.date().isoformat() if midnight else moment.isoformat(sep=" ", timespec="seconds")
