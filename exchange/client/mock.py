"""The mock: the agent's plain API without hub, certificates or owners, for programs that are being written.

What serves it is the agent itself: its servicer, its client, its checks. Only what would leave the premises does not:
a `MockCity` takes the place of the transport. So the mock cannot drift from the agent.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import structlog

from certs.identity import CA_CERTIFICATE, write_public
from exchange.client.agent import STOP_GRACE, assemble
from exchange.client.batches import Batches
from exchange.client.case import CaseResult, Context
from exchange.client.client import Client
from exchange.client.keys import OwnerKeys
from exchange.client.messages import MOCKED
from exchange.client.mock_city import MockCity
from exchange.client.plan import Prepared
from exchange.client.question import Question
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.process import Process
from zhiwang.wire.profile import Agent, AgentCaller, Defaults, Profile

OFFICIAL: Final = "counter-1"
"""For whom a request asks that names nobody."""

log = structlog.get_logger(__name__)


class MockClient(Client):
    """A client of a mock city: the real one, but for the personas about whom a whole call fails."""

    def __init__(self, city: MockCity, profile: Profile, clock: Callable[[], float] = time.time) -> None:
        super().__init__(
            profile=profile,
            signer=lambda: city.system,
            directory=city.holder,
            refresh=_nothing_newer,
            transport=city,
            keys=OwnerKeys(city.statements, city.verifier, clock),
            closing=AsyncExitStack(),
            clock=clock,
        )
        self._cast = city.cast

    async def _ask(
        self,
        context: Context,
        question: Question,
        cases: Sequence[Prepared],
        seconds: float,
        *,
        bulk: bool,
        receipt: bool,
    ) -> list[CaseResult]:
        reasons = [self._refused(case) for case in cases]
        if reasons[0] is not None and not bulk:
            raise RefusedError(reasons[0], "as its persona wants")
        found = await super()._ask(context, question, cases, seconds, bulk=bulk, receipt=receipt)
        return [
            one if reason is None else CaseResult(one.key, reason=reason)
            for one, reason in zip(found, reasons, strict=True)
        ]

    def _refused(self, case: Prepared) -> Reason | None:
        found = [self._cast.persona(one) for subjects in case.subjects.values() for one in subjects]
        return next((persona.call for persona in found if persona is not None and persona.call is not None), None)


def mock_profile(city: MockCity) -> Profile:
    """A profile for the system of a city: every role of it, for local callers, with usable defaults."""
    identity = city.system.identity
    roles = tuple(sorted(city.holder.current.documents[identity.department].roles.get(identity.name, ())))
    defaults = Defaults(role=roles[0] if roles else "", jurisdiction=str(city.home), official=OFFICIAL)
    nowhere = Path(os.devnull)
    return Profile(
        path=nowhere,
        hub=(),
        registrar=None,
        root=nowhere,
        identity=nowhere,
        state=nowhere,
        listen=None,
        metrics=None,
        defaults=defaults,
        adapter=None,
        agent=Agent(caller=(AgentCaller(certificate="local", roles=roles),)),
    )


async def main(city: MockCity, listen: str, root: Path | None, process: Process) -> None:
    """Serve until the process is told to stop.

    Args:
        city: What stands in for hub and owners.
        listen: A loopback address or "unix:path".
        root: New directory for the city's certificate, made once the mock can serve; None for none.
        process: Of this command.

    Raises:
        ZhiwangError: It cannot start; FatalError INTERNAL for an address that others can reach.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(MockClient(city, mock_profile(city)))
        batches = Batches(asyncio.get_running_loop().time)
        stack.push_async_callback(batches.close)
        server = assemble(client, batches, announce=(MOCKED,))
        address = server.listen(listen, None)
        if root is not None:
            _write_root(root, city)
        for condition in ("directory", "hub"):
            await server.readiness.set(condition, holds=True)
        await server.start()
        log.warning("this is a mock: every answer is invented", system=city.system.identity.short)
        process.announce(listen=address)
        await process.stopping.wait()
        await server.stop(STOP_GRACE)


def _write_root(root: Path, city: MockCity) -> None:
    try:
        root.mkdir(mode=0o700)
        write_public(root / CA_CERTIFICATE, city.ca_pem)
    except OSError as error:
        raise FatalError(
            Reason.INTERNAL, f"{root} cannot be made: {error.strerror}; name a directory that is not there yet"
        ) from None


async def _nothing_newer() -> None:
    """The directory never changes."""
