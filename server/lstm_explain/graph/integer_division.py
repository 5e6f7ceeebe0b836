"""Spells integer division so that no operand ends the process.

The smallest integer divided by -1 has no quotient of its type: the processor traps (SIGFPE), and ONNX Runtime (1.32)
divides as the processor does, when it folds constants and when it runs. Where the divisor may be -1 and the dividend
the smallest integer, Div and Mod divide by 1 instead, and the quotient changes its sign: it wraps around as in NumPy.
Division by zero is an error of ONNX Runtime's that names the node.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import Array, graph_proto_values
from lstm_explain.graph.protos import bodies_of, nodes_of, opset_of, put_nodes
from lstm_explain.graph.session import open_session
from lstm_explain.graph.tensors import array_of, constant_of

DIVISIONS = {"Div", "Mod"}
TRAPPING = {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64}  # narrower integers are divided as these
OWN_DOMAIN = ("", "ai.onnx")
CAST_LIKE = 15  # the opset that brought it

Types = MutableMapping[str, int]
Constants = MutableMapping[str, Array]


def without_traps(model: ModelProto) -> bool:
    """Changes the model where a division could trap, in bodies too; tells whether there was one. Raises ModelError."""
    if not any(_divides(node) for node in nodes_of(model)):
        return False
    opset = opset_of(model)
    return _Guard(model, opset).graph(model.graph, ChainMap(), ChainMap())


def _divides(node: NodeProto) -> bool:
    return node.op_type in DIVISIONS and node.domain in OWN_DOMAIN


class _Guard:
    def __init__(self, model: ModelProto, opset: int) -> None:
        self.opset = opset
        self.found = _types_by_runtime(model, opset)

    def graph(self, graph: GraphProto, outer: ChainMap[str, int], around: ChainMap[str, Array]) -> bool:
        """Types and constants of enclosing graphs: seen inside, unless hidden by the same name."""
        types, constants = outer.new_child(_types(graph) | self.found), around.new_child(_integers(graph))
        nodes: list[NodeProto] = []
        changed = False
        for node in graph.node:
            for body in bodies_of(node):
                changed |= self.graph(body, types, constants)
            element = self._element(node, types) if _divides(node) else None
            if element is not None and _may_trap(node, constants):
                nodes += _Spelled(node, element).nodes
            else:
                nodes.append(node)
        if len(nodes) == len(graph.node):
            return changed
        put_nodes(graph, nodes)
        return True

    def _element(self, node: NodeProto, types: Types) -> int | None:
        """The element type of a division that may trap, UNDEFINED where only the runtime knows it; None for others."""
        if self.opset < 7:  # ONNX Runtime does not run it
            return None
        known = next((types[name] for name in (*node.input, *node.output) if types.get(name)), TensorProto.UNDEFINED)
        if known == TensorProto.UNDEFINED:
            return known if self.opset >= CAST_LIKE else None
        return known if known in TRAPPING else None


def _types(graph: GraphProto) -> dict[str, int]:
    found = {v.name: v.type.tensor_type.elem_type for v in graph_proto_values(graph)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _types_by_runtime(model: ModelProto, opset: int) -> dict[str, int]:
    """By name, element types that only ONNX Runtime can tell, since operators of its own stand in front of a division.

    A session that optimises nothing computes nothing.
    """
    types = _types(model.graph)
    operands = [name for node in model.graph.node if _divides(node) for name in node.input[:1]]
    unknown = [name for name in dict.fromkeys(operands) if not types.get(name)]
    if not unknown or opset < 7:
        return {}
    asked = ModelProto()
    asked.CopyFrom(model)
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
    try:
        outputs = open_session(asked.SerializeToString(), optimise=False).get_outputs()
    except Exception:  # ONNX Runtime's own types are not public; what it cannot load it will not run either
        return {}
    names = {"float": "FLOAT", "float16": "FLOAT16", "double": "DOUBLE"}
    kinds = {o.name: o.type.removeprefix("tensor(").removesuffix(")") for o in outputs}
    return {name: TensorProto.DataType.Value(names.get(kinds[name], kinds[name].upper())) for name in unknown}


def _integers(graph: GraphProto) -> dict[str, Array]:
    """Constants that are no floating-point numbers."""
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
            named = node.name or next(iter(node.output), "")
            raise ModelError(f"node {named!r} ({node.op_type}): its divisor {node.input[1]!r} holds 0")
        return bool((divisor == -1).any()) and not _never_smallest(dividend)
    return not _never_smallest(dividend)


def _never_smallest(dividend: Array | None) -> bool:
    return dividend is not None and not (dividend == np.iinfo(dividend.dtype).min).any()


class _Spelled:
    """The nodes that stand for one division. The node that divides keeps its name."""

    def __init__(self, node: NodeProto, element: int) -> None:
        self.nodes: list[NodeProto] = []
        divisor, output = node.input[1], node.output[0]
        self.name = output  # unlike a node's own name, no other has it
        if element == TensorProto.UNDEFINED:
            wide = self._op("Cast", divisor, to=TensorProto.DOUBLE)
            is_minus_one = self._op("CastLike", self._op("Equal", wide, self._number(-1.0)), divisor)
            one, two = (self._op("CastLike", self._number(value), divisor) for value in (1.0, 2.0))
        else:
            kind = TRAPPING[element]
            is_minus_one = self._op("Cast", self._op("Equal", divisor, self._number(kind(-1))), to=element)
            one, two = self._number(kind(1)), self._number(kind(2))
        twice = self._op("Mul", is_minus_one, two)
        safe = self._op("Add", divisor, twice)
        own = NodeProto()
        own.CopyFrom(node)
        own.input[1] = safe
        self.nodes.append(own)
        if node.op_type == "Div":
            own.output[0] = f"{self.name}/quotient"
            sign = self._op("Sub", one, twice)
            self.nodes.append(helper.make_node("Mul", [own.output[0], sign], [output], name=f"{self.name}/sign"))

    def _op(self, op: str, *inputs: str, **attributes: Any) -> str:
        output = f"{self.name}/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def _number(self, value: Any) -> str:
        """value: a NumPy number, or one of Python's for float64."""
        return self._op("Constant", value=numpy_helper.from_array(np.asarray(value)))
