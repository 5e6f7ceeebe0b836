# SPDX-License-Identifier: Apache-2.0
"""The sum of absolute terms that the relative stabiliser uses equals the one from the operator's Jacobian."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from lstm_explain.operators import TABLE, Kind
from lstm_explain.operators.tape import SavedTensors
from lstm_explain.program.compile import Plan, Purpose, compile_plan
from lstm_explain.program.magnitudes import magnitude_value
from lstm_explain.program.program import Program
from tests.operators import CASES
from tests.operators.case import Case, outputs_of

Array = npt.NDArray[Any]
LINEAR = {Kind.SUM, Kind.MAP, Kind.SCALE, Kind.ROUTING}
LARGEST = 400  # elements of the inputs: the Jacobian takes a run for each
MORE = {"BatchNormalization", "Einsum", "ScatterND"}  # terms of one unit, or of two constants, count apart
LESS = {"DFT", "Resize", "Upsample"}  # weights that are no operands enter with their signs


def plan_of(model: lx.Model) -> Plan:
    purpose = Purpose(keep=SavedTensors.SIGNALS, magnitudes=True)
    return compile_plan(model.engine.graph, ["y"], purpose)


def linear_cases() -> list[Any]:
    found = []
    for case in CASES:
        entry = TABLE.get(f"{case.domain}::{case.op}" if case.domain else case.op)
        if entry is None or (isinstance(entry.kind, Kind) and entry.kind not in (Kind.SUM, Kind.MAP)):
            continue
        inputs = [np.asarray(case.inputs[i]) for i in case.live]
        if all(x.dtype == np.float32 for x in inputs) and sum(x.size for x in inputs) <= LARGEST:
            found.append(pytest.param(case, id=str(case)))
    return found


def is_one_neuron(plan: Plan) -> bool:
    """Whether the output is one sum of the inputs' elements, with at most one linear map on the way."""
    *before, last = plan.backward_nodes
    kinds = [node.kind for node in plan.backward_nodes]
    summed = all(plan.linear.issuperset(node.node.outputs) for node in before)
    return summed and last.kind in (Kind.SUM, Kind.MAP) and kinds.count(Kind.MAP) <= 1 and set(kinds) <= LINEAR


def terms(case: Case, feeds: dict[str, Array], y: Array) -> Array:
    """Sum of |J_ki x_i| over all input elements i, and |y_k(0)|, for every output element k."""
    zeros = {name: np.zeros_like(x) for name, x in feeds.items()}
    bias = outputs_of(case, zeros)
    total = np.abs(bias).astype(np.float64)
    for name, x in feeds.items():
        for place in np.ndindex(*x.shape):
            unit = np.zeros_like(x)
            unit[place] = x[place]
            total += np.abs(outputs_of(case, {**zeros, name: unit}) - bias)
    return total


@pytest.mark.parametrize("case", linear_cases())
def test_the_magnitude_is_the_sum_of_absolute_terms(case: Case) -> None:
    model = lx.load(case.model())
    plan = plan_of(model)
    if not is_one_neuron(plan):
        pytest.skip("not one neuron")
    feeds = case.feeds()
    done = Program(plan, model.engine.cells, lx.LRP()).forward(feeds)
    y = outputs_of(case, feeds)
    magnitude, expected = done.values[magnitude_value("y")], terms(case, feeds, y)
    scale = np.abs(expected).max()
    if case.op in MORE:
        assert (magnitude >= expected - 1e-4 * scale).all()
    elif case.op in LESS:
        assert (magnitude <= expected + 1e-4 * scale).all()
    else:
        np.testing.assert_allclose(magnitude, expected, atol=1e-4 * scale)


def test_values_may_have_the_names_of_pytorch() -> None:
    """Its exporter calls values `onnx::Gemm_1`; magnitudes add parts to such names."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["onnx::Gemm_1"]),
        helper.make_node("Gemm", ["onnx::Gemm_1", "onnx::Gemm_2"], ["y"]),
    ]
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=["B", 2])
    weights = numpy_helper.from_array(np.array([[1, 2], [-3, 4]], np.float32), "onnx::Gemm_2")
    graph = helper.make_graph(nodes, "sum", [value("x")], [value("y")], [weights])
    model = lx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    x = np.array([[1, 2]], np.float32)
    relevance = model.explain({"x": x}, lx.LRP(layer_stabiliser=0.0), lx.Target(index=1)).relevance["x"]
    np.testing.assert_allclose(relevance, [[4, 16]], rtol=1e-6)
