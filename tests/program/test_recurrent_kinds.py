# SPDX-License-Identifier: Apache-2.0
"""Cells of many kinds, spelled out in primitives: gradients, ledgers, and whether relevance says what matters."""

from __future__ import annotations

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.model import Model
from tests.engine_checks import check_same
from tests.graph_builder import AnyArray
from tests.recurrent_kinds import KINDS, WIDTH, Form, recurrent_kind
from tests.reference.differences import onnx_difference

STEPS, SAMPLES, SEEDS = 12, 24, 3


def inputs(samples: int = SAMPLES, seed: int = 0) -> dict[str, AnyArray]:
    return {"x": np.random.default_rng(seed).standard_normal((samples, STEPS, WIDTH)).astype(np.float32)}


@pytest.mark.parametrize("form", ["unrolled", "scan"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_differences_and_ledgers_close(kind: str, form: Form) -> None:
    proto = recurrent_kind(kind, form)
    model, feeds = lx.load(proto), inputs(2)
    e = model.explain(feeds, lx.Gradient(), lx.Target(index=1))
    expected = onnx_difference(proto, feeds, "x", "logits", (1,), step=1e-2)
    check_same(e.relevance["x"], expected, 1e-2 if kind == "decaying_gru" else 4e-3, kind)  # it has kinks
    for rule in ("all", "half"):
        e = model.explain(feeds, lx.LRP(rule), lx.Target(index=1))
        moved = np.abs(e.relevance["x"]).sum(axis=(1, 2)) + np.abs(e.ledger.absorbed)
        assert (np.abs(e.ledger.residual) <= 1e-5 * moved).all()


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_has_the_sign_of_occlusion_where_it_matters(kind: str) -> None:
    """At least 80 % of the steps that matter: the fifth with the largest effect under Occlusion. Few entries are large,
    but for values that cross zero.
    """
    agreeing, large = [], list[bool]()
    for seed in range(SEEDS):
        model, feeds = lx.load(recurrent_kind(kind, "unrolled", STEPS, seed)), inputs(seed=seed + 50)
        found = model.explain(feeds, lx.LRP(), lx.Target(index=0))
        effect = model.explain(feeds, lx.Occlusion(), lx.Target(index=0)).relevance["x"].sum(axis=2)
        top = np.argsort(-np.abs(effect), axis=1)[:, : STEPS // 5]
        own = found.relevance["x"].sum(axis=2)
        agreeing.append(np.sign(np.take_along_axis(own, top, 1)) == np.sign(np.take_along_axis(effect, top, 1)))
        large += [any("diverges" in w and "cancel" not in w for w in found.warnings_of(n)) for n in range(SAMPLES)]
    assert np.mean(agreeing) >= 0.8
    assert np.mean(large) <= 0.05


GATES = {  # by kind, how many products of a step have a gate, of how many
    "mogrifier": 5,
    "minlstm": 4,  # those of the quotients too
    "real_gated": 3,
    "exponential_decay": 1,
    "quasi_recurrent": 3,
    "simple_recurrent_unit": 4,
    "decaying_gru": 4,
    "selective_scan": 2,
}


@pytest.mark.parametrize("kind", GATES)
def test_the_report_names_the_gates_and_says_why(kind: str) -> None:
    report = lx.load(recurrent_kind(kind, "scan")).report()
    gates = [node for node in report.nodes if node.gate]
    assert len(gates) == GATES[kind]
    assert all("the gate " in node.rule for node in gates)


def test_a_state_that_decays_linearly_takes_no_stabiliser() -> None:
    """Relevance of a linear recurrence is gradient times input where only its readout follows."""
    model, feeds = lx.load(recurrent_kind("complex_diagonal", "scan")), inputs(4)
    sums = {n.name for n in model.report().nodes if n.op == "Add" and "scan/body/" in n.name}
    absorbed = model.explain(feeds, lx.LRP(), lx.Target(index=0)).ledger.by_node
    assert sums
    assert sum(bool(np.abs(absorbed.get(name.rpartition("/")[2], 0)).max() > 0) for name in sums) <= 1  # the readout


@pytest.mark.parametrize("kind", ["complex_diagonal", "simple_recurrent_unit", "selective_scan"])
def test_what_is_read_of_a_state_is_a_layer_in_a_loop_too(kind: str) -> None:
    """The readout takes the same stabiliser inside a Scan as in the graph around it, which reads the last step."""
    loop, written = lx.load(recurrent_kind(kind, "scan")), Model(recurrent_kind(kind, "unrolled"), fold=False)
    feeds, target = inputs(4), lx.Target(index=0)
    own, other = (model.explain(feeds, lx.LRP(), target).relevance["x"] for model in (loop, written))
    np.testing.assert_allclose(own[:, -1], other[:, -1], atol=1e-3 * np.abs(other[:, -1]).max())
