"""Shapley values by sampling orders of players."""

from __future__ import annotations

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.methods.players import Board, board_for
from lstm_explain.methods.study import Found, Scores, Task, found
from lstm_explain.spec.method import ShapleySampling


def explain_by_shapley(task: Task, method: ShapleySampling) -> Found:
    """Players join one by one in random order; each order's gains add up to the whole difference, so the mean does."""
    scores = Scores(task)
    board = board_for(scores, method.baseline, method.over)
    orders = draw_orders(board.count, method.permutations, method.seed)
    ends = board.nobody()
    gains = np.stack([_gains(board, order, ends) for order in orders])  # [orders, batch, players]
    mean, error = estimate(gains)
    return found(scores, board.relevance(mean), mean.sum(axis=1), ends, board.relevance(error))


def draw_orders(players: int, count: int, seed: int) -> Array:
    """[count, players]; every second order is the reverse of the one before it."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(players) for _ in range((count + 1) // 2)]
    return np.array([o for order in drawn for o in (order, order[::-1])][:count]).reshape(count, players)


def _gains(board: Board, order: Array, nobody: Array) -> Array:
    """[batch, players]: what each adds to those who came before it."""
    place = np.empty(board.count, int)
    place[order] = np.arange(board.count)

    def joined(ids: range) -> Array:
        return place <= np.asarray(ids)[:, None]  # after 1, 2, … players

    values = np.vstack([nobody, board.coalitions(board.count - 1, joined), board.scores.explained])
    gains = np.empty((board.scores.batch, board.count))
    gains[:, order] = np.diff(values, axis=0).T
    return gains


def estimate(gains: Array) -> tuple[Array, Array]:
    """Mean over the orders and its standard error, [batch, players] each.

    An order and its reverse depend on each other: the error comes from the spread between pairs. NaN: one pair tells
    nothing.
    """
    mean = gains.mean(axis=0)
    pairs = [gains[i : i + 2] for i in range(0, len(gains), 2)]
    n = len(pairs)
    if n == 1:
        return mean, np.full(mean.shape, np.nan)
    weights = np.array([len(p) for p in pairs]) / len(gains)
    spread = sum(w**2 * (p.mean(axis=0) - mean) ** 2 for w, p in zip(weights, pairs, strict=True))
    return mean, np.sqrt(spread * n / (n - 1))
