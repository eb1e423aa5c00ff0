"""Why an entry of a log was allowed or denied: by the rules of its own day, all of them, and every ground. Pure.

What the entry says is `evidence/account.py`'s account of it, which `audit show` tells too; here it is decided once more
by the whole directory of that day, so that a denial is explained as well as a grant. One function for the command and
for the hub.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from certs.identity import Identity
from exchange.deciding import access_of, denied_of
from exchange.evidence.account import account
from exchange.evidence.rules import Divisions, Past, Told
from policy.authorise import Authorisation, authorise, question_of
from policy.enforcer import Decision, Enforcer
from policy.explain import explain
from policy.model import Directory
from policy.telling import ground_of
from zhiwang.audit.v1 import audit_pb2
from zhiwang.policy.v1 import decisions_pb2, rights_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import Header, parse_header


def explain_entry(
    index: int,
    data: bytes,
    entry: audit_pb2.Entry,
    past: Past,
    directory: Directory | None,
    divisions: Divisions = lambda _code: "",
) -> decisions_pb2.ExplainEntryResponse:
    """An access, explained; entry, head and origin are for whoever read it to add.

    Args:
        index: Its place in the log.
        data: Its exact bytes.
        entry: What they say.
        past: The directory of its day, as far as its parties need it, with what proves it.
        directory: The whole of it; None if it is not to be had.
        divisions: Names of divisions.

    Raises:
        RefusedError: ENTRY_UNKNOWN: the entry is no access.
    """
    access = access_of(entry)
    if access is None:
        raise RefusedError(Reason.ENTRY_UNKNOWN, "the entry is no access", field="index")
    said = account(index, data, entry, Told(past, divisions))
    rules = said["rules"]
    response = decisions_pb2.ExplainEntryResponse(
        outcome=said["outcome"]["code"],
        reason=said.get("reason", {}).get("code", ""),
        directory_version=rules["directory_version"],
        document_version=rules["document_version"] or 0,
        verified=[rights_pb2.Text(**text) for text in rules["verified"]],
    )
    if rules["unavailable"]:
        response.unavailable.CopyFrom(rights_pb2.Text(**rules["unavailable"]))
    denied = denied_of(access, len(said["claims"]))
    for number, claim in enumerate(said["claims"]):
        response.claims.append(_claim(claim, denied=number in denied))
    if directory is not None and not rules["unavailable"] and response.claims:
        _decide_again(response, access, directory, entry.time.seconds + entry.time.nanos / 1e9)
    return response


def _claim(said: dict[str, Any], *, denied: bool) -> decisions_pb2.ExplainedClaim:
    return decisions_pb2.ExplainedClaim(
        claim=said["claim"],
        title=rights_pb2.Text(**said["title"]),
        denied=denied,
        rules=[
            decisions_pb2.NamedRule(
                id=rule["id"],
                sentence=rights_pb2.Text(**rule["sentence"]),
                source=rule["source"],
                line=rule["line"] or 0,
            )
            for rule in said["rules"]
        ],
    )


def _decide_again(
    response: decisions_pb2.ExplainEntryResponse,
    access: audit_pb2.HubAccess | audit_pb2.OwnerAccess,
    directory: Directory,
    at: float,
) -> None:
    """Ask the directory of that day once more, at the time of the entry."""
    try:
        header = parse_header(access.header)
        identity = Identity.parse(header.system)
    except RefusedError:
        return  # written by a program that this one cannot read: it agrees with nothing
    enforcer = Enforcer(replace(directory, expires=float("inf")))
    decisions = _decisions(enforcer, header, identity, at)
    for number, (claim, decision) in enumerate(zip(response.claims, decisions, strict=True)):
        claim.allowed_again = decision.allowed
        claim.reason_again = "" if decision.reason is None else decision.reason.name
        claim.rule_ids.extend(decision.rule_ids)
        question = question_of(header, header.claims[number], identity, at)
        claim.grounds.extend(map(ground_of, explain(directory, question)))
    response.agrees = all(claim.denied is not claim.allowed_again for claim in response.claims)


def _decisions(enforcer: Enforcer, header: Header, identity: Identity, at: float) -> tuple[Decision, ...]:
    try:
        decided: Authorisation = authorise(enforcer, header, identity, at)
    except RefusedError as error:
        return (Decision(allowed=False, reason=error.reason),) * len(header.claims)
    return decided.decisions
