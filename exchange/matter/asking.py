"""One case, asked until its matter can say what it makes of it."""

from __future__ import annotations

import asyncio

from exchange.client.case import Case, Context
from exchange.client.client import Client
from exchange.matter.judging import Rules, Told


async def ask_case(client: Client, rules: Rules, case: Case, context: Context, seconds: float) -> list[Told]:
    """Ask all claims of the matter about a case, and then for the number that gives points, as often as it takes.

    Args:
        client: Asks.
        rules: Of the matter.
        case: Without claims of its own.
        context: Why.
        seconds: For each round, at most.

    Raises:
        RefusedError: The case or the context cannot be asked at all.
    """
    result = await client.verify(case, context, timeout=seconds)
    told = [rules.told(one) for one in result.claims]
    while cells := rules.next(told):
        asked = [rules.case_of(case, ordinal, cell) for ordinal, cell in cells.items()]
        results = await asyncio.gather(*(client.verify(one, context, timeout=seconds) for one in asked))
        for ordinal, found in zip(cells, results, strict=True):
            # Asked about alone, everybody is the first; in the case it is this one.
            told += [
                one._replace(ordinals=dict.fromkeys(one.ordinals, ordinal)) for one in map(rules.told, found.claims)
            ]
    return told
