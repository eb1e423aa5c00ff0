"""`zhiwang policy list`, `who-can`, `what-can`: who may ask an attribute; what a system, a role or a place may ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange.cli import output
from exchange.cli.registrar_link import with_registrar
from policy.document import ASSURANCES
from policy.emergencies import RULE
from policy.model import Directory, Emergency, Grant
from policy.publishing import Named
from policy.reach import FOREVER, Key, Reach, Right
from policy.rehearse import rehearsed
from policy.words import Words, day_text
from zhiwang.wire.claims import Predicate
from zhiwang.wire.places import Jurisdiction
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

ASSURANCE_WORDS = {number: word for word, number in ASSURANCES.items()}


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
    rows: list[dict[str, Any]] = [
        {
            "attribute": f"{department}.{name}",
            "zh": attribute.title.zh,
            "en": attribute.title.en,
            "subject": attribute.subject,
            "asked": [
                " ".join((predicate.value, *attribute.cells(predicate))) for predicate in sorted(attribute.predicates)
            ],
            "sensitivity": attribute.sensitivity,
            "grants": sum(grant.ask.attribute == name for grant in document.grants),
        }
        for department, document in sorted(directory.documents.items())
        if owner in {"", department}
        for name, attribute in document.attributes.items()
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
    owner, _, name = attribute.partition(".")
    if directory.attribute(owner, name) is None:
        output.usage_error(f"nobody publishes {attribute}; see: zhiwang policy list")
    reach = Reach(directory)
    keys = [
        key
        for key in reach.keys(owner=owner, attribute=name)
        if matter in {"", key.matter} and predicate in {None, key.ask.predicate}
    ]
    _print(
        reach,
        keys,
        place,
        moment(at),
        lambda grant: (
            (grant.ask.owner, grant.ask.attribute) == (owner, name)
            and matter in {"", grant.matter}
            and predicate in {None, grant.ask.predicate}
        ),
        as_json=as_json,
    )


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
    reach = Reach(directory)
    if ":" in who:
        _print(reach, reach.keys(), who, moment(at), lambda _grant: True, as_json=as_json)
        return
    keys = {*reach.keys(system=who), *reach.keys(role=who)}
    department, _, name = who.partition("/")
    if not keys and directory.centre.home(department, name) is None and not reach.holders(who):
        output.usage_error(f"there is no system and no role {who}; see: zhiwang policy show")
    _print(
        reach,
        sorted(keys, key=str),
        "",
        moment(at),
        lambda grant: who == grant.role or who in reach.holders(grant.role),
        as_json=as_json,
    )


def _print(
    reach: Reach,
    keys: Sequence[Key],
    place: str,
    at: float,
    about: Callable[[Grant], bool],
    *,
    as_json: bool,
) -> None:
    """Rights, then what is prepared for emergencies that `about` says is about the same."""
    where = Jurisdiction.parse(place) if place else None
    rights = [
        right for right in reach.rights(keys, at) if where is None or any(one.covers(where) for one in right.places)
    ]
    words = Words(reach.directory)
    prepared = [
        (owner, emergency)
        for owner, document in sorted(reach.directory.documents.items())
        for emergency in document.emergencies
        if any(
            about(grant) and (where is None or not grant.places or any(one.covers(where) for one in grant.places))
            for grant in emergency.grants
        )
    ]
    if as_json:
        output.print_json(
            {
                "directory": reach.directory.version,
                "rights": [_as_json(right, words) for right in rights],
                "emergencies": [emergency_json(owner, emergency) for owner, emergency in prepared],
            }
        )
        return
    output.print_table(
        ("system", "role", "ask", "matter", "place", "assurance", "until", "by"),
        [
            (
                right.key.system,
                right.key.role,
                right.key.ask,
                right.key.matter,
                words.places(right.places).en,
                ASSURANCE_WORDS[right.assurance],
                day_text(right.span.until),
                " ".join(right.rules),
            )
            for right in rights
        ],
        title=f"directory {reach.directory.version} · {len(rights)} 项 rights",
    )
    print_emergencies(prepared, words)


def print_emergencies(prepared: Sequence[tuple[str, Emergency]], words: Words) -> None:
    """What is prepared for emergencies, in words; nothing where there is none."""
    if prepared:
        output.print_table(
            ("应急授权 emergency", "未启用时不授权 permits nothing until it is opened"),
            [
                (
                    f"{owner}/{emergency.id}",
                    "\n".join(text for said in words.emergency(owner, emergency) for text in said),
                )
                for owner, emergency in prepared
            ],
        )


def emergency_json(owner: str, emergency: Emergency) -> dict[str, Any]:
    """What is prepared, for machines."""
    return {
        "id": f"{owner}/{emergency.id}",
        "role": emergency.grants[0].role,
        "asks": [str(grant.ask) for grant in emergency.grants],
        "matter": emergency.grants[0].matter,
        "hours": emergency.hours,
        "admins": sorted(emergency.admins),
    }


def _as_json(right: Right, words: Words) -> dict[str, Any]:
    return {
        "system": right.key.system,
        "home": str(right.home),
        "role": right.key.role,
        "ask": str(right.key.ask),
        "matter": right.key.matter,
        "places": [where.as_json() for where in right.places],
        "places_text": words.places(right.places)._asdict(),
        "assurance": ASSURANCE_WORDS[right.assurance],
        "until": None if right.span.until == FOREVER else day_text(right.span.until),
        "rules": list(right.rules),
        "emergency": all(f"/{RULE}" in rule for rule in right.rules),
    }
