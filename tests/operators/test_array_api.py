# SPDX-License-Identifier: Apache-2.0
"""Rules run on the arrays of any namespace of the Python array API standard, here those of array_api_strict.

array_api_strict implements the standard and nothing else: a function, argument or promotion that only NumPy knows is an
error. Operators whose rules need such a function name it in their entry (`numpy_only`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import lstm_explain as lx
from lstm_explain.graph.ir import Graph, node_from_proto
from lstm_explain.operators import TABLE, Kind, NodeContext, Operator
from lstm_explain.operators.array_api import NUMPY_ONLY, NumPyOnlyError
from lstm_explain.operators.contraction import share_matmul
from lstm_explain.operators.formulas import At, settle, shared, shares_of_product, times
from tests.operators import CASES
from tests.operators.case import AnyArray, Case, rng

strict = pytest.importorskip("array_api_strict")
SINGLE = np.dtype(np.float32)


class StrictContext(NodeContext):
    """A node whose values are arrays of array_api_strict."""

    __slots__ = ()

    def _value(self, name: str) -> Any:
        return strict.asarray(super()._value(name))


def entry_of(case: Case) -> Operator | None:
    return TABLE.get(f"{case.domain}::{case.op}" if case.domain else case.op)


def outputs_of_node(case: Case, node: onnx.NodeProto) -> dict[str, AnyArray]:
    """All outputs of the node by name, as ONNX Runtime computes them."""
    model = case.model()
    del model.graph.node[1:]
    model.graph.node[0].CopyFrom(node)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(filter(None, node.output), session.run(None, case.feeds()), strict=True))


def contexts(case: Case) -> tuple[NodeContext, NodeContext, dict[str, AnyArray]]:
    """The node of the case with NumPy's arrays and with strict ones, and its outputs."""
    proto = case.model().graph.node[0]
    constants = {i.name: numpy_helper.to_array(i) for i in case.model().graph.initializer}
    outputs = outputs_of_node(case, proto)
    graph = Graph([], [], [], constants, {}, [], 8)
    node = node_from_proto(proto, "node", case.opset, {})
    values = case.feeds() | outputs
    return (
        NodeContext(node, graph, case.live, values, SINGLE),
        StrictContext(node, graph, case.live, values, SINGLE),
        outputs,
    )


