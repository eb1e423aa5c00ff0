"""`zhiwang doctor`: the first tool when nothing works. Every failure of a check is a line, never a traceback."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import typer

from certs.identity import Kind
from exchange.cli.main import places
from exchange.doctor import directory, local, network, witnesses
from policy.model import Directory
from zhiwang.wire import output
from zhiwang.wire.diagnosis import Contribution, Diagnosis, State, safely, wrong
from zhiwang.wire.identity import LOG_KEEPERS
from zhiwang.wire.logging import CRITICAL, configure
from zhiwang.wire.profile import Profile, load_profile
from zhiwang.wire.tomlfile import FileError

app = typer.Typer(
    help="体检  Look at everything that a host needs; say what mends what is wrong.", add_completion=False
)

MARKS = {State.OK: "✓ 正常 ok", State.WARNING: "! 注意 warning", State.WRONG: "✗ 错误 wrong"}
SERVE_THE_DIRECTORY = frozenset({Kind.REGISTRAR, Kind.HUB})
STYLES = {MARKS[State.OK]: "green", MARKS[State.WARNING]: "yellow", MARKS[State.WRONG]: "bold red"}


@app.command()
def doctor(profile: output.Profile, *, as_json: output.AsJson = False) -> None:
    """Look at a host by its profile: certificates, permissions, disk, process, peers, clock, directory, database.

    Works for every kind of process and for admins and auditors, whether or not anything runs; writes nothing. Exit
    status 1 if something is wrong; warnings alone leave it 0.

    Example: zhiwang doctor --profile hrss.toml
    """
    # What libraries log of a failure is said by the line about it.
    configure("zhiwang doctor", level=CRITICAL)
    found = list(_diagnoses(profile))
    if as_json:
        output.print_json([asdict(one) for one in found])
    else:
        output.print_table(
            ("", "", "发现 found", "处理 what mends it"),
            [(MARKS[one.state], one.area, f"{one.zh}\n{one.en}", one.remedy) for one in found],
            styles=STYLES,
        )
        counts = {state: sum(one.state is state for one in found) for state in State}
        output.say(
            f"{counts[State.WRONG]} 处错误 wrong, {counts[State.WARNING]} 处注意 warnings, {counts[State.OK]} 处正常 ok"
        )
    raise typer.Exit(output.FAILED if any(one.state is State.WRONG for one in found) else output.OK)


def _diagnoses(path: Path) -> Iterator[Diagnosis]:
    if not path.is_file():
        yield wrong(
            "profile", f"没有 {path}", f"there is no {path}", "zhiwang doctor --profile FILE, with another file"
        )
        return
    try:
        profile = load_profile(path)
    except FileError as error:
        for finding in error.findings:
            at = f"{finding.file}:{finding.line}"
            yield wrong(
                "profile",
                f"{at} {finding.key}：{finding.message}",
                f"{at} {finding.key}: {finding.message}",
                f"edit {at}",
            )
        return
    except OSError as error:
        said = error.strerror or type(error).__name__
        yield wrong("profile", f"{path}：{said}", f"{path}: {said}", f"ls -l {path}")
        return
    yield from safely("profile", lambda: _host(profile))


def _host(profile: Profile) -> Iterator[Diagnosis]:
    host = local.host_of(profile)
    yield from local.look(host)
    known: list[Directory] = []
    remedy = "see what is said about the network below"
    if host.kind is Kind.REGISTRAR:
        remedy = f"restore {profile.state} from its copy; see docs/backup.md"
    yield from safely("directory", lambda: _kept(host, known), remedy)
    revoked = frozenset[int]().union(*(one.revoked for one in known))
    for peer in network.peers_of(host):
        found = list(_peer(host, peer, revoked))
        yield from found
        answers = not any(one.state is State.WRONG for one in found)
        if answers and peer.kind in SERVE_THE_DIRECTORY and peer.kind is not host.kind:
            yield from _served(host, peer, known)
    if known:
        yield from safely("directory", lambda: directory.look(host, known[-1]))
    if known and host.files is not None:
        ca_pem, newest = host.files.ca_pem, max(known, key=lambda one: one.version)
        yield from safely("directory", lambda: directory.behind(host, ca_pem, newest))
    if host.noun:
        yield from safely(host.noun, lambda: _contributed(host.noun, profile))
    if host.kind in LOG_KEEPERS:
        yield from witnesses.diagnose(profile)


def _peer(host: local.Host, peer: network.Peer, revoked: frozenset[int]) -> Iterator[Diagnosis]:
    return safely("network", lambda: network.look(host, peer, revoked))


def _kept(host: local.Host, known: list[Directory]) -> Iterator[Diagnosis]:
    """What this host verified last; it goes on to `known`."""
    found = None if host.files is None else directory.kept(host, host.files.ca_pem)
    if found is not None:
        known.append(found)
        yield directory.freshness(found, "本机 this host")


def _served(host: local.Host, peer: network.Peer, known: list[Directory]) -> Iterator[Diagnosis]:
    """What a peer would give this host now; it goes on to `known`."""

    def look() -> Iterator[Diagnosis]:
        if host.files is None:
            return
        found = directory.served(host, host.files, peer)
        known.append(found)
        yield directory.freshness(found, peer.title)

    return safely("directory", look, f"there: zhiwang doctor --profile … ({peer.title})")


def _contributed(noun: str, profile: Profile) -> Iterator[Diagnosis]:
    """What the folder of a noun has to say itself, if it has."""
    module = importlib.import_module(places()[noun].partition(":")[0])
    contribution: Contribution | None = getattr(module, "diagnose", None)
    if contribution is not None:
        yield from contribution(profile)
