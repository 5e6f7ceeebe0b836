# SPDX-License-Identifier: Apache-2.0
"""Relevance through chosen units: adds up over a partition, and equals what the unrolled graph hands on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from tests.builders import recurrent_model
from tests.engine_checks import check_same
from tests.unrolled_models import unrolled_model

T, B, H = 5, 3, 4
TARGET = lx.Target(index=1)
METHODS = {
    "lrp": lx.LRP(epsilon=1e-3),
    "half": lx.LRP("half", epsilon=1e-2, bias_factor=1.0),
    "relative": lx.LRP(ceiling=1e9),
    "gradient": lx.GradientTimesInput(),
}


def outputs_of(model: Any) -> list[str]:
    """The first output of every recurrent node, which is Y or, without it, Y_h."""
    return [next(o for o in n.output if o) for n in model.graph.node if n.op_type in ("LSTM", "GRU", "RNN")]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_partition_of_the_units_adds_up(op: Any, direction: Any, method: lx.Method) -> None:
    """LRP is linear in the relevance that is handed down, as long as its ceiling does not bind."""
    rng = np.random.default_rng(17)
    built = recurrent_model(rng, op, D=3, H=H, layers=2, direction=direction, head="mean")
    model, feeds = lx.load(built.model), built.feeds(rng, T=T, B=B)
    count = H * (1 + (direction == "bidirectional"))
    for value in outputs_of(built.model):
        whole = model.explain(feeds, method, TARGET, capture=[value])
        units = rng.permutation(count)
        parts = [model.explain(feeds, method, TARGET, through={value: some}) for some in np.split(units, [1, 3])]
        total = sum(part.relevance["x"].astype(np.float64) for part in parts)
        np.testing.assert_allclose(total, whole.relevance["x"], atol=2e-5 * np.abs(whole.relevance["x"]).max())
        for part in parts:
            assert np.abs(part.relevance["x"]).max() > 0
            if isinstance(method, lx.LRP):
                ledger = part.ledger
                assert np.abs(ledger.residual).max() < 1e-4
                assert f"(other units of {value})" in ledger.by_node
        if isinstance(method, lx.LRP):
            rest = sum(part.ledger.by_node[f"(other units of {value})"] for part in parts)
            arrived = whole.captured[value].sum(axis=(0, 1, 3), dtype=np.float64)
            np.testing.assert_allclose(rest, 2 * arrived, atol=1e-4)  # of three parts, each misses two


def test_one_unit_has_the_relevance_of_a_network_that_ends_there() -> None:
    """The relevance through h_k is that of the prediction of h_k itself, in proportion to what arrives at h_k."""
    rng = np.random.default_rng(18)
    built = recurrent_model(rng, D=3, H=H, head="Y_h")
    (value,) = (n.output[1] for n in built.model.graph.node if n.op_type == "LSTM")
    model, feeds = lx.load(built.model), built.feeds(rng, T=T, B=B)
    shorter = type(built.model)()
    shorter.CopyFrom(built.model)
    del shorter.graph.output[:]
    described = shorter.graph.output.add(name=value)
    described.type.tensor_type.elem_type = 1
    for extent in (1, B, H):
        described.type.tensor_type.shape.dim.add(dim_value=extent)
    ends_there = lx.load(shorter)
    method = METHODS["lrp"]
    arrived = model.explain(feeds, method, TARGET, capture=[value]).captured[value][0]
    for unit in range(H):
        through = model.explain(feeds, method, TARGET, through={value: [unit]}).relevance["x"]
        alone = ends_there.explain(feeds, method, lx.Target(index=(0, unit), batch_axis=1))
        expected = alone.relevance["x"] * (arrived[:, unit] / alone.explained)[None, :, None]
        check_same(through, expected, 1e-4)


@pytest.mark.parametrize("rule", ["all", "half", "prop", "abs"])
@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_views_pass_on_what_the_unrolled_graph_does(rule: Any, delta: float) -> None:
    rng = np.random.default_rng(19)
    built = recurrent_model(rng, D=2, H=3, dtype=np.float64)
    feeds, model = built.feeds(rng, T=4, B=2), lx.load(built.model)
    method = lx.LRP(rule, bias_factor=delta, epsilon=1e-3)
    unrolled = unrolled_model(built.network, 4, concat=True, fused=False, dtype=np.float64)
    spelled = lx.load(unrolled.model)
    nodes = list(unrolled.model.graph.node)
    of_op = {op: [n.output[0] for n in nodes if n.op_type == op] for op in ("Sigmoid", "Tanh", "Mul", "Add")}
    values = {
        "hidden": of_op["Mul"][2::3],
        "cell": [n.output[0] for n in nodes if n.op_type == "Add" and n.input[0] in of_op["Mul"]],
        "input_gate": of_op["Sigmoid"][0::3],
        "output_gate": of_op["Sigmoid"][1::3],
        "cell_input": of_op["Tanh"][0::2],
    }
    for view, names in values.items():
        if rule == "all" and view.endswith("gate"):
            continue  # no relevance arrives at gates
        through = {f"layer0.{view}": [0, 2]}
        e = model.explain(feeds, method, TARGET, capture=["layer0.cell"], through=through)
        expected = spelled.explain(feeds, method, TARGET, through={name: [0, 2] for name in names})
        check_same(e.relevance["x"], expected.relevance["x"], 1e-7, view)
        assert np.abs(e.ledger.residual).max() < 1e-9
        lost = sum(expected.ledger.by_node[f"(other units of {name})"] for name in names)
        np.testing.assert_allclose(e.ledger.by_node[f"(other units of layer0.{view})"], lost, atol=1e-9)
        if view == "hidden":
            captured = spelled.explain(
                feeds, method, TARGET, capture=values["cell"], through={name: [0, 2] for name in names}
            ).captured
            rows = np.stack([captured[name] for name in values["cell"]])[:, None]
            check_same(e.captured["layer0.cell"], rows, 1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"direction": "bidirectional", "head": "mean", "sequence_lens": True},
        {"direction": "reverse", "head": "Y_h"},
        {"initial_states": "input", "head": "Y_c"},
        {"batch_first": True},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_all_units_of_a_view_are_no_condition(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(20)
    built = recurrent_model(rng, D=3, H=H, **options)
    model, feeds = lx.load(built.model), built.feeds(rng, T=T, B=B)
    count = H * (1 + (options.get("direction") == "bidirectional"))
    whole = model.explain(feeds, lx.LRP(), TARGET)
    through = {"layer0.cell": range(count), "layer0.hidden": range(count)}
    e = model.explain(feeds, lx.LRP(), TARGET, through=through)
    check_same(e.relevance["x"], whole.relevance["x"], 1e-4)
    for part in ("inputs", "initial_states", "absorbed"):
        np.testing.assert_allclose(getattr(e.ledger, part), getattr(whole.ledger, part), atol=1e-4)
    some = model.explain_many(feeds, lx.LRP(), [0, 1], through={"layer0.cell": [0, 1]})
    alone = model.explain(feeds, lx.LRP(), TARGET, through={"layer0.cell": [1, 0]})
    np.testing.assert_array_equal(some[1].relevance["x"], alone.relevance["x"])


@pytest.mark.parametrize(
    ("through", "method", "said"),
    [
        ({"layer0.cell": [9]}, lx.LRP(), "has the units 0 to 3, not 9"),
        ({"nowhere": [0]}, lx.LRP(), "no value 'nowhere'"),
        ({"layer0.cell": []}, lx.LRP(), "expected whole numbers"),
        ({"layer0.cell": [0.5]}, lx.LRP(), "expected whole numbers"),
        ({"x": [0]}, lx.LRP(), "'x' is an input"),
        (["layer0.cell"], lx.LRP(), "expected a dict from the name of a value to units"),
        ({"layer0.cell": [0]}, lx.Gradient(), "only LRP passes relevance"),
        ({"layer0.cell": [0]}, lx.Occlusion(), "occlusion does not pass relevance through units"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(through: Any, method: lx.Method, said: str) -> None:
    rng = np.random.default_rng(21)
    built = recurrent_model(rng, D=3, H=H)
    with pytest.raises(lx.Error, match=said) as refused:
        lx.load(built.model).explain(built.feeds(rng, T=T, B=B), method, TARGET, through=through)
    assert refused.value.field == "through"
