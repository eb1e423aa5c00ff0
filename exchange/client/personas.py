"""People, companies and dwellings that do not exist, each of whom brings about one thing: the mock's cast. Pure.

A persona is known by the last digits of its identifier, which is valid by its check digits and held by nobody (the
division 440399 is not assigned). Every other valid identifier is answered by chance that does not change: by a keyed
hash of the subject and the attribute, so that a load test meets a mix of answers and meets the same one again.
"""

from __future__ import annotations

import hmac
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import NamedTuple

from exchange.demo.codes import company, house, resident
from policy.model import Attribute, SubjectKind
from zhiwang.wire.claims import Predicate
from zhiwang.wire.errors import Reason
from zhiwang.wire.records import Outcome, SubjectRecord

BORN = date(2000, 1, 1)
"""Date of birth in the personas' identifiers. The mock knows no ages: what is asked is answered by the persona."""

HOUSES = ("440399001001", 1, 1)
"""Community, grid and building in which they live; the room is the persona's number."""

COMPANIES = 5_000_000
"""The number of a company is this and the persona's."""

UNKNOWN_SHARE = 0.03
"""Share of UNKNOWN among the answers about everybody else."""

YES_SHARE = 0.9
"""Share of YES among the rest, where an attribute has no thresholds."""

_KEY = b"zhiwang mock"
_SPAN = float(1 << 64)


