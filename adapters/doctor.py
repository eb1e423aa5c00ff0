"""What `zhiwang doctor` looks at on an adapter's host beyond what every host has: mapping, database, log, sealing keys.

It only reads; an adapter that runs is not disturbed. What the adapter tries at its start beyond that, and `zhiwang
adapter check` too, is whether its account can write: a daily look at a host is no reason to fill the database's audit.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection

from google.protobuf.message import DecodeError
from sqlalchemy import Connection

from adapters.check import inspect
from adapters.config import StateFiles
from adapters.installation import adapter_identity, adapter_paths, state_files
from adapters.kinds import schemes_of
from adapters.store import check_own
from audit import doctor as log_doctor
from certs.expiry import Expiry
from certs.owner_keys import KEY_ALARM_DAYS
from policy.beside import LocalPolicy
from policy.document import parse_document
from policy.incoming import waiting
from policy.local import file_name
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.diagnosis import Diagnosis, ok, safely, warning, wrong
from zhiwang.wire.errors import FatalError
from zhiwang.wire.process import read_address
from zhiwang.wire.profile import AdapterPaths, Profile
from zhiwang.wire.tomlfile import FileError, Finding

METRICS_SECONDS = 3.0
"""How long the adapter's own metrics may take."""


def diagnose(profile: Profile) -> Iterator[Diagnosis]:
    """What is wrong with an adapter's own parts.

    Args:
        profile: The adapter's.
    """
    paths = adapter_paths(profile)
    check = f"zhiwang adapter check {paths.mapping} {paths.document} --profile {profile.path}"
    yield from safely("store", lambda: _store(profile, state_files(profile)))
    yield from log_doctor.diagnose(profile, "adapter", _own_tables)
    yield from safely("owner_keys", lambda: _owner_keys(profile, state_files(profile)))
    yield from safely("local", lambda: _local(profile, state_files(profile)))
    yield from safely("links", lambda: _links(profile))
    yield from safely("database", lambda: _database(paths, check), check)


def _store(profile: Profile, state: StateFiles) -> Iterator[Diagnosis]:
    if not state.directory.is_dir():
        return  # said by the checks that every host has
    if profile.log is None and not state.store.is_file():
        shared = state.shared != state.directory
        yield wrong(
            "store",
            f"没有日志 {state.store}",
            f"there is no log {state.store}" + (", which another replica makes" if shared else ""),
            f"restore it from a copy; only a new adapter: zhiwang adapter init --profile {profile.path}",
        )
        return
    if profile.log is None:
        where = "" if state.shared == state.directory else f", shared with other replicas on this host: {state.shared}"
        yield ok("store", f"日志 {state.store}", f"the log is {state.store}{where}")
    if not state.ledger_key.is_file():
        yield wrong(
            "store",
            f"缺少 {state.ledger_key}",
            f"{state.ledger_key} is missing; without it the ledger of guesses cannot be read",
            "restore it from the copy that belongs to this log; see docs/backup.md"
            if profile.log is None
            else f"copy it from the state of a replica that runs, closed to others (0600), to {state.keys}",
        )


def _own_tables(connection: Connection) -> Iterator[Diagnosis]:
    """Ledger, replies and index in PostgreSQL, beside the log."""
    check_own(connection)
    yield ok(
        "store",
        "数据库中的账本、应答与索引表及其权限完好",
        "the tables of ledger, replies and index in the database, and the rights on them, are as they were made",
    )


