"""Asks a method that runs the model many times to explain a batch: as a whole, per sample or per length as needed."""

from __future__ import annotations

import numpy as np

from lstm_explain.methods.background import Background
from lstm_explain.methods.base import BaselineMethod, Method
from lstm_explain.operators import SamplesMixed
from lstm_explain.program.attribution import Attribution
from lstm_explain.runner.baselines import baseline_by_input
from lstm_explain.runner.finite_values import require_finite
from lstm_explain.runner.method_tools import MethodTools
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.padding import explain_without_padding
from lstm_explain.runner.per_sample import explain_per_sample


def explain_by_runs(task: ExplainTask, method: Method) -> Attribution:
    """Explains the whole batch at once, or sample by sample where the graph mixes samples; each sample at its own
    length.

    Raises MethodError for a method that does not run the model many times, and where the answer would not be
    require_finite.
    """
    return require_finite(task, method, lambda task, method: explain_without_padding(task, method, _explain_batch))


def _explain_batch(task: ExplainTask, method: Method) -> Attribution:
    try:
        return _explain(task, method)
    except SamplesMixed:
        return explain_per_sample(task, method, _explain)


def _explain(task: ExplainTask, method: Method) -> Attribution:
    return method.explain(MethodTools(task))


def resolve_method(task: ExplainTask, method: Method) -> Method:
    """The method with its baseline as arrays by input; a background set stays as it is."""
    if not isinstance(method, BaselineMethod) or method.baseline is None or isinstance(method.baseline, Background):
        return method
    baselines = baseline_by_input(method.baseline, task.runner.reachable(task.head.value))
    return method.with_baseline({n: np.asarray(value, task.inputs[n].dtype) for n, value in baselines.items()})
