# SPDX-License-Identifier: Apache-2.0
"""Asks a method that runs the model many times to explain a batch: as a whole, per sample or per length as needed."""

from __future__ import annotations

import numpy as np

from lstm_explain.methods.background import Background
from lstm_explain.methods.base import BaselineMethod, Method
from lstm_explain.operators import SamplesMixed
from lstm_explain.program.attribution import Attribution
from lstm_explain.progress import current_meter
from lstm_explain.runner.baselines import baseline_by_input
from lstm_explain.runner.finite_values import require_finite
from lstm_explain.runner.method_tools import MethodTools
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.padding import explain_without_padding
from lstm_explain.runner.per_sample import explain_per_sample
from lstm_explain.runner.run_count import extents, players_of


def explain_by_runs(task: ExplainTask, method: Method) -> Attribution:
    """Explains the whole batch at once, or sample by sample where the graph mixes samples; each sample at its own
    length.

    Raises MethodError for a method that does not run the model many times, and where the answer would not be
    require_finite.
    """
    if (meter := current_meter()) is not None:
        meter.begin(*_expected(task, method))
    return require_finite(task, method, lambda task, method: explain_without_padding(task, method, _explain_batch))


def _explain_batch(task: ExplainTask, method: Method) -> Attribution:
    try:
        return _explain(task, method)
    except SamplesMixed:
        return explain_per_sample(task, method, _explain)


def _explain(task: ExplainTask, method: Method) -> Attribution:
    meter = current_meter()
    if meter is None:
        return method.explain(MethodTools(task))
    with meter.part(*_expected(task, method)):
        return method.explain(MethodTools(task))


def _expected(task: ExplainTask, method: Method) -> tuple[int, int]:
    """Returns how often the method is likely to run the model for this task, and how many samples it explains."""
    axes = task.runner.axes
    samples = 1 if task.context_size > 1 else extents(axes, task.inputs)[0]
    return method.likely_runs(
        players_of(axes, task.inputs, [int(own.max()) + 1 for own in task.groups.values()])
    ), samples


def resolve_method(task: ExplainTask, method: Method) -> Method:
    """Returns the method with its baseline as arrays by input; a background set stays as it is."""
    if not isinstance(method, BaselineMethod) or method.baseline is None or isinstance(method.baseline, Background):
        return method
    baselines = baseline_by_input(method.baseline, task.runner.reachable(task.head.value))
    return method.with_baseline({n: np.asarray(value, task.inputs[n].dtype) for n, value in baselines.items()})
