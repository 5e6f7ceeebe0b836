# SPDX-License-Identifier: Apache-2.0
"""Changes a graph into another well-formed one that makes no sense."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

NUMBERS = (0, 1, -1, 2, 3, 7, -2, 255, 2**15, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, -(2**63))
FLOATS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf"))
NAMES = ("", "x", "X", "no such name", "é", "a/b", "../x", "%s", "\x00", "n" * 5000)
WORDS = (
    *(b"reverse", b"bidirectional", b"forward", b"Tanh", b"Relu", b"Affine", b"HardSigmoid", b"Softplus", b"Elu"),
    *(b"", b"constant", b"no such word", b"\xff\xfe", b"VALID", b"bij,bjk->bik"),
)
OPERATORS = (
    *("LSTM", "GRU", "RNN", "MatMul", "Gemm", "Add", "Mul", "Div", "Reshape", "Transpose", "Concat", "Split", "Slice"),
    *("Gather", "Squeeze", "Unsqueeze", "Expand", "Tile", "Pad", "ConstantOfShape", "Range", "Loop", "Scan", "If"),
    *("Identity", "Cast", "Shape", "Softmax", "Conv", "ReduceMean", "Einsum", "Where", "TopK", "NonZero", "Resize"),
    *("SequenceAt", "StringNormalizer", "FancyNew"),
)

Rng = np.random.Generator

GraphChange = Callable[[ModelProto, Rng], None]

# --- graphs ----------------------------------------------------------------------------------------------------------


def _graph(model: ModelProto, rng: Rng) -> GraphProto:
    """The model's graph, or one of the bodies inside it."""
    graphs = [model.graph]
    for graph in graphs:
        graphs += [a.g for n in graph.node for a in n.attribute if a.type == AttributeProto.GRAPH]
    return graphs[0 if rng.random() < 0.5 else rng.integers(len(graphs))]


def _node(model: ModelProto, rng: Rng) -> NodeProto:
    graph = _graph(model, rng)
    if not graph.node:
        return graph.node.add()
    return graph.node[rng.integers(len(graph.node))]


def _any_name(model: ModelProto, rng: Rng, before: int | None = None) -> str:
    """The name of a value that is computed before the node at `before`."""
    graph = _graph(model, rng)
    names = [o for n in graph.node[:before] for o in n.output] + [t.name for t in graph.initializer]
    names += [v.name for v in graph.input]
    if not names or rng.random() < 0.1:
        return NAMES[rng.integers(len(NAMES))]
    return names[rng.integers(len(names))]


def _rewire(model: ModelProto, rng: Rng) -> None:
    """A node reads another value; nine times in ten one that is computed before it, so that the graph stays acyclic."""
    graph = model.graph
    if not graph.node:
        return
    at = int(rng.integers(len(graph.node)))
    inputs = graph.node[at].input
    if inputs:
        inputs[rng.integers(len(inputs))] = _any_name(model, rng, at if rng.random() < 0.9 else None)


def _rename_output(model: ModelProto, rng: Rng) -> None:
    node = _node(model, rng)
    if node.output:
        node.output[rng.integers(len(node.output))] = _any_name(model, rng)


def _other_operator(model: ModelProto, rng: Rng) -> None:
    _node(model, rng).op_type = OPERATORS[rng.integers(len(OPERATORS))]


def _other_domain(model: ModelProto, rng: Rng) -> None:
    _node(model, rng).domain = ("com.microsoft", "ai.onnx", "ai.onnx.ml", "mine")[rng.integers(4)]


def _fewer_inputs(model: ModelProto, rng: Rng) -> None:
    node = _node(model, rng)
    if node.input:
        node.input.pop(int(rng.integers(len(node.input))))


def _more_inputs(model: ModelProto, rng: Rng) -> None:
    _node(model, rng).input.append(_any_name(model, rng))


def _drop_node(model: ModelProto, rng: Rng) -> None:
    graph = _graph(model, rng)
    if graph.node:
        graph.node.pop(int(rng.integers(len(graph.node))))


def _copy_node(model: ModelProto, rng: Rng) -> None:
    copied = _node(model, rng).SerializeToString()
    _graph(model, rng).node.append(NodeProto.FromString(copied))


def _swap_nodes(model: ModelProto, rng: Rng) -> None:
    one, other = _node(model, rng), _node(model, rng)
    kept = NodeProto.FromString(one.SerializeToString())
    one.CopyFrom(NodeProto.FromString(other.SerializeToString()))
    other.CopyFrom(kept)


def _attribute(model: ModelProto, rng: Rng) -> None:
    node = _node(model, rng)
    if not node.attribute:
        name = ("axis", "axes", "hidden_size", "direction", "perm", "to")[rng.integers(6)]
        node.attribute.append(helper.make_attribute(name, int(rng.integers(-3, 4))))
        return
    attribute = node.attribute[rng.integers(len(node.attribute))]
    match attribute.type:
        case _ if rng.random() < 0.05:
            attribute.type = int(rng.integers(15))  # type: ignore[assignment]
        case AttributeProto.INT:
            attribute.i = NUMBERS[rng.integers(len(NUMBERS) if rng.random() < 0.5 else 7)]
        case AttributeProto.FLOAT:
            attribute.f = FLOATS[rng.integers(len(FLOATS))]
        case AttributeProto.FLOATS if attribute.floats:
            attribute.floats[rng.integers(len(attribute.floats))] = FLOATS[rng.integers(len(FLOATS))]
        case AttributeProto.INTS if attribute.ints and rng.random() < 0.8:
            attribute.ints[rng.integers(len(attribute.ints))] = NUMBERS[rng.integers(7 + 8 * (rng.random() < 0.5))]
        case AttributeProto.INTS:
            attribute.ints.append(NUMBERS[rng.integers(7)])
        case AttributeProto.STRING:
            attribute.s = WORDS[rng.integers(len(WORDS))]
        case AttributeProto.STRINGS if attribute.strings:
            attribute.strings[rng.integers(len(attribute.strings))] = WORDS[rng.integers(len(WORDS))]
        case AttributeProto.TENSOR:
            _change_values(attribute.t, rng)
        case _:
            attribute.name = ("axis", "axes", "perm", "body")[rng.integers(4)]


