# SPDX-License-Identifier: Apache-2.0
"""The engine's LRP of LSTM networks equals the textbook's, end to end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from tests.builders import LSTM_CELLS, recurrent_model
from tests.engine_checks import check_textbook, label, method, pairwise
from tests.reference.textbook import PRODUCT_RULES, Relative, Rules, one_hot

FACTORS = {
    "cell": list(LSTM_CELLS),
    "layers": [1, 2, 3],
    "direction": ["forward", "reverse", "bidirectional"],
    "T": [1, 2, 7, 19, 60],
    "initial_states": [None, "constant", "input"],
    "sequence_lens": [False, True],
    "head": ["last", "Y_h", "mean", "Y_c", "sum"],
    "rule": list(PRODUCT_RULES),
    "stabiliser": [1e-6, 1e-3, 0.1, Relative(), Relative(0.3, 0.05, 0.1, 1.5), Relative(0.03, ceiling=1.1)],
    "bias_factor": [0.0, 0.3, 1.0],
    "batch_first": [False, True],
}
GRID = pairwise(FACTORS)


def settings(rule: Any, stabiliser: float | Relative, bias_factor: float) -> Rules:
    if isinstance(stabiliser, Relative):
        return Rules(rule, bias_factor=bias_factor, relative=stabiliser)
    return Rules(rule, stabiliser, bias_factor)


def check(row: dict[str, Any], dtype: Any, seed: int) -> None:
    given = dict(row)
    cell, T = LSTM_CELLS[given.pop("cell")], given.pop("T")
    rules = settings(given.pop("rule"), given.pop("stabiliser"), given.pop("bias_factor"))
    rng = np.random.default_rng(seed)
    built = recurrent_model(rng, "LSTM", D=4, H=3, dtype=dtype, **given, **cell)
    feeds = built.feeds(rng, T=T)
    chosen = rng.integers(3, size=3)
    explanation = lx.load(built.model).explain(feeds, method(rules), lx.Target(index=chosen))
    check_textbook(built, feeds, explanation, one_hot(list(chosen), 3, 3), rules)


@pytest.mark.parametrize("row", GRID, ids=label)
def test_float32_networks_equal_the_textbook(row: dict[str, Any]) -> None:
    check(row, np.float32, seed=1)


@pytest.mark.parametrize("row", GRID, ids=label)
def test_float64_networks_equal_the_textbook(row: dict[str, Any]) -> None:
    check(row, np.float64, seed=2)


@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize("bias_factor", [0.0, 1.0])
def test_an_empty_sequence_has_no_relevance(rule: Any, bias_factor: float) -> None:
    """ONNX Runtime accepts length 0 and returns zero states."""
    rng = np.random.default_rng(3)
    built = recurrent_model(
        rng, "LSTM", head="Y_h", direction="bidirectional", sequence_lens=True, initial_states="input"
    )
    feeds = built.feeds(rng, T=4)
    feeds["lens"] = np.array([4, 0, 2], dtype=np.int32)
    rules = Rules(rule, 1e-3, bias_factor)
    explanation = lx.load(built.model).explain(feeds, method(rules), lx.Target(index=2))
    check_textbook(built, feeds, explanation, one_hot(2, 3, 3), rules)
    for name in ("x", "initial_h_0", "initial_c_0"):
        np.testing.assert_array_equal(explanation.relevance[name][:, 1], 0.0)


@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize(
    ("D", "H", "B", "T"), [(1, 1, 1, 1), (1, 1, 2, 9), (9, 2, 1, 4), (2, 17, 5, 3), (33, 40, 2, 6)]
)
def test_sizes_that_do_not_fill_vector_registers(rule: Any, D: int, H: int, B: int, T: int) -> None:
    rng = np.random.default_rng(4)
    built = recurrent_model(rng, "LSTM", D=D, H=H, direction="bidirectional", head="mean", classes=2)
    feeds, rules = built.feeds(rng, T=T, B=B), Rules(rule)
    explanation = lx.load(built.model).explain(feeds, method(rules), lx.Target(index=0))
    check_textbook(built, feeds, explanation, one_hot(0, B, 2), rules)


@pytest.mark.parametrize("rule", PRODUCT_RULES)
def test_a_wide_batch_equals_the_textbook(rule: Any) -> None:
    rng = np.random.default_rng(5)
    built = recurrent_model(rng, "LSTM", sequence_lens=True, head="mean", initial_states="input")
    feeds, rules = built.feeds(rng, T=5, B=37), Rules(rule, 0.01)
    explanation = lx.load(built.model).explain(feeds, method(rules), lx.Target(index=1))
    check_textbook(built, feeds, explanation, one_hot(1, 37, 3), rules)
