# SPDX-License-Identifier: Apache-2.0
"""A compiled recurrent network equals the textbook, for every form of the cells, at other sizes than it was compiled
with.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from tests.builders import LSTM_CELLS, network_model, recurrent_model
from tests.compiled.compiled_files import run_file
from tests.engine_checks import check_textbook, label, method, pairwise
from tests.reference.textbook import PRODUCT_RULES, Relative, Rules, one_hot

GRU_CELLS: dict[str, dict[str, Any]] = {
    "after": {},
    "before": {"linear_before_reset": True},
    "clip": {"clip": 0.5, "linear_before_reset": True},
    "activations": {"activations": ["HardSigmoid", "Relu"], "activation_alpha": [0.25], "activation_beta": [0.4]},
}
RNN_CELLS: dict[str, dict[str, Any]] = {"plain": {}, "clip": {"clip": 0.5}, "softsign": {"activations": ["Softsign"]}}
FACTORS: dict[str, list[Any]] = {
    "layers": [1, 2],
    "direction": ["forward", "reverse", "bidirectional"],
    "initial_states": [None, "constant", "input"],
    "sequence_lens": [False, True],
    "head": ["last", "Y_h", "mean", "sum"],
    "rule": list(PRODUCT_RULES),
    "stabiliser": [1e-2, 0.1, Relative(), Relative(0.3, 0.05, 0.1, 1.5)],
    "bias_factor": [0.0, 0.3],
}
GRID = [
    {"op": op, **row}
    for op, cells, heads in (("LSTM", LSTM_CELLS, ["Y_c"]), ("GRU", GRU_CELLS, []), ("RNN", RNN_CELLS, []))
    for row in pairwise({"cell": list(cells), **FACTORS, "head": [*FACTORS["head"], *heads]})
]
CELLS = {"LSTM": LSTM_CELLS, "GRU": GRU_CELLS, "RNN": RNN_CELLS}


def rules_of(rule: Any, stabiliser: float | Relative, bias_factor: float) -> Rules:
    if isinstance(stabiliser, Relative):
        return Rules(rule, bias_factor=bias_factor, relative=stabiliser)
    return Rules(rule, stabiliser, bias_factor)


@pytest.mark.parametrize("row", GRID, ids=label)
def test_compiled_networks_equal_the_textbook(row: dict[str, Any]) -> None:
    given = dict(row)
    cell = CELLS[given["op"]][given.pop("cell")]
    rules = rules_of(given.pop("rule"), given.pop("stabiliser"), given.pop("bias_factor"))
    rng = np.random.default_rng(1)
    built = recurrent_model(rng, D=4, H=3, **given, **cell)
    proto = lx.compile(lx.load(built.model), method(rules), "runtime")
    feeds = built.feeds(rng, T=9)
    chosen = rng.integers(3, size=3)
    found = run_file(proto, {**feeds, "target": chosen.astype(np.int64)})
    check_textbook(built, feeds, found, one_hot(list(chosen), 3, 3), rules)


@pytest.mark.parametrize("op", CELLS)
def test_an_empty_sequence_has_no_relevance(op: Any) -> None:
    rng = np.random.default_rng(3)
    built = recurrent_model(rng, op, head="Y_h", direction="bidirectional", sequence_lens=True, initial_states="input")
    proto = lx.compile(lx.load(built.model), target=2)
    feeds = built.feeds(rng, T=4)
    feeds["lens"] = np.array([4, 0, 2], dtype=np.int32)
    rules = Rules("all", relative=Relative())
    found = run_file(proto, feeds)
    check_textbook(built, feeds, found, one_hot(2, 3, 3), rules)
    np.testing.assert_array_equal(found.relevance["x"][:, 1], 0.0)


@pytest.mark.parametrize("rule", ["all", "half"])
@pytest.mark.parametrize("sequence_lens", [False, True])
@pytest.mark.parametrize("head", ["last", "sum"])
@pytest.mark.parametrize("op", CELLS)
def test_the_ceiling_limits_relevance_as_in_the_textbook(op: Any, head: Any, sequence_lens: bool, rule: Any) -> None:
    rng = np.random.default_rng(5 if op == "GRU" else 6)  # seeds with which the ceiling matters
    small = recurrent_model(rng, op, D=4, H=5, direction="bidirectional", head=head).network
    layers = tuple(dataclasses.replace(layer, R=4 * layer.R) for layer in small.layers)
    built = network_model(dataclasses.replace(small, layers=layers), sequence_lens=sequence_lens)
    feeds, weights = built.feeds(rng, T=14), one_hot(1, 3, 3)
    bounded = Rules(rule, relative=Relative(0.01, 0.0, 0.02, 1.0))
    free = Rules(rule, relative=Relative(0.01, 0.0, 0.02, 1e6))
    expected, other = (built.reference_lrp(feeds, weights, rules).x for rules in (bounded, free))
    assert np.abs(expected - other).max() > 0.01 * np.abs(expected).max()  # the ceiling matters here
    found = run_file(lx.compile(lx.load(built.model), method(bounded), 1), feeds)
    check_textbook(built, feeds, found, weights, bounded)
