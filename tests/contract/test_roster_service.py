"""What an owner does with lists of its own people is recorded, whole and by whom, and told; with the real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import subject_support as support
from adapter_frames import Bureau
from adapter_support import ANNA, BO, CHEN, DING, resident
from adapters.config import StateFiles
from adapters.mapping import Roster
from adapters.roster_service import Keeper, ReferralServicer, RosterServicer
from adapters.trace import Trace
from audit.entry import decode_entry
from certs.identity import Identity
from certs.referrals import make_key, parse_key
from certs.signing import CertificateVerifier, Signer
from certs_support import City
from policy.authorise import local_date
from policy.model import Referral, Suspension
from subject_support import People, shown, told
from zhiwang.adapter.v1 import roster_pb2, subject_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.call import Peer, PeerTable
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import scheme

ROSTER = Roster(select="SELECT 1", key="no", subject="id_card", matter="school")


@pytest.fixture
def bureau(tmp_path: Path) -> Iterator[Bureau]:
    bureau = support.bureau_in(tmp_path)
    yield bureau
    bureau.close()


class Desk:
    """The owner's two services, for a caller."""

    def __init__(self, bureau: Bureau, city: City, *, matter_of: Sequence[str] = ("hrss", "civil")) -> None:
        found = bureau.directory_
        document = found.documents["hrss"]
        rule = Referral("r", "pensioners", "civil/clerk", "school", "a law")
        school = replace(
            found.matters["school"], requesters=frozenset((*found.matters["school"].requesters, *matter_of))
        )
        bureau.directory_ = replace(
            found,
            documents={**found.documents, "hrss": replace(document, referrals=(rule,))},
            matters={**found.matters, "school": school},
        )
        self.bureau = bureau
        self.caller = "hrss/system/inviting"
        schemes = {"person": scheme("resident")}
        keeper = Keeper(
            "hrss",
            {"pensioners": ROSTER},
            bureau.log,
            Trace(StateFiles.alone(bureau.directory / "state").keys, lambda: bureau.now),
            lambda: schemes,
            lambda: bureau.directory_,
            CertificateVerifier(city.ca_pem, frozenset),
            lambda: bureau.now,
            self._peer,
        )
        self.rosters, self.referrals = RosterServicer(keeper), ReferralServicer(keeper)
        self.matter = school

    def _peer(self) -> Peer:
        return Peer(Identity.parse_short("shenzhen", self.caller), 1, b"", 0.0, 1e12, PeerTable("shenzhen"))

    def step(self, count: int, **changes: Any) -> audit_pb2.RosterStep:
        day = self.matter.reference_date or local_date(self.bureau.now)
        fields: dict[str, Any] = {
            "action": audit_pb2.ROSTER_ACTION_DRAWN,
            "official": "clerk-17",
            "roster": "pensioners",
            "matter": "school",
            "reference": "2026-000777",
            "as_of": day.isoformat(),
            "count": count,
            "commitment": b"c" * 32,
        }
        return audit_pb2.RosterStep(**(fields | changes))

    def record(self, step: audit_pb2.RosterStep, *blocks: Iterable[str], kind: str = "person") -> int:
        async def parts() -> AsyncIterator[roster_pb2.RecordRosterRequest]:
            yield roster_pb2.RecordRosterRequest(step=step)
            for block in blocks:
                yield roster_pb2.RecordRosterRequest(people=roster_pb2.People(kind=kind, identifiers=block))

        return int(asyncio.run(self.rosters.RecordRoster(parts(), None)).index)

    def refer(self, key: bytes, *people: str, **changes: Any) -> int:
        fields: dict[str, Any] = {
            "official": "clerk-17",
            "roster": "pensioners",
            "matter": "school",
            "reference": "2026-000777",
            "reason": "forms are sent by post",
            "count": len(people),
            "file_hash": b"f" * 32,
        }

        async def parts() -> AsyncIterator[roster_pb2.ReferRequest]:
            referred = audit_pb2.PeopleReferred(**(fields | changes))
            yield roster_pb2.ReferRequest(referral=roster_pb2.Referral(referred=referred, key=parse_key(key)))
            yield roster_pb2.ReferRequest(people=roster_pb2.People(kind="person", identifiers=people))

        return int(asyncio.run(self.referrals.Refer(parts(), None)).index)

    def entries(self) -> list[audit_pb2.Entry]:
        found = [decode_entry(data) for data in self.bureau.log.entries(0, 10_000)]
        return [one for one in found if one.WhichOneof("event") in {"roster_step", "people_referred"}]


