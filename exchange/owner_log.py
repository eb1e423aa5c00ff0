"""What the hub has seen of one adapter's log, and how it finds out what it has not been told.

A head is proved from one that was seen before. Replies that are outstanding at the same time, on the links of several
replicas or in several frames of one, are all proved from what the hub had seen when it sent them, so their heads are
not related to each other; the hub asks the adapter how they are, one pair at a time, beside the requests. What the
adapter cannot prove then is a fork: nothing of that log is believed from then on, over restarts too. What it does not
answer is asked again, and after a bound nothing is believed until it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Protocol

from audit.checkpoint import Checkpoint
from audit.origins import year_of
from audit.years import YearsView
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason, RefusedError

PROOF_SECONDS: Final = 10.0
"""How long an answer about two heads is waited for before the adapter is asked again."""

PATIENCE: Final = 30
"""How often it is asked in vain before nothing more of its log is believed: five minutes of an attached adapter."""


class Way(Protocol):
    """A way to the log's owner: a link. Hashable by identity."""

    def send(self, tickets: list[Any]) -> None:
        """Send a frame of requests."""

    def relate(self, old_size: int, new_size: int, origin: str) -> None:
        """Ask how two heads of a log are related."""


class OwnerLog:
    """One log, shared by the links of its replicas. Owned by the event loop.

    Until there is a first head, one request is sent at a time; what else could go waits here, since a head that is
    proved from nothing would be as good as any other. Not even a frame goes whole: an adapter may answer it in several.

    Args:
        view: What was seen.
    """

    def __init__(self, view: YearsView) -> None:
        self.view = view
        self._first: Way | None = None
        self._held: deque[tuple[Way, list[Any]]] = deque()
        self._asked: tuple[int, int, str] | None = None
        self._until = 0.0
        self._in_vain = 0
        self._given_up = 0

    def admit(self, link: Way, tickets: list[Any]) -> list[Any]:
        """What of a frame may be sent now; the rest is kept and sent later."""
        if self.view.known_tree_size:
            return tickets
        if self._first is not None:
            self._held.append((link, tickets))
            return []
        self._first = link
        if rest := tickets[1:]:
            self._held.appendleft((link, rest))
        return tickets[:1]

    def answered(self, link: Way) -> None:
        """Something came back on a link, or nothing will: others may go."""
        if self._first is link:
            self._first = None
        while self._held and (self.view.known_tree_size or self._first is None):
            waiting, tickets = self._held.popleft()
            waiting.send(tickets)

    def withdraw(self, link: Way) -> list[Any]:
        """Take back what was to go on a link."""
        taken = [ticket for holder, tickets in self._held if holder is link for ticket in tickets]
        self._held = deque(entry for entry in self._held if entry[0] is not link)
        return taken

    # What came.

    @property
    def overdue(self) -> bool:
        """Whether the adapter was asked so often in vain how its heads are related that none is believed."""
        return self._in_vain >= PATIENCE

    def verify(self, head: audit_pb2.LogHead, known: Iterable[tuple[str, int]]) -> Checkpoint:
        """Check a head that came with replies.

        Args:
            head: As it came.
            known: What the hub had seen when it sent each of the requests, of which log and how much; the head has to
                be proved from there.

        Raises:
            RefusedError: PROOF_INVALID, or what is wrong with the certificate.
        """
        if self.overdue:
            raise RefusedError(
                Reason.PROOF_INVALID,
                f"{self.view.origin}: the adapter does not say how heads of its log are related that it has shown; "
                "nothing is released until it does. Is it as new as the hub?",
            )
        origin, size = max(known, key=lambda one: (year_of(one[0]), one[1]), default=("", 0))
        return self.view.verify_head(head, size, origin)

    # How two heads are related.

    def relate(self, link: Way, now: float) -> None:
        """Ask how two heads are related, if that is not known and not being asked. `now` in seconds."""
        wanted = self.view.wanted_link
        if wanted is None or (self._asked is not None and now < self._until):
            return
        if self._asked is not None:
            self._in_vain += 1
        self._asked, self._until = (*wanted, self.view.wanted_origin), now + PROOF_SECONDS
        link.relate(*self._asked)

    def given_up(self) -> int:
        """How many heads were given up, since nothing related them in time, after this was asked last."""
        before, self._given_up = self._given_up, self.view.given_up
        return self._given_up - before

    def related(self, answer: adapter_pb2.Related) -> None:
        """The adapter's answer; passed over if it was not asked for, or comes too late.

        Raises:
            RefusedError: PROOF_INVALID: the log has forked (`view.fork`), or this is no answer.
        """
        if self._asked is None:
            return
        old_size, new_size, origin = self._asked
        # An adapter of an older release knows of one log only and names none.
        if (answer.old_size, answer.new_size) != (old_size, new_size) or answer.origin not in {"", origin}:
            return
        self.view.settle(old_size, new_size, answer.proof, origin)
        self._asked = None
        self._in_vain = 0
