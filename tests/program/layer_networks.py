# SPDX-License-Identifier: Apache-2.0
"""Networks of recurrent layers, and the methods that the tests of their batches and spellings compare."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import lstm_explain as lx
from tests.builders import Built, recurrent_model
from tests.reference.textbook import PRODUCT_RULES

SETTINGS = list(itertools.product(PRODUCT_RULES, (0.0, 1.0)))
MODELS: dict[str, dict[str, Any]] = {
    "lstm": {"direction": "bidirectional", "layers": 2, "head": "mean"},
    "lstm-Y_h": {"direction": "bidirectional", "head": "Y_h", "batch_first": True, "peepholes": True},
    "gru": {"op": "GRU", "head": "Y_h", "layers": 2},
    "gru-lbr": {"op": "GRU", "head": "mean", "linear_before_reset": True, "direction": "reverse"},
    "rnn": {"op": "RNN", "head": "sum", "direction": "bidirectional"},
}
PAPERS = lx.LRP(epsilon=1e-3)  # needs float64 where the default does not
EVERY_METHOD = [*(lx.LRP(rule, 0.01, share) for rule, share in SETTINGS), lx.Gradient(), lx.GradientTimesInput()]


def ragged(name: str, B: int = 4) -> tuple[Built, dict[str, Any], lx.Model]:
    rng = np.random.default_rng(41)
    built = recurrent_model(rng, sequence_lens=True, initial_states="input", dtype=np.float64, **MODELS[name])
    return built, built.feeds(rng, T=6, B=B), lx.load(built.model)


def relevance(proto: Any, feeds: dict[str, Any], how: lx.Method, index: Any = 1) -> dict[str, Any]:
    return lx.load(proto).explain(feeds, how, lx.Target(index=index)).relevance
