"""How a method that runs the model many times is asked about a batch."""

from __future__ import annotations

import numpy as np

from lstm_explain.methods.base import BaselineMethod, Method
from lstm_explain.operators import SamplesMixed
from lstm_explain.program.attribution import Attribution
from lstm_explain.runner.baselines import by_input
from lstm_explain.runner.finite_values import finite
from lstm_explain.runner.method_tools import MethodTools
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.padding import without_padding
from lstm_explain.runner.per_sample import one_by_one


def explain_by_runs(task: ExplainTask, method: Method) -> Attribution:
    """Of the whole batch at once, or sample by sample where the graph mixes their places; each at its own length.

    Raises MethodError for a method that is none of these, and where the answer would not be finite.
    """
    return finite(task, method, lambda task, method: without_padding(task, method, _whole_or_apart))


def _whole_or_apart(task: ExplainTask, method: Method) -> Attribution:
    try:
        return _explain(task, method)
    except SamplesMixed:
        return one_by_one(task, method, _explain)


def _explain(task: ExplainTask, method: Method) -> Attribution:
    return method.explain(MethodTools(task))


def as_used(task: ExplainTask, method: Method) -> Method:
    """The method with its baseline as arrays by input."""
    if not isinstance(method, BaselineMethod) or method.baseline is None:
        return method
    given = by_input(method.baseline, task.runner.reachable(task.head.value))
    return method.against({n: np.asarray(value, task.inputs[n].dtype) for n, value in given.items()})