def to_strict(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(None if v is None else strict.asarray(v) for v in value)
    return strict.asarray(value)


def calls(
    case: Case, op: Operator, outputs: dict[str, AnyArray], node: Any
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The rules of an operator by name, each a function of the context and of a converter for its array arguments."""
    arrays = [
        None if not name else rng(i).standard_normal(outputs[name].shape).astype(np.float32)
        for i, name in enumerate(node.outputs)
    ]
    first = arrays[0] if op.differentiable_outputs is not None or len(arrays) == 1 else tuple(arrays)
    slots = [slot for slot in case.live if op.differentiable is None or slot in op.differentiable]
    kind = op.kind_of(node, tuple(slots))
    for slot in slots:
        if slot in op.nondifferentiable or (slot in op.lookup_slots and len(slots) > 1):
            continue
        if op.vjp is not None:
            yield f"vjp {slot}", lambda ctx, to, slot=slot: op.vjp(ctx, slot, to(first))
        if op.spread is not None and kind in (Kind.SUM, Kind.MAP, Kind.SCALE):
            yield f"spread {slot}", lambda ctx, to, slot=slot: op.spread(ctx, slot, to(first))
        if op.distribute is not None and kind is Kind.ACTIVATION:
            yield f"distribute {slot}", lambda ctx, to, slot=slot: op.distribute(ctx, slot, to(first))
        if op.weights is not None:
            yield f"weights {slot}", lambda ctx, to, slot=slot: op.weights(ctx, slot, to(first))
    if kind in (Kind.SUM, Kind.MAP):
        yield "bias", lambda ctx, to: op.bias(ctx)


def with_rules(case: Case) -> bool:
    op = entry_of(case)
    return op is not None and op.vjp is not None


WITH_RULES = [case for case in CASES if with_rules(case)]


def run_strictly(case: Case) -> set[str]:
    """Compare every rule of the case's operator with its result on NumPy arrays.

    Returns the functions of NumPy alone that the rules need.
    """
    op = entry_of(case)
    assert op is not None
    plain, strictly, outputs = contexts(case)
    missing = set()
    for name, rule in calls(case, op, outputs, plain.node):
        expected = rule(plain, lambda a: a)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                result = rule(strictly, to_strict)
        except NumPyOnlyError as error:
            missing.add(error.function)
            continue
        if expected is None:
            assert result is None, name
            continue
        assert isinstance(result, type(strict.asarray(0))), f"{name} left the namespace of its operands"
        np.testing.assert_allclose(np.asarray(result), expected, rtol=2e-5, atol=1e-6, err_msg=name)
    return missing


@pytest.mark.parametrize("case", WITH_RULES, ids=str)
def test_rules_run_on_any_array_namespace(case: Case) -> None:
    op = entry_of(case)
    assert op is not None
    assert run_strictly(case) <= set(op.numpy_only)


def test_numpy_only_functions_are_named_where_they_are_used() -> None:
    """An entry or the list names no function that its operators do without."""
    called: dict[str, set[str]] = {}
    for case in WITH_RULES:
        op = entry_of(case)
        if op is not None and op.numpy_only:
            for function in run_strictly(case):
                called.setdefault(function, set()).add(f"{case.domain}::{case.op}" if case.domain else case.op)
    named = {name for name, op in TABLE.ops.items() if op.numpy_only}
    assert set().union(*called.values()) == named
    assert called.keys() == NUMPY_ONLY.keys()


# --- formulas of LRP -------------------------------------------------------------------------------------------------


def numbers(seed: int, *shape: int) -> AnyArray:
    return rng(seed).standard_normal(shape).astype(np.float32)


def test_the_epsilon_rule() -> None:
    r, z = numbers(1, 3, 4), numbers(2, 3, 4)
    z[0] = [0, np.inf, -np.inf, -0.0]
    terms = np.abs(z) + np.abs(numbers(3, 3, 4))
    for epsilon, beta in ((0.0, 0.0), (1e-3, 0.0), (0.0, 0.2)):
        magnitude = terms if beta else None
        results = settle(
            strict.asarray(r),
            strict.asarray(z),
            At(epsilon, beta, None if magnitude is None else strict.asarray(terms)),
        )
        for result, expected in zip(results, settle(r, z, At(epsilon, beta, magnitude)), strict=True):
            np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)


def test_density_times_value() -> None:
    density, value = numbers(1, 3, 4), numbers(2, 3, 4)
    density[0, 0], value[0, 0] = 0, -np.inf
    with np.errstate(invalid="ignore"):
        result = times(strict.asarray(density), strict.asarray(value))
        np.testing.assert_allclose(np.asarray(result), times(density, value), rtol=1e-6)


@pytest.mark.parametrize("rule", ["all", "half", "prop", "abs"])
@pytest.mark.parametrize("gate", [None, 0, 1])
def test_product_rules(rule: Any, gate: int | None) -> None:
    lrp = lx.LRP(rule, bias_factor=0.5)
    r, left, right = numbers(1, 3, 4), numbers(2, 3, 4), numbers(3, 3, 4)
    expected = shared(lrp, r, left, right, gate)
    (a, b), absorbed = shared(lrp, *map(strict.asarray, (r, left, right)), gate)
    for result, reference in zip((a, b, absorbed), (*expected[0], expected[1]), strict=True):
        np.testing.assert_allclose(np.asarray(result), reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["all", "half"])
@pytest.mark.parametrize("op", ["Mul", "MatMul"])
def test_products_of_two_operands(op: str, rule: Any) -> None:
    """Under the rules that give every term of a MatMul the same share."""
    lrp = lx.LRP(rule, bias_factor=0.5)
    product_rule = share_matmul if op == "MatMul" else shares_of_product
    for case in (c for c in CASES if c.op == op and c.live == (0, 1)):
        plain, strictly, outputs = contexts(case)
        r = rng(1).standard_normal(outputs["y"].shape).astype(np.float32)
        expected, lost = product_rule(plain, r, 0, lrp)
        results, absorbed = product_rule(strictly, strict.asarray(r), 0, lrp)
        for result, reference in zip((*results, absorbed), (*expected, lost), strict=True):
            assert (result is None) == (reference is None)
            if reference is not None:
                np.testing.assert_allclose(np.asarray(result), reference, rtol=1e-4, atol=1e-5)
