"""Verifies an exported log, and proofs of it, with tlog-scales, which knows nothing of Zhiwang.

    verify.py DIR PROOFS

DIR is the log. PROOFS is a JSON file of proofs that we made, hashes in hexadecimal: {"inclusion": [[index, size, [hash,
…]], …], "consistency": [[old size, new size, [hash, …]], …], "cosigned": [[note, verifier key], …]}. By the code of
tlog-scales alone it verifies the checkpoint's signature, the root from the tiles, each entry under that root by a proof
that it makes from the tiles, each of our own proofs against roots that it computes, and witnesses' cosignatures. Prints
how many entries hold; what does not hold ends it with a traceback.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tlog_scales.backend import LocalBackend  # type: ignore[import-not-found]  # installed for the test alone
from tlog_scales.reader import TilesReader  # type: ignore[import-not-found]  # as above
from tlog_scales.signing import Vkey  # type: ignore[import-not-found]  # as above
from tlog_scales.tiles import leaf_hash  # type: ignore[import-not-found]  # as above
from tlog_scales.tlog import Checkpoint, ConsistencyProof, InclusionProof  # type: ignore[import-not-found]  # as above


def main(directory: Path, proofs: Path) -> None:
    """Verify everything."""
    reader = TilesReader(LocalBackend(directory))
    checkpoint = reader.get_checkpoint()
    checkpoint.verify(Vkey.from_string((directory / "log.vkey").read_text(encoding="utf-8").strip()))
    if reader.calculate_root_hash() != checkpoint.root_hash:
        raise ValueError("the tiles lead to another root")
    for index in range(checkpoint.size):
        proof = reader.get_inclusion_proof(index, checkpoint.size)
        proof.check(leaf_hash(reader.get_entry(index)), checkpoint.root_hash)
    given = json.loads(proofs.read_text(encoding="utf-8"))
    for index, size, path in given["inclusion"]:
        hashes = [bytes.fromhex(node) for node in path]
        InclusionProof(index, size, hashes).check(leaf_hash(reader.get_entry(index)), reader.mth(0, size))
    for old, new, path in given["consistency"]:
        hashes = [bytes.fromhex(node) for node in path]
        ConsistencyProof(old, new, hashes).check(reader.mth(0, old), reader.mth(0, new))
    for note, key in given["cosigned"]:
        Checkpoint.from_text(note).verify(Vkey.from_string(key))
    print(checkpoint.size)  # noqa: T201 - for the test that runs this


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
