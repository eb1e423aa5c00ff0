"""A directory with everything that a city needs before its first process starts.

    authority/            the certificate authority; offline in real life
    root-keys/            the city's root keys; offline, each with another person
    root/                 what everybody pins: ca.pem, root.json
    identities/           keys and certificates: DEPARTMENT/KIND/NAME/
    registrar/ hub/ agent/ and one directory for each department: profile, state, and an owner's database and files
    logs/                 what the processes say

It does by function calls what a city's people do by the commands of docs/operations.md, each on a machine of his own.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certs.ca import Authority
from certs.credentials import IdentityFiles
from certs.identity import CA_CERTIFICATE, ROOT_METADATA, SIGNING_CERTIFICATE, Identity, write_private, write_public
from certs.request import make_requests
from exchange.demo import stores
from exchange.registrar import init as init_registrar
from policy import registrar
from policy.keys import load_key, new_key
from policy.metadata import build_root, signed
from policy.publishing import Current, Named, draft, sign
from zhiwang.wire.profile import Profile, load_profile

CITY = "shenzhen"
CENTRE = "data"
"""Department that keeps hub and registrar."""

REQUESTER = "edu"
OWNERS = tuple(stores.WRITERS)
DEPARTMENTS = (CENTRE, *OWNERS)
ADMINS = ("chen", "lin")
"""Two for each department: nothing is published by one of them alone."""

ROOT_KEYS = ("first", "second", "third")
ROOT_THRESHOLD = 2

HUB, REGISTRAR, AUDITOR = f"{CENTRE}/hub/main", f"{CENTRE}/registrar/main", f"{CENTRE}/auditor/zhao"
ADMIN = f"hrss/admin/{ADMINS[0]}"
SYSTEM = f"{REQUESTER}/system/enrolment"
ROLE = f"{REQUESTER}/enrolment-clerk"
DESK, DESK_ROLE, DESK_MATTER = f"{CENTRE}/system/desk", f"{CENTRE}/citizen-desk", "access-report"
INVITER, CARDS = "police/system/invitations", "civil/system/seniors"
"""Systems of active service: of the police, who invite, and of civil affairs, who can be handed names."""

MATTER = "school-enrolment"
CLERKS = {
    "permits": ("police/system/permits", "police/permit-clerk", "residence-permit"),
    "seniors": (CARDS, "civil/senior-clerk", "senior-card"),
    "leases": ("housing/system/leases", "housing/lease-clerk", "housing-lease"),
}
"""Other departments' systems, roles and matters, by the name of the profile that each has."""

DISTRICT = "440306"
"""Where the people of the example profiles work: Bao'an."""

LOOPBACK = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies in a city's directory."""

    directory: Path

    @property
    def root(self) -> Path:
        """What is pinned."""
        return self.directory / "root"

    @property
    def logs(self) -> Path:
        """Log files of the processes."""
        return self.directory / "logs"

    @property
    def rosters(self) -> Path:
        """Rosters of the matters, for `zhiwang matter run`."""
        return self.directory / "rosters"

    @property
    def processes(self) -> Path:
        """Process ids of a city that was left running."""
        return self.directory / "processes.json"

    @property
    def system_profile(self) -> Path:
        """Profile of the education bureau's system, for `zhiwang verify`."""
        return self.directory / f"{REQUESTER}.toml"

    @property
    def desk_profile(self) -> Path:
        """Profile of the citizens' desk, for `zhiwang audit subject`."""
        return self.directory / "desk.toml"

    @property
    def auditor_profile(self) -> Path:
        """Profile of an auditor, for `zhiwang audit` and `zhiwang policy explain`."""
        return self.directory / "auditor.toml"

    @property
    def admin_profile(self) -> Path:
        """Profile of an admin of social security, for `zhiwang policy publish`."""
        return self.directory / "hrss-admin.toml"

    def clerk_profile(self, name: str) -> Path:
        """Profile of another department's system, for `zhiwang matter run`."""
        return self.directory / f"{name}.toml"

    def identity(self, short: str) -> Path:
        """Directory of an identity, by "department/kind/name"."""
        return self.directory / "identities" / short

    def home(self, place: str) -> Path:
        """Directory of "registrar", "hub", "agent" or of a department's adapter."""
        return self.directory / place

    def profile(self, place: str) -> Path:
        """Profile of the same."""
        return self.home(place) / "profile.toml"

    def state(self, place: str) -> Path:
        """State of the same."""
        return self.home(place) / "state"

    def database(self, department: str) -> Path:
        """A department's database."""
        return self.home(department) / f"{department}.db"


