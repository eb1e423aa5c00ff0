"""Has checkpoints cosigned by a witness, with the client of aics-witness, which knows nothing of Zhiwang.

    feed.py URL VKEY SUBMISSIONS

SUBMISSIONS is a JSON list of [note, {"OLD NEW": [hash in hexadecimal, …]}]: checkpoints in the order in which they are
submitted, each with the proofs that the client may ask for. It prints a JSON list: for each note the cosigned note that
the client made; where the witness refused it, the status as a number; where the client takes the answer for none, what
it calls that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from aics_tlog import parse_note  # type: ignore[import-not-found]  # installed for the test alone
from aics_witness.feeder import (  # type: ignore[import-not-found]  # as above
    BadWitnessResponse,
    WitnessClient,
    WitnessRejected,
    merge_cosignatures,
)


def main(url: str, vkey: str, submissions: Path) -> None:
    """Submit everything, in order, as one client that remembers."""
    answers: list[str | int] = []
    with WitnessClient(url, vkey) as client:
        for note, proofs in json.loads(submissions.read_text("utf-8")):

            def prove(old: int, new: int, known: dict[str, list[str]] = proofs) -> list[bytes]:
                return [bytes.fromhex(node) for node in known[f"{old} {new}"]]

            try:
                lines = client.submit(note, prove)
            except WitnessRejected as refused:
                answers.append(refused.status)
                continue
            except BadWitnessResponse:
                answers.append(BadWitnessResponse.__name__)
                continue
            merged = merge_cosignatures(note, lines)
            if parse_note(merged).text not in note:
                raise ValueError("the client cosigned another text")
            answers.append(merged.decode("utf-8"))
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
