# SPDX-License-Identifier: Apache-2.0
"""Turns an ONNX node of one iteration into nodes that compute all iterations at once, along an axis in front."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from lstm_explain.graph.ir import Array
from lstm_explain.graph.protos import STANDARD_DOMAINS

Shape = tuple[int, ...]
ELEMENTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift Cast CastLike Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp "
    "Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max "
    "Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Sub Sum Tan Tanh ThresholdedRelu Where Xor"
)
ALONG_AXIS = {"ArgMax": 0, "ArgMin": 0, "TopK": -1}
REDUCTIONS = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp"


class CannotLiftError(Exception):
    """A node has no counterpart that computes all iterations at once."""


class Lifting:
    """Writes the nodes of one iteration for all iterations.

    shapes: of every value in one iteration, by name. constants: those of the iteration. over_time: the values that
    differ from iteration to iteration, to which an axis in front is added; the others keep their shapes. count: the
    name of a value [1] with the number of iterations.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], constants: Mapping[str, Array], over_time: set[str], count: str
    ) -> None:
        self.shapes, self.constants, self.over_time, self.count = shapes, constants, over_time, count
        self.nodes: list[NodeProto] = []
        self.made: dict[str, Array] = {}  # constants that the nodes read besides those of the iteration
        self._known: dict[object, str] = {}

    def lift(self, node: NodeProto) -> None:
        """Adds the nodes of all iterations. Raises CannotLiftError."""
        if not self.over_time.intersection(node.input):
            self.nodes.append(node)
            return
        if any(name and name not in self.shapes for name in (*node.input, *node.output)):
            raise CannotLiftError(node.op_type)
        if node.op_type == "Shape" and node.domain in STANDARD_DOMAINS:
            self._shape(node)
            return
        rule = RULES.get(node.op_type) if node.domain in STANDARD_DOMAINS else None
        if rule is None or (len(node.output) > 1 and node.op_type not in ("TopK", "Split")):
            raise CannotLiftError(node.op_type)
        written = len(self.nodes)
        try:
            rule(self, node)
        except CannotLiftError:
            del self.nodes[written:]
            self._known = {key: name for key, name in self._known.items() if name not in self._lost(written)}
            raise
        self.over_time.update(node.output)

    def _shape(self, node: NodeProto) -> None:
        """All iterations have the same shapes."""
        shape = self.shapes[node.input[0]]
        part = shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))]
        name = f"over_time/shape/{node.output[0]}"
        self.made[name] = np.array(part, np.int64)
        self.nodes.append(helper.make_node("Identity", [name], [node.output[0]]))

    def _lost(self, written: int) -> set[str]:
        there = {name for node in self.nodes for name in node.output}
        return {name for name in self._known.values() if name not in there}

    # --- what rules are made of -------------------------------------------------------------------------------------

    def write(self, like: NodeProto, inputs: list[str], **attributes: Any) -> None:
        """Adds the node with other inputs and some other attributes."""
        node = NodeProto()
        node.CopyFrom(like)
        node.input[:] = inputs
        for name, value in attributes.items():
            for i, attribute in enumerate(node.attribute):
                if attribute.name == name:
                    del node.attribute[i]
                    break
            node.attribute.append(helper.make_attribute(name, value))
        self.nodes.append(node)

    def constant(self, numbers: Any) -> str:
        array = np.asarray(numbers, np.int64)
        name = f"over_time/{array.ndim}/" + "_".join(map(str, array.reshape(-1).tolist()))
        self.made[name] = array
        return name

    def rank(self, name: str) -> int:
        return len(self.shapes[name])

    def at_rank(self, name: str, rank: int) -> str:
        """Returns the value with as many axes in one iteration, new ones in front."""
        missing = rank - self.rank(name)
        if name not in self.over_time or missing <= 0:
            return name
        shape = self.shapes[name]
        if 0 in shape:
            raise CannotLiftError("an empty array")
        return self._once("Reshape", [name, self.constant([-1, *[1] * missing, *shape])])

    def everywhere(self, name: str) -> str:
        """Returns the value over time, repeated if all iterations share it."""
        if name in self.over_time:
            return name
        shape = self._once("Concat", [self.count, self.constant(list(self.shapes[name]))], axis=0)
        return self._once("Expand", [name, shape])

    def _once(self, op: str, inputs: list[str], **attributes: Any) -> str:
        key = (op, *inputs)
        name = self._known.get(key)
        if name is None:
            name = self._known[key] = f"over_time/{op}/" + "|".join(inputs)
            self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def numbers(self, node: NodeProto, slot: int) -> list[int]:
        """Returns an operand that must be a constant, as a list."""
        name = node.input[slot] if slot < len(node.input) else ""
        if name not in self.constants:
            raise CannotLiftError(f"{node.op_type}: operand {slot} is not a constant")
        return self.constants[name].reshape(-1).tolist()

    def only_first_over_time(self, node: NodeProto) -> None:
        if self.over_time.intersection(node.input[1:]):
            raise CannotLiftError(node.op_type)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


