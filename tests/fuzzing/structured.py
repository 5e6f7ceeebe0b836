"""Models that are well-formed but extreme; a number always makes the same model.

Unlike with damaged bytes (mutate.py), tensors keep the size that their shapes declare, so that the faults pass the
readers: operands of another shape, sizes and counts at the limits of their types, attributes without their value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.fuzzing.mutate import SEEDS, ZOO
from tests.fuzzing.seeds import built

CASES = ZOO.parents[1].parent / "shared" / "cases"
LARGEST_SEED = 300_000  # bytes
SIZES = (0, 1, 2, 3, -1, -2, 17, 255, 4096, 10**5, 2**24, 2**31 - 1, 2**31, 2**40, 2**62, -(2**31), -(2**63), 2**63 - 1)
FLOATS = (0.0, -0.0, -1.0, 0.5, 2.0, 1e-45, 3e38, -3e38, float("nan"), float("inf"), float("-inf"))
TYPES = (np.float32, np.float64, np.float16, np.int64, np.int32, np.int8, np.uint8, np.bool_)
OFFSETS = ("-4", "0", "x", "1e9", "9" * 30, "", "\0")
LOCATIONS = ("model.onnx", "../model.onnx", "/etc/hostname", "w" * 5000, "a\0b", "", ".")

SMALL = (*SEEDS, *built(), *built())  # the built ones are all operands and no weights

Rng = np.random.Generator
Change = Callable[[ModelProto, Rng], None]


def case(number: int) -> bytes:
    rng = np.random.default_rng([20261128, number])
    names = reported() if number % 8 == 7 and reported() else SMALL
    model = ModelProto.FromString(_seed(_one(names, rng)))
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


# --- places ----------------------------------------------------------------------------------------------------------


def _one(values, rng: Rng):  # type: ignore[no-untyped-def]  # of any type
    return values[int(rng.integers(len(values)))]


def _graph(model: ModelProto, rng: Rng) -> GraphProto:
    graphs = [model.graph]
    for graph in graphs:
        graphs += [a.g for n in graph.node for a in n.attribute if a.type == AttributeProto.GRAPH]
    return graphs[0] if rng.random() < 0.6 else _one(graphs, rng)


def _node(model: ModelProto, rng: Rng) -> NodeProto:
    graph = _graph(model, rng)
    return _one(graph.node, rng) if graph.node else model.graph.node.add()


def _tensor(model: ModelProto, rng: Rng, kinds: str) -> TensorProto | None:
    """A tensor whose NumPy kind is in `kinds`."""
    graph = _graph(model, rng)
    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))]
    inside = [t for t in tensors if t.data_location != TensorProto.EXTERNAL]
    fitting = [t for t in inside if np.dtype(helper.tensor_dtype_to_np_dtype(t.data_type)).kind in kinds]
    return _one(fitting, rng) if fitting else None


def _set(tensor: TensorProto, array: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


# --- changes ---------------------------------------------------------------------------------------------------------


def _operand_shape(model: ModelProto, rng: Rng) -> None:
    """A weight with one axis more or less, or with an axis that is slightly longer or shorter."""
    tensor = _tensor(model, rng, "fiu")
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
            shape[axis] = max(0, _one((0, 1, shape[axis] - 1, shape[axis] + 1, 2 * shape[axis], shape[axis] // 2), rng))
    if np.prod(shape, dtype=float) < 1e6:
        _set(tensor, np.resize(array, shape))


def _operand_type(model: ModelProto, rng: Rng) -> None:
    tensor = _tensor(model, rng, "fiub")
    if tensor is not None:
        with np.errstate(all="ignore"):
            _set(tensor, numpy_helper.to_array(tensor).astype(_one(TYPES, rng)))


def _integers(model: ModelProto, rng: Rng) -> None:
    """Sizes, axes, indices, counts."""
    tensor = _tensor(model, rng, "iu")
    if tensor is None:
        return
    array = numpy_helper.to_array(tensor).copy()
    if array.size:
        with np.errstate(all="ignore"):
            array.reshape(-1)[rng.integers(array.size)] = np.array(_one(SIZES, rng)).astype(array.dtype)
        _set(tensor, array)


def _floats(model: ModelProto, rng: Rng) -> None:
    tensor = _tensor(model, rng, "f")
    if tensor is None:
        return
    array = numpy_helper.to_array(tensor).copy()
    if array.size:
        array.reshape(-1)[rng.integers(array.size)] = _one(FLOATS, rng)
        _set(tensor, array)


def _attribute(model: ModelProto, rng: Rng) -> None:
    node = _node(model, rng)
    if not node.attribute:
        return
    attribute = _one(node.attribute, rng)
    match attribute.type:
        case AttributeProto.INT:
            attribute.i = _one(SIZES, rng)
        case AttributeProto.FLOAT:
            attribute.f = _one(FLOATS, rng)
        case AttributeProto.INTS:
            if attribute.ints and rng.random() < 0.7:
                attribute.ints[rng.integers(len(attribute.ints))] = _one(SIZES, rng)
            else:
                attribute.ints.append(_one(SIZES, rng))
        case AttributeProto.FLOATS:
            attribute.floats.append(_one(FLOATS, rng))
        case AttributeProto.STRING:
            attribute.s = _one((b"", b"bidirectional", b"reverse", b"SAME_UPPER", b"wrap", b"cubic", b"Elu"), rng)
        case AttributeProto.STRINGS:
            attribute.strings.append(b"Tanh")


def _no_attribute(model: ModelProto, rng: Rng) -> None:
    node = _node(model, rng)
    if node.attribute:
        node.attribute.pop(int(rng.integers(len(node.attribute))))


def _other_attribute_type(model: ModelProto, rng: Rng) -> None:
    node = _node(model, rng)
    if node.attribute:
        attribute = _one(node.attribute, rng)
        value = _one((1, 0.5, b"forward", [1, 2], [0.5], [b"Tanh"]), rng)
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
    name = _one(names, rng)
    value = [_one(SIZES, rng)] * 2 if name.endswith("s") or name == "kernel_shape" else _one(SIZES, rng)
    node = _node(model, rng)
    if name not in [a.name for a in node.attribute]:
        node.attribute.append(helper.make_attribute(name, float(value) if name == "clip" else value))


def _declaration(model: ModelProto, rng: Rng) -> None:
    """What an input claims to be."""
    graph = _graph(model, rng)
    if not graph.input:
        return
    tensor = _one(graph.input, rng).type.tensor_type
    dims = tensor.shape.dim
    match int(rng.integers(5)):
        case 0:
            tensor.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(_one(TYPES, rng)))
        case 1:
            dims.add().dim_value = int(rng.integers(0, 4))
        case 2 if dims:
            dims.pop()
        case 3 if dims:
            _one(dims, rng).dim_param = "n"
        case _ if dims:
            _one(dims, rng).dim_value = _one((0, 1, 2, 5, -1, 2**20, 2**31, 2**62), rng)


def _opset(model: ModelProto, rng: Rng) -> None:
    if model.opset_import:
        model.opset_import[0].version = int(rng.integers(6, 27))


def _drop_node(model: ModelProto, rng: Rng) -> None:
    """Its readers read its input instead."""
    graph = _graph(model, rng)
    if len(graph.node) < 2:
        return
    gone = graph.node.pop(int(rng.integers(len(graph.node))))
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in gone.output and gone.input:
                node.input[i] = gone.input[0]


def _twice(model: ModelProto, rng: Rng) -> None:
    """Applies a node a second time to its own output."""
    graph = _graph(model, rng)
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
    one, other = _node(model, rng), _node(model, rng)
    if one.input and other.input:
        i, j = int(rng.integers(len(one.input))), int(rng.integers(len(other.input)))
        one.input[i], other.input[j] = other.input[j], one.input[i]


def _no_input(model: ModelProto, rng: Rng) -> None:
    node = _node(model, rng)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = ""


def _constant_becomes_input(model: ModelProto, rng: Rng) -> None:
    graph = model.graph
    if graph.initializer:
        tensor = graph.initializer.pop(int(rng.integers(len(graph.initializer))))
        extents = [None] * len(tensor.dims) if rng.random() < 0.5 else list(tensor.dims)
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, extents))


def _external(model: ModelProto, rng: Rng) -> None:
    tensor = _tensor(model, rng, "fiub")
    if tensor is not None:
        tensor.data_location = TensorProto.EXTERNAL
        for key, values in (("location", LOCATIONS), ("offset", OFFSETS), ("length", OFFSETS)):
            tensor.external_data.add(key=key, value=_one(values, rng))


# --- a few nodes more between a value and one of its readers ---------------------------------------------------------


def _wedge(model: ModelProto, rng: Rng) -> None:
    graph = _graph(model, rng)
    places = [(at, slot) for at, node in enumerate(graph.node) for slot, name in enumerate(node.input) if name]
    if not places:
        return
    at, slot = _one(places, rng)
    source, tag = graph.node[at].input[slot], f"wedge{len(graph.node)}"

    def ints(*values: int, kind: type = np.int64) -> str:
        name = f"{tag}/c{len(graph.initializer)}"
        array = np.array(values, np.int64).astype(kind)
        graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    size, axis = _one(SIZES, rng), int(rng.integers(-2, 3))
    kind = _one((np.int64, np.int32), rng)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes, made = [], [f"{tag}/{i}" for i in range(4)]

    def op(name: str, inputs: list[str], outputs: list[str], **attributes: object) -> None:
        nodes.append(helper.make_node(name, inputs, outputs, name=f"{tag}/{name}{len(nodes)}", **attributes))

    match int(rng.integers(15)):
        case 0:
            op("Tile", [source, ints(1, size, 1)], made[:1])
        case 1:
            op("Expand", [source, ints(size, 1, 1)], made[:1])
        case 2:
            op("Pad", [source, ints(0, size, 0, 0, _one(SIZES, rng), 0)], made[:1])
        case 3:
            op("Reshape", [source, ints(_one(SIZES, rng), size, -1)], made[:1], allowzero=int(rng.integers(2)))
        case 4:
            op("Slice", [source, ints(_one(SIZES, rng)), ints(_one(SIZES, rng)), ints(axis), ints(size)], made[:1])
        case 5:
            op("Gather", [source, ints(size)], made[:1], axis=axis)
        case 6:
            op("Cast", [source], made[:1], to=element)
            op(_one(("Div", "Mod"), rng), [made[0], ints(_one((-1, 0, 1, 2**31 - 1), rng), kind=kind)], made[1:2])
            op("Cast", made[1:2], made[2:3], to=TensorProto.FLOAT)
        case 7:
            op("ConstantOfShape", [ints(size, int(rng.integers(1, 4)))], made[:1])
        case 8:
            op(
                "Range",
                [
                    ints(0)[:0] or _scalar(graph, tag, 0),
                    _scalar(graph, tag, size),
                    _scalar(graph, tag, _one((1, 0, -1, 2), rng)),
                ],
                made[:1],
            )
            op("Cast", made[:1], made[1:2], to=TensorProto.FLOAT)
        case 9:
            op("Resize", [source, "", "", ints(1, size, 1)], made[:1], mode=_one(("nearest", "linear", "cubic"), rng))
        case 10:
            op("TopK", [source, ints(size)], made[:2], axis=axis)
            made = [made[0]]
        case 11:
            op("Cast", [source], made[:1], to=TensorProto.INT64)
            values = f"{tag}/values"
            graph.initializer.append(numpy_helper.from_array(np.array([0, 1], np.float32), values))
            op("OneHot", [made[0], ints(size), values], made[1:2], axis=axis)
        case 12:
            op("Split", [source], made[:3], axis=axis, num_outputs=3)
            made = [made[int(rng.integers(3))]]
        case 13:
            nodes.append(_loop(tag, source, made[0], ints(_one((0, 1, 3, 1000, -1), rng))))
        case _:
            op("CumSum", [source, _scalar(graph, tag, size)], made[:1])
    last = nodes[-1].output[0] if len(made) == 4 else made[0]
    graph.node[at].input[slot] = last
    for offset, node in enumerate(nodes):
        graph.node.insert(at + offset, node)


def _scalar(graph: GraphProto, tag: str, value: int) -> str:
    name = f"{tag}/s{len(graph.initializer)}"
    graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    return name


def _loop(tag: str, source: str, output: str, count: str) -> NodeProto:
    """Passes the value through a Loop that changes its sign in every iteration."""
    step, going, state = (
        helper.make_tensor_value_info(f"{tag}/{n}", k, []) for n, k in (("i", 7), ("go", 9), ("s", 1))
    )
    state.type.tensor_type.ClearField("shape")
    after = onnx.ValueInfoProto.FromString(state.SerializeToString())
    after.name = f"{tag}/after"
    going_on = helper.make_tensor_value_info(f"{tag}/on", TensorProto.BOOL, [])
    nodes = [
        helper.make_node("Identity", [going.name], [going_on.name]),
        helper.make_node("Neg", [state.name], [after.name]),
    ]
    body = helper.make_graph(nodes, "body", [step, going, state], [going_on, after])
    return helper.make_node("Loop", [count, "", source], [output], name=f"{tag}/loop", body=body)


CHANGES: tuple[Change, ...] = (
    *(_operand_shape, _operand_shape, _operand_shape, _operand_type, _integers, _integers, _integers, _floats),
    *(_attribute, _attribute, _attribute, _no_attribute, _other_attribute_type, _more_attributes),
    *(_declaration, _declaration, _opset, _drop_node, _twice, _swap_inputs, _no_input, _constant_becomes_input),
    *(_external, _wedge, _wedge, _wedge),
)
