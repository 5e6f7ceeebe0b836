# SPDX-License-Identifier: Apache-2.0
"""The clients, and how to build and run their conformance runners."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Runner:
    """A client's runner.

    tools: commands that have to be on the PATH. libraries: what pkg-config has to know. build: commands run one after
    another in `folder`. run: the command to which `conformance …` or `latency …` is added, run from the root of the
    repository. test: its own tests, run in `folder`; none where pytest has them. example: run in `folder` with an
    address and a sentence, explains it.
    """

    client: str
    folder: str
    tools: tuple[str, ...]
    build: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]
    test: tuple[str, ...] = ()
    example: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The tools and libraries that are missing."""
        tools = [tool for tool in self.tools if shutil.which(tool) is None]
        return tools or [library for library in self.libraries if not _installed(library)]

    def make(self) -> None:
        """Builds the runner, once; raises AssertionError with the output of the tools."""
        _made(self)


@functools.cache
def _installed(library: str) -> bool:
    return subprocess.run(("pkg-config", "--exists", library), check=False).returncode == 0


@functools.cache
def _made(runner: Runner) -> None:
    for command in runner.build:
        done = subprocess.run(command, cwd=ROOT / runner.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def _rust(*profile: str, folder: str) -> Runner:
    """profile: flags of cargo that choose one. folder: where cargo writes what it builds with it."""
    flags = ("--quiet", *profile, "--locked", "--target-dir", "target")
    packages = ("--package", "lstm-explain-client", "--package", "conformance")
    return Runner(
        "rust",
        "client/rust",
        ("cargo",),
        (("cargo", "build", *flags, *packages),),
        (f"client/rust/target/{folder}/conformance",),
        test=("cargo", "test", *flags),
        example=("cargo", "run", *flags, "--example", "sentiment", "--"),
    )


JAVA_PATH = "{0}target/classes:{0}target/test-classes:{0}target/lib/*"

RUNNERS = (
    Runner("python", "client/python", (), (), (sys.executable, "client/python/conformance/runner.py")),
    Runner(
        "python-asyncio", "client/python", (), (), (sys.executable, "client/python/conformance/runner.py", "--asyncio")
    ),
    Runner(
        "go",
        "client/go",
        ("go",),
        (("go", "build", "-o", "build/conformance", "./cmd/conformance"),),
        ("client/go/build/conformance",),
        test=("go", "test", "./..."),
        example=("go", "run", "./example"),
    ),
    _rust(folder="debug"),  # built in less than half the time of an optimised one
    Runner(
        "typescript",
        "client/typescript",
        ("node", "npm"),
        (("npm", "ci", "--no-audit", "--no-fund"), ("npm", "run", "build")),
        ("node", "client/typescript/dist/conformance/runner.js"),
        test=("npm", "test"),
        example=("npm", "run", "--silent", "example", "--"),
    ),
    Runner(
        "java",
        "client/java",
        ("java", "mvn"),
        (("mvn", "-B", "-ntp", "-DskipTests", "-Dmaven.compiler.failOnWarning=true", "package"),),
        ("java", "-cp", JAVA_PATH.format("client/java/"), "lstmexplain.conformance.Runner"),
        test=("mvn", "-B", "-q", "-ntp", "surefire:test"),
        example=("java", "-cp", JAVA_PATH.format(""), "lstmexplain.example.Sentiment"),
    ),
    Runner(
        "cpp",
        "client/cpp",
        ("cmake", "c++", "protoc", "grpc_cpp_plugin", "pkg-config"),
        (
            ("cmake", "-S", ".", "-B", "build", "-DCMAKE_CXX_FLAGS_RELEASE=-O0"),
            ("cmake", "--build", "build", "--parallel", "2"),
        ),
        ("client/cpp/build/conformance",),
        test=("ctest", "--test-dir", "build", "--output-on-failure"),
        example=("build/sentiment",),
        libraries=("grpc++", "protobuf", "openssl", "nlohmann_json", "gtest"),
    ),
)

OPTIMISED = tuple(_rust("--release", folder="release") if r.client == "rust" else r for r in RUNNERS)  # to be measured
