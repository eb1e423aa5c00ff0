"""Names for invented people, companies and streets. Some need more than the common character sets."""

from __future__ import annotations

from random import Random

from exchange.demo.chance import happens

_SURNAMES = (
    "李王张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎"
    "余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文"
    ""
)
_SURNAMES_OF_TWO = ("欧阳", "司徒", "上官", "诸葛")
_MALE = "伟强磊军洋勇杰涛明超平刚辉鹏华飞鑫波斌宇浩凯健俊帆帅旭宁龙林欢阳建亮成志峰晨东海山仁国安庆博文昊天睿轩泽翔"
_FEMALE = "芳娜敏静丽艳娟霞秀英玲桂兰红梅燕萍雪莉婷慧颖洁琳倩雯欣怡佳悦瑶梦琪涵思雨诗晴玉珍凤琴云莲月莹薇蕾"
_RARE = "㛃䶮𬍛𣲗𠅤𡝭昉喆堃"
_TURKIC_GIVEN = {
    "M": ("买买提", "艾力", "库尔班", "阿卜杜拉", "吐尔逊"),
    "F": ("阿依古丽", "热依汗", "古丽娜尔", "阿依夏木", "米热班"),
}
_TURKIC_FATHER = ("买买提", "艾合买提", "吾斯曼", "托合提", "依明")
_TRADES = ("科技", "贸易", "电子", "物流", "餐饮", "服装", "五金", "文化传播", "装饰工程", "环保")

MIDDLE_DOTS = ("·", "•", "・", "‧")
"""Spellings of the dot between the parts of a name; the first is the standard one (U+00B7)."""


def person(rng: Random, sex: str, surname: str | None = None) -> str:
    """Return a name in the standard spelling; `surname` is that of the father, if he is to pass his on."""
    if surname is None and happens(rng, 0.03):
        return dotted(rng, sex)
    family = surname or (rng.choice(_SURNAMES_OF_TWO) if happens(rng, 0.01) else rng.choice(_SURNAMES))
    characters = _MALE if sex == "M" else _FEMALE
    given = rng.choice(characters)
    if happens(rng, 0.8):
        given += rng.choice(_RARE) if happens(rng, 0.01) else rng.choice(characters)
    return family + given


def dotted(rng: Random, sex: str) -> str:
    """Return a name of two parts with the standard dot between them."""
    return f"{rng.choice(_TURKIC_GIVEN[sex])}·{rng.choice(_TURKIC_FATHER)}"


def surname(name: str) -> str | None:
    """Return the surname that a father passes on; None where names have no surname."""
    if "·" in name:
        return None
    return name[:2] if name[:2] in _SURNAMES_OF_TWO else name[:1]


def firm(rng: Random, number: int) -> str:
    """Return a company's registered name; the number keeps names apart."""
    return f"深圳市{rng.choice(_SURNAMES)}{rng.choice(_MALE)}{number:05d}{rng.choice(_TRADES)}有限公司"


def with_other_dot(name: str, rng: Random) -> str:
    """Return the name as somebody types it who does not know which dot is the standard one."""
    return name.replace("·", rng.choice(MIDDLE_DOTS[1:]))
