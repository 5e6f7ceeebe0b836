# SPDX-License-Identifier: Apache-2.0
"""Reads a model from a path, bytes or a ModelProto, checks it, inlines its functions and builds its Graph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from lstm_explain.errors import ModelError
from lstm_explain.graph.external_data import load_external_data
from lstm_explain.graph.input_ranks import give_ranks
from lstm_explain.graph.ir import Array, Graph, Node, ValueType, graph_proto_values, node_from_proto, value_type
from lstm_explain.graph.model_size import check_size
from lstm_explain.graph.protos import graphs_of, without_weights
from lstm_explain.graph.required_operands import check_required, name_outputs
from lstm_explain.graph.sandbox import survives
from lstm_explain.graph.shape_inference import infer_shapes
from lstm_explain.graph.sparse_tensors import densify
from lstm_explain.graph.tensors import array_of, constant_of, first_line
from lstm_explain.graph.topological_order import names_read, sort_nodes

# By their first bytes.
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive, such as the files of PyTorch (.pt) and Keras (.keras)",
    b"\x89HDF": "HDF5, such as the files of Keras (.h5)",
}
CRASHES = "not a valid ONNX model: ONNX's shape inference crashes on it, or needs too many resources"


def read(source: str | Path | bytes | ModelProto) -> ModelProto:
    """Returns the checked model, with inlined functions, all weights in memory and inferred shapes. Raises
    ModelError.
    """
    model, folder = _parse(source)
    check_size(model)
    load_external_data(model, folder)
    densify(model)
    sort_nodes(model)
    _remove_negative_extents(model)
    give_ranks(model)
    name_outputs(model)
    if not survives(without_weights(model)):
        raise ModelError(CRASHES)
    if any(not v.type.tensor_type.HasField("shape") for v in model.graph.output):
        model = infer(model)
    try:
        _check(model)
        model = onnx.inliner.inline_local_functions(model)
    except ModelError:
        raise
    except Exception as error:  # The checker and the inliner raise several types, all about the file.
        raise ModelError(f"not a valid ONNX model: {first_line(error)}") from error
    check_required(model)
    _remove_unread_initializers(model)
    return model


def _remove_unread_initializers(model: ModelProto) -> None:
    """Removes initializers that nothing reads: ONNX Runtime copies, for each body, the names of all values around
    it.
    """
    for graph in graphs_of(model):
        read = {name for node in graph.node for name in names_read(node)}
        read |= {value.name for value in (*graph.output, *graph.input)}
        graph.initializer.sort(key=lambda tensor: tensor.name not in read)  # Sorts in place: a copy may be large.
        del graph.initializer[sum(tensor.name in read for tensor in graph.initializer) :]


# ONNX Runtime runs these, but ONNX's checker does not know them (or no longer does).
UNKNOWN_TO_CHECKER = ("SimplifiedLayerNormalization", "LayerNormalization", "GroupNormalization")


def _check(model: ModelProto) -> None:
    """Runs ONNX's checker. It demands a shape for every output, which runtimes do not, so outputs get one
    temporarily.
    """
    bare = [v.type.tensor_type for v in model.graph.output if v.type.HasField("tensor_type")]
    bare = [tensor for tensor in bare if not tensor.HasField("shape")]
    for tensor in bare:
        tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        if not any(op in first_line(error) for op in UNKNOWN_TO_CHECKER):
            raise
    finally:
        for tensor in bare:
            tensor.ClearField("shape")


def _remove_negative_extents(model: ModelProto) -> None:
    """Removes extents of -1, which some exporters write where the extent is unknown."""
    for graph in graphs_of(model):
        for value in graph_proto_values(graph):
            for extent in value.type.tensor_type.shape.dim:
                if extent.dim_value < 0:
                    extent.ClearField("dim_value")


def _kind(data: bytes) -> str:
    """Returns what a file is that is no ONNX file."""
    for start, kind in OTHER_FORMATS.items():
        if data.startswith(start):
            return f"not an ONNX file but {kind}; export the model to ONNX first"
    return "not an ONNX file, or truncated"


def _parse(source: str | Path | bytes | ModelProto) -> tuple[ModelProto, Path | None]:
    if isinstance(source, ModelProto):
        model = ModelProto()
        model.CopyFrom(source)
        return model, None
    folder = None
    if not isinstance(source, bytes):
        folder = Path(source).resolve().parent
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            problem = error.strerror or type(error).__name__
            raise ModelError(f"cannot read the model file {str(source)!r}: {problem}") from error
    model = ModelProto()
    try:
        model.ParseFromString(source)
    except DecodeError as error:
        raise ModelError(f"{_kind(source)} ({len(source)} bytes)") from error
    if not model.graph.node:
        raise ModelError("not an ONNX model, or one without nodes")
    return model, folder


def infer(model: ModelProto) -> ModelProto:
    """Returns the model with the types and shapes that ONNX can infer, or the model itself where inference fails."""
    try:
        return infer_shapes(model)
    except Exception:  # Inference helps but is not a check: the model has passed the checker.
        return model


def infer_changed(model: ModelProto) -> ModelProto:
    """Calls `infer` for a model that was changed since it was read, so that the sandbox has not tried it yet."""
    return infer(model) if survives(without_weights(model)) else model


# Element types that ONNX Runtime cannot convert to a NumPy array.
TYPES_WITHOUT_ARRAY = {"BFLOAT16", "INT4", "UINT4", "INT2", "UINT2", "COMPLEX64", "COMPLEX128"}
TYPES_WITHOUT_ARRAY |= {"FLOAT4E2M1", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"}
SUPPORTED_OUTPUTS = "tensors of float16, float32, float64, float8e4m3fn, integers of at least 8 bits, bool or strings"


def check_outputs(proto: ModelProto) -> None:
    """Raises ModelError for an output that cannot be returned as an array: not a tensor, or of a type that NumPy
    lacks.
    """
    for output in proto.graph.output:
        held = output.type.WhichOneof("value")
        if held not in (None, "tensor_type"):
            what = f"is {'an' if held.startswith('o') else 'a'} {held.removesuffix('_type').replace('_', ' ')}"
        elif (kind := onnx.TensorProto.DataType.Name(output.type.tensor_type.elem_type)) in TYPES_WITHOUT_ARRAY:
            what = f"holds {kind.lower()}"
        else:
            continue
        raise ModelError(f"output {output.name!r} {what}: outputs must be {SUPPORTED_OUTPUTS}; remove it or cast it")


def build(model: ModelProto) -> Graph:
    """Returns the Graph of a checked model."""
    opsets = {o.domain: o.version for o in model.opset_import}
    builder = _Builder(opsets.get("", opsets.get("ai.onnx", 1)), list(model.opset_import), model.ir_version)
    graph = builder.graph(model.graph, {}, {})
    if not graph.outputs:
        raise ModelError("the model has no outputs")
    if graph.captured:  # A body could capture this from an enclosing graph; a model has none.
        raise ModelError(f"no node computes {graph.captured[0]!r}")
    return graph


def node_of(graph: Graph, proto: NodeProto) -> Node:
    """Returns the Node of `graph` for a proto, bodies included."""
    builder = _Builder(next(o.version for o in graph.opsets if o.domain in ("", "ai.onnx")), graph.opsets, 0)
    return builder.node(proto, 0, graph.types, graph.constants)


class _Builder:
    def __init__(self, opset: int, opsets: list[onnx.OperatorSetIdProto], ir_version: int) -> None:
        self.opset, self.opsets, self.ir_version = opset, opsets, ir_version
        self.names = Counter[str]()

    def graph(self, proto: GraphProto, outer_types: dict[str, ValueType], outer_constants: dict[str, Array]) -> Graph:
        types = dict(outer_types)
        for value in graph_proto_values(proto):
            kind = value_type(value.type)
            if value.type.ByteSize() and not (
                kind.shape is None and value.name in types
            ):  # A type without a rank adds nothing.
                types[value.name] = kind
        constants = dict(outer_constants)
        for tensor in proto.initializer:
            constants[tensor.name] = array_of(tensor)
        inputs = [v.name for v in proto.input if v.name not in {t.name for t in proto.initializer}]
        for name in inputs:
            constants.pop(name, None)
        nodes = []
        for index, node in enumerate(proto.node):
            constant = constant_of(node)
            if constant is not None:
                constants[node.output[0]] = constant
            else:
                nodes.append(self.node(node, index, types, constants))
        outputs = [v.name for v in proto.output]
        graph = Graph(inputs, outputs, nodes, constants, types, self.opsets, self.ir_version)
        own = {name for name, array in constants.items() if array is not outer_constants.get(name)}
        known = set(inputs) | own | {o for n in nodes for o in n.outputs}
        read = [name for n in nodes for name in (*n.inputs, *n.captured)] + outputs
        graph.captured = [name for name in dict.fromkeys(read) if name and name not in known]
        return graph

    def node(self, proto: NodeProto, index: int, types: dict[str, ValueType], constants: dict[str, Array]) -> Node:
        bodies = {}
        if any(a.type == AttributeProto.GRAPH for a in proto.attribute):
            read = set(names_read(proto))  # A body needs nothing else, and there may be many bodies.
            types = {name: types[name] for name in read if name in types}
            constants = {name: constants[name] for name in read if name in constants}
            bodies = {
                a.name: self.graph(a.g, types, constants) for a in proto.attribute if a.type == AttributeProto.GRAPH
            }
        return node_from_proto(proto, self._unique(proto, index), self.opset, bodies)

    def _unique(self, proto: NodeProto, index: int) -> str:
        """Returns the node's name, numbered where other nodes have the same name."""
        plain = name = proto.name or f"{proto.op_type}_{next((o for o in proto.output if o), index)}"
        while name in self.names:
            self.names[plain] += 1
            name = f"{plain}'{self.names[plain] if self.names[plain] > 2 else ''}"
        self.names[name] = 1
        return name
