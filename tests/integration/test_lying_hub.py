"""A hub that lies from end to end: it forwards everything without deciding, and serves whatever directory suits it.

The hub's wire, log and links are real, and so are the adapter's process and the requester; only its decisions and its
mirror are taken from it. What the owner did not grant is answered to nobody, the attempt stands in the owner's log, and
what the hub withholds takes effect when the timestamp expires at the latest.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

import policy_support
from adapter_process import INSURED, PENSION, AdapterProcess, case, running_adapter, told
from audit.entry import decode_entry
from certs.identity import Identity
from certs.signing import CertificateVerifier
from city_support import RunningCity
from exchange.client.case import Answer
from exchange.client.client import Client
from policy import repository
from policy.authorise import Authorisation
from policy.directory import DirectoryHolder
from policy.enforcer import Decision
from policy.mirror import TIMESTAMP
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason
from zhiwang.wire.header import Header

DENY = policy_support.CENTRE + '\n[[deny]]\nid = "stop"\nrole = "edu/enrolment-clerk"\n'
LIFE = 25
"""Seconds for which a timestamp holds, once the hub withholds what comes after it."""
PATIENCE = 100.0

pytestmark = pytest.mark.timeout(400)


@dataclass
class Lie:
    """The city, the adapter, and what the hub does to them."""

    city: RunningCity
    adapter: AdapterProcess

    def __post_init__(self) -> None:
        hub = self.city.hub.up.parts.hub
        hub._examiner._authorise = _let_everything_pass
        hub._examiner._verifier = CertificateVerifier(self.city.kit.city.ca_pem, frozenset)
        hub._directory = unending(self.city)

    def serve(self, files: Mapping[str, bytes]) -> None:
        """Show this as the directory, to adapter and requesters alike."""
        self.city.hub.mirror.publish(dict(files))

    @property
    def files(self) -> dict[str, bytes]:
        """What the registrar has published, all of it."""
        return dict(self.city.kit.repository.files)

    def entries(self) -> list[audit_pb2.Entry]:
        """The owner's log, while its adapter runs."""
        place = f"file:{self.adapter.state.store}?mode=ro"
        with closing(sqlite3.connect(place, uri=True, timeout=30)) as connection:
            return [decode_entry(row[0]) for row in connection.execute("SELECT data FROM log_entry ORDER BY idx")]

    def refused(self) -> list[tuple[str, bytes]]:
        return [(e.refusal.reason, e.refusal.header_hash) for e in self.entries() if e.HasField("refusal")]

    def in_force(self) -> list[int]:
        """Versions by which the adapter came to decide."""
        return [e.directory_change.directory_version for e in self.entries() if e.HasField("directory_change")]

    def sent(self) -> list[bytes]:
        """Hashes of the headers that the hub passed on."""
        return [sha256(one.header).digest() for one in self.city.hub.up.entries()]


def _let_everything_pass(header: Header, _requester: Identity, _now: float) -> Authorisation:
    return Authorisation((Decision(allowed=True, reason=None, rule_ids=("lie",)),) * len(header.claims), 1, 0)


def unending(city: RunningCity) -> DirectoryHolder:
    """What is in force by now, for ever."""
    holder = DirectoryHolder(city.clock)
    holder.set(replace(city.kit.directory, expires=float("inf")))
    return holder


@asynccontextmanager
async def lying(tmp_path: Path) -> AsyncIterator[Lie]:
    async with running_adapter(tmp_path) as (city, adapter):
        yield Lie(city, adapter)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.1)


async def ask(client: Client, city: RunningCity, **changes: str) -> list[Answer | Reason | None]:
    return told((await client.verify(case(), city.context(**changes), timeout=50)).claims)