@pytest.fixture
def city(tmp_path: Path) -> City:
    (tmp_path / "authority-of").mkdir()
    return City.create(tmp_path / "authority-of")


@pytest.fixture
def desk(bureau: Bureau, city: City) -> Desk:
    return Desk(bureau, city)


def enrolled(city: City, desk: Desk, short: str) -> Signer:
    return city.enrol(short, now=datetime.fromtimestamp(desk.bureau.now - 86_400, UTC)).signer()


def rows(desk: Desk, who: str) -> list[subject_pb2.Lookups]:
    return [row for row in shown(told(desk.bureau, who)) if row.listing]


def test_a_long_list_is_several_entries_and_everybody_on_it_is_told(desk: Desk) -> None:
    many = [resident(number % 1000, f"19{number // 1000 + 40}0101") for number in range(7000)]
    desk.record(desk.step(7001), many[:5000], [*many[5000:], ANNA])
    assert [entry.roster_step.people for entry in desk.entries()] == [5000, 2001]
    assert {entry.roster_step.by for entry in desk.entries()} == {"spiffe://shenzhen/hrss/system/inviting"}
    (row,) = rows(desk, ANNA)
    assert (row.listing, row.department, row.official, row.matter, row.routine) == (
        subject_pb2.LISTING_DRAWN,
        "hrss",
        "clerk-17",
        "school",
        True,
    )
    assert len(rows(desk, many[4999])) == 1
    assert rows(desk, BO) == []
    state = desk.bureau.directory / "state"
    for path in state.rglob("*"):
        assert not path.is_file() or ANNA.encode() not in path.read_bytes(), path


def test_nights_of_one_job_are_one_row(desk: Desk) -> None:
    for _ in range(3):
        desk.record(desk.step(1), [ANNA])
        desk.bureau.now += 60
    desk.record(desk.step(1, action=audit_pb2.ROSTER_ACTION_INVITED), [ANNA])
    assert [(row.listing, row.entries) for row in rows(desk, ANNA)] == [
        (subject_pb2.LISTING_INVITED, 1),
        (subject_pb2.LISTING_DRAWN, 3),
    ]


