"""Suspensions stand until they end or two admins lift them, although one admin's signature makes the list.

The registrar refuses a list that lacks one. A reader does not rely on that: what it has seen in force it keeps, if a
newer directory has merely lost it. After a restart a reader knows only the newest directory; that a list was shortened
stands in the registrar's log, with the key that signed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policy.model import Directory, Document, Suspension


def missing(
    before: Iterable[Suspension], after: Iterable[Suspension], documents: Mapping[str, Document], now: float
) -> list[Suspension]:
    """Suspensions that were there, still hold, and are there no longer or say something else.

    Args:
        before: Seen in force.
        after: In the newer directory.
        documents: Of the newer directory: by these they are lifted.
        now: Seconds since the epoch.
    """
    kept = set(after)
    return [
        entry
        for entry in before
        if entry not in kept
        and (entry.not_after is None or entry.not_after > now)
        and entry.department in documents
        and entry.id not in documents[entry.department].lifted
    ]


def lost(before: Directory | None, after: Directory, now: float) -> list[Suspension]:
    """Those that a newer directory has lost; for those of a department that has lapsed see `unseen`."""
    return [] if before is None else missing(before.suspensions, after.suspensions, after.documents, now)


def unseen(before: Directory | None, after: Directory) -> list[Suspension]:
    """Those of departments that have lapsed: what became of them is seen when the department is back."""
    if before is None:
        return []
    kept = set(after.suspensions)
    return [entry for entry in before.suspensions if entry.department in after.lapsed and entry not in kept]