class Persona(NamedTuple):
    """What happens when somebody is asked about.

    Attributes:
        number: Three digits of its identifier.
        zh: What happens, in Chinese.
        en: The same in English.
        outcomes: What owners answer: the first time the first of these, and so on, and then from the first again.
        seconds: How long they take.
        refusal: Why a whole request about it is not answered.
        forged: Whether the reply is changed on its way.
        call: Why a whole call about it is refused.
    """

    number: int
    zh: str
    en: str
    outcomes: tuple[Outcome, ...] = (Outcome.YES,)
    seconds: float = 0.0
    refusal: Reason | None = None
    forged: bool = False
    call: Reason | None = None

    @property
    def group(self) -> str:
        """What it is good for, as a heading."""
        return _GROUPS[self.number // 100]


_GROUPS = {
    0: "结果 answers",
    1: "拒绝 denied",
    2: "部门不可用 an owner is unavailable",
    3: "途中不可用 unavailable on the way",
    4: "延迟 delays",
    5: "整个调用失败 the whole call fails",
}


def _answered(number: int, outcome: Outcome, zh: str, en: str) -> Persona:
    return Persona(number, zh, en, (outcome,))


def _refused(number: int, reason: Reason, zh: str, en: str) -> Persona:
    return Persona(number, zh, en, refusal=reason)


PERSONAS: tuple[Persona, ...] = (
    Persona(1, "一切为是", "everything YES"),
    Persona(2, "一切为否（查无只能是无法核实）", "everything NO; UNKNOWN where NO cannot be (exists)", (Outcome.NO,)),
    Persona(3, "一切无法核实", "everything UNKNOWN", (Outcome.UNKNOWN,)),
    Persona(
        4,
        "先否后是，轮流：数据已更正",
        "NO, and YES when asked again, in turn: a record that was corrected",
        (Outcome.NO, Outcome.YES),
    ),
    Persona(5, "是与无法核实轮流", "YES and UNKNOWN in turn", (Outcome.YES, Outcome.UNKNOWN)),
    _answered(101, Outcome.DENIED_BY_OWNER, "数据部门未授权", "the owner has not granted it"),
    _answered(102, Outcome.GUESSES_SPENT, "比对次数已达上限", "too many different values were compared"),
    _answered(103, Outcome.CODE_SYSTEM_UNKNOWN, "区划代码体系不同", "the owner's places are in another code system"),
    _answered(104, Outcome.DATE_NOT_PUBLISHED, "基准日未公布", "the reference date is not open"),
    _answered(105, Outcome.CELL_NOT_PUBLISHED, "阈值未公布", "the threshold is not published"),
    _answered(106, Outcome.VALUE_INVALID, "比对值不合类型", "the compared value is not of the owner's type"),
    _refused(107, Reason.CERTIFICATE_REVOKED, "本系统证书已吊销", "the system's certificate is revoked"),
    _answered(201, Outcome.DATABASE_UNAVAILABLE, "数据库不可用", "the owner's database cannot be read"),
    _answered(202, Outcome.PROBE_FAILED, "核验项自检未通过", "the owner's self-test of the attribute fails"),
    _answered(203, Outcome.TIMED_OUT, "数据部门超时", "the owner's database timed out"),
    _answered(204, Outcome.FAILED, "数据部门处理失败", "the owner's adapter failed"),
    _refused(205, Reason.OWNER_NOT_ATTACHED, "数据部门未接入", "no adapter of the owner is attached"),
    _refused(301, Reason.HUB_UNREACHABLE, "无法连接枢纽", "no hub can be reached"),
    _refused(302, Reason.OVERLOADED, "系统繁忙", "a queue is full; ask again after a pause"),
    _refused(303, Reason.LOG_UNAVAILABLE, "审计日志不可用", "a log cannot be written, so nothing is answered"),
    _refused(304, Reason.DIRECTORY_BEHIND, "名录尚未更新", "the hub's directory is behind; the agent asks twice"),
    _refused(305, Reason.CLOCK_SKEW, "时钟偏差过大", "the clocks differ"),
    Persona(306, "凭证校验失败，结果不予放行", "a reply that was changed on its way is withheld", forged=True),
    Persona(401, "慢：三秒后为是", "YES after three seconds", seconds=3.0),
    Persona(402, "数据部门永不答复：临近时限告知超时", "the owner never answers: OWNER_TIMED_OUT", seconds=math.inf),
    Persona(501, "名录已过期：UNAVAILABLE", "the directory has expired: UNAVAILABLE", call=Reason.DIRECTORY_EXPIRED),
    Persona(502, "凭证无法保存：UNAVAILABLE", "the receipt cannot be kept: UNAVAILABLE", call=Reason.RECEIPT_NOT_KEPT),
    Persona(503, "内部错误：INTERNAL", "an error inside the agent: INTERNAL", call=Reason.INTERNAL),
)

_IDENTIFIERS: Mapping[str, Callable[[int], str]] = {
    "resident": lambda number: resident(BORN, number),
    "uscc": lambda number: company(COMPANIES + number),
    "house": lambda number: house(*HOUSES, number),
}
"""By the scheme of a kind of subject. Of kinds with a pattern of their own there are no personas."""


def identifier(persona: Persona, scheme: str) -> str | None:
    """The identifier of a persona in a scheme ("resident", "uscc", "house"); None for another."""
    make = _IDENTIFIERS.get(scheme)
    return None if make is None else make(persona.number)


class Cast:
    """Who is who among the subjects of a directory. Owned by the event loop.

    Args:
        kinds: Its kinds of subject.
        key: Of the hash by which everybody else is answered.
    """

    def __init__(self, kinds: Iterable[SubjectKind], key: bytes = _KEY) -> None:
        self._key = key
        self._personas = {
            (kind.name, code): persona
            for kind in kinds
            for persona in PERSONAS
            if (code := identifier(persona, kind.scheme)) is not None
        }
        # One count for each persona, attribute and way of asking: no more than the directory allows.
        self._asked: Counter[tuple[int, str, str, Predicate, str]] = Counter()

    def persona(self, subject: SubjectRecord | None) -> Persona | None:
        """The persona that a subject is, if it is one."""
        return None if subject is None else self._personas.get((subject.kind, subject.identifier))

    def outcome(
        self,
        attribute: Attribute,
        predicate: Predicate,
        cell: str,
        subject: SubjectRecord | None,
        compared: SubjectRecord | str | None,
    ) -> Outcome:
        """What an owner says of one claim.

        The claim's own subject decides if it is a persona, else the compared one, else the hash.

        Args:
            attribute: Of the claim.
            predicate: How it is asked.
            cell: The threshold; empty for predicates without.
            subject: Who is asked about; None for an empty slot.
            compared: The compared subject or text; None for predicates without, and for an empty slot.
        """
        if subject is None or (compared is None and predicate is Predicate.RELATED):
            return Outcome.UNKNOWN
        persona = self.persona(subject)
        if persona is None and isinstance(compared, SubjectRecord):
            persona = self.persona(compared)
        if persona is None:
            found = self._chance(attribute, predicate, cell, subject, compared)
        else:
            key = persona.number, attribute.owner, attribute.name, predicate, cell
            found = persona.outcomes[self._asked[key] % len(persona.outcomes)]
            self._asked[key] += 1
        return Outcome.UNKNOWN if found is Outcome.NO and predicate is Predicate.EXISTS else found

    def _chance(
        self,
        attribute: Attribute,
        predicate: Predicate,
        cell: str,
        subject: SubjectRecord,
        compared: SubjectRecord | str | None,
    ) -> Outcome:
        """One draw for a subject and an attribute, so that its thresholds agree with each other."""
        text = compared.identifier if isinstance(compared, SubjectRecord) else compared or ""
        said = f"{attribute.owner}.{attribute.name}\0{subject.kind}\0{subject.identifier}\0{text}"
        digest = hmac.digest(self._key, said.encode(), "sha256")
        if int.from_bytes(digest[:8], "big") / _SPAN < UNKNOWN_SHARE:
            return Outcome.UNKNOWN
        drawn = int.from_bytes(digest[8:16], "big") / _SPAN
        cells = attribute.cells(predicate)
        if cells:
            # The value lies between two cells, or beyond the outermost.
            above = int(drawn * (len(cells) + 1))
            holds = cells.index(cell) < above if predicate is Predicate.AT_LEAST else cells.index(cell) >= above
        else:
            holds = (drawn < YES_SHARE) is not (predicate is Predicate.ABSENT and _also_exists(attribute))
        return Outcome.YES if holds else Outcome.NO


def _also_exists(attribute: Attribute) -> bool:
    """Whether it can be asked both ways; then the one must deny the other."""
    return Predicate.EXISTS in attribute.predicates
