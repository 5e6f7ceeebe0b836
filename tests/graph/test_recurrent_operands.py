# SPDX-License-Identifier: Apache-2.0
"""Recurrent nodes whose operands or attributes contradict the operator's definition: refused, before anything runs.

Invalid models are loaded in a process of their own, because without the checks, kernels would read and write past the
ends of arrays.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
T, B, D, H = 5, 2, 3, 4  # steps, samples, inputs, hidden units
Shapes = dict[str, list[int]]


def right_shapes(op: str, direction: str = "forward", layout: int = 0) -> Shapes:
    """The shapes by operand, as ONNX defines the operator."""
    dirs, G = 1 + (direction == "bidirectional"), GATES[op] * H
    state = [B, dirs, H] if layout else [dirs, B, H]
    shapes = {"X": [B, T, D] if layout else [T, B, D], "W": [dirs, G, D], "R": [dirs, G, H], "B": [dirs, 2 * G]}
    shapes |= {"sequence_lens": [B], "initial_h": state}
    return shapes | ({"initial_c": state, "P": [dirs, 3 * H]} if op == "LSTM" else {})


def recurrent(
    op: str, shapes: Shapes, inputs: tuple[str, ...] = ("X",), dtype: Any = np.float32, **attributes: Any
) -> onnx.GraphProto:
    """One node 'cell' whose operands are constants, but for `inputs`, which declare nothing but their rank."""
    rng, element = np.random.default_rng(0), helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    given, constants = [], []
    for name, shape in shapes.items():
        kind = TensorProto.INT32 if name == "sequence_lens" else element
        if name in inputs:
            free = [f"{name}{axis}" for axis in range(len(shape))]
            given.append(helper.make_tensor_value_info(name, kind, shape if name == "X" and len(inputs) == 1 else free))
        else:
            array = np.full(shape, T, np.int32) if name == "sequence_lens" else rng.normal(size=shape).astype(dtype)
            constants.append(numpy_helper.from_array(array, name))
    attributes = {"hidden_size": H} | attributes
    node = helper.make_node(
        op, list(shapes), ["Y"], name="cell", **{k: v for k, v in attributes.items() if v is not None}
    )
    outputs = [helper.make_tensor_value_info("Y", element, ["t", "d", "b", "h"])]
    return helper.make_graph([node], "g", given, outputs, constants)


def model(graph: onnx.GraphProto, **more: Any) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **more)


KINDS = [
    (op, direction, layout)
    for op in GATES
    for direction in ("forward", "reverse", "bidirectional")
    for layout in (0, 1)
]


@pytest.mark.parametrize(("op", "direction", "layout"), KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_operands_as_defined_are_explained(op: str, direction: str, layout: int, dtype: Any) -> None:
    shapes = right_shapes(op, direction, layout)
    loaded = lx.load(model(recurrent(op, shapes, dtype=dtype, direction=direction, layout=layout)))
    x = np.random.default_rng(1).normal(size=shapes["X"]).astype(dtype)
    axis = 0 if layout else 2
    explained = loaded.explain({"X": x}, target=lx.Target(index=(0, 0, 1), batch_axis=axis))
    assert np.isfinite(explained.relevance["X"]).all()


def changed(shape: list[int]) -> Iterator[list[int]]:
    for axis, extent in enumerate(shape):
        yield from ([*shape[:axis], other, *shape[axis + 1 :]] for other in (extent - 1, extent + 1, 2 * extent, 1000))
    yield shape[1:]
    yield [*shape, 1]


# --- what is known when the model is loaded ----------------------------------------------------------------------

ATTEMPT = """
import json, pickle, sys
import lstm_explain as lx
for name, proto in pickle.load(sys.stdin.buffer):
    try:
        lx.load(proto)
        said = "loaded"
    except lx.ModelError as error:
        said = str(error)
    print(json.dumps([name, said]), flush=True)
