# SPDX-License-Identifier: Apache-2.0
"""Regenerate the stubs of the clients from the .proto files, for every language whose tools are installed.

Each language is one function, `generate_<language>(out)`, in LANGUAGES. Plug-ins are pinned here or in the client's own
lock file. Java is not here, because its build (client/java/pom.xml, which pins protoc and the plug-in) generates the
stubs from proto/ each time; they are not committed, so they cannot be stale. C++ is not here, because its stubs fit
only one version of libprotobuf, that of the machine; the CMake build of client/cpp generates them.

protoc writes absolute imports of `lstm_explain.v1`, the server's own package; the stubs are in a separate package,
so that the client does not need the server, and the imports are rewritten accordingly.

Names of messages are global in a process. A program that also uses another implementation of the Open Inference
Protocol (tritonclient contains one) would define them twice, so the stubs of `inference` get their own descriptor pool.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
CONFIG = Path("lstm_explain") / "v1" / "service_config.json"
PACKAGE = "lstm_explain_proto"
OWN_POOL = "inference"
# The clients of other languages speak this; the Open Inference Protocol has clients of its own.
OURS = ("lstm_explain/v1/explanation.proto", "lstm_explain/v1/method.proto", "lstm_explain/v1/model.proto",
        "lstm_explain/v1/operation.proto", "lstm_explain/v1/tensor.proto")  # fmt: skip
GO_PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.10",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0",
)
GO_PACKAGE = "github.com/lstm-explain/lstm-explain/client/go/explainv1"


@dataclass(frozen=True)
class Language:
    """folder: where the committed stubs are.

    tools: the commands that it requires. generate: writes the stubs to a folder.
    """

    folder: str
    tools: tuple[str, ...]
    generate: Callable[[Path], None]

    def missing(self) -> list[str]:
        return [tool for tool in self.tools if shutil.which(tool) is None]


def compile_protos(sources: list[str] | tuple[str, ...], *arguments: str) -> None:
    if protoc.main(["protoc", f"-I{PROTO}", *arguments, *sources]):
        sys.exit("protoc failed")


def generate_python(out: Path) -> None:
    """Writes the package of stubs into the folder `out`."""
    package = out / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(p.relative_to(PROTO)) for p in PROTO.glob("*/**/*.proto"))
    compile_protos(sources, *(f"--{kind}_out={package}" for kind in ("python", "pyi", "grpc_python")))
    folders = {package, *(package / parent for s in sources for parent in Path(s).parents)}
    for folder in folders:
        (folder / "__init__.py").write_text('"""Generated from proto/ by `make proto`; do not edit."""\n')
    (package / CONFIG).write_bytes((PROTO / CONFIG).read_bytes())
    tops = "|".join(sorted({Path(s).parts[0] for s in sources}))
    for stub in (*package.rglob("*_pb2*.py"), *package.rglob("*_pb2*.pyi")):  # not the compiled ones
        text = stub.read_text()
        text = re.sub(rf"^from ({tops})((?:\.\w+)*) import", rf"from {PACKAGE}.\1\2 import", text, flags=re.M)
        text = re.sub(rf"^import (({tops})(?:\.\w+)*)_pb2 as", rf"import {PACKAGE}.\1_pb2 as", text, flags=re.M)
        if stub.parent.name == OWN_POOL:
            text = text.replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()")
        stub.write_text(text)


def generate_go(out: Path) -> None:
    """The package explainv1 of the Go module, and the service config that it embeds."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tools:
        for plugin in GO_PLUGINS:
            environment = {**os.environ, "GOBIN": tools, "GOFLAGS": "-mod=mod"}
            subprocess.run(["go", "install", plugin], check=True, env=environment, cwd=tools)
        options = []
        for kind in ("go", "go-grpc"):
            options += [f"--plugin=protoc-gen-{kind}={tools}/protoc-gen-{kind}", f"--{kind}_out={out}"]
            options += [f"--{kind}_opt=module={GO_PACKAGE}", *(f"--{kind}_opt=M{s}={GO_PACKAGE}" for s in OURS)]
        compile_protos(OURS, *options)
    (out / CONFIG.name).write_bytes((PROTO / CONFIG).read_bytes())


def generate_rust(out: Path) -> None:
    """Messages, stubs and the retry policy of the Rust crate; its lock file pins what generates them."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        descriptors = f"{folder}/descriptors.binpb"
        compile_protos(OURS, f"--descriptor_set_out={descriptors}", "--include_imports", "--include_source_info")
        run = ("cargo", "run", "--quiet", "--locked", "--package", "codegen", "--", str(out.absolute()), descriptors)
        subprocess.run(run, check=True, cwd=ROOT / "client" / "rust")


def generate_typescript(out: Path) -> None:
    """Modules for grpc-js, by the ts-proto of the client's lock file; and the service config as one."""
    client = ROOT / "client" / "typescript"
    plugin = client / "node_modules" / ".bin" / "protoc-gen-ts_proto"
    if not plugin.exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], check=True, cwd=client)
    out.mkdir(parents=True, exist_ok=True)
    options = ("env=node", "outputServices=grpc-js", "oneof=unions-value", "forceLong=bigint", "importSuffix=.js",
               "esModuleInterop=true", "outputJsonMethods=false")  # fmt: skip
    compile_protos(
        OURS,
        f"--plugin=protoc-gen-ts_proto={plugin}",
        f"--ts_proto_out={out}",
        *(f"--ts_proto_opt={option}" for option in options),
    )
    head = "// Generated from proto/ by `make proto`; do not edit.\n"
    config = (PROTO / CONFIG).read_text().strip()
    (out / CONFIG.with_suffix(".ts")).write_text(f"{head}export default {config};\n")


LANGUAGES = {
    "python": Language("proto/python", (), generate_python),
    "go": Language("client/go/explainv1", ("go",), generate_go),
    "rust": Language("client/rust/src/proto", ("cargo",), generate_rust),
    "typescript": Language("client/typescript/src/generated", ("node", "npm"), generate_typescript),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help=f"of {', '.join(LANGUAGES)}; default: all")
    chosen = parser.parse_args().languages or list(LANGUAGES)
    for name in chosen:
        language = LANGUAGES[name]
        if missing := language.missing():
            print(f"{name}: skipped, there is no {', '.join(missing)}")
            continue
        language.generate(ROOT / language.folder)
        print(f"{name}: {language.folder}")
