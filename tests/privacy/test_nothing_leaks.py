"""Identifiers, names and compared values go through a real city in every way that we could think of; then everything
that any process wrote or said is searched for them, in every spelling and encoding that we could think of.

Only the departments' own databases may hold them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest

from adapters.mapping import load_mapping
from breaking_support import (
    INSURED,
    LEASE,
    LESSEE,
    PARENT,
    USE,
    Forge,
    RealCity,
    altered,
    case,
    command,
    context,
    exchange,
    refusal,
)
from city_support import with_check_digit
from exchange.demo.build import MATTER
from policy.document import parse_document
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire.tomlfile import FileError

OWNERS = ("health", "hrss", "housing")
NAME = "龘靐·囍爨灪"
"""Nobody's name, in characters that nobody else uses."""

VALUE = "密用途甲乙丙丁戊"
OVERLONG = "鱻麤籲" * 40
INVENTED = [with_check_digit(f"4403991986{month:02}2800{month % 10}") for month in range(1, 13)]
WITH_X = next(one for one in (with_check_digit(f"44039919870304{n:03}") for n in range(100)) if one.endswith("X"))
HOUSE = "4403060010010109998887776"[:25]
CLAIMS = [PARENT, INSURED, LEASE, LESSEE, USE + VALUE]

pytestmark = pytest.mark.timeout(180)


# What is looked for.


def spellings(identifier: str) -> Iterator[str]:
    """As people write a resident identifier."""
    yield identifier
    if len(identifier) == 18:
        yield identifier[:6] + identifier[8:17]
        yield identifier.lower()
        yield full_width(identifier)
        yield f"{identifier[:6]}-{identifier[6:14]}-{identifier[14:]}"
        yield f"{identifier[:6]} {identifier[6:14]} {identifier[14:]}"


def full_width(text: str) -> str:
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


