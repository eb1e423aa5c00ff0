"""A first mapping out of a roster's headings, by the names of the matter's slots and what columns are often called.

It is a proposal for a person, who sees it before anything is asked: a wrong column would ask about the wrong people.
Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from exchange.sweep.mapping import RosterColumns, SubjectColumns
from policy.model import Matter, SubjectKind

IDENTIFIERS: Final[Mapping[str, tuple[str, ...]]] = {
    "resident": (
        *("身份证号", "身份证号码", "身份证", "公民身份号码", "公民身份证号码", "居民身份证号", "居民身份证号码"),
        *("证件号", "证件号码", "idcard", "idcardno", "idno", "idnumber", "identifier", "id"),
    ),
    "uscc": (
        *("统一社会信用代码", "社会信用代码", "信用代码", "统一信用代码", "机构代码", "uscc", "creditcode"),
        *("identifier", "id"),
    ),
    "house": ("房屋编码", "房屋代码", "住房编码", "房号编码", "不动产编码", "housecode", "houseid", "identifier", "id"),
    "plain": ("编号", "证件号", "证件号码", "identifier", "id"),
}
"""Headings of identifiers by the scheme of a kind of subject, as `_plain` writes them."""

NAMES: Final = ("姓名", "名称", "企业名称", "单位名称", "name", "fullname")

SLOTS: Final[Mapping[str, tuple[str, ...]]] = {
    "child": ("儿童", "子女", "孩子", "学生", "幼儿", "入学儿童"),
    "student": ("学生", "考生"),
    "guardian": ("监护人", "法定监护人", "家长", "父母"),
    "applicant": ("申请人", "申请者", "本人", "当事人"),
    "senior": ("老人", "老年人", "长者"),
    "spouse": ("配偶",),
    "tenant": ("承租人", "租客"),
    "owner": ("业主", "产权人", "权利人"),
    "landlord": ("出租人", "房东"),
    "home": ("住房", "住所", "房屋", "房产"),
    "dwelling": ("住房", "房屋", "房产"),
    "company": ("企业", "公司", "单位"),
    "employer": ("用人单位", "单位", "企业"),
    "parent": ("父母", "家长"),
}
"""What slots of these names are often called."""

KEYS: Final = (
    *("编号", "申请编号", "受理编号", "办件编号", "业务编号", "流水号", "业务流水号", "受理号", "申请号", "序号"),
    *("key", "rowkey", "reference", "caseno", "casenumber", "no"),
)
"""Headings of columns that name a row, the better ones first."""

_NOISE = re.compile(r"[\s_\-.:：·/（）()\[\]【】*]+")


def guess(headings: Sequence[str | None], matter: Matter, kinds: Mapping[str, SubjectKind]) -> RosterColumns:
    """What the columns of a roster probably are; slots for which nothing fits are left out.

    Args:
        headings: As the file has them.
        matter: For which is asked.
        kinds: The centre's kinds of subject.
    """
    plain: dict[str, str] = {}
    for heading in headings:
        if heading is not None and headings.count(heading) == 1:
            plain.setdefault(_plain(heading), heading)
    subjects = []
    for slot in matter.slots.values():
        kind = kinds.get(slot.kind)
        words = IDENTIFIERS.get(kind.scheme, IDENTIFIERS["plain"]) if kind is not None else ()
        callings = (_plain(slot.name), *map(_plain, SLOTS.get(slot.name, ())))
        alone = [other.kind for other in matter.slots.values()].count(slot.kind) == 1
        for prefixes in _prefixes(callings, slot.up_to, alone=alone):
            identifier = _first(plain, prefixes, words, bare=prefixes)
            if identifier is not None:
                name = _first(plain, prefixes, NAMES, bare=())
                subjects.append(SubjectColumns(slot=slot.name, identifier=identifier, name=name))
    taken = {one.identifier for one in subjects}
    key = next((plain[word] for word in KEYS if word in plain and plain[word] not in taken), None)
    return RosterColumns(key=key, subject=tuple(subjects))


def _prefixes(callings: Sequence[str], up_to: int, *, alone: bool) -> list[tuple[str, ...]]:
    """For each subject of a slot, what stands before "identifier" and "name" in its headings."""
    first = [*callings, *(f"{calling}1" for calling in callings), *(("",) if alone else ())]
    later = [tuple(f"{calling}{number}" for calling in callings) for number in range(2, up_to + 1)]
    return [tuple(first), *later]


def _first(
    plain: Mapping[str, str], prefixes: Sequence[str], words: Sequence[str], *, bare: Sequence[str]
) -> str | None:
    for prefix in prefixes:
        for word in words:
            for wanted in (f"{prefix}{word}", f"{prefix}的{word}") if prefix else (word,):
                if wanted in plain:
                    return plain[wanted]
    return next((plain[one] for one in bare if one in plain and one), None)


def _plain(heading: str) -> str:
    return _NOISE.sub("", unicodedata.normalize("NFKC", heading)).casefold()
