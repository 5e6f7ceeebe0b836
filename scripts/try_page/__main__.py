# SPDX-License-Identifier: Apache-2.0
"""`python scripts/try_page [--out FOLDER]`: builds the page that explains without a server (`make try`).

It consists of the server's own page, of `local.js`, which stands in for the server, of compiled models, and of
onnxruntime-web and a tokenizer from npm. Any server of static files can offer the folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import onnx
from google.protobuf.json_format import MessageToDict
from onnx.external_data_helper import set_external_data

import lstm_explain as lx
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from demo import server  # noqa: E402 - a script beside this folder

PAGE = ROOT / "server" / "lstm_explain" / "serving" / "web" / "static"
OUT = ROOT / "docs" / "try"
MODELS = ("sentiment", "discharge")
# Methods by their names on the wire. Targets are chosen when the file runs, where there are several.
METHODS = {"lrp": "lrp", "gradientTimesInput": "gradient_times_input"}
PACKAGES = {"onnxruntime-web": "1.30.0", "@huggingface/tokenizers": "0.2.0"}
FROM_PACKAGES = (
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "@huggingface/tokenizers/dist/tokenizers.min.mjs",
)
SHARED = 1 << 10  # bytes from which weights are stored once for all files
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
NOTE = (
    '  <p class="note">The models run in this browser, by WebAssembly. Nothing that you type leaves it. '
    '<a href="https://github.com/lstm-explain/lstm-explain">How it works</a></p>'
)
STYLE = """
/* A compiled file explains one class, and refreshing finds no other models. */
.row:has(> #contrast), #reload { display: none; }
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="make try", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    out: Path = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    _copy_page(out)
    for name in FROM_PACKAGES:
        shutil.copy(_packages() / name, out)
    files = {name: _compiled(name, out) for name in MODELS}
    (out / "models.json").write_text(json.dumps({"details": _details(), "files": files}))
    own = sum(path.stat().st_size for path in out.iterdir() if path.suffix != ".wasm")
    print(f"{out}: {own / 1e6:.1f} MB, and onnxruntime-web's WebAssembly.")
    print(f"Look at it with: {sys.executable} -m http.server --bind 127.0.0.1 --directory {out} 8000")


def _copy_page(out: Path) -> None:
    for path in PAGE.iterdir():
        shutil.copy(path, out)
    for path in HERE.glob("*.js"):
        shutil.copy(path, out / ("rpc.js" if path.name == "local.js" else path.name))
    index = (out / "index.html").read_text()
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    for mark, both in (('<meta charset="utf-8">', "{0}\n{1}"), ("</header>", "{1}\n{0}")):
        assert index.count(mark) == 1, mark
        index = index.replace(mark, both.format(mark, NOTE if mark == "</header>" else policy))
    (out / "index.html").write_text(index)
    with (out / "page.css").open("a") as style:
        style.write(STYLE)
    (out / "method_table.js").rename(out / "all_methods.js")
    (out / "method_table.js").write_text(
        "// The compiled methods; their parameters are part of the files.\n"
        'import { METHODS as ALL } from "./all_methods.js";\n'
        f"const COMPILED = {json.dumps(list(METHODS))};\n"
        "export const METHODS = ALL.filter(({ key }) => COMPILED.includes(key))"
        ".map((method) => ({ ...method, parameters: [] }));\n"
    )


def _packages() -> Path:
    """Returns the folder of the packages, after installing them unless they are there."""
    folder = ROOT / "build" / "try_page"
    wanted = json.dumps({"private": True, "dependencies": PACKAGES})
    manifest = folder / "package.json"
    if not (folder / "installed").exists() or manifest.read_text() != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        manifest.write_text(wanted)
        line = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(line, cwd=folder, check=True, timeout=600)
        (folder / "installed").touch()
    return folder / "node_modules"


def _compiled(name: str, out: Path) -> dict[str, Any]:
    """Compiles a model by every method, and stores weights that several of the files read only once."""
    folder, weights, offsets = ROOT / "models" / name, bytearray(), dict[bytes, int]()
    several = any(spec.shape[-1] != 1 for spec in lx.load(folder).outputs.values())
    compiled: dict[str, Any] = {}
    for key, method in METHODS.items():
        file = out / f"{name}-{method}.onnx"
        line = [
            sys.executable,
            "-m",
            "lstm_explain.cli",
            "compile",
            str(folder),
            "--out",
            str(file),
            "--method",
            method,
        ]
        subprocess.run([*line, *(["--target", "runtime"] if several else [])], check=True, stdout=subprocess.PIPE)
        proto = onnx.load(file)
        for tensor in _initializers(proto.graph):
            if len(tensor.raw_data) >= SHARED:
                offset = offsets.setdefault(hashlib.sha256(tensor.raw_data).digest(), len(weights))
                if offset == len(weights):
                    weights += tensor.raw_data
                set_external_data(tensor, f"{name}.weights", offset, len(tensor.raw_data))
                tensor.ClearField("raw_data")
        file.write_bytes(proto.SerializeToString())
        compiled[key] = {"graph": file.name, "weights": f"{name}.weights"}
    (out / f"{name}.weights").write_bytes(weights)
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.exists():
        return {"compiled": compiled}
    smaller = json.dumps(json.loads(tokenizer.read_text()), separators=(",", ":"))
    (out / f"{name}-tokenizer.json").write_text(smaller)
    return {"compiled": compiled, "tokenizer": f"{name}-tokenizer.json"}


def _initializers(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Of the graph and of the bodies of its nodes."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _initializers(attribute.g)
    return found


def _details() -> list[dict[str, Any]]:
    """Returns what the server says of the models, as its page reads it."""
    with server() as address, grpc.insecure_channel(address) as channel:
        stub = model_pb2_grpc.ModelServiceStub(channel)
        answers = [stub.GetModel(model_pb2.GetModelRequest(name=name), timeout=60) for name in MODELS]
    details: list[dict[str, Any]] = [MessageToDict(answer.model) for answer in answers]
    return [{key: value for key, value in detail.items() if key != "nodes"} for detail in details]


if __name__ == "__main__":
    main()
