# SPDX-License-Identifier: Apache-2.0
"""A compiled file runs where this package does not: onnxruntime-web in Node, ONNX Runtime in Java, our own service as a
plain model, and a repository of the Triton Inference Server.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from google.protobuf import text_format

import lstm_explain as lx
from lstm_explain.compiled.triton import write_repository
from lstm_explain_proto.inference import grpc_service_pb2 as v2
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from tests.compiled.compiled_files import LEDGER, check_like_engine, run_file
from tests.serving.running import serving

ROOT = Path(__file__).parents[2]
PACKAGE = "onnxruntime-web@1.30.0"
JAR = "onnxruntime-1.22.0.jar"
AnyArray = npt.NDArray[Any]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Node finds onnxruntime-web."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node is not installed")
    folder = ROOT / "build" / "onnxruntime-web"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("run_in_node.mjs"), folder)
    (folder / "package.json").write_text('{"private": true}')
    if not (folder / "node_modules" / "onnxruntime-web").exists():
        line = ["npm", "install", "--no-audit", "--no-fund", "--no-save", PACKAGE]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr[-200:]}")
    return folder


def in_node(folder: Path, scratch: Path, proto: onnx.ModelProto, feeds: dict[str, AnyArray]) -> Any:
    (scratch / "model.onnx").write_bytes(proto.SerializeToString())
    told = {n: {"type": str(a.dtype), "dims": a.shape, "data": a.ravel().tolist()} for n, a in feeds.items()}
    (scratch / "feeds.json").write_text(json.dumps(told))
    paths = [str(scratch / name) for name in ("model.onnx", "feeds.json", "results.json")]
    done = subprocess.run(["node", "run_in_node.mjs", *paths], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads((scratch / "results.json").read_text())
    found = {n: np.array(r["data"], np.float32).reshape(r["dims"]) for n, r in results.items()}
    return named(found)


@pytest.fixture(scope="module")
def jar() -> Path:
    """ONNX Runtime for Java, from Maven Central."""
    if shutil.which("mvn") is None or shutil.which("java") is None:
        pytest.skip("Java with Maven is not installed")
    folder = ROOT / "build" / "onnxruntime-java"
    if not (folder / JAR).exists():
        artifact = f"com.microsoft.onnxruntime:onnxruntime:{JAR.removesuffix('.jar').partition('-')[2]}"
        line = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"Maven cannot fetch {artifact}: {done.stdout[-200:]}")
    return folder / JAR


@pytest.mark.parametrize("name", ["sentiment", "discharge"])
def test_onnx_runtime_in_java(jar: Path, tmp_path: Path, name: str) -> None:
    model = lx.load(ROOT / "models" / name)
    feeds = example(model)
    ((source, array),) = feeds.items()
    (tmp_path / "model.onnx").write_bytes(lx.compile(model).SerializeToString())
    (tmp_path / "input.bin").write_bytes(array.tobytes())
    dims = ",".join(map(str, array.shape))
    program = [str(Path(__file__).with_name("RunModel.java")), str(tmp_path / "model.onnx"), source]
    line = ["java", "-cp", str(jar), *program, str(array.dtype), dims, str(tmp_path / "input.bin")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = {}
    for output in done.stdout.splitlines():
        key, shape, numbers = output.split("\t")
        found[key] = np.array(json.loads(numbers), np.float32).reshape(json.loads(shape))
    check_like_engine(named(found), model.explain(feeds))


def named(found: dict[str, AnyArray]) -> Any:
    added = {"explained", *(f"ledger/{n}" for n in LEDGER)}
    return SimpleNamespace(
        relevance={n.removeprefix("relevance/"): a for n, a in found.items() if n.startswith("relevance/")},
        explained=found["explained"],
        ledger=SimpleNamespace(**{n: found[f"ledger/{n}"] for n in LEDGER}),
        outputs={n: a for n, a in found.items() if n not in added and not n.startswith("relevance/")},
    )


def example(model: lx.Model) -> dict[str, AnyArray]:
    ((name, spec),) = model.inputs.items()
    rng, shape = np.random.default_rng(0), (2, 12, *spec.shape[2:])
    given = rng.integers(2, 400, shape) if spec.dtype.kind == "i" else rng.standard_normal(shape)
    return {name: given.astype(spec.dtype)}


@pytest.mark.parametrize("method", ["lrp", "gradient_times_input", "integrated_gradients"])
@pytest.mark.parametrize("name", ["sentiment", "discharge"])
def test_onnxruntime_web_in_node(node: Path, tmp_path: Path, name: str, method: str) -> None:
    model = lx.load(ROOT / "models" / name)
    feeds = example(model)
    proto = lx.compile(model, method)
    if method == "integrated_gradients":  # the engine chooses other points; both runtimes take those of the file
        native = run_file(proto, feeds)
        found = in_node(node, tmp_path, proto, feeds)
        for key, expected in native.relevance.items():
            np.testing.assert_allclose(found.relevance[key], expected, atol=1e-4 * np.abs(expected).max())
        return
    check_like_engine(in_node(node, tmp_path, proto, feeds), model.explain(feeds, method))


def test_our_own_service_runs_a_compiled_file(tmp_path: Path) -> None:
    """As a plain model, by ModelInfer; and the engine explains it like the model that it was made from."""
    model = lx.load(ROOT / "models" / "sentiment")
    feeds, proto = example(model), lx.compile(model)
    folder = tmp_path / "models" / "explained" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    ((name, tokens),) = feeds.items()
    message = v2.ModelInferRequest(model_name="explained")
    kinds = {"int32": "INT32", "int64": "INT64"}
    message.inputs.add(name=name, datatype=kinds[str(tokens.dtype)], shape=tokens.shape)
    message.raw_input_contents.append(tokens.tobytes())
    with serving(tmp_path / "models") as server, server.channel() as channel:
        answer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=60)
    found = {
        output.name: np.frombuffer(raw, np.float32).reshape(output.shape)
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }
    expected = model.explain(feeds)
    check_like_engine(named(found), expected)
    again = lx.load(proto).explain(feeds)
    np.testing.assert_allclose(again.relevance[name], expected.relevance[name], atol=1e-5)


def test_a_repository_for_triton(tmp_path: Path) -> None:
    """Triton's own message reads the configuration, and it says what the file says."""
    model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    proto = lx.compile(ROOT / "models" / "sentiment", target="runtime")
    folder = write_repository(proto, tmp_path, "sentiment")
    assert onnx.load(folder / "1" / "model.onnx") == proto
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("sentiment", "onnxruntime", 0)
    assert [i.name for i in config.input] == [i.name for i in proto.graph.input]
    assert [o.name for o in config.output] == [o.name for o in proto.graph.output]
    by_name = {tensor.name: tensor for tensor in (*config.input, *config.output)}
    assert by_name["target"].data_type == model_config_pb2.TYPE_INT64
    assert list(by_name["relevance/tokens"].dims) == [-1, -1]
    assert list(by_name["explained"].dims) == [-1]
    assert by_name["explained"].data_type == model_config_pb2.TYPE_FP32
