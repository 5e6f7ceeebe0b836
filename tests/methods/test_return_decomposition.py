# SPDX-License-Identifier: Apache-2.0
"""Relevance of a predicted return as redistributed reward (Arjona-Medina et al. 2019), on the bundled `corridor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lstm_explain as lx

MODEL = Path(__file__).resolve().parents[2] / "models" / "corridor" / "1" / "model.onnx"
CELLS, STEPS, START, KEY = 9, 24, 4, 0


@pytest.fixture(scope="module")
def walks() -> tuple[Any, Any]:
    """One-hot positions of random walks between two walls, and the step at which each first reached the key."""
    rng, positions = np.random.default_rng(11), np.full(300, START)
    path = []
    for _ in range(STEPS):
        positions = np.clip(positions + rng.choice((-1, 1), len(positions)), 0, CELLS - 1)
        path.append(positions)
    at_key = np.stack(path, axis=1) == KEY
    return np.eye(CELLS, dtype=np.float32)[np.stack(path, axis=1)], np.where(at_key.any(1), at_key.argmax(1), STEPS)


@pytest.fixture(scope="module")
def explained(walks: tuple[Any, Any]) -> lx.Explanation:
    return lx.load(MODEL).explain({"x": walks[0]}, lx.LRP(epsilon=1e-6), lx.Target(index=0))


def test_rewards_sum_to_the_predicted_return(explained: lx.Explanation) -> None:
    sums = explained.relevance["x"].sum(axis=(1, 2))
    np.testing.assert_allclose(sums, explained.outputs["return"][:, 0], atol=1e-3)


def test_the_key_gets_most_of_the_reward(walks: tuple[Any, Any], explained: lx.Explanation) -> None:
    taken = walks[1]
    rewards, rows = explained.relevance["x"].sum(axis=2), np.flatnonzero(taken < STEPS)
    assert 50 < len(rows) < 250  # both kinds of episodes
    assert (rewards[rows].argmax(axis=1) == taken[rows]).all()
    assert np.abs(rewards[taken == STEPS]).max() < 0.2 * rewards[rows, taken[rows]].min()


def test_without_stabiliser_a_step_gets_its_contribution(walks: tuple[Any, Any]) -> None:
    """The return is a sum over steps of V i_t g_t, computed here from the weights alone."""
    explained = lx.load(MODEL).explain({"x": walks[0]}, lx.LRP(epsilon=1e-12), lx.Target(index=0))
    w = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in onnx.load(MODEL).graph.initializer}
    (W,), (R,), (B,), V = w["lstm.W"], w["lstm.R"], w["lstm.B"], w["output.weight"][0]
    H, x = len(V), walks[0].astype(np.float64)
    b = B[: 4 * H] + B[4 * H :]
    i, g = slice(0, H), slice(3 * H, None)  # rows: input, output, forget, cell
    c, expected = np.zeros((len(x), H)), []
    for t in range(STEPS):
        gate = 1 / (1 + np.exp(-(x[:, t] @ W[i].T + c @ R[i].T + b[i])))
        written = gate * np.tanh(x[:, t] @ W[g].T + b[g])
        c = c + written
        expected.append(written @ V)
    np.testing.assert_allclose(explained.relevance["x"].sum(axis=2), np.stack(expected, axis=1), atol=1e-4)
