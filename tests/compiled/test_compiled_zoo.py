# SPDX-License-Identifier: Apache-2.0
"""Every model of the zoo is compiled, or refused by name; ONNX Runtime then explains the recorded inputs by the file
alone.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from tests import zoo
from tests.compiled.compiled_files import check_like_engine, run_file
from tests.engine_checks import check_same
from tests.zoo import Case
from tests.zoo.agreement import kinds

MODELS = Path(__file__).parents[2] / "models"
METHODS: dict[str, lx.Method] = {
    "lrp": lx.LRP(),
    "gradient_times_input": lx.GradientTimesInput(),
    "gradient": lx.Gradient(),
    "half": lx.LRP("half"),
    "prop": lx.LRP("prop"),
    "abs": lx.LRP("abs"),
    "epsilon": lx.LRP(epsilon=1e-3),
    # so few steps that the engine takes them where the file does
    "integrated_gradients": lx.IntegratedGradients(steps=15, max_steps=15),
}
# by name, the operator that cannot be compiled: here a Loop with an If in its body, which a scripted squeeze leaves
REFUSED = {"s_mamba_scripted_legacy17": "Loop"}


@functools.cache
def model(name: str) -> lx.Model:
    return lx.load(zoo.load(name).path)


def target(case: Case) -> lx.Target:
    return lx.Target(case.target_output, case.target_index, case.target_batch_axis)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", zoo.names())
def test_the_file_explains_the_recorded_inputs_as_the_engine_does(name: str, method: str) -> None:
    """They are of other sizes than those that it was compiled with."""
    case, how = zoo.load(name), METHODS[method]
    proto = lx.compile(model(name), how, target(case))
    assert {node.domain for node in nodes_of(proto.graph)} <= {"", "ai.onnx"}
    found = run_file(proto, case.inputs)
    check_like_engine(found, model(name).explain(case.inputs, how, target(case)))
    if method == "gradient_times_input":  # what the source framework's autograd recorded
        for name in case.grads.keys() & case.inputs.keys():
            check_same(found.relevance[name], case.grads[name] * case.inputs[name], 1e-4, name)


@pytest.mark.parametrize("name", [names[0] for names in kinds().values()])
def test_the_file_explains_cells_of_other_kinds_as_the_engine_does(name: str) -> None:
    case = zoo.load(name)
    if name in REFUSED:
        with pytest.raises(lx.UnsupportedOperator) as refusal:
            lx.compile(model(name), lx.LRP(), target(case))
        assert refusal.value.op == REFUSED[name]
        assert refusal.value.node
        return
    found = run_file(lx.compile(model(name), lx.LRP(), target(case)), case.inputs)
    check_like_engine(found, model(name).explain(case.inputs, lx.LRP(), target(case)))


def nodes_of(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [*graph.node, *(node for body in bodies for node in nodes_of(body))]


def test_nine_tenths_of_the_zoo_are_compiled() -> None:
    assert set(REFUSED) <= {*zoo.names(), *zoo.second_names()}
    assert len(REFUSED) <= len(kinds()) / 10


@pytest.mark.parametrize("name", ["sentiment", "discharge", "addition"])
def test_batch_and_time_stay_symbolic(name: str) -> None:
    """The zoo's exports fix the time axis; the bundled models do not."""
    loaded = lx.load(MODELS / name)
    ((x, spec),) = loaded.inputs.items()
    proto, rng = lx.compile(loaded), np.random.default_rng(0)
    assert [d.dim_param for d in proto.graph.input[0].type.tensor_type.shape.dim][:2] == [*spec.shape[:2]]
    for batch, steps in ((1, 1), (6, 2), (2, 40)):
        shape = (batch, steps, *spec.shape[2:])
        given = rng.integers(2, 50, shape) if spec.dtype.kind == "i" else rng.standard_normal(shape)
        feeds = {x: given.astype(spec.dtype)}
        check_like_engine(run_file(proto, feeds), loaded.explain(feeds))
