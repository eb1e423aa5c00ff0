"""`zhiwang demo`: a whole city on this machine."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import join
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from exchange.demo import town as towns
from exchange.demo.applications import NotEnoughChildrenError
from exchange.demo.build import DISTRICT, MATTER, ROLE, Layout
from exchange.demo.calendar import ENROLMENT_DAY
from exchange.demo.generate import residents_for
from exchange.demo.journey import Findings, Journey, Options
from exchange.demo.model import Application, City
from exchange.demo.processes import Fleet, ProcessError
from exchange.demo.roster import NEVER_GRANTED, OFFICIAL, PUBLISHED_SECONDS
from exchange.demo.town import Town
from exchange.demo.truth import expectations
from zhiwang.wire import output

DEFAULT_STUDENTS = 200
SHOWN_FAILURES = 20

app = typer.Typer(add_completion=False)


class Screen:
    """Tells a person on standard error how far it is."""

    def __init__(self) -> None:
        self._console = output.error_console()

    def step(self, text: str) -> None:
        """Say that something begins."""
        self._console.print(Text.assemble(("▸ ", "bold cyan"), text))

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar."""
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.percentage:.0f} %"), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("", total=total)
            yield lambda count: progress.advance(task, count)


@app.command()
def demo(
    students: Annotated[int, typer.Option(min=1, help="Applications for a school place.")] = DEFAULT_STUDENTS,
    residents: Annotated[
        int | None, typer.Option(min=100, help="People in the city.", show_default="20000, more for many students")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the city; the same seed makes the same one.")] = 1,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Empty or new directory for the city, which stays.", file_okay=False),
    ] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the city running, and say how to talk to it.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the city that was kept in --dir.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Run a whole city on this machine, and check every answer against the truth.

    It makes keys, a signed directory and eight departments' databases in a directory of its own; starts registrar,
    hub, eight adapters and an agent; asks about every applicant; reads every log; and ends without leaving a process.

    Example: zhiwang demo --students 1000
    """
    if stop:
        _stop(directory)
        return
    options = Options(students, residents or residents_for(students), seed)
    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.signal(number, _end))
        layout = Layout(_place(directory, stack, keep=keep))
        fleet = Fleet(layout.logs, lasting=keep)
        stack.callback(fleet.stop)
        try:
            town, city, findings = Journey(layout, options, fleet, Screen()).run()
        except NotEnoughChildrenError as error:
            output.usage_error(str(error))
        except ProcessError as error:
            _fail([str(error)])
        if as_json:
            output.print_json(_summary(findings))
        else:
            _show(findings)
        if findings.failures:
            _fail(findings.failures)
        if keep:
            # From here on the city belongs to the person, who was told how to stop it.
            town.note()
            stack.pop_all()
            _show_city(town, city)


def _place(directory: Path | None, stack: ExitStack, *, keep: bool) -> Path:
    """Return the city's directory: the person's, or a temporary one that goes when the city does."""
    if directory is not None:
        directory = directory.resolve()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            output.usage_error(f"{directory} is not empty; a demo never writes over anything")
        return directory
    if keep:
        return Path(tempfile.mkdtemp(prefix="zhiwang-demo-"))
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zhiwang-demo-")))


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    """End as by Ctrl-C, so that everything that was started is stopped.

    Raises:
        SystemExit: Always.
    """
    raise SystemExit(128 + number)


def _stop(directory: Path | None) -> None:
    if directory is None:
        output.usage_error("say with --dir which city to stop")
    try:
        stopped = towns.stop(directory.resolve())
    except FileNotFoundError:
        output.usage_error(f"no city was left running in {directory}")
    output.say(f"已停止 stopped: {', '.join(stopped) or 'nothing, it had ended'}")


def _summary(findings: Findings) -> dict[str, object]:
    """Return what `--json` prints; its keys are a contract."""
    tally = findings.tally
    return {
        "students": tally.students,
        "claims": tally.claims,
        "answers": {answer: tally.answers[answer] for answer in ("YES", "NO", "UNKNOWN")},
        "denied": tally.denied,
        "unavailable": tally.unavailable,
        "seconds": round(tally.seconds, 3),
        "ms_per_student": round(tally.seconds * 1000 / max(1, tally.students), 3),
        "log_entries": sum(log.checkpoint.size for log in findings.logs),
        "log_verified": findings.log_verified,
        "receipt_verified": bool(findings.receipt),
    }


def _show(findings: Findings) -> None:
    tally = findings.tally
    output.print_table(
        ("结论", "ruling", "applications"),
        [
            ("通过", "passed", tally.rulings["passed"]),
            ("人工核验", "check by hand", tally.rulings["check by hand"]),
            ("数据不一致", "data disagrees", tally.rulings["data disagrees"]),
        ],
        title=f"{tally.students:,} applications, {tally.claims:,} claims",
    )
    output.print_table(
        ("待核事实 claim", "是 YES", "否 NO", "无法核实 UNKNOWN"),
        [(name, counts["YES"], counts["NO"], counts["UNKNOWN"]) for name, counts in tally.by_claim.items()],
    )
    each = tally.seconds * 1000 / max(1, tally.students)
    lines = [
        ("每名学生 a student", f"{each:.2f} ms, where the city reported {PUBLISHED_SECONDS * 1000:.0f} ms"),
        ("拒绝的问题 refused", f"{NEVER_GRANTED!r}: {_reason(findings)}"),
        ("凭证 receipt", _receipt(findings)),
    ]
    for log in findings.logs:
        name, size = log.checkpoint.origin, log.checkpoint.size
        lines.append((f"日志 log of {name}", f"{size:,} entries, verified from the first to the signed checkpoint"))
    lines.append(("用时 in all", f"{findings.seconds:.1f} s"))
    output.print_table(("此外", "besides"), lines)


def _reason(findings: Findings) -> str:
    reason = findings.refused
    return "it was answered" if reason is None else f"{reason.name}  {reason.value.zh}  {reason.value.en}"


def _receipt(findings: Findings) -> str:
    if not findings.receipt:
        return "does not verify"
    owners = ", ".join(part.owner.department for part in findings.receipt)
    claims = sum(len(part.claims) for part in findings.receipt)
    return f"verified offline with the pinned authority alone: {claims} claims answered by {owners}"


def _show_city(town: Town, city: City) -> None:
    """Say how to talk to a city that was left running. Its people are invented."""
    layout = town.layout
    plain = _sample(city)
    mother = plain.guardians[0].person
    command = sys.argv[0]
    context = ["--matter", MATTER, "--role", ROLE, "--jurisdiction", f"nbs:{plain.district}"]
    verify = [
        *(command, "verify", "--profile", str(layout.system_profile), *context),
        *("--reference", plain.number, "--official", OFFICIAL),
        *("--subject", f"child={plain.child.person.identifier}", "--subject", f"guardian={mother.identifier}"),
        "child: health.birth_mother related @guardian",
        "guardian: hrss.pension_months at_least 12",
    ]
    receipt = [command, "receipt", "verify", str(layout.directory / "receipt.json"), "--root", str(layout.root)]
    auditor = ["--profile", str(layout.auditor_profile)]
    explain = [
        command,
        "policy",
        "explain",
        "police.conviction absent",
        *auditor,
        "--system",
        "edu/enrolment",
        *context,
    ]
    audit = [command, "audit", "verify", *auditor, "--owner", "hrss", "--from", str(layout.state("hrss"))]
    for heading, line in (
        ("核验 ask about a case", join(verify)),
        ("凭证 verify a receipt", join(receipt)),
        ("政策 why something is refused", join(explain)),
        ("审计 read a log", f"{join([command, 'audit', 'init', *auditor])} && {join(audit)}"),
        ("接口 any gRPC client, with reflection and health", f"{town.agent} (zhiwang.verification.v1, without TLS)"),
        ("日志 what the processes say", str(layout.logs)),
        ("停止 stop the city", join([command, "demo", "--stop", "--dir", str(layout.directory)])),
    ):
        sys.stderr.write(f"\n{heading}\n    {line}\n")


def _sample(city: City) -> Application:
    """Return an application to try things with: one that passes, in the district of the profile if there is one."""
    expected = expectations(city, ENROLMENT_DAY)
    plain = [one for one in city.applications if one.guardians and not one.trouble] or city.applications
    return max(plain, key=lambda one: (expected[one.number].ruling == "passed", one.district == DISTRICT))


def _fail(failures: list[str]) -> NoReturn:
    """End with status 1, loudly.

    Raises:
        typer.Exit: Always.
    """
    console = output.error_console()
    console.print(Text(f"示范失败 the demo failed: {len(failures)} findings", style="bold red"))
    for failure in failures[:SHOWN_FAILURES]:
        console.print(Text(f"  {failure}"))
    raise typer.Exit(output.FAILED)
