# SPDX-License-Identifier: Apache-2.0
"""Return decomposition: the relevance of a predicted return as redistributed reward (RUDDER, arXiv 1806.07857)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from common import MODELS, held, table
from corridor import CELLS, KEY, MOVES, START, STEPS, Episodes, played, walk, wander

import lstm_explain as lx

Array = npt.NDArray[Any]
Redistribute = Callable[[Episodes], Array]

EPISODES = 2000
METHODS = {
    "LRP-all": lx.LRP(layer_stabiliser=0),
    "Gradient × Input": lx.GradientTimesInput(),
    "Integrated Gradients": lx.IntegratedGradients(),
    "Occlusion": lx.Occlusion(),
}
AGENTS, MOST_EPISODES = 50, 5000
RATE, EXPLORE = 0.1, 0.2  # of Q-learning


def redistributed(model: lx.Model, method: lx.Method, episodes: Episodes) -> tuple[Array, lx.Explanation]:
    """[episodes, STEPS]: a reward for each step in the place of the one at the end."""
    e = model.explain({"x": episodes.x}, method, lx.Target(index=0))
    return e.relevance["x"].sum(axis=2, dtype=np.float64), e


def measure(model: lx.Model, method: lx.Method, episodes: Episodes) -> list[float]:
    """In per cent: episodes with the key in which its step gets the most; that step's part of all absolute reward; and
    the largest difference of a whole episode's reward from the predicted return.
    """
    reward, e = redistributed(model, method, episodes)
    rows = np.flatnonzero(episodes.taken < STEPS)
    at = episodes.taken[rows]
    first = reward[rows].argmax(axis=1) == at
    part = np.abs(reward[rows, at]) / np.abs(reward[rows]).sum(axis=1)
    return [100 * float(v) for v in (first.mean(), part.mean(), np.abs(reward.sum(axis=1) - e.explained).max())]


# --- an agent that learns from it --------------------------------------------------------------------------------


def episodes_to_learn(rng: np.random.Generator, rewards: Redistribute) -> int:
    """Q-learning without discount; the episodes after which the greedy agent gets the key."""
    q = np.zeros((STEPS, 2, CELLS, 2))  # time, key or not, position, move: with the time, either reward is Markov
    for count in range(1, MOST_EPISODES + 1):
        moves, positions = _play(q, rng)
        _learn(q, moves, positions, rewards(played(np.array([positions[1:]])))[0])
        if _succeeds(q):
            return count
    return MOST_EPISODES


def _play(q: Array, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """An episode with a random move now and then: moves, and positions before, between and after them."""
    moves, positions, key = [], [START], 0
    for t in range(STEPS):
        values = q[t, key, positions[-1]]
        random = rng.random() < EXPLORE or values[0] == values[1]
        moves.append(int(rng.integers(2)) if random else int(values.argmax()))
        positions.append(walk(positions[-1], MOVES[moves[-1]]))
        key |= positions[-1] == KEY
    return moves, positions


def _learn(q: Array, moves: list[int], positions: list[int], reward: Array) -> None:
    key = 0
    for t, move in enumerate(moves):
        here, there = positions[t], positions[t + 1]
        later = key | (there == KEY)
        best = q[t + 1, int(later), there].max() if t + 1 < STEPS else 0.0
        q[t, key, here, move] += RATE * (reward[t] + best - q[t, key, here, move])
        key = int(later)


def _succeeds(q: Array) -> bool:
    """Whether the greedy agent comes to the key; where two moves are equal it does not count on luck."""
    position = START
    for t in range(STEPS):
        left, right = q[t, 0, position]
        position = walk(position, MOVES[0] if left > right else MOVES[1])
        if position == KEY:
            return True
    return False


def delayed(episodes: Episodes) -> Array:
    """Return the rewards of the environment: all of it after the last step."""
    reward = np.zeros(episodes.x.shape[:2])
    reward[:, -1] = episodes.returns
    return reward


def run(progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md."""
    model = lx.load(MODELS / "corridor" / "1" / "model.onnx")
    episodes = wander(np.random.default_rng(2019), EPISODES)
    figures = {}
    for name, method in METHODS.items():
        progress(f"return decomposition: {name}")
        figures[name] = measure(model, method, episodes)
    rows = [[name, *(f"{v:.2f}" for v in values)] for name, values in figures.items()]
    learned = {}
    for name, rewards in (
        ("from the environment, at the end", delayed),
        ("redistributed by LRP-all", lambda e: redistributed(model, METHODS["LRP-all"], e)[0]),
    ):
        progress(f"return decomposition: agents with rewards {name}")
        learned[name] = [episodes_to_learn(np.random.default_rng(seed), rewards) for seed in range(AGENTS)]
    quartiles = [[name, *(f"{v:.0f}" for v in np.percentile(c, [25, 50, 75]))] for name, c in learned.items()]
    medians = [float(np.median(counts)) for counts in learned.values()]
    with_key = float((episodes.taken < STEPS).mean())
    return f"""## Return decomposition

RUDDER (Arjona-Medina et al. 2019) assigns a delayed reward to the steps that earned it: a network learns to predict
the return of an episode, and the relevance of each step becomes the reward of that step. Here, an agent walks in a
corridor of {CELLS} cells for {STEPS} steps. A key lies at one end; an agent that reaches it receives a reward of 1
after the last step. The bundled `corridor` model predicts the return from the positions of the agent. It is an LSTM
without forget and output gates, as in RUDDER, written as an ONNX LSTM. The test uses {EPISODES} episodes of a
randomly moving agent that were not used in training, {100 * with_key:.0f} % of them with the key. Columns show, in
per cent: the episodes with the key in which the step to the key receives the most reward; the share of that step in
all absolute reward; and the largest difference between the total reward of an episode and the predicted return.

{table(["method", "key gets most", "part of the key", "sum − return"], rows)}
{held("LRP-all's rewards sum to the predicted return within 0.1 %", figures["LRP-all"][2] <= 0.1)}
{held("the key receives the most in 99 % of the episodes with it", figures["LRP-all"][0] >= 99)}

An agent learns from these rewards (Q-learning, no discount, rate {RATE}, a random move in {100 * EXPLORE:.0f} % of
the steps). The table shows the number of episodes until the greedy agent fetches the key, as quartiles over {AGENTS}
agents, at most {MOST_EPISODES}. It does not count the random episodes on which the predictor of the redistributed
reward was trained before (`models/corridor/README.md`).

{table(["rewards", "25 %", "median", "75 %"], quartiles)}
{held("with redistributed reward, agents learn in fewer episodes", medians[1] < medians[0])}
"""
