# SPDX-License-Identifier: Apache-2.0
"""Compares inputs with every draw from a background set, and averages the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lstm_explain.errors import InputError, MethodError
from lstm_explain.graph.ir import Array
from lstm_explain.methods.background import FIELD, Background, Comparison
from lstm_explain.methods.base import Baseline, SingleBaseline
from lstm_explain.methods.student import NORMAL_QUANTILE, t_quantile
from lstm_explain.program.axes import Axes
from lstm_explain.runner.model_runner import ExplainTask

Compare = Callable[[SingleBaseline, int], Comparison]


def compare_with(baseline: Baseline, task: ExplainTask, compare: Compare) -> Comparison:
    """Returns the answer against a baseline; against a background set, the mean over the draws from it.

    compare: answers against one baseline, which is the draw of this number.

    The standard error is that of sampling in two stages without replacement (Cochran 1977, Sampling Techniques,
    section 10.3): the first stage draws n of N samples, so its variance has the factor 1 - n/N and is 0 where the whole
    set is used; the second stage is the method's own sampling. As elsewhere, it contains the factor that makes 1.96
    standard errors the half-width of the 95 % confidence interval of Student's t distribution. It is NaN for one draw
    out of several samples.
    """
    if not isinstance(baseline, Background):
        return compare(baseline, 0)
    first, *others = draws(baseline, task)
    mean = compare(first, 0)
    spread = {name: np.zeros(np.shape(array)) for name, array in mean.relevance.items()}  # sum of squared deviations
    within = {name: np.square(array) for name, array in mean.error.items()}
    for number, draw in enumerate(others, start=1):
        found = compare(draw, number)
        relevance = dict(mean.relevance)
        for name, array in found.relevance.items():
            change = array - relevance[name]
            relevance[name] = relevance[name] + change / (number + 1)
            spread[name] += change * (array - relevance[name])
        within = {name: array + np.square(found.error[name]) for name, array in within.items()}
        mean = Comparison(
            relevance,
            mean.total + (found.total - mean.total) / (number + 1),
            mean.baseline + (found.baseline - mean.baseline) / (number + 1),
            mean.error,
            None if mean.steps is None or found.steps is None else np.maximum(mean.steps, found.steps),
        )
    mean.error = _standard_error(spread, within, baseline)
    return mean


def _standard_error(
    spread: Mapping[str, Array], within: Mapping[str, Array], background: Background
) -> dict[str, Array]:
    """By input; empty where nothing was sampled."""
    draws, count = background.used, background.count
    assert count is not None
    if draws == count:
        return {name: np.sqrt(array) / draws for name, array in within.items()}
    share = draws / count
    if draws == 1:
        return {name: np.full(array.shape, np.nan) for name, array in spread.items()}
    factor = (t_quantile(draws - 1) / NORMAL_QUANTILE) ** 2
    between = {name: factor * (1 - share) * array / (draws - 1) / draws for name, array in spread.items()}
    return {name: np.sqrt(array + share * within.get(name, 0) / draws**2) for name, array in between.items()}


def draws(background: Background, task: ExplainTask) -> list[SingleBaseline]:
    """Returns every draw as arrays by input that broadcast to the inputs. Inputs without samples are their own
    baseline.
    """
    if background.samples is None:
        raise MethodError("the model has no background set; give one with its samples", field=FIELD)
    for name in background.samples:
        if name not in task.inputs:
            raise MethodError(f"background for {name!r}, the model has {', '.join(task.inputs)}", field=FIELD)
    names = task.runner.reachable(task.head.value)
    kept = {name: task.inputs[name] for name in names if name not in background.samples}
    drawn = {name: array for name, array in background.samples.items() if name in names}
    placed = {
        name: _placed(name, array, task.inputs[name].shape, task.runner.axes[name]) for name, array in drawn.items()
    }
    return [kept | {name: array[number] for name, array in placed.items()} for number in background.numbers]


def _placed(name: str, samples: Array, shape: tuple[int, ...], axes: Axes) -> Array:
    """Returns the samples of one input with a batch axis of extent 1.

    Raises InputError where the input has another length, and MethodError where no input of the model would fit.
    """
    expected = tuple(extent for axis, extent in enumerate(shape) if axis != axes.batch)
    if samples.shape[1:] == expected:
        return samples if axes.batch is None else np.expand_dims(samples, 1 + axes.batch)
    if samples.ndim == 1 + len(expected) and axes.time is not None:
        steps = samples.shape[1 + axes.time - (axes.batch is not None and axes.batch < axes.time)]
        if steps != shape[axes.time]:
            problem = f"have {steps} time steps of {name!r}, the input has {shape[axes.time]}"
            message = f"the samples of the background {problem}; both must be equally long"
            raise InputError(message, field=f"inputs.{name}.shape")
    problem = f"have shape {samples.shape[1:]} for {name!r}, expected {expected}"
    raise MethodError(f"the samples of the background {problem}", field=FIELD)
