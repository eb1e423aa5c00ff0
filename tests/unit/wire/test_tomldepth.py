from __future__ import annotations

import time
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwang.wire.tomldepth import MAX_DEPTH, long_key
from zhiwang.wire.tomlfile import MAX_MISTAKES, FileError, StrictModel, load, parse


class Empty(StrictModel):
    pass


def refused(source: bytes) -> list[str]:
    with pytest.raises(FileError) as caught:
        load(source, Empty, name="d.toml")
    return list(map(str, caught.value.findings))


def dotted(parts: int, dot: str = ".") -> str:
    return dot.join(["x"] * parts)


@pytest.mark.parametrize(
    "source",
    [
        f"{dotted(MAX_DEPTH + 1)} = 1\n",
        f"[{dotted(MAX_DEPTH + 1)}]\n",
        f"[[{dotted(MAX_DEPTH + 1)}]]\n",
        f"a = {{ {dotted(MAX_DEPTH + 1)} = 1 }}\n",
        f"{dotted(MAX_DEPTH + 1, ' . ')} = 1\n",
        f"{'.'.join(['a', chr(34) + 'b.c' + chr(34), chr(39) + 'd' + chr(39)] * MAX_DEPTH)} = 1\n",
        dotted(500_000),
        f"[{dotted(MAX_DEPTH)}]\n{dotted(MAX_DEPTH)} = 1\n",
        f"a = {'[' * MAX_DEPTH}{']' * MAX_DEPTH}\n",
        f"a = {'{a=' * MAX_DEPTH}1{'}' * MAX_DEPTH}\n",
        f"a = {'[' * 300}{']' * 300}\n",
    ],
)
def test_a_file_is_refused_that_goes_deeper_than_any_of_ours(source: str) -> None:
    assert refused(source.encode()) == ["d.toml:1: is nested too deeply"]


def test_keys_with_too_many_parts_are_never_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    loads = tomllib.loads

    def counted(text: str) -> dict[str, Any]:
        parsed.append(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    parse(b"a.b = 1\n")
    for source in (f"a = 1\n{dotted(1500)} = 1\n", f"a = 1\n[{dotted(1500)}]\n", f'a = """"""""\n{dotted(1500)} = 1\n'):
        assert refused(source.encode()) == ["d.toml:2: is nested too deeply"]
    assert parsed == ["a.b = 1\n"]


def test_what_goes_exactly_as_deep_as_it_may_is_read() -> None:
    assert parse(f"{dotted(MAX_DEPTH)} = 1\n".encode())
    assert parse(f"a = {'[' * (MAX_DEPTH - 1)}{']' * (MAX_DEPTH - 1)}\n".encode())


CHAIN = dotted(MAX_DEPTH + 1)
PIECES = st.lists(st.sampled_from([CHAIN, '"', "'", "\\", "#", "\n", ".", "x", " ", "é", '""', "''"]), max_size=8)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A comment or a text that may hold anything, as TOML lets it."""
    inner = "".join(draw(PIECES))
    kind = draw(st.sampled_from(["comment", "basic", "literal", "long basic", "long literal", "key"]))
    one = inner.replace("\n", "")
    escaped = one.replace("\\", "\\\\").replace('"', '\\"')
    if kind == "comment":
        return f"1 # {one}"
    if kind == "basic":
        return f'"{escaped}"'
    if kind == "literal":
        return "'" + one.replace("'", "") + "'"
    if kind == "long basic":
        body = inner.replace("\\", "\\\\").replace('"""', '""\\"').replace('"""', '""\\"')
        return f'"""{body}"""'
    if kind == "long literal":
        return "'''" + inner.replace("'''", "") + "'''"
    return f'{{ "{escaped}" = 1 }}'


@given(st.lists(lines(), max_size=5))
def test_dots_in_texts_and_comments_are_no_keys(values: list[str]) -> None:
    text = "".join(f"k{number} = {value}\n" for number, value in enumerate(values))
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # what was joined ended its text early
    assert long_key(text) is None
    assert long_key(f"{text}{CHAIN} = 1\n") == text.count("\n") + 1
    assert long_key(f"{text}[{CHAIN}]\n") == text.count("\n") + 1


@given(st.text("x.\"'#\\\n =[]{},", max_size=60))
def test_no_key_of_a_file_that_is_toml_is_overlooked(text: str) -> None:
    try:
        tomllib.loads(f"{text}\n{CHAIN} = 1\n")
    except tomllib.TOMLDecodeError:
        return
    assert long_key(f"{text}\n{CHAIN} = 1\n") == text.count("\n") + 2


HOSTILE = {
    "one word": lambda n: "x" * n,
    "words": lambda n: "x " * (n // 2),
    "spaces behind a word": lambda n: "x" + " " * n,
    "spaces between words": lambda n: ("x" + " " * 1000) * (n // 1000),
    "keys as long as they may be": lambda n: (dotted(MAX_DEPTH) + "\n") * (n // 32),
    "quotes": lambda n: '"' * n,
    "texts without an end": lambda n: '"a\n' * (n // 3),
    "escapes without an end": lambda n: '"' + '\\"' * (n // 2),
    "long texts without an end": lambda n: '"""' + '\\"""\n' * (n // 5) + "\\",
    "quotes in a long text": lambda n: '"""' + '""a' * (n // 3),
    "quotes in a long literal": lambda n: "'''" + "''a" * (n // 3),
    "comments": lambda n: "#\n" * (n // 2),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_looking_for_long_keys_takes_time_by_the_length_alone(kind: str) -> None:
    def seconds(size: int) -> float:
        text = HOSTILE[kind](size)
        times = []
        for _ in range(5):
            begun = time.process_time()
            assert long_key(text) is None
            times.append(time.process_time() - begun)
        return min(times)

    # By the square it would be 256 times as long.
    assert seconds(1_600_000) < 64 * max(seconds(100_000), 1e-4)


def test_of_very_many_mistakes_some_are_told_and_the_rest_is_counted() -> None:
    found = refused("".join(f"k{number} = 1\n" for number in range(20_000)).encode())
    assert found[0] == f"d.toml:1: has {20_000 - MAX_MISTAKES} more mistakes than are told here"
    assert found[1] == "d.toml:1: k0: is not a key that stands here"
    assert len(found) == MAX_MISTAKES + 1
