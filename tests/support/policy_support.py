"""A small signed directory in a temporary directory: real keys, real certificates, a real repository.

kit = make_directory(tmp_path)                      # the example centre, documents and matter below
kit = make_directory(tmp_path, documents={"hrss": HRSS, "edu": EDU})
kit.directory                                       # the Directory in force
kit.publish(changed_document)                       # signs with the department's two admins
kit.client(tmp_path / "state").refresh()            # what a reader sees
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from certs.credentials import IdentityFiles
from certs.identity import Identity, Kind
from certs.signing import Signer
from certs_support import City
from policy import guard
from policy.directory import DirectoryClient, DirectoryHolder
from policy.enforcer import Enforcer
from policy.keys import RegistrarKeys, load_key, new_key
from policy.metadata import build_root, raw_key, signed
from policy.model import Directory
from policy.publishing import Draft, Named, draft, read_current, sign
from policy.repository import Repository
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import ClaimShape, Header, SlotShape
from zhiwang.wire.places import Jurisdiction

CITY = "shenzhen"
OPERATOR = "dsjj"
"""Department that runs hub and registrar and whose admins speak for the centre."""

CENTRE = """
city = "shenzhen"

[subject]
person = "resident"
entity = "uscc"
dwelling = "house"

[department.edu]
title = { zh = "教育局", en = "Education" }
home = "nbs:4403"
system.enrolment.home = "nbs:4403"
system.baoan.home = "nbs:440306"
system.street.home = "nbs:440306001"

[department.hrss]
title = { zh = "人力资源和社会保障局", en = "Labour and Social Security" }
home = "nbs:4403"
system.counter = {}

[department.health]
title = { zh = "卫生健康委员会", en = "Health" }
home = "nbs:4403"
"""

SCHOOL = """
matter = "school-enrolment"
title = { zh = "非深户籍儿童入学", en = "School enrolment" }
basis = "city rules of 2018"
requesters = ["edu"]
reference_date = 2026-09-01
reference = "2026-[0-9]{6}"

[slots]
child = "person"
guardian = { kind = "person", up_to = 2 }
home = "dwelling"

[claims]
parent = "child: health.birth_mother related @guardian"
pension = "guardian: hrss.pension_months at_least 12"
insured = "guardian: hrss.insured exists"

[rule]
some.guardian = ["parent", "pension"]
"""

SENIOR = """
matter = "senior-card"
title = { zh = "敬老卡", en = "Senior card" }
basis = "city rules"
requesters = ["hrss", "edu"]
reference_date = "today"

[slots]
holder = "person"
"""

EDU = """
department = "edu"
title = { zh = "教育局", en = "Education" }
system.enrolment.roles = ["enrolment-clerk", "inspector"]
system.baoan.roles = ["enrolment-clerk"]
system.street.roles = ["enrolment-clerk"]
"""

HRSS = """
department = "hrss"
title = { zh = "人力资源和社会保障局", en = "Labour and Social Security" }
system.counter.roles = ["clerk"]

[attribute.pension_months]
title = { zh = "养老保险是否已连续缴费满 N 个月？", en = "Pension paid for N consecutive months?" }
subject = "person"
type = "integer"
at_least = [6, 12, 18, 24]
sensitivity = 2
max_age = "45d"
counter = "0755-00000000"

[attribute.insured]
title = { zh = "是否参保？", en = "Insured?" }
subject = "person"
asks = ["exists"]

[[grant]]
id = "enrolment-pension"
role = "edu/enrolment-clerk"
ask = "hrss.pension_months at_least"
matter = "school-enrolment"
place = "@self"
level = "district"

[[grant]]
id = "enrolment-insured"
role = "edu/enrolment-clerk"
ask = "hrss.insured exists"
matter = "school-enrolment"
place = "nbs:440306"

[[assert]]
deny = "hrss.pension_months at_least"
role = "edu/enrolment-clerk"
matter = "senior-card"
place = "nbs:440306"
"""

HEALTH = """
department = "health"
title = { zh = "卫生健康委员会", en = "Health" }

[attribute.birth_mother]
title = { zh = "出生医学证明上的母亲是否为此人？", en = "Is this the mother on the birth certificate?" }
subject = "person"
type = "person"
asks = ["related"]

