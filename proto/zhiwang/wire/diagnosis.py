"""What `zhiwang doctor` says: one line for each thing that was looked at. Pure.

It stands here since every folder contributes its own: a noun's module may hold `diagnose`, a `Contribution`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from zhiwang.wire.errors import ZhiwangError
from zhiwang.wire.profile import Profile


class State(StrEnum):
    """How something stands."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        area: Which part, in one word of English, as machines read it.
        state: How it stands.
        zh: What was found.
        en: The same.
        remedy: What mends it: a command, or what to do. Empty if all is well.
    """

    area: str
    state: State
    zh: str
    en: str
    remedy: str = ""


Contribution = Callable[[Profile], Iterable[Diagnosis]]
"""Looks at what belongs to one kind of process. It writes nothing, and needs nothing to run."""


def ok(area: str, zh: str, en: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(area, State.OK, zh, en)


def warning(area: str, zh: str, en: str, remedy: str) -> Diagnosis:
    """It works, and will not for ever, or not under every trouble."""
    return Diagnosis(area, State.WARNING, zh, en, remedy)


def wrong(area: str, zh: str, en: str, remedy: str) -> Diagnosis:
    """It does not work."""
    return Diagnosis(area, State.WRONG, zh, en, remedy)


def safely(area: str, look: Callable[[], Iterable[Diagnosis]], remedy: str = "") -> Iterator[Diagnosis]:
    """What a check says; a check that fails is a line as well, since the doctor is called when nothing works."""
    try:
        yield from look()
    except ZhiwangError as error:
        detail = error.detail or error.reason.value.en
        yield wrong(area, f"{error.reason.value.zh}：{detail}", f"{error.reason.name}: {detail}", remedy)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        detail = f"{place}{error.strerror or type(error).__name__}"
        yield wrong(area, f"无法读取：{detail}", f"cannot be read: {detail}", remedy)
    except Exception as error:  # noqa: BLE001  the text of an unforeseen error may quote what it should not
        name = type(error).__name__
        yield wrong(area, f"检查本身失败：{name}", f"the check itself failed: {name}; please report this", remedy)
