# SPDX-License-Identifier: Apache-2.0
"""Holds what all measures share: batches, the players whose relevance is ranked, and labels of methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from lstm_explain.inputs import check_inputs
from lstm_explain.methods.base import Baseline, Method, Players
from lstm_explain.model import Model
from lstm_explain.program.head import head_of
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.players import PlayerSet, player_set
from lstm_explain.runner.scores import Scores
from lstm_explain.target import Target

Array = npt.NDArray[Any]
Batch = Mapping[str, Array]
Data = Batch | Iterable[Batch]
Progress = Callable[[str], None]  # called with the name of each piece of work that is done


def batches(data: Data) -> Iterator[Batch]:
    if isinstance(data, Mapping):
        yield data
    else:
        yield from data


def ignore_progress(what: str) -> None:
    """The default for `progress`."""


def player_set_of(
    model: Model, batch: Batch, target: Target, baseline: Baseline = None, over: Players = "steps"
) -> PlayerSet:
    """Returns the players of a batch, for the target that the unchanged inputs have."""
    output = model.default_output if target.output is None else target.output
    head = head_of(model.runner.engine.graph, output)
    task = ExplainTask(model.runner, check_inputs(model.inputs, batch), output, head, target)
    return player_set(Scores(task, begin_alike=over != "features"), baseline, over)


def labelled(methods: Sequence[Method] | Mapping[str, Method]) -> dict[str, Method]:
    """Methods by a unique name: the method's, with the parameters that distinguish it from others of the same kind."""
    if isinstance(methods, Mapping):
        return dict(methods)
    names = [m.name for m in methods]
    return {m.name if names.count(m.name) == 1 else _distinguished(m, methods): m for m in methods}


def _distinguished(method: Method, methods: Sequence[Method]) -> str:
    mine = method.parameters()
    others = [m.parameters() for m in methods if m.name == method.name]
    differing = [k for k in mine if mine[k] is not None and any(repr(o[k]) != repr(mine[k]) for o in others)]
    return f"{method.name}({', '.join(f'{k}={mine[k]}' for k in differing)})"
