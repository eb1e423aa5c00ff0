"""`zhiwang doctor` over a city of real processes, and over copies of it in which one thing at a time is broken."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from breaking_support import RealCity, altered, command
from certs.ca import Authority
from certs.identity import Identity
from certs.renewal import request_renewal
from certs.request import make_requests
from exchange.cli.doctor import _diagnoses
from exchange.demo import build
from exchange.demo.build import ADMIN, AUDITOR, HUB, SYSTEM
from exchange.demo.processes import zhiwang
from exchange.doctor import local, network
from ports import free_port
from zhiwang.wire.diagnosis import Diagnosis, State
from zhiwang.wire.identity import Kind

OWNER = "hrss"
ADAPTER = f"{OWNER}/adapter/main"
PLACES = ("registrar", "hub", OWNER)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("doctor"), (OWNER,))
    layout, registrar = city.layout, city.address("registrar")
    build.write_profile_file(layout, layout.auditor_profile, AUDITOR, hub=[city.hub_address])
    build.write_profile_file(layout, layout.admin_profile, ADMIN, registrar=registrar)
    yield city
    city.stop()


@pytest.fixture(scope="module")
def usual(city: RealCity, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[tuple[str, str]]]:
    """What is wrong in a copy in which nothing has been broken, by place: that nothing runs."""
    whole = copied(city, tmp_path_factory.mktemp("whole"))
    return {place: {named(one, whole) for one in wrongs(examine(whole / place / "profile.toml"))} for place in PLACES}


def named(one: Diagnosis, copy: Path) -> tuple[str, str]:
    return one.area, one.en.replace(str(copy), "")


@pytest.fixture
def copy(city: RealCity, tmp_path: Path) -> Path:
    """The same city on another host, where nothing runs; the hub can be reached from there."""
    return copied(city, tmp_path)


def copied(city: RealCity, path: Path) -> Path:
    target = path / "copy"
    shutil.copytree(
        city.layout.directory, target, ignore=shutil.ignore_patterns("address.json", "logs", "*-wal", "*-shm")
    )
    return target


def wrongs(found: list[Diagnosis], area: str = "") -> list[Diagnosis]:
    return [one for one in found if one.state is State.WRONG and area in {"", one.area}]


def examine(profile: Path) -> list[Diagnosis]:
    return list(_diagnoses(profile))


def tree(directory: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_mode)
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("place", ["registrar", "hub", OWNER, "agent", "auditor", "admin"])
def test_a_host_in_good_order_is_told_so(city: RealCity, place: str) -> None:
    layout = city.layout
    profile = {"auditor": layout.auditor_profile, "admin": layout.admin_profile}.get(place, layout.profile(place))
    done = command("doctor", "--profile", str(profile), "--json")
    found = json.loads(done.stdout)
    assert not [one for one in found if one["state"] == "wrong"]
    assert done.returncode == 0
    areas = {one["area"] for one in found}
    assert {"profile", "root", "certificates", "permissions", "directory"} <= areas
    assert ({"process", "disk"} <= areas) is (place not in {"auditor", "admin"})
    assert ("clock" in areas) is (place != "registrar")
    assert ({"database", "owner_keys", "store", "links"} <= areas) is (place == OWNER)
    # A guard on the disk of the log is the one thing that this machine cannot do better.
    assert {one["area"] for one in found if one["state"] == "warning"} <= {"guard", "disk", "mapping"}
    assert all(one["remedy"] for one in found if one["state"] != "ok")
    assert all(one["zh"] and one["en"] for one in found)


def test_the_table_says_in_both_languages_what_was_found(city: RealCity) -> None:
    done = command("doctor", "--profile", str(city.layout.profile("hub")))
    text = done.stdout.decode()
    assert done.returncode == 0
    for word in ("本机是 data/hub/main", "this host is data/hub/main", "正常 ok", "clock"):
        assert word in text


@pytest.mark.parametrize("place", ["registrar", "hub", OWNER, "agent"])
def test_it_works_where_nothing_runs_and_writes_nothing(city: RealCity, copy: Path, place: str) -> None:
    profile = copy / place / "profile.toml"
    gone = f"127.0.0.1:{free_port()}"
    text = profile.read_text("utf-8").replace(city.hub_address, gone).replace(city.address("registrar"), gone)
    profile.write_text(text, "utf-8")
    before = tree(copy)
    found = examine(profile)
    assert tree(copy) == before
    said = {one.area for one in found if one.state is not State.OK}
    assert "process" in said
    assert bool(wrongs(found, "network")) is (place != "registrar")
    assert all(one.remedy for one in found if one.state is not State.OK)


def short_lived(copy: Path, identity: str, days: float, age: float = 0.0) -> None:
    authority = Authority.load(copy / "authority")
    began = datetime.now(UTC) - timedelta(days=age)
    for one in request_renewal(copy / "identities" / identity):
        one.request.with_suffix(".pem").write_bytes(authority.issue(one.request.read_bytes(), now=began, days=days))


def foreign_root(copy: Path) -> None:
    other = Authority.create(copy / "other", "shenzhen")
    (copy / "root" / "ca.pem").write_bytes(other.certificate_pem)


def guard_leads_nowhere(copy: Path) -> None:
    guard = copy / "hub/state/guard/checkpoint"
    guard.unlink()
    guard.symlink_to(copy / "unmounted" / "checkpoint")


@dataclass(frozen=True)
class Breakage:
    """One thing that is wrong.

    Attributes:
        place: Whose profile is looked at.
        make: Breaks it, below a city's directory.
        area: Where the line about it must stand.
        remedy: Words of what must be said to mend it.
    """

    place: str
    make: Callable[[Path], object]
    area: str
    remedy: str


HUB_FILES = f"identities/{HUB}"
CHECK = "zhiwang adapter check"
REQUEST = "zhiwang certs request"

BREAKAGES = {
    "a key that others can read": Breakage(
        "hub", lambda c: (c / HUB_FILES / "auth.key").chmod(0o644), "permissions", "chmod 600"
    ),
    "a state that others can read": Breakage(
        "hub", lambda c: (c / "hub/state").chmod(0o755), "permissions", "chmod 700"
    ),
    "an identity that others can write to": Breakage(
        "hub", lambda c: (c / HUB_FILES).chmod(0o777), "permissions", "chmod 700"
    ),
    "a root that others can change": Breakage("hub", lambda c: (c / "root/ca.pem").chmod(0o666), "root", "chmod go-w"),
    "no certificate": Breakage("hub", lambda c: (c / HUB_FILES / "auth.pem").unlink(), "profile", REQUEST),
    "no key": Breakage("hub", lambda c: (c / HUB_FILES / "auth.key").unlink(), "certificates", REQUEST),
    "a damaged certificate": Breakage(
        "hub", lambda c: (c / HUB_FILES / "auth.pem").write_text("x"), "profile", REQUEST
    ),
    "an expired certificate": Breakage(
        "hub", lambda c: short_lived(c, HUB, 1, 2), "certificates", "zhiwang certs renew"
    ),
    "a certificate of tomorrow": Breakage("hub", lambda c: short_lived(c, HUB, 9, -1), "certificates", "timedatectl"),
    "another authority": Breakage("hub", foreign_root, "certificates", REQUEST),
    "no authority": Breakage("hub", lambda c: (c / "root/ca.pem").unlink(), "root", "get ca.pem"),
    "no root metadata": Breakage("hub", lambda c: (c / "root/root.json").unlink(), "root", "get root.json"),
    "no state": Breakage("hub", lambda c: shutil.rmtree(c / "hub/state"), "state", "zhiwang hub init"),
    "a guard that leads nowhere": Breakage("hub", guard_leads_nowhere, "guard", "mount the storage"),
    "no guard": Breakage("hub", lambda c: shutil.rmtree(c / "hub/state/guard"), "guard", "restore"),
    "a misspelt key": Breakage("hub", lambda c: (c / "hub/profile.toml").write_text('hubb = "x"\n'), "profile", "edit"),
    "no profile": Breakage("hub", lambda c: (c / "hub/profile.toml").unlink(), "profile", "--profile"),
    "a profile of another kind": Breakage(
        OWNER, lambda c: edit(c / OWNER / "profile.toml", ADAPTER, SYSTEM), "profile", "edit"
    ),
    "no hub": Breakage(OWNER, lambda c: edit(c / OWNER / "profile.toml", "hub =", "# hub ="), "profile", "edit"),
    "no database": Breakage(OWNER, lambda c: (c / OWNER / f"{OWNER}.db").unlink(), "mapping", CHECK),
    "no column": Breakage(
        OWNER, lambda c: edit(c / OWNER / "mapping.toml", 'subject = "', 'subject = "no_'), "mapping", CHECK
    ),
    "no TOML": Breakage(OWNER, lambda c: (c / OWNER / "mapping.toml").write_text("[["), "mapping", CHECK),
    "no log": Breakage(OWNER, lambda c: (c / OWNER / "state/adapter.db").unlink(), "store", "restore"),
    "no key of the ledger": Breakage(
        OWNER, lambda c: (c / OWNER / "state/keys/ledger.key").unlink(), "store", "restore"
    ),
    "a damaged sealing key": Breakage(
        OWNER,
        lambda c: next((c / OWNER / "state/owner_keys").glob("*.owner_key")).write_bytes(b"\xff"),
        "owner_keys",
        "restore",
    ),
    "no keys of the registrar": Breakage(
        "registrar", lambda c: shutil.rmtree(c / "registrar/state/keys"), "directory", "restore"
    ),
}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize("what", BREAKAGES)
def test_what_is_broken_is_a_line_with_what_mends_it(
    copy: Path, usual: dict[str, set[tuple[str, str]]], what: str
) -> None:
    breakage = BREAKAGES[what]
    profile = copy / breakage.place / "profile.toml"
    breakage.make(copy)
    found = [one for one in wrongs(examine(profile)) if named(one, copy) not in usual[breakage.place]]
    assert [one for one in found if one.area == breakage.area and breakage.remedy in one.remedy], found
    assert not [one for one in found if "check itself failed" in one.en], found


def test_what_it_says_mends_it(copy: Path) -> None:
    """The commands of the lines are run as they stand, until nothing of the kind is left."""
    profile = copy / "hub" / "profile.toml"
    (copy / "hub/state").chmod(0o755)
    (copy / "root/ca.pem").chmod(0o666)
    key = copy / "identities" / HUB / "signing.key"
    key.chmod(0o640)
    remedies = [one.remedy for one in wrongs(examine(profile)) if one.remedy.startswith("chmod")]
    assert len(remedies) == 3
    for remedy in remedies:
        subprocess.run(remedy.split(), check=True, timeout=10)  # noqa: S603 - what was printed
    assert not wrongs(examine(profile), "permissions")
    assert not wrongs(examine(profile), "root")
    short_lived(copy, HUB, 1, 2)
    (expired, *_) = [one for one in wrongs(examine(profile), "certificates") if "ran out" in one.en]
    renew = [*expired.remedy.split()[1:], "--authority", str(copy / "authority")]
    subprocess.run(zhiwang(*renew), check=True, timeout=60, capture_output=True)  # noqa: S603 - our own
    assert not wrongs(examine(profile), "certificates")


def test_a_process_that_died_and_left_its_address_behind_does_not_count_as_running(city: RealCity, copy: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    address = json.dumps({"listen": city.address("hub"), "pid": dead.pid})
    (copy / "hub/state/address.json").write_text(address, "utf-8")
    (found,) = wrongs(examine(copy / "hub" / "profile.toml"), "process")
    assert found.remedy.startswith("zhiwang hub run --profile")


def test_a_process_that_hangs_is_told_by_whoever_dials_it(city: RealCity) -> None:
    city.fleet.signal(OWNER, signal.SIGSTOP)
    try:
        found = wrongs(examine(city.layout.profile(OWNER)))
    finally:
        city.fleet.signal(OWNER, signal.SIGCONT)
    assert {one.area for one in found} >= {"network"}
    assert all("check itself failed" not in one.en for one in found)


def test_a_peer_that_can_be_reached_and_is_not_ready_is_named(city: RealCity) -> None:
    with altered(city.layout.database(OWNER), "ALTER TABLE person RENAME TO away", "ALTER TABLE away RENAME TO person"):
        asyncio.run(city.until_serving(OWNER, serving=False))
        found = wrongs(examine(city.layout.profile(OWNER)))
    (said,) = [one for one in found if one.area == "network" and "not ready" in one.en]
    assert said.en.endswith("what does not hold: database")
    assert [one for one in found if one.area == "mapping"]
    asyncio.run(city.until_serving(OWNER, serving=True))


def test_a_port_that_somebody_else_has_is_named(copy: Path) -> None:
    profile = copy / "hub" / "profile.toml"
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = re.sub(r"(?m)^listen = .*$", f'listen = "127.0.0.1:{port}"', profile.read_text("utf-8"))
        profile.write_text(text, "utf-8")
        (found,) = wrongs(examine(profile), "port")
    assert str(port) in found.remedy


def test_a_certificate_that_is_revoked_elsewhere_is_found_at_its_owners_host(city: RealCity, copy: Path) -> None:
    """By what the peer says, since this host has not heard of it: its directory is from before."""
    authority = Authority.load(city.layout.directory / "authority")
    for one in request_renewal(copy / "identities" / AUDITOR):
        pem = authority.issue(one.request.read_bytes())
        one.request.with_suffix(".pem").write_bytes(pem)
        authority.revoke(x509.load_pem_x509_certificate(pem).serial_number)
    crl = copy / "crl.pem"
    crl.write_bytes(authority.crl())
    assert not wrongs(examine(copy / "auditor.toml"), "network")
    admins = [item for admin in build.ADMINS for item in ("--sign", str(city.layout.identity(f"data/admin/{admin}")))]
    centre = city.layout.directory / "centre.toml"
    build.write_profile_file(city.layout, centre, "data/admin/chen", registrar=city.address("registrar"))
    assert command("policy", "publish", str(crl), *admins, "--profile", str(centre)).returncode == 0
    deadline = time.monotonic() + 30
    while not (found := wrongs(examine(copy / "auditor.toml"), "network")):
        assert time.monotonic() < deadline
    assert "CERTIFICATE_REVOKED" in found[0].en
    assert "--new-keys" in found[0].remedy


def test_a_guard_that_is_a_link_to_other_storage_lies_there(copy: Path) -> None:
    guard = copy / "hub/state/guard/checkpoint"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == guard.stat().st_dev:
            pytest.skip("this machine has no other storage at hand")
        linked = Path(other) / "checkpoint"
        shutil.copy(guard, linked)
        guard.unlink()
        guard.symlink_to(linked)
        found = [one for one in examine(copy / "hub" / "profile.toml") if one.area == "guard"]
    assert [one.state for one in found] == [State.OK]


def test_whoever_answers_with_a_certificate_of_another_kind_is_not_taken_for_the_hub(
    city: RealCity, copy: Path
) -> None:
    profile = copy / OWNER / "profile.toml"
    edit(profile, city.hub_address, city.address("registrar"))
    found = wrongs(examine(profile), "network")
    assert "Hostname mismatch" in found[0].en or "hostname" in found[0].en.lower()


def test_the_commands_of_the_page_on_duty_are_run_as_they_stand(city: RealCity, tmp_path: Path) -> None:
    """`docs/operations.md`, from the doctor to revoking, in a directory with the names that it uses."""
    layout = city.layout
    for name, target in (("ca", "authority"), ("identities", "identities"), ("root", "root")):
        (tmp_path / name).symlink_to(layout.directory / target)
    for name, place, identity in (("hub.toml", "hub", HUB), ("hrss.toml", OWNER, ADAPTER)):
        text = layout.profile(place).read_text("utf-8")
        text = re.sub(r"(?m)^identity = .*$", f'identity = "identities/{identity}"', text)
        text = re.sub(r"(?m)^root = .*$", f'root = "root"\nstate = "{layout.state(place)}"', text)
        text = re.sub(r'(?m)^(mapping|document) = "', rf'\1 = "{layout.home(place)}/', text)
        (tmp_path / name).write_text(text, "utf-8")
    registrar = city.address("registrar")
    (tmp_path / "centre.toml").write_text(
        f'identity = "identities/data/admin/chen"\nregistrar = "{registrar}"\n', "utf-8"
    )
    authority = Authority.load(layout.directory / "authority")
    for request in make_requests(tmp_path / "lost", Identity.parse_short("shenzhen", SYSTEM)):
        request.with_suffix(".pem").write_bytes(authority.issue(request.read_bytes()))
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    sections = page[page.index("## Is this host in order?") : page.index("## How old lists")]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", sections, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 10
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "zhiwang"
        done = command(*words[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout.decode()}{done.stderr.decode()}"


@pytest.mark.parametrize(
    ("offset", "uncertainty", "state"),
    [
        (0.3, 0.01, State.OK),
        (-0.3, 0.01, State.OK),
        (2.0, 0.01, State.WARNING),
        (-6.0, 0.01, State.WRONG),
        (6.0, 0.01, State.WRONG),
        (6.0, 5.5, State.OK),
        (None, 0.0, State.WARNING),
    ],
)
def test_a_clock_is_judged_by_what_is_certain_of_its_offset(
    offset: float | None, uncertainty: float, state: State
) -> None:
    peer = network.Peer("hub.city:7440", Kind.HUB)
    (found,) = network.clock(peer, network.Health({"": True}, offset, uncertainty))
    assert found.state is state


@pytest.mark.parametrize(
    ("free", "files", "state"),
    [
        (0.5, 0.5, State.OK),
        (0.05, 0.5, State.WARNING),
        (0.5, 0.05, State.WARNING),
        (0.0001, 0.5, State.WRONG),
        (0.5, 0.01, State.WRONG),
    ],
)
def test_a_disk_is_judged_by_room_and_by_inodes(free: float, files: float, state: State) -> None:
    blocks = 100 * 2**30 // 4096
    status = os.statvfs_result(
        (
            4096,
            4096,
            blocks,
            int(blocks * free),
            int(blocks * free),
            10**6,
            int(10**6 * files),
            int(10**6 * files),
            0,
            255,
        )
    )
    (found,) = local.disk_space(Path("/state"), status)
    assert found.state is state


def test_an_error_that_nobody_foresaw_is_a_line_without_its_text(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_profile: object) -> None:
        raise RuntimeError("440399199001010011")

    monkeypatch.setattr(local, "running", fails)
    found = examine(copy / "hub" / "profile.toml")
    (line,) = [one for one in wrongs(found, "process") if "check itself failed" in one.en]
    assert "RuntimeError" in line.en
    said = capsys.readouterr()
    assert "440399199001010011" not in f"{found}{said.out}{said.err}"
    assert "Traceback" not in said.err
    assert sys.exc_info() == (None, None, None)
