# SPDX-License-Identifier: Apache-2.0
"""Explains why a method that changes the inputs gets no finite value: it names the input that the baseline
cannot replace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lstm_explain.errors import Error, InputError, MethodError
from lstm_explain.methods.background import Background
from lstm_explain.methods.base import BaselineMethod, Method, SingleBaseline
from lstm_explain.program.attribution import Attribution
from lstm_explain.runner.baselines import baseline_by_input
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.scores import Scores

Explain = Callable[[ExplainTask, Method], Attribution]
MAX_TRIED = 32  # inputs, each of which needs another run of the method


def require_finite(task: ExplainTask, method: Method, explain: Explain) -> Attribution:
    """Returns the result of `explain`, if it is finite.

    Where it is not finite, or where `explain` fails although the model runs on the unchanged inputs, an Error names the
    cause. Where the explained value itself is not finite, the result is returned for the caller to refuse.
    """
    try:
        result = explain(task, method)
    except InputError as error:
        if error.field.startswith("inputs.") or not isinstance(method, BaselineMethod) or not _model_runs(task):
            raise  # not the fault of a baseline
        raise _baseline_error(task, method, explain, f"the model cannot run ({error})") from error
    if _is_finite(result):
        return result
    if not np.isfinite(result.explained).all():
        return result  # Not the method's fault; every method refuses this.
    fault = method.not_finite()
    if fault is not None:
        raise fault
    if isinstance(method, BaselineMethod):
        raise _baseline_error(task, method, explain, "the model's value or gradient is not finite")
    return result


def _baseline_error(task: ExplainTask, method: BaselineMethod, explain: Explain, problem: str) -> MethodError:
    names = task.runner.reachable(task.head.value)
    background = method.baseline if isinstance(method.baseline, Background) else None
    if background is not None and background.samples is not None:
        names = [name for name in names if name in background.samples]
    tried = names if len(names) <= MAX_TRIED else []
    cheapest = method.cheapest_variant()
    alone = [n for n in tried if not _succeeds(task, _replacing_only(task, cheapest, n, names), explain)]
    culprits, jointly = (alone, "") if alone else (names, "together ")
    if background is not None:
        return MethodError(
            f"{method.name}: {problem} where {_named(culprits)} {jointly}replaced by samples of the background; give "
            "samples that the model accepts; an input without samples stays as it is",
            field="method.baseline",
        )
    baselines = baseline_by_input(method.baseline, names)
    zeros = "" if any(name in baselines for name in culprits) else " of zeros, which is the default"
    example = ", ".join(f"{name!r}: …" for name in culprits)
    return MethodError(
        f"{method.name}: {problem} where {_named(culprits)} {jointly}replaced by the baseline{zeros}; give a baseline "
        f"that the model accepts, baseline={{{example}}}; an input whose baseline is the input itself stays as it is",
        field="method.baseline",
    )


def _named(names: Sequence[str]) -> str:
    listed = " and ".join(filter(None, [", ".join(map(repr, names[:-1])), repr(names[-1])]))
    return f"inputs {listed} are" if len(names) > 1 else f"input {listed} is"


def _replacing_only(task: ExplainTask, method: BaselineMethod, name: str, names: Sequence[str]) -> Method:
    """Returns the method with a baseline for this input only; every other input keeps its value."""
    if isinstance(method.baseline, Background):
        return method.with_baseline(method.baseline.of_input(name))
    baselines = baseline_by_input(method.baseline, names)
    baseline: SingleBaseline
    baseline = {other: task.inputs[other] for other in names if other != name}
    return method.with_baseline(baseline | ({name: baselines[name]} if name in baselines else {}))


def _succeeds(task: ExplainTask, method: Method, explain: Explain) -> bool:
    try:
        return _is_finite(explain(task, method))
    except Error:
        return False


def _is_finite(result: Attribution) -> bool:
    """Returns whether the result is finite. The residual contains all other figures, so it is finite only if they
    are.
    """
    return bool(np.isfinite(result.ledger.residual).all())


def _model_runs(task: ExplainTask) -> bool:
    try:
        Scores(task)
    except Error:
        return False
    return True
