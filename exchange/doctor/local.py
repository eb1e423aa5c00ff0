"""What can be told from this machine alone: certificates, permissions, disk, the process and its port."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from certs.credentials import IdentityFiles
from certs.expiry import Expiry, certificate_expiries
from certs.identity import CA_CERTIFICATE, ROOT_METADATA
from certs.renewal import PAIRS, holder_of
from exchange.client.agent import DEFAULT_LISTEN as AGENT_LISTEN
from exchange.client.keeper import open_store, places
from exchange.config import DEFAULT_LISTEN as HUB_LISTEN
from exchange.witness import DEFAULT_LISTEN as WITNESS_LISTEN
from policy.registrar import DEFAULT_LISTEN as REGISTRAR_LISTEN
from zhiwang.wire.diagnosis import Diagnosis, ok, safely, warning, wrong
from zhiwang.wire.errors import ZhiwangError
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.process import running
from zhiwang.wire.profile import Profile

ADAPTER_LISTEN = "127.0.0.1:7442"
"""As `adapters.config` has it, which is not to be imported here."""

RUNS: dict[Kind, tuple[str, str]] = {
    Kind.REGISTRAR: ("registrar", REGISTRAR_LISTEN),
    Kind.HUB: ("hub", HUB_LISTEN),
    Kind.ADAPTER: ("adapter", ADAPTER_LISTEN),
    Kind.SYSTEM: ("agent", AGENT_LISTEN),
    Kind.WITNESS: ("witness", WITNESS_LISTEN),
}
"""Which process each kind runs, and where it listens unless the profile says otherwise."""

GUARDED = frozenset({Kind.REGISTRAR, Kind.HUB, Kind.ADAPTER, Kind.WITNESS})
"""Whose state has a guard, which tells at the next start whether it was rolled back."""

FEW_SHARE, LITTLE_SHARE = 0.02, 0.10
FEW_BYTES, LITTLE_BYTES = 256 * 2**20, 2 * 2**30
"""Of a disk: below the first of a pair it is wrong, below the second a warning. A log grows by some 2 GiB a million."""

KEYS = 2000
"""How many files are looked at for their permissions, at most."""


@dataclass(frozen=True, slots=True)
class Host:
    """What is known before anything is looked at.

    Attributes:
        profile: The profile.
        files: Its certificates; None if they cannot be used.
        identity: Whom they name; None if not even that can be told.
        now: The time.
    """

    profile: Profile
    files: IdentityFiles | None
    identity: Identity | None
    now: float

    @property
    def kind(self) -> Kind | None:
        """What it is."""
        if self.identity is not None:
            return self.identity.kind
        return Kind.ADAPTER if self.profile.adapter is not None else None

    @property
    def noun(self) -> str:
        """The command that runs its process; empty if it has none."""
        return RUNS[self.kind][0] if self.kind in RUNS else ""


USES = {
    "auth": "TLS 证书",
    "signing": "签名证书",
    "ca": "颁发机构证书",
    "root": "根元数据",
    "targets": "中心的元数据",
    "document": "本部门文件",
    "crl": "吊销列表",
    "timestamp": "名录时间戳",
}
"""What runs out, in Chinese, by its use."""


def host_of(profile: Profile) -> Host:
    """Find out what a profile's host is, as far as its files let."""
    profile = replace(
        profile, root=profile.root.resolve(), identity=profile.identity.resolve(), state=profile.state.resolve()
    )
    try:
        files = IdentityFiles(profile.identity, profile.root)
    except ZhiwangError:
        files = None
    identity = None if files is None else files.identity
    if identity is None:
        try:
            identity = holder_of(profile.identity)
        except (ZhiwangError, OSError):
            identity = None
    return Host(profile, files, identity, time.time())


def look(host: Host) -> Iterator[Diagnosis]:
    """Everything that can be told from this machine alone."""
    made = f"zhiwang certs request {host.identity.short} --city {host.identity.city} --out …" if host.identity else ""
    remedies = {"certificates": f"{made or 'zhiwang certs request …'}; the authority issues what it asks for"}
    for area, check in (
        ("profile", _profile),
        ("root", _root),
        ("certificates", _certificates),
        ("permissions", _permissions),
        ("state", _state),
        ("disk", _disk),
        ("process", _process),
    ):
        yield from safely(area, lambda check=check: check(host), remedies.get(area, ""))  # type: ignore[misc]  # mypy infers no type for a default


def expiry(area: str, one: Expiry, now: float) -> Diagnosis:
    """How something that runs out stands."""
    left, alarm, use = one.left(now), one.alarm(now), USES.get(one.use, one.use)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.time))
    if left <= 0:
        return wrong(area, f"{use}已于 {when} 过期", f"{one.what} ran out at {when}", one.remedy)
    zh, en = f"{use} {when} 到期，还有 {left:.1f} 天", f"{one.what} runs out at {when}, in {left:.1f} days"
    return ok(area, zh, en) if alarm is None else warning(area, zh, en, one.remedy)


