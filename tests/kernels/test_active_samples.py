# SPDX-License-Identifier: Apache-2.0
"""Backward passes leave out the steps at which a sample has no relevance, and their answers stay the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.arithmetic import quiet_arithmetic
from lstm_explain.operators.tape import Tape
from lstm_explain.program.engine import saved_tensors_for
from tests.builders import recurrent_model
from tests.engine_checks import method, textbook_relevance
from tests.reference.layer import Op
from tests.reference.textbook import Relative, Rules, one_hot

OPS: list[Op] = ["LSTM", "GRU", "RNN"]
METHODS: list[lx.Method] = [
    lx.LRP(epsilon=1e-3),
    lx.LRP(),
    lx.LRP("half", epsilon=1e-3, bias_factor=0.5),
    lx.LRP("prop"),
    lx.LRP("abs", epsilon=1e-3),
    lx.Gradient(),
]
FADING = [METHODS[0], METHODS[1], METHODS[5]]
T = 900
STEPS = {"LSTM": 500, "GRU": 500, "RNN": 1400}


@pytest.fixture(autouse=True)
def _flushes() -> Iterator[None]:
    with quiet_arithmetic():
        yield


class Node:
    """One recurrent node of random weights with given initial states, and its forward pass."""

    def __init__(self, op: Op, how: lx.Method, lens: list[int], direction: Any = "forward", seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        built = recurrent_model(
            rng, op, D=3, H=5, direction=direction, sequence_lens=True, initial_states="input", head="Y_h"
        )
        feeds = built.feeds(rng, T=max(lens), B=len(lens))
        (self.cell,) = lx.load(built.model).engine.cells.values()
        self.how, self.directions = how, len(self.cell.directions)
        states = [feeds[name] for name in built.input_names if name.startswith("initial")]
        self.values = {
            0: feeds["x"],
            4: np.array(lens, np.int32),
            **dict(zip(self.cell.state_slots, states, strict=True)),
        }
        self.lens, self.op = lens, op

    def tapes(self, samples: list[int] | None = None) -> list[Tape]:
        values = self.values
        if samples is not None:
            values = {slot: a[samples] if slot == 4 else a[:, samples] for slot, a in values.items()}
        run, x = self.cell.forward_run(values, saved_tensors_for(self.how))
        return run(x)[1]

    def nothing(self) -> np.ndarray:
        """No relevance at any step, [T, directions, B, H]."""
        return np.zeros((max(self.lens), self.directions, len(self.lens), self.cell.hidden))

    def back(self, tapes: list[Tape], arriving: list[np.ndarray | None]) -> list[np.ndarray]:
        """The relevance of x and of the initial states, and what is absorbed."""
        dtype = tapes[0].dtype
        given = [None if a is None else a.astype(dtype) for a in arriving]
        given += [None] * (1 + len(self.cell.state_slots) - len(given))
        flow = self.cell.ready_back(tapes, self.how.rules)(tapes, given)
        return [*(flow.inputs[slot] for slot in (0, *self.cell.state_slots)), flow.absorbed]


def spoil(tapes: list[Tape], steps: slice) -> None:
    """Makes whatever the forward pass saved for these steps infinite."""
    for tape in tapes:
        for name, array in {**tape.kept, "hidden": tape.hidden}.items():
            if name != "c0" and len(array):
                array[(slice(None), steps) if name == "signals" else steps] = np.inf


@pytest.mark.parametrize("how", METHODS, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_steps_after_the_explained_one_are_not_read(op: Op, how: lx.Method) -> None:
    """Relevance arrives at step 6 of 12 only."""
    node = Node(op, how, [12, 12])
    r_y = node.nothing()
    r_y[6] = np.random.default_rng(1).standard_normal(r_y[6].shape)
    expected = node.back(node.tapes(), [r_y])
    assert np.abs(expected[0][:7]).min() > 0
    tapes = node.tapes()
    spoil(tapes, slice(7, None))
    for received, there in zip(node.back(tapes, [r_y]), expected, strict=True):
        np.testing.assert_array_equal(received, there)
    assert (expected[0][7:] == 0).all()


@pytest.mark.parametrize("how", FADING, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_steps_before_relevance_has_faded_are_not_read(op: Op, how: lx.Method) -> None:
    node = Node(op, how, [T, T])
    r_h = np.random.default_rng(1).standard_normal((1, 2, 5))
    expected = node.back(node.tapes(), [None, r_h])
    first = np.flatnonzero(np.abs(expected[0]).max(axis=(1, 2)))[0]
    assert first > 100, "it does not fade"
    tapes = node.tapes()
    spoil(tapes, slice(0, first - 50))  # x may receive zeros for some steps before all states do
    for received, there in zip(node.back(tapes, [None, r_h]), expected, strict=True):
        np.testing.assert_array_equal(received, there)


@pytest.mark.parametrize("how", [METHODS[0], METHODS[5]], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_relevance_may_arrive_after_all_else_has_faded(op: Op, how: lx.Method) -> None:
    """Both rules are linear in the relevance that arrives, so the answer consists of those for each arrival."""
    node = Node(op, how, [T])
    early, late = node.nothing(), node.nothing()
    early[40], late[T - 1] = 1.0, -1.0
    both, of_early, of_late = (node.back(node.tapes(), [r_y]) for r_y in (early + late, early, late))
    assert (of_late[0][:60] == 0).all()
    np.testing.assert_array_equal(both[0][:60], of_early[0][:60])
    np.testing.assert_array_equal(both[0][60:], of_late[0][60:])
    np.testing.assert_allclose(both[-1], of_early[-1] + of_late[-1], rtol=1e-6)


@pytest.mark.parametrize("how", METHODS, ids=str)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("op", OPS)
def test_a_sample_has_the_same_bits_alone_and_in_a_batch(op: Op, direction: Any, how: lx.Method) -> None:
    """Samples of different lengths, at which relevance arrives at different steps, or nowhere."""
    steps = T if how in FADING else 40
    lens = [steps, steps, steps // 2, 25, 1, 7, steps - 3, 0]
    node = Node(op, how, lens, direction)
    rng, r_y = np.random.default_rng(2), node.nothing()
    for b, length in enumerate(lens[:-2]):
        for s in rng.integers(0, length, b):  # sample 0: at no step
            r_y[s, :, b] = rng.standard_normal((node.directions, 5))
    ends = [rng.standard_normal((node.directions, len(lens), 5)) for _ in node.cell.state_slots]
    ends[0][:, [1, 3]] = 0
    ends[-1][:, [0, 1, 6]] = 0
    together = node.back(node.tapes(), [r_y, *ends])
    for b in range(len(lens)):
        one = [b]
        alone = node.back(node.tapes(one), [r_y[:, :, one], *(end[:, one] for end in ends)])
        for received, there in zip(alone[:-1], together[:-1], strict=True):
            np.testing.assert_array_equal(received, there[:, one])
        np.testing.assert_array_equal(alone[-1], together[-1][one])


RULES = [Rules("all", 1e-3), Rules("all", relative=Relative())]


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize(("op", "head"), [*((op, head) for op in OPS for head in ("Y_h", "last")), ("LSTM", "Y_c")])
def test_relevance_equals_the_textbook_until_it_has_faded(op: Op, head: Any, rules: Rules) -> None:
    """Step by step, however small relevance has become."""
    rng = np.random.default_rng(3)
    built = recurrent_model(rng, op, D=3, H=5, head=head)
    feeds = built.feeds(rng, T=STEPS[op], B=2)
    answer = lx.load(built.model).explain(feeds, method(rules), lx.Target(index=1)).relevance["x"]
    expected = textbook_relevance(built, built.reference_lrp(feeds, one_hot(1, 2, 3), rules))["x"]
    sizes = np.abs(expected).max(axis=2)
    assert sizes.min() < 1e-45, "it does not fade"
    error = np.abs(answer - expected).max(axis=2)
    assert (error[sizes > 1e-30] < 1e-2 * sizes[sizes > 1e-30]).all()
    assert (answer[sizes < 1e-45] == 0).all()
