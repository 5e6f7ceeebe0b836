"""Why a method that changes the inputs finds no finite value: which input cannot be what the method makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lstm_explain.errors import Error, InputError, MethodError
from lstm_explain.methods.base import BaselineMethod, Method
from lstm_explain.program.attribution import Attribution
from lstm_explain.runner.baselines import by_input
from lstm_explain.runner.model_runner import ExplainTask, Scores

Explain = Callable[[ExplainTask, Method], Attribution]
MOST_TRIED = 32  # inputs, each of which takes the method once more


def finite(task: ExplainTask, method: Method, explain: Explain) -> Attribution:
    """What `explain` finds. Raises an Error that names the cause where that is not finite, or fails for these inputs
    although the model runs on them as they are. Where the value explained itself is not finite, it is handed on.
    """
    try:
        found = explain(task, method)
    except InputError as error:
        if not isinstance(method, BaselineMethod) or not _runs(task):
            raise
        raise _impossible(task, method, explain, f"the model cannot run ({error})") from error
    if _is_finite(found):
        return found
    if not np.isfinite(found.explained).all():
        return found  # no fault of what the method does: refused as under any other
    own = method.not_finite()
    if own is not None:
        raise own
    if isinstance(method, BaselineMethod):
        raise _impossible(task, method, explain, "the model's value or gradient is not finite")
    return found


def _impossible(task: ExplainTask, method: BaselineMethod, explain: Explain, problem: str) -> MethodError:
    names = task.runner.reachable(task.head.value)
    given = by_input(method.baseline, names)
    tried = names if len(names) <= MOST_TRIED else []
    alone = [name for name in tried if not _works(task, _of_one(task, method.cheapest(), name, names), explain)]
    culprits, together = (alone, "") if alone else (names, "together ")
    zeros = "" if any(name in given for name in culprits) else " of zeros, since none is given"
    example = ", ".join(f"{name!r}: …" for name in culprits)
    return MethodError(
        f"{method.name}: {problem} where {_inputs(culprits)} {together}replaced by the baseline{zeros}; give one that "
        f"the model can take, baseline={{{example}}}; an input whose baseline is the input itself stays as it is",
        field="method.baseline",
    )


def _inputs(names: Sequence[str]) -> str:
    listed = " and ".join(filter(None, [", ".join(map(repr, names[:-1])), repr(names[-1])]))
    return f"inputs {listed} are" if len(names) > 1 else f"input {listed} is"


def _of_one(task: ExplainTask, method: BaselineMethod, name: str, names: Sequence[str]) -> Method:
    """The method where every other input keeps what it is."""
    given = by_input(method.baseline, names)
    baseline = {other: task.inputs[other] for other in names if other != name}
    return method.against(baseline | ({name: given[name]} if name in given else {}))


def _works(task: ExplainTask, method: Method, explain: Explain) -> bool:
    try:
        return _is_finite(explain(task, method))
    except Error:
        return False


def _is_finite(found: Attribution) -> bool:
    """The residual is of everything else, so that nothing else is infinite where it is finite."""
    return bool(np.isfinite(found.ledger.residual).all())


def _runs(task: ExplainTask) -> bool:
    try:
        Scores(task)
    except Error:
        return False
    return True