def _profile(host: Host) -> Iterator[Diagnosis]:
    """What a kind of process must have, and this profile has not."""
    profile, kind = host.profile, host.kind
    edit = f"edit {profile.path}"
    if host.identity is None:
        yield wrong(
            "profile",
            f"{profile.identity} 中没有可辨认的证书",
            f"no certificate in {profile.identity} tells what this host is",
            f"zhiwang certs request DEPARTMENT/KIND/NAME --city CITY --out …, or edit {profile.path}: identity",
        )
    else:
        yield ok("profile", f"本机是 {host.identity.short}", f"this host is {host.identity.short}")
    if kind in {Kind.SYSTEM, Kind.ADAPTER, Kind.AUDITOR} and not profile.hub:
        yield wrong("profile", "未指定枢纽", "names no hub", f'{edit}: hub = ["HOST:7440"]')
    if kind in {Kind.HUB, Kind.ADMIN} and profile.registrar is None:
        yield wrong("profile", "未指定名录服务", "names no registrar", f'{edit}: registrar = "HOST:7443"')
    if kind is Kind.ADAPTER and profile.adapter is None:
        yield wrong("profile", "缺少 [adapter]", "has no [adapter]", f"{edit}: [adapter] mapping and document")
    if kind is not Kind.ADAPTER and profile.adapter is not None:
        yield wrong(
            "profile",
            "有 [adapter]，但证书不是适配器的",
            "has [adapter], but its certificates are no adapter's",
            f"{edit}: identity",
        )
    if kind is Kind.AGENT:
        yield wrong(
            "profile",
            "前置机以系统的证书提问；agent 类证书只用于 listen_tls",
            "an agent asks with a system's certificates; those of kind agent only serve listen_tls",
            f"{edit}: identity = the system's, [agent] identity = this one",
        )


def _root(host: Host) -> Iterator[Diagnosis]:
    for name, made_by in ((CA_CERTIFICATE, "zhiwang certs authority init"), (ROOT_METADATA, "zhiwang policy root")):
        path = host.profile.root / name
        if not path.is_file():
            yield wrong(
                "root",
                f"缺少 {path}",
                f"{path} is missing",
                f"get {name} from the centre and put it into {host.profile.root}; it was made by {made_by}",
            )
        elif path.stat().st_mode & 0o022:
            yield wrong(
                "root",
                f"{path} 可被他人改写",
                f"{path} can be changed by others, and all trust begins there",
                f"chmod go-w {path}",
            )
        else:
            yield ok("root", f"{path} 已固定", f"{path} is pinned")


def _certificates(host: Host) -> Iterator[Diagnosis]:
    directory = host.profile.identity
    if host.files is None:
        # Said by what fails.
        IdentityFiles(directory, host.profile.root)
        return
    for one in certificate_expiries(host.files):
        yield expiry("certificates", one, host.now)
    yield from _waiting(directory)
    early = [use for use, validity in host.files.validities.items() if validity.start > host.now]
    for use in early:
        yield wrong(
            "certificates",
            f"{use}.pem 尚未生效",
            f"{use}.pem is not valid yet; is this clock behind?",
            "timedatectl status",
        )
    if host.profile.agent_identity is not None:
        for one in certificate_expiries(IdentityFiles(host.profile.agent_identity, host.profile.root)):
            yield expiry("certificates", one, host.now)


def _waiting(directory: Path) -> Iterator[Diagnosis]:
    for pair in PAIRS:
        if (directory / pair.new_key).exists():
            yield warning(
                "certificates",
                f"{pair.new_key} 等待证书",
                f"{pair.new_key} waits for its certificate: a renewal has not been ended",
                f"zhiwang certs renew {directory} --install {pair.certificate} --root ROOT",
            )


def _permissions(host: Host) -> Iterator[Diagnosis]:
    profile, bad = host.profile, 0
    # An identity's directory may be looked into: what matters there is that nobody else may write, and its keys.
    keys = [(places(profile)[1], 0o077)] if profile.agent.receipts is not None else []
    for directory, forbidden in ((profile.identity, 0o022), (profile.state, 0o077), *keys):
        if directory.is_dir():
            for one in _open_to_others(directory, forbidden):
                bad += 1
                yield one
    if not bad:
        yield ok("permissions", "密钥和状态目录仅限本人", "keys and state are open to their owner only")


def _open_to_others(directory: Path, forbidden: int) -> Iterator[Diagnosis]:
    keys = islice(directory.rglob("*.key"), KEYS)
    for path, allowed, not_allowed in ((directory, 0o700, forbidden), *((key, 0o600, 0o077) for key in keys)):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if mode & not_allowed:
            yield wrong(
                "permissions",
                f"{path} 权限为 {mode:04o}",
                f"{path} has mode {mode:04o}; it must be {allowed:04o}",
                f"chmod {allowed:o} {path}",
            )
        if status.st_uid != directory.lstat().st_uid:
            yield warning(
                "permissions",
                f"{path} 属于用户 {status.st_uid}",
                f"{path} belongs to the user {status.st_uid}, not to that of {directory}",
                f"chown --reference={directory} {path}",
            )


