# SPDX-License-Identifier: Apache-2.0
"""The textbook's forward pass equals ONNX Runtime's, for every option of recurrent nodes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest

from tests import zoo
from tests.builders import Built, network_model, recurrent_model
from tests.graph_builder import run
from tests.reference.activations import ALPHA_DEFAULT, BETA_DEFAULT, FUNCTIONS
from tests.reference.options import DIRECTIONS, OPTIONS, STATES
from tests.reference.textbook import (
    Activation,
    Network,
    parse_activations,
)
from tests.unrolled_models import unrolled_model


def check_forward(built: Built, feeds: dict[str, Any]) -> None:
    (logits,) = run(built.model, feeds)
    np.testing.assert_allclose(logits, built.reference_forward(feeds), rtol=0, atol=1e-5)


# --- forward: the textbook equals ONNX Runtime -----------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIONS)
def test_forward_equals_onnxruntime(name: str, rng: np.random.Generator) -> None:
    built = recurrent_model(rng, **OPTIONS[name])
    check_forward(built, built.feeds(rng, T=6))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_forward_equals_onnxruntime_for_states_lengths_and_heads(
    op: str, direction: str, rng: np.random.Generator
) -> None:
    heads = ("last", "Y_h", "mean", "sum", "Y_c") if op == "LSTM" else ("last", "Y_h", "mean", "sum")
    for states, lens, head in itertools.product(STATES, (False, True), heads):
        built = recurrent_model(
            rng, op, direction=direction, initial_states=states, sequence_lens=lens, head=head, layers=2
        )
        check_forward(built, built.feeds(rng, T=5))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_equal_onnxruntimes(name: str, rng: np.random.Generator) -> None:
    for given in (False, True):
        alpha = [0.6] if given and name in ALPHA_DEFAULT else []
        beta = [0.3] if given and name in BETA_DEFAULT else []
        parameters = {"activation_alpha": alpha, "activation_beta": beta}
        places = [("RNN", [name]), ("GRU", [name, "Tanh"]), ("GRU", ["Sigmoid", name])]
        places += [("LSTM", [name, "Tanh", "Tanh"]), ("LSTM", ["Sigmoid", name, "Tanh"])]
        places += [("LSTM", ["Sigmoid", "Tanh", name])]
        for op, activations in places:
            built = recurrent_model(rng, op, activations=activations, direction="bidirectional", **parameters)
            check_forward(built, built.feeds(rng, T=3))


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_an_empty_sequence_has_zero_states_as_in_onnxruntime(op: str, rng: np.random.Generator) -> None:
    built = recurrent_model(rng, op, head="Y_h", initial_states="input", sequence_lens=True, direction="bidirectional")
    feeds = built.feeds(rng, T=4)
    feeds["lens"] = np.array([4, 0, 2], dtype=np.int32)
    check_forward(built, feeds)


@pytest.mark.parametrize("opset", [11, 12, 13, 14, 17, 18, 19, 21])
def test_builders_support_the_opsets(opset: int, rng: np.random.Generator) -> None:
    for op, head in (("LSTM", "mean"), ("GRU", "sum"), ("RNN", "Y_h")):
        built = recurrent_model(rng, op, head=head, opset=opset, direction="bidirectional", batch_first=True)
        check_forward(built, built.feeds(rng, T=3))


def test_float64_recurrent_models_are_valid(rng: np.random.Generator) -> None:
    """ONNX Runtime has no float64 kernel for them, so validity is all that can be checked."""
    for op in ("LSTM", "GRU", "RNN"):
        built = recurrent_model(rng, op, dtype=np.float64)
        onnx.checker.check_model(built.model, full_check=True)
        assert built.feeds(rng, T=3)["x"].dtype == np.float64


@pytest.mark.parametrize(("op", "lbr"), [("LSTM", False), ("GRU", False), ("GRU", True), ("RNN", False)])
def test_unrolled_models_compute_the_same(op: str, lbr: bool, rng: np.random.Generator) -> None:
    for head in ("last", "mean"):
        built = recurrent_model(rng, op, layers=2, head=head, linear_before_reset=lbr)
        feeds = built.feeds(rng, T=4)
        check_forward(built, feeds)
        expected = built.reference_forward(feeds)
        for gemm, fused, concat, batch_first in itertools.product((False, True), repeat=4):
            variant = {"gemm": gemm, "fused": fused, "concat": concat, "batch_first": batch_first}
            for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
                unrolled = unrolled_model(built.network, 4, dtype=dtype, **variant)
                x = (feeds["x"].swapaxes(0, 1) if batch_first else feeds["x"]).astype(dtype)
                np.testing.assert_allclose(run(unrolled.model, {"x": x})[0], expected, rtol=0, atol=tolerance)
                np.testing.assert_array_equal(unrolled.reference_forward({"x": x}), expected)


# --- helpers ---------------------------------------------------------------------------------------------------------


def test_activation_parameters_are_read_in_order() -> None:
    parsed = parse_activations(["hardsigmoid", "Tanh", "SCALEDTANH"], [0.25, 1.5], [0.5])
    assert parsed == (Activation("HardSigmoid", 0.25, 0.5), Activation("Tanh"), Activation("ScaledTanh", 1.5, 1.0))


def test_same_weights_serve_several_models(rng: np.random.Generator) -> None:
    built = recurrent_model(rng)
    again = network_model(built.network, sequence_lens=True, batch_first=True)
    feeds = {"x": built.feeds(rng, T=4)["x"]}
    turned = {"x": np.ascontiguousarray(feeds["x"].swapaxes(0, 1)), "lens": np.full(3, 4, dtype=np.int32)}
    np.testing.assert_allclose(run(again.model, turned)[0], built.reference_forward(feeds), atol=1e-5)
    assert isinstance(again.network, Network)


def test_zoo_is_complete() -> None:
    cases = zoo.cases()
    assert len(cases) == 48
    for case in cases:
        assert case.path.is_file()
        assert case.inputs
        assert case.outputs
        assert case.grads
        assert case.target_output in case.outputs
        assert bool(case.pre) == case.is_pre_activation
        for tensor in [*case.inputs, *case.outputs, *case.grads]:
            assert case.batch_axis(tensor) in (0, 1)
