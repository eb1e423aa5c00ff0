"""What a bundle says beside its entries: what was never kept, what it does not prove, and how to verify it offline.

Chinese first, then English, sentence for sentence. The first two follow the table "who sees what" of the design.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policy.words import Sentence

NEVER_KEPT: Final[Sequence[Sentence]] = (
    Sentence(
        "被核验的人、单位或住房（主体）：枢纽从未看到，枢纽的数据库和日志中没有；数据部门的日志中也没有明文，只有"
        "加盐承诺的默克尔根。",
        "Who was asked about: the hub never saw it, and neither its database nor its log holds it; an "
        "owner's log holds it not in clear either, only under a Merkle root of salted commitments.",
    ),
    Sentence(
        "比对用的值或对方当事人：同上，枢纽从未看到。",
        "Compared values and compared persons: the same; the hub never saw them.",
    ),
    Sentence(
        "核验结果（是、否、无法核实）：枢纽从未看到，枢纽日志中没有；数据部门的日志中只有加盐答复的默克尔根。“已"
        "答复”不表示答案为“是”。",
        "The answers (yes, no, unknown): the hub never saw them and its log has none; an owner's log has a "
        "Merkle root of salted answers. “Answered” does not mean yes.",
    ),
    Sentence(
        "数据部门的原始记录：从未离开其数据库，任何日志中都没有。",
        "The owners' records: they never left their databases and stand in no log.",
    ),
    Sentence(
        "名单核验（一次多人）中每一办件的编号：密封于请求内，请求头中只有整批的编号。",
        "References of the single cases of a roster: they are sealed; the header has the job's reference only.",
    ),
)

OTHERS_COULD_ADD: Final[Sequence[Sentence]] = (
    Sentence(
        "数据部门可用自己的索引（密钥只在该部门）说明某人何时被何人查询：zhiwang audit subject。",
        "An owner can say by its own index, whose key nobody else has, when a person was asked about and "
        "by whom: zhiwang audit subject.",
    ),
    Sentence(
        "数据部门可出具自己日志中的对应记录，由本包中的记录号和散列指明。",
        "An owner can produce the entry of its own log that an entry here names by index and hash.",
    ),
    Sentence(
        "请求部门若保存了凭证，可打开其中的主体、比对值和结果，并与日志中的根对上：zhiwang receipt verify。",
        "A requester that kept a receipt can open subject, compared value and answer, which the roots in "
        "the logs bear out: zhiwang receipt verify.",
    ),
)

NOT_PROVED: Final[Sequence[Sentence]] = (
    Sentence(
        "不证明没有其他符合条件的记录：所列的每一条都经证明在日志中，但“全部”取决于查询人和日志保管方；对整部日"
        "志可用 zhiwang audit verify --full 核对。",
        "That nothing else fits the conditions: each entry is proved to be in the log, but that these are "
        "all rests on who searched and who keeps the log. The whole log is verified with zhiwang audit "
        "verify --full.",
    ),
    Sentence(
        "不证明答复的内容属实：只证明数据部门作出了答复。",
        "That an answer was true: only that the owner gave one.",
    ),
    Sentence(
        "不证明经办人就是本人：经办人由请求部门声明，保证程度见各条。",
        "That the official was the person named: the requester asserts that, with the assurance that each "
        "entry states.",
    ),
    Sentence(
        "时间出自日志保管方的时钟；见证签名和时间戳（如有）另行说明最迟何时已在。",
        "Times are by the clock of the log's keeper; cosignatures of witnesses and time stamps, where "
        "there are any, say by when an entry was there at the latest.",
    ),
    Sentence(
        "数据部门与枢纽合谋可以隐去一次查询；没有见证人时，日志保管方可以向两方出示两部历史，直到双方比对。",
        "An owner and a hub that collude can hide an access; without witnesses, a log's keeper could show "
        "two histories to two audiences until they compare.",
    ),
)


def statement() -> str:
    """What was never kept, what others could add, and what is not proved; Markdown."""
    parts = ["# 未保存的内容与证明范围  What was never kept, and what is not proved\n"]
    for title, lines in (
        ("从未保存，因此无从出具  Never kept, so nobody can produce it here", NEVER_KEPT),
        ("其他方可以补充  What others could add", OTHERS_COULD_ADD),
        ("本包不证明  What this bundle does not prove", NOT_PROVED),
    ):
        parts.append(f"\n## {title}\n\n")
        parts += [f"- {zh}\n  {en}\n" for zh, en in lines]
    return "".join(parts)


def readme(origin: str, size: int) -> str:
    """How to verify a bundle offline; Markdown.

    Args:
        origin: Of the log.
        size: Of the tree under whose checkpoint the entries are proved.
    """
    return f"""# 证据包的核验方法  How to verify this bundle offline

日志 log: {origin}，检查点 checkpoint: {size} 条记录 entries

## 用本系统的命令  With the commands of this project

只需要锁定的根目录（root.json 与 ca.pem）。 Nothing but the pinned root directory is needed (root.json and ca.pem).

    zhiwang audit check-bundle . --root ROOT

## 用其他工具  With tools of others

    sha256sum -c SHA256SUMS
    sha256sum SHA256SUMS
    openssl verify -CAfile certificates/ca.pem -partial_chain certificates/log.pem

- `SHA256SUMS` 列出每个文件的散列；它自身的散列记录在日志的出具记录中（production.entry，字段 manifest_hash）。
  `SHA256SUMS` has the hash of each file; its own hash stands in the log, in the entry of this production
  (production.entry, field manifest_hash).
- `checkpoint` 是 C2SP 签名检查点，`log.vkey` 是其验证密钥，可用 golang.org/x/mod/sumdb/note 核验。
  `checkpoint` is a C2SP signed checkpoint and `log.vkey` its verifier key: golang.org/x/mod/sumdb/note verifies them.
- `entries/N.entry` 是记录的原始字节（protobuf，zhiwang.audit.v1.Entry）；`entries/N.tlog-proof` 是 C2SP tlog-proof
  存在证明（RFC 6962 散列）。
  `entries/N.entry` has the exact bytes of an entry (protobuf, zhiwang.audit.v1.Entry); `entries/N.tlog-proof` is its
  inclusion proof as a C2SP tlog-proof, with RFC 6962 hashes.
- `policy/` 是 TUF 仓库的文件，文件名与发布时相同，自 root.json 起逐级签名。
  `policy/` has files of a TUF repository under the names that they were published by, signed from root.json down.
- 可接受的根证书与根元数据须由核验人自行掌握，不得取自本包。
  Whom to trust (root.json, ca.pem) has to come from elsewhere than this bundle.

## 文件  Files

| 文件 file | 内容 what |
|---|---|
| index.html | 文字说明，可打印 in words, to be printed |
| entries.json | 同样内容的数据 the same as data |
| statement.md | 从未保存的内容与证明范围 what was never kept, and what is not proved |
| entries/ | 记录与证明 entries and proofs |
| certificates/ | 签名证书、签发机构、吊销列表 signers, authority, revocation list |
| policy/ | 当日有效的政策文件 the policy of each entry's day |
| receipts/ | 凭证（如有） receipts, if any were given |
| production.* | 本次出具在日志中的记录与证明 the log's entry of this production, and its proof |
"""
