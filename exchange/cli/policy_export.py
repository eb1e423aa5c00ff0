"""`zhiwang policy export`: the texts of the directory as they were signed, to be kept, read and changed as files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from certs.identity import ROOT_METADATA
from exchange.cli.registrar_link import RegistrarLink, with_registrar
from policy.history import History
from policy.metadata import document_path
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile


def export(
    profile: output.Profile,
    department: Annotated[
        str, typer.Argument(help="Its document alone; every file of the directory if left out.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the files here, as DEPARTMENT/document.toml; what stands there already is replaced. Left out, "
            "a document goes to standard output.",
            file_okay=False,
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(min=1, help="Version of the directory, see `policy history`; the one in force if left out."),
    ] = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Get documents as they were signed, byte for byte, comments included: to keep in git, change and propose again.

    Verified from the pinned root on, old versions too. Publishing an exported file again, unchanged, publishes the
    same text.

    Example: zhiwang policy export --out city-policy --profile hrss.toml
    """
    found = load_profile(profile)
    if out is None and (not department or as_json):
        output.usage_error("say where to: --out DIR")
    root_json = (found.root / ROOT_METADATA).read_bytes()

    async def read(link: RegistrarLink) -> tuple[int, dict[str, bytes]]:
        wanted = version or (await link.directory()).version
        return wanted, await link.blocking(lambda: History(root_json, link.fetch).texts(wanted))

    number, texts = with_registrar(found, read)
    if department:
        path = document_path(department)
        if path not in texts:
            output.usage_error(f"{department} had no document in directory {number}")
        texts = {path: texts[path]}
    if out is None:
        sys.stdout.buffer.write(texts[document_path(department)])
        sys.stdout.buffer.flush()
        return
    for path, content in texts.items():
        file = out / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    if as_json:
        output.print_json({"directory": number, "files": sorted(texts)})
    else:
        output.print_table(
            ("文件 file", "bytes"),
            [(out / path, len(content)) for path, content in sorted(texts.items())],
            title=f"directory {number}",
        )
