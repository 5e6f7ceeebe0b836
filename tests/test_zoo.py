# SPDX-License-Identifier: Apache-2.0
"""Every case of both zoos under every law. `pytest -k "test_zoo_case and t_lstm"` picks models, `-k outputs` a law."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

import lstm_explain as lx
from tests import zoo
from tests.engine_checks import check_ledger, check_same
from tests.graph_builder import run
from tests.reference.textbook import PRODUCT_RULES
from tests.zoo import Case

FORWARD = 1e-4  # recorded in float64, computed here in float32
METHODS = [lx.GradientTimesInput(), *(lx.LRP(rule) for rule in PRODUCT_RULES)]


@functools.cache
def model(name: str) -> lx.Model:
    return lx.load(zoo.load(name).path)


def target(case: Case, **given: Any) -> lx.Target:
    return lx.Target(case.target_output, case.target_index, case.target_batch_axis, **given)


def inner_value(case: Case, tensor: str) -> npt.NDArray[Any]:
    """A tensor inside the model as ONNX Runtime computes it."""
    proto = onnx.load(case.path)
    proto.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    return run(proto, case.inputs, tensor)[0]


# --- the laws --------------------------------------------------------------------------------------------------------


def outputs(case: Case) -> None:
    """The outputs equal those of the source framework."""
    e = model(case.name).explain(case.inputs, lx.Gradient(), target(case))
    assert list(e.outputs) == list(model(case.name).outputs)
    for name, expected in case.outputs.items():
        np.testing.assert_allclose(e.outputs[name], expected, rtol=case.rtol, atol=case.atol)


def gradient(case: Case) -> None:
    """The gradient equals the recorded one, also times the input."""
    plain = model(case.name).explain(case.inputs, lx.Gradient(), target(case))
    times = model(case.name).explain(case.inputs, lx.GradientTimesInput(), target(case))
    for name in case.grads.keys() & case.inputs.keys():
        check_same(plain.relevance[name], case.grads[name], FORWARD, name)
        check_same(times.relevance[name], case.grads[name] * case.inputs[name], FORWARD, name)


def tokens(case: Case) -> None:
    """The gradient is recorded at the vectors looked up; a token's gradient times input is the sum over its vector."""
    assert case.embedding_tensor
    recorded, vectors = case.grads[case.embedding_tensor], inner_value(case, case.embedding_tensor)
    capture = [case.embedding_tensor]
    plain = model(case.name).explain(case.inputs, lx.Gradient(), target(case), capture)
    check_same(plain.captured[case.embedding_tensor], recorded, FORWARD, "gradient")
    times = model(case.name).explain(case.inputs, lx.GradientTimesInput(), target(case), capture)
    check_same(times.captured[case.embedding_tensor], recorded * vectors, FORWARD, "gradient times input")
    (name,) = case.inputs
    expected = (recorded * vectors).sum(axis=-1)
    check_same(times.relevance[name], expected.reshape(case.inputs[name].shape), FORWARD, name)


def post(case: Case) -> None:
    """The target includes the last Softmax or Sigmoid on request."""
    given = target(case, pre_activation=False)
    capture = [case.embedding_tensor] if case.embedding_tensor else []
    e = model(case.name).explain(case.inputs, lx.Gradient(), given, capture)
    for name, expected in case.grad_post.items():
        check_same({**e.relevance, **e.captured}[name], expected, FORWARD, name)
    output = np.moveaxis(case.outputs[case.target_output], case.target_batch_axis, 0)
    picked = output[(slice(None), *case.target_index)]
    np.testing.assert_allclose(e.explained, picked, rtol=case.rtol, atol=case.atol)


def pre(case: Case) -> None:
    """The value before the last Softmax or Sigmoid is what is explained, by LRP and by gradients."""
    (before,) = case.pre.values()
    expected = np.moveaxis(before, case.target_batch_axis, 0)[(slice(None), *case.target_index)]
    for how in (lx.LRP(), lx.Gradient()):
        e = model(case.name).explain(case.inputs, how, target(case))
        np.testing.assert_allclose(e.explained, expected, rtol=case.rtol, atol=case.atol)


