# SPDX-License-Identifier: Apache-2.0
"""Models that are well-formed but extreme; a number always makes the same model.

Unlike with damaged bytes (mutate.py), tensors keep the size that their shapes declare, so that the faults pass the
readers: operands of another shape, sizes and counts at the limits of their types, attributes without their value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.fuzzing.inserted_nodes import wedge
from tests.fuzzing.mutate import SEEDS, ZOO
from tests.fuzzing.places import (
    FLOATS,
    LOCATIONS,
    OFFSETS,
    SIZES,
    TYPES,
    Rng,
    any_graph,
    any_node,
    any_tensor,
    one_of,
    set_values,
)
from tests.fuzzing.seeds import built

CASES = ZOO.parents[1].parent / "shared" / "cases"
LARGEST_SEED = 300_000  # bytes

SMALL = (*SEEDS, *built(), *built())  # the built ones are all operands and no weights

Change = Callable[[ModelProto, Rng], None]


def case(number: int) -> bytes:
    rng = np.random.default_rng([20261128, number])
    names = reported() if number % 8 == 7 and reported() else SMALL
    model = ModelProto.FromString(_seed(one_of(names, rng)))
    for _ in range(int(rng.choice((1, 1, 2, 3)))):
        CHANGES[rng.integers(len(CHANGES))](model, rng)
    return model.SerializeToString()


@cache
def reported() -> tuple[str, ...]:
    """Models from bug reports, if they are available; then every eighth number is one of them."""
    return tuple(sorted(str(path) for path in CASES.glob("*/*.onnx") if path.stat().st_size < LARGEST_SEED))


@cache
def _seed(name: str) -> bytes:
    if name in built():
        return built()[name]
    return onnx.load(ZOO / name / "model.onnx" if name in SEEDS else name).SerializeToString()


# --- changes ---------------------------------------------------------------------------------------------------------


def _operand_shape(model: ModelProto, rng: Rng) -> None:
    """A weight with one axis more or less, or with an axis that is slightly longer or shorter."""
    tensor = any_tensor(model, rng, "fiu")
    if tensor is None:
        return
    array = numpy_helper.to_array(tensor)
    shape = list(array.shape)
    match int(rng.integers(5)):
        case 0:
            shape.insert(int(rng.integers(len(shape) + 1)), int(rng.integers(0, 3)))
        case 1 if shape:
            shape.pop(int(rng.integers(len(shape))))
        case 2 if len(shape) > 1:
            shape.reverse()
        case _ if shape:
            axis = int(rng.integers(len(shape)))
            shape[axis] = max(
                0, one_of((0, 1, shape[axis] - 1, shape[axis] + 1, 2 * shape[axis], shape[axis] // 2), rng)
            )
    if np.prod(shape, dtype=float) < 1e6:
        set_values(tensor, np.resize(array, shape))


def _operand_type(model: ModelProto, rng: Rng) -> None:
    tensor = any_tensor(model, rng, "fiub")
    if tensor is not None:
        with np.errstate(all="ignore"):
            set_values(tensor, numpy_helper.to_array(tensor).astype(one_of(TYPES, rng)))


def _integers(model: ModelProto, rng: Rng) -> None:
    """Sizes, axes, indices, counts."""
    tensor = any_tensor(model, rng, "iu")
    if tensor is None:
        return
    array = numpy_helper.to_array(tensor).copy()
    if array.size:
        with np.errstate(all="ignore"):
            array.reshape(-1)[rng.integers(array.size)] = np.array(one_of(SIZES, rng)).astype(array.dtype)
        set_values(tensor, array)


def _floats(model: ModelProto, rng: Rng) -> None:
    tensor = any_tensor(model, rng, "f")
    if tensor is None:
        return
    array = numpy_helper.to_array(tensor).copy()
    if array.size:
        array.reshape(-1)[rng.integers(array.size)] = one_of(FLOATS, rng)
        set_values(tensor, array)


def _attribute(model: ModelProto, rng: Rng) -> None:
    node = any_node(model, rng)
    if not node.attribute:
        return
    attribute = one_of(node.attribute, rng)
    match attribute.type:
        case AttributeProto.INT:
            attribute.i = one_of(SIZES, rng)
        case AttributeProto.FLOAT:
            attribute.f = one_of(FLOATS, rng)
        case AttributeProto.INTS:
            if attribute.ints and rng.random() < 0.7:
                attribute.ints[rng.integers(len(attribute.ints))] = one_of(SIZES, rng)
            else:
                attribute.ints.append(one_of(SIZES, rng))
        case AttributeProto.FLOATS:
            attribute.floats.append(one_of(FLOATS, rng))
        case AttributeProto.STRING:
            attribute.s = one_of((b"", b"bidirectional", b"reverse", b"SAME_UPPER", b"wrap", b"cubic", b"Elu"), rng)
        case AttributeProto.STRINGS:
            attribute.strings.append(b"Tanh")


def _no_attribute(model: ModelProto, rng: Rng) -> None:
    node = any_node(model, rng)
    if node.attribute:
        node.attribute.pop(int(rng.integers(len(node.attribute))))


def _other_attribute_type(model: ModelProto, rng: Rng) -> None:
    node = any_node(model, rng)
    if node.attribute:
        attribute = one_of(node.attribute, rng)
        value = one_of((1, 0.5, b"forward", [1, 2], [0.5], [b"Tanh"]), rng)
        attribute.CopyFrom(helper.make_attribute(attribute.name, value))


def _more_attributes(model: ModelProto, rng: Rng) -> None:
    names = (
        "axis",
        "group",
        "strides",
        "pads",
        "dilations",
        "kernel_shape",
        "layout",
        "hidden_size",
        "clip",
        "fmod",
        "blocksize",
    )
    name = one_of(names, rng)
    value = [one_of(SIZES, rng)] * 2 if name.endswith("s") or name == "kernel_shape" else one_of(SIZES, rng)
    node = any_node(model, rng)
    if name not in [a.name for a in node.attribute]:
        node.attribute.append(helper.make_attribute(name, float(value) if name == "clip" else value))


def _declaration(model: ModelProto, rng: Rng) -> None:
    """What an input claims to be."""
    graph = any_graph(model, rng)
    if not graph.input:
        return
    tensor = one_of(graph.input, rng).type.tensor_type
    dims = tensor.shape.dim
    match int(rng.integers(5)):
        case 0:
            tensor.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(one_of(TYPES, rng)))
        case 1:
            dims.add().dim_value = int(rng.integers(0, 4))
        case 2 if dims:
            dims.pop()
        case 3 if dims:
            one_of(dims, rng).dim_param = "n"
        case _ if dims:
            one_of(dims, rng).dim_value = one_of((0, 1, 2, 5, -1, 2**20, 2**31, 2**62), rng)


def _opset(model: ModelProto, rng: Rng) -> None:
    if model.opset_import:
        model.opset_import[0].version = int(rng.integers(6, 27))


def _drop_node(model: ModelProto, rng: Rng) -> None:
    """Its readers read its input instead."""
    graph = any_graph(model, rng)
    if len(graph.node) < 2:
        return
    gone = graph.node.pop(int(rng.integers(len(graph.node))))
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in gone.output and gone.input:
                node.input[i] = gone.input[0]


def _twice(model: ModelProto, rng: Rng) -> None:
    """Applies a node a second time to its own output."""
    graph = any_graph(model, rng)
    at = int(rng.integers(len(graph.node))) if graph.node else 0
    if not graph.node or not graph.node[at].output or not graph.node[at].input:
        return
    again = NodeProto.FromString(graph.node[at].SerializeToString())
    inner = f"{again.output[0]}/once"
    graph.node[at].output[0], again.input[0], again.name = inner, inner, f"{again.name}/again"
    for i in range(1, len(again.output)):
        again.output[i] = ""
    graph.node.insert(at + 1, again)


def _swap_inputs(model: ModelProto, rng: Rng) -> None:
    one, other = any_node(model, rng), any_node(model, rng)
    if one.input and other.input:
        i, j = int(rng.integers(len(one.input))), int(rng.integers(len(other.input)))
        one.input[i], other.input[j] = other.input[j], one.input[i]


def _no_input(model: ModelProto, rng: Rng) -> None:
    node = any_node(model, rng)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = ""


def _constant_becomes_input(model: ModelProto, rng: Rng) -> None:
    graph = model.graph
    if graph.initializer:
        tensor = graph.initializer.pop(int(rng.integers(len(graph.initializer))))
        extents = [None] * len(tensor.dims) if rng.random() < 0.5 else list(tensor.dims)
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, extents))


def _external(model: ModelProto, rng: Rng) -> None:
    tensor = any_tensor(model, rng, "fiub")
    if tensor is not None:
        tensor.data_location = TensorProto.EXTERNAL
        for key, values in (("location", LOCATIONS), ("offset", OFFSETS), ("length", OFFSETS)):
            tensor.external_data.add(key=key, value=one_of(values, rng))


CHANGES: tuple[Change, ...] = (
    *(_operand_shape, _operand_shape, _operand_shape, _operand_type, _integers, _integers, _integers, _floats),
    *(_attribute, _attribute, _attribute, _no_attribute, _other_attribute_type, _more_attributes),
    *(_declaration, _declaration, _opset, _drop_node, _twice, _swap_inputs, _no_input, _constant_becomes_input),
    *(_external, wedge, wedge, wedge),
)
