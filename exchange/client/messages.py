"""Between the messages of the plain API (`zhiwang.verification.v1`) and our values. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from exchange.client.case import Answer, Case, CaseResult, ClaimResult, Context, Ruling, Status, Subject
from policy import model
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.claims import Predicate
from zhiwang.wire.errors import Reason, RefusedError

MAX_RESULTS_BYTES = 3 << 20
"""A message of results ends before it gets longer, but for its first result: receipts are large, and no gRPC library
takes more than 4 MiB unless its program says so."""

MOCKED = ("zhiwang-mock", "1")
"""Metadata that comes before every response of a mock, and of nothing else."""


def case_of(message: verification_pb2.Case) -> Case:
    """A case as its caller sent it."""
    subjects = tuple([Subject(one.slot, one.identifier, one.name) for one in message.subjects])
    return Case(subjects, tuple(message.claims), message.key)


def context_of(message: verification_pb2.Context) -> Context:
    """A context as its caller sent it."""
    return Context(
        matter=message.matter,
        reference=message.reference,
        official=message.official,
        role=message.role,
        jurisdiction=message.jurisdiction,
        reference_date=message.reference_date,
        min_policy_version=message.min_policy_version,
    )


def fitting(results: Sequence[verification_pb2.CaseResult], most: int) -> Sequence[verification_pb2.CaseResult]:
    """The results that go into one message: at least one of them, unless there is none."""
    size = 0
    for number, result in enumerate(results[:most]):
        size += result.ByteSize()
        if number and size > MAX_RESULTS_BYTES:
            return results[:number]
    return results[:most]


def result_message(result: CaseResult) -> verification_pb2.CaseResult:
    """A result as its caller gets it."""
    message = verification_pb2.CaseResult(
        key=result.key,
        ruling=result.ruling.value,
        reason=result.reason.name if result.reason else "",
        field=result.field,
        receipt=result.receipt,
        receipt_kept=result.kept,
    )
    for claim, name, ordinal, compared, status, answer, reason, data_as_of, counter in result.claims:
        one = message.claims.add(
            claim=claim,
            name=name,
            ordinal=ordinal,
            compared_ordinal=compared,
            status=status.value,
            answer=answer.value,
            counter=counter,
        )
        if reason is not None:
            one.reason = reason.name
        if data_as_of is not None:
            one.data_as_of.seconds = data_as_of
    return message


def verify_request(case: Case, context: Context, *, receipt: bool) -> verification_pb2.VerifyRequest:
    """A case and why it is asked, as an agent is asked."""
    return verification_pb2.VerifyRequest(
        context=verification_pb2.Context(
            matter=context.matter,
            reference=context.reference,
            official=context.official,
            role=context.role,
            jurisdiction=context.jurisdiction,
            reference_date=context.reference_date,
            min_policy_version=context.min_policy_version,
        ),
        case=verification_pb2.Case(
            key=case.key,
            subjects=[
                verification_pb2.Subject(slot=one.slot, identifier=one.identifier, name=one.name)
                for one in case.subjects
            ],
            claims=case.claims,
        ),
        receipt=receipt,
    )


def result_of(message: verification_pb2.CaseResult) -> CaseResult:
    """A result as an agent gave it.

    Raises:
        RefusedError: INTERNAL: it is not one of this version's.
    """
    try:
        claims = tuple(
            [
                ClaimResult(
                    one.claim,
                    one.name,
                    one.ordinal,
                    one.compared_ordinal,
                    Status(one.status),
                    Answer(one.answer),
                    Reason[one.reason] if one.reason else None,
                    one.data_as_of.seconds if one.HasField("data_as_of") else None,
                    one.counter,
                )
                for one in message.claims
            ]
        )
        ruling, reason = Ruling(message.ruling), Reason[message.reason] if message.reason else None
    except (KeyError, ValueError):
        raise RefusedError(Reason.INTERNAL, "the agent speaks another version of the API") from None
    receipt = message.receipt if message.HasField("receipt") else None
    return CaseResult(message.key, claims, ruling, receipt, reason, message.field, message.receipt_kept)


def attribute_message(attribute: model.Attribute) -> verification_pb2.Attribute:
    """A published attribute. Cells are those of all its predicates, each once."""
    cells = dict.fromkeys((*attribute.at_least, *attribute.at_most))
    return verification_pb2.Attribute(
        name=f"{attribute.owner}.{attribute.name}",
        title=_title(attribute.title),
        subject=attribute.subject,
        type=attribute.type,
        predicates=[str(predicate) for predicate in Predicate if predicate in attribute.predicates],
        cells=cells,
        sensitivity=attribute.sensitivity,
        counter=attribute.counter,
    )


def matter_message(matter: model.Matter) -> verification_pb2.Matter:
    """A published matter."""
    return verification_pb2.Matter(
        name=matter.name,
        title=_title(matter.title),
        basis=matter.basis,
        requesters=sorted(matter.requesters),
        reference_date=matter.reference_date.isoformat() if matter.reference_date else "today",
        reference_pattern=matter.reference,
        slots=[
            verification_pb2.Matter.Slot(name=slot.name, kind=slot.kind, up_to=slot.up_to)
            for slot in matter.slots.values()
        ],
        claims={name: str(claim) for name, claim in matter.claims.items()},
    )


def _title(title: model.Title) -> verification_pb2.Title:
    return verification_pb2.Title(zh=title.zh, en=title.en)
