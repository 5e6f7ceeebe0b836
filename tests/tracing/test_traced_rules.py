# SPDX-License-Identifier: Apache-2.0
"""The rules of every operator in the table, traced: ONNX Runtime computes what the rule computes on NumPy arrays."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from lstm_explain.program.traced_passes import TracedContext
from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.graph_writer import GraphWriter
from lstm_explain.tracing.namespace import Namespace
from tests.operators.case import Case
from tests.operators.test_array_api import WITH_RULES, calls, contexts, entry_of

UNTRACED = {"DFT"}  # the array API's fft has no counterpart yet


def traced_outputs(trace: Trace, results: dict[str, Traced], feeds: dict[str, Any]) -> dict[str, Any]:
    """The traced arrays as ONNX Runtime computes them."""
    names = {label: array.name for label, array in results.items()}
    read = {name for node in trace.writer.levels[0].nodes for name in node.input} | set(names.values())
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
        if n in read
    ]
    outputs = [
        helper.make_tensor_value_info(f"result/{label}", helper.np_dtype_to_tensor_dtype(a.dtype), None)
        for label, a in results.items()
    ]
    last = [helper.make_node("Identity", [names[label]], [f"result/{label}"]) for label in results]
    graph = helper.make_graph(
        [*trace.writer.levels[0].nodes, *last], "rules", inputs, outputs, list(trace.writer.initializers.values())
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {i.name: feeds[i.name] for i in session.get_inputs()}
    return dict(zip(results, session.run(None, given), strict=True))


@pytest.mark.parametrize("case", WITH_RULES, ids=str)
def test_traced_rules_compute_what_the_rules_compute(case: Case) -> None:
    op = entry_of(case)
    assert op is not None
    if case.op in UNTRACED:
        pytest.xfail(f"{case.op} is refused")
    plain, _, outputs = contexts(case)
    trace = Trace(GraphWriter(), 1)
    Namespace(trace)
    feeds: dict[str, Any] = {**case.feeds(), **outputs}
    values = {name: Traced(trace, (np.asarray(a),), name) for name, a in feeds.items()}
    graph = type("Graph", (), {"constants": plain._constants, "types": plain._static})()
    context = TracedContext(trace, plain.node, graph, case.live, values, plain.dtype, {})

    def given(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(None if v is None else given(v) for v in value)
        name = f"arriving/{len(feeds)}"
        feeds[name] = value
        return Traced(trace, (value,), name)

    expected, results = {}, {}
    for name, rule in calls(case, op, outputs, plain.node):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            value = rule(plain, lambda a: a)
            found = rule(context, given)
        if value is None:
            assert found is None
            continue
        expected[name], results[name] = value, trace.namespace.asarray(found)
    for name, array in traced_outputs(trace, results, feeds).items():
        assert array.shape == np.shape(expected[name])
        np.testing.assert_allclose(array, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
