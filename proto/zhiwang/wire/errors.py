"""Every way in which Zhiwang says no, and what the outside may know of it.

A `Reason` is public: its code goes over the wire, its texts into pages and `docs/errors.md`. What an error carries
besides (`detail`) is for the log of the process that raised it, and never leaves it. Nothing in either may hold an
identifier, a name or a value of a citizen. Errors become gRPC statuses in one place, `wire/server.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

DOMAIN = "zhiwang"
"""Domain of google.rpc.ErrorInfo."""


class Actor(Enum):
    """Who has to act so that it goes better next time."""

    REQUESTER = "requester"
    REQUESTER_ADMIN = "requester's admin"
    OWNER = "owner"
    OPERATOR = "operator"
    NOBODY = "nobody: try again"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason says.

    Attributes:
        status: Name of the gRPC status code that a whole call gets.
        actor: Who has to act.
        zh: Public text in Chinese.
        en: Public text in English, with what to do next.
    """

    status: str
    actor: Actor
    zh: str
    en: str


class Reason(Enum):
    """The catalogue. The member's name is what goes over the wire; `docs/errors.md` is made from it."""

    # What the requester's program sent.
    CLAIM_SYNTAX = Meaning(
        "INVALID_ARGUMENT", Actor.REQUESTER, "待核事实写法有误", "A claim does not follow the syntax of docs/claims.md."
    )
    SLOT_UNKNOWN = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "事项中没有此主体位置",
        "The matter has no such slot, or it takes fewer subjects.",
    )
    IDENTIFIER_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "证件号码或编码不合规则",
        "An identifier does not follow its scheme; check the typing and the check digit.",
    )
    NAME_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "姓名含有不允许的字符或过长",
        "A name is too long or holds control, invisible, private-use or unassigned characters.",
    )
    VALUE_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "比对值不合该核验项的类型",
        "A compared value is too long or not of the attribute's type.",
    )
    CONDITION_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "查询条件无效，或含有公民的证件号码",
        "A condition of a search is none, or holds an identifier of a citizen, which may not get into the log.",
    )
    DELAY_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.OWNER,
        "延期告知的条件无效，或期限过长",
        "A delay names an official, a matter or a reference, and ends within 366 days; it may be renewed.",
    )
    TOO_MANY_CLAIMS = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "一次待核事实过多",
        "More claims than one call admits; split the case or the roster.",
    )
    REFERENCE_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "办件编号不合事项规定的格式",
        "The reference does not follow the matter's pattern, or holds an identifier of a citizen.",
    )
    OFFICIAL_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "经办人编号不合规定",
        "The official's id is missing, is not short ASCII, or holds an identifier of a citizen.",
    )
    JURISDICTION_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "辖区代码有误",
        "A jurisdiction is written CODESYSTEM:CODE with a code of 4, 6, 9 or 12 digits.",
    )
    BATCH_UNKNOWN = Meaning(
        "NOT_FOUND", Actor.REQUESTER, "没有此批次", "No such batch on this agent, or its results are no longer kept."
    )
    PAGE_TOKEN_INVALID = Meaning(
        "INVALID_ARGUMENT", Actor.REQUESTER, "翻页标记无效", "The page token is not one that this server gave."
    )
    # The sealed request.
    REQUEST_MALFORMED = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "请求格式有误",
        "The header or an envelope field is not as docs/protocol.md says.",
    )
    REQUEST_TOO_LARGE = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "请求过大",
        "The request is larger than the protocol admits; send fewer cases, or fewer and smaller files.",
    )
    SUITE_NOT_ACCEPTED = Meaning(
        "FAILED_PRECONDITION",
        Actor.REQUESTER_ADMIN,
        "对方不接受此密码套件",
        "The owner does not accept this cipher suite.",
    )
    KEY_UNKNOWN = Meaning(
        "FAILED_PRECONDITION",
        Actor.NOBODY,
        "加密公钥已失效",
        "The owner no longer has the key for which this was sealed; fetch its keys and seal again.",
    )
    SEAL_BROKEN = Meaning(
        "INVALID_ARGUMENT", Actor.REQUESTER, "密文无法解开", "The sealed part does not open under its header."
    )
    COMMITMENT_MISMATCH = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "承诺值与内容不符",
        "The signed request root is not that of the sealed claims.",
    )
    SIGNATURE_INVALID = Meaning(
        "UNAUTHENTICATED", Actor.REQUESTER, "签名无效", "The request's signature does not verify."
    )
    CERTIFICATE_INVALID = Meaning(
        "UNAUTHENTICATED",
        Actor.REQUESTER_ADMIN,
        "证书无效",
        "A certificate was not issued by this city's authority for this use.",
    )
    CERTIFICATE_EXPIRED = Meaning(
        "UNAUTHENTICATED",
        Actor.REQUESTER_ADMIN,
        "证书不在有效期内",
        "A certificate has expired or is not yet valid; renew it.",
    )
    CERTIFICATE_REVOKED = Meaning(
        "UNAUTHENTICATED", Actor.REQUESTER_ADMIN, "证书已吊销", "A certificate has been revoked; request a new one."
    )
    IDENTITY_MISMATCH = Meaning(
        "PERMISSION_DENIED",
        Actor.REQUESTER_ADMIN,
        "身份不一致",
        "The header names another system than the certificates of connection and signature do.",
    )
    REQUEST_EXPIRED = Meaning(
        "FAILED_PRECONDITION", Actor.NOBODY, "请求已过期", "The request's time is over; send it anew."
    )
    CLOCK_SKEW = Meaning(
        "FAILED_PRECONDITION",
        Actor.OPERATOR,
        "时钟偏差过大",
        "The request was issued in the future; set the clocks (the offset is in the error's details).",
    )
    LIFETIME_TOO_LONG = Meaning(
        "INVALID_ARGUMENT", Actor.REQUESTER, "请求有效期过长", "A request may live for 60 seconds at most."
    )
    REPLAYED = Meaning(
        "ALREADY_EXISTS",
        Actor.REQUESTER,
        "请求编号已用于其他内容",
        "Another request has this id; retries must send the same bytes.",
    )
    # What policy says.
    RPC_NOT_ALLOWED = Meaning(
        "PERMISSION_DENIED", Actor.REQUESTER_ADMIN, "无权调用此接口", "This kind of identity may not call this method."
    )
    CALLER_NOT_MAPPED = Meaning(
        "PERMISSION_DENIED",
        Actor.REQUESTER_ADMIN,
        "调用方未在前置机登记",
        "The agent's profile maps this caller to no system; add it under [[agent.caller]].",
    )
    ROLE_NOT_HELD = Meaning(
        "PERMISSION_DENIED",
        Actor.REQUESTER_ADMIN,
        "该系统不具有此角色",
        "The department's own document does not give this system the role.",
    )
    OUTSIDE_HOME = Meaning(
        "PERMISSION_DENIED", Actor.REQUESTER, "超出本系统所属辖区", "The jurisdiction lies outside the system's home."
    )
    MATTER_NOT_ALLOWED = Meaning(
        "PERMISSION_DENIED",
        Actor.REQUESTER,
        "无此事项或不得为此事项查询",
        "No such matter, or not one for this department.",
    )
    MATTER_CHANGED = Meaning(
        "FAILED_PRECONDITION",
        Actor.NOBODY,
        "事项已更新",
        "The matter has been published anew; read it again and ask again.",
    )
    DATE_NOT_PUBLISHED = Meaning(
        "PERMISSION_DENIED",
        Actor.REQUESTER,
        "基准日未公布",
        "Neither the matter nor the attribute admits this reference date.",
    )
    NOT_GRANTED = Meaning(
        "PERMISSION_DENIED",
        Actor.REQUESTER_ADMIN,
        "未获授权",
        "No grant of the owner allows this; `zhiwang policy explain` says what would.",
    )
    CELL_NOT_PUBLISHED = Meaning(
        "PERMISSION_DENIED",
        Actor.REQUESTER,
        "阈值未公布",
        "The owner publishes the thresholds that can be asked; this is none.",
    )
    GUESSES_SPENT = Meaning(
        "RESOURCE_EXHAUSTED",
        Actor.REQUESTER,
        "比对次数已达上限",
        "This department has compared too many different values for one subject; a person has to look.",
    )
    REPORTS_SPENT = Meaning(
        "RESOURCE_EXHAUSTED",
        Actor.REQUESTER,
        "本日代查人数已达上限",
        "This official, or all of its department together, has had reports about as many people as it may in a day.",
    )
    SUBJECT_HELD = Meaning(
        "FAILED_PRECONDITION",
        Actor.OWNER,
        "有关记录已被依法保全，不能抹去",
        "Entries about this subject are under a hold, which stands above erasure; wait until it is lifted.",
    )
    CODE_SYSTEM_UNKNOWN = Meaning(
        "PERMISSION_DENIED",
        Actor.REQUESTER,
        "区划代码体系不同",
        "The owner's places are in another code system; ask with a code of six digits or fewer.",
    )
    # Who could not answer now.
    OWNER_NOT_ATTACHED = Meaning(
        "UNAVAILABLE",
        Actor.OWNER,
        "数据提供部门未接入",
        "No adapter of the owner is attached to the hub; try again later.",
    )
    OWNER_TIMED_OUT = Meaning(
        "UNAVAILABLE", Actor.NOBODY, "数据提供部门超时", "The owner did not answer in time; try again."
    )
    OWNER_FAILED = Meaning(
        "UNAVAILABLE",
        Actor.OWNER,
        "数据提供部门处理失败",
        "The owner's adapter failed; its operator finds why in its log.",
    )
    DATABASE_UNAVAILABLE = Meaning(
        "UNAVAILABLE", Actor.OWNER, "数据库不可用", "The owner's database could not be read; try again later."
    )
    PROBE_FAILED = Meaning(
        "UNAVAILABLE",
        Actor.OWNER,
        "核验项自检未通过",
        "The owner's self-test of this attribute fails; its operator was alarmed.",
    )
    BULK_CLOSED = Meaning(
        "UNAVAILABLE",
        Actor.REQUESTER,
        "不在批量核验时段",
        "The owner answers rosters only at certain hours, such as at night; send it again then.",
    )
    LOG_UNAVAILABLE = Meaning(
        "UNAVAILABLE",
        Actor.OPERATOR,
        "审计日志不可用",
        "A log cannot be written, so nothing is answered; call the operator.",
    )
    NOT_WITNESSED = Meaning(
        "UNAVAILABLE",
        Actor.OPERATOR,
        "日志未获足够见证",
        "No quorum of witnesses has cosigned the log, or not lately; try again, or call the operator.",
    )
    DIRECTORY_EXPIRED = Meaning(
        "UNAVAILABLE", Actor.OPERATOR, "名录已过期", "The directory's timestamp has expired; is the registrar running?"
    )
    DIRECTORY_BEHIND = Meaning(
        "UNAVAILABLE",
        Actor.NOBODY,
        "名录尚未更新",
        "The request was built by a newer directory; try again in a second.",
    )
    HUB_UNREACHABLE = Meaning(
        "UNAVAILABLE",
        Actor.OPERATOR,
        "无法连接枢纽",
        "No hub could be reached; check address, network and certificates.",
    )
    OVERLOADED = Meaning(
        "RESOURCE_EXHAUSTED", Actor.NOBODY, "系统繁忙", "A bounded queue is full; try again after a pause."
    )
    TOO_MANY_STREAMS = Meaning(
        "RESOURCE_EXHAUSTED",
        Actor.REQUESTER,
        "同时打开的批量核验流过多",
        "This caller, or all callers together, have too many VerifyBatch streams open at this agent; send more cases "
        "on one that is open, or end one and try again.",
    )
    DEADLINE_EXCEEDED = Meaning(
        "DEADLINE_EXCEEDED", Actor.NOBODY, "超过时限", "The caller's time ran out; ask with more time."
    )
    SHUTTING_DOWN = Meaning(
        "UNAVAILABLE", Actor.NOBODY, "服务正在停止", "The process is stopping; try another, or again."
    )
    PROOF_INVALID = Meaning(
        "DATA_LOSS",
        Actor.OPERATOR,
        "凭证校验失败",
        "A proof, checkpoint or reply of hub or owner does not verify; the answer was withheld. Call the audit office.",
    )
    RECEIPT_NOT_KEPT = Meaning(
        "UNAVAILABLE",
        Actor.REQUESTER_ADMIN,
        "凭证无法保存",
        "The agent could not keep the receipt, so the answer was withheld; look at its disk and log, then ask again.",
    )
    # The directory.
    METADATA_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER_ADMIN,
        "名录元数据无效",
        "The signed metadata does not verify: too few signatures, a wrong version, a foreign path or a wrong hash.",
    )
    DOCUMENT_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER_ADMIN,
        "文件内容有误",
        "A document does not hold together; each finding is in the details.",
    )
    ASSERTION_FAILED = Meaning(
        "FAILED_PRECONDITION",
        Actor.REQUESTER_ADMIN,
        "断言不成立",
        "An assertion of a department's document would no longer hold; nothing was published.",
    )
    PROPOSAL_UNKNOWN = Meaning(
        "NOT_FOUND",
        Actor.REQUESTER_ADMIN,
        "没有此提案，或已发布、撤回、过期",
        "There is no such proposal; it was published, rejected or has lapsed.",
    )
    PROPOSAL_UNSIGNED = Meaning(
        "FAILED_PRECONDITION",
        Actor.REQUESTER_ADMIN,
        "提案的签名不足",
        "The proposal has not been signed by enough admins.",
    )
    PROPOSAL_SIGNED = Meaning(
        "FAILED_PRECONDITION",
        Actor.REQUESTER_ADMIN,
        "此管理员已签署该提案，须由另一名管理员签署",
        "This admin has signed the proposal already; another admin of the same department must.",
    )
    NOTE_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER_ADMIN,
        "理由过长或含有身份信息",
        "A reason in words is too long, or contains an identifier.",
    )
    EMERGENCY_UNKNOWN = Meaning(
        "NOT_FOUND",
        Actor.REQUESTER_ADMIN,
        "没有此应急启用，或不由您复核",
        "There is no such opened emergency that you may review.",
    )
    EMERGENCY_OPEN = Meaning(
        "FAILED_PRECONDITION",
        Actor.NOBODY,
        "此应急启用尚未结束，结束后方可复核",
        "The opening has not ended yet; it can be reviewed once it has.",
    )
    EMERGENCY_UNREVIEWED = Meaning(
        "FAILED_PRECONDITION",
        Actor.OWNER,
        "此应急授权上次启用尚未复核，或距上次启用不足 24 小时",
        "The last opening of this emergency has not been reviewed, or began less than a day ago.",
    )
    FILE_UNKNOWN = Meaning("NOT_FOUND", Actor.NOBODY, "没有此文件", "The directory has no such file.")
    NAME_UNKNOWN = Meaning(
        "NOT_FOUND",
        Actor.REQUESTER_ADMIN,
        "名录中没有此名称，或该版名录未保存",
        "The directory has no such department, attribute, system or role, or no such version of it is kept.",
    )
    # The log.
    ENTRY_UNKNOWN = Meaning(
        "NOT_FOUND", Actor.REQUESTER, "没有此记录", "The log has no entry of this index, or no tree of this size."
    )
    ORDER_INVALID = Meaning(
        "INVALID_ARGUMENT",
        Actor.REQUESTER,
        "文书编号或期限无效",
        "The number of an order has up to 64 letters, digits, brackets and - _ . /, and no identifier of a citizen; a "
        "hold ends in the future, within two years, and can be renewed.",
    )
    HOLD_DIFFERS = Meaning(
        "ALREADY_EXISTS",
        Actor.REQUESTER,
        "该文书编号已有不同的保全",
        "A hold of this order stands with other conditions, or until a later date. It can be renewed with the same "
        "conditions until a later date; otherwise lift it first, or give another number.",
    )
    HOLD_UNKNOWN = Meaning(
        "NOT_FOUND", Actor.REQUESTER, "没有此保全", "No hold of this order is in force that you may lift."
    )
    SHARD_KEPT = Meaning(
        "FAILED_PRECONDITION",
        Actor.REQUESTER,
        "该年度日志须保留",
        "The log of this year is not removed: its retention is not over, it is held, or it has not ended. "
        "`zhiwang audit retention` says which.",
    )
    # Everything else.
    INTERNAL = Meaning(
        "INTERNAL",
        Actor.OPERATOR,
        "内部错误",
        "Something went wrong; the process's own log says what, under the request id.",
    )

    @property
    def status(self) -> str:
        """Name of the gRPC status code."""
        return self.value.status


class ZhiwangError(Exception):
    """A refusal or failure with a public reason.

    Args:
        reason: What the outside may know.
        detail: What the log may know besides. Never an identifier, a name or a value of a citizen.
        field: Public path of the field that is wrong, e.g. "context.matter".
        metadata: Public key-value pairs for google.rpc.ErrorInfo.
    """

    def __init__(
        self, reason: Reason, detail: str = "", *, field: str = "", metadata: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"{reason.name}: {detail}" if detail else reason.name)
        self.reason = reason
        self.detail = detail
        self.field = field
        self.metadata = metadata or {}


class RefusedError(ZhiwangError):
    """One request cannot be served; the next one may be. Nothing is wrong with the process."""


class FatalError(ZhiwangError):
    """The process must not go on with what this concerns: a log that cannot be written, a directory that fell back."""