def _owner_keys(profile: Profile, state: StateFiles) -> Iterator[Diagnosis]:
    """The sealing keys by their statements; private halves are not opened."""
    now = time.time()
    start = f"zhiwang adapter run --profile {profile.path}"
    keys = []
    for path in sorted(state.owner_keys.glob("*.owner_key")) if state.owner_keys.is_dir() else ():
        try:
            key = sealed_pb2.OwnerKey.FromString(path.read_bytes())
        except DecodeError:
            yield wrong("owner_keys", f"{path} 已损坏", f"{path} is damaged", f"restore it, or remove it and: {start}")
            continue
        if not path.with_suffix(".key").is_file():
            yield warning("owner_keys", f"{path} 没有私钥", f"{path} has no private half", f"rm {path}")
            continue
        keys.append(key)
    valid = [key for key in keys if key.expire_time.seconds > now]
    if not valid:
        yield warning(
            "owner_keys",
            "没有有效的封装密钥；适配器启动时会自动生成",
            "no sealing key is valid; the adapter makes one when it starts",
            start,
        )
        return
    newest = max(valid, key=lambda key: key.serial)
    one = Expiry(
        "owner_key", f"sealing key {newest.serial}", float(newest.expire_time.seconds), start, days=KEY_ALARM_DAYS
    )
    hours = one.left(now) * 24
    zh = f"封装密钥 {len(valid)} 把，最新序号 {newest.serial}，还有 {hours:.0f} 小时"
    en = f"{len(valid)} sealing key(s), the newest has serial {newest.serial} and {hours:.0f} hours left"
    if one.alarm(now) is None:
        yield ok("owner_keys", zh, en)
    else:
        yield warning(
            "owner_keys", f"{zh}；未按时轮换", f"{en}; it was not rotated in time, is the adapter running?", start
        )


def _local(profile: Profile, state: StateFiles) -> Iterator[Diagnosis]:
    """What the adapter decides by beside the directory, since it was put here while the registrar was away."""
    department = adapter_identity(profile).identity.department
    standing = LocalPolicy(state.local, department, None, time.time)
    try:
        standing.load()
    except FatalError as error:
        yield wrong("local", error.detail, error.detail, "see docs/operations.md; the adapter does not start like this")
        return
    for local in standing.standing:
        ids = " ".join(entry.id for entry in local.suspensions)
        what = f"{local.role} {local.version}" + (f" ({ids})" if ids else "")
        yield warning(
            "local",
            f"本机在名录之外另按 {what} 决定，尚未公布",
            f"this adapter decides by {what} beside the directory; it is not published yet",
            f"zhiwang policy publish {state.local / file_name(local)} --profile …, or lift it: zhiwang policy lift",
        )
    left = waiting(state.local)
    if left:
        yield warning(
            "local",
            f"{left[0]} 尚未处理；适配器是否在运行，名录是否有效？",
            f"{left[0]} was not looked at yet; does the adapter run, with a directory in force?",
            f"zhiwang adapter run --profile {profile.path}",
        )


def _links(profile: Profile) -> Iterator[Diagnosis]:
    """Whether each hub has this adapter's sealing keys, which are announced on its link; by the process's metrics."""
    announced = read_address(profile.state)
    address = None if announced is None else announced.get("metrics")
    if not isinstance(address, str):
        return
    connection = HTTPConnection(address, timeout=METRICS_SECONDS)
    with closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode("utf-8", "replace")
    found = re.search(r"^zhiwang_adapter_links ([0-9.]+)$", text, re.MULTILINE)
    if found is None:
        return
    attached, hubs = int(float(found[1])), len(profile.hub)
    zh, en = f"已连接 {attached}/{hubs} 个枢纽", f"attached to {attached} of {hubs} hubs, which have its sealing keys"
    if attached >= hubs:
        yield ok("links", zh, en)
    else:
        say = warning if attached else wrong
        yield say("links", zh, en, 'look for "link lost" in the adapter\'s log; see what is said about the network')


def _database(paths: AdapterPaths, check: str) -> Iterator[Diagnosis]:
    """As `zhiwang adapter check` without attempts to write, with the kinds of subject that every city has."""
    try:
        _, report = inspect(paths.mapping, parse_document(paths.document), schemes_of(None), writes=False)
    except FileError as error:
        yield from (_found(finding, check) for finding in error.findings)
        return
    yield from (_found(finding, check) for finding in report.findings)
    for finding in report.warnings:
        at = f"{finding.file}:{finding.line}"
        yield warning("mapping", f"{at} {finding.message}", f"{at} {finding.message}", check)
    if not report.findings:
        passed = sum(one.passed for one in report.probes)
        yield ok(
            "database",
            f"数据库可读，探针 {passed}/{len(report.probes)}",
            f"the database can be read; probes {passed}/{len(report.probes)}",
        )


def _found(finding: Finding, check: str) -> Diagnosis:
    at = f"{finding.file}:{finding.line} {finding.key}"
    return wrong("mapping", f"{at}：{finding.message}", f"{at}: {finding.message}", check)
