"""Pack what a program in another language needs to call an agent: the .proto files and a README with tested examples.

`python dev/pack_protos.py` writes `dist/zhiwang-protos-<version>.zip`. The same sources give the same bytes, so that
whoever packs them again can compare: members are sorted, dated 1980 and stored uncompressed, since a compressor's
output is its version's.

Packed are `verification.proto` with everything that it imports, and the `google.rpc` messages in which the agent says
why it refuses a call. The README is `dev/protos_readme.md`; its examples are cut out of the programs in
`tests/callers/`, which the tests run against a real agent.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import textwrap
import tomllib
import zipfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.rpc import status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PATHS = (ROOT / "proto", Path(status_pb2.__file__).parents[2], Path(protoc.__file__).parent / "_proto")
"""Where .proto files are looked for: ours, google/rpc, google/protobuf."""

WANTED = ("zhiwang/verification/v1/verification.proto", "google/rpc/error_details.proto", "google/rpc/status.proto")
"""What a caller uses by name; what these import is found."""

README = ROOT / "dev" / "protos_readme.md"
CALLERS = ROOT / "tests" / "callers"
EXAMPLE = re.compile(r"^<!-- example (?P<path>\S+) (?P<name>\S+) -->\n", re.MULTILINE)
"""A line of the README in whose place an example comes: its file below tests/callers, and its name there."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip file can name."""


class PackError(Exception):
    """The sources do not make a pack; the message says which and why."""


def version() -> str:
    """The project's version."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def proto_files() -> dict[str, bytes]:
    """Every .proto file of the pack by its name as others import it."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "set"
        paths = [f"--proto_path={path}" for path in PATHS]
        if protoc.main(["protoc", *paths, f"--descriptor_set_out={out}", "--include_imports", *WANTED]) != 0:
            raise PackError("protoc cannot read the .proto files")
        found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    return {file.name: _source(file.name).read_bytes() for file in found.file}


def _source(name: str) -> Path:
    return next(path / name for path in PATHS if (path / name).is_file())


def example(path: str, name: str) -> str:
    """What stands between `begin: name` and `end: name` in a program of tests/callers, moved to the left margin.

    Raises:
        PackError: It is not there, or not once.
    """
    text = (CALLERS / path).read_text("utf-8")
    found = re.findall(
        rf"^[ \t]*// begin: {re.escape(name)}\n(.*?)^[ \t]*// end: {re.escape(name)}\n", text, re.MULTILINE | re.DOTALL
    )
    if len(found) != 1:
        raise PackError(f"tests/callers/{path} must have one example named {name}; it has {len(found)}")
    return textwrap.dedent(found[0].expandtabs(4))


def readme() -> str:
    """The README with its examples."""
    return EXAMPLE.sub(lambda found: example(found["path"], found["name"]), README.read_text("utf-8"))


def members() -> dict[str, bytes]:
    """The pack's files by their names in it."""
    top = f"zhiwang-protos-{version()}"
    files = {f"{top}/proto/{name}": data for name, data in proto_files().items()}
    return files | {f"{top}/README.md": readme().encode(), f"{top}/LICENSE": (ROOT / "LICENSE").read_bytes()}


def write(out: Path) -> Path:
    """Write the pack into a directory, and return its path."""
    files = members()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"zhiwang-protos-{version()}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as pack:
        for name, data in sorted(files.items()):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3  # Unix, wherever it is made: the mode below is Unix's
            member.external_attr = 0o644 << 16
            pack.writestr(member, data)
    return path


def main() -> None:
    """Write the pack and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="directory for the pack (default: dist)")
    try:
        print(write(parser.parse_args().out))
    except PackError as error:
        print(f"打包失败 cannot pack: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
