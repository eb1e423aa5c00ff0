"""The pack of .proto files is whole, the same from the same sources, and shows what the tested programs do."""

from __future__ import annotations

import os
import re
import time
import zipfile
from pathlib import Path

import pytest
from grpc_tools import protoc

from dev import pack_protos

EXAMPLE = "java/Caller.java"


def test_the_same_sources_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack_protos.write(tmp_path / "first").read_bytes()
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.0)
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    before = os.umask(0o077)
    try:
        second = pack_protos.write(tmp_path / "second").read_bytes()
    finally:
        os.umask(before)
    assert first == second


def test_the_pack_needs_nothing_beside_itself(tmp_path: Path) -> None:
    with zipfile.ZipFile(pack_protos.write(tmp_path)) as pack:
        assert {name.partition("/")[0] for name in pack.namelist()} == {f"zhiwang-protos-{pack_protos.version()}"}
        pack.extractall(tmp_path)
    (protos,) = tmp_path.glob("*/proto")
    names = [str(path.relative_to(protos)) for path in protos.rglob("*.proto")]
    assert set(pack_protos.WANTED) < set(names)
    out = tmp_path / "generated"
    out.mkdir()
    assert protoc.main(["protoc", f"--proto_path={protos}", f"--python_out={out}", *names]) == 0


def test_every_example_of_the_tested_programs_is_in_the_readme_as_it_runs() -> None:
    page = pack_protos.readme()
    assert "<!--" not in page
    for path in (EXAMPLE, "node/caller.js", "go/caller.go"):
        text = (pack_protos.CALLERS / path).read_text("utf-8")
        names = re.findall(r"// begin: (\w+)", text)
        assert names == ["connect", "tls", "verify", "errors", "batch"]
        for name in names:
            assert pack_protos.example(path, name) in page


def test_an_example_that_is_not_there_makes_no_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "readme.md"
    page.write_text(f"<!-- example {EXAMPLE} nothing -->\n")
    monkeypatch.setattr(pack_protos, "README", page)
    with pytest.raises(pack_protos.PackError, match="nothing"):
        pack_protos.write(tmp_path / "out")
    assert list(tmp_path.glob("out/*.zip")) == []