# --- the rules --------------------------------------------------------------------------------------------------------


def _elementwise(to: Lifting, node: NodeProto) -> None:
    rank = max(to.rank(name) for name in node.input if name)
    to.write(node, [to.at_rank(name, rank) if name else "" for name in node.input])


def _matmul(to: Lifting, node: NodeProto) -> None:
    rank = max(to.rank(name) for name in node.input)
    if any(to.rank(name) < 2 for name in node.input):
        raise CannotLiftError(node.op_type)
    to.write(node, [to.at_rank(name, rank) for name in node.input])


def _gemm(to: Lifting, node: NodeProto) -> None:
    """Rows of all iterations are rows of one product."""
    to.only_first_over_time(node)
    if attribute(node, "transA", 0) or (len(node.input) > 2 and node.input[2] and to.rank(node.input[2]) > 1):
        raise CannotLiftError(node.op_type)
    flat, product = f"{node.output[0]}/rows", f"{node.output[0]}/product"
    shape = to.shapes[node.output[0]]
    to.nodes.append(
        helper.make_node("Reshape", [node.input[0], to.constant([-1, to.shapes[node.input[0]][1]])], [flat])
    )
    to.write(node, [flat, *node.input[1:]])
    to.nodes[-1].output[:] = [product]
    to.nodes.append(helper.make_node("Reshape", [product, to.constant([-1, *shape])], [node.output[0]]))


def _transpose(to: Lifting, node: NodeProto) -> None:
    order = attribute(node, "perm") or list(range(to.rank(node.input[0])))[::-1]
    to.write(node, list(node.input), perm=[0, *(axis + 1 for axis in order)])


def _reshape(to: Lifting, node: NodeProto) -> None:
    shape = to.shapes[node.output[0]]
    if 0 in shape:
        raise CannotLiftError(node.op_type)
    to.only_first_over_time(node)
    to.write(node, [node.input[0], to.constant([-1, *shape])])


def _axes_as_operand(to: Lifting, node: NodeProto) -> None:
    """Unsqueeze, Squeeze and reductions, whose axes are the second operand or, in older opsets, an attribute."""
    rank = to.rank(node.output[0] if node.op_type == "Unsqueeze" else node.input[0])
    given = attribute(node, "axes")
    if given is not None:
        to.write(node, list(node.input), axes=[axis % rank + 1 for axis in given])
        return
    if len(node.input) < 2 or not node.input[1]:
        if node.op_type in REDUCTIONS.split() and attribute(node, "noop_with_empty_axes", 0):
            raise CannotLiftError(node.op_type)
        axes = list(range(rank))
        if node.op_type == "Squeeze":
            axes = [axis for axis, extent in enumerate(to.shapes[node.input[0]]) if extent == 1]
    else:
        axes = [axis % rank for axis in to.numbers(node, 1)]
    if not axes:
        raise CannotLiftError(node.op_type)
    if node.op_type in REDUCTIONS.split() and len(node.input) < 2:
        raise CannotLiftError(node.op_type)  # whether axes may be an operand depends on the opset
    to.write(node, [node.input[0], to.constant([axis + 1 for axis in axes])])