def make_identities(layout: Layout) -> None:
    """Make the authority, and keys and certificates of everybody."""
    authority = Authority.create(layout.directory / "authority", CITY)
    layout.root.mkdir()
    write_public(layout.root / CA_CERTIFICATE, authority.certificate_pem)
    shorts = [HUB, REGISTRAR, AUDITOR, SYSTEM, DESK, INVITER, *(system for system, _, _ in CLERKS.values())]
    shorts += [f"{department}/adapter/main" for department in OWNERS]
    shorts += [f"{department}/admin/{admin}" for department in DEPARTMENTS for admin in ADMINS]
    for short in shorts:
        for request in make_requests(layout.identity(short), Identity.parse_short(CITY, short)):
            write_public(request.with_suffix(".pem"), authority.issue(request.read_bytes()))
    write_public(layout.directory / "crl.pem", authority.crl())


def make_directory(layout: Layout, examples: Path) -> None:
    """Hold the root ceremony, make the registrar and publish what centre and departments have signed."""
    write_profile(layout, "registrar", REGISTRAR, listen=LOOPBACK)
    snapshot, timestamp = registrar.read_public_keys(init_registrar(load_profile(layout.profile("registrar"))))
    admins = {
        department: [
            IdentityFiles(layout.identity(f"{department}/admin/{admin}"), layout.root).signer() for admin in ADMINS
        ]
        for department in DEPARTMENTS
    }
    keys = layout.directory / "root-keys"
    keys.mkdir(mode=0o700)
    for name in ROOT_KEYS:
        write_private(keys / f"{name}.key", new_key())
    holders = [load_key(keys / f"{name}.key") for name in ROOT_KEYS]
    now = time.time()
    root = build_root(
        root_keys=[bytes.fromhex(holder.public_key.keyval["public"]) for holder in holders],
        threshold=ROOT_THRESHOLD,
        centre_keys=[signer.public_key_raw for signer in admins[CENTRE]],
        snapshot_key=snapshot,
        timestamp_key=timestamp,
        now=now,
    )
    write_public(layout.root / ROOT_METADATA, signed(root, holders[:ROOT_THRESHOLD]))
    repository = registrar.open_repository(load_profile(layout.profile("registrar")))
    paths = [examples / "centre.toml", layout.directory / "crl.pem"]
    paths += sorted((examples / "matters").glob("*.toml"))
    paths += [examples / "documents" / f"{department}.toml" for department in DEPARTMENTS]
    files = [Named(path.name, path.read_bytes()) for path in paths]
    members = {name: [signer.public_key_raw for signer in signers] for name, signers in admins.items()}
    signers = [signer for both in admins.values() for signer in both]
    for drafted in draft(files, Current(root.signed), now=now, admins=members):
        repository.publish(sign(drafted, signers))


def write_profile(layout: Layout, place: str, identity: str, **more: Any) -> Profile:
    """Write or replace a profile; its directory is made with it.

    Args:
        layout: Where.
        place: "registrar", "hub", "agent" or a department.
        identity: Whose it is, as "department/kind/name".
        more: Further keys; a mapping becomes a table, a tuple of mappings an array of tables.
    """
    home = layout.home(place)
    home.mkdir(mode=0o700, exist_ok=True)
    return write_profile_file(layout, layout.profile(place), identity, **more)


def write_profile_file(layout: Layout, path: Path, identity: str, **more: Any) -> Profile:
    """The same for a profile at a place of its own."""
    own = path.parent / "root"
    relative = {
        "root": os.path.relpath(own if own.is_dir() else layout.root, path.parent),
        "identity": os.path.relpath(layout.identity(identity), path.parent),
    }
    write_public(path, "".join(_toml({**relative, **more})).encode())
    return load_profile(path)


def furnish(layout: Layout, examples: Path, department: str) -> None:
    """Give a department what its adapter reads: mapping, its own copy of its document, and what it pins itself."""
    home = layout.home(department)
    home.mkdir(mode=0o700)
    shutil.copytree(layout.root, home / "root")
    (home / "root" / "admins").mkdir()
    for admin in ADMINS:
        certificate = layout.identity(f"{department}/admin/{admin}") / SIGNING_CERTIFICATE
        shutil.copyfile(certificate, home / "root" / "admins" / f"{admin}.pem")
    for folder, name in (("mappings", "mapping.toml"), ("documents", "document.toml")):
        shutil.copyfile(examples / folder / f"{department}.toml", home / name)


def examples_directory() -> Path:
    """Return the example files: beside the code in a checkout, within the package when installed from a wheel."""
    package = Path(__file__).parent / "examples"
    return package if package.is_dir() else Path(__file__).parents[2] / "examples"


def _toml(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield lines of TOML: plain values first, then tables, then arrays of tables."""
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    arrays = {key: value for key, value in values.items() if isinstance(value, tuple)}
    for key, value in values.items():
        if key not in tables and key not in arrays:
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
    for key, value in tables.items():
        yield f"\n[{prefix}{key}]\n"
        yield from _toml(value, f"{prefix}{key}.")
    for key, items in arrays.items():
        for item in items:
            yield f"\n[[{prefix}{key}]]\n"
            yield from _toml(item, f"{prefix}{key}.")
