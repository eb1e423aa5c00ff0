"""What a reader has seen of the logs of one identity, and how it goes from one year to the next.

A log ends with its year. The next one's first entry names its final checkpoint, so a head of the new log that comes
with this chain (`LogLink`) proves how the old one ended. A reader that has seen some log of an identity believes a
later one only so, and never goes back: of a log that has ended it then believes the final head, and heads within it
that were asked for before the end was known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from audit.checkpoint import Checkpoint, CheckpointError, split_note
from audit.origins import log_of, year_of
from audit.proofs import BEFORE_REMOVAL, Fork, HeadChecker, HeadView, check_entry, contradiction
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason, RefusedError

MAX_YEARS: Final = 100
"""Logs of one identity that a chain may lead through."""


class End(NamedTuple):
    """How a log ended.

    Attributes:
        checkpoint: Its final one,
        note: as the next log's first entry names it.
    """

    checkpoint: Checkpoint
    note: bytes


class YearsView:
    """A `HeadView` for each log of one identity. `export` and `restore` carry all of it over a restart.

    Args:
        checker: Verifies the heads.
        origin: Of one of the logs; of the first head if None.
    """

    def __init__(self, checker: HeadChecker, origin: str | None = None) -> None:
        self._checker = checker
        self._log = None if origin is None else log_of(origin)
        self._current = HeadView(checker)
        # By origin, the oldest first.
        self._ended: dict[str, HeadView] = {}
        self._revision = 0
        self._given_up = 0

    # What is known.

    @property
    def origin(self) -> str | None:
        """Of the newest log that was seen; of the first one before any was."""
        return self._current.origin or self._log

    @property
    def newest(self) -> Checkpoint:
        """The largest tree of the newest log that was verified; of size 0 before the first."""
        return self._current.newest

    @property
    def known_tree_size(self) -> int:
        """What to tell the log's server: the size of that tree."""
        return self._current.known_tree_size

    @property
    def known_origin(self) -> str:
        """And of which log it is; empty before the first head."""
        return self._current.newest.origin

    @property
    def restored_size(self) -> int:
        """Size of the tree that `restore` took up, or 0."""
        return self._current.restored_size

    @property
    def fork(self) -> Fork | None:
        """How one of the logs contradicted itself; then nothing of any of them is believed any more."""
        return next((view.fork for view in self._views() if view.fork is not None), None)

    @property
    def revision(self) -> int:
        """Rises with each change of what `export` gives."""
        return self._revision + sum(view.revision for view in self._views())

    @property
    def given_up(self) -> int:
        """How many heads were never related to the newest of their log."""
        return sum(view.given_up for view in self._views())

    @property
    def unlinked(self) -> int:
        """How many heads wait for a proof that relates them to the newest of their log."""
        return sum(view.unlinked for view in self._views())

    def ended(self, origin: str) -> Checkpoint | None:
        """The final checkpoint of a log that is known to have ended."""
        view = self._ended.get(origin)
        return None if view is None else view.newest

    def _views(self) -> list[HeadView]:
        return [self._current, *self._ended.values()]

    def hold(self, heads: Iterable[tuple[str, int]]) -> None:
        """Remember these heads, given as origin and size, for as long as servers prove what comes next from them."""
        sizes: dict[str, set[int]] = {}
        for origin, size in heads:
            sizes.setdefault(origin, set()).add(size)
        for view in self._views():
            view.held = sizes.get(view.origin or "", ())

    # What comes.

    def verify_head(self, head: audit_pb2.LogHead, known_tree_size: int = 0, known_origin: str = "") -> Checkpoint:
        """Check a head against what was seen, and remember it.

        Args:
            head: As it came.
            known_tree_size: What its server had been told, or showed last on the same stream: it has to be proved from
                there or from later, or be the final head of a log that has ended.
            known_origin: Of which log; of the head's own if it is empty.

        Raises:
            RefusedError: PROOF_INVALID, as `HeadView.verify_head`; or it is of an older log, or of a newer one that
                does not show how the one that was seen ended; or an error of the certificate.
        """
        checkpoint = self._checker.check(head)
        origin = checkpoint.origin
        if self._log is not None and log_of(origin) != self._log:
            raise RefusedError(Reason.PROOF_INVALID, f"a head of {origin} where {self.origin} was expected")
        self._check_whole()
        newest = self.newest.origin
        if newest and year_of(origin) < year_of(newest):
            return self._verify_ended(checkpoint, head, known_tree_size, known_origin)
        if newest and year_of(origin) > year_of(newest):
            return self._go_on(checkpoint, head, known_tree_size if known_origin in {"", newest} else 0)
        known = known_tree_size if known_origin in {"", origin} else 0
        linked = False
        if newest and head.HasField("link") and not known:
            # Asked for when only the log before was known, like the first head of this one.
            end = follow_link(head.link, checkpoint)[head.link.known_origin]
            before = self._ended.get(head.link.known_origin)
            if before is not None:
                # Who names another end than was proved before has shown two histories.
                before.end(end.checkpoint, end.note)
                linked = True
        found = self._current.verify_head(head, known, linked=linked)
        self._log = log_of(origin)
        return found

    def _check_whole(self) -> None:
        if (fork := self.fork) is not None:
            raise contradiction(self.origin or "", fork.old_size, fork.new_size)

    def _verify_ended(
        self, checkpoint: Checkpoint, head: audit_pb2.LogHead, known_tree_size: int, known_origin: str
    ) -> Checkpoint:
        view = self._ended.get(checkpoint.origin)
        if view is None:
            raise RefusedError(
                Reason.PROOF_INVALID, f"a head of {checkpoint.origin}, which ended before {self.newest.origin} was seen"
            )
        final = view.newest
        if (checkpoint.size, checkpoint.root) == (final.size, final.root):
            return checkpoint
        if known_origin and year_of(known_origin) > year_of(checkpoint.origin):
            raise RefusedError(
                Reason.PROOF_INVALID, f"{checkpoint.origin} has ended with {final.size} entries, and that was known"
            )
        return view.verify_head(head, known_tree_size if known_origin in {"", checkpoint.origin} else 0)

    def _go_on(self, checkpoint: Checkpoint, head: audit_pb2.LogHead, known_tree_size: int) -> Checkpoint:
        """Leave the log that was seen for a later one, as its head proves; those in between were never seen."""
        link, newest = head.link, self.newest
        ends = follow_link(link, checkpoint)
        if link.known_origin != newest.origin:
            raise RefusedError(Reason.PROOF_INVALID, f"{checkpoint.origin} does not show how {newest.origin} ended")
        end = ends.pop(newest.origin)
        self._current.end(
            end.checkpoint, end.note, link.known_tree_size, link.consistency_path, at_least=known_tree_size
        )
        self._ended[newest.origin] = self._current
        for origin, between in ends.items():
            self._ended[origin] = view = HeadView(self._checker, origin)
            view.end(between.checkpoint, between.note)
        self._current = HeadView(self._checker, checkpoint.origin)
        return self._current.verify_head(head, linked=True)

    # How two heads of one log are related.

    @property
    def wanted_link(self) -> tuple[int, int] | None:
        """As `HeadView.wanted_link`, of the log that `wanted_origin` names."""
        return next((view.wanted_link for view in self._views() if view.wanted_link is not None), None)

    @property
    def wanted_origin(self) -> str:
        """Of which log a proof is wanted; empty if of none."""
        return next((view.origin or "" for view in self._views() if view.wanted_link is not None), "")

    def settle(
        self, old_size: int, new_size: int, answer: audit_pb2.GetConsistencyProofResponse, origin: str = ""
    ) -> None:
        """As `HeadView.settle`, for one of the logs; for the newest if none is named."""
        self._check_whole()
        view = self._current if not origin else {one.origin: one for one in self._views()}.get(origin)
        if view is None:
            raise RefusedError(
                Reason.PROOF_INVALID, f"{self.origin}: an answer about {origin}, of which nothing is known"
            )
        view.settle(old_size, new_size, answer)

    def check_entry(self, logged: audit_pb2.LoggedEntry, checkpoint: Checkpoint) -> audit_pb2.Entry:
        """As the function `check_entry`."""
        return check_entry(logged, checkpoint)

    # Over a restart.

    def export(self) -> bytes:
        """What has to be remembered: the newest log as `HeadView.export` has it, beside it those that have ended."""
        state: dict[str, Any] = json.loads(self._current.export())
        state["years"] = [json.loads(view.export()) for view in self._ended.values()]
        return json.dumps(state).encode()

    def restore(self, data: bytes) -> None:
        """Take up what `export` gave, or what a `HeadView` did in a release without yearly logs.

        Raises:
            RefusedError: PROOF_INVALID: it is neither, or of another identity's logs.
        """
        try:
            state = json.loads(data)
            origin, years = state["origin"], list(state.get("years", ()))
            origins = [str(one["origin"]) for one in years]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefusedError(
                Reason.PROOF_INVALID, f"the remembered state of a log is damaged; {BEFORE_REMOVAL}"
            ) from error
        for one in (origin, *origins):
            if self._log is not None and one is not None and log_of(str(one)) != self._log:
                raise RefusedError(
                    Reason.PROOF_INVALID, f"the remembered state is of {one}, not of {self.origin}; {BEFORE_REMOVAL}"
                )
        current, ended = HeadView(self._checker), {one: HeadView(self._checker, one) for one in origins}
        current.restore(data)
        for one in years:
            ended[str(one["origin"])].restore(json.dumps(one).encode())
        if current.newest.size:
            self._log = log_of(current.newest.origin)
            self._current, self._ended = current, ended
            self._revision += 1


