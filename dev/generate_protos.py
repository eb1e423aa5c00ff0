"""Generate the Python code and the typing stubs beside every .proto file.

`python dev/generate_protos.py` writes them; with `--check` it writes nothing and exits 1 when what is committed differs
from what the .proto files say.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Write the generated files of every .proto below `proto/` into `out`."""
    scripts = Path(sysconfig.get_path("scripts"))
    sources = [str(path.relative_to(PROTO)) for path in sorted(PROTO.rglob("*.proto"))]
    well_known = Path(protoc.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTO}",
            f"--proto_path={well_known}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            *sources,
        ],
    )
    if status != 0:
        sys.exit(status)


def generated_below(root: Path) -> set[Path]:
    """Relative paths of generated files below `root`."""
    return {path.relative_to(root) for pattern in GENERATED for path in root.rglob(pattern)}


def main() -> None:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as directory:
        fresh = Path(directory)
        generate(fresh)
        wanted, present = generated_below(fresh), generated_below(PROTO)
        if check:
            stale = sorted(present ^ wanted) + sorted(
                path for path in present & wanted if not filecmp.cmp(PROTO / path, fresh / path, shallow=False)
            )
            if stale:
                print("generated code is not what the .proto files say; run `make protos-generate`:")
                print(*(f"  proto/{path}" for path in stale), sep="\n")
                sys.exit(1)
            return
        for path in present - wanted:
            (PROTO / path).unlink()
        for path in wanted:
            shutil.copyfile(fresh / path, PROTO / path)


if __name__ == "__main__":
    main()
