"""Ask an agent one case over its plain gRPC API, with nothing but the generated stubs.

    python examples/ask_the_agent.py 127.0.0.1:7441 CHILD GUARDIAN

The same in any language: generate stubs from proto/zhiwang/verification/v1/verification.proto, or ask the agent itself
by reflection (`grpcurl -plaintext 127.0.0.1:7441 list`).
"""

from __future__ import annotations

import sys

import grpc

from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.verification.v1 import verification_pb2_grpc


def main(agent: str, child: str, guardian: str) -> None:
    """Print the answer of each claim."""
    request = api.VerifyRequest(
        context=api.Context(matter="school-enrolment", reference="2026-000123", official="clerk-17"),
        case=api.Case(
            subjects=[
                api.Subject(slot="child", identifier=child),
                api.Subject(slot="guardian", identifier=guardian),
            ],
            claims=["child: health.parent related @guardian", "guardian: hrss.pension_months at_least 12"],
        ),
    )
    with grpc.insecure_channel(agent) as channel:
        response = verification_pb2_grpc.VerificationServiceStub(channel).Verify(request, timeout=10)
    for claim in response.result.claims:
        answer = api.Answer.Name(claim.answer).removeprefix("ANSWER_")
        sys.stdout.write(f"{claim.claim}: {claim.reason or answer}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
