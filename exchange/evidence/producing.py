"""A bundle of evidence is put together: entries are read and proved, the log records it, and only then is it whole."""

from __future__ import annotations

import os
import shutil
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from audit.auditor import Auditor
from audit.checkpoint import Checkpoint
from audit.entry import decode_entry
from audit.facts import facts_of_entry
from audit.holds import check_order
from audit.origins import shard_of, year_of
from audit.query import Query
from certs.credentials import IdentityFiles
from certs.identity import CA_CERTIFICATE, write_private
from exchange.client.receipt import read_receipt
from exchange.evidence.bundle import (
    MANIFEST,
    Evidence,
    Selected,
    files_of,
    manifest_of,
    production_files,
    production_of,
    revocation_list_in,
)
from exchange.evidence.parts import part_words
from exchange.evidence.rules import Divisions, Past, parties
from exchange.evidence.telling import PastReader
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.places import Jurisdiction
from zhiwang.wire.profile import Profile

_DIRECTORY: Final = 0o700


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is to be produced.

    Attributes:
        order: Number of the order.
        query: Which entries; everything if `indexes` are given.
        indexes: Or these.
        words: The selection in words.
        out: Directory to make.
        profile: Who produces.
        receipts: Files of receipts.
        certificates: PEM files of requesters' signing certificates.
        crl: A revocation list; None for that of the entries' day.
        divisions: Names of divisions.
        limit: Entries at most.
    """

    order: str
    query: Query
    indexes: tuple[int, ...]
    words: str
    out: Path
    profile: Profile
    receipts: tuple[Path, ...]
    certificates: tuple[Path, ...]
    crl: Path | None
    divisions: Divisions
    limit: int


@dataclass(frozen=True, slots=True)
class Produced:
    """A bundle that is whole.

    Attributes:
        evidence: What is in it.
        out: Its directory.
        cosigned: Whether a quorum of witnesses cosigned its checkpoint.
        index: Of the log's entry about it.
        manifest_hash: What that entry names.
    """

    evidence: Evidence
    out: Path
    cosigned: bool
    index: int
    manifest_hash: bytes


async def produce_bundles(
    auditor: Auditor, past: PastReader, inputs: Inputs, progress: Callable[[int, int], None]
) -> tuple[Produced, ...]:
    """Make a bundle; or, where what was selected stands in the logs of several years, one of each year's log.

    Each log has checkpoints and proofs of its own, so each gets a bundle of its own, in a directory of its year. Each
    says how many there are and names the one before it, and so does the log.

    Args:
        auditor: Of the log.
        past: Reads old directories.
        inputs: What is to be produced.
        progress: Told how many entries of how many are proved.

    Returns:
        The oldest log's first; nothing if no entry fits.

    Raises:
        RefusedError: As the log's keeper refused, or PROOF_INVALID. Nothing is left of the bundle then.
        FatalError: INTERNAL: a file that was given is not what it should be.
        OSError: The directory cannot be written.
    """
    check_order(inputs.order)
    chosen = sorted((await _chosen(auditor, inputs)).items(), key=lambda one: year_of(one[0]))
    if not chosen:
        return ()
    aside = inputs.out.with_name(f".{inputs.out.name}.{os.getpid()}")
    aside.mkdir(mode=_DIRECTORY)
    made: list[Produced] = []
    try:
        for number, (of, found) in enumerate(chosen, 1):
            several = len(chosen) > 1
            year = shard_of(of)
            words = inputs.words + (part_words(number, len(chosen)) if several else "")
            out = aside / year if several else aside
            previous = made[-1].manifest_hash if made else b""
            these = replace(inputs, words=words, out=out)
            produced = await _produced(auditor, past, these, found, of, progress, previous)
            made.append(replace(produced, out=inputs.out / year if several else inputs.out))
        aside.rename(inputs.out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return tuple(made)


async def _produced(
    auditor: Auditor,
    past: PastReader,
    inputs: Inputs,
    found: Mapping[int, bytes],
    of: str,
    progress: Callable[[int, int], None],
    previous: bytes,
) -> Produced:
    """A bundle of entries of one log, in a directory that is there or is made."""
    pasts, supporting = await _pasts(auditor, past, found, of)
    head, checkpoint, cosigned = await auditor.reaching(max([*found, *supporting]) + 1, of)
    proved: dict[int, Selected] = {}
    everything = {**found, **supporting}
    for index, data in sorted(everything.items()):
        proved[index] = Selected(index, data, await auditor.prove(index, data, checkpoint))
        progress(len(proved), len(everything))
    receipts = {f"{number}.receipt.json": path.read_bytes() for number, path in enumerate(inputs.receipts, 1)}
    evidence = Evidence(
        order=inputs.order,
        query=inputs.words,
        produced_by=IdentityFiles(inputs.profile.identity, inputs.profile.root).identity.uri,
        time=int(time.time()),
        program=version("zhiwang"),
        head=head,
        checkpoint=checkpoint,
        entries=tuple(proved[index] for index in sorted(found)),
        supporting=tuple(proved[index] for index in sorted(supporting.keys() - found.keys())),
        pasts=pasts,
        ca_pem=(inputs.profile.root / CA_CERTIFICATE).read_bytes(),
        revocations=inputs.crl.read_bytes() if inputs.crl is not None else revocation_list_in(pasts),
        certificates=_certificates(inputs, found, receipts),
        receipts=receipts,
        divisions=_names(found, inputs.divisions),
        previous=previous,
    )
    return await _written(auditor, evidence, inputs.out, checkpoint, cosigned=cosigned)


async def _chosen(auditor: Auditor, inputs: Inputs) -> dict[str, dict[int, bytes]]:
    """Bytes of the entries, by the origin of their log and by index."""
    found: dict[str, dict[int, bytes]] = {}
    if inputs.indexes:
        for index in inputs.indexes:
            logged, _, _, checkpoint = await auditor.logged(index)
            found.setdefault(checkpoint.origin, {})[index] = logged.entry
        return found
    count = 0
    async for index, entry in auditor.search(inputs.query, limit=inputs.limit + 1, proofs=False):
        found.setdefault(auditor.origin, {})[index] = entry.SerializeToString(deterministic=True)
        count += 1
    if count > inputs.limit:
        raise FatalError(Reason.INTERNAL, f"more than {inputs.limit} entries fit; narrow the conditions")
    return found


async def _pasts(
    auditor: Auditor, past: PastReader, found: Mapping[int, bytes], of: str
) -> tuple[dict[int, Past], dict[int, bytes]]:
    """The directory of each version that an entry was decided by, and the entries that say when it came into force."""
    needed: dict[int, tuple[set[str], set[str]]] = {}
    for data in found.values():
        number, departments, matters = parties(decode_entry(data))
        if number:
            known = needed.setdefault(number, (set(), set()))
            known[0].update(departments)
            known[1].update(matters)
    pasts: dict[int, Past] = {}
    supporting: dict[int, bytes] = {}
    for number, (departments, matters) in sorted(needed.items()):
        stamp = b""
        query = Query(event="directory_change", version=number)
        # Of another year's log this bundle has no proofs.
        async for index, change in auditor.search(query, limit=1, proofs=True, origin=of):
            stamp = change.directory_change.timestamp_hash
            supporting[index] = change.SerializeToString(deterministic=True)
        pasts[number] = await past.read(number, departments, matters, stamp)
        if not pasts[number].recorded:
            supporting = {
                index: data
                for index, data in supporting.items()
                if facts_of_entry(decode_entry(data)).version != number
            }
    return pasts, supporting


def _certificates(inputs: Inputs, found: Mapping[int, bytes], receipts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Signing certificates that entries name by fingerprint, out of what was given."""
    given: list[bytes] = []
    for path in inputs.certificates:
        try:
            given.append(ssl.PEM_cert_to_DER_cert(path.read_text("ascii")))
        except ValueError:
            raise FatalError(Reason.INTERNAL, f"{path} is no certificate in PEM") from None
    for name, data in receipts.items():
        try:
            given += [part.request.certificate for part in read_receipt(data).parts]
        except RefusedError as error:
            raise FatalError(
                Reason.INTERNAL, f"receipt {name.partition('.')[0]} cannot be read: {error.detail}"
            ) from error
    by_fingerprint = {sha256(der).digest(): der for der in given}
    named = {header.certificate_fingerprint for header in _headers(found)}
    return {one.hex(): der for one, der in sorted(by_fingerprint.items()) if one in named}