def encodings(text: str) -> Iterator[bytes]:
    """As programs write a text."""
    plain = text.encode()
    yield plain
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")
    yield text.encode("gb18030")
    yield json.dumps(text).strip('"').encode()
    yield json.dumps(text).strip('"').upper().replace("\\U", "\\u").encode()
    yield quote(text).encode()
    yield repr(plain)[2:-1].encode()
    yield "".join(f"\\{byte:03o}" for byte in plain).encode()
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    for shift in range(3):
        # Without the characters that what stands before and after has a part in.
        middle = base64.b64encode(b"\0" * shift + plain + b"\0\0\0")[(0, 2, 3)[shift] : (shift + len(plain)) * 8 // 6]
        yield middle
        yield middle.replace(b"+", b"-").replace(b"/", b"_")
    if text.isdecimal() and text.isascii():
        for size, order in ((8, "big"), (8, "little"), (16, "big")):
            if int(text).bit_length() <= 8 * size:
                yield int(text).to_bytes(size, order)  # type: ignore[arg-type]  # a literal
    for algorithm in ("md5", "sha1", "sha256"):
        # Whoever has a list of all identifiers undoes a hash without a key.
        digest = hashlib.new(algorithm, plain).digest()
        yield digest
        yield digest.hex().encode()


class Search:
    """Finds any of some texts, whatever the encoding."""

    def __init__(self, texts: Iterable[str]) -> None:
        # Six bytes, so that chance does not find them in ciphertext.
        self._needles = {
            needle: f"{place} {name}"
            for place, text in enumerate(texts)
            for name, needle in enumerate(encodings(text))
            if len(needle) >= 6
        }

    def found(self, data: bytes) -> list[str]:
        return sorted({label for needle, label in self._needles.items() if needle in data})


# How it goes in.


class Attack:
    """Asks in every way, and keeps everything that is said about it."""

    def __init__(self, city: RealCity) -> None:
        self.city = city
        self.said: list[str] = []
        self.claims: list[api.ClaimResult] = []
        self.people = [party.person for one in city.applications[:4] for party in (one.child, *one.guardians)]

    def texts(self) -> list[str]:
        """Everything that nobody may find."""
        identifiers = {*INVENTED, WITH_X, *(person.identifier for person in self.people)}
        names = {NAME, VALUE, OVERLONG[:9], *(p.name for p in self.people if len(p.name) > 2)}
        houses = {HOUSE, *(one.home.code for one in self.city.applications[:4])}
        return sorted({s for one in identifiers for s in spellings(one)} | names | houses)

    async def run(self) -> None:
        async with self.city.agent_stub() as stub:
            await self._questions(stub)
            await self._wrong_cases(stub)
            await self._wrong_contexts(stub)
            await self._batches(stub)
            await self._while_the_database_fails(stub)
        await self._beside_the_services()
        await self._at_the_hub()
        self._commands()
        self.said += [self.city.metrics(place) for place in self.city.places]

    async def _ask(self, stub: Any, one: api.Case, why: api.Context | None = None, **options: Any) -> None:
        request = api.VerifyRequest(context=why or context(), case=one)
        try:
            response = await stub.Verify(request, timeout=10, **options)
        except grpc.aio.AioRpcError as error:
            self.said.append(refusal(error))
            return
        result = response.result
        self.claims += result.claims
        # The key and the claims are the caller's own words; everything else is ours.
        self.said += [result.reason, result.field, *(f"{one.reason} {one.counter} {one.name}" for one in result.claims)]

    async def _questions(self, stub: Any) -> None:
        for application in self.city.applications[:4]:
            await self._ask(stub, case(application, CLAIMS, key=application.child.person.identifier))
        for person in self.people[:4]:
            for spelling in spellings(person.identifier):
                await self._ask(stub, self._child(spelling, person.name))
        for identifier in (*INVENTED[:4], WITH_X, WITH_X.lower(), full_width(WITH_X)):
            await self._ask(stub, self._child(identifier, NAME))
        for dot in "•・‧．":
            await self._ask(stub, self._child(INVENTED[0], f"  {NAME.replace('·', dot)} "))

    def _child(self, identifier: str, name: str = "", claims: Sequence[str] = (PARENT, INSURED)) -> api.Case:
        guardian = api.Subject(slot="guardian", identifier=identifier, name=name)
        child = api.Subject(slot="child", identifier=INVENTED[1], name=NAME)
        return api.Case(subjects=[child, guardian, api.Subject(slot="home", identifier=HOUSE)], claims=claims, key=name)

    async def _wrong_cases(self, stub: Any) -> None:
        person = self.people[0]
        wrong = person.identifier[:-1] + ("1" if person.identifier[-1] != "1" else "2")
        for identifier in (
            wrong,
            person.identifier + NAME,
            person.identifier * 2,
            NAME,
            person.identifier[:-1],
            "\0" + wrong,
        ):
            await self._ask(stub, self._child(identifier, person.name))
        for name in (OVERLONG, NAME + "\u200b", NAME + "\ue000", NAME + "\n", person.identifier):
            await self._ask(stub, self._child(INVENTED[2], name))
        for claim in (
            f"guardian: hrss.insured_months at_least {person.identifier}",
            f"{person.identifier}: hrss.insured_months at_least 12",
            "guardian: hrss.insured_months at_least 13",
            f"guardian: hrss.{NAME} exists",
            f"guardian: hrss.insured_months {NAME}",
            f"child: health.parent related {person.identifier}",
            f"child: health.parent related @{NAME}",
            f"home: housing.use equals {OVERLONG}",
            f"home: housing.use equals {person.identifier}",
            f"home: police.secret equals {NAME}",
            NAME,
        ):
            await self._ask(stub, self._child(INVENTED[3], NAME, [claim]))
        await self._ask(stub, self._child(INVENTED[3], NAME, [f"{USE}{NAME}{n}" for n in range(10_000)]))
        strange = api.Case(subjects=[api.Subject(slot=person.identifier, identifier=person.identifier, name=NAME)])
        await self._ask(stub, strange)
        await self._ask(stub, api.Case(subjects=[api.Subject(slot=NAME, identifier=INVENTED[4])], claims=[INSURED]))

    async def _wrong_contexts(self, stub: Any) -> None:
        identifier = self.people[0].identifier
        for field in ("matter", "reference", "official", "role", "jurisdiction", "reference_date"):
            for text in (identifier, full_width(identifier), NAME, f"2026-{identifier}", f"nbs:{identifier}"):
                await self._ask(stub, self._child(INVENTED[5], NAME), context(None, **{field: text}))

    async def _batches(self, stub: Any) -> None:
        cases = [self._child(one, NAME) for one in (*INVENTED[:3], "123", WITH_X)]
        cases += [case(self.city.applications[0], [USE + NAME], key=INVENTED[6])]

        async def messages() -> AsyncIterator[api.VerifyBatchRequest]:
            yield api.VerifyBatchRequest(context=context(), cases=cases)

        async for response in stub.VerifyBatch(messages(), timeout=20):
            self.said += [f"{result.reason} {result.field}" for result in response.results]
        submitted = await stub.SubmitBatch(api.SubmitBatchRequest(context=context(), cases=cases), timeout=10)
        identifier = self.people[0].identifier
        for call in (
            stub.GetBatchResults(api.GetBatchResultsRequest(batch_id=submitted.batch_id, page_token=identifier)),
            stub.GetBatchResults(api.GetBatchResultsRequest(batch_id=identifier)),
            stub.GetBatchResults(api.GetBatchResultsRequest(batch_id=NAME)),
            stub.ListAttributes(api.ListAttributesRequest(page_token=f"{identifier}\n", owner=NAME)),
            stub.ListMatters(api.ListMattersRequest(page_token=NAME + "\n")),
        ):
            try:
                await call
            except grpc.aio.AioRpcError as error:
                self.said.append(refusal(error))

    async def _while_the_database_fails(self, stub: Any) -> None:
        """Statements that are gone before they begin, and ones that fail in the middle of the rows."""
        application = self.city.applications[0]
        before = len(self.claims)
        with altered(
            self.city.layout.database("housing"),
            "ALTER TABLE fw_contract RENAME TO fw_away",
            "ALTER TABLE fw_away RENAME TO fw_contract",
        ):
            await self._ask(stub, case(application, [LEASE, LESSEE, USE + VALUE]))
        assert {one.reason for one in self.claims[before:]} == {"DATABASE_UNAVAILABLE"}
        database = self.city.layout.database("hrss")
        overflow = "CREATE VIEW payment AS SELECT acct_no, ym, abs(-9223372036854775807 - 1) AS pension, "
        with (
            altered(database, "ALTER TABLE payment RENAME TO away", "ALTER TABLE away RENAME TO payment"),
            altered(database, overflow + "1 AS medical, 0 AS arrears FROM away", "DROP VIEW payment"),
        ):
            await self._ask(stub, case(application, [INSURED]))

    async def _beside_the_services(self) -> None:
        """Bytes that are no messages, methods that do not exist, headers of gRPC, keys of a batch."""
        identifier = self.people[0].identifier
        target = self.city.address("agent")
        async with grpc.aio.insecure_channel(target) as channel:
            service = "/zhiwang.verification.v1.VerificationService/"
            for method in (service + "Verify", service + identifier, f"/{identifier}/{identifier}"):
                for body in (b"\xff" + identifier.encode(), NAME.encode(), b"\x0a\xff\xff\xff\xff\x0f" + NAME.encode()):
                    try:
                        await channel.unary_unary(method)(
                            body, timeout=5, metadata=(("x-subject", identifier), ("x-name-bin", NAME.encode()))
                        )
                    except grpc.aio.AioRpcError as error:
                        # gRPC itself repeats the method that its own caller named.
                        self.said.append(refusal(error) if identifier not in method else str(error.code()))

    async def _at_the_hub(self) -> None:
        forge = Forge(self.city, keys=await self.city.owner_keys())
        person = self.people[0]
        good = forge.request("hrss", [INSURED], [{"guardian": (person.identifier, person.name)}])
        requests = [good.request]
        subjects: Sequence[tuple[str, str] | str] = (
            *spellings(person.identifier),
            person.identifier[:-1] + "?",
            (person.identifier, OVERLONG[:60]),
            (person.identifier, person.name + "\u200b"),
            (NAME, person.identifier),
        )
        requests += [forge.request("hrss", [INSURED], [{"guardian": one}]).request for one in subjects]
        values = (VALUE, person.identifier, OVERLONG[:30])
        requests += [forge.request("housing", [USE + value], [{"home": HOUSE}]).request for value in values]
        related = forge.request("health", [PARENT], [{"child": INVENTED[0], "guardian": (INVENTED[1], NAME)}])
        requests.append(related.request)
        for field in ("header", "enc", "nonce", "ciphertext", "request_root", "signature", "certificate"):
            # Not the identifier alone: the log keeps the hash of whatever was sent as a header.
            for data in (f"x{person.identifier}".encode(), f"x{NAME}".encode(), b""):
                changed = sealed_pb2.SealedRequest()
                changed.CopyFrom(good.request)
                setattr(changed, field, data)
                requests.append(changed)
        for field in ("reference", "official", "role", "matter", "jurisdiction", "reference_date", "owner", "system"):
            changed = sealed_pb2.SealedRequest()
            changed.CopyFrom(good.request)
            header = forge.header("hrss", [INSURED])
            setattr(header, field, person.identifier)
            changed.header = header.SerializeToString()
            requests.append(changed)
        wrong = forge.request("hrss", [INSURED], [{"guardian": (person.identifier, person.name)}]).request
        wrong.request_root = os.urandom(32)
        forge.sign(wrong)
        requests.append(wrong)
        async with self.city.hub_channel() as channel:
            for request in requests:
                try:
                    response = await exchange(channel, request)
                    self.said.append(f"{response.result.reason} {response}")
                except grpc.aio.AioRpcError as error:
                    self.said.append(refusal(error))
            service = "/zhiwang.exchange.v1.ExchangeService/"
            for method in ("Exchange", "GetOwnerKeys"):
                call = channel.unary_unary(
                    service + method, response_deserializer=exchange_pb2.ExchangeResponse.FromString
                )
                try:
                    await call(NAME.encode() + person.identifier.encode(), timeout=5, metadata=(("x-s", WITH_X),))
                except grpc.aio.AioRpcError as error:
                    self.said.append(refusal(error))

    def _commands(self) -> None:
        """Files with people in them that cannot be read, and a command line with one that does not exist."""
        attic = self.city.layout.directory.parent / "attic"
        attic.mkdir()
        person = self.people[0]
        wrong = person.identifier[:-1] + ("1" if person.identifier[-1] != "1" else "2")
        home = self.city.layout.home("hrss")
        mapping = (home / "mapping.toml").read_text("utf-8")
        probe = f'\n[[probe]]\nclaim = "hrss.insured_months at_least 12"\nname = "{NAME}"\nsubject = '
        document = parse_document(home / "document.toml")
        for number, more in enumerate((
            probe + f'"{wrong}"\nanswer = "YES"\n' + probe + f'"{person.identifier}"\nanswer = "{VALUE}"\n',
            probe + f'"{WITH_X}" {NAME}\n',
            # Not as a key: mistakes are named by theirs.
            f'\n[strange]\nx = "{NAME}"\ny = "{person.identifier}"\n',
            f'\n[data.x]\ntable = "{NAME}"\nsubject = "{WITH_X}"\n',
        )):  # fmt: skip
            path = attic / f"mapping-{number}.toml"
            path.write_text(mapping + more, "utf-8")
            try:
                load_mapping(path, document)
            except FileError as error:
                self.said += [str(error), *map(str, error.findings)]
        # A whole process, to the end: a probe about somebody, which fails.
        shutil.copyfile(home / "hrss.db", attic / "hrss.db")
        path.write_text(mapping + probe + f'"{person.identifier}"\nanswer = "NO"\n', "utf-8")
        profile = attic / "profile.toml"
        profile.write_text(
            f'hub = ["127.0.0.1:1", "{person.identifier}"]\nstrange = "{NAME}"\nstate = "{WITH_X}"\n', "utf-8"
        )
        subjects = ("--subject", f"guardian={wrong}", "--subject", f"child={NAME}")
        own = str(self.city.layout.system_profile)
        for arguments in (
            ("adapter", "check", str(path), str(home / "document.toml")),
            ("hub", "run", "--profile", str(profile)),
            ("verify", "--profile", own, "--matter", MATTER, "--reference", "2026-000123", *subjects, INSURED),
        ):
            done = command(*arguments)
            assert done.returncode, arguments[0]
            self.said += [done.stdout.decode(), done.stderr.decode()]


@pytest.fixture
def city(tmp_path: Path) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path, OWNERS)
    yield city
    city.stop()


