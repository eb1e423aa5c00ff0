"""`zhiwang audit show`: one entry in words, proved, with the rules that let it through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from audit.asking import HASH_DIGITS
from audit.auditor import Auditor
from audit.checkpoint import Checkpoint
from audit.facts import facts_of_entry
from audit.query import Query
from exchange.cli import audit_selecting as select
from exchange.cli.audit_reading import From, Owner, Shard, printable, with_auditor
from exchange.cli.audit_witnesses import witnessed
from zhiwang.wire import output
from zhiwang.wire.clock import timestamp_text
from zhiwang.wire.profile import load_profile

CANDIDATES: Final = 20
"""Entries that are listed where an ID fits several."""

_OWNED = re.compile(r"([a-z][a-z0-9_]*)#([0-9]{1,18})")
_INDEX = re.compile(r"[0-9]{1,18}")
_HASH = re.compile(r"(?:0x)?([0-9a-f]{8,64})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for.

    Attributes:
        index: Of the entry; None if it has to be sought.
        queries: What to seek, one after the other until something is found.
        owner: Department whose own log is meant; empty if the ID does not say.
    """

    index: int | None = None
    queries: tuple[Query, ...] = ()
    owner: str = ""


def show(
    identifier: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Index of the entry; hrss#17 for the owner's; first digits of the header hash; or a reference.",
        ),
    ],
    profile: output.Profile,
    source: From = "",
    owner: Owner = "",
    shard: Shard = "",
    divisions: select.DivisionsFile = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Show one entry in words, once it is proved to be in the log, with the rules that let it through.

    The rules are those of the entry's own day: the version of the directory that it names is fetched and verified. What
    you may not read is as if it were not there. The reading is itself recorded in the log.

    Exit status: 0 if it was shown, 1 if there is none or something does not hold, 2 if the ID fits several entries.

    Example: zhiwang audit show 17 --profile auditor.toml
    """
    # Lazily, so that other commands are quick.
    from exchange.cli.audit_directory import divisions_of, past_reader  # noqa: PLC0415
    from exchange.evidence.account import rows  # noqa: PLC0415
    from exchange.evidence.telling import told_of  # noqa: PLC0415

    loaded = load_profile(profile)
    wanted = wanted_of(identifier)
    if owner and wanted.owner not in {"", owner}:
        output.usage_error(f"{identifier} is an entry of {wanted.owner}, and --owner says {owner}")
    keeper = owner or wanted.owner
    names = divisions_of(divisions)

    async def read(auditor: Auditor) -> dict[str, Any]:
        index, origin = wanted.index, ""
        if index is None:
            index, origin = await sought(auditor, wanted, identifier)
        cosigned = await auditor.cosigned()
        async with past_reader(loaded, source, keeper) as past:
            said = await told_of(auditor, index, past, names, origin)
        proof = said["proof"]
        newest = Checkpoint(proof["log"], proof["size"], bytes.fromhex(proof["root"]))
        told = await witnessed(auditor, loaded, cosigned, newest, None)
        # What is a prefix of the proved tree and reaches beyond the entry has the entry, too.
        reaches = told.checkpoint is not None and told.checkpoint.size > index
        proof["cosigned"] = told.facts if reaches else None
        return said

    said = with_auditor(loaded, source, keeper, read, shard=shard)
    if as_json:
        output.print_json(said)
        return
    output.print_table(("", ""), [*rows(said), *_proof_rows(said["proof"])])


def _proof_rows(proof: dict[str, Any]) -> list[tuple[str, str]]:
    cosigned = proof["cosigned"]
    names = ", ".join(one["witness"] for one in cosigned["cosignatures"]) if cosigned else ""
    return [
        (
            "存在证明 proof",
            f"已核验 verified: {proof['log']}，{proof['size']} 条记录的检查点 of the checkpoint of that size",
        ),
        ("  根 root", proof["root"]),
        *([("  见证 cosigned by", names or "未知见证方 witnesses that nobody names")] if cosigned else []),
    ]


def wanted_of(identifier: str) -> Wanted:
    """What an ID stands for."""
    if match := _OWNED.fullmatch(identifier):
        return Wanted(int(match[2]), owner=match[1])
    if _INDEX.fullmatch(identifier):
        return Wanted(int(identifier))
    queries = []
    if match := _HASH.fullmatch(identifier.lower()):
        queries.append(Query(header=match[1]))
    if not identifier.startswith("0x") and len(identifier) < HASH_DIGITS:
        queries.append(Query(reference=identifier))
    return Wanted(queries=tuple(queries))


async def sought(auditor: Auditor, wanted: Wanted, identifier: str) -> tuple[int, str]:
    """Index of the one entry that fits, and origin of its log; the command ends if none does, or several do."""
    for query in wanted.queries:
        found = [
            (auditor.origin, index, entry)
            async for index, entry in auditor.search(query, limit=CANDIDATES + 1, proofs=False)
        ]
        if len(found) == 1:
            origin, index, _ = found[0]
            return index, origin
        if found:
            lines = [(origin, index, facts_of_entry(entry)) for origin, index, entry in found[:CANDIDATES]]
            output.print_table(
                ("日志 log", "记录 index", "时间 time", "", "数据部门 owner"),
                [
                    (
                        origin,
                        index,
                        timestamp_text(facts.time / 1e6),
                        facts.outcome or facts.event,
                        printable(facts.owner),
                    )
                    for origin, index, facts in lines
                ],
            )
            more = " at least" if len(found) > CANDIDATES else ""
            output.usage_error(f"{printable(identifier)} fits{more} {len(lines)} entries; show one by its index")
    output.say(f"没有此记录  No entry that you may read is {printable(identifier)}.")
    raise typer.Exit(output.FAILED)
