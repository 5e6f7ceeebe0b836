# SPDX-License-Identifier: Apache-2.0
"""Views into an LSTM: equal to the values of the unrolled graph, and conserving with the node's own inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from tests import zoo
from tests.builders import recurrent_model
from tests.engine_checks import check_same
from tests.unrolled_models import unrolled_model

VIEWS = ["hidden", "cell", "input_gate", "output_gate", "forget_gate", "cell_input"]
RULES = ["all", "half", "prop", "abs"]
T = 4


ABSOLUTE = {"epsilon": 1e-3}
RELATIVE = {"stabiliser": 0.2, "cell_stabiliser": 0.05, "layer_stabiliser": 0.3, "ceiling": 1e9}


@pytest.mark.parametrize("stabiliser", [ABSOLUTE, RELATIVE], ids=["absolute", "relative"])
@pytest.mark.parametrize("delta", [0.0, 1.0])
@pytest.mark.parametrize("rule", RULES)
def test_views_are_the_values_of_the_unrolled_graph(rule: Any, delta: float, stabiliser: dict[str, float]) -> None:
    rng = np.random.default_rng(91)
    built = recurrent_model(rng, D=2, H=3, dtype=np.float64)
    feeds = built.feeds(rng, T=T, B=2)
    method, target = lx.LRP(rule, bias_factor=delta, **stabiliser), lx.Target(index=1)
    names = [f"layer0.{view}" for view in VIEWS]
    e = lx.load(built.model).explain(feeds, method, target, capture=names)
    unrolled = unrolled_model(built.network, T, concat=True, fused=False, dtype=np.float64)
    producers = list(unrolled.model.graph.node)
    of_op = {op: [n.output[0] for n in producers if n.op_type == op] for op in ("Sigmoid", "Tanh", "Mul", "Add")}
    sums = [n.output[0] for n in producers if n.op_type == "Add" and n.input[0] in of_op["Mul"]]
    values = {
        "hidden": of_op["Mul"][2::3],
        "cell": sums,
        "input_gate": of_op["Sigmoid"][0::3],
        "output_gate": of_op["Sigmoid"][1::3],
        "forget_gate": of_op["Sigmoid"][2::3],
        "cell_input": of_op["Tanh"][0::2],
    }
    expected = lx.load(unrolled.model).explain(
        feeds, method, target, capture=[v for names in values.values() for v in names]
    )
    for view, captured in values.items():
        received = e.captured[f"layer0.{view}"]
        assert received.shape == (T, 1, 2, 3)
        rows = np.stack([expected.captured[name] for name in captured])[:, None]
        first = 1 if view in ("forget_gate",) else 0  # there the unrolled graph multiplies by a constant zero
        check_same(received[first:], rows[first:], 1e-7, view)


@pytest.mark.parametrize("stabiliser", [ABSOLUTE, RELATIVE], ids=["absolute", "relative"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "options",
    [
        {"direction": "bidirectional", "head": "mean"},
        {"direction": "reverse", "sequence_lens": True, "head": "Y_h"},
        {"initial_states": "input"},
        {"input_forget": True, "head": "Y_c", "initial_states": "input"},
        {"layers": 2},
    ],
    ids=lambda o: "-".join(map(str, o)),
)
def test_views_balance(rule: Any, options: dict[str, Any], stabiliser: dict[str, float]) -> None:
    """If bias and stabiliser are passed on completely, the relevance of gates and candidates arrives at x, at the
    hidden states one step before, and at the initial hidden state.
    """
    rng = np.random.default_rng(92)
    built = recurrent_model(rng, D=2, H=3, dtype=np.float64, **options)
    feeds, model = built.feeds(rng, T=T, B=2), lx.load(built.model)
    node = next(n for n in built.model.graph.node if n.op_type == "LSTM")
    outputs = [o for o in node.output if o]
    names = [f"layer0.{view}" for view in VIEWS]
    e = model.explain(
        feeds, lx.LRP(rule, bias_factor=1.0, **stabiliser), lx.Target(index=0), capture=[*names, *outputs]
    )
    view = {name: e.captured[f"layer0.{name}"].sum(axis=(0, 1, 3)) for name in VIEWS}
    gates = view["input_gate"] + view["output_gate"] + view["forget_gate"]
    assert (gates == 0).all() == (rule == "all")
    of_output = dict(zip(node.output, (2, 1, 1), strict=False))
    above = {o: np.moveaxis(e.captured[o], of_output[o], 0).reshape(2, -1).sum(axis=1) for o in outputs}
    to_hidden = sum(r for o, r in above.items() if o != (*node.output, "", "")[2])
    out = e.relevance["x"].sum(axis=(0, 2)) + view["hidden"] - to_hidden
    if "initial_h_0" in e.relevance:
        out = out + e.relevance["initial_h_0"].sum(axis=(0, 2))
        np.testing.assert_allclose(view["cell_input"] + gates, out, rtol=1e-7)
        to_cell = sum((r for o, r in above.items() if o == (*node.output, "", "")[2]), np.zeros(2))
        ends = e.relevance["initial_c_0"].sum(axis=(0, 2))
        np.testing.assert_allclose(
            view["hidden"] + to_cell,
            view["cell_input"] + gates + ends,
            rtol=1e-7,
            err_msg="what the hidden states and the last cell hold is what gates, candidates and the first cell got",
        )


def test_relevance_after_the_end_of_a_sequence_is_zero() -> None:
    rng = np.random.default_rng(93)
    built = recurrent_model(rng, sequence_lens=True, direction="bidirectional", head="Y_h")
    feeds, model = built.feeds(rng, T=6, B=3), lx.load(built.model)
    e = model.explain(feeds, lx.LRP("half"), lx.Target(index=0), capture=["layer0.cell"])
    past = np.arange(6)[:, None] >= feeds["lens"]
    cells = e.captured["layer0.cell"].transpose(0, 2, 1, 3)
    assert (cells[past] == 0).all()
    assert (np.abs(cells[~past]).sum(axis=(1, 2)) > 0).all()


def test_views_require_lrp_and_an_lstm() -> None:
    built = recurrent_model(np.random.default_rng(94))
    feeds, model = built.feeds(np.random.default_rng(95), T=2), lx.load(built.model)
    with pytest.raises(lx.MethodError, match="LRP"):
        model.explain(feeds, lx.Gradient(), lx.Target(index=0), capture=["layer0.cell"])
    for name in ("layer0.nothing", "dense.cell"):
        with pytest.raises(lx.InputError, match=name):
            model.explain(feeds, lx.LRP(), lx.Target(index=0), capture=[name])


def test_views_of_the_zoo() -> None:
    case = zoo.load("t_bilstm_hn_legacy17")
    model = lx.load(case.path)
    node = next(n.name for n in model.report().nodes if n.op == "LSTM")
    e = model.explain(case.inputs, lx.LRP(), lx.Target(case.target_output, case.target_index), capture=[f"{node}.cell"])
    assert np.abs(e.captured[f"{node}.cell"]).max() > 0
