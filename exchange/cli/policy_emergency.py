"""`zhiwang policy activate`, `emergencies`, `review`: breaking the glass, and looking at what was done behind it."""

from __future__ import annotations

import os
import secrets
import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from audit.auditor import Auditor
from audit.query import Query
from exchange.cli.audit_reading import REGISTRAR, printable, with_auditor
from exchange.cli.policy_proposals import SignOne, who_signs
from exchange.cli.registrar_link import RegistrarLink, with_registrar
from policy import publishing
from policy.document import parse_activations
from policy.emergencies import HOUR
from policy.glass import SALT_SIZE, Opening, Openings, check_words, emergency_file, reason_hash
from policy.metadata import EMERGENCY, activations_path
from policy.model import Activation, Emergency
from policy.words import Words
from zhiwang.policy.v1 import policy_pb2
from zhiwang.wire import output
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.profile import Profile, load_profile

Reason = Annotated[
    str,
    typer.Option(
        help="Why, in words, without anybody's number; - reads standard input. Stands in the registrar's log."
    ),
]


def activate(
    emergency: Annotated[str, typer.Argument(metavar="OWNER/ID", help="As the owner has prepared it; see `who-can`.")],
    profile: output.Profile,
    reason: Reason,
    sign: SignOne = None,
    hours: Annotated[
        int | None, typer.Option(min=1, help="For how long; as long as it was prepared for if left out.")
    ] = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Open an emergency that another department has prepared, at once and for some hours. One admin is enough.

    Everybody is alarmed, each access that it alone allows is marked in both logs, and the owner reviews it. It ends by
    itself and is not opened again before the review, nor within a day; what lasts longer is a grant of the owner.

    Example: zhiwang policy activate health/shelter --reason "flood in Bao'an, shelter 3" --sign civil-chen …
    """
    found = load_profile(profile)
    (files,) = who_signs(found, [sign] if sign else [])
    department = files.identity.department
    words = check_words(sys.stdin.read() if reason == "-" else reason)
    salt = os.urandom(SALT_SIZE)
    name = f"{datetime.now(UTC).astimezone(CITY_TIME):%Y%m%d}-{secrets.token_hex(3)}"

    async def send(link: RegistrarLink) -> tuple[policy_pb2.OpenEmergencyResponse, int, list[str]]:
        directory = await link.directory()
        owner, _, prepared_name = emergency.partition("/")
        document = directory.documents.get(owner)
        standing = None if document is None else document.emergency(prepared_name)
        if standing is None:
            output.usage_error(f"nobody has prepared an emergency {emergency}; see: zhiwang policy show {owner}")
        since = int(time.time())
        until = since + (hours or standing.hours) * HOUR
        current = await link.current()
        role, path = department + EMERGENCY, activations_path(department)
        listed = current.roles.get(role)
        before: tuple[Activation, ...] = ()
        if listed is not None and role not in current.lapsed and path in listed.targets:
            _, before = parse_activations(await link.blocking(lambda: current.content(role, path)))
        new = Activation(name, department, owner, prepared_name, since, until, reason_hash(salt, words))
        content = emergency_file(department, [*before, new], time.time())
        drafted = publishing.draft_activations(department, content, current, time.time())
        response = await link.open_emergency(publishing.sign(drafted, [files.signer()]), words, salt)
        return response, until, _said(Words(directory), owner, standing)

    response, until, said = with_registrar(found, send)
    opening = f"{department}-{name}"
    if as_json:
        output.print_json(
            {
                "opening": opening,
                "emergency": emergency,
                "until": datetime.fromtimestamp(until, UTC).isoformat(),
                "directory": response.directory_version,
            }
        )
    else:
        output.print_table(
            ("已启用 opened", "应急授权 emergency", "至 until", "directory"),
            [(opening, emergency, output.local_time(until), response.directory_version)],
        )
        for line in said:
            output.say(line)
    owner = emergency.partition("/")[0]
    output.next_step(f"once it has ended, somebody of {owner} reviews it: zhiwang policy review {opening} --note …")


def _said(words: Words, owner: str, emergency: Emergency) -> list[str]:
    return [line for sentence in words.emergency(owner, emergency) for line in sentence]


def emergencies(
    profile: output.Profile,
    everything: Annotated[bool, typer.Option("--all", help="Those that were reviewed, too.")] = False,  # noqa: FBT002 # typer's way
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
) -> None:
    """Emergencies that were opened and that nobody has reviewed: of your department, or by its admins.

    Read from the registrar's log and proved to be in it; the reading is recorded there. One that is still open awaits
    its end, and its review then. Exit status 1 if there is one that was not reviewed.

    Example: zhiwang policy emergencies --profile health.toml
    """
    openings, now = _openings(load_profile(profile)), time.time()
    shown = [opening for opening in openings if everything or not opening.reviewed_by]
    if as_json:
        output.print_json([_as_json(opening) for opening in shown])
    else:
        output.print_table(
            (
                "启用 opening",
                "应急授权 emergency",
                "由 by",
                "自 since",
                "至 until",
                "理由 reason",
                "复核 reviewed by",
                "结论 note",
            ),
            [
                (
                    opening.name,
                    opening.full_name,
                    output.short_identity(opening.by),
                    output.local_time(opening.since),
                    output.local_time(opening.until),
                    printable(opening.reason),
                    output.short_identity(opening.reviewed_by) or _awaited(opening, now),
                    printable(opening.note),
                )
                for opening in shown
            ],
        )
    if openings.unreviewed:
        output.next_step(
            "look at what was asked: zhiwang audit search --emergency; once the emergency has ended: "
            "zhiwang policy review …"
        )
        raise typer.Exit(output.FAILED)


def review(
    opening: Annotated[str, typer.Argument(metavar="OPENING", help="As `policy emergencies` shows it.")],
    profile: output.Profile,
    note: Annotated[str, typer.Option(help="What was found, in words, without anybody's number. Stands in the log.")],
) -> None:
    """Say what was found of an opened emergency: an admin of its owner, but for the one who opened it, or an auditor.

    Once it has ended: before that somebody can still ask by it, and nobody would look at what was asked.

    Example: zhiwang policy review civil-20261127-3f9c2a --note "14 persons, all in shelter 3" --profile health.toml
    """
    found = load_profile(profile)
    words = check_words(note)
    with_registrar(found, lambda link: link.review_emergency(opening, words))
    output.say(f"{opening} 已复核 is reviewed.")


def _openings(profile: Profile) -> Openings:
    async def read(auditor: Auditor) -> Openings:
        found = [
            entry.emergency_step
            async for _, entry in auditor.search(Query(event="emergency_step"), limit=0, proofs=True)
        ]
        return Openings(reversed(found))

    return with_auditor(profile, REGISTRAR, "", read)


def _awaited(opening: Opening, now: float) -> str:
    return "尚未结束 still open" if now < opening.until else "待复核 awaited"


def _as_json(opening: Opening) -> dict[str, Any]:
    return {
        "opening": opening.name,
        "emergency": opening.full_name,
        "by": opening.by,
        "since": datetime.fromtimestamp(opening.since, UTC).isoformat(),
        "until": datetime.fromtimestamp(opening.until, UTC).isoformat(),
        "reason": opening.reason,
        "reviewed_by": opening.reviewed_by,
        "note": opening.note,
    }
