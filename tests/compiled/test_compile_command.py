# SPDX-License-Identifier: Apache-2.0
"""`lstm-explain compile` writes a file that ONNX Runtime runs alone, and says what it cannot compile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

import lstm_explain as lx
from tests import zoo
from tests.compiled.compiled_files import check_like_engine, run_file
from tests.graph_builder import GraphBuilder

MODELS = Path(__file__).parents[2] / "models"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "lstm_explain.cli", "compile", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def test_a_model_folder_with_a_target_at_run_time(tmp_path: Path) -> None:
    out = tmp_path / "sentiment.onnx"
    done = command(MODELS / "sentiment", "--out", out, "--target", "runtime", "--param", "product_rule=all")
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    proto, model = onnx.load(out), lx.load(MODELS / "sentiment")
    tokens = np.random.default_rng(0).integers(2, 500, (2, 9))
    (name,) = model.inputs
    tokens = tokens.astype(model.inputs[name].dtype)
    for index in (0, 3):
        found = run_file(proto, {name: tokens, "target": np.full(2, index)})
        check_like_engine(found, model.explain({name: tokens}, target=index))
    largest = run_file(proto, {name: tokens, "target": np.full(2, -1)})
    check_like_engine(largest, model.explain({name: tokens}))


def test_metadata_say_what_the_file_computes(tmp_path: Path) -> None:
    case, out = zoo.load("t_lstm_last_legacy17"), tmp_path / "out.onnx"
    done = command(
        case.path, "--out", out, "--method", "lrp", "--param", "epsilon=0.01", "--target", "1", "--opset", 20
    )
    assert done.returncode == 0, done.stderr
    session = ort.InferenceSession(str(out))
    found = session.get_modelmeta().custom_metadata_map
    assert found["lstm_explain.method"] == "lrp"
    assert json.loads(found["lstm_explain.parameters"])["epsilon"] == 0.01
    assert json.loads(found["lstm_explain.target"]) == 1
    assert found["lstm_explain.version"] == lx.__version__
    assert len(found["lstm_explain.source_sha256"]) == 64
    assert [(o.domain, o.version) for o in onnx.load(out).opset_import] == [("", 20)]
    assert [o.name for o in session.get_outputs()] == [
        "y", "relevance/x", "explained", "ledger/inputs", "ledger/initial_states", "ledger/absorbed", "ledger/residual",
    ]  # fmt: skip


def test_what_cannot_be_compiled_is_named(tmp_path: Path) -> None:
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", 4])
    model = g.model(g.op("Det", [g.op("Reshape", [x, g.constant(np.array([-1, 2, 2]), "shape")])]), ["B"])
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(model, path)
    done = command(path, "--out", out)
    assert done.returncode == 1
    assert "Det" in done.stderr
    assert not out.exists()


def test_arguments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path, out = zoo.load("t_lstm_last_legacy17").path, tmp_path / "out.onnx"
    for arguments, named in (
        (("--method", "occlusion"), "occlusion"),
        (("--opset", "9"), "opset"),
        (("--target", "99"), "99"),
        (("--target", "nowhere:runtime"), "nowhere"),
    ):
        done = command(path, "--out", out, *arguments)
        assert done.returncode == 2, done.stdout
        assert named in done.stderr
        assert not out.exists()
