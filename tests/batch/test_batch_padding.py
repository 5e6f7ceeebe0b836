# SPDX-License-Identifier: Apache-2.0
"""Rows of different lengths share a batch only where that changes nothing, whatever the graph looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from tests.batch.data import DISCHARGE, MODEL, check_same, in_this_process, pa, pq, results, weather, write
from tests.builders import recurrent_model


def ragged(count: int, features: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(2)
    return [rng.standard_normal((rng.integers(1, 30), features)).astype("f4") for _ in range(count)]


def explained(folder: Path, proto: onnx.ModelProto, columns: dict[str, list[Any]], *flags: object) -> Any:
    """The rows, and whether batches were padded."""
    onnx.save(proto, str(folder / "m.onnx"))
    pq.write_table(pa.table(columns), folder / "in.parquet")
    arguments = ("--model", folder / "m.onnx", "--input", folder / "in.parquet", "--output", folder / "out")
    assert in_this_process(*arguments, *flags) == 0
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    return results(folder / "out").to_pylist(), manifest["padding"]["allowed"]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("head", "padded"), [("Y_h", True), ("mean", False)])
def test_a_model_with_an_input_of_lengths(tmp_path: Path, head: Any, padded: bool, batch_first: bool) -> None:
    """A mean over all steps depends on padding although the recurrent node does not. The command counts the lengths."""
    built = recurrent_model(np.random.default_rng(0), sequence_lens=True, head=head, batch_first=batch_first, H=9)
    rows = ragged(90, 4)
    found, allowed = explained(tmp_path, built.model, {"x": [row.tolist() for row in rows]})
    assert allowed is padded
    model, axis = lx.load(built.model), 0 if batch_first else 1
    for row, x in zip(found, rows, strict=True):
        alone = model.explain({"x": np.expand_dims(x, axis), "lens": np.array([len(x)], np.int32)})
        check_same(np.array(row["relevance/x"]), alone.relevance["x"].take(0, axis))
    assert "relevance/lens" not in found[0]


def test_lengths_may_come_with_the_data(tmp_path: Path) -> None:
    built = recurrent_model(np.random.default_rng(0), sequence_lens=True, head="Y_h", batch_first=True, H=9)
    rows = ragged(40, 4)
    lengths = [max(1, len(row) - 3) for row in rows]
    columns = {"x": [row.tolist() for row in rows], "n": lengths}
    found, _ = explained(tmp_path, built.model, columns, "--column", "lens=n")
    model = lx.load(built.model)
    for row, x, n in zip(found, rows, lengths, strict=True):
        alone = model.explain({"x": x[None], "lens": np.array([n], np.int32)})
        check_same(np.array(row["relevance/x"]), alone.relevance["x"][0])


def test_an_output_for_every_step_is_cut_to_the_rows_own(tmp_path: Path) -> None:
    """The model is the LSTM alone, whose output Y [T, 1, B, H] is zero after the end of a sequence."""
    shapes = {"W": (1, 12, 4), "R": (1, 12, 3)}
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype("f4"), n) for n, s in shapes.items()]
    node = helper.make_node("LSTM", ["x", "W", "R", "", "lens"], ["y"], hidden_size=3)
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", 4]),
        helper.make_tensor_value_info("lens", TensorProto.INT32, ["B"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", 1, "B", 3])
    graph = helper.make_graph([node], "steps", inputs, [output], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.yaml").write_text("batch_axis: {x: 1, y: 2}")
    rows = ragged(40, 4)
    found, allowed = explained(tmp_path, proto, {"x": [row.tolist() for row in rows]}, "--target", "0,0,1")
    assert allowed
    model = lx.load(proto)
    for row, x in zip(found, rows, strict=True):
        feeds = {"x": x[:, None], "lens": np.array([len(x)], np.int32)}
        alone = model.explain(feeds, target=lx.Target(index=(0, 0, 1), batch_axis=2))
        check_same(np.array(row["output/y"]), alone.outputs["y"][:, :, 0])
        check_same(np.array(row["relevance/x"]), alone.relevance["x"][:, 0])


def test_without_lengths_batches_are_of_one_length(tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", weather(30))
    assert in_this_process("--model", DISCHARGE, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out") == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["padding"] == {"allowed": False, "trims": None}


def test_a_window_in_which_padding_changes_answers_is_repeated(tmp_path: Path) -> None:
    """One row in each window is also explained alone. Here, the first rows suggest wrongly that padding is harmless."""
    from lstm_explain.batch.explain import Explainer, Padding
    from lstm_explain.batch.feed import feed_of
    from lstm_explain.repository.model_folder import find_model
    from lstm_explain.repository.served_model import load_served

    served = load_served(find_model(MODEL))
    feed = feed_of(served, {}, ["weather"])
    rows = weather(50)
    column = pa.array([row.tolist() for row in rows], pa.list_(pa.list_(pa.float32())))
    explainer = Explainer(
        served.model, feed, served.default_method, served.default_target, {"discharge": 0}, Padding(True)
    )
    for answer, x in zip(explainer.explain(feed.rows({"weather": column})), rows, strict=True):
        alone = served.model.explain({"weather": x[None]}, served.default_method)
        check_same(answer.relevance["weather"], alone.relevance["weather"][0])


def test_a_model_of_one_sample_at_a_time(tmp_path: Path) -> None:
    """Exported with a batch of 1."""
    from tests.builders import recurrent_model as build

    built = build(np.random.default_rng(0), batch_first=True)
    proto = onnx.ModelProto()
    proto.CopyFrom(built.model)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del proto.graph.value_info[:]
    rows = ragged(10, 4)
    found, _ = explained(tmp_path, proto, {"x": [row.tolist() for row in rows]})
    model = lx.load(proto)
    for row, x in zip(found, rows, strict=True):
        check_same(np.array(row["relevance/x"]), model.explain({"x": x[None]}).relevance["x"][0])