[[grant]]
id = "enrolment-mother"
role = "edu/enrolment-clerk"
ask = "health.birth_mother related"
matter = "school-enrolment"
"""

DOCUMENTS = {"edu": EDU, "hrss": HRSS, "health": HEALTH}
MATTERS = {"school-enrolment": SCHOOL, "senior-card": SENIOR}


@dataclass
class DirectoryKit:
    """A directory and everybody who can change it.

    Attributes:
        city: Authority, and the pinned root directory (`root.json` and `ca.pem`).
        admins: Signers of each department's two admins; the centre's under `OPERATOR`.
        admin_files: The identity directories of the same.
    """

    city: City
    root_json: bytes
    root_keys: list[CryptoSigner]
    keys: RegistrarKeys
    repository: Repository
    clock: Callable[[], float]
    admins: dict[str, list[Signer]] = field(default_factory=dict)
    admin_files: dict[str, list[IdentityFiles]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.city.directory / "registrar"

    @property
    def directory(self) -> Directory:
        directory = self.repository.directory
        assert directory is not None
        return directory

    @property
    def enforcer(self) -> Enforcer:
        return Enforcer(self.directory)

    @property
    def holder(self) -> DirectoryHolder:
        holder = DirectoryHolder(self.clock)
        holder.set(self.directory)
        return holder

    def copy(self, path: Path) -> DirectoryKit:
        """The same city with a repository of its own, which can go its own way; quicker than making one anew."""
        shutil.copytree(self.path / "repository", path / "repository")
        repository = Repository(path / "repository", self.root_json, self.keys, self.city.ca_pem, self.clock)
        return replace(self, repository=repository, admins=dict(self.admins), admin_files=dict(self.admin_files))

    def fetch(self, path: str) -> bytes:
        content = self.repository.files.get(path)
        if content is None:
            raise RefusedError(Reason.FILE_UNKNOWN, path)
        return content

    def client(self, state: Path, **options: Any) -> DirectoryClient:
        return DirectoryClient(self.root_json, self.city.ca_pem, state, options.pop("fetch", self.fetch), **options)

    def enrol_admins(self, department: str, names: Sequence[str] = ("first", "second")) -> list[Signer]:
        files = [self.city.enrol(f"{department}/admin/{name}") for name in names]
        self.admin_files[department] = files
        self.admins[department] = [file.signer() for file in files]
        return self.admins[department]

    def drafts(
        self,
        *files: str | bytes,
        admins: Mapping[str, Sequence[bytes]] | None = None,
        removed: Sequence[str] = (),
    ) -> list[Draft]:
        named = [
            Named(f"file-{number}", file.encode() if isinstance(file, str) else file)
            for number, file in enumerate(files)
        ]
        current = read_current(self.fetch, self.root_json, self.clock())
        return draft(named, current, now=self.clock(), admins=admins, removed=removed)

    def publish(
        self,
        *files: str | bytes,
        admins: Mapping[str, Sequence[bytes]] | None = None,
        removed: Sequence[str] = (),
        signers: Sequence[Signer] | None = None,
    ) -> Directory:
        everybody = [signer for some in self.admins.values() for signer in some] if signers is None else signers
        for drafted in self.drafts(*files, admins=admins, removed=removed):
            self.repository.publish(sign(drafted, everybody))
        return self.directory


def make_directory(
    tmp_path: Path,
    *,
    centre: str = CENTRE,
    documents: Mapping[str, str] | None = None,
    matters: Mapping[str, str] | None = None,
    members: Sequence[str] = ("edu", "hrss", "health"),
    clock: Callable[[], float] = time.time,
) -> DirectoryKit:
    """A city with two admins for each member, published and in force.

    Args:
        members: Departments that the centre delegates to; those of `centre`.
    """
    city = City.create(tmp_path / "city", CITY)
    keys = RegistrarKeys.create(city.directory / "registrar" / "keys")
    root_keys = [_key(city.directory / f"root-{number}.key") for number in range(3)]
    centre_admins = [city.enrol(f"{OPERATOR}/admin/{name}") for name in ("first", "second")]
    snapshot_key, timestamp_key = keys.public
    root = build_root(
        root_keys=[raw_key(key.public_key) for key in root_keys],
        threshold=2,
        centre_keys=[files.signer().public_key_raw for files in centre_admins],
        snapshot_key=snapshot_key,
        timestamp_key=timestamp_key,
        now=clock(),
    )
    root_json = signed(root, root_keys[:2])
    (city.root / "root.json").write_bytes(root_json)
    Repository.create(city.directory / "registrar" / "repository")
    guard.make(city.directory / "registrar" / guard.GUARD)
    repository = Repository(city.directory / "registrar" / "repository", root_json, keys, city.ca_pem, clock)
    kit = DirectoryKit(city, root_json, root_keys, keys, repository, clock)
    kit.admin_files[OPERATOR] = centre_admins
    kit.admins[OPERATOR] = [files.signer() for files in centre_admins]
    admins = {member: [signer.public_key_raw for signer in kit.enrol_admins(member)] for member in members}
    kit.publish(
        centre,
        *(MATTERS if matters is None else matters).values(),
        *(DOCUMENTS if documents is None else documents).values(),
        admins=admins,
    )
    return kit


def _key(path: Path) -> CryptoSigner:
    from certs.identity import write_private  # noqa: PLC0415

    write_private(path, new_key())
    return load_key(path)


def system(name: str = "enrolment", department: str = "edu") -> Identity:
    return Identity(CITY, department, Kind.SYSTEM, name)


def make_header(directory: Directory, **changed: Any) -> Header:
    """A header of edu/system/enrolment that the example directory allows: pension and insurance of one guardian."""
    matter = directory.matters[changed.get("matter", "school-enrolment")] if "matter_version" not in changed else None
    owner = changed.get("owner", "hrss")
    document = directory.documents.get(owner)
    fields: dict[str, Any] = {
        "raw": b"",
        "hash": bytes(32),
        "suite": "zhiwang-1",
        "request_id": bytes(16),
        "system": system().uri,
        "certificate_fingerprint": bytes(32),
        "role": "edu/enrolment-clerk",
        "official": "clerk-17",
        "assurance": 1,
        "matter": "school-enrolment",
        "matter_version": b"" if matter is None else matter.version,
        "reference_date": None if matter is None else matter.reference_date,
        "reference": "2026-000123",
        "jurisdiction": Jurisdiction.parse("nbs:440306"),
        "owner": owner,
        "owner_key_id": bytes(16),
        "owner_document_version": 0 if document is None else document.version,
        "slots": (SlotShape("guardian", 0, "person"),),
        "claims": (claim("pension_months at_least", cell="12"), claim("insured exists")),
        "values": 0,
        "cases": 1,
        "bulk": False,
        "issue_time": time.time(),
        "expire_time": time.time() + 30,
    }
    return Header(**(fields | changed))


def claim(ask: str, slot: int = 0, *, cell: str = "", compared_slot: int | None = None) -> ClaimShape:
    from zhiwang.wire.claims import Predicate  # noqa: PLC0415

    attribute, _, predicate = ask.partition(" ")
    return ClaimShape(slot, attribute, Predicate(predicate), cell, compared_slot, None)
