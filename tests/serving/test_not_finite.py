# SPDX-License-Identifier: Apache-2.0
"""Models that overflow give an error with reason and remedy for every method, and never an infinite answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain_client as client
from tests.graph_builder import GraphBuilder
from tests.serving.models import write_version
from tests.serving.running import serving

METHODS: list[tuple[str, dict[str, Any]]] = [
    *(("lrp", {"product_rule": rule}) for rule in ("all", "half", "prop", "abs")),
    ("gradient", {}),
    ("gradient_times_input", {}),
    ("integrated_gradients", {"steps": 6}),
    ("smooth_grad", {"samples": 3}),
    ("occlusion", {}),
    ("occlusion", {"baseline": {"x": np.full(1, -0.5, np.float32)}}),
    ("shapley_sampling", {"permutations": 4}),
    ("shapley_sampling", {"permutations": 4, "baseline": {"x": np.full(1, -0.5, np.float32)}}),
]
REASONS = r"not finite|overflow"
WAYS_OUT = r"other inputs|larger epsilon|occlusion|smaller noise|baseline="


def far() -> onnx.ModelProto:
    """x float32 [B, T, 2] to y [B, 2], of nearly the largest numbers and of opposite signs."""
    g = GraphBuilder(np.float32, 17)
    summed = g.with_axes("ReduceSum", g.op("Tanh", [g.input("x", ["B", "T", 2])]), [1], 13, keepdims=0)
    weights = 1.6e38 * np.array([[1, -1], [1, -1]])
    return g.model(g.op("MatMul", [summed, g.constant(weights, "w")]), ["B", 2], rename="y")


def steep() -> onnx.ModelProto:
    """x float32 [B, T, 2] to the logarithm of a sum of exponentials, which overflows where float64's does not."""
    g = GraphBuilder(np.float32, 17)
    powers = g.op("Exp", [g.op("Mul", [g.input("x", ["B", "T", 2]), g.constant(np.array(40.0), "forty")])])
    summed = g.with_axes("ReduceSum", powers, [1, 2], 13, keepdims=0)
    return g.model(g.op("Log", [g.unsqueeze(summed, 1)]), ["B", 1], rename="y")


def root() -> onnx.ModelProto:
    """x float32 [B, T, 2] to the sum of its square roots, whose slope at 0 is infinite."""
    g = GraphBuilder(np.float32, 17)
    summed = g.with_axes(
        "ReduceSum", g.op("Sqrt", [g.op("Relu", [g.input("x", ["B", "T", 2])])]), [1, 2], 13, keepdims=0
    )
    return g.model(g.unsqueeze(summed, 1), ["B", 1], rename="y")


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[client.Client]:
    folder = tmp_path_factory.mktemp("models")
    for name, model in (("far", far()), ("steep", steep()), ("root", root())):
        write_version(folder, name, model)
    with serving(folder) as server, client.Client(server.address) as own:
        yield own


CASES = {
    "far": ("far", 0.7, {"target": 0}),
    "contrast": ("far", 0.7, {"target": client.Target(index=0, contrast=1)}),
    "steep": ("steep", 3.0, {}),
    "root": ("root", 0.0, {}),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("method", "parameters"), METHODS, ids=[f"{n}-{'-'.join(p)}" for n, p in METHODS])
def test_answers_are_finite(
    caller: client.Client, case: str, method: str, parameters: dict[str, Any], batch: int
) -> None:
    model, value, target = CASES[case]
    x = np.full((batch, 1, 2), value, np.float32)
    try:
        result = caller.explain(model, {"x": x}, method=method, parameters=parameters, timeout=100, **target)
    except client.ExplainError as refused:
        error = refused
    else:
        _check_finite(result)
        return
    assert error.code.name in ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
    assert re.search(REASONS, error.message), error.message
    assert re.search(WAYS_OUT, error.message), error.message


def _check_finite(result: client.Result) -> None:
    ledger = result.ledger
    numbers = [*result.relevance.values(), *result.standard_error.values(), *ledger.by_node.values(), result.explained]
    for array in (*numbers, ledger.inputs, ledger.initial_states, ledger.absorbed, ledger.residual):
        assert np.isfinite(array).all()