"""


def said_of(cases: Mapping[str, onnx.ModelProto]) -> dict[str, str]:
    """The message of loading each of them, from a process that survives all of them."""
    cargo = pickle.dumps([(name, proto.SerializeToString()) for name, proto in cases.items()])
    done = subprocess.run([sys.executable, "-c", ATTEMPT], input=cargo, capture_output=True, timeout=600)
    messages = dict(json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 0, f"{done.returncode} after {len(messages)} cases: {list(cases)[len(messages)]}"
    return messages


VARIANTS = [
    ("forward", 0, np.float32),
    ("bidirectional", 0, np.float32),
    ("reverse", 1, np.float32),
    ("forward", 0, np.float64),
]


@pytest.mark.parametrize("op", GATES)
def test_a_weight_or_state_of_another_shape_is_refused_and_named(op: str) -> None:
    cases = {}
    for direction, layout, dtype in VARIANTS:
        right = right_shapes(op, direction, layout)
        for operand in right.keys() - {"X"}:
            for shape in changed(right[operand]):
                graph = recurrent(op, right | {operand: shape}, dtype=dtype, direction=direction, layout=layout)
                cases[f"{operand} {shape} {right[operand]} {direction} {layout} {dtype}"] = model(graph)
    for name, message in said_of(cases).items():
        operand = name.partition(" ")[0]
        assert f"node 'cell' ({op}): {operand} has shape" in message, (name, message)


def test_the_refusal_names_the_shape_and_the_required_one() -> None:
    proto = model(recurrent("LSTM", right_shapes("LSTM") | {"R": [1, 13, 4]}))
    needed = r"node 'cell' \(LSTM\): R has shape \[1, 13, 4\], hidden_size 4 needs \[1, 16, 4\]"
    with pytest.raises(lx.ModelError, match=needed):
        lx.load(proto)


ATTRIBUTES = {
    "hidden_size": [None, 0, -4, 3, 5, 2**31, 2**62, 4.0, "four", [4]],
    "direction": ["sideways", "", 1],
    "activations": [["Tanh"], ["Tanh"] * 9, "Tanh", [1.0]],
    "activation_alpha": ["alpha", [1, 2]],
    "clip": [-1.0, float("nan"), "tight", [1.0]],
    "layout": [2, -1, "last"],
}


@pytest.mark.parametrize("op", GATES)
def test_an_attribute_out_of_range_or_of_another_type_is_refused(op: str) -> None:
    cases = {
        f"{name}={value!r} {dtype}": model(recurrent(op, right_shapes(op), dtype=dtype, **{name: value}))
        for name, values in ATTRIBUTES.items()
        for value in values
        for dtype in (np.float32, np.float64)
        if not (op == "RNN" and value == ["Tanh"])
    }
    assert "loaded" not in said_of(cases).values()


def in_a_branch(graph: onnx.GraphProto) -> onnx.ModelProto:
    """The node inside both branches of an If whose condition is an input."""
    body = onnx.GraphProto()
    body.CopyFrom(graph)
    del body.input[:]
    node = helper.make_node("If", ["yes"], ["Y"], name="if", then_branch=body, else_branch=body)
    yes = helper.make_tensor_value_info("yes", TensorProto.BOOL, [])
    return model(helper.make_graph([node], "outer", [*graph.input, yes], list(graph.output)))


def in_a_function(graph: onnx.GraphProto) -> onnx.ModelProto:
    operands = [value.name for value in graph.input] + [tensor.name for tensor in graph.initializer]
    function = helper.make_function(
        "mine", "layer", operands, ["Y"], list(graph.node), [helper.make_opsetid("", 17)], []
    )
    call = helper.make_node("layer", operands, ["Y"], domain="mine", name="call")
    outer = helper.make_graph([call], "outer", list(graph.input), list(graph.output), list(graph.initializer))
    proto = model(outer, functions=[function])
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    return proto


def with_computed_weights(graph: onnx.GraphProto) -> onnx.ModelProto:
    """W is only known after constant folding: the constant, reshaped to its own shape."""
    short = next(tensor for tensor in graph.initializer if tensor.name == "W")
    short.name = "stored"
    graph.node.insert(0, helper.make_node("Shape", ["stored"], ["extents"]))
    graph.node.insert(1, helper.make_node("Reshape", ["stored", "extents"], ["W"]))
    return model(graph)


@pytest.mark.parametrize("op", GATES)
def test_the_same_in_a_branch_a_function_or_behind_a_reshape(op: str) -> None:
    wrong = right_shapes(op) | {"W": [1, GATES[op] * H - 1, D]}
    ways = (in_a_branch, in_a_function, with_computed_weights)
    for name, message in said_of({way.__name__: way(recurrent(op, wrong)) for way in ways}).items():
        assert "W has shape" in message, (name, message)
    for way in ways:
        lx.load(way(recurrent(op, right_shapes(op))))


def test_constant_lengths_out_of_range_are_refused() -> None:
    for lengths in ([T + 1, T], [-1, T]):
        graph = recurrent("GRU", right_shapes("GRU"))
        tensor = next(t for t in graph.initializer if t.name == "sequence_lens")
        tensor.CopyFrom(numpy_helper.from_array(np.array(lengths, np.int32), "sequence_lens"))
        with pytest.raises(lx.ModelError, match="sequence_lens has values from"):
            lx.load(model(graph))


def frames(window: int | None, length: int | None, how: str) -> onnx.ModelProto:
    """STFT of a signal of 8 steps. how: the frame length is a constant, computed from one, or an input."""
    constants = [numpy_helper.from_array(np.array(2), "step")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 8, 1])]
    nodes = []
    if window is not None:
        constants.append(numpy_helper.from_array(np.ones(window, np.float32), "window"))
    if how == "input":
        inputs.append(helper.make_tensor_value_info("length", TensorProto.INT64, []))
    elif length is not None:
        constants.append(numpy_helper.from_array(np.array(length), "length" if how == "constant" else "stored"))
        nodes += [helper.make_node("Abs", ["stored"], ["length"])] if how == "computed" else []
    names = ["x", "step", "" if window is None else "window", "" if length is None else "length"]
    nodes.append(helper.make_node("STFT", names, ["y"], name="spectrum"))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "t", "f", "two"])
    return model(helper.make_graph(nodes, "g", inputs, [y], constants))


def test_frames_without_a_step_are_refused() -> None:
    """ONNX Runtime divides by their length."""
    wrong = [
        (None, 0, "constant"),
        (None, -1, "constant"),
        (None, 0, "computed"),
        (None, 4, "input"),
        (0, None, "constant"),
    ]
    for name, message in said_of({str(case): frames(*case) for case in wrong}).items():
        assert "node 'spectrum' (STFT): " in message, (name, message)
    for case in [(None, 4, "constant"), (None, 4, "computed"), (4, None, "constant")]:
        assert lx.load(frames(*case)).report().supported


REQUIRED = {
    "Max": ["x", ""],
    "Concat": ["", "x"],
    "Add": ["x", ""],
    "Where": ["", "x", "x"],
    "Gather": ["x", ""],
    "Sum": [""],
}


@pytest.mark.parametrize("inside", [False, True])
def test_a_required_operand_without_a_name_is_refused(inside: bool) -> None:
    """ONNX Runtime would read it anyway."""
    cases = {}
    for op, names in REQUIRED.items():
        node = helper.make_node(op, names, ["Y"], name="needs", **({"axis": 0} if op == "Concat" else {}))
        given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in ("x", "Y"))
        graph = helper.make_graph([node], "g", [given], [made])
        cases[op] = in_a_branch(graph) if inside else model(graph)
    for op, message in said_of(cases).items():
        assert "needs" in message, (op, message)
        assert "input" in message, (op, message)


# --- what only a request brings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("op", GATES)
def test_an_input_that_does_not_fit_the_node_is_refused(op: str) -> None:
    """Every operand an input whose extents the model leaves open; weights too, which no LRP passes then."""
    right = right_shapes(op)
    for inputs in (("X", "sequence_lens", "initial_h", "initial_c"), tuple(right)):
        loaded = lx.load(model(recurrent(op, right, inputs)))
        names = [name for name in right if name in inputs]
        feeds = {name: np.ones(right[name], np.int32 if name == "sequence_lens" else np.float32) for name in names}
        calls: list[Callable[..., Any]] = [loaded.predict]
        if "W" not in inputs:
            calls.append(partial(loaded.explain, target=lx.Target(index=(0, 0, 1), batch_axis=2)))
        wrong = [feeds | {"sequence_lens": np.array(lengths, np.int32)} for lengths in ([T + 1, 1], [-1, 1])]
        for name in names:
            steps = 0 if name == "X" else None  # another number of them is welcome
            wrong += [
                feeds | {name: np.ones(shape, feeds[name].dtype)}
                for shape in changed(right[name])
                if len(shape) == len(right[name]) and (steps is None or shape[1:] != right[name][1:])
            ]
        for call in calls:
            call(feeds)
            for these in wrong:
                with pytest.raises(lx.InputError):
                    call(these)
