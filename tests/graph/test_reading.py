# SPDX-License-Identifier: Apache-2.0
"""Content that a file may omit or store in another form: shapes, zeros of sparse tensors, names that are used twice."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from tests.builders import recurrent_model

W = np.array([[0.0, 2.0], [-1.5, 0.0], [0.0, 0.0]], np.float32)
WEIGHTS = helper.make_node("Constant", [], ["W"], value=numpy_helper.from_array(W))
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 4.0]], np.float32)


def sparse(indices: Any, values: Any = (2.0, -1.5), shape: tuple[int, ...] = (3, 2)) -> onnx.SparseTensorProto:
    kept = numpy_helper.from_array(np.array(values, np.float32), "W")
    return helper.make_sparse_tensor(kept, numpy_helper.from_array(np.array(indices, np.int64), "places"), list(shape))


def product(*before: onnx.NodeProto) -> onnx.ModelProto:
    """x [N, 3] W -> y [N, 2]."""
    nodes = [*before, helper.make_node("MatMul", ["x", "W"], ["y"], name="product")]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k]) for n, k in (("x", 3), ("y", 2)))
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def gradient(proto: onnx.ModelProto) -> npt.NDArray[Any]:
    e = lx.load(proto).explain({"x": X}, lx.Gradient(), lx.Target(index=1))
    np.testing.assert_allclose(e.outputs["y"], X @ W, rtol=1e-6)
    return e.relevance["x"]


@pytest.mark.parametrize("indices", [[1, 2], [[0, 1], [1, 0]]], ids=["flat", "coordinates"])
@pytest.mark.parametrize("where", ["initializer", "node"])
def test_sparse_weights(indices: Any, where: str) -> None:
    node = helper.make_node("Constant", [], ["W"], sparse_value=sparse(indices))
    proto = product(*[node] if where == "node" else [])
    if where == "initializer":
        proto.graph.sparse_initializer.append(sparse(indices))
    np.testing.assert_allclose(gradient(proto), [W[:, 1]] * 2)


def elsewhere() -> onnx.SparseTensorProto:
    tensor = sparse([1, 2])
    tensor.values.ClearField("raw_data")
    tensor.values.data_location = TensorProto.EXTERNAL
    tensor.values.external_data.add(key="location", value="/etc/hostname")
    return tensor


@pytest.mark.parametrize(
    "tensor",
    [
        sparse([1, 6]),
        sparse([[0, 1], [3, 0]]),
        sparse([1, 2], shape=(1 << 20, 1 << 20)),
        sparse([1, 2, 3]),
        elsewhere(),
    ],
    ids=["beyond-the-end", "beyond-an-axis", "huge", "too-many-places", "elsewhere"],
)
def test_invalid_sparse_weights_are_named(tensor: onnx.SparseTensorProto) -> None:
    proto = product()
    proto.graph.sparse_initializer.append(tensor)
    with pytest.raises(lx.ModelError):
        lx.load(proto)


def test_an_input_without_a_shape_gets_the_rank_that_its_readers_accept() -> None:
    built = recurrent_model(np.random.default_rng(3), sequence_lens=True, initial_states="input", head="Y_h")
    feeds = built.feeds(np.random.default_rng(4), T=5)
    bare = onnx.ModelProto()
    bare.CopyFrom(built.model)
    for value in bare.graph.input:
        value.type.tensor_type.ClearField("shape")
    model = lx.load(bare)
    assert {n: len(s.shape) for n, s in model.inputs.items()} == {n: a.ndim for n, a in feeds.items()}
    received, expected = (lx.load(m).explain(feeds, target=lx.Target(index=1)) for m in (bare, built.model))
    np.testing.assert_array_equal(received.relevance["x"], expected.relevance["x"])


def test_an_input_of_ambiguous_rank_is_named() -> None:
    proto = product(WEIGHTS)
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.ClearField("shape")
    with pytest.raises(lx.ModelError, match="input 'x' declares no shape, and ranks 1 to"):
        lx.load(proto)


def test_an_input_that_is_also_an_output_keeps_its_shape() -> None:
    proto = product(WEIGHTS)
    proto.graph.output.add(name="x").type.tensor_type.elem_type = TensorProto.FLOAT
    e = lx.load(proto).explain({"x": X}, lx.Gradient(), lx.Target(output="y", index=1))
    np.testing.assert_array_equal(e.outputs["x"], X)
    np.testing.assert_allclose(e.relevance["x"], [W[:, 1]] * 2)


def test_an_unsupported_operator_is_named_with_its_node() -> None:
    proto = product(helper.make_node("Frobnicate", ["x"], ["W"], name="strange", domain="com.example"))
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(lx.ModelError, match=r"node 'strange' \(com.example::Frobnicate\)"):
        lx.load(proto)


def test_nodes_in_any_order() -> None:
    """Some tools append casts after all other nodes; the values that a body reads count, too."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N,3] x) => (float[N,3] y) {
        y = Identity(s)
        s = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], body = step
            (float[N] e) => (float[N] o) { o = Add(e, offset) }>(doubled)
        offset = ReduceSum <keepdims = 0> (doubled, one)
        doubled = Mul(x, two)
        one = Constant <value = int64[1] {1}> ()
        two = Constant <value = float {2.0}> ()
    }"""
    e = lx.load(onnx.parser.parse_model(text)).explain({"x": X}, lx.Gradient(), lx.Target(index=1))
    np.testing.assert_allclose(e.outputs["y"], 2 * X + 2 * X.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(e.relevance["x"], [[2, 4, 2]] * 2)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"PK\x03\x04 torch.save", "but a zip archive, such as the files of PyTorch (.pt) and Keras (.keras); export"),
        (b"\x89HDF\r\n", "but HDF5, such as the files of Keras (.h5); export the model to ONNX first"),
    ],
)
def test_models_of_frameworks_are_recognised(data: bytes, kind: str) -> None:
    with pytest.raises(lx.ModelError, match=re.escape(f"not an ONNX file {kind}")):
        lx.load(data)


def _body(*outputs: str) -> onnx.GraphProto:
    nodes = [helper.make_node(op, ["x"], [name]) for op, name in zip(("Neg", "Tanh"), outputs, strict=True)]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in outputs]
    return helper.make_graph(nodes, "branch", [], infos)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("If", ["yes"], ["", "y"], then_branch=_body("a", "b"), else_branch=_body("c", "d")),
        helper.make_node("Split", ["x"], ["", "y"], axis=1),
    ],
    ids=lambda node: node.op_type,
)
def test_an_output_that_is_left_out_before_another(node: onnx.NodeProto) -> None:
    """ONNX Runtime alone ends the process."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None]) for name in ("x", "y")]
    infos[0].type.tensor_type.shape.dim[1].dim_value = 2
    given = [numpy_helper.from_array(np.array(True), "yes")] if node.op_type == "If" else []
    graph = helper.make_graph([node], "outputs", infos[:1], infos[1:], given)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.array([[1.0, 2.0]], np.float32)
    expected = np.tanh(x) if node.op_type == "If" else x[:, 1:]
    np.testing.assert_allclose(lx.load(proto).predict({"x": x})["y"], expected, rtol=1e-6)
