"""How departments call their columns, in Chinese, pinyin initials and English; and what a sample of values looks like.

Only `zhiwang adapter init --url` guesses by these, and a person reads what it drafts. Pure; no value outlives `look`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identifiers import scheme

MOST = 0.8
"""Share of a column's sampled values that must have a form, for the column to count as one of that form."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SUBJECTS: dict[str, tuple[str, ...]] = {
    "person": _words(
        "gmsfhm gmsfzhm gmsfzh sfzhm sfzh sfzjhm sfzjh zjhm zjh idcardnumber idcardnum idcardno idcard idnumber idno "
        "identitycard identitynumber identityno nationalid citizenid certno certnumber "
        "公民身份号码 公民身份证号 身份证号码 身份证号 身份证件号码 身份证 证件号码 证件号"
    ),
    "entity": _words(
        "tyshxydm tyxydm shxydm xydm uscc socialcreditcode unifiedcreditcode unifiedcode creditcode "
        "统一社会信用代码 社会信用代码 统一信用代码 信用代码"
    ),
    "dwelling": _words("fwbm fwdm fwbh housecode houseid houseno dwellingcode 房屋编码 房屋代码 房屋编号"),
}
"""Words for the identifier of each kind of subject; the more telling come first."""

NAMES: dict[str, tuple[str, ...]] = {
    "person": _words("xm xingming fullname realname personname name 姓名"),
    "entity": _words(
        "qymc frmc dwmc jgmc gsmc mc companyname enterprisename entname entityname orgname name "
        "企业名称 法人名称 单位名称 机构名称 公司名称 名称"
    ),
    "dwelling": (),
}
"""Words for the subject's name."""

REGIONS = _words(
    "xzqhdm xzqh xzqdm qhdm qh regioncode region divisioncode division districtcode district streetcode street "
    "areacode jddm 行政区划代码 行政区划 区划代码 区划 所属街道 所属区"
)
LOADS = _words(
    "loadedat loadtime etltime syncedat synctime updatedat updatetime lastupdate jzsj rksj gxsj tbsj "
    "加载时间 入库时间 更新时间 同步时间"
)
STARTS = _words(
    "validfrom startdate begindate effectivedate startson start qsrq ksrq qfrq sxrq yxqq yxqs "
    "起始日期 开始日期 生效日期 签发日期 有效期起"
)
ENDS = _words(
    "validto validuntil enddate expirydate expiredate endson end jzrq jsrq yxqz zzrq dqrq "
    "截止日期 结束日期 失效日期 终止日期 到期日期 有效期止"
)

_CODE = re.compile(r"[1-9][0-9]{3}(?:[0-9]{2}(?:[0-9]{3}(?:[0-9]{3})?)?)?")
_ISO = re.compile(r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}(?:[ T].*)?")
_COMPACT = re.compile(r"[12][0-9]{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")
_FIFTEEN = 15
_SCHEMES = {"person": "resident", "entity": "uscc", "dwelling": "house"}


def plain(name: str) -> str:
    """A column's name without case, width, underscores and spaces."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def rank(name: str, words: tuple[str, ...]) -> tuple[int, str] | None:
    """How well a column's name says one of the words: its rank, 0 for the best, and what stands before the word.

    `BUYER_SFZH` says `sfzh`, and `buyer` stands before it; so the buyer's name is `buyer` and a word for names.
    """
    text = plain(name)
    for place, word in enumerate(words):
        if text == word:
            return place, ""
    for place, word in enumerate(words):
        if text.endswith(word):
            return len(words) + place, text.removesuffix(word)
    return None


@dataclass(frozen=True, slots=True)
class Look:
    """What the sampled values of one column look like: counts, and no value.

    Attributes:
        total: Values that are neither null nor empty.
        identifiers: By kind of subject: valid identifiers of it. Those of 15 digits, which have no check character,
            are not among them.
        short: Resident identifiers of 15 digits.
        codes: Administrative codes by their form.
        dates: Days written 2026-03-01.
        compact: Days written 20260301.
    """

    total: int = 0
    identifiers: tuple[tuple[str, int], ...] = ()
    short: int = 0
    codes: int = 0
    dates: int = 0
    compact: int = 0

    def mostly(self, count: int) -> bool:
        """Whether so many of the values are most of them."""
        return self.total > 0 and count >= MOST * self.total

    def is_of(self, kind: str, *, named: bool) -> bool:
        """Whether the column holds identifiers of a kind.

        Args:
            kind: person, entity or dwelling.
            named: Whether its name says so. Then half of the values is enough, since tables hold bad ones too, and
                an empty column is believed.
        """
        count = dict(self.identifiers).get(kind, 0)
        if not named:
            return self.mostly(count)
        return self.total == 0 or 2 * (count + (self.short if kind == "person" else 0)) >= self.total


def look(values: Iterable[object], today: date) -> Look:
    """Look at sampled values."""
    texts = [text for value in values if value is not None and (text := str(value).strip())]
    counts = dict.fromkeys(_SCHEMES, 0)
    short = 0
    for text in texts:
        for kind, name in _SCHEMES.items():
            try:
                scheme(name).canonical(text, today=today)
            except RefusedError:
                continue
            if len(text) == _FIFTEEN:
                short += 1
            else:
                counts[kind] += 1
    return Look(
        total=len(texts),
        identifiers=tuple(counts.items()),
        short=short,
        codes=sum(_CODE.fullmatch(text) is not None for text in texts),
        dates=sum(_ISO.fullmatch(text) is not None for text in texts),
        compact=sum(_COMPACT.fullmatch(text) is not None for text in texts),
    )
