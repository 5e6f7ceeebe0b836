"""Occlusion: what the explained value loses when time steps are replaced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_explain.errors import MethodError
from lstm_explain.graph.ir import Array, Graph
from lstm_explain.methods.players import Board, board_for, players_by_input
from lstm_explain.methods.spec import Occlusion
from lstm_explain.methods.study import Found, Scores, Task, found
from lstm_explain.plan.head import Head, head_of


def explain_by_occlusion(task: Task, method: Occlusion) -> Found:
    """One run a window, and one with everything replaced, for the ledger."""
    scores = scores_of(task, method)
    board = board_for(scores, method.baseline, "steps")
    windows = _windows(board, method.window)
    hidden = np.vstack([windows, np.ones((1, board.count), bool)])
    values = board.coalitions(~hidden)
    falls = scores.explained - values[:-1]  # [windows, batch]
    shares = windows / windows.sum(axis=1, keepdims=True) / np.maximum(windows.sum(axis=0), 1)
    by_player = falls.T @ shares
    return found(scores, board.relevance(by_player), by_player.sum(axis=1), values[-1])


def _windows(board: Board, width: int) -> Array:
    """[windows, players]: the players hidden together; `width` in a row, within one input."""
    rows = []
    for numbers in players_by_input(board).values():
        for start in range(max(1, len(numbers) - width + 1)):
            row = np.zeros(board.count, bool)
            row[numbers[start : start + width]] = True
            rows.append(row)
    return np.array(rows).reshape(-1, board.count)


# --- of the probability ------------------------------------------------------------------------------------------


def scores_of(task: Task, method: Occlusion) -> Scores:
    """Scores as the method wants them."""
    if method.of == "score":
        return Scores(task)
    graph = task.study.engine.graph
    head = Head(task.output, ())
    whole = Task(task.study, task.inputs, task.output, head, task.target)
    return Scores(whole, _link(graph, task.output, task.target.batch_axis))


def _link(graph: Graph, output: str, batch_axis: int | None) -> Callable[[Array], Array]:
    """From the output's values to probabilities: what is one already stays, everything else goes through Softmax."""
    before = head_of(graph, output)
    producers = graph.producers()
    last = producers[(before.views[-1].inputs[0]) if before.views else output] if before.value != output else None
    if last is not None and last.op in ("Softmax", "Sigmoid"):
        return lambda value: value
    if last is not None:  # LogSoftmax, or Log of Softmax
        return np.exp
    return lambda value: _softmax(value, output, batch_axis)


def _softmax(value: Array, output: str, batch_axis: int | None) -> Array:
    choices = value.ndim > 0 and value.shape[-1] > 1 and batch_axis not in (-1, value.ndim - 1)
    if not choices:
        raise MethodError(f"occlusion: output {output!r} is no probability and has no classes", field="method.of")
    powers = np.exp(value - value.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