def test_an_empty_list_is_recorded_too(desk: Desk) -> None:
    desk.record(desk.step(0))
    assert [entry.roster_step.people for entry in desk.entries()] == [0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"roster": "others"}, Reason.NAME_UNKNOWN),
        ({"matter": "senior"}, Reason.MATTER_NOT_ALLOWED),
        ({"reference": ANNA}, Reason.REFERENCE_INVALID),
        ({"reference": "x"}, Reason.REFERENCE_INVALID),
        ({"official": f"clerk {BO}"}, Reason.OFFICIAL_INVALID),
        ({"as_of": "2001-01-01"}, Reason.DATE_NOT_PUBLISHED),
        ({"action": audit_pb2.ROSTER_ACTION_UNSPECIFIED}, Reason.REQUEST_MALFORMED),
        ({"commitment": b"short"}, Reason.REQUEST_MALFORMED),
    ],
)
def test_what_no_matter_or_mapping_says_is_refused_before_anything_is_recorded(
    desk: Desk, changes: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(RefusedError) as caught:
        desk.record(desk.step(1, **changes), [ANNA])
    assert caught.value.reason is reason
    assert desk.entries() == []


def test_a_list_that_is_not_whole_or_not_of_its_kind_is_refused(desk: Desk) -> None:
    for blocks, kind, reason in (
        ([[ANNA]], "person", Reason.REQUEST_MALFORMED),
        ([[ANNA], [BO], [CHEN]], "person", Reason.REQUEST_MALFORMED),
        ([[ANNA, BO]], "entity", Reason.SLOT_UNKNOWN),
        ([[ANNA, "440399"]], "person", Reason.IDENTIFIER_INVALID),
        ([[ANNA] * 5001], "person", Reason.REQUEST_TOO_LARGE),
    ):
        with pytest.raises(RefusedError) as caught:
            desk.record(desk.step(2), *blocks, kind=kind)
        assert caught.value.reason is reason


def test_nobody_of_another_department_records_anything(desk: Desk) -> None:
    desk.caller = "civil/system/cards"
    with pytest.raises(RefusedError) as caught:
        desk.record(desk.step(1), [ANNA])
    assert caught.value.reason is Reason.RPC_NOT_ALLOWED
    assert desk.entries() == []


def test_a_department_that_may_not_act_in_the_matter_draws_no_list_for_it(bureau: Bureau, city: City) -> None:
    desk = Desk(bureau, city, matter_of=())
    with pytest.raises(RefusedError) as caught:
        desk.record(desk.step(1), [ANNA])
    assert caught.value.reason is Reason.MATTER_NOT_ALLOWED


@pytest.mark.parametrize("stopped", [{"system": "hrss/inviting"}, {"official": "hrss/clerk-17"}], ids=str)
def test_who_is_suspended_draws_and_invites_nobody_and_hands_nobody_on(
    desk: Desk, city: City, tmp_path: Path, stopped: dict[str, str]
) -> None:
    key = make_key(tmp_path / "key", enrolled(city, desk, "civil/system/cards"), desk.bureau.now)
    suspension = replace(Suspension("s", "hrss"), **stopped)  # type: ignore[arg-type]  # its fields
    desk.bureau.directory_ = replace(desk.bureau.directory_, suspensions=(suspension,))
    for action in (audit_pb2.ROSTER_ACTION_DRAWN, audit_pb2.ROSTER_ACTION_INVITED):
        with pytest.raises(RefusedError) as caught:
            desk.record(desk.step(1, action=action), [ANNA])
        assert caught.value.reason is Reason.NOT_GRANTED
    desk.caller = "hrss/admin/chen"
    if "official" in stopped:
        with pytest.raises(RefusedError) as caught:
            desk.refer(key, ANNA)
        assert caught.value.reason is Reason.NOT_GRANTED
    assert desk.entries() == []
    desk.refer(key, ANNA, official="clerk-18")
    assert len(desk.entries()) == 1


def test_a_referral_is_recorded_with_its_rule_and_told_with_why(desk: Desk, city: City, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", enrolled(city, desk, "civil/system/cards"), desk.bureau.now)
    desk.caller = "hrss/admin/chen"
    desk.refer(key, ANNA, DING)
    (entry,) = desk.entries()
    referred = entry.people_referred
    assert (referred.by, referred.recipient, referred.role, referred.rule_id, referred.people) == (
        "spiffe://shenzhen/hrss/admin/chen",
        "spiffe://shenzhen/civil/system/cards",
        "civil/clerk",
        "r",
        2,
    )
    (row,) = rows(desk, ANNA)
    assert (row.listing, row.handed_to, row.why) == (
        subject_pb2.LISTING_REFERRED,
        "civil",
        "forms are sent by post",
    )
    assert rows(desk, BO) == []
    # What an investigation delays, is delayed here too.
    People(desk.bureau, "hrss/admin/chen").delay(3600, reference="2026-000777")
    assert rows(desk, ANNA) == []


def test_a_referral_without_a_rule_a_reason_or_a_key_in_time_is_refused(desk: Desk, city: City, tmp_path: Path) -> None:
    cards = enrolled(city, desk, "civil/system/cards")
    key = make_key(tmp_path / "key", cards, desk.bureau.now)
    stale = make_key(tmp_path / "stale", cards, desk.bureau.now - 40 * 86_400)
    stranger = make_key(tmp_path / "other", enrolled(city, desk, "civil/system/other"), desk.bureau.now)
    desk.caller = "hrss/admin/chen"
    for one, changes, reason in (
        (stale, {}, Reason.KEY_UNKNOWN),
        (stranger, {}, Reason.NOT_GRANTED),
        (key, {"reason": ""}, Reason.NOTE_INVALID),
        (key, {"reason": f"for {BO}"}, Reason.NOTE_INVALID),
        (key, {"reason": "x" * 201}, Reason.NOTE_INVALID),
        (key, {"file_hash": b""}, Reason.REQUEST_MALFORMED),
        (key, {"roster": "others"}, Reason.NAME_UNKNOWN),
    ):
        with pytest.raises(RefusedError) as caught:
            desk.refer(one, ANNA, **changes)
        assert caught.value.reason is reason
    desk.bureau.directory_ = replace(
        desk.bureau.directory_,
        documents={
            **desk.bureau.directory_.documents,
            "hrss": replace(desk.bureau.directory_.documents["hrss"], referrals=()),
        },
    )
    with pytest.raises(RefusedError) as caught:
        desk.refer(key, ANNA)
    assert caught.value.reason is Reason.NOT_GRANTED
    assert desk.entries() == []
