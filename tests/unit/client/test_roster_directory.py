"""The directory may change within a roster: each of its chunks is asked under the question that it was prepared for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from client_support import CASE, CONTEXT, directory
from exchange.client.case import Case
from exchange.client.client import MAX_CHUNKS, Client
from exchange.client.outcome import Failure, PartOutcome
from exchange.client.plan import Part, Prepared
from exchange.client.question import Question
from policy.centre import parse_matter
from policy.model import Directory
from policy_support import MATTERS
from zhiwang.wire.errors import Reason
from zhiwang.wire.profile import Defaults

FORMER = directory()
_CHANGED = {name: text.replace("city rules of 2018", "city rules of 2026") for name, text in MATTERS.items()}
NEWER = directory(version=8, matters={name: parse_matter(text.encode()) for name, text in _CHANGED.items()})


class Holder:
    """The directory in force."""

    def __init__(self) -> None:
        self.current: Directory = FORMER

    def on_change(self, _call: object) -> None:
        pass


class Asking(Client):
    """A client whose owners know the newest version of a matter alone, and for that have no time."""

    asked: list[tuple[Question, Part]]

    async def _ask_once(
        self, question: Question, part: Part, cases: Sequence[Prepared], deadline: float, *, bulk: bool
    ) -> PartOutcome:
        del cases, deadline, bulk
        self.asked.append((question, part))
        newest = self._holder.current.matters["school-enrolment"].version
        return Failure(Reason.OWNER_TIMED_OUT if part.header.matter_version == newest else Reason.MATTER_CHANGED)


async def test_a_chunk_that_waited_while_its_matter_was_published_anew_is_asked_again_under_the_newer_one() -> None:
    async def refresh() -> None:
        pass

    holder: Any = Holder()
    nothing: Any = None
    profile: Any = SimpleNamespace(defaults=Defaults())
    client = Asking(
        profile=profile,
        signer=nothing,
        directory=holder,
        refresh=refresh,
        transport=nothing,
        keys=nothing,
        closing=AsyncExitStack(),
    )
    client.asked = []
    all_taken = AsyncExitStack()
    for number in range(MAX_CHUNKS):
        await all_taken.enter_async_context(client.chunks.take("another", number))

    async def batches() -> AsyncIterator[Sequence[Case]]:
        yield [replace(CASE, key=f"former {number}") for number in range(3)]
        async with asyncio.timeout(60):
            while not client.chunks._waiting:  # noqa: ASYNC110  another task's work
                await asyncio.sleep(0.001)
        holder.current = NEWER
        yield [replace(CASE, key="newer")]
        await all_taken.aclose()

    reasons: Counter[tuple[str, Reason | None]] = Counter()
    async with aclosing(client.verify_batches(batches(), CONTEXT, caller="one")) as found:
        async for results in found:
            reasons.update((one.key.split()[0], claim.reason) for one in results for claim in one.claims)
    assert reasons.keys() == {("former", Reason.OWNER_TIMED_OUT), ("newer", Reason.OWNER_TIMED_OUT)}
    for question, part in client.asked:
        assert part.header.matter_version == question.planner.matter.version