def _concat(to: Lifting, node: NodeProto) -> None:
    rank = to.rank(node.output[0])
    to.write(node, [to.everywhere(name) for name in node.input], axis=attribute(node, "axis") % rank + 1)


def _expand(to: Lifting, node: NodeProto) -> None:
    to.only_first_over_time(node)
    shape = to.shapes[node.output[0]]
    to.write(node, [to.at_rank(node.input[0], len(shape)), to.constant([1, *shape])])


def _slice(to: Lifting, node: NodeProto) -> None:
    to.only_first_over_time(node)
    if len(node.input) < 3:
        raise CannotLiftError(node.op_type)
    rank = to.rank(node.input[0])
    axes = to.numbers(node, 3) if len(node.input) > 3 and node.input[3] else range(len(to.numbers(node, 1)))
    moved = to.constant([axis % rank + 1 for axis in axes])
    to.write(node, [*node.input[:3], moved, *node.input[4:]])


def _pad(to: Lifting, node: NodeProto) -> None:
    to.only_first_over_time(node)
    if len(node.input) > 3 and node.input[3]:
        raise CannotLiftError(node.op_type)
    pads = to.numbers(node, 1)
    half = len(pads) // 2
    to.write(node, [node.input[0], to.constant([0, *pads[:half], 0, *pads[half:]]), *node.input[2:]])


def _split(to: Lifting, node: NodeProto) -> None:
    to.only_first_over_time(node)
    to.write(node, list(node.input), axis=attribute(node, "axis", 0) % to.rank(node.input[0]) + 1)


def _gather(to: Lifting, node: NodeProto) -> None:
    data, indices = node.input
    axis = attribute(node, "axis", 0) % to.rank(data)
    if indices not in to.over_time:
        to.write(node, [data, indices], axis=axis + 1)
    elif data not in to.over_time and axis == 0:
        to.write(node, [data, indices])
    else:
        raise CannotLiftError(node.op_type)


def _gather_elements(to: Lifting, node: NodeProto) -> None:
    axis = attribute(node, "axis", 0) % to.rank(node.input[0])
    to.write(node, [to.everywhere(name) for name in node.input], axis=axis + 1)


def _along_axis(to: Lifting, node: NodeProto) -> None:
    to.only_first_over_time(node)
    axis = attribute(node, "axis", ALONG_AXIS[node.op_type])
    to.write(node, list(node.input), axis=axis % to.rank(node.input[0]) + 1)


def _cumulative_sum(to: Lifting, node: NodeProto) -> None:
    (axis,) = to.numbers(node, 1)
    to.write(node, [node.input[0], to.constant(axis % to.rank(node.input[0]) + 1)])


def _einsum(to: Lifting, node: NodeProto) -> None:
    equation = attribute(node, "equation").decode().replace(" ", "")
    terms, arrow, out = equation.partition("->")
    letter = next(c for c in "zyxwvutsrqponml" if c not in equation)
    parts = [
        letter + term if name in to.over_time else term for term, name in zip(terms.split(","), node.input, strict=True)
    ]
    if not arrow:
        raise CannotLiftError(node.op_type)
    to.write(node, list(node.input), equation=f"{','.join(parts)}->{letter}{out}")


RULES: dict[str, Callable[[Lifting, NodeProto], None]] = {
    **dict.fromkeys(ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys((*REDUCTIONS.split(), "Unsqueeze", "Squeeze"), _axes_as_operand),
    **dict.fromkeys(ALONG_AXIS, _along_axis),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Concat": _concat,
    "Expand": _expand,
    "Slice": _slice,
    "Pad": _pad,
    "Split": _split,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "CumSum": _cumulative_sum,
    "Einsum": _einsum,
}
