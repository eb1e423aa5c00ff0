"""C2SP tlog-policy: a file that says whose cosignatures count, and how many of them, for verifying offline. Pure.

Logs in it are passed over: whose log counts, the city's authority says. Groups of groups are refused, since a quorum of
ours is a number of witnesses of one kind; everything else of the format is read.

Source: https://c2sp.org/tlog-policy.
"""

from __future__ import annotations

from typing import Final

from audit.checkpoint import CheckpointError
from audit.cosignature import WitnessPolicy, parse_witness_key
from zhiwang.wire.vkey import VerifierKey

MAX_POLICY_SIZE: Final = 64 << 10
"""Bytes of the largest policy that is read."""

_WITNESS: Final = range(3, 5)
_LOG: Final = range(2, 4)
_GROUP: Final = range(4, 200)
_QUORUM: Final = range(2, 3)
_LENGTHS: Final = {"witness": _WITNESS, "log": _LOG, "group": _GROUP, "quorum": _QUORUM}


def parse_policy(data: bytes) -> WitnessPolicy:
    """The policy in a file.

    Raises:
        CheckpointError: It is none; it asks for no witness; or two quorums could vouch for two histories.
    """
    if len(data) > MAX_POLICY_SIZE:
        raise CheckpointError("larger than any policy")
    reader = _Reader()
    for number, line in enumerate(_lines(data), 1):
        words = line.replace("\t", " ").split(" ")
        words = [word for word in words if word]
        if not words or words[0].startswith("#"):
            continue
        try:
            reader.take(words)
        except CheckpointError as error:
            raise CheckpointError(f"line {number} of the policy: {error}") from None
    return reader.policy()


def _lines(data: bytes) -> list[str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise CheckpointError("the policy is not UTF-8") from None
    if any(character < " " and character not in "\t\n" for character in text):
        raise CheckpointError("the policy has control characters")
    return text.split("\n")


class _Reader:
    """What the lines have said so far."""

    def __init__(self) -> None:
        self._witnesses: dict[str, VerifierKey] = {}
        self._groups: dict[str, tuple[int, list[str]]] = {}
        self._quorum: tuple[int, list[str]] | None = None

    def take(self, words: list[str]) -> None:
        """One line."""
        kind, *rest = words
        if len(words) not in _LENGTHS.get(kind, ()):
            raise CheckpointError("not `witness NAME KEY`, `group NAME K NAME…`, `quorum NAME` or `log KEY`")
        if kind == "witness":
            self._define(rest[0])
            self._witnesses[rest[0]] = parse_witness_key(rest[1])
        elif kind == "group":
            self._define(rest[0])
            self._groups[rest[0]] = self._group(rest[1], rest[2:])
        elif kind == "quorum":
            if self._quorum is not None:
                raise CheckpointError("a second quorum")
            self._quorum = self._meant(rest[0])

    def policy(self) -> WitnessPolicy:
        """Of the whole file."""
        if self._quorum is None:
            raise CheckpointError("the policy has no line `quorum NAME`")
        needed, names = self._quorum
        return WitnessPolicy({name: [self._witnesses[name]] for name in names}, needed)

    def _define(self, name: str) -> None:
        if name in self._witnesses or name in self._groups or name == "none":
            raise CheckpointError(f"{name} is defined already")

    def _group(self, needed: str, names: list[str]) -> tuple[int, list[str]]:
        if len(set(names)) != len(names) or not all(name in self._witnesses for name in names):
            raise CheckpointError(
                "a group is of witnesses that are defined above it, each once; groups of groups are not read"
            )
        number = {"all": len(names), "any": 1}.get(needed)
        if number is None:
            number = int(needed) if needed.isascii() and needed.isdigit() and len(needed) < len("1000") else 0
        if not 1 <= number <= len(names):
            raise CheckpointError("how many of a group are needed is `all`, `any`, or a number from 1 to its size")
        return number, names

    def _meant(self, name: str) -> tuple[int, list[str]]:
        if name == "none":
            raise CheckpointError("it asks for no witness; then give no policy")
        if name in self._witnesses:
            return 1, [name]
        if name not in self._groups:
            raise CheckpointError(f"{name} is not defined above it")
        return self._groups[name]
