"""How old lists and an old directory are treated: what is revoked stays so, and nobody decides by what has run out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from certs.signing import CertificateVerifier
from policy.directory import DirectoryHolder, Fetch
from policy_support import OPERATOR, DirectoryKit, make_directory
from zhiwang.wire.errors import FatalError, Reason, RefusedError

DAY = 86_400.0


class Clock:
    """A clock that can be set ahead."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def revoked(kit: DirectoryKit, short: str, *, days: float = 30) -> tuple[int, bytes]:
    """Revoke the signing certificate of somebody new. Returns its serial, and the list."""
    files = kit.city.enrol(short)
    serial = CertificateVerifier(files.ca_pem, frozenset).verify(files.signer().certificate_der, time.time()).serial
    kit.city.authority.revoke(serial)
    return serial, kit.city.authority.crl(days=days)


def serving(files: Mapping[str, bytes]) -> Fetch:
    """A mirror of these files and no others."""

    def fetch(path: str) -> bytes:
        if path not in files:
            raise RefusedError(Reason.FILE_UNKNOWN, path)
        return files[path]

    return fetch


def test_a_list_past_its_next_update_still_revokes_and_the_directory_still_holds(tmp_path: Path) -> None:
    clock = Clock()
    kit = make_directory(tmp_path, clock=clock)
    serial, crl = revoked(kit, "edu/system/lost", days=1)
    kit.publish(crl)
    clock.ahead = 3 * DAY
    kit.repository.resign()
    holder = DirectoryHolder(clock)
    directory = kit.directory
    holder.set(directory)
    assert directory.expiries["crl.pem"] < clock()
    assert holder.fresh
    assert serial in holder.revoked()
    assert serial in holder.current.revoked


def test_an_older_list_cannot_bring_back_who_was_revoked(tmp_path: Path) -> None:
    kit = make_directory(tmp_path)
    empty = kit.city.authority.crl()
    serial, crl = revoked(kit, "edu/system/lost")
    kit.publish(crl)
    with pytest.raises((RefusedError, FatalError)):
        kit.publish(empty, signers=kit.admins[OPERATOR])
    assert serial in kit.directory.revoked


def test_whoever_is_kept_from_the_new_directory_stops_deciding_after_a_day_and_forgets_no_revocation(
    tmp_path: Path,
) -> None:
    """A hub that withholds it: it mirrors for ever what it had before the revocation."""
    clock = Clock()
    kit = make_directory(tmp_path, clock=clock)
    first, crl = revoked(kit, "edu/system/first")
    kit.publish(crl)
    withheld = dict(kit.repository.files)
    client = kit.client(tmp_path / "state", fetch=serving(withheld))
    holder = DirectoryHolder(clock)
    holder.set(client.refresh())
    second, crl = revoked(kit, "edu/system/second")
    kit.publish(crl)
    assert second in kit.directory.revoked
    assert (first in holder.revoked(), second in holder.revoked()) == (True, False), "what the limits of the design say"
    assert holder.current
    clock.ahead = 1.01 * DAY
    assert not holder.fresh
    with pytest.raises(RefusedError) as refused:
        _ = holder.current
    assert refused.value.reason is Reason.DIRECTORY_EXPIRED
    assert first in holder.revoked(), "a deny-list outlives the directory that brought it"


def test_an_older_directory_is_not_taken_for_the_newer_one(tmp_path: Path) -> None:
    kit = make_directory(tmp_path)
    before = dict(kit.repository.files)
    serial, crl = revoked(kit, "edu/system/lost")
    kit.publish(crl)
    served = dict(kit.repository.files)
    client = kit.client(tmp_path / "state", fetch=serving(served))
    assert serial in client.refresh().revoked
    served.clear()
    served.update(before)
    with pytest.raises((FatalError, RefusedError)):
        client.refresh()
    assert serial in client.load().revoked
