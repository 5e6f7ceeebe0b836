# SPDX-License-Identifier: Apache-2.0
"""Scores an output as a probability, whatever activation the model ends in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from lstm_explain.errors import MethodError
from lstm_explain.graph.ir import Array, Graph
from lstm_explain.program.head import Head, head_of
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.scores import Scores


def probabilities(
    task: ExplainTask, method: str, *, begin_alike: bool = False, values: Mapping[str, Array] | None = None
) -> Scores:
    """Scores of the output itself where it is a probability, otherwise of its Softmax.

    method: named in the MethodError where the output has no classes. begin_alike, values: see Scores.
    """
    head = Head(task.output, ())
    whole = replace(task, head=head)
    activation = task.runner.cached(_activation, task.runner.engine.graph, task.output)
    return Scores(
        whole, _link(activation, task.output, task.target.batch_axis, method), begin_alike=begin_alike, values=values
    )


def _activation(graph: Graph, output: str) -> str:
    """Returns the operator of the output's activation, "Softmax" for all that yield probabilities; empty where it has
    none.
    """
    before = head_of(graph, output)
    if before.quantity == "logit":
        return "Softmax"
    made = before.views[-1].inputs[0] if before.views else output
    return graph.producers()[made].op if before.value != output else ""


def _link(activation: str, output: str, batch_axis: int | None, method: str) -> Callable[[Array], Array] | None:
    """Returns the function from the output's values to probabilities; None where they are probabilities already."""
    if activation == "Softmax":
        return None
    if activation in ("LogSoftmax", "Log"):  # Log of Softmax
        return np.exp
    return lambda value: _softmax(value, output, batch_axis, method)


def _softmax(value: Array, output: str, batch_axis: int | None, method: str) -> Array:
    choices = value.ndim > 0 and value.shape[-1] > 1 and batch_axis not in (-1, value.ndim - 1)
    if not choices:
        raise MethodError(f"{method}: output {output!r} is not a probability and has no classes", field="method.of")
    exponentials = np.exp(value - value.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
