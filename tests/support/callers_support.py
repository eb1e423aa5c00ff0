"""Programs in other languages that call an agent, made at run time out of the pack of .proto files and nothing else.

    with started("java", packed(tmp_path), address) as program:
        lines = program.ask("matters")

What is installed or compiled for them lies in `build/callers`, which is not kept in the repository, and is made anew
when its sources change. Where a toolchain cannot be had, the test is skipped and says which.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "callers"
BUILT = ROOT / "build" / "callers"
JARS = Path("/usr/share/java")
GO_SOURCES = Path("/usr/share/gocode")

COMPILED_WITH: tuple[str, ...] = (
    *("grpc-api", "grpc-core", "grpc-context", "grpc-stub", "grpc-protobuf", "grpc-protobuf-lite"),
    *("protobuf", "guava", "geronimo-annotation-1.3-spec"),
)
RUN_WITH: tuple[str, ...] = (
    *("grpc-netty", "jctools-core", "perfmark-api", "netty-tcnative"),
    *("netty-buffer", "netty-codec", "netty-codec-http", "netty-codec-http2", "netty-common", "netty-handler"),
    *("netty-resolver", "netty-transport", "netty-transport-native-epoll", "netty-transport-native-unix-common"),
)
JAVA_PACKAGES = (
    "default-jdk-headless libgrpc-java libgeronimo-annotation-1.3-spec-java libnetty-java libnetty-tcnative-java "
    "libperfmark-java libprotobuf-java protobuf-compiler protobuf-compiler-grpc-java-plugin"
)
GO_PACKAGES = (
    "golang-go golang-google-grpc-dev golang-google-protobuf-dev golang-github-golang-protobuf-1-5-dev "
    "protoc-gen-go-1-5 protoc-gen-go-grpc protobuf-compiler"
)


class Program:
    """A caller that runs: one command a line, and lines of words until it says that it is done."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, *words: str) -> list[list[str]]:
        """What comes of one command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(words) + "\n")
        self._process.stdin.flush()
        lines: list[list[str]] = []
        for line in self._process.stdout:
            if line == "done\n":
                return lines
            lines.append(line.removesuffix("\n").split("\t"))
        raise AssertionError(f"the program ended with {self._process.wait()} after {lines}")


def packed(path: Path) -> Path:
    """The folder `proto` of the pack, made and unpacked below `path`."""
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, str(ROOT / "dev" / "pack_protos.py"), "--out", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(done.stdout.strip()) as pack:
        pack.extractall(path)
    (protos,) = path.glob("zhiwang-protos-*/proto")
    return protos


@contextmanager
def started(language: str, protos: Path, *arguments: str) -> Iterator[Program]:
    """A caller in one of `LANGUAGES`.

    Args:
        language: Which.
        protos: The folder `proto` of an unpacked pack.
        arguments: Of the program: target, and for TLS files and server name.
    """
    command = [*LANGUAGES[language](protos), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:  # noqa: S603 - ours
        try:
            yield Program(process)
        finally:
            process.kill()


def node(protos: Path, program: str = "caller.js") -> list[str]:
    """The command of a Node program, its packages installed."""
    _need("Node", "node", "npm")
    sources = sorted((SOURCES / "node").glob("*.js*"))

    def build(out: Path) -> None:
        for source in sources:
            shutil.copyfile(source, out / source.name)
        _run("npm packages", out, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")

    return ["node", str(_built("node", sources, build) / program), str(protos)]


def java(protos: Path) -> list[str]:
    """The command of the Java program, compiled against Debian's libraries."""
    _need("Java", "java", "javac", "protoc", "grpc_java_plugin", packages=JAVA_PACKAGES)
    missing = [name for name in (*COMPILED_WITH, *RUN_WITH) if not (JARS / f"{name}.jar").is_file()]
    natives = sorted(Path("/usr/lib").glob("*/jni/libnetty-tcnative.so"))
    if missing or not natives:
        pytest.skip(f"Java: no {', '.join(missing) or 'libnetty-tcnative.so'} in {JARS} (Debian: {JAVA_PACKAGES})")

    def build(out: Path) -> None:
        generated, classes = out / "generated", out / "classes"
        plugin = f"--plugin=protoc-gen-grpc-java={shutil.which('grpc_java_plugin')}"
        generated.mkdir()
        classes.mkdir()
        _run(
            "protoc", protos, "protoc", "-I.", plugin, f"--java_out={generated}", f"--grpc-java_out={generated}",
            *_names(protos, "zhiwang", "google/rpc"),
        )  # fmt: skip
        compiled = [str(path) for path in sorted(generated.rglob("*.java"))]
        _run(
            "javac", out, "javac", "-J-XX:TieredStopAtLevel=1", "--release", "8", "-Xlint:-options", "-proc:none",
            "-cp", _classpath(COMPILED_WITH), "-d", str(classes), str(SOURCES / "java" / "Caller.java"), *compiled,
        )  # fmt: skip
        # Debian's netty has no ALPN but OpenSSL's, and does not find Debian's library for it under Debian's name.
        shutil.copyfile(natives[0], out / "libnetty_tcnative.so")

    out = _built("java", [SOURCES / "java" / "Caller.java", *sorted(protos.rglob("*.proto"))], build)
    options = ["-XX:TieredStopAtLevel=1", "-Dfile.encoding=US-ASCII", f"-Djava.library.path={out}"]
    return ["java", *options, "-cp", f"{out / 'classes'}:{_classpath((*COMPILED_WITH, *RUN_WITH))}", "Caller"]


