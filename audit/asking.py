"""Between a search as it is asked over the wire and as it is understood. Pure.

What is searched for stands in the log of who searched, in words. So a condition is refused if it contains a valid
identifier of a citizen, as a reference or an official is refused in a request.
"""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import Final

from audit.facts import OUTCOME_PREFIX
from audit.query import Query
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import contains_identifier

MAX_CONDITION: Final = 200
"""Characters of one condition."""

HASH_DIGITS: Final = 64
MIN_DIGITS: Final = 8
"""Hexadecimal digits of a header hash: all of them, and how many have to be given."""

_HEADER: Final = re.compile(rf"[0-9a-f]{{{MIN_DIGITS},{HASH_DIGITS}}}")

MAX_VERSION: Final = 1 << 63
"""Beyond what the search database holds."""

_NAMES: Final = {
    "place": "jurisdiction",
    "version": "directory_version",
    "since": "since_time",
    "until": "until_time",
    "header": "header_hash",
}
"""Conditions whose field on the wire has another name."""


def query_of(request: audit_pb2.SearchRequest) -> Query:
    """What a request looks for.

    Raises:
        RefusedError: CONDITION_INVALID: a condition is none, or contains an identifier of a citizen.
    """
    conditions: dict[str, str] = {}
    for field in fields(Query):
        if field.type == "str" and field.name not in {"outcome", "header"}:
            text: str = getattr(request, _NAMES.get(field.name, field.name))
            if len(text) > MAX_CONDITION or not text.isprintable() or contains_identifier(text, grouped=True):
                raise RefusedError(
                    Reason.CONDITION_INVALID, "a condition of a search", field=_NAMES.get(field.name, field.name)
                )
            conditions[field.name] = text
    if request.outcome not in audit_pb2.Outcome.values():
        raise RefusedError(Reason.CONDITION_INVALID, "an outcome that is none", field="outcome")
    return Query(
        **conditions,
        since=_microseconds(request, "since_time"),
        until=_microseconds(request, "until_time"),
        outcome=audit_pb2.Outcome.Name(request.outcome).removeprefix(OUTCOME_PREFIX) if request.outcome else "",
        version=_version(request),
        header=_header(request.header_hash),
        emergency=request.emergency,
    )


def request_of(query: Query, **options: object) -> audit_pb2.SearchRequest:
    """The request that looks for this.

    Args:
        query: What is looked for.
        options: Further fields of the request.
    """
    request = audit_pb2.SearchRequest(**options)  # type: ignore[arg-type]  # the message refuses what is none of its fields
    for name, value in query.equalities():
        if name == "outcome":
            request.outcome = audit_pb2.Outcome.Value(f"{OUTCOME_PREFIX}{value}")
        else:
            setattr(request, _NAMES.get(name, name), value)
    request.attribute = query.attribute
    request.header_hash = query.header
    request.jurisdiction = query.place
    request.emergency = query.emergency
    for name, moment in (("since_time", query.since), ("until_time", query.until)):
        if moment is not None:
            getattr(request, name).FromMicroseconds(moment)
    return request


def words_of(query: Query) -> str:
    """A search in words: its conditions in a fixed order, times in UTC; "everything" without any."""
    said = [f"{name}={value}" for name, value in query.equalities()]
    said += [f"{name}={value}" for name in ("attribute", "place", "header") if (value := getattr(query, name))]
    said += ["emergency"] if query.emergency else []
    said += [
        f"{name}={datetime.fromtimestamp(moment / 1_000_000, UTC).isoformat()}"
        for name, moment in (("since", query.since), ("until", query.until))
        if moment is not None
    ]
    return " ".join(said) or "everything"


def _microseconds(request: audit_pb2.SearchRequest, name: str) -> int | None:
    if not request.HasField(name):  # type: ignore[arg-type]  # one of the two times
        return None
    try:
        moment = int(getattr(request, name).ToMicroseconds())
        datetime.fromtimestamp(moment / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        raise RefusedError(Reason.CONDITION_INVALID, "a time that is none", field=name) from None
    return moment


def _header(digits: str) -> str:
    # A whole hash is about nobody; a part of one could be anything that somebody typed.
    if digits and (
        not _HEADER.fullmatch(digits) or (len(digits) < HASH_DIGITS and contains_identifier(digits, grouped=True))
    ):
        raise RefusedError(Reason.CONDITION_INVALID, "digits of a header hash", field="header_hash")
    return digits


def _version(request: audit_pb2.SearchRequest) -> int:
    version = request.directory_version
    if version >= MAX_VERSION:
        raise RefusedError(Reason.CONDITION_INVALID, "a version beyond all", field="directory_version")
    return version