def _state(host: Host) -> Iterator[Diagnosis]:
    profile = host.profile
    if not host.noun:
        return
    if not profile.state.is_dir():
        yield wrong(
            "state",
            f"没有状态目录 {profile.state}",
            f"there is no state directory {profile.state}",
            f"zhiwang {host.noun} init --profile {profile.path}",
        )
        return
    if not os.access(profile.state, os.W_OK | os.X_OK):
        yield wrong(
            "state",
            f"{profile.state} 不可写",
            f"{profile.state} cannot be written by this user",
            f"chown the directory to the account that runs {host.noun}",
        )
    if host.kind in GUARDED:
        yield from _guard(profile.state)
    if profile.agent.receipts is not None:
        yield from _receipts(profile)


def _receipts(profile: Profile) -> Iterator[Diagnosis]:
    _, keys = places(profile)
    try:
        with closing(open_store(profile)) as store:
            store.check_keys()
    except ZhiwangError as error:
        remedy = f"zhiwang agent init --profile {profile.path} where none was kept yet; else bring back what is missing"
        yield wrong("receipts", "凭证库无法打开", f"the kept receipts cannot be opened: {error.detail}", remedy)
        return
    if keys.resolve().is_relative_to(profile.state.resolve()):
        yield wrong(
            "receipts",
            f"凭证密钥 {keys} 与凭证在同一目录，备份会一并带走",
            f"the receipts' keys {keys} lie within the state, whose backups take them along",
            "move them and set `keys` in [agent.receipts]",
        )
    else:
        yield ok("receipts", "凭证库及其密钥完好", "the kept receipts and their keys are whole")


def _guard(state: Path) -> Iterator[Diagnosis]:
    guard = state / "guard"
    if not guard.is_dir():
        yield wrong(
            "guard", f"没有 {guard}", f"there is no {guard}", f"restore {guard} from a copy; see docs/backup.md"
        )
        return
    held = [one for one in guard.iterdir() if not one.name.startswith(".")]
    if lost := [one for one in held if not one.exists()]:
        yield wrong(
            "guard",
            f"{lost[0]} 链接的文件不存在",
            f"{lost[0]} is a link to a file that is not there",
            "mount the storage that it leads to; if that is lost, see docs/backup.md",
        )
    # What a link leads to is what counts.
    elif state.stat().st_dev in ({one.stat().st_dev for one in held} or {guard.stat().st_dev}):
        yield warning(
            "guard",
            f"{guard} 与其守护的数据在同一存储上，回滚时不能互证",
            f"{guard} lies on the storage of what it guards: rolled back together, neither would tell",
            f"mount other storage at {guard}, or make it or the file in it a symbolic link to other storage",
        )
    else:
        yield ok("guard", f"{guard} 在另一存储上", f"{guard} lies on other storage")


def _disk(host: Host) -> Iterator[Diagnosis]:
    seen = set()
    places = [host.profile.state, host.profile.state / "guard"]
    if host.profile.adapter is not None:
        places.append(host.profile.adapter.store)
    for place in places:
        if not place.is_dir() or place.stat().st_dev in seen:
            continue
        seen.add(place.stat().st_dev)
        yield from disk_space(place, os.statvfs(place))


def disk_space(place: Path, status: os.statvfs_result) -> Iterable[Diagnosis]:
    """How much room a file system has, in bytes and in files."""
    free, size = status.f_bavail * status.f_frsize, max(status.f_blocks * status.f_frsize, 1)
    files = status.f_favail / status.f_files if status.f_files else 1.0
    zh = f"{place}：可用 {free / 2**30:.1f} GiB（{free / size:.0%}），索引节点 {files:.0%}"
    en = f"{place}: {free / 2**30:.1f} GiB free ({free / size:.0%}), {files:.0%} of the inodes"
    remedy = f"make room on the file system of {place}: df -h {place}; df -i {place}"
    if free < FEW_BYTES or files < FEW_SHARE:
        return [wrong("disk", zh, en, remedy)]
    if free < LITTLE_BYTES or free / size < LITTLE_SHARE or files < LITTLE_SHARE:
        return [warning("disk", zh, en, remedy)]
    return [ok("disk", zh, en)]


def _process(host: Host) -> Iterator[Diagnosis]:
    if not host.noun:
        return
    found = running(host.profile.state)
    if found is not None:
        yield ok("process", f"{host.noun} 运行中，进程 {found['pid']}", f"{host.noun} runs as process {found['pid']}")
        return
    start = f"zhiwang {host.noun} run --profile {host.profile.path}"
    say = warning if host.kind is Kind.SYSTEM else wrong
    yield say("process", f"{host.noun} 未运行", f"{host.noun} does not run", start)
    address = host.profile.listen or (RUNS[host.kind][1] if host.kind in RUNS else "")
    if address and not address.startswith("unix:") and _is_taken(address):
        yield wrong(
            "port",
            f"{address} 已被其他进程占用",
            f"{address} is taken by another process",
            f"ss -ltnp 'sport = :{address.rpartition(':')[2]}'; stop it, or edit {host.profile.path}: listen",
        )


def _is_taken(address: str) -> bool:
    """Whether somebody answers there. Nothing is bound, so that nobody who starts meanwhile is kept out."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if int(port) == 0:
        return False
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family)) as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, int(port))) == 0
