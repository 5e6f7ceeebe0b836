"""From a method to the function that computes it, for those that run the model many times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lstm_explain.errors import MethodError
from lstm_explain.methods.apart import one_by_one
from lstm_explain.methods.baselines import by_input
from lstm_explain.methods.decomposition import explain_by_decomposition
from lstm_explain.methods.impossible import finite
from lstm_explain.methods.integrated import explain_by_integration, explain_by_smoothing
from lstm_explain.methods.occlusion import explain_by_occlusion
from lstm_explain.methods.padding import without_padding
from lstm_explain.methods.shapley import explain_by_shapley
from lstm_explain.methods.study import Found, Task
from lstm_explain.rules import LaneLost
from lstm_explain.spec.method import (
    ContextualDecomposition,
    IntegratedGradients,
    Method,
    Occlusion,
    ShapleySampling,
    SmoothGrad,
)


def explain_by_study(task: Task, method: Method) -> Found:
    """Of the whole batch at once, or sample by sample where the graph mixes their places; each at its own length.

    Raises MethodError for a method that is none of these, and where the answer would not be finite.
    """
    return finite(task, method, lambda task, method: without_padding(task, method, _whole_or_apart))


def _whole_or_apart(task: Task, method: Method) -> Found:
    try:
        return _explain(task, method)
    except LaneLost:
        return one_by_one(task, method, _explain)


def _explain(task: Task, method: Method) -> Found:
    match method:
        case IntegratedGradients():
            return explain_by_integration(task, method)
        case SmoothGrad():
            return explain_by_smoothing(task, method)
        case Occlusion():
            return explain_by_occlusion(task, method)
        case ShapleySampling():
            return explain_by_shapley(task, method)
        case ContextualDecomposition():
            return explain_by_decomposition(task, method)
    raise MethodError(f"{method!r} is no method of this engine", field="method")


def as_used(task: Task, method: Method) -> Method:
    """The method with its baseline as arrays by input."""
    if not isinstance(method, (IntegratedGradients, Occlusion, ShapleySampling)) or method.baseline is None:
        return method
    given = by_input(method.baseline, task.study.reachable(task.head.value))
    return replace(method, baseline={n: np.asarray(value, task.inputs[n].dtype) for n, value in given.items()})
