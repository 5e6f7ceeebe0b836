"""Several targets at once: what each alone gives, from one forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.engine import Engine
from tests.builders import recurrent_model

METHODS = [
    lx.LRP(),
    lx.LRP("prop", bias_factor=1.0),
    lx.Gradient(),
    lx.GradientTimesInput(),
    lx.IntegratedGradients(5),
    lx.Occlusion(),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_many_targets_are_explained_as_one_by_one(method: lx.Method) -> None:
    rng = np.random.default_rng(71)
    built = recurrent_model(rng, direction="bidirectional", layers=2)
    feeds, model = built.feeds(rng, T=5), lx.load(built.model)
    targets = [lx.Target(index=k) for k in range(3)] + [lx.Target(index=2, contrast=0), lx.Target()]
    together = model.explain_many(feeds, method, targets)
    assert len(together) == len(targets)
    for target, e in zip(targets, together, strict=True):
        alone = model.explain(feeds, method, target)
        np.testing.assert_array_equal(e.relevance["x"], alone.relevance["x"])
        np.testing.assert_array_equal(e.explained, alone.explained)
        np.testing.assert_array_equal(e.ledger.absorbed, alone.ledger.absorbed)


@pytest.mark.parametrize("method", [lx.LRP(), lx.Gradient()], ids=lambda m: m.name)
def test_there_is_one_forward_pass(method: lx.Method, monkeypatch: Any) -> None:
    built = recurrent_model(np.random.default_rng(72))
    feeds, model = built.feeds(np.random.default_rng(73), T=4), lx.load(built.model)
    passes, forward = [], Engine.forward
    monkeypatch.setattr(Engine, "forward", lambda *a: passes.append(1) or forward(*a))
    model.explain_many(feeds, method, (lx.Target(index=k) for k in range(3)), capture=["x"])
    assert len(passes) == 1


def test_no_target_gives_no_explanation() -> None:
    built = recurrent_model(np.random.default_rng(74))
    assert lx.load(built.model).explain_many(built.feeds(np.random.default_rng(75), T=2), targets=[]) == []
