# SPDX-License-Identifier: Apache-2.0
"""Loading takes time in proportion to nodes and initializers; models that would take too long are refused at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from lstm_explain.graph import shape_inference
from lstm_explain.graph.read import read
from lstm_explain.graph.shape_inference import infer_shapes

OPSET = helper.make_opsetid("", 17)


def floats(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 4])


def model(
    nodes: list[onnx.NodeProto], constants: int = 0, inputs: tuple[str, ...] = ("x",), outputs: tuple[str, ...] = ("y",)
) -> onnx.ModelProto:
    """`constants` initializers c0, c1, … of four numbers each."""
    arrays = [numpy_helper.from_array(np.ones(4, np.float32), f"c{i}") for i in range(constants)]
    graph = helper.make_graph(nodes, "g", [floats(n) for n in inputs], [floats(n) for n in outputs], arrays)
    return helper.make_model(graph, opset_imports=[OPSET], ir_version=8)


def chain(count: int, op: str = "Relu", name: str = "n{}", more: str = "", backwards: bool = False) -> onnx.ModelProto:
    """Each node reads the output of the previous one, and perhaps a constant of its own."""
    values = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [
        helper.make_node(op, [values[i], more.format(i)] if more else [values[i]], [values[i + 1]], name=name.format(i))
        for i in range(count)
    ]
    return model(nodes[::-1] if backwards else nodes, count if more.startswith("c") else 0)


def branches(count: int) -> onnx.ModelProto:
    """A sequence of Ifs on constants, over as many constants that they do not read."""
    values = ["x", *(f"v{i}" for i in range(count - 1)), "y"]

    def body(op: str, i: int) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(op, [values[i]], [f"{op}{i}"])], op, [], [floats(f"{op}{i}")])

    nodes = [helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))]
    nodes += [
        helper.make_node("If", ["yes"], [values[i + 1]], then_branch=body("Relu", i), else_branch=body("Tanh", i))
        for i in range(count)
    ]
    return model(nodes, count)


def bodies(count: int) -> onnx.ModelProto:
    """A sequence of Ifs on inputs. Both branches read a constant of their own; 89 times as many are not read."""
    values = ["x", *(f"v{i}" for i in range(count - 1)), "y"]

    def body(op: str, i: int) -> onnx.GraphProto:
        nodes = [helper.make_node(op, [values[i]], [f"{op}{i}"]), helper.make_node("Add", [f"{op}{i}", f"c{i}"], ["z"])]
        return helper.make_graph(nodes, op, [], [floats("z")])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["yes"], to=9),
    ]
    nodes += [
        helper.make_node("If", ["yes"], [values[i + 1]], then_branch=body("Relu", i), else_branch=body("Tanh", i))
        for i in range(count)
    ]
    return model(nodes, 90 * count)


def inside_a_body(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The whole model in a branch of an If."""
    outer = model([])
    then = helper.make_graph(proto.graph.node, "then", [], [floats("y_then")], proto.graph.initializer)
    then.node[-1].output[0] = "y_then"
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["y_else"])], "else", [], [floats("y_else")])
    some = helper.make_node("ReduceSum", ["x"], ["outer_sum"], keepdims=0)
    cast = helper.make_node("Cast", ["outer_sum"], ["outer"], to=9)
    outer.graph.node.extend([some, cast, helper.make_node("If", ["outer"], ["y"], then_branch=then, else_branch=other)])
    return outer


def recurrent(count: int) -> onnx.ModelProto:
    """A sequence of RNNs, each of which is a step of a plan, with nodes between them."""
    values = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = []
    for i in range(count):
        nodes.append(helper.make_node("RNN", [values[i], "W", "W"], [f"s{i}"], hidden_size=4, name=f"rnn{i}"))
        nodes.append(helper.make_node("Squeeze", [f"s{i}", "axis"], [values[i + 1]]))
    proto = model(nodes)
    W = np.random.default_rng(0).normal(size=(1, 4, 4)).astype(np.float32)
    constants = [numpy_helper.from_array(W, "W"), numpy_helper.from_array(np.array([1]), "axis")]
    proto.graph.initializer.extend(constants)
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["T", "B", 4]))
    return proto


def many_inputs(count: int) -> onnx.ModelProto:
    names = tuple(f"x{i}" for i in range(count))
    return model([helper.make_node("Sum", names, ["y"])], inputs=names)


def many_outputs(count: int) -> onnx.ModelProto:
    names = tuple(f"y{i}" for i in range(count))
    return model([helper.make_node("Relu", ["x"], [name], name=f"n{name}") for name in names], outputs=names)


GROWING: dict[str, tuple[Callable[[int], onnx.ModelProto], int]] = {
    "chain": (chain, 1000),
    "chain of one name": (lambda n: chain(n, name="same"), 1000),
    "chain backwards": (lambda n: chain(n, backwards=True), 1000),
    "sums of one value": (lambda n: chain(n, "Add", more="x"), 1000),
    "sums of constants": (lambda n: chain(n, "Add", more="c{}"), 1000),
    "constants": (lambda n: model([helper.make_node("Relu", ["x"], ["y"])], n), 3000),
    "inputs": (many_inputs, 1000),
    "outputs": (many_outputs, 3500),
    "branches": (branches, 100),
    "bodies over constants": (bodies, 120),
    "recurrent": (recurrent, 40),
}


