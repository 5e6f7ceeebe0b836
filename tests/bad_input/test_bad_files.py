# SPDX-License-Identifier: Apache-2.0
"""Files that are no models, or that would take too much, are refused with one clear error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from tests.bad_input.example import BUILT, BYTES, tiny
from tests.graph_builder import GraphBuilder


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\x00" * 100,
        b"not a model",
        bytes(range(256)) * 4,
        b"\x89PNG\r\n\x1a\n",
        BYTES[: len(BYTES) // 2],
        BYTES[:-20],
        BYTES[20:],
        BYTES[::-1],
        onnx.ModelProto(),
        onnx.ModelProto().SerializeToString(),
    ],
    ids=[
        "empty",
        "zeros",
        "text",
        "garbage",
        "png",
        "half",
        "cut",
        "beheaded",
        "reversed",
        "no-graph",
        "no-graph-bytes",
    ],
)
def test_an_invalid_model_is_refused(source: Any) -> None:
    with pytest.raises(lx.ModelError) as refused:
        lx.load(source)
    assert len(str(refused.value)) > 10


def test_no_truncation_crashes() -> None:
    refused = 0
    for end in np.linspace(0, len(BYTES) - 1, 60).astype(int):
        try:
            lx.load(BYTES[:end])
        except lx.ModelError:
            refused += 1
    assert refused >= 55


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.onnx", str(tmp_path / "nothing.onnx"), tmp_path):
        with pytest.raises(lx.ModelError, match=r"file|directory"):
            lx.load(path)


def test_a_file_that_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for content in (b"", b"hello", BYTES[:500]):
        path.write_bytes(content)
        with pytest.raises(lx.ModelError):
            lx.load(path)


def test_a_model_that_ends_the_process_of_shape_inference_is_refused_and_the_next_is_loaded() -> None:
    """A kernel wider than its input leaves fewer than no steps, of which a Slice asserts."""
    g = GraphBuilder(np.float32, 17)
    conv = g.op("Conv", [g.input("x", ["B", 1, 4]), g.constant(np.ones((1, 1, 9)), "W")])
    g.op("Slice", [conv, g.ints(-1), g.ints(5), g.ints(2)], "last")
    graph = helper.make_graph(
        g.nodes,
        "g",
        g.inputs,
        [helper.make_tensor_value_info("last_out", TensorProto.FLOAT, ["B", 1, "T"])],
        [*g.initializers.values()],
    )
    for _ in range(2):
        with pytest.raises(lx.ModelError, match="crashes"):
            lx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
        lx.load(BUILT.model)


def test_a_model_that_would_end_it_once_constants_are_folded_is_refused() -> None:
    """An Expand to a computed shape of -1, of which a Slice asserts as soon as the shape is known."""
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        folded (float[B] x) => (float[B] y) <int64[1] one = {1}, int64[1] none = {0}, float[1] zero = {0.0}> {
            minus = Neg(one)
            zeros = Expand(zero, minus)
            first = Slice(zeros, none, one, none)
            y = Add(x, first)
        }"""
    for _ in range(2):
        with pytest.raises(lx.ModelError, match="crashes"):
            lx.load(onnx.parser.parse_model(text))
        lx.load(BUILT.model)


def test_minus_one_for_an_unknown_extent() -> None:
    g = GraphBuilder(np.float32, 17)
    proto = g.model(g.op("Tanh", [g.input("x", ["B", 4])]), ["B", 4], rename="y")
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    e = lx.load(proto).explain({"x": np.ones((2, 4), np.float32)}, target=lx.Target(index=1))
    np.testing.assert_allclose(e.relevance["x"], [[0, np.tanh(1), 0, 0]] * 2, rtol=1e-6)


GREEDY = """
import sys, numpy as np, lstm_explain as lx
model = lx.load(sys.stdin.buffer.read())
for count in (50_000_000, 10):
    try:
        e = model.explain({"x": np.ones((1, 1), np.float32), "shape": np.array([1, count])})
        print(e.explained)
    except lx.InputError as error:
        print(error)
"""


def test_a_call_that_needs_too_much_memory_is_refused_and_the_next_is_answered() -> None:
    """200 MB of ones, where 100 MB are allowed."""
    g = GraphBuilder(np.float32, 17)
    ones = g.op("Expand", [g.input("x", ["B", 1]), g.input("shape", [2], TensorProto.INT64)])
    proto = g.model(g.op("ReduceSum", [ones, g.ints(1)]), ["B", 1], rename="y")
    done = subprocess.run(
        [sys.executable, "-c", GREEDY],
        input=proto.SerializeToString(),
        env=os.environ | {"LSTM_EXPLAIN_MAX_RUNTIME_BYTES": "100000000"},
        capture_output=True,
        check=True,
    )
    refused, answered = done.stdout.decode().splitlines()
    assert "LSTM_EXPLAIN_MAX_RUNTIME_BYTES=100000000" in refused
    assert answered == "[10.]"


@pytest.mark.parametrize("domain", ["", "com.example"])
def test_an_unknown_operator_is_named(domain: str) -> None:
    """On loading if it claims to be ONNX's own, else when it is to be explained."""
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="strange", domain=domain)
    with pytest.raises(lx.Error, match="Frobnicate"):
        lx.load(tiny(node, [helper.make_opsetid(domain, 1)] if domain else [])).explain(
            {"x": np.ones((1, 4), np.float32)}
        )


def test_a_message_stays_short_whatever_name_it_quotes() -> None:
    """It travels in a gRPC trailer."""
    with pytest.raises(lx.Error, match="Frobnicate") as refused:
        lx.load(tiny(helper.make_node("Frobnicate" * 100_000, ["x"], ["y"])))
    assert len(str(refused.value)) < 2100


def test_a_graph_with_a_missing_value_or_a_cycle_is_refused() -> None:
    with pytest.raises(lx.ModelError):
        lx.load(tiny(helper.make_node("Add", ["x", "nowhere"], ["y"])))
    with pytest.raises(lx.ModelError):
        lx.load(tiny(helper.make_node("Add", ["x", "y"], ["y"])))
