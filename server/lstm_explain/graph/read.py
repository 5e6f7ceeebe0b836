"""From a path, bytes or a ModelProto to a Graph: read, check, inline, infer, fold."""

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
from lstm_explain.graph.required_operands import check_required
from lstm_explain.graph.sandbox import survives
from lstm_explain.graph.shape_inference import infer_shapes
from lstm_explain.graph.sparse_tensors import fill
from lstm_explain.graph.tensors import array_of, constant_of, first_line
from lstm_explain.graph.topological_order import names_read, put_in_order

CRASHES = "not a valid ONNX model: ONNX's shape inference crashes on it, or needs too much"


def read(source: str | Path | bytes | ModelProto) -> ModelProto:
    """The checked model, functions inlined, weights in memory, shapes inferred; raises ModelError."""
    model, folder = _parse(source)
    check_size(model)
    load_external_data(model, folder)
    fill(model)
    put_in_order(model)
    _forget_negative_extents(model)
    give_ranks(model)
    if not survives(without_weights(model)):
        raise ModelError(CRASHES)
    if any(not v.type.tensor_type.HasField("shape") for v in model.graph.output):
        model = infer(model)
    try:
        _check(model)
        model = onnx.inliner.inline_local_functions(model)
    except ModelError:
        raise
    except Exception as error:  # the checker and the inliner raise several types, all about the file
        raise ModelError(f"not a valid ONNX model: {first_line(error)}") from error
    check_required(model)
    _forget_unread(model)
    return model


def _forget_unread(model: ModelProto) -> None:
    """Initializers that nothing reads go: for each body, ONNX Runtime copies the names of all that is around it."""
    for graph in graphs_of(model):
        read = {name for node in graph.node for name in names_read(node)}
        read |= {value.name for value in (*graph.output, *graph.input)}
        graph.initializer.sort(key=lambda tensor: tensor.name not in read)  # in place, where a copy may be large
        del graph.initializer[sum(tensor.name in read for tensor in graph.initializer) :]


# ONNX Runtime runs these, though ONNX's checker does not know them (any more).
BEYOND_THE_CHECKER = ("SimplifiedLayerNormalization", "LayerNormalization", "GroupNormalization")


def _check(model: ModelProto) -> None:
    """Outputs whose shape nobody knows get one for as long as this takes: the checker wants it, runtimes do without."""
    bare = [v.type.tensor_type for v in model.graph.output if v.type.HasField("tensor_type")]
    bare = [tensor for tensor in bare if not tensor.HasField("shape")]
    for tensor in bare:
        tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        if not any(op in first_line(error) for op in BEYOND_THE_CHECKER):
            raise
    finally:
        for tensor in bare:
            tensor.ClearField("shape")


def _forget_negative_extents(model: ModelProto) -> None:
    """Some exporters write -1 for an extent that is not known."""
    for graph in graphs_of(model):
        for value in graph_proto_values(graph):
            for extent in value.type.tensor_type.shape.dim:
                if extent.dim_value < 0:
                    extent.ClearField("dim_value")


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
        raise ModelError(f"not an ONNX file, or truncated ({len(source)} bytes)") from error
    if not model.graph.node:
        raise ModelError("not an ONNX model, or one without nodes")
    return model, folder


def infer(model: ModelProto) -> ModelProto:
    """Types and shapes as far as ONNX can tell them; the model itself where inference gives up."""
    try:
        return infer_shapes(model)
    except Exception:  # inference is a help, not a check: the model has passed the checker
        return model


def infer_changed(model: ModelProto) -> ModelProto:
    """`infer`, of a model that is no longer the one that was read, and so was not tried."""
    return infer(model) if survives(without_weights(model)) else model


# Element types of which ONNX Runtime makes no NumPy array.
NO_ARRAYS = {"BFLOAT16", "INT4", "UINT4", "INT2", "UINT2", "COMPLEX64", "COMPLEX128"}
NO_ARRAYS |= {"FLOAT4E2M1", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"}
ARRAYS = "tensors of float16, float32, float64, float8e4m3fn, integers of 8 bits or more, bool or text"


def check_outputs(proto: ModelProto) -> None:
    """Raises ModelError for an output that nobody can be given: no tensor, or of a type that no array has."""
    for output in proto.graph.output:
        held = output.type.WhichOneof("value")
        if held not in (None, "tensor_type"):
            what = f"is {'an' if held.startswith('o') else 'a'} {held.removesuffix('_type').replace('_', ' ')}"
        elif (kind := onnx.TensorProto.DataType.Name(output.type.tensor_type.elem_type)) in NO_ARRAYS:
            what = f"holds {kind.lower()}"
        else:
            continue
        raise ModelError(f"output {output.name!r} {what}: outputs have to be {ARRAYS}; leave it out, or cast it")


def build(model: ModelProto) -> Graph:
    """The graph of a checked model."""
    opsets = {o.domain: o.version for o in model.opset_import}
    builder = _Builder(opsets.get("", opsets.get("ai.onnx", 1)), list(model.opset_import), model.ir_version)
    graph = builder.graph(model.graph, {}, {})
    if not graph.outputs:
        raise ModelError("the model has no outputs")
    if graph.captured:  # what a body would take from around it; around a model there is nothing
        raise ModelError(f"nothing computes {graph.captured[0]!r}")
    return graph


def node_of(graph: Graph, proto: NodeProto) -> Node:
    """A node of `graph` made from its proto, bodies included."""
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
            ):  # what says less adds nothing
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
            read = set(names_read(proto))  # a body has no use for all else, and there may be many bodies
            types = {name: types[name] for name in read if name in types}
            constants = {name: constants[name] for name in read if name in constants}
            bodies = {
                a.name: self.graph(a.g, types, constants) for a in proto.attribute if a.type == AttributeProto.GRAPH
            }
        return node_from_proto(proto, self._unique(proto, index), self.opset, bodies)

    def _unique(self, proto: NodeProto, index: int) -> str:
        """The node's name, numbered where others have it too."""
        plain = name = proto.name or f"{proto.op_type}_{next((o for o in proto.output if o), index)}"
        while name in self.names:
            self.names[plain] += 1
            name = f"{plain}'{self.names[plain] if self.names[plain] > 2 else ''}"
        self.names[name] = 1
        return name
