"""A scene: something that a process does with its files, and what the next one does over what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from campaign.child import Act, Said
from campaign.judge import Verdict


@dataclass(frozen=True, slots=True)
class Scene:
    """Something that is struck.

    Attributes:
        name: Of the scene.
        furnish: What has been done before, undisturbed.
        act: What is struck.
        recover: What the next process does.
        judge: What must hold afterwards.
    """

    name: str
    furnish: Act
    act: Act
    recover: Act
    judge: Callable[[Path, Sequence[Said]], Verdict]