def _drop_attribute(model: ModelProto, rng: Rng) -> None:
    node = _node(model, rng)
    if node.attribute:
        node.attribute.pop(int(rng.integers(len(node.attribute))))


def _tensor(model: ModelProto, rng: Rng) -> TensorProto:
    graph = _graph(model, rng)
    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))]
    return tensors[rng.integers(len(tensors))] if tensors else graph.initializer.add()


def _tensor_extent(model: ModelProto, rng: Rng) -> None:
    dims = _tensor(model, rng).dims
    if dims and rng.random() < 0.7:
        dims[rng.integers(len(dims))] = NUMBERS[rng.integers(len(NUMBERS))]
    elif dims and rng.random() < 0.5:
        dims.reverse()
    else:
        dims.append(NUMBERS[rng.integers(6)])


def _tensor_type(model: ModelProto, rng: Rng) -> None:
    _tensor(model, rng).data_type = int(rng.integers(25))


def _tensor_values(model: ModelProto, rng: Rng) -> None:
    _change_values(_tensor(model, rng), rng)


def _change_values(tensor: TensorProto, rng: Rng) -> None:
    if tensor.raw_data:
        raw = bytearray(tensor.raw_data)
        at = int(rng.integers(len(raw)))
        raw[at : at + 8] = np.array([NUMBERS[rng.integers(len(NUMBERS))]], np.int64).tobytes()[: len(raw) - at]
        tensor.raw_data = bytes(raw)
    elif tensor.int64_data:
        tensor.int64_data[rng.integers(len(tensor.int64_data))] = NUMBERS[rng.integers(len(NUMBERS))]
    elif tensor.float_data:
        tensor.float_data[rng.integers(len(tensor.float_data))] = FLOATS[rng.integers(len(FLOATS))]


def _external(model: ModelProto, rng: Rng) -> None:
    tensor = _tensor(model, rng)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", ("/etc/hostname", "../../x", "model.onnx", "")[rng.integers(4)]), ("offset", "-1")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _declared(model: ModelProto, rng: Rng) -> None:
    """The shape or type that an input, output or inner value claims."""
    graph = _graph(model, rng)
    values = [*graph.input, *graph.output, *graph.value_info]
    if not values:
        return
    claimed = values[rng.integers(len(values))].type.tensor_type
    if rng.random() < 0.3:
        claimed.elem_type = int(rng.integers(25))
    elif claimed.shape.dim and rng.random() < 0.7:
        claimed.shape.dim[rng.integers(len(claimed.shape.dim))].dim_value = NUMBERS[rng.integers(len(NUMBERS))]
    else:
        claimed.shape.dim.add().dim_param = NAMES[rng.integers(len(NAMES))]


def _interface(model: ModelProto, rng: Rng) -> None:
    """Adds, removes or renames inputs and outputs."""
    graph = _graph(model, rng)
    values = (graph.input, graph.output)[rng.integers(2)]
    match int(rng.integers(3)):
        case 0 if values:
            values.pop(int(rng.integers(len(values))))
        case 1 if values:
            values[rng.integers(len(values))].name = _any_name(model, rng)
        case _:
            values.add().name = _any_name(model, rng)


def _versions(model: ModelProto, rng: Rng) -> None:
    match int(rng.integers(4)):
        case 0:
            model.ir_version = NUMBERS[rng.integers(len(NUMBERS))]
        case 1 if model.opset_import:
            model.opset_import[rng.integers(len(model.opset_import))].version = int(rng.integers(-1, 30))
        case 2:
            del model.opset_import[:]
        case _:
            model.opset_import.add().domain = NAMES[rng.integers(len(NAMES))]


def _nest(model: ModelProto, rng: Rng) -> None:
    """Nests the model's graph inside itself many times."""
    for _ in range(int(rng.choice((1, 5, 60)))):
        if model.ByteSize() > 1_000_000:
            return
        inner = GraphProto.FromString(model.graph.SerializeToString())
        try:
            inner = onnx.GraphProto.FromString(inner.SerializeToString())
        except DecodeError:  # too deep for the parser already
            return
        del model.graph.node[1:]
        outer = model.graph.node[0] if model.graph.node else model.graph.node.add()
        outer.op_type = ("If", "Loop", "Scan")[rng.integers(3)]
        outer.attribute.append(helper.make_attribute("body", inner))


GRAPH_CHANGES: tuple[GraphChange, ...] = (
    *(
        _rewire,
        _rewire,
        _rewire,
        _rename_output,
        _other_operator,
        _other_domain,
        _fewer_inputs,
        _more_inputs,
        _drop_node,
    ),
    *(
        _copy_node,
        _swap_nodes,
        _attribute,
        _attribute,
        _attribute,
        _attribute,
        _drop_attribute,
        _tensor_extent,
        _tensor_extent,
    ),
    *(
        _tensor_type,
        _tensor_values,
        _tensor_values,
        _tensor_values,
        _external,
        _declared,
        _declared,
        _interface,
        _versions,
        _nest,
    ),
)
