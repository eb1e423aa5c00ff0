"""What differs between two directories, as messages: rights as sentences and exactly, then every other fact. Pure."""

from __future__ import annotations

from typing import NamedTuple

from policy.differences import differences
from policy.model import Directory
from policy.reach import Change, changes
from policy.telling import ASSURANCE_WORDS, place_of, set_time, text_of
from policy.words import Words
from zhiwang.policy.v1 import rehearsal_pb2


class Comparison(NamedTuple):
    """What differs.

    Attributes:
        sentences: What happens to all systems of a role at once; first what becomes denied.
        changes: Every change exactly, each with its own sentence.
        facts: Every other published fact.
    """

    sentences: list[rehearsal_pb2.ChangeSentence]
    changes: list[rehearsal_pb2.RightChange]
    facts: list[rehearsal_pb2.FactChange]


def compare(before: Directory, after: Directory, now: float) -> Comparison:
    """Everything that `after` decides otherwise than `before` from now on, and everything else that it says otherwise.

    Args:
        before: Need not be in force.
        after: The same.
        now: Seconds since the epoch.
    """
    found = list(changes(before, after, now))
    words = Words(after, before)
    return Comparison(
        [
            rehearsal_pb2.ChangeSentence(allowed=allowed, sentence=text_of(sentence))
            for allowed in (False, True)
            for sentence in words.changes((change for change in found if change.allowed is allowed), now)
        ],
        [_change(change, words, now) for change in found],
        [
            rehearsal_pb2.FactChange(path=fact.path, before=fact.before, after=fact.after)
            for fact in differences(before, after)
        ],
    )


def _change(change: Change, words: Words, now: float) -> rehearsal_pb2.RightChange:
    message = rehearsal_pb2.RightChange(
        allowed=change.allowed,
        system=change.key.system,
        home=str(change.home),
        role=change.key.role,
        ask=str(change.key.ask),
        matter=change.key.matter,
        assurances=[ASSURANCE_WORDS[number] for number in change.assurances],
        officials=change.officials,
        places=map(place_of, change.places),
        sentence=text_of(words.changes([change], now)[0]),
    )
    if change.span.since > now:
        set_time(message.since_time, change.span.since)
    set_time(message.until_time, change.span.until)
    return message