@pytest.mark.parametrize("name", GROWING)
def test_four_times_the_nodes_take_about_four_times_as_long(name: str) -> None:
    """The limit is on processor time, with a margin for noise; quadratic work would take sixteen times as long."""
    build, count = GROWING[name]
    times = []
    lx.load(recurrent(2) if name == "recurrent" else chain(2))  # compiled, imported
    for size in (count, 4 * count):
        data = build(size).SerializeToString()
        start = time.process_time()
        try:
            lx.load(data).report()
        except lx.ModelError:
            assert name == "chain of one name"  # which ONNX Runtime refuses
        times.append(time.process_time() - start)
    assert times[1] < 9 * times[0] + 0.5, times


def test_inference_equals_onnx_in_linear_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = []
    for size in (100, 400):
        proto = bodies(size)
        start = time.process_time()
        received = infer_shapes(proto)
        times.append(time.process_time() - start)
    assert times[1] < 9 * times[0] + 0.5, times
    monkeypatch.setattr(shape_inference, "MAX_COPIED", 100)
    proto = bodies(40)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    expected = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    received = infer_shapes(proto)
    assert list(received.graph.node) == list(expected.graph.node)
    assert list(received.graph.output) == list(expected.graph.output)
    assert {v.name: v for v in received.graph.value_info} == {v.name: v for v in expected.graph.value_info}


def test_unread_initializers_are_removed() -> None:
    names = [t.name for t in read(inside_a_body(bodies(2))).graph.node[-1].attribute[1].g.initializer]
    assert [t.name for t in read(bodies(2)).graph.initializer] == names == ["c0", "c1"]


# --- what is too large -------------------------------------------------------------------------------------------


def doubling(depth: int, deeper: bool = False) -> onnx.ModelProto:
    """Functions that call the one before them twice, or once in a body of an If."""
    functions = []
    for i in range(depth):
        if i == 0:
            nodes = [helper.make_node("Relu", ["a"], ["b"])]
        elif deeper:
            call, plain = (
                helper.make_graph([helper.make_node(op, ["a"], ["t"], domain=domain)], "of", [], [reported])
                for op, domain, reported in (
                    (f"f{i - 1}", "f", onnx.ValueInfoProto(name="t")),
                    ("Relu", "", floats("t")),
                )
            )
            nodes = [
                helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))),
                helper.make_node("If", ["c"], ["b"], then_branch=call, else_branch=plain),
            ]
        else:
            nodes = [helper.make_node(f"f{i - 1}", [a], [b], domain="f") for a, b in (("a", "t"), ("t", "b"))]
        functions.append(helper.make_function("f", f"f{i}", ["a"], ["b"], nodes, [OPSET, helper.make_opsetid("f", 1)]))
    proto = model([helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain="f")])
    proto.functions.extend(functions)
    proto.opset_import.append(helper.make_opsetid("f", 1))
    return proto


def calling_itself() -> onnx.ModelProto:
    proto = doubling(3)
    proto.functions[0].node[0].op_type, proto.functions[0].node[0].domain = "f2", "f"
    return proto


def large_in_functions() -> onnx.ModelProto:
    """A megabyte that is called 512 times."""
    proto = doubling(10)
    node = helper.make_node("Constant", [], ["unused"], value=numpy_helper.from_array(np.zeros(1 << 18, np.float32)))
    proto.functions[0].node.append(node)
    return proto


TOO_LARGE = {
    "nodes": (lambda: chain(60_000), "60000 nodes, at most LSTM_EXPLAIN_MAX_NODES=50000"),
    "constants": (lambda: model([helper.make_node("Relu", ["x"], ["y"])], 60_000), "60000 initializers"),
    "bodies": (lambda: branches(600), "1200 bodies"),
    "bodies in a body": (lambda: inside_a_body(bodies(150)), "too many values enclose the bodies"),
    "functions": (lambda: doubling(18), f"{1 << 17} nodes, at most"),  # of which a file may write out far more
    "bytes": (large_in_functions, "bytes with its functions inlined"),
    "depth": (lambda: doubling(40, deeper=True), "39 deep"),
    "recursion": (calling_itself, "is recursive"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_functions_that_would_grow_too_large_are_refused(name: str) -> None:
    build, message = TOO_LARGE[name]
    data = build().SerializeToString()
    start = time.process_time()
    with pytest.raises(lx.ModelError, match=message):
        lx.load(data)
    assert time.process_time() - start < 20


def test_functions_that_call_each_other_are_inlined() -> None:
    e = lx.load(doubling(6)).explain({"x": np.ones((2, 4), np.float32)}, target=lx.Target(index=1))
    np.testing.assert_array_equal(e.relevance["x"], [[0, 1, 0, 0]] * 2)
