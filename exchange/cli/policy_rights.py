"""`zhiwang policy list`, `who-can`, `what-can`: who may ask an attribute; what a system, a role or a place may ask."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange.cli.registrar_link import with_registrar
from policy import telling
from policy.model import Directory
from policy.publishing import Named
from policy.rehearse import rehearsed
from policy.words import day_text
from zhiwang.policy.v1 import rights_pb2
from zhiwang.wire import output
from zhiwang.wire.claims import Predicate
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.profile import load_profile

MaybeProfile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        envvar="ZHIWANG_PROFILE",
        help="Profile: whom I ask for the directory in force. Without one only files are looked at.",
        dir_okay=False,
    ),
]
Rehearsed = Annotated[
    list[Path] | None,
    typer.Option("--with", help="As if this file were published, too.", exists=True, dir_okay=False),
]
At = Annotated[datetime | None, typer.Option(help="When; now if left out (UTC).")]


def directory_of(profile: Path | None, files: Sequence[Path]) -> Directory:
    """The directory in force, as it would be with some files.

    Raises:
        FileError: What is wrong with the files.
        ZhiwangError: The directory cannot be had.
    """
    if profile is None and not files:
        output.usage_error("name a --profile, for the directory in force, or files")
    current = None if profile is None else with_registrar(load_profile(profile), lambda link: link.directory())
    return rehearsed(current, named(files)) if files or current is None else current


def named(files: Iterable[Path]) -> list[Named]:
    """Files as they are published."""
    return [Named(str(file), file.read_bytes()) for file in files]


def moment(at: datetime | None) -> float:
    """A time given on the command line, or now."""
    return time.time() if at is None else at.replace(tzinfo=UTC).timestamp()


def list_attributes(
    profile: MaybeProfile = None,
    owner: Annotated[str, typer.Option(help="Only this department's.")] = "",
    files: Rehearsed = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """List what can be asked: every published attribute as a question, how it may be asked, and by how many grants.

    Example: zhiwang policy list --owner hrss --profile admin.toml
    """
    directory = directory_of(profile, files or ())
    with known_names():
        found = list(telling.attributes(directory, owner))
    rows: list[dict[str, Any]] = [
        {
            "attribute": one.attribute,
            "zh": one.title.zh,
            "en": one.title.en,
            "subject": one.subject,
            "asked": list(one.asked),
            "sensitivity": one.sensitivity,
            "grants": one.grants,
        }
        for one in found
    ]
    if as_json:
        output.print_json({"directory": directory.version, "attributes": rows})
        return
    output.print_table(
        ("attribute", "问题 question", "subject", "asked", "sensitivity", "grants"),
        [
            (row["attribute"], row["zh"], row["subject"], "; ".join(row["asked"]), row["sensitivity"], row["grants"])
            for row in rows
        ],
    )


def who_can(
    attribute: Annotated[str, typer.Argument(metavar="ATTRIBUTE", help='For example "hrss.pension_months".')],
    profile: MaybeProfile = None,
    predicate: Annotated[Predicate | None, typer.Option(help="Only asked so.")] = None,
    matter: Annotated[str, typer.Option(help="Only for this matter.")] = "",
    place: Annotated[str, typer.Option(help="Only who may ask there, e.g. nbs:440306.")] = "",
    at: At = None,
    files: Rehearsed = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Who can ask an attribute: systems and roles, for which matter, where, until when, by which grants.

    Example: zhiwang policy who-can hrss.pension_months --profile admin.toml
    """
    directory = directory_of(profile, files or ())
    with known_names():
        told = telling.who_can(
            directory,
            attribute,
            moment(at),
            predicate="" if predicate is None else predicate.value,
            matter=matter,
            jurisdiction=place,
        )
    _print(directory, told, as_json=as_json)


def what_can(
    who: Annotated[
        str, typer.Argument(metavar="WHO", help="A system (edu/enrolment), a role (edu/clerk) or a place (nbs:440306).")
    ],
    profile: MaybeProfile = None,
    at: At = None,
    files: Rehearsed = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """What a system or a role can ask, and what can be asked in a place.

    Example: zhiwang policy what-can edu/enrolment --profile admin.toml
    """
    directory = directory_of(profile, files or ())
    with known_names():
        told = telling.what_can(directory, who, moment(at))
    _print(directory, told, as_json=as_json)


@contextmanager
def known_names() -> Iterator[None]:
    """A name that the directory does not have is wrong usage."""
    try:
        yield
    except RefusedError as error:
        if error.reason is not Reason.NAME_UNKNOWN:
            raise
        output.usage_error(f"{error.detail}; see: zhiwang policy list, zhiwang policy show")


def _print(directory: Directory, told: telling.Told, *, as_json: bool) -> None:
    rights = told.rights
    if as_json:
        output.print_json(
            {
                "directory": directory.version,
                "rights": [_as_json(right) for right in rights],
                "emergencies": [emergency_json(one) for one in told.emergencies],
            }
        )
        return
    output.print_table(
        ("system", "role", "ask", "matter", "place", "assurance", "until", "by"),
        [
            (
                right.system,
                right.role,
                right.ask,
                right.matter,
                right.places_text.en,
                right.assurance,
                day_of(right, "until_time") or "",
                " ".join(right.rule_ids),
            )
            for right in rights
        ],
        title=f"directory {directory.version} · {len(rights)} 项 rights",
    )
    print_emergencies(told.emergencies)


def print_emergencies(prepared: Sequence[rights_pb2.PreparedEmergency]) -> None:
    """What is prepared for emergencies, in words; nothing where there is none."""
    if prepared:
        output.print_table(
            ("应急授权 emergency", "未启用时不授权 permits nothing until it is opened"),
            [(one.id, "\n".join(text for said in one.sentences for text in (said.zh, said.en))) for one in prepared],
        )


def emergency_json(one: rights_pb2.PreparedEmergency) -> dict[str, Any]:
    """What is prepared, for machines."""
    return {
        "id": one.id,
        "role": one.role,
        "asks": list(one.asks),
        "matter": one.matter,
        "hours": one.hours,
        "admins": list(one.admins),
    }


def _as_json(right: rights_pb2.Right) -> dict[str, Any]:
    return {
        "system": right.system,
        "home": right.home,
        "role": right.role,
        "ask": right.ask,
        "matter": right.matter,
        "places": [place_json(place) for place in right.places],
        "places_text": {"zh": right.places_text.zh, "en": right.places_text.en},
        "assurance": right.assurance,
        "until": day_of(right, "until_time"),
        "rules": list(right.rule_ids),
        "emergency": right.emergency,
    }


def place_json(place: rights_pb2.Place) -> dict[str, Any]:
    """Places for machines."""
    part = rights_pb2.Place.Part.Name(place.part).removeprefix("PART_").lower()
    return {"place": place.jurisdiction, "part": part, "without": list(place.without)}


def day_of(message: Any, field: str) -> str | None:
    """A time of a message as a day of the city; None if it is missing, which is for ever."""
    return day_text(getattr(message, field).ToNanoseconds() / 1e9) if message.HasField(field) else None
