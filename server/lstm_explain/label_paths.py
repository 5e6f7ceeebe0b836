# SPDX-License-Identifier: Apache-2.0
"""Finds the path of labels through the per-step scores of a sequence model: one label per step.

Scores are those of a model that ends in one score per step and label, such as an acoustic model trained by CTC or the
emissions of a linear-chain CRF. Paths hold NO_LABEL at steps that do not count.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.cancellation import checkpoint
from lstm_explain.errors import TargetError

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]
NO_LABEL = -1
MOST_STATES = 1 << 27  # steps times states of an alignment, a byte each
MOST_TRANSITIONS = 1 << 30  # samples times steps times pairs of labels, which take a second or two


def best_paths(scores: Array, transitions: Array | None) -> Labels:
    """Returns for each sample the path of the highest sum of scores, [batch, steps].

    scores: [batch, steps, labels]. transitions: what a path gains from one label to the next, see Measure; with them
    the path is that of Viterbi (Lafferty, McCallum and Pereira 2001 for conditional random fields). Raises TargetError.
    """
    if transitions is None:
        labels: Labels = scores.argmax(axis=2)
        return labels
    batch, steps, count = scores.shape
    between, first, last = _parts(transitions, count)
    if batch * steps * count**2 > MOST_TRANSITIONS:
        problem = f"a path through {batch} × {steps} steps with {count} × {count} transitions takes too long"
        raise TargetError(problem, field="target.measure.reference")
    into = np.ascontiguousarray(between.T)  # [to, from], whose rows NumPy searches fastest
    total, came_from = scores[:, 0] + first, np.zeros((steps, batch, count), np.int64)
    for step in range(1, steps):
        checkpoint()
        for sample in range(batch):  # one at a time: labels x labels numbers are many
            each = total[sample] + into
            came_from[step, sample] = each.argmax(axis=1)
            total[sample] = each.max(axis=1) + scores[sample, step]
    paths = np.empty((batch, steps), np.int64)
    paths[:, -1] = (total + last).argmax(axis=1)
    for step in range(steps - 1, 0, -1):
        paths[:, step - 1] = came_from[step, np.arange(batch), paths[:, step]]
    return paths


def _parts(transitions: Array, count: int) -> tuple[Array, Array, Array]:
    """Returns the scores between labels, of the first label and of the last one. Raises TargetError."""
    if transitions.shape == (count, count):
        return transitions, np.zeros(count), np.zeros(count)
    if transitions.shape == (count + 1, count + 1):
        return transitions[:-1, :-1], transitions[-1, :-1], transitions[:-1, -1]
    expected = f"{(count, count)} or {(count + 1, count + 1)} for {count} labels"
    problem = f"the transitions have shape {transitions.shape}, expected {expected}"
    raise TargetError(problem, field="target.measure.reference")


def alignment(scores: Array, labels: list[int], blank: int) -> Labels:
    """Returns the path of the highest sum of scores that CTC reads as these labels, [steps].

    CTC merges neighbouring equal labels of a path and then drops blanks (Graves et al. 2006, section 3.1). scores:
    [steps, labels]. Raises TargetError where there are too few steps for the labels.
    """
    steps = len(scores)
    needed = len(labels) + sum(a == b for a, b in pairwise(labels))
    if needed > steps:
        problem = f"{len(labels)} labels take {needed} steps, with a blank between equal ones; the output has {steps}"
        raise TargetError(problem, field="target.index")
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    if steps * len(states) > MOST_STATES:
        problem = f"an alignment of {len(labels)} labels with {steps} steps is too long"
        raise TargetError(problem, field="target.index")
    may_skip = np.zeros(len(states), bool)  # the blank before a label that differs from the one before it
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    total, back = np.full(len(states), -np.inf), np.zeros((steps, len(states)), np.int8)
    total[:2] = scores[0, states[:2]]
    for step in range(1, steps):
        checkpoint()
        from_each = np.full((3, len(states)), -np.inf)
        from_each[0], from_each[1, 1:] = total, total[:-1]
        from_each[2, 2:] = np.where(may_skip[2:], total[:-2], -np.inf)
        back[step] = from_each.argmax(axis=0)
        total = from_each.max(axis=0) + scores[step, states]
    state = len(states) - 1 if len(states) == 1 or total[-1] >= total[-2] else len(states) - 2
    path = np.empty(steps, np.int64)
    for step in range(steps - 1, -1, -1):
        path[step] = states[state]
        state -= int(back[step, state])
    return path


def given_paths(rows: list[list[int]], scores: Array, blank: int | None) -> Labels:
    """Returns the paths that a caller gives, [batch, steps]; with a blank, those that CTC reads as the given labels.

    rows: for each sample, as many labels as steps; with a blank, at most as many. NO_LABEL may follow the last one.
    Raises TargetError.
    """
    steps, count = scores.shape[1:]
    paths = np.full((len(rows), steps), NO_LABEL, np.int64)
    for sample, row in enumerate(rows):
        labels = row[: next((i for i, label in enumerate(row) if label == NO_LABEL), len(row))]
        if any(label != NO_LABEL for label in row[len(labels) :]) or not labels:
            problem = f"the path {tuple(row)} of sample {sample} has no label before the last one"
            raise TargetError(problem, field="target.index")
        if not all(0 <= label < count for label in labels):
            raise TargetError(f"the path {tuple(labels)} is outside the {count} labels", field="target.index")
        if blank is None:
            paths[sample, : len(labels)] = labels
            continue
        if not 0 <= blank < count or blank in labels:
            problem = f"the blank is {blank}, expected one of the {count} labels that is not in {tuple(labels)}"
            raise TargetError(problem, field="target.measure.blank")
        paths[sample] = alignment(scores[sample], labels, blank)
    return paths


def weights_of(paths: Labels, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Returns an array of this shape, [batch, steps, labels], with 1 where a path goes and 0 elsewhere."""
    weights = np.zeros(shape, dtype)
    sample, step = np.nonzero(paths != NO_LABEL)
    weights[sample, step, paths[sample, step]] = 1
    return weights
