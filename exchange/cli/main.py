"""The `zhiwang` command: puts the nouns together, and turns errors into messages and exit statuses.

A noun is imported when it is called, so `zhiwang --help` is quick, and one that is broken or not installed spoils no
other. Nouns of other folders come by the entry-point group "zhiwang.commands". A noun's module holds `app`, a Typer.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

ENTRY_POINTS = "zhiwang.commands"

NOUNS: Mapping[str, tuple[str, str]] = {
    "demo": ("exchange.cli.demo:app", "运行一座示范城市  Run a whole city on this machine, and check every answer."),
    "verify": ("exchange.cli.verify:app", "核验  Verify claims about a case."),
    "sweep": ("exchange.cli.sweep:app", "批量核验  Verify a whole roster, from a file to a file."),
    "roster": ("exchange.cli.roster:app", "主动服务  Invite people of a department's own list, or hand names on."),
    "matter": ("exchange.cli.matter:app", "事项  What a matter makes of a case or a roster; counts that may be shown."),
    "receipt": (
        "exchange.cli.receipt:app",
        "凭证  Verify a receipt offline, read it, print it; find those that an agent keeps.",
    ),
    "certs": ("exchange.cli.certs:app", "证书  Certificate authority, requests, certificates, revocation."),
    "doctor": ("exchange.cli.doctor:app", "体检  Look at everything that a host needs, and say what mends it."),
    "policy": ("exchange.cli.policy:app", "政策  Check, sign and publish documents; explain decisions."),
    "audit": ("exchange.cli.audit:app", "审计  Read and verify the logs."),
    "registrar": ("exchange.cli.registrar:app", "名录服务  The registrar, which keeps the directory fresh."),
    "hub": ("exchange.cli.hub:app", "枢纽  The hub."),
    "adapter": ("", "适配器  The adapter beside an owner's database; check a mapping."),
    "agent": ("exchange.cli.agent:app", "前置机  The agent of a requesting department."),
    "witness": ("exchange.cli.witness:app", "见证  A witness, which cosigns checkpoints of the hub's log."),
}
"""Where each noun stands, and what the overview says; without a place it comes by an entry point."""


class Nouns(TyperGroup):
    """A group whose members are imported when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the interface of a group
        """Names of the nouns that are installed, in the order of the table."""
        return list(places())

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ARG002  the interface of a group
        """What the overview shows of a noun: its name and one line, without importing it."""
        if cmd_name not in places():
            return None
        return TyperCommand(name=cmd_name, help=NOUNS[cmd_name][1] if cmd_name in NOUNS else "")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The noun itself, when it is called."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is None or name is None:
            return name, command, rest
        return name, _load(name), rest


app = typer.Typer(
    cls=Nouns,
    help="织网 Zhiwang: departments verify facts for one another without exchanging the records.",
    no_args_is_help=True,
    add_completion=False,
    # Pretty tracebacks show locals, and those are citizens' data.
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  the interface of an option's callback
    if wanted:
        sys.stdout.write(f"zhiwang {version('zhiwang')}\n")
        raise typer.Exit


@app.callback()
def _root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line, and end with its exit status."""
    try:
        app(prog_name="zhiwang")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  the last place to turn it into a message
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    from zhiwang.wire import output  # noqa: PLC0415  the same
    from zhiwang.wire.errors import ZhiwangError  # noqa: PLC0415  lazily, so that the overview is quick

    if "grpc" in sys.modules:
        import grpc  # noqa: PLC0415  only if a noun has used it

        from zhiwang.wire.channel import refusal_of  # noqa: PLC0415  the same

        if isinstance(error, grpc.aio.AioRpcError):
            error = refusal_of(error)
    findings = any(kind.__module__ == "zhiwang.wire.tomlfile" for kind in type(error).__mro__)
    if findings or isinstance(error, ZhiwangError | OSError):
        return output.print_error(error)
    from zhiwang.wire.redaction import describe_traceback  # noqa: PLC0415  the same

    output.say(f"内部错误 internal error; please report this:\n{describe_traceback(error)}")
    return output.FAILED


def places() -> dict[str, str]:
    """Nouns that are installed and where each stands, as "module:attribute"."""
    found = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    places = {name: place or found.pop(name, "") for name, (place, _) in NOUNS.items()} | found
    return {name: place for name, place in places.items() if place and _is_installed(place.partition(":")[0])}


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _load(name: str) -> Any:
    from zhiwang.wire.logging import WARNING, configure  # noqa: PLC0415  lazily, so that the overview is quick

    # Commands speak by themselves; what libraries of ours log must not get into standard output.
    configure(f"zhiwang {name}", level=WARNING)
    module, _, attribute = places()[name].partition(":")
    command = typer.main.get_command(getattr(importlib.import_module(module), attribute))
    command.name = name
    return command
