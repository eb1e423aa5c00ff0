"""How a head of a log goes on from that of an earlier year which its reader knows: a `LogLink`.

The reader's side, which believes nothing of it before it is proved, is `audit.years`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from audit.checkpoint import Checkpoint, split_note
from audit.origins import log_of, year_of
from audit.shards import Ended
from audit.store import LogStore
from zhiwang.audit.v1 import audit_pb2


def add_link(
    head: audit_pb2.LogHead,
    store: LogStore,
    ended: Sequence[Ended],
    known_tree_size: int,
    known_origin: str,
    store_of: Callable[[int], LogStore],
    *,
    disk: bool,
) -> None:
    """Add to a head how its log goes on from the one that the reader knows, if it does and still can be proved.

    Args:
        head: Of `store`; changed.
        store: A log of the same identity.
        ended: Its logs that have ended, the oldest first.
        known_tree_size: What the reader has verified,
        known_origin: and of which log.
        store_of: Gives the log of a year whose entries are kept.
        disk: As for `LogStore.frame`.

    Raises:
        KeyError: The disk would have to be read, and must not be.
    """
    year, known = year_of(store.origin), year_of(known_origin)
    between = [one for one in ended if known <= one.year < year]
    if not between or between[0].year != known or log_of(known_origin) != log_of(store.origin):
        return
    final = between[0].head.size
    if not 0 < known_tree_size <= final:
        return
    link = audit_pb2.LogLink(known_origin=known_origin, known_tree_size=known_tree_size)
    if known_tree_size < final:
        if between[0].removal is not None:
            return
        if not disk:
            raise KeyError(known_origin)
        link.consistency_path.extend(store_of(known).consistency(known_tree_size, final))
    own = next((one for one in ended if one.year == year), None)
    if own is not None:
        link.opened.append(_opened(own))
    elif not disk:
        raise KeyError(store.origin)
    else:
        link.opened.extend(store.logged([0], Checkpoint.parse(split_note(head.checkpoint)[0]).size))
    link.opened.extend(_opened(one) for one in reversed(between[1:]))
    head.link.CopyFrom(link)


def _opened(one: Ended) -> audit_pb2.LoggedEntry:
    return audit_pb2.LoggedEntry.FromString(one.opened)