def ledger(case: Case) -> None:
    for rule, bias_factor in itertools.product(PRODUCT_RULES, (0.0, 1.0)):
        e = model(case.name).explain(case.inputs, lx.LRP(rule, bias_factor=bias_factor), target(case))
        check_ledger(e, {name: case.batch_axis(name) for name in case.inputs}, cancels=rule == "prop")
        for name, x in case.inputs.items():
            assert e.relevance[name].shape == x.shape
            assert np.isfinite(e.relevance[name]).all()
        assert any((R != 0).any() for R in e.relevance.values())


def alone(case: Case) -> None:
    """Each sample explained alone equals itself in the batch."""
    for how in METHODS:
        together = model(case.name).explain(case.inputs, how, target(case))
        for b in range(len(together.explained)):
            one = {name: x.take([b], case.batch_axis(name)) for name, x in case.inputs.items()}
            e = model(case.name).explain(one, how, target(case))
            for name in case.inputs:
                check_same(
                    e.relevance[name], together.relevance[name].take([b], case.batch_axis(name)), 1e-3, f"{how} {name}"
                )
            np.testing.assert_allclose(e.explained[0], together.explained[b], rtol=1e-4, atol=1e-6)


def padding(case: Case) -> None:
    """Values after a sample's length are not read and get exactly no relevance."""
    (lens,) = (name for name, x in case.inputs.items() if x.dtype.kind == "i")
    (name,) = (name for name in case.inputs if name != lens)
    batch, time = case.batch_axis(name), int(case.meta["time_axis"][name])
    x = case.inputs[name]
    past = np.arange(x.shape[time])[:, None] >= case.inputs[lens][None, :]
    mask = past if (time, batch) == (0, 1) else past.T
    assert mask.any()
    other = x.copy()
    other[mask] = 7.0
    for how in METHODS:
        e = model(case.name).explain(case.inputs, how, target(case))
        again = model(case.name).explain({**case.inputs, name: other}, how, target(case))
        assert (e.relevance[name][mask] == 0.0).all()
        assert (again.relevance[name][mask] == 0.0).all()
        check_same(again.relevance[name], e.relevance[name], 1e-5, str(how))


def masked(case: Case) -> None:
    """Keras masks token 0 at any position: a masked step passes on the state and gets exactly no relevance."""
    (name,) = case.inputs
    mask = case.inputs[name] == 0
    assert mask.any()
    for how in METHODS:
        e = model(case.name).explain(case.inputs, how, target(case))
        assert (e.relevance[name][mask] == 0.0).all()


# --- which law applies where -----------------------------------------------------------------------------------------


def _any_batch(case: Case) -> bool:
    open_axes = case.meta["dynamic_axes"]
    return all(case.batch_axis(name) in open_axes.get(name, []) for name in case.inputs)


APPLIES: dict[Callable[[Case], None], Callable[[Case], bool]] = {
    outputs: lambda case: True,
    gradient: lambda case: bool(case.grads.keys() & case.inputs.keys()),
    tokens: lambda case: bool(case.embedding_tensor),
    pre: lambda case: case.is_pre_activation,
    post: lambda case: bool(case.grad_post),
    ledger: lambda case: True,
    alone: _any_batch,
    padding: lambda case: any("lens" in name or "length" in name for name in case.inputs),
    masked: lambda case: "masking" in case.meta["features"],
}


@pytest.mark.parametrize(
    ("name", "law"),
    [
        pytest.param(name, law, id=f"{name}-{law.__name__}")
        for name in (*zoo.names(), *zoo.second_names())
        for law, applies in APPLIES.items()
        if applies(zoo.load(name))
    ],
)
def test_zoo_case(name: str, law: Callable[[Case], None]) -> None:
    law(zoo.load(name))


def test_every_law_has_a_case() -> None:
    for law, applies in APPLIES.items():
        assert any(applies(zoo.load(name)) for name in zoo.names()), law.__name__
