"""Occlusion: what the explained value loses when time steps are replaced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_explain.errors import MethodError
from lstm_explain.graph.ir import Array, Graph
from lstm_explain.methods.players import board_for
from lstm_explain.methods.study import Found, Scores, Task, found
from lstm_explain.plan.head import Head, head_of
from lstm_explain.spec.method import Occlusion


def explain_by_occlusion(task: Task, method: Occlusion) -> Found:
    """One run a window, and one with everything replaced, for the ledger."""
    scores = scores_of(task, method)
    board = board_for(scores, method.baseline, "steps")
    of_inputs = [_windows(players.reshape(-1), method.window) for players in board.players.values()]
    windows = [window for own in of_inputs for window in own]
    first = [number == 0 for own in of_inputs for number in range(len(own))]

    def present(ids: range) -> Array:
        rows = np.ones((len(ids), board.count), bool)
        for row, window in zip(rows, windows[ids.start : ids.stop], strict=True):
            row[window] = False
        return rows

    falls = scores.explained - board.coalitions(len(windows), present)  # [windows, batch]
    real = board.present()
    counted = [_inside(real[:, window], alone=alone) for window, alone in zip(windows, first, strict=True)]
    covering = np.zeros((scores.batch, board.count))
    for window, inside in zip(windows, counted, strict=True):
        covering[:, window] += inside
    by_player = np.zeros((scores.batch, board.count))
    for window, inside, fall in zip(windows, counted, falls, strict=True):
        shares = inside.sum(axis=1, keepdims=True) * covering[:, window]
        by_player[:, window] += inside * fall[:, None] / np.maximum(shares, 1)
    return found(scores, board.relevance(by_player), by_player.sum(axis=1), board.nobody())


def _inside(real: Array, *, alone: bool) -> Array:
    """[batch, window]: the steps that a window's fall is shared among; none where it reaches into padding, but for the
    only window (`alone`, the first) of a sample that is shorter than it."""
    whole = real.all(axis=1, keepdims=True)
    return np.asarray(real & (whole | alone), np.float64)


def _windows(players: Array, width: int) -> list[Array]:
    """The players hidden together: `width` in a row."""
    return [players[start : start + width] for start in range(max(1, len(players) - width + 1))]


# --- of the probability ------------------------------------------------------------------------------------------


def scores_of(task: Task, method: Occlusion) -> Scores:
    """Scores as the method wants them."""
    if method.of == "score":
        return Scores(task)
    head = Head(task.output, ())
    whole = Task(task.study, task.inputs, task.output, head, task.target)
    last = task.study.once(_last, task.study.engine.graph, task.output)
    return Scores(whole, _link(last, task.output, task.target.batch_axis))


def _last(graph: Graph, output: str) -> str:
    """The operator of the output's activation; empty where it has none."""
    before = head_of(graph, output)
    made = before.views[-1].inputs[0] if before.views else output
    return graph.producers()[made].op if before.value != output else ""


def _link(last: str, output: str, batch_axis: int | None) -> Callable[[Array], Array] | None:
    """From the output's values to probabilities; None where they are some already, everything else takes Softmax."""
    if last in ("Softmax", "Sigmoid"):
        return None
    if last:  # LogSoftmax, or Log of Softmax
        return np.exp
    return lambda value: _softmax(value, output, batch_axis)


def _softmax(value: Array, output: str, batch_axis: int | None) -> Array:
    choices = value.ndim > 0 and value.shape[-1] > 1 and batch_axis not in (-1, value.ndim - 1)
    if not choices:
        raise MethodError(f"occlusion: output {output!r} is no probability and has no classes", field="method.of")
    powers = np.exp(value - value.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