def _headers(found: Mapping[int, bytes]) -> list[sealed_pb2.Header]:
    headers = []
    for data in found.values():
        entry = decode_entry(data)
        kind = entry.WhichOneof("event")
        if kind in {"hub_access", "owner_access"}:
            with suppress(DecodeError):
                headers.append(sealed_pb2.Header.FromString(getattr(entry, kind).header))
    return headers


def _names(found: Mapping[int, bytes], divisions: Divisions) -> dict[str, str]:
    """Names of the places that entries name; what the bundle says rests on nothing outside it."""
    names: dict[str, str] = {}
    for header in _headers(found):
        with suppress(RefusedError):
            code = Jurisdiction.parse(header.jurisdiction).code
            if divisions(code):
                names[code] = divisions(code)
    return names


async def _written(
    auditor: Auditor, evidence: Evidence, out: Path, checkpoint: Checkpoint, *, cosigned: bool
) -> Produced:
    """Write everything, have it recorded, and add what the log says."""
    files = files_of(evidence)
    manifest = manifest_of(files)
    _write(out, {**files, MANIFEST: manifest})
    production = production_of(evidence, manifest)
    response, later = await auditor.evidence.produce(production)
    # An earlier year's log has ended, and the entry stands in a later one.
    same = later.origin == checkpoint.origin
    consistency = await auditor.check_extends(later, checkpoint) if same else ()
    _write(out, production_files(response, consistency))
    return Produced(evidence, out, cosigned, response.entry.index, production.manifest_hash)


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    directory.mkdir(mode=_DIRECTORY, exist_ok=True)
    for name, content in files.items():
        path = directory / name
        for parent in reversed([one for one in path.parents if one.is_relative_to(directory)]):
            parent.mkdir(mode=_DIRECTORY, exist_ok=True)
        write_private(path, content)