def written(city: RealCity) -> Iterator[tuple[Path, bytes]]:
    """Every file of every process; only the departments' own databases and whom they answer about are left out."""
    own = {city.layout.database(owner).name for owner in OWNERS}
    seen: set[bytes] = set()
    for path in sorted(city.layout.directory.rglob("*")):
        if path.is_file() and path.name.removesuffix("-wal").removesuffix("-shm") not in own:
            data = path.read_bytes()
            digest = hashlib.sha256(data).digest()
            if digest not in seen:
                seen.add(digest)
                yield path, data


async def test_nothing_that_any_process_writes_or_says_names_anybody(city: RealCity) -> None:
    attack = Attack(city)
    await attack.run()
    # It did happen: people were asked about, charged for and indexed; things were refused; a database failed.
    statuses = {api.ClaimStatus.Name(one.status) for one in attack.claims}
    assert statuses == {"CLAIM_STATUS_ANSWERED", "CLAIM_STATUS_DENIED", "CLAIM_STATUS_UNAVAILABLE"}
    for owner in OWNERS:
        assert city.count(owner, "trace") > 4, owner
        assert city.count(owner, "guess") > 4, owner
    city.stop()
    search = Search(attack.texts())
    # The search sees them where they may be.
    assert search.found(city.layout.database("hrss").read_bytes())
    logs = [path for path in city.layout.logs.iterdir() if path.stat().st_size]
    assert len(logs) == len(city.places) + 1
    leaks = {
        str(path.relative_to(city.layout.directory)): found
        for path, data in written(city)
        if (found := search.found(data))
    }
    assert not leaks
    assert all(
        str(path).isascii() and not search.found(str(path).encode()) for path in city.layout.directory.rglob("*")
    )
    assert len(attack.said) > 100
    assert not [text[:200] for text in attack.said if search.found(text.encode())]


@pytest.mark.parametrize("kind", ["wal", "json", "utf-16", "base64", "hash", "integer"])
def test_the_search_finds_what_is_there(tmp_path: Path, kind: str) -> None:
    search = Search([*spellings(WITH_X), INVENTED[0], NAME])
    path = tmp_path / "file"
    if kind == "wal":
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (a, b)")
            connection.execute("INSERT INTO t VALUES (?, ?)", (WITH_X.lower(), NAME))
            connection.commit()
            data = path.with_name("file-wal").read_bytes()
    else:
        data = {
            "json": json.dumps({"x": full_width(WITH_X)}).encode(),
            "utf-16": f"x{NAME}".encode("utf-16"),
            "base64": base64.b64encode(b"xy" + INVENTED[0].encode() + b"z"),
            "hash": b"x" + hashlib.sha256(WITH_X.encode()).hexdigest().encode(),
            "integer": b"x" + int(INVENTED[0]).to_bytes(8, "little"),
        }[kind]
    assert search.found(data)
    assert not search.found(b"x" * 1000)
