"""`zhiwang adapter`: the process beside an owner's database, and the check that a mapping holds."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from adapters import app as adapter_app
from adapters.check import Report, inspect
from adapters.config import StateFiles
from adapters.kinds import schemes_of
from adapters.leakage import Bound
from adapters.mapping import Mapping
from certs.credentials import IdentityFiles
from certs.identity import ROOT_METADATA
from policy.directory import DirectoryClient
from policy.model import Directory
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.process import run as run_process
from zhiwang.wire.profile import load_profile
from zhiwang.wire.tomlfile import FileError, Finding

FAILED = 1

app = typer.Typer(
    help="适配器  The adapter beside an owner's database: opens, evaluates, records.", no_args_is_help=True
)
ProfileOption = Annotated[
    Path, typer.Option("--profile", envvar="ZHIWANG_PROFILE", help="profile.toml of this adapter.", dir_okay=False)
]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False)]


@app.command()
def check(
    mapping: File,
    document: File,
    profile: Annotated[
        Path | None,
        typer.Option("--profile", envvar="ZHIWANG_PROFILE", help="Profile whose directory names the kinds of subject."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print every statement, for sign-off.")] = False,
) -> None:
    """Hold MAPPING against DOCUMENT and the live database: 0 if the adapter may start, 1 if not.

    Every statement is compiled and run on a sample; the account must not be able to write; probes must come true.
    Prints how many bits a requester can learn through each attribute.

    Example: zhiwang adapter check mapping.toml document.toml
    """
    checked: Mapping | None = None
    try:
        checked, report = inspect(mapping, document, schemes_of(_directory(profile)))
    except FileError as error:
        report = Report(findings=list(error.findings))
    if as_json:
        sys.stdout.write(json.dumps(_as_json(report), ensure_ascii=False) + "\n")
    else:
        _print(report, checked, sql=sql)
    if report.findings:
        raise typer.Exit(FAILED)


def _directory(profile: Path | None) -> Directory | None:
    """The directory that the profile's adapter verified last."""
    if profile is None:
        return None
    loaded = load_profile(profile)
    files = IdentityFiles(loaded.identity, loaded.root)

    def offline(path: str) -> bytes:
        raise RefusedError(Reason.HUB_UNREACHABLE, path)

    state = StateFiles.alone(loaded.state)
    if not state.policy.is_dir():
        return None
    client = DirectoryClient((loaded.root / ROOT_METADATA).read_bytes(), files.ca_pem, state.policy, offline)
    try:
        return client.load()
    except ZhiwangError:
        return None


def _as_json(report: Report) -> dict[str, Any]:
    def finding(one: Finding) -> dict[str, Any]:
        return {"file": one.file, "line": one.line, "key": one.key, "message": one.message}

    def bound(one: Bound) -> dict[str, Any]:
        return {
            "attributes": list(one.attributes),
            "bits": round(one.bits, 3),
            "classes": one.classes,
            "per_date": one.per_date,
            "per_window": one.per_window,
        }

    return {
        "ok": not report.findings,
        "findings": [finding(one) for one in report.findings],
        "warnings": [finding(one) for one in report.warnings],
        "probes": [
            {"attribute": one.attribute, "expected": one.expected, "found": one.found, "passed": one.passed}
            for one in report.probes
        ],
        "bounds": [bound(one) for one in report.bounds],
        "statements": report.statements,
    }


def _print(report: Report, mapping: Mapping | None, *, sql: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in report.findings:
        console.print(f"错误 error    {finding}", markup=False)
    for warning in report.warnings:
        console.print(f"警告 warning  {warning}", markup=False)
    if sql:
        for name, statement in report.statements.items():
            console.print(f"\n-- {name}\n{statement};", markup=False)
    if report.bounds and mapping is not None:
        table = Table("核验项 attribute", "比特 bits", "类 classes", "条件 holds for")
        for bound in sorted(report.bounds, key=lambda one: -one.bits):
            conditions = ["每个基准日 each reference date"] if bound.per_date else []
            if bound.per_window:
                conditions.append(f"每部门每 {mapping.limits.days} 天 each department in {mapping.limits.days} days")
            table.add_row(" + ".join(bound.attributes), f"{bound.bits:.1f}", str(bound.classes), "; ".join(conditions))
        console.print(table)
    passed = sum(one.passed for one in report.probes)
    console.print(
        f"{len(report.findings)} 处错误 errors, {len(report.warnings)} 处警告 warnings, "
        f"探针 probes {passed}/{len(report.probes)}",
        markup=False,
    )


@app.command()
def init(profile: ProfileOption) -> None:
    """Make an adapter's state: an empty log, its guard, and the ledger's key. Once; `run` never makes them.

    The directory `guard` within the state is best put on other storage: it tells whether the log was rolled back.

    Example: zhiwang adapter init --profile adapter.toml
    """
    loaded = load_profile(profile)
    adapter_app.init(loaded)
    sys.stderr.write(f"The adapter's log lies in {loaded.state}.\n")
    sys.stderr.write(f"Next: zhiwang adapter run --profile {profile}\n")


@app.command()
def run(profile: ProfileOption) -> None:
    """Answer until SIGTERM or Ctrl-C; then finish what is here, and stop.

    Example: zhiwang adapter run --profile adapter.toml
    """
    loaded = load_profile(profile)
    raise typer.Exit(run_process("adapter", partial(adapter_app.main, loaded), state=loaded.state))