def follow_link(link: audit_pb2.LogLink, checkpoint: Checkpoint) -> dict[str, End]:
    """The ends of earlier logs that a head of a later one proves, by origin, the oldest first.

    Each log's first entry is in its tree and names the end of the one before; so whoever signed the newest head has
    said how every one of them ended.

    Args:
        link: The chain.
        checkpoint: Of the newest log, verified.

    Raises:
        RefusedError: PROOF_INVALID: it does not lead to the log that it says.
    """
    found: list[tuple[str, End]] = []
    tree = checkpoint
    for logged in link.opened[:MAX_YEARS]:
        entry = check_entry(logged, tree)
        tree = predecessor_of(entry, logged.index, tree.origin)
        found.append((tree.origin, End(tree, entry.log_opened.predecessor)))
    if not found or tree.origin != link.known_origin or len(link.opened) > MAX_YEARS:
        raise RefusedError(Reason.PROOF_INVALID, f"{checkpoint.origin} does not show how the log before it ended")
    return dict(reversed(found))


def predecessor_of(entry: audit_pb2.Entry, index: int, origin: str) -> Checkpoint:
    """The final checkpoint of the same identity's log before, which the first entry of a log names.

    Its signature is not looked at: the log that names it is signed for the same identity.

    Raises:
        RefusedError: PROOF_INVALID: it is not such an entry, or goes on from no earlier log of this identity.
    """
    opened = entry.log_opened
    try:
        former = Checkpoint.parse(split_note(opened.predecessor)[0])
    except CheckpointError as error:
        raise RefusedError(Reason.PROOF_INVALID, f"{origin} names no log before it: {error}") from error
    if (
        index != 0
        or opened.origin != origin
        or log_of(former.origin) != log_of(origin)
        or year_of(former.origin) >= year_of(origin)
        or not former.size
    ):
        raise RefusedError(Reason.PROOF_INVALID, f"{origin} does not go on from {former.origin}")
    return former
