"""Receipts: portable proof of what owners answered about one case; how they are built, written and read.

A receipt opens the claims of one case and nothing of its neighbours. What it proves, `receipt_verify.py` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn

from google.protobuf import json_format

from audit.checkpoint import split_note
from certs.identity import write_private
from exchange.client.check import Answered
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.commitments import claim_salt, compared_bytes, outcome_bytes, outcome_salt
from zhiwang.wire.errors import Reason, RefusedError

FORMAT: Final = 1
MAX_FILE: Final = 4 << 20
"""Bytes of the largest receipt file that is read."""


def build_receipt(answered: Sequence[Answered], case: int) -> verification_pb2.Receipt:
    """The receipt of one case.

    Args:
        answered: What each owner answered, checked.
        case: Index of the case in their requests.
    """
    return verification_pb2.Receipt(format_version=FORMAT, parts=[_part(one, case) for one in answered])


def _part(answered: Answered, case: int) -> verification_pb2.Receipt.Part:
    sealed, result, frame = answered.sealed, answered.delivery.result, answered.delivery.frame
    header, request = sealed.header, sealed.request
    hub_log = frame.hub_log
    if hub_log is None:
        raise RefusedError(Reason.PROOF_INVALID, "no head of the hub's log")
    return verification_pb2.Receipt.Part(
        request=sealed_pb2.SealedRequest(
            header=request.header,
            request_root=request.request_root,
            signature=request.signature,
            certificate=request.certificate,
        ),
        sealed_hash=sealed.sealed_hash,
        claims=[_opened(answered, case, column) for column in range(len(header.claims))],
        owner_entry=result.owner_entry,
        owner_log=_head(frame.owner_logs[answered.delivery.owner_log]),
        hub_entry=result.hub_entry,
        hub_log=_head(hub_log),
    )


def _opened(answered: Answered, case: int, column: int) -> verification_pb2.OpenedClaim:
    sealed, answers = answered.sealed, answered.answers
    header, record = sealed.header, sealed.records[case]
    shape = header.claims[column]
    index = case * len(header.claims) + column
    subject = record.subjects[shape.slot]
    return verification_pb2.OpenedClaim(
        case_index=case,
        claim_index=column,
        salt=claim_salt(record.salt, column),
        kind=header.slots[shape.slot].kind,
        identifier=subject.identifier if subject else "",
        name=subject.name if subject else "",
        value=compared_bytes(header, shape, record),
        commitment_path=sealed.tree.path(index),
        outcome=outcome_bytes(answers.outcomes[index], answers.data_as_of[column]),
        outcome_salt=outcome_salt(answers.salt, index),
        outcome_path=answered.tree.path(index),
    )


def _head(head: audit_pb2.LogHead) -> audit_pb2.LogHead:
    """A head without what the receipt does not need: the proof from an older head, and others' signatures."""
    return audit_pb2.LogHead(checkpoint=_own_note(head.checkpoint), certificate=head.certificate)


@lru_cache(maxsize=64)
def _own_note(checkpoint: bytes) -> bytes:
    """A checkpoint with the signature of its own log only. The receipts of one frame share it."""
    text, signatures = split_note(checkpoint)
    origin = text.partition("\n")[0]
    own = next(i for i, (name, _, _) in enumerate(signatures) if name == origin)
    body, _, lines = checkpoint.decode().rpartition("\n\n")
    return f"{body}\n\n{lines.splitlines()[own]}\n".encode()


def issued(receipt: verification_pb2.Receipt) -> verification_pb2.Receipt:
    """A receipt as it was issued, without what it has gained since."""
    bare = verification_pb2.Receipt()
    bare.CopyFrom(receipt)
    bare.ClearField("time_stamps")
    for part in bare.parts:
        part.ClearField("hub_cosigned")
    return bare


def gain(receipt: verification_pb2.Receipt, other: verification_pb2.Receipt) -> bool:
    """Give a receipt the cosigned proofs that another copy of it has, where it has none; whether it gained any."""
    gained = False
    for part, of_other in zip(receipt.parts, other.parts, strict=True):
        if of_other.HasField("hub_cosigned") and not part.HasField("hub_cosigned"):
            part.hub_cosigned.CopyFrom(of_other.hub_cosigned)
            gained = True
    return gained


def write_receipt(path: Path, receipt: verification_pb2.Receipt) -> None:
    """Write a receipt as a JSON file that only its owner can read: it names citizens.

    Raises:
        FileExistsError: There is such a file; a receipt never replaces another.
    """
    write_private(path, encode_receipt(receipt))


def encode_receipt(receipt: verification_pb2.Receipt) -> bytes:
    """A receipt as the bytes of its file."""
    return (json.dumps(_as_json(receipt), ensure_ascii=False, indent=1) + "\n").encode()


def read_receipt(data: bytes) -> verification_pb2.Receipt:
    """A receipt from the bytes of its file.

    Strict: spaces between tokens aside, the text must be what `write_receipt` writes. Protobuf's reader alone would
    take several spellings for one value.

    Raises:
        RefusedError: PROOF_INVALID.
    """
    if len(data) > MAX_FILE:
        _broken("larger than any receipt")
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
        receipt = json_format.ParseDict(content, verification_pb2.Receipt())
    except (ValueError, TypeError, AttributeError, RecursionError, json_format.ParseError):
        raise RefusedError(Reason.PROOF_INVALID, "the file is no receipt") from None
    if _as_json(receipt) != content:
        _broken("the file is not written as receipts are")
    return receipt


def _as_json(receipt: verification_pb2.Receipt) -> dict[str, Any]:
    return json_format.MessageToDict(receipt, preserving_proto_field_name=True)


def _once(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


def _broken(detail: str) -> NoReturn:
    raise RefusedError(Reason.PROOF_INVALID, detail)
