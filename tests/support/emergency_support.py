"""Emergencies of the example directory: what health has prepared, and files that open it.

kit = make_directory(tmp_path, documents=DOCUMENTS)
kit.repository.publish(opening(kit, entry(kit.clock())))
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from certs.signing import Signer
from policy.glass import reason_hash
from policy.metadata import Publication
from policy.publishing import draft_activations, read_current, sign
from policy_support import DOCUMENTS as PLAIN
from policy_support import DirectoryKit
from zhiwang.wire.clock import CITY_TIME

SALT = bytes(range(16))
REASON = "outbreak at school 17"
HOUR = 3600

PREPARED = """
[attribute.vaccinated]
title = { zh = "是否已接种？", en = "Vaccinated?" }
subject = "person"
asks = ["exists"]

[[emergency]]
id = "outbreak"
title = { zh = "校园传染病", en = "Outbreak at a school" }
role = "edu/enrolment-clerk"
asks = ["health.vaccinated exists"]
matter = "school-enrolment"
level = "district"
hours = 8
admins = ["edu"]
"""

DOCUMENTS = {**PLAIN, "health": PLAIN["health"] + PREPARED}


def entry(
    since: float,
    hours: float = 8,
    *,
    name: str = "a",
    emergency: str = "health/outbreak",
    reason: bytes = reason_hash(SALT, REASON),
) -> str:
    """One [[activation]]."""
    begin = int(since)
    moments = (datetime.fromtimestamp(moment, CITY_TIME) for moment in (begin, begin + round(hours * HOUR)))
    first, last = (moment.isoformat() for moment in moments)
    return (
        f'[[activation]]\nid = "{name}"\nemergency = "{emergency}"\nsince = {first}\nuntil = {last}\n'
        f'reason = "{reason.hex()}"\n'
    )


def opening(
    kit: DirectoryKit, *entries: str, department: str = "edu", signer: Signer | None = None, **options: Any
) -> Publication:
    """What one admin signs."""
    content = f'department = "{department}"\n' + "\n".join(entries)
    current = read_current(kit.fetch, kit.root_json, kit.clock())
    drafted = draft_activations(department, content.encode(), current, options.get("now", kit.clock()))
    return sign(drafted, [signer or kit.admins[department][0]])
