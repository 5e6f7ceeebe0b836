# SPDX-License-Identifier: Apache-2.0
"""An input that cannot be replaced by its baseline is named, and no answer holds a number that is not finite."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from tests import cases
from tests.graph_builder import GraphBuilder

REPLACING: list[Callable[..., lx.Method]] = [lx.IntegratedGradients, lx.Occlusion, lx.ShapleySampling]
EVERY = [lx.LRP(), lx.LRP("half"), lx.LRP("prop"), lx.LRP("abs"), lx.Gradient(), lx.GradientTimesInput()]
STUDIES: list[lx.Method] = [
    lx.IntegratedGradients(steps=4),
    lx.SmoothGrad(samples=2),
    lx.Occlusion(window=3),
    lx.ShapleySampling(permutations=4),
    lx.ContextualDecomposition(),
]

loaded = functools.cache(cases.load)


def model(write: Callable[[GraphBuilder, str, str], str]) -> lx.Model:
    """A model with inputs a and b [B, 1]."""
    g = GraphBuilder(np.float64, 17)
    return lx.load(g.model(write(g, g.input("a", ["B", 1]), g.input("b", ["B", 1])), ["B", 1], rename="y"))


def quotient(g: GraphBuilder, a: str, b: str) -> str:
    return g.op("Div", [a, b])


def weighted_mean(g: GraphBuilder, a: str, b: str) -> str:
    return g.op("Div", [a, g.op("Add", [a, b])])


def logarithm(g: GraphBuilder, a: str, b: str) -> str:
    return g.op("Add", [g.op("Log", [a]), b])


FEEDS = {"a": np.array([[2.0], [3.0]]), "b": np.array([[4.0], [5.0]])}


@pytest.mark.parametrize("method", REPLACING)
@pytest.mark.parametrize("name", [name for name in cases.names() if name.startswith("manual_bidir_flip")])
def test_a_mask_of_zeros_is_named(name: str, method: Callable[..., lx.Method]) -> None:
    case = loaded(name)
    with pytest.raises(lx.MethodError, match=r"input 'mask' is replaced by the baseline of zeros.*'mask': …") as raised:
        case.model.explain(case.inputs, method(), lx.Target(index=0))
    assert raised.value.field == "method.baseline"
    kept = case.model.explain(case.inputs, method(baseline={"mask": case.inputs["mask"]}), lx.Target(index=0))
    assert not kept.relevance["mask"].any()
    assert kept.relevance["x"].any()


@pytest.mark.parametrize("method", REPLACING)
@pytest.mark.parametrize(
    ("write", "named"),
    [(quotient, "input 'b' is replaced"), (logarithm, "input 'a' is replaced"),
     (weighted_mean, "inputs 'a' and 'b' are together replaced")],
)  # fmt: skip
def test_the_input_is_found_by_trying_one_at_a_time(
    write: Callable[[GraphBuilder, str, str], str], named: str, method: Callable[..., lx.Method]
) -> None:
    with pytest.raises(lx.MethodError, match=named):
        model(write).explain(FEEDS, method())
    e = model(write).explain(FEEDS, method(baseline=1.0))
    assert np.isfinite(e.ledger.residual).all()


@pytest.mark.parametrize("method", [lx.Occlusion, lx.ShapleySampling])
def test_a_baseline_on_which_the_model_fails(method: Callable[..., lx.Method]) -> None:
    g = GraphBuilder(np.float32, 17)
    vectors = g.op("Gather", [g.constant(np.eye(3), "table"), g.input("tokens", ["B", "T"], element=7)])
    proto = g.model(g.op("ReduceMean", [vectors], axes=[1], keepdims=0), ["B", 3], rename="y")
    tokens = {"tokens": np.array([[0, 1, 2]])}
    with pytest.raises(lx.MethodError, match=r"cannot run .*input 'tokens' is replaced by the baseline;"):
        lx.load(proto).explain(tokens, method(baseline=9), lx.Target(index=0))
    with pytest.raises(lx.InputError):  # the inputs themselves
        lx.load(proto).explain({"tokens": np.array([[0, 9]])}, method(), lx.Target(index=0))


@pytest.mark.parametrize("method", [*EVERY[:1], *EVERY[4:], *STUDIES[:4]], ids=str)
def test_a_value_that_is_not_finite_names_its_samples(method: lx.Method) -> None:
    feeds = {"a": np.array([[2.0], [0.0]]), "b": np.array([[4.0], [5.0]])}
    with pytest.raises(lx.InputError, match=r"explained value is not finite .*samples \[1\]"):
        model(logarithm).explain(feeds, method)


def test_noise_that_leaves_the_models_domain() -> None:
    g = GraphBuilder(np.float64, 17)
    proto = g.model(g.op("Sqrt", [g.input("x", ["B", 2])]), ["B", 2], rename="y")
    x = {"x": np.array([[1.0, 1e-6]])}
    with pytest.raises(lx.MethodError, match="smaller noise") as raised:
        lx.load(proto).explain(x, lx.SmoothGrad(noise=2.0), lx.Target(index=1))
    assert raised.value.field == "method.noise"


@pytest.mark.parametrize("method", [*EVERY, *STUDIES], ids=lambda m: f"{m.name}-{getattr(m, 'product_rule', '')}")
@pytest.mark.parametrize("name", cases.names())
def test_every_number_is_finite_or_there_is_an_error(name: str, method: lx.Method) -> None:
    case = loaded(name)
    try:
        e = case.model.explain(case.inputs, method, lx.Target(index=0))
    except (lx.MethodError, lx.UnsupportedOperator):
        return
    parts: list[Any] = [e.explained, *e.relevance.values(), *e.standard_error.values(), *e.ledger.by_node.values()]
    parts += [e.ledger.inputs, e.ledger.initial_states, e.ledger.absorbed, e.ledger.residual, *e.outputs.values()]
    assert all(np.isfinite(part).all() for part in parts)
