# SPDX-License-Identifier: Apache-2.0
"""Several targets at once give the answers of each alone, from one forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.program.program import Program
from tests import zoo
from tests.builders import Head, Op, recurrent_model

METHODS = [
    lx.LRP(),
    lx.LRP("prop", bias_factor=1.0),
    lx.Gradient(),
    lx.GradientTimesInput(),
    lx.IntegratedGradients(5),
    lx.Occlusion(),
]


def assert_same(e: lx.Explanation, alone: lx.Explanation) -> None:
    """Checks equality to the last bit."""
    for name, relevance in alone.relevance.items():
        assert e.relevance[name].tobytes() == relevance.tobytes()
    assert e.ledger.absorbed.tobytes() == alone.ledger.absorbed.tobytes()
    assert e.ledger.residual.tobytes() == alone.ledger.residual.tobytes()


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_many_targets_equal_single_targets(method: lx.Method) -> None:
    rng = np.random.default_rng(71)
    built = recurrent_model(rng, direction="bidirectional", layers=2)
    feeds, model = built.feeds(rng, T=5), lx.load(built.model)
    targets = [lx.Target(index=k) for k in range(3)] + [lx.Target(index=2, contrast=0), lx.Target()]
    together = model.explain_many(feeds, method, targets)
    assert len(together) == len(targets)
    for target, e in zip(targets, together, strict=True):
        alone = model.explain(feeds, method, target)
        assert_same(e, alone)
        np.testing.assert_array_equal(e.explained, alone.explained)


@pytest.mark.parametrize("rule", ["all", "abs"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("head", ["last", "mean"])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_many_targets_of_every_cell_and_of_ragged_batches(op: Op, head: Head, batch: int, rule: str) -> None:
    """More targets than one pass takes, so that there are several, the last of them not full."""
    rng = np.random.default_rng(76)
    built = recurrent_model(rng, op, direction="bidirectional", head=head, sequence_lens=True, initial_states="input")
    feeds, model = built.feeds(rng, T=6, B=batch), lx.load(built.model)
    method = lx.LRP(rule, bias_factor=0.5)
    targets = [lx.Target(weights=rng.normal(size=3)) for _ in range(19)]
    for target, e in zip(targets, model.explain_many(feeds, method, targets), strict=True):
        assert_same(e, model.explain(feeds, method, target))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("method", [lx.LRP(), lx.LRP("prop"), lx.GradientTimesInput()], ids=str)
def test_repeated_shapes_run_specialised_steps(method: lx.Method, batch: int) -> None:
    built = recurrent_model(np.random.default_rng(77), "GRU", layers=2)
    feeds, model = built.feeds(np.random.default_rng(78), T=5, B=batch), lx.load(built.model)
    targets = [lx.Target(index=k) for k in range(3)]
    first = model.explain_many(feeds, method, targets)
    for _ in range(3):
        again = model.explain_many(feeds, method, targets)
    assert model.engine.known.count() or model.precision.starts_in_double(method)
    for target, e, before in zip(targets, again, first, strict=True):
        assert_same(e, before)
        assert_same(e, model.explain(feeds, method, target))


def test_targets_in_several_outputs_keep_their_order() -> None:
    case = zoo.load("t_state_in_out_legacy17")
    model = lx.load(case.path)
    names = [name for name, spec in model.outputs.items() if spec.dtype.kind == "f"]
    ranks = {name: len(model.outputs[name].shape) for name in names}
    targets = [lx.Target(name, (0,) * ranks[name], batch_axis=None) for name in [*names, *names[::-1]]]
    for target, e in zip(targets, model.explain_many(case.inputs, targets=targets), strict=True):
        assert e.target.output == target.output
        np.testing.assert_array_equal(e.explained, model.explain(case.inputs, target=target).explained)


@pytest.mark.parametrize("method", [lx.LRP(), lx.Gradient()], ids=lambda m: m.name)
def test_there_is_one_forward_pass(method: lx.Method, monkeypatch: Any) -> None:
    built = recurrent_model(np.random.default_rng(72))
    feeds, model = built.feeds(np.random.default_rng(73), T=4), lx.load(built.model)
    passes, forward = [], Program.forward
    monkeypatch.setattr(Program, "forward", lambda *a: passes.append(1) or forward(*a))
    model.explain_many(feeds, method, (lx.Target(index=k) for k in range(3)), capture=["x"])
    assert len(passes) == 1


def test_no_target_gives_no_explanation() -> None:
    built = recurrent_model(np.random.default_rng(74))
    assert lx.load(built.model).explain_many(built.feeds(np.random.default_rng(75), T=2), targets=[]) == []
