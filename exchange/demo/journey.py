"""The demo from beginning to end: build a city, run it, ask about every applicant, compare with the truth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from audit.auditor import ReadLog
from certs.identity import CA_CERTIFICATE
from certs.signing import CertificateVerifier
from exchange.client.receipt import read_receipt, write_receipt
from exchange.client.receipt_verify import ProvedPart, verify_receipt
from exchange.demo import build, stores
from exchange.demo.auditing import read_log
from exchange.demo.build import CENTRE, OWNERS, Layout
from exchange.demo.calendar import ENROLMENT_DAY
from exchange.demo.generate import generate
from exchange.demo.matters import rosters
from exchange.demo.model import City
from exchange.demo.places import read_places
from exchange.demo.processes import Fleet
from exchange.demo.roster import NEVER_GRANTED, Tally, ask_once, run_roster
from exchange.demo.town import Town
from exchange.demo.truth import expectations
from policy.authorise import local_date
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire.channel import open_channel
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Kind


class Voice(Protocol):
    """Tells a person how far it is."""

    def step(self, text: str) -> None:
        """Something begins."""

    def progress(self, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """A bar over so many applications; gives what advances it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person can choose.

    Attributes:
        students: Applications for a school place.
        residents: People in the city.
        seed: Chooses the city.
    """

    students: int
    residents: int
    seed: int


@dataclass(slots=True)
class Findings:
    """What came of it.

    Attributes:
        tally: Of the roster.
        refused: Public reason of the question that nobody granted; None if it was answered.
        logs: Logs that were read whole and verified.
        receipt: What the receipt proves; empty if it does not verify.
        failures: Everything that is not as it must be, in words for a person; empty if the demo succeeded.
        seconds: From the first key to the last proof.
    """

    tally: Tally = field(default_factory=Tally)
    refused: Reason | None = None
    logs: list[ReadLog] = field(default_factory=list)
    receipt: tuple[ProvedPart, ...] = ()
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def log_verified(self) -> bool:
        """Whether the hub's log and every owner's was verified."""
        return len(self.logs) == len(OWNERS) + 1


class Journey:
    """One run.

    Args:
        layout: An empty directory.
        options: What a person chose.
        fleet: Starts the processes; whoever gave it stops them, whatever happens here.
        voice: Tells how far it is.
    """

    def __init__(self, layout: Layout, options: Options, fleet: Fleet, voice: Voice) -> None:
        self._layout = layout
        self._options = options
        self._fleet = fleet
        self._voice = voice

    def run(self) -> tuple[Town, City, Findings]:
        """Go the whole way.

        Raises:
            NotEnoughChildrenError: The city is too small for so many applications.
            ProcessError: A process did not start, or ended.
        """
        begin = time.perf_counter()
        examples = build.examples_directory()
        self._layout.logs.mkdir(mode=0o700)
        self._voice.step("密钥、证书、名录  keys, certificates and the signed directory")
        build.make_identities(self._layout)
        build.make_directory(self._layout, examples)
        town = Town(self._layout, self._fleet)
        town.start_registrar()
        city = self._city(examples)
        town.start_hub()
        self._voice.step("启动  eight databases; registrar, hub, eight adapters, the education bureau's agent")
        now = datetime.now(UTC)
        for department in OWNERS:
            # One department's adapter starts on one core while the next one's database is written on another.
            build.furnish(self._layout, examples, department)
            stores.write(department, self._layout.database(department), city, seed=self._options.seed, now=now)
            town.start_adapter(department)
        town.start_agent()
        self._layout.rosters.mkdir(mode=0o700)
        for one in rosters(city, local_date(time.time())).values():
            if one.lines:
                one.write(self._layout.rosters / f"{one.matter}.csv")
        findings = asyncio.run(self._ask(town, city))
        findings.seconds = time.perf_counter() - begin
        return town, city, findings

    def _city(self, examples: Path) -> City:
        options = self._options
        self._voice.step(f"居民 {options.residents:,}  residents in families, companies, dwellings")
        return generate(
            seed=options.seed,
            residents=options.residents,
            students=options.students,
            places=read_places(examples / "shenzhen_divisions.csv"),
            today=datetime.now(UTC).astimezone().date(),
        )

    async def _ask(self, town: Town, city: City) -> Findings:
        expected = expectations(city, ENROLMENT_DAY)
        await town.ready()
        findings = Findings()
        channel = open_channel(town.agent, None)
        try:
            self._voice.step(f"核验 {len(city.applications):,} 份入学申请  verifying applications for a school place")
            with self._voice.progress(len(city.applications)) as advance:
                findings.tally = await run_roster(channel, city.applications, expected, advance)
            findings.failures += findings.tally.mismatches
            plain = next((one for one in city.applications if not one.trouble), city.applications[0])
            self._refusal(findings, await ask_once(channel, plain, [NEVER_GRANTED]))
            self._receipt(findings, await ask_once(channel, plain, receipt=True))
        finally:
            await channel.close()
        self._voice.step("审计  reading every log from its first entry to its signed checkpoint")
        await self._logs(town, findings)
        self._fleet.check()
        return findings

    def _refusal(self, findings: Findings, result: api.CaseResult) -> None:
        """The question that nobody granted must have been denied, for each guardian."""
        if not result.claims:
            findings.failures.append(f"{NEVER_GRANTED!r} came to nothing")
        for claim in result.claims:
            findings.refused = Reason.__members__.get(claim.reason)
            if claim.status != api.CLAIM_STATUS_DENIED:
                findings.failures.append(f"{NEVER_GRANTED!r} was not denied")

    def _receipt(self, findings: Findings, result: api.CaseResult) -> None:
        """Write the receipt to a file, and verify the file with nothing but what is pinned."""
        path = self._layout.directory / "receipt.json"
        write_receipt(path, result.receipt)
        verifier = CertificateVerifier((self._layout.root / CA_CERTIFICATE).read_bytes(), frozenset)
        try:
            findings.receipt = verify_receipt(read_receipt(path.read_bytes()), verifier)
        except RefusedError as error:
            findings.failures.append(f"the receipt does not verify: {error}")

    async def _logs(self, town: Town, findings: Findings) -> None:
        keepers = [("hub", Kind.HUB, CENTRE), *((owner, Kind.ADAPTER, owner) for owner in OWNERS)]
        for place, kind, department in keepers:
            try:
                findings.logs.append(await read_log(town.addresses[place], kind, department, town.auditor))
            except RefusedError as error:
                findings.failures.append(f"the log of {place} does not verify: {error}")
