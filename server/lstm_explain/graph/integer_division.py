# SPDX-License-Identifier: Apache-2.0
"""Rewrites integer division so that no operand can end the process.

The smallest integer divided by -1 has no quotient of its type: the processor traps (SIGFPE), and so does ONNX Runtime
(1.32), both when it folds constants and when it runs. Where the divisor may be -1 and the dividend the smallest
integer, Div and Mod divide by 1 instead and the quotient is negated, so that it wraps around as in NumPy. For a
division by zero, ONNX Runtime reports an error that names the node.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping
from functools import lru_cache

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import Array, graph_proto_values
from lstm_explain.graph.node_editing import ReplacementNodes
from lstm_explain.graph.protos import bodies_of, copy_of, is_standard, label_of, nodes_of, opset_of, put_nodes
from lstm_explain.graph.session import open_session
from lstm_explain.graph.tensors import array_of, constant_of

DIVISIONS = {"Div", "Mod"}
TRAPPING = {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64}  # narrower integers are widened first
CAST_LIKE = 15  # the opset that introduced CastLike

Types = MutableMapping[str, int]
Constants = MutableMapping[str, Array]


def guard_divisions(model: ModelProto) -> bool:
    """Rewrites every division, in bodies too, that could trap. Returns whether the model changed. Raises ModelError."""
    if not any(_divides(node) for node in nodes_of(model)):
        return False
    return _Guard(model, opset_of(model)).graph(model.graph, ChainMap(), ChainMap())


def _divides(node: NodeProto) -> bool:
    return node.op_type in DIVISIONS and is_standard(node)


class _Guard:
    def __init__(self, model: ModelProto, opset: int) -> None:
        self.opset = opset
        self.runtime_types = _types_by_runtime(model, opset)

    def graph(self, graph: GraphProto, outer_types: ChainMap[str, int], outer_constants: ChainMap[str, Array]) -> bool:
        """Rewrites one graph. A body sees the types and constants of enclosing graphs, unless it redefines a name."""
        types, constants = (
            outer_types.new_child(_types(graph) | self.runtime_types),
            outer_constants.new_child(_integers(graph)),
        )
        _add_types(graph, types, self.opset)
        nodes: list[NodeProto] = []
        changed = False
        for node in graph.node:
            for body in bodies_of(node):
                changed |= self.graph(body, types, constants)
            element = self._element(node, types) if _divides(node) else None
            if element is not None and _may_trap(node, constants):
                nodes += _guarded(node, element)
            else:
                nodes.append(node)
        if len(nodes) == len(graph.node):
            return changed
        put_nodes(graph, nodes)
        return True

    def _element(self, node: NodeProto, types: Types) -> int | None:
        """Returns the element type of a division that may trap, UNDEFINED where only the runtime knows it; None for
        others.
        """
        if self.opset < 7:  # ONNX Runtime does not support it
            return None
        known = next((types[name] for name in (*node.input, *node.output) if types.get(name)), TensorProto.UNDEFINED)
        if known == TensorProto.UNDEFINED:
            return known if self.opset >= CAST_LIKE else None
        return known if known in TRAPPING else None


def _types(graph: GraphProto) -> dict[str, int]:
    found = {v.name: v.type.tensor_type.elem_type for v in graph_proto_values(graph)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _add_types(graph: GraphProto, types: Types, opset: int) -> None:
    """Adds the element types that follow from the operators: ONNX infers none for the values inside a body."""
    for node in graph.node:
        if not is_standard(node) or all(types.get(name) for name in node.output if name):
            continue
        if node.op_type == "Cast":
            types[node.output[0]] = next(a.i for a in node.attribute if a.name == "to")
            continue
        inputs, outputs = _formal_types(node.op_type, opset)
        for formal, name in zip(outputs, node.output, strict=False):
            same = [types.get(x) for own, x in zip(inputs, node.input, strict=False) if own == formal]
            if name and not types.get(name) and (known := next(filter(None, same), None)):
                types[name] = known


@lru_cache(maxsize=1024)
def _formal_types(op: str, opset: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the type parameters of an operator's inputs and outputs: those with the same name have the same type."""
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return (), ()
    return tuple(i.type_str for i in schema.inputs), tuple(o.type_str for o in schema.outputs)


def _types_by_runtime(model: ModelProto, opset: int) -> dict[str, int]:
    """Returns the element types, by name, that only ONNX Runtime can infer: those that its own operators compute.

    The session does not optimise, because constant folding would evaluate a division.
    """
    types = _types(model.graph)
    operands = [name for node in model.graph.node if _divides(node) for name in node.input[:1]]
    unknown = [name for name in dict.fromkeys(operands) if not types.get(name)]
    if not unknown or opset < 7:
        return {}
    probed = copy_of(model)
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
    try:
        outputs = open_session(probed.SerializeToString(), optimise=False).get_outputs()
    except Exception:  # ONNX Runtime's exception types are not public; what it cannot load it cannot run either
        return {}
    names = {"float": "FLOAT", "float16": "FLOAT16", "double": "DOUBLE"}
    kinds = {o.name: o.type.removeprefix("tensor(").removesuffix(")") for o in outputs}
    return {name: TensorProto.DataType.Value(names.get(kinds[name], kinds[name].upper())) for name in unknown}


def _integers(graph: GraphProto) -> dict[str, Array]:
    """Constants of integer types, by name."""
    arrays = {t.name: array_of(t) for t in graph.initializer if t.data_type in TRAPPING}
    for node in graph.node:
        constant = constant_of(node) if node.output else None
        if constant is not None and constant.dtype.kind == "i":
            arrays[node.output[0]] = constant
    return arrays


def _may_trap(node: NodeProto, constants: Constants) -> bool:
    """Raises ModelError for a division by a constant zero."""
    dividend, divisor = (constants.get(name) for name in node.input)
    if divisor is not None:
        if not divisor.all():
            raise ModelError(f"node {label_of(node)!r} ({node.op_type}): its divisor {node.input[1]!r} contains 0")
        return bool((divisor == -1).any()) and not _never_smallest(dividend)
    return not _never_smallest(dividend)


def _never_smallest(dividend: Array | None) -> bool:
    return dividend is not None and not (dividend == np.iinfo(dividend.dtype).min).any()


def _guarded(node: NodeProto, element: int) -> list[NodeProto]:
    """Returns the nodes that replace one division. The node that divides keeps its name."""
    replacement = ReplacementNodes(node)
    op, constant, divisor = replacement.op, replacement.constant, node.input[1]
    if element == TensorProto.UNDEFINED:
        wide = op("Cast", divisor, to=TensorProto.DOUBLE)
        is_minus_one = op("CastLike", op("Equal", wide, constant(-1.0)), divisor)
        one, two = (op("CastLike", constant(value), divisor) for value in (1.0, 2.0))
    else:
        dtype = TRAPPING[element]
        is_minus_one = op("Cast", op("Equal", divisor, constant(dtype(-1))), to=element)
        one, two = constant(dtype(1)), constant(dtype(2))
    twice = op("Mul", is_minus_one, two)
    division = copy_of(node)
    division.input[1] = op("Add", divisor, twice)
    nodes = [*replacement.nodes, division]
    if node.op_type == "Div":
        output = node.output[0]
        division.output[0] = f"{output}/quotient"
        sign = op("Sub", one, twice)
        nodes += [
            replacement.nodes[-1],
            helper.make_node("Mul", [division.output[0], sign], [output], name=f"{output}/sign"),
        ]
    return nodes