async def test_what_the_owner_did_not_grant_is_answered_to_nobody_whatever_directory_the_hub_serves(
    tmp_path: Path,
) -> None:
    async with lying(tmp_path) as lie:
        city = lie.city
        async with city.client() as client, city.client(short="edu/system/street", name="street") as street:
            assert await ask(client, city) == [Answer.YES, Answer.YES]
            # Too low a level for the one, and elsewhere for the other: nothing of it is granted.
            place = {"jurisdiction": "nbs:440306001"}
            found = told((await street.verify(case(claims=(PENSION,)), city.context(**place), timeout=50)).claims)
            assert found == [Reason.NOT_GRANTED]
            elsewhere = city.context(jurisdiction="nbs:440305")
            assert told((await client.verify(case(claims=(INSURED,)), elsewhere, timeout=50)).claims) == [
                Reason.NOT_GRANTED
            ]
            with_refusals = [one for one in lie.city.hub.up.entries() if one.reason == "NOT_GRANTED"]
            hashes = [sha256(one.header).digest() for one in with_refusals]
            assert len(hashes) == 2, "the hub passed both on"
            await until(lambda: {("NOT_GRANTED", one) for one in hashes} <= set(lie.refused()))

            # A deny comes into force, and then the hub would have everybody forget it.
            before = lie.files
            city.kit.publish(DENY)
            lie.serve(lie.files)
            version = city.kit.directory.version
            await until(lambda: version in lie.in_force())
            async with asyncio.timeout(PATIENCE):
                while client.directory.version != version:  # noqa: ASYNC110 - seen from outside only
                    await asyncio.sleep(0.05)
            assert await ask(client, city) == [Reason.NOT_GRANTED] * 2

            after = lie.files
            foreign = dict(policy_support.make_directory(tmp_path / "foreign").repository.files)
            city.kit.publish(policy_support.HRSS + "# newer\n")
            newer = lie.files
            document = next(path for path in newer if path.endswith(".document.toml") and path not in after)
            lies = {
                "old": before,
                "foreign": foreign,
                "a foreign timestamp over ours": {**after, TIMESTAMP: foreign[TIMESTAMP]},
                "a new timestamp over an old snapshot": {**newer, _snapshot(newer): after[_snapshot(after)]},
                "a new snapshot over an old document": {**newer, document: policy_support.HRSS.encode()},
            }
            for what, files in lies.items():
                refused = lie.adapter.log.count("directory not taken")
                lie.serve(files)
                await until(partial(_more_refused, lie, refused))
                assert await ask(client, city) == [Reason.NOT_GRANTED] * 2, what
                assert client.directory.version == version, what
            assert set(lie.in_force()) <= {version - 1, version}


def _more_refused(lie: Lie, before: int) -> bool:
    return lie.adapter.log.count("directory not taken") > before


def _snapshot(files: Mapping[str, bytes]) -> str:
    (path,) = [path for path in files if path.endswith(".snapshot.json")]
    return path


async def test_a_deny_and_a_revocation_that_the_hub_withholds_take_effect_when_the_timestamp_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lying(tmp_path) as lie, lie.city.client() as client:
        city = lie.city
        assert await ask(client, city) == [Answer.YES, Answer.YES]
        serial = _serial(client)
        before = len(lie.in_force())
        monkeypatch.setattr(repository, "TIMESTAMP_LIFETIME", LIFE)
        city.kit.repository.resign()
        lie.serve(lie.files)
        await until(lambda: len(lie.in_force()) > before)
        # From here on nothing newer gets through.
        kit = city.kit
        kit.city.authority.revoke(serial)
        kit.publish(kit.city.authority.crl())
        kit.publish(DENY)
        # The requester lies as well: it goes on by a directory that holds for ever.
        client._holder = unending(city)
        async with asyncio.timeout(PATIENCE):
            while (found := await ask(client, city)) != [Reason.DIRECTORY_EXPIRED] * 2:
                assert found == [Answer.YES, Answer.YES], "what the design's limits say: as long as a timestamp lives"
                await asyncio.sleep(0.2)
        answered = sum(entry.HasField("owner_access") for entry in lie.entries())
        assert await ask(client, city) == [Reason.DIRECTORY_EXPIRED] * 2
        await until(lambda: '"condition": "directory", "holds": false' in lie.adapter.log)
        assert sum(entry.HasField("owner_access") for entry in lie.entries()) == answered
        await until(lambda: "DIRECTORY_EXPIRED" in {reason for reason, _ in lie.refused()})
        # It has to give in, to be of any use to anybody; and then both are in force.
        monkeypatch.undo()
        kit.repository.resign()
        lie.serve(lie.files)
        await until(lambda: kit.directory.version in lie.in_force())
        found = await ask(client, city)
        assert found == [Reason.CERTIFICATE_REVOKED] * 2
        async with city.client(short="edu/system/baoan", name="other") as other:
            assert await ask(other, city) == [Reason.NOT_GRANTED] * 2


def _serial(client: Client) -> int:
    from cryptography import x509  # noqa: PLC0415 - for this one look

    return x509.load_der_x509_certificate(client._signer().certificate_der).serial_number
