"""`zhiwang audit produce` in a city that runs, and `check-bundle` far from it: whole, and with every file bent."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import policy_support
from audit.entry import decode_entry
from audit_served import zhiwang
from city_support import RunningCity, running_city
from exchange.client.receipt import write_receipt
from exchange.evidence import bundle
from exchange.evidence.checked import Checked
from exchange.evidence.checking import check
from exchange.evidence.parts import check_bundles
from zhiwang.audit.v1 import audit_pb2

CLAIM = "guardian: hrss.pension_months at_least 12"
HOSTILE = "<script>alert(1)</script>"
CENTRE = (
    policy_support.CENTRE
    + """
[department.audit]
title = { zh = "审计局", en = "Audit office" }
home = "nbs:4403"
auditor.one.office = true
"""
)
HRSS = policy_support.HRSS.replace("0755-00000000", HOSTILE)


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[RunningCity]:
    async with running_city(
        tmp_path,
        owners=("hrss",),
        centre=CENTRE,
        members=("edu", "hrss", "health", "audit"),
        documents={**policy_support.DOCUMENTS, "hrss": HRSS},
    ) as city:
        yield city


def auditor(city: RunningCity, short: str = "audit/auditor/one") -> tuple[str, ...]:
    return ("--profile", str(city.profile(short, name=short.replace("/", "-")).path))


async def ask(city: RunningCity, receipt: Path | None = None) -> None:
    async with city.client() as client:
        result = await client.verify(city.case(claims=[CLAIM]), city.context(), receipt=receipt is not None)
        if receipt is not None and result.receipt is not None:
            write_receipt(receipt, result.receipt)


@pytest.fixture
async def made(city: RunningCity, tmp_path: Path) -> Path:
    """A bundle of one access, with a receipt; the directory has changed since."""
    receipt = tmp_path / "case.receipt.json"
    await city.hub.up.audit_log.record(
        audit_pb2.DirectoryChange(
            directory_version=city.kit.directory.version, timestamp_hash=city.kit.directory.timestamp_hash
        )
    )
    await ask(city, receipt)
    for day in range(9):
        city.publish(policy_support.HRSS.replace("0755-00000000", f"0755-{day:08}"))
    out = tmp_path / "evidence"
    order = ("--order", "（2026）粤03民初1234号", "--out", str(out))
    told = json.loads(
        (
            await zhiwang(
                "produce", *auditor(city), *order, "--reference", "2026-000123", "--receipt", str(receipt), "--json"
            )
        ).stdout
    )
    assert (told["entries"], told["log"]) == (1, "shenzhen/dsjj/hub/main")
    again = await zhiwang("produce", *auditor(city), *order, "--reference", "2026-000123", status=2)
    assert "never written over" in again.stderr
    return out


def everything(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*"))


def root_of(made: Path) -> Path:
    return made.parent / "city" / "root"


async def test_a_bundle_holds_says_who_asked_what_by_which_rule_and_what_was_never_kept(
    city: RunningCity, made: Path, tmp_path: Path
) -> None:
    # Nobody but its owner reads it.
    for path in (made, *everything(made)):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    facts = json.loads((await zhiwang("check-bundle", str(made), "--root", str(root_of(made)), "--json")).stdout)
    assert (facts["valid"], facts["entries"], facts["signatures_checked"]) == (True, 2, 1)
    assert facts["notes"] == ["there is no revocation list in the bundle"]
    told = json.loads((made / "entries.json").read_text("utf-8"))
    (said,) = told["entries"]
    assert said["claims"][0]["rules"][0]["id"] == "hrss/enrolment-pension"
    # Of the day of the entry, not of today; and the log itself recorded that day's directory.
    assert said["claims"][0]["counter"] == HOSTILE
    assert "the log itself recorded" in said["rules"]["verified"][-1]["en"]
    assert any("compared" in line["en"] for line in told["never_kept"])
    page = (made / "index.html").read_text("utf-8")
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert page.index("从未保存") < page.index("教育局")
    # Nothing of a person is in it, but for the receipt that was put in.
    for path in everything(made):
        if path.is_file() and path.parent.name != "receipts":
            assert b"440399" not in path.read_bytes(), path
    # Other people's tool reads the manifest.
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=made, check=False, capture_output=True)  # noqa: S607, ASYNC221
    assert done.returncode == 0
    # The log says of it what it is.
    entry = decode_entry((made / "production.entry").read_bytes()).evidence_produced
    assert entry.manifest_hash == sha256((made / "SHA256SUMS").read_bytes()).digest()
    assert (entry.count, entry.query) == (1, "reference=2026-000123")
    assert entry.produced_by == "spiffe://shenzhen/audit/auditor/one"
    shown = json.loads((await zhiwang("show", str(facts["production_index"]), *auditor(city), "--json")).stdout)
    assert shown["event"] == "evidence_produced"
    assert "凭证" not in (await zhiwang("check-bundle", str(made), "--root", str(root_of(made)))).stderr

    # Another city's roots do not do.
    (tmp_path / "other").mkdir()
    other = policy_support.make_directory(tmp_path / "other")
    refused = await zhiwang("check-bundle", str(made), "--root", str(other.city.root), status=1)
    assert "not signed by a log of this city" in refused.stderr


def bent(made: Path, tmp_path: Path, number: int) -> Path:
    copy = tmp_path / f"bent-{number}"
    shutil.copytree(made, copy)
    return copy


def files(made: Path) -> list[str]:
    return [path.relative_to(made).as_posix() for path in everything(made) if path.is_file()]


def faults(found: Checked) -> set[str]:
    return {fault.file for fault in found.faults}


async def test_no_file_of_a_bundle_can_be_changed_taken_away_or_added(made: Path, tmp_path: Path) -> None:
    root = root_of(made)
    assert check(made, root).faults == []
    names = files(made)
    assert len(names) > 20
    for number, name in enumerate(names):
        copy = bent(made, tmp_path, number)
        path = copy / name
        data = path.read_bytes()
        if data:
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
            assert faults(check(copy, root)), name
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            assert faults(check(copy, root)), name
        path.unlink()
        assert faults(check(copy, root)), name
        shutil.rmtree(copy)
    copy = bent(made, tmp_path, 999)
    (copy / "entries" / "extra.txt").write_text("extra")
    assert faults(check(copy, root)) >= {"entries/extra.txt"}
    (copy / "entries" / "extra.txt").unlink()
    (copy / "link").symlink_to("/etc/passwd")
    assert "neither a file" in check(copy, root).faults[0].message


async def test_whoever_writes_the_manifest_anew_is_found_by_the_log(made: Path, tmp_path: Path) -> None:
    root = root_of(made)

    def rewritten(number: int, name: str, change: Any) -> Checked:
        copy = bent(made, tmp_path, number)
        path = copy / name
        path.write_bytes(change(path.read_bytes()))
        kept = {one: (copy / one).read_bytes() for one in files(copy) if one not in bundle.AFTER}
        (copy / "SHA256SUMS").write_bytes(bundle.manifest_of(kept))
        return check(copy, root)

    words = rewritten(1, "index.html", lambda data: data.replace("教育局".encode(), "公安局".encode()))
    assert faults(words) == {"index.html", "production.entry"}
    order = rewritten(2, "entries.json", lambda data: data.replace(b"1234", b"9999", 1))
    assert "production.entry" in faults(order)
    rule = rewritten(3, "entries.json", lambda data: data.replace(b"enrolment-pension", b"enrolment-another"))
    assert {"entries.json", "production.entry"} <= faults(rule)
    # Another production of the same log does not do for this bundle.
    assert check(made, root).production_index is not None


async def test_what_a_reader_may_not_see_is_in_no_bundle(city: RunningCity, tmp_path: Path) -> None:
    await ask(city)
    other = auditor(city, "health/auditor/one")
    out = tmp_path / "evidence"
    size = city.hub.up.audit_log.store.newest.size
    order = ("--order", "A-1", "--out", str(out))
    told = await zhiwang("produce", *other, *order, "--reference", "2026-000123", status=1)
    assert "没有符合条件的记录" in told.stderr
    assert "ENTRY_UNKNOWN" in (await zhiwang("produce", *other, *order, "--index", "1", status=1)).stderr
    assert not out.exists()
    assert not [path for path in everything(tmp_path) if path.name.startswith(".evidence")]
    entries = city.hub.up.audit_log.store.entries(size, 100)
    assert {decode_entry(data).WhichOneof("event") for data in entries} == {"audit_read"}
    owner = auditor(city, "hrss/auditor/one")
    await zhiwang("produce", *owner, *order, "--index", "1")
    assert check(out, city.kit.city.root).faults == []
    for wrong in (("--order", "A-1"), ("--order", "A-1", "--index", "1", "--matter", "x")):
        assert "which entries" in (await zhiwang("produce", *owner, *wrong, "--out", str(out) + "2", status=2)).stderr
    refused = await zhiwang("produce", *owner, "--order", "a b", "--index", "1", "--out", str(out) + "3", status=2)
    assert "ORDER_INVALID" in refused.stderr


async def test_words_of_another_version_of_the_program_are_told_and_no_fault(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.evidence.checking.version", lambda _name: "99.0")
    monkeypatch.setattr("exchange.evidence.bundle.readme", lambda _origin, _size: "another wording")
    found = check(made, root_of(made))
    assert found.faults == []
    assert any(note.startswith("README.md was worded by version") for note in found.notes)


async def test_entries_of_two_years_are_a_bundle_each_and_none_can_be_taken_away(
    city: RunningCity, tmp_path: Path
) -> None:
    log = city.hub.up.store
    await ask(city)
    log._ends = 0.0  # the year of the first log is over
    for _ in range(2):
        await ask(city)
    assert len(log.shards()) == 2
    out, root = tmp_path / "evidence", city.kit.city.root
    told = json.loads(
        (
            await zhiwang(
                *("produce", *auditor(city), "--order", "A-17", "--out", str(out), "--matter", "school-enrolment"),
                *("--event", "hub_access", "--json"),
            )
        ).stdout
    )
    newest = log.origin
    year = newest.rpartition("/")[2]
    assert [(one["log"], one["entries"]) for one in told["bundles"]] == [(log.log, 1), (newest, 2)]
    assert {path.name for path in out.iterdir()} == {"first", year}
    facts = json.loads((await zhiwang("check-bundle", str(out), "--root", str(root), "--json")).stdout)
    assert facts["valid"] is True
    assert [one["bundle"] for one in facts["bundles"]] == ["first", year]
    # Both productions stand in the newest log, and each says which of the two it is.
    produced = [
        entry.evidence_produced.query
        for entry in (decode_entry(data) for data in log.shard(newest).entries(0, 1000))
        if entry.WhichOneof("event") == "evidence_produced"
    ]
    assert [one.rpartition("; ")[2] for one in produced] == ["bundle 1 of 2", "bundle 2 of 2"]
    # One alone holds, and says that it is not all; beside nothing, in a directory, it is missed.
    (alone,) = check_bundles(out / year, root).values()
    assert not alone.faults
    assert any("bundle 2 of 2" in note for note in alone.notes)
    (out / "note.txt").write_text("left here")
    assert {fault.file for found in check_bundles(out, root).values() for fault in found.faults} == {"note.txt"}
    (out / "note.txt").unlink()
    # Another production of the same order and selection holds too, but no bundle of it stands in for one of these.
    again = tmp_path / "again"
    selection = ("--order", "A-17", "--matter", "school-enrolment", "--event", "hub_access")
    await zhiwang("produce", *auditor(city), "--out", str(again), *selection)
    assert not [fault for found in check_bundles(again, root).values() for fault in found.faults]
    for name in ("first", year):
        mixed = tmp_path / f"mixed-{name}"
        shutil.copytree(out, mixed)
        shutil.rmtree(mixed / name)
        shutil.copytree(again / name, mixed / name)
        first, second = check_bundles(mixed, root).values()
        assert first.faults == []
        assert ["not made together with the bundle before it" in fault.message for fault in second.faults] == [True]
    shutil.rmtree(out / "first")
    (missed,) = check_bundles(out, root).values()
    assert ["stands here as 1 of 1" in fault.message for fault in missed.faults] == [True]
    # With a year named there is one bundle, as ever.
    one = tmp_path / "one"
    chosen = ("--matter", "school-enrolment", "--event", "hub_access", "--shard", "first")
    await zhiwang("produce", *auditor(city), "--order", "A-18", "--out", str(one), *chosen)
    (found,) = check_bundles(one, root).values()
    assert (found.faults, found.origin) == ([], log.log)
    assert "bundle" not in found.selected
