# SPDX-License-Identifier: Apache-2.0
"""Names the parts of a result: the explained value, its output, and the method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client.explained_batch import ExplainedBatch
from lstm_explain_client.render.scale import MINUS, number

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Words:
    """The labels for an explained value that is not an entry of the output itself.

    one: the label for one entry, which replaces the braces. many: the label for a combination of the output's entries.
    mark: the text next to the entry in the table of the prediction. by_class: whether `one` takes the name of a class
    unchanged.
    """

    one: str
    many: str
    mark: str
    by_class: bool = False


# By Result.explained_quantity; every other quantity has the name of the output's entry.
WORDS = {
    "logit": Words("logit of {}", "the logits of {}", "its logit is explained", by_class=True),
    "score": Words("score before {}", "the scores before {}", "the score before it is explained"),
    "mean_squared_error": Words("mean squared error of {}", "mean squared error of {}", "its error is explained"),
    "mean_absolute_error": Words("mean absolute error of {}", "mean absolute error of {}", "its error is explained"),
    "l1_norm": Words("L1 norm of {}", "L1 norm of {}", "its norm is explained"),
    "l2_norm": Words("L2 norm of {}", "L2 norm of {}", "its norm is explained"),
    "log_probability": Words(
        "log-probability of {}", "log-probabilities of {}", "its log-probability is explained", by_class=True
    ),
    "margin": Words("margin of {}", "margins of {}", "its margin is explained", by_class=True),
    "probability": Words("probability of {}", "the probabilities of {}", "its probability is explained", by_class=True),
}


def heading(result: ExplainedBatch, sample: int) -> str:
    """Return the name and value of what was explained of a sample; if that is not the output itself, followed by the
    output's value.

    For example, `logit of p[0] = +0.556 (p[0] = 0.432)`.
    """
    which = f"Sample {sample}: " if len(result) > 1 else ""  # numbered as in warnings, data frames and `print`
    value = number(float(result.explained[sample]))
    beside = ", ".join(_outputs(result, sample))
    return f"{which}{target_name(result, sample)} = {value}{_unit(result, sample)}{f' ({beside})' if beside else ''}"


def target_name(result: ExplainedBatch, sample: int) -> str:
    """Name the explained value, for example `logits[very positive]`, or `logit of p[0]` for the value before p."""
    target = result.target
    if target is None:
        return "explained value"
    words, name = WORDS.get(result.explained_quantity), output_name(result)
    if target.weights is not None:
        return f"combination of {words.many.format(name) if words else name}"
    chosen = _called(result, words, target.index, sample)
    against = "" if target.contrast is None else _called(result, words, target.contrast, sample)
    return f"{chosen} {MINUS} {against}" if against else chosen


def output_name(result: ExplainedBatch) -> str:
    """Return the output that the target names, otherwise the first one."""
    named = result.target.output if result.target else None
    return named or next(iter(result.outputs), "output")


def output_of(result: ExplainedBatch, name: str, sample: int) -> Array | None:
    """Return one sample of an output, or None if it is missing or contains no numbers."""
    array = result.outputs.get(name)
    axis = result.target.batch_axis if result.target else 0
    if array is None or array.dtype == object:
        return None
    if axis is None:
        return array
    axis = axis if isinstance(axis, int) else 0
    if not -array.ndim <= axis < array.ndim:
        return array
    moved = np.moveaxis(array, axis, 0)
    found: Array = moved[sample] if len(moved) == len(result) else moved
    return found


def position(index: Any, sample: int, batch: int) -> tuple[int, ...]:
    """Return the position of the explained entry in the output of one sample; empty if it is unknown."""
    if index is None:
        return ()
    array = np.asarray(index)
    row = array[sample] if array.ndim and len(array) == batch else array
    return tuple(int(i) for i in np.ravel(row))


def mark(result: ExplainedBatch) -> str:
    """Return the mark of the explained entry in the table of the prediction."""
    words = WORDS.get(result.explained_quantity)
    return words.mark if words else "explained"


def how(result: ExplainedBatch) -> str:
    """Describe which model answered, and by which method."""
    model = f"{result.model} version {result.version}" if result.version else result.model
    return ", ".join(filter(None, (model, str(result.method or ""))))


def method(result: ExplainedBatch) -> str:
    """Return the name of the method; empty if this client does not know it."""
    return result.method.name if result.method else ""


def _called(result: ExplainedBatch, words: Words | None, index: Any, sample: int) -> str:
    if words is None:
        return _entry(result, index, sample)
    at = position(index, sample, len(result))
    named = _class_name(result, at[-1]) if words.by_class and len(at) == 1 else ""
    return words.one.format(named or _entry(result, index, sample))


def _entry(result: ExplainedBatch, index: Any, sample: int) -> str:
    """Return an entry of the output, such as `logits[very positive]`."""
    at = position(index, sample, len(result))
    if not at:
        return output_name(result)
    last = _class_name(result, at[-1]) or str(at[-1])
    return f"{output_name(result)}[{', '.join([*map(str, at[:-1]), last])}]"


def _class_name(result: ExplainedBatch, place: int) -> str:
    names = result.detail.class_names.get(output_name(result), ()) if result.detail else ()
    return names[place] if -len(names) <= place < len(names) else ""


def _outputs(result: ExplainedBatch, sample: int) -> Iterator[str]:
    """Yield the entries of the output itself, where something else was explained."""
    target, array = result.target, output_of(result, output_name(result), sample)
    if target is None or target.weights is not None or array is None or result.explained_quantity not in WORDS:
        return
    for index in (target.index, target.contrast):
        at = position(index, sample, len(result))
        if (
            index is not None
            and len(at) == array.ndim
            and all(-n <= i < n for i, n in zip(at, array.shape, strict=True))
        ):
            yield f"{_entry(result, index, sample)} = {number(float(array[at]), signed=False)}"


def _unit(result: ExplainedBatch, sample: int) -> str:
    """Return the unit of the explained value, after a space; empty where it is unknown or mixed. A logit has none."""
    target = result.target
    if result.detail is None or target is None or target.weights is not None or result.explained_quantity in WORDS:
        return ""
    at = position(target.index, sample, len(result)) or (0,)
    unit = result.detail.unit(output_name(result), at[-1])
    return f" {unit}" if unit else ""
