# SPDX-License-Identifier: Apache-2.0
"""Inputs of another width are converted where nothing is lost but rounding."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from tests.graph_builder import GraphBuilder

X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
IDS = np.array([[0, 3, 1], [2, 2, 0]])


def of_numbers() -> onnx.ModelProto:
    g = GraphBuilder(np.float32, 17)
    weights = g.constant(np.random.default_rng(1).standard_normal((3, 2)), "weights")
    return g.model(g.op("MatMul", [g.input("x", ["B", 3]), weights]), ["B", 2])


def of_tokens() -> onnx.ModelProto:
    g = GraphBuilder(np.float32, 17)
    table = g.constant(np.random.default_rng(2).standard_normal((4, 2)), "table")
    vectors = g.op("Gather", [table, g.input("x", ["B", 3], onnx.TensorProto.INT64)])
    return g.model(g.reduce("sum", vectors, 1, "sums"), ["B", 2])


CONVERTED = {
    "float64": (of_numbers, X, X.astype(np.float64)),
    "float16": (of_numbers, X.astype(np.float16).astype(np.float32), X.astype(np.float16)),
    "big-endian": (of_numbers, X, X.astype(">f4")),
    "int32": (of_tokens, IDS, IDS.astype(np.int32)),
    "uint8": (of_tokens, IDS, IDS.astype(np.uint8)),
    "uint64": (of_tokens, IDS, IDS.astype(np.uint64)),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_a_converted_input_gets_the_same_answer(name: str) -> None:
    build, exact, given = CONVERTED[name]
    model = lx.load(build())
    expected, received = (model.explain({"x": x}, target=lx.Target(index=1)) for x in (exact, given))
    np.testing.assert_array_equal(received.relevance["x"], expected.relevance["x"])
    np.testing.assert_array_equal(received.explained, expected.explained)
    np.testing.assert_array_equal(model.predict({"x": given})["logits"], model.predict({"x": exact})["logits"])
    assert received.warnings == expected.warnings


def test_numbers_are_rounded() -> None:
    x = X.astype(np.float64) + 1e-12
    received = lx.load(of_numbers()).explain({"x": x}, target=lx.Target(index=0))
    expected = lx.load(of_numbers()).explain({"x": x.astype(np.float32)}, target=lx.Target(index=0))
    np.testing.assert_array_equal(received.relevance["x"], expected.relevance["x"])


DATES = np.array([[20261129.0, 0.5, 1.0]])  # float32 knows even numbers only there


def test_lost_digits_are_warned_of_but_not_in_the_answer() -> None:
    model = lx.load(of_numbers())
    with pytest.warns(lx.PrecisionWarning, match="input 'x' has float64 numbers that float32 rounds by 0.5 or more"):
        received = model.explain({"x": DATES}, target=lx.Target(index=0))
    rounded = model.explain({"x": DATES.astype(np.float32)}, target=lx.Target(index=0))
    assert received.warnings == rounded.warnings


@pytest.mark.parametrize("number", [0.1, 2.0**23 - 0.26, 2.0**24, 20261128.0, 1e-300, 2.0**60])
def test_ordinary_rounding_warns_of_nothing(number: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lx.load(of_numbers()).predict({"x": np.full((1, 3), number)})


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], Any, str]] = {
    "overflow": (of_numbers, np.array([[0, 0, 0], [0, 1e300, 0]]), r"is 1e\+300 at \(1, 1\), which float32 cannot"),
    "beyond int64": (of_tokens, np.full((1, 3), 2**63, np.uint64), r"at \(0, 0\), which int64 cannot"),
    "integers for numbers": (of_numbers, IDS, "has type int64, expected float32"),
    "numbers for integers": (of_tokens, X, "has type float32, expected int64"),
    "truth values": (of_numbers, X > 0, "has type bool, expected float32"),
    "complex": (of_numbers, X + 1j, "has type complex64, expected float32"),
    "not finite": (of_numbers, np.full((1, 3), np.inf), "expected finite numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_conversion_would_change_is_refused(name: str) -> None:
    build, given, problem = REFUSED[name]
    model = lx.load(build())
    with pytest.raises(lx.InputError, match=problem):
        model.explain({"x": given}, target=lx.Target(index=0))
    with pytest.raises(lx.InputError, match=problem):
        model.predict({"x": given})


@pytest.mark.parametrize("given", [X, [X], None])
def test_inputs_without_names_are_refused(given: Any) -> None:
    model, problem = lx.load(of_numbers()), f"inputs is of type {type(given).__name__}, expected a dict"
    with pytest.raises(lx.InputError, match=problem):
        model.explain(given)
    with pytest.raises(lx.InputError, match=problem):
        model.predict(given)