def go(protos: Path) -> list[str]:
    """The command of the Go program, compiled against Debian's libraries."""
    _need("Go", "go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc", packages=GO_PACKAGES)
    for package in ("google.golang.org/grpc", "google.golang.org/protobuf"):
        if not (GO_SOURCES / "src" / package).is_dir():
            pytest.skip(f"Go: {package} is not installed (Debian: {GO_PACKAGES})")

    def build(out: Path) -> None:
        (out / "src").mkdir()
        _run(
            "protoc", protos, "protoc", "-I.", f"--go_out={out / 'src'}", f"--go-grpc_out={out / 'src'}",
            *_names(protos, "zhiwang"),
        )  # fmt: skip
        environment = {"GO111MODULE": "off", "GOPATH": f"{out}:{GO_SOURCES}", "GOCACHE": str(BUILT / "go-cache")}
        _run("go build", out, "go", "build", "-o", "caller", str(SOURCES / "go" / "caller.go"), **environment)

    return [str(_built("go", [SOURCES / "go" / "caller.go", *sorted(protos.rglob("*.proto"))], build) / "caller")]


LANGUAGES: dict[str, Callable[[Path], list[str]]] = {"node": node, "java": java, "go": go}


def _need(language: str, *commands: str, packages: str = "") -> None:
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        pytest.skip(
            f"{language}: no {', '.join(missing)} on this machine" + (f" (Debian: {packages})" if packages else "")
        )


def _names(protos: Path, *folders: str) -> list[str]:
    return sorted(str(path.relative_to(protos)) for folder in folders for path in (protos / folder).rglob("*.proto"))


def _classpath(names: Sequence[str]) -> str:
    return ":".join(str(JARS / f"{name}.jar") for name in names)


def _built(language: str, sources: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """The folder of what `build` makes out of these sources, made once for all workers that run the tests."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    BUILT.mkdir(parents=True, exist_ok=True)
    out = BUILT / f"{language}-{digest.hexdigest()[:16]}"
    with (BUILT / f"{language}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / ".done").exists():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            build(out)
            (out / ".done").touch()
    return out


def _run(what: str, directory: Path, *command: str, **environment: str) -> None:
    done = subprocess.run(  # noqa: S603 - what is installed
        command, cwd=directory, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        if command[0] == "npm":  # no registry can be reached, or it lacks a package
            pytest.skip(f"{what} cannot be had: {said.splitlines()[0] if said else done.returncode}")
        pytest.fail(f"{what}: {said[-2000:]}")
