"""Make docs/errors.md from the catalogue of reasons.

`python dev/make_error_docs.py` writes it; with `--check` it writes nothing and exits 1 when what is committed differs.
"""

from __future__ import annotations

from pathlib import Path

from dev.written import write_or_compare
from zhiwang.wire.errors import DOMAIN, Actor, Reason
from zhiwang.wire.records import Outcome

PAGE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"

HEAD = f"""# Reasons: every way in which Zhiwang says no

Made by `dev/make_error_docs.py` from `proto/zhiwang/wire/errors.py`; do not edit.

A reason is public. A call that is refused as a whole carries it as `reason` of a `google.rpc.ErrorInfo` with domain
`{DOMAIN}`, beside the gRPC status of the table; `google.rpc.BadRequest` names the field where one is to blame. A single
claim, a reply on a link and a log entry carry it as text. Metadata of the `ErrorInfo` are named below the table.

No reason depends on what a record says. What does not exist and what is not allowed look the same.

| reason | gRPC status | who has to act | 说明 | meaning, and what to do |
|---|---|---|---|---|
"""

ACTORS = {
    Actor.REQUESTER: "the requester's program",
    Actor.REQUESTER_ADMIN: "the requester's admin",
    Actor.OWNER: "the owner",
    Actor.OPERATOR: "the operator",
    Actor.NOBODY: "nobody: try again",
}

METADATA = """
## Metadata

| key | with | meaning |
|---|---|---|
| `clock_offset_ms` | `CLOCK_SKEW`, `REQUEST_EXPIRED` | the refusing process's time minus the request's `issue_time` |

"""

OUTCOMES = """## Outcomes of one claim

What an owner seals into its reply, one byte for each claim of each case (docs/protocol.md).

| byte | outcome | status | answer | reason |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    reasons = []
    for reason in Reason:
        meaning = reason.value
        cells = (f"`{reason.name}`", f"`{meaning.status}`", ACTORS[meaning.actor], meaning.zh, meaning.en)
        reasons.append(f"| {' | '.join(cells)} |\n")
    outcomes = [
        f"| {int(outcome)} | `{outcome.name}` | {_status(outcome)} | {outcome.name if not outcome.reason else '–'} "
        f"| {f'`{outcome.reason.name}`' if outcome.reason else '–'} |\n"
        for outcome in Outcome
    ]
    return "".join((HEAD, *reasons, METADATA, OUTCOMES, *outcomes))


def _status(outcome: Outcome) -> str:
    return ("ANSWERED", "DENIED", "UNAVAILABLE")[outcome >> 4]


def main() -> None:
    """Write, or compare."""
    write_or_compare(__doc__, PAGE, page, "the catalogue says")


if __name__ == "__main__":
    main()
