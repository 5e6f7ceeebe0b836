"""How a method that runs the model many times is asked about a batch."""

from __future__ import annotations

import numpy as np

from lstm_explain.methods.base import BaselineMethod, Method
from lstm_explain.rules import LaneLost
from lstm_explain.runner.apart import one_by_one
from lstm_explain.runner.baselines import by_input
from lstm_explain.runner.impossible import finite
from lstm_explain.runner.padding import without_padding
from lstm_explain.runner.study import Found, Task
from lstm_explain.runner.tools import Tools


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
    return method.explain(Tools(task))


def as_used(task: Task, method: Method) -> Method:
    """The method with its baseline as arrays by input."""
    if not isinstance(method, BaselineMethod) or method.baseline is None:
        return method
    given = by_input(method.baseline, task.study.reachable(task.head.value))
    return method.against({n: np.asarray(value, task.inputs[n].dtype) for n, value in given.items()})
