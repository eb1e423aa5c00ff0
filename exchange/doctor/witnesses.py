"""A log's witnesses, from what its keeper wrote down: who should cosign, where each is, how old the quorum is."""

from __future__ import annotations

import json
from collections.abc import Iterator

from audit.witnessed import COSIGNED, policy_of
from exchange.doctor.directory import kept
from exchange.doctor.local import host_of
from zhiwang.wire.diagnosis import Diagnosis, ok, safely, warning, wrong
from zhiwang.wire.identity import Kind
from zhiwang.wire.process import running
from zhiwang.wire.profile import Profile

AREA = "witnesses"


def diagnose(profile: Profile) -> Iterator[Diagnosis]:
    """What `zhiwang doctor` says of a log's witnesses; nothing if the centre names none and the profile none."""
    yield from safely(AREA, lambda: _look(profile), "see docs/witness.md")


def _look(profile: Profile) -> Iterator[Diagnosis]:
    host = host_of(profile)
    directory = None if host.files is None else kept(host, host.files.ca_pem)
    if directory is None:
        return  # said where the directory is looked at
    policy, addresses = policy_of(directory.centre), profile.cosigning.witness
    edit = f"edit {profile.path}: [cosigning] witness.NAME"
    if policy is None:
        if addresses:
            yield warning(
                AREA,
                "中心未公布见证方，[cosigning] 不起作用",
                "the centre names no witnesses, so [cosigning] does nothing",
                "[witness] and witness_quorum in centre.toml; zhiwang policy publish centre.toml …",
            )
        return
    if not profile.cosigning.used and host.kind is not Kind.HUB:
        # Who keeps the log decides; requests are recorded at the hub too, whose log is cosigned.
        yield warning(
            AREA,
            "日志没有见证方",
            "the centre names witnesses, and this log goes to none",
            f"{edit}; see docs/witness.md",
        )
        return
    for name in policy.names:
        if name not in addresses:
            yield wrong(AREA, f"未登记见证方 {name} 的地址", f"the profile does not say where {name} serves", edit)
    for name in addresses:
        if name not in policy.names:
            yield warning(AREA, f"中心未公布见证方 {name}", f"the centre names no witness {name}", edit)
    try:
        content = json.loads((profile.state / COSIGNED).read_bytes())
        note = content["note"].encode()
        time = policy.quorum_time(note)
    except FileNotFoundError:
        note, time = b"", None
    remedy = "its log of operation says who does not cosign, and why; see docs/witness.md"
    if time is None:
        yield wrong(AREA, "尚无法定数量的见证", "no quorum of witnesses has cosigned the log yet", remedy)
        return
    size = note.split(b"\n", 2)[1].decode()
    names = ", ".join(one.name for one in policy.cosignatures(note))
    age = max(0, round(host.now - time))
    zh = f"{names} 已见证 {size} 条，{age} 秒前"
    en = f"{names} have cosigned {size} entries, {age} s ago; {policy.quorum} are needed"
    if age > profile.cosigning.alarm_after and running(profile.state) is not None:
        yield wrong(AREA, zh, en, remedy)
    else:
        yield ok(AREA, zh, en)
