"""`zhiwang verify`: a case from the command line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from exchange.client.ask import Told, ask_agent
from exchange.client.case import Answer, Case, CaseResult, ClaimResult, Context, Ruling, Status, Subject
from exchange.client.client import TIMEOUT, Client
from exchange.client.keeper import Keeper
from exchange.client.receipt import write_receipt
from zhiwang.wire import output
from zhiwang.wire.claims import Claim, Predicate
from zhiwang.wire.errors import FatalError, RefusedError
from zhiwang.wire.profile import Profile, load_profile

STANDARD_INPUT = "-"
SIDE_BY_SIDE = 8
"""How many of these commands may run with one profile at a time."""

ANSWERS = {
    Answer.YES: "是 YES",
    Answer.NO: "否 NO",
    Answer.UNKNOWN: "无法核实，请人工核验 UNKNOWN",
}
ABSENT = {Answer.YES: "查无记录 none on record", Answer.NO: "有记录 on record", Answer.UNKNOWN: ANSWERS[Answer.UNKNOWN]}
STATUSES = {Status.DENIED: "未获准 DENIED", Status.UNAVAILABLE: "暂不可用 UNAVAILABLE"}
RULINGS = {
    Ruling.PASSED: "通过 passed",
    Ruling.CHECK_BY_HAND: "需人工核验 check by hand",
    Ruling.DATA_DISAGREES: "数据与申请不一致，请人工核验 data disagrees; a person has to look",
}
_STYLES = {ANSWERS[Answer.YES]: "green", ANSWERS[Answer.NO]: "red", ANSWERS[Answer.UNKNOWN]: "yellow"} | dict.fromkeys(
    STATUSES.values(), "magenta"
)

Opened = TypeVar("Opened", bound=Client)

app = typer.Typer(help="核验  Verify claims about a case.", add_completion=False)


@app.command()
def verify(
    profile: Annotated[
        Path | None,
        typer.Option("--profile", envvar="ZHIWANG_PROFILE", help="Profile: as whom to ask the hub.", dir_okay=False),
    ] = None,
    claims: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLAIM…", help="E.g. 'child: police.age at_least 6'. None: all claims of the matter."),
    ] = None,
    matter: Annotated[str, typer.Option(help="For which matter, e.g. school-enrolment.")] = "",
    reference: Annotated[str, typer.Option(help="Reference of the case, in the matter's pattern.")] = "",
    official: Annotated[str, typer.Option(help="Who asks; never an identifier of a citizen.")] = "",
    role: Annotated[str, typer.Option(help="Role in which to ask, e.g. edu/enrolment-clerk.")] = "",
    jurisdiction: Annotated[str, typer.Option(help="Where you act, e.g. nbs:440306.")] = "",
    reference_date: Annotated[str, typer.Option(help="YYYY-MM-DD, where the matter leaves it open.")] = "",
    subject: Annotated[
        list[str] | None,
        typer.Option(
            help="SLOT=IDENTIFIER[,NAME]; SLOT=- reads such lines from standard input, as arguments show in a "
            "process list. Several for one slot as often as the matter admits."
        ),
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a receipt there; it names citizens, so keep it safe.")
    ] = None,
    agent: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Ask the agent that runs there on this machine, e.g. 127.0.0.1:7441.")
    ] = "",
    min_policy_version: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**63 - 1,
            metavar="N",
            help="Wait until agent, hub and owner decide by directory N or newer, as `policy publish` told it.",
        ),
    ] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds to wait, at most.")] = TIMEOUT,
    as_json: output.AsJson = False,  # noqa: FBT002  a switch of the command line
) -> None:
    """Ask about one case, and print what the owners answered.

    With --profile this command is its own agent; with --agent it asks one that runs already, as any program would.

    Exit status: 0 whatever the answers, 1 if anything was denied or unavailable, 2 for wrong usage.

    Example: zhiwang verify --profile edu.toml --matter school-enrolment --reference 2026-000123
    --subject child=- --subject guardian=- "guardian: hrss.pension_months at_least 12"
    """
    subjects = read_subjects(subject or [], sys.stdin)
    if receipt is not None and receipt.exists():
        output.usage_error(f"{receipt} is there already; a receipt never replaces another")
    case = Case(subjects, tuple(claims or ()))
    context = Context(matter, reference, official, role, jurisdiction, reference_date, min_policy_version)
    root = Path("root")
    # The environment may name a profile for all commands: an agent that is named here stands above it.
    if agent:
        asking = ask_agent(agent, case, context, seconds=timeout, receipt=receipt is not None)
    elif profile is not None:
        loaded = load_profile(profile)
        root = loaded.root
        if loaded.agent.receipts is not None:
            output.say("本命令不留存凭证；留存凭证须经前置机办理（--agent）。")
            output.say("This command keeps no receipt, as [agent.receipts] asks; only an agent does: use --agent.")
        asking = _ask(loaded, case, context, timeout, receipt=receipt is not None)
    else:
        output.usage_error("say as whom to ask with --profile, or whom to ask with --agent")
    result, titles, mock = asyncio.run(asking)
    written = None
    if receipt is not None and result.receipt is not None:
        write_receipt(receipt, result.receipt)
        written = receipt
    if as_json:
        output.print_json(as_object(result, written, mock=mock))
    else:
        _print(result, titles)
        if written is not None:
            output.next_step(f"zhiwang receipt verify {written} --root {root}")
        elif receipt is not None:
            output.say("没有可出具凭证的结果  Nothing was answered, so there is no receipt.")
    raise typer.Exit(output.OK if all(one.status is Status.ANSWERED for one in result.claims) else output.FAILED)


def read_subjects(texts: Sequence[str], lines: Iterable[str]) -> tuple[Subject, ...]:
    """Subjects as options give them.

    Args:
        texts: SLOT=IDENTIFIER[,NAME] or SLOT=-.
        lines: Standard input: IDENTIFIER[,NAME] in each line. With several slots to read, SLOT= stands before.

    Raises:
        typer.Exit: With status 2, for wrong usage; nothing of what was given is repeated.
    """
    pairs = [text.partition("=") for text in texts]
    if not pairs or not all(slot and equals and value for slot, equals, value in pairs):
        output.usage_error("give each subject as --subject SLOT=IDENTIFIER[,NAME] or --subject SLOT=-")
    piped = [slot for slot, _, value in pairs if value == STANDARD_INPUT]
    subjects = [_subject(slot, value) for slot, _, value in pairs if value != STANDARD_INPUT]
    if not piped:
        return tuple(subjects)
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        slot, equals, value = text.partition("=")
        if len(set(piped)) == 1 and not equals:
            slot, value = piped[0], text
        if slot not in piped or not value:
            output.usage_error(f"line {number} of standard input: write SLOT=IDENTIFIER[,NAME] with a slot given as -")
        subjects.append(_subject(slot, value))
    return tuple(subjects)


def _subject(slot: str, text: str) -> Subject:
    identifier, _, name = text.replace("，", ",", 1).partition(",")
    return Subject(slot, identifier.strip(), name.strip())


async def _ask(profile: Profile, case: Case, context: Context, seconds: float, *, receipt: bool) -> Told:
    async with await open_client(profile) as client:
        result = await client.verify(case, context, timeout=seconds, receipt=receipt)
        titles = {
            f"{attribute.owner}.{attribute.name}": attribute.title.zh
            for document in client.directory.documents.values()
            for attribute in document.attributes.values()
        }
        return Told(result, titles, mock=False)


async def open_client(profile: Profile) -> Client:
    """A client of one command, with a state of its own beside that of an agent and those of other commands."""
    return await open_beside(Client, profile, "verify")


async def open_beside(kind: type[Opened], profile: Profile, state: str, keeper: Keeper | None = None) -> Opened:
    """A client beside others of the same profile.

    Args:
        kind: Of which class.
        profile: Who and where.
        state: How the names of its folders in the profile's state directory begin.
        keeper: Keeps the receipts, if any are kept.
    """
    for number in range(1, SIDE_BY_SIDE):
        try:
            return await kind.open(profile, state=f"{state}-{number}", keeper=keeper)
        except FatalError as error:
            if "another process" not in error.detail:
                raise
    return await kind.open(profile, state=f"{state}-{SIDE_BY_SIDE}", keeper=keeper)


def answer_text(claim: str, answer: Answer) -> str:
    """An answer for people. A claim of absence says what is on record, never that there is no such person."""
    try:
        absent = Claim.parse(claim).predicate is Predicate.ABSENT
    except RefusedError:
        absent = False
    return (ABSENT if absent else ANSWERS)[answer]


def as_object(result: CaseResult, receipt: Path | None, *, mock: bool) -> dict[str, Any]:
    """A result as one JSON object."""
    return {
        "mock": mock,
        "ruling": result.ruling.name,
        "claims": [
            {
                "claim": one.claim,
                "name": one.name,
                "ordinal": one.ordinal,
                "compared_ordinal": one.compared_ordinal,
                "status": one.status.name,
                "answer": one.answer.name if one.answer else "",
                "reason": one.reason.name if one.reason else "",
                "data_as_of": datetime.fromtimestamp(one.data_as_of, UTC).isoformat() if one.data_as_of else None,
                "counter": one.counter,
            }
            for one in result.claims
        ],
        "receipt": str(receipt) if receipt is not None else None,
    }


def _print(result: CaseResult, titles: Mapping[str, str]) -> None:
    rows = []
    for one in result.claims:
        said = answer_text(one.claim, one.answer) if one.status is Status.ANSWERED else STATUSES[one.status]
        as_of = output.local_time(one.data_as_of) if one.data_as_of else ""
        rows.append((f"{one.claim}{_which(one)}", _title(one.claim, titles), said, as_of, _help(one)))
    output.print_table(
        ("待核事实 claim", "问题 question", "结果 answer", "数据截至 data as of", "说明 note"), rows, styles=_STYLES
    )
    if result.ruling is not Ruling.NONE:
        output.console().print(f"事项规则 rule: {RULINGS[result.ruling]}", markup=False)


def _which(one: ClaimResult) -> str:
    """Which of several subjects; the first is not worth a number."""
    if not one.ordinal and not one.compared_ordinal:
        return ""
    return f"  (#{one.ordinal + 1}" + (f", @#{one.compared_ordinal + 1})" if "@" in one.claim else ")")


def _title(claim: str, titles: Mapping[str, str]) -> str:
    try:
        ask = Claim.parse(claim)
    except RefusedError:
        return ""
    return titles.get(f"{ask.owner}.{ask.attribute}", "")


def _help(one: ClaimResult) -> str:
    if one.reason is not None:
        return f"{one.reason.value.zh} {one.reason.name}"
    return f"异议窗口 counter: {one.counter}" if one.counter else ""
