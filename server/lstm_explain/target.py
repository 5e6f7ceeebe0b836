# SPDX-License-Identifier: Apache-2.0
"""Defines what is explained: one scalar per sample, taken from one output."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import TargetError
from lstm_explain.label_paths import best_paths, given_paths, weights_of
from lstm_explain.measure import Measure, parse_measure


@dataclass(frozen=True, eq=False)
class Target:
    """A scalar per sample.

    output: name of the output; default: the model's first output of floating-point numbers.
    index: position in one sample's output (the output without its batch axis): an int, a tuple over the non-batch
        axes, or an integer array with one position per sample, of shape [batch] or [batch, non-batch axes]. Default:
        the position of the largest entry on the last axis, if that has more than one. batch_axis: the axis of the
        output along which samples lie; None for a model without one. contrast: a second position; output[index] -
        output[contrast] is explained. weights: shape of one sample's output; sum(weights * output) is explained.
        Excludes `index` and `contrast`. pre_activation: where the output ends in Softmax, LogSoftmax, Sigmoid,
        Exp or Softplus, explain the value before it. LRP and ContextualDecomposition can explain only that value: with
        False they raise MethodError for such an output. measure: explain this number of the output instead of an
        entry or a sum of entries, such as an error, a probability or the score of a path; see Measure.
    """

    output: str | None = None
    index: int | tuple[int, ...] | npt.NDArray[np.integer[Any]] | None = None
    batch_axis: int | None = 0
    contrast: int | tuple[int, ...] | npt.NDArray[np.integer[Any]] | None = None
    weights: npt.NDArray[np.floating[Any]] | None = None
    pre_activation: bool = True
    measure: Measure | None = None


def as_target(
    given: Target | int | tuple[int, ...] | str,
    outputs: Collection[str],
    classes: Mapping[str, Sequence[str]] | None = None,
) -> Target:
    """Returns a target, an index, or text that `target_from_text` takes, as a target. Raises TargetError."""
    if isinstance(given, Target):
        return given
    if isinstance(given, str):
        return target_from_text(given, outputs, classes)
    index: Any = given  # callers without a type checker pass anything
    if isinstance(index, bool) or not isinstance(index, (int, tuple, np.integer)):
        expected = "a Target, an index, or text such as 'logits:3'"
        raise TargetError(f"target is {given!r}, expected {expected}", field="target")
    return Target(index=int(index) if isinstance(index, np.integer) else index)


def target_from_text(text: str, outputs: Collection[str], classes: Mapping[str, Sequence[str]] | None = None) -> Target:
    """Returns the target that text names: as `parse_target` takes it, or a measure as `parse_measure` takes it, which
    the name of an output and a colon may precede. Raises TargetError.
    """
    output = next((o for o in outputs if text.startswith(f"{o}:")), None)
    found = None if text in outputs else parse_measure(text if output is None else text[len(output) + 1 :])
    if found is None:
        return Target(*parse_target(text, outputs, classes))
    measure, entry = found
    if not entry:
        return Target(output, measure=measure)
    whole = entry if output is None else f"{output}:{entry}"
    return replace(Target(*parse_target(whole, outputs, classes)), measure=measure)


def parse_target(
    text: str, outputs: Collection[str], classes: Mapping[str, Sequence[str]] | None = None
) -> tuple[str | None, int | tuple[int, ...] | None]:
    """Returns output and index of `3`, `1,0`, `logits`, `logits:1,0`, or a class by name, such as `positive` or
    `logits:positive`; None for a part that is missing. Raises TargetError.

    The name of an output may contain a colon. classes: by output, the names of the entries of its last axis; a name
    that is a number is taken for an index.
    """
    if text in outputs:
        return text, None
    named = [(output, names.index(text)) for output, names in (classes or {}).items() if text in names]
    if len(named) == 1 and not text.lstrip("-").isdigit():
        return named[0]
    output, colon, index = text.rpartition(":")
    if output in outputs and index in (names := (classes or {}).get(output, ())) and not index.lstrip("-").isdigit():
        return output, names.index(index)
    if colon and output not in outputs:
        raise TargetError(f"there is no output {output!r}, only {', '.join(outputs)}", field="target.output")
    try:
        position = tuple(int(part) for part in index.split(","))
    except ValueError:
        known = sorted({name for names in (classes or {}).values() for name in names})
        listed = f", or a class ({', '.join(known)})" if known else "; a model.yaml with `classes` would name classes"
        problem = f"target {text!r} is not an index, an output, or output:index{listed}"
        raise TargetError(problem, field="target") from None
    return output if colon else None, position[0] if len(position) == 1 else position


def text_of(target: Target) -> str:
    """Returns a target of an explanation as `target_from_text` takes it, such as `logits:1,0`; where samples differ,
    the positions of all of them, separated by slashes.
    """
    what = "" if target.measure is None else target.measure.kind
    if target.index is None:
        return ":".join(filter(None, (target.output, what)))
    rows = [",".join(map(str, np.ravel(row))) for row in np.atleast_2d(np.asarray(target.index))]
    at = rows[0] if len(set(rows)) == 1 else "/".join(rows)
    return f"{target.output}:{f'{what}({at})' if what else at}"


@dataclass(slots=True, eq=False)
class Selection:
    """A target resolved on an actual output.

    weights: of the output's shape; the explained value of a sample is the sum of weights * value over the sample.
    index, contrast: [batch, non-batch axes], or None where weights were given.
    """

    weights: npt.NDArray[Any]
    batch: int
    index: npt.NDArray[np.int64] | None
    contrast: npt.NDArray[np.int64] | None


MOST_CACHED = 1 << 10  # entries of an output whose weights are cached


@lru_cache(1 << 10)
def _of_one_index(samples: int, width: int, at: int, kind: str) -> Selection:
    """Returns the selection where every sample has the same index. kind: the dtype's letter. It is read-only."""
    weights, positions = np.zeros((samples, width), kind), np.full((samples, 1), at % width)
    weights[:, at] = 1
    weights.flags.writeable = positions.flags.writeable = False
    return Selection(weights, samples, positions, None)


Position = tuple[int, ...]  # indices within the output of one sample


def select(target: Target, output: npt.NDArray[Any], name: str) -> Selection:
    """Resolves `target`, whose measure can only be a linear one, on the output called `name`. Raises TargetError."""
    axis, at, measure, shape = target.batch_axis, target.index, target.measure, output.shape
    alone = target.contrast is None and target.weights is None and measure is None
    if alone and axis == 0 and len(shape) == 2 and output.dtype.kind == "f":  # the usual case
        samples, width = shape
        if at is None and samples == 1 and width:
            at = int(output.argmax())
        elif type(at) is tuple and len(at) == 1:
            (at,) = at
        if type(at) is int and -width <= at < width and samples:
            chosen = _of_one_index if samples * width <= MOST_CACHED else _of_one_index.__wrapped__
            return chosen(samples, width, at, output.dtype.char)
    if axis is not None and not -output.ndim <= axis < output.ndim:
        raise TargetError(
            f"output {name!r} has shape {output.shape}: it has no axis {axis} for the batch", field="target.batch_axis"
        )
    if not output.size:
        raise TargetError(f"output {name!r} has shape {output.shape}: it is empty", field="target.output")
    samples = output[None] if axis is None else output if axis == 0 else np.moveaxis(output, axis, 0)
    weights = np.zeros(samples.shape, output.dtype if output.dtype.kind == "f" else np.float32)
    index = contrast = None
    if measure is not None:
        paths = _paths(target, measure, samples, name)
        weights = weights_of(paths, samples.shape, weights.dtype)
        restored = weights[0] if axis is None else np.moveaxis(weights, 0, axis)
        return Selection(np.asarray(restored, order="C"), len(samples), paths, None)
    if target.weights is not None:
        if target.index is not None or target.contrast is not None:
            raise TargetError("weights cannot be combined with index or contrast", field="target.weights")
        weights[:] = _weights(target.weights, samples.shape[1:], name)
    else:
        index = _positions(target.index, samples, name, "index")
        _add(weights, index, 1)
        if target.contrast is not None:
            contrast = _positions(target.contrast, samples, name, "contrast")
            _add(weights, contrast, -1)
    restored = weights[0] if axis is None else weights if axis == 0 else np.moveaxis(weights, 0, axis)
    return Selection(np.asarray(restored, order="C"), len(samples), _rows(index), _rows(contrast))


def resolved(target: Target, selection: Selection, output: str | None) -> Target:
    """Returns the target with its output, and with the positions, or the paths, that were selected."""
    made = object.__new__(Target)  # every request makes one, and a frozen class sets its fields by a call each
    fields = made.__dict__
    fields.update(target.__dict__)
    fields["output"], fields["index"], fields["contrast"] = output, selection.index, selection.contrast
    if target.measure is not None:
        fields["measure"] = replace(target.measure, blank=None)
    return made


def _paths(target: Target, measure: Measure, samples: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    """Returns the path of every sample, [batch, steps]. Raises TargetError."""
    if target.contrast is not None or target.weights is not None:
        raise TargetError("a measure takes no contrast and no weights", field="target.measure")
    if samples.ndim != 3:
        problem = f"samples of output {name!r} have shape {samples.shape[1:]}, expected [steps, labels] for a path"
        raise TargetError(problem, field="target.output")
    if target.index is None:
        return best_paths(samples, None if measure.reference is None else np.asarray(measure.reference))
    batch, steps, _ = samples.shape
    numbers = _whole_numbers(target.index, "target.index")
    if np.ndim(target.index) == 2 or len(numbers) == batch * steps:
        width = len(numbers) // batch
        fits = len(numbers) == batch * width
        rows = [numbers[i : i + width] for i in range(0, batch * width, max(1, width))]
    else:
        width, fits, rows = len(numbers), True, [numbers] * batch
    if not fits or width > steps or (measure.blank is None and width != steps):
        expected = f"{'at most ' if measure.blank is not None else ''}{steps} for the steps of output {name!r}"
        problem = f"the path has {len(numbers)} labels, expected {expected}, or that many for each of {batch} samples"
        raise TargetError(problem, field="target.index")
    return given_paths(rows, samples, measure.blank)


def _add(weights: npt.NDArray[Any], positions: list[Position], amount: int) -> None:
    for sample, position in enumerate(positions):  # Making arrays of positions costs more than a few additions.
        weights[(sample, *position)] += amount


def _rows(positions: list[Position] | None) -> npt.NDArray[np.int64] | None:
    return None if positions is None else np.array(positions, np.int64)


def _weights(weights: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    weights = np.asarray(weights)
    if weights.shape != shape or weights.dtype.kind not in "fiu" or not np.isfinite(weights).all():
        raise TargetError(
            f"weights have shape {weights.shape} and type {weights.dtype}, expected finite numbers of shape {shape}: "
            f"one sample of output {name!r}",
            field="target.weights",
        )
    return weights


def _positions(requested: Any, samples: npt.NDArray[Any], name: str, what: str) -> list[Position]:
    """Returns one position per sample, in range and not negative."""
    shape, field = samples.shape[1:], f"target.{what}"
    if requested is None:
        return _best(samples, name)
    if not (isinstance(requested, (np.ndarray, list)) and np.ndim(requested) > 0):
        return [_position(_whole_numbers(requested, field), shape, name, what)] * len(samples)
    rows = np.asarray(requested)
    if rows.ndim > 2 or len(rows) != len(samples):
        raise TargetError(
            f"{field} has shape {rows.shape}, expected one position for each of {len(samples)} samples", field=field
        )
    numbers = _whole_numbers(rows, field)
    width = 1 if rows.ndim == 1 else rows.shape[1]
    return [_position(numbers[i * width : (i + 1) * width], shape, name, what) for i in range(len(samples))]


def _best(samples: npt.NDArray[Any], name: str) -> list[Position]:
    """Returns the position of the largest entry on the last axis, where the other axes leave no choice."""
    shape = samples.shape[1:]
    if any(n > 1 for n in shape[:-1]):
        raise TargetError(
            f"samples of output {name!r} have shape {shape}: specify the position to explain", field="target.index"
        )
    if not shape:
        return [()] * len(samples)
    first = (0,) * (len(shape) - 1)
    return [(*first, at) for at in samples.reshape(len(samples), -1).argmax(axis=1).tolist()]


def _whole_numbers(value: Any, field: str) -> list[int]:
    """Returns the numbers as a flat list."""
    if type(value) is int:
        return [value]
    array = np.asarray(value)
    if array.dtype.kind not in "iu" and array.size:
        raise TargetError(f"{field} is {value!r}, expected whole numbers", field=field)
    return array.reshape(-1).tolist()


def position_in(index: Any, shape: tuple[int, ...], name: str) -> Position:
    """Returns a position on axes of these extents, completed and checked. name: of the output. Raises TargetError."""
    return _position(_whole_numbers(index, "target.index"), shape, name, "index")


def _position(numbers: list[int], shape: tuple[int, ...], name: str, what: str) -> Position:
    """Completes and checks a position. One number suffices where only one axis leaves a choice."""
    choice = [i for i, n in enumerate(shape) if n > 1] or list(range(len(shape)))[-1:]
    if len(numbers) == 1 and len(shape) != 1 and len(choice) == 1:
        numbers = [numbers[0] if i == choice[0] else 0 for i in range(len(shape))]
    if len(numbers) != len(shape):
        raise TargetError(
            f"target.{what} has {len(numbers)} numbers per sample, expected {len(shape)}: "
            f"samples of output {name!r} have shape {shape}",
            field=f"target.{what}",
        )
    if not all(-size <= at < size for at, size in zip(numbers, shape, strict=True)):
        raise TargetError(
            f"{what} {tuple(numbers)} is outside output {name!r}, whose samples have shape {shape}",
            field=f"target.{what}",
        )
    return tuple(at % size for at, size in zip(numbers, shape, strict=True))


def weights_of_sample(weights: npt.NDArray[Any], axis: int, sample: int) -> npt.NDArray[Any]:
    """Returns the weights of one sample, where samples lie along `axis`; the others weigh nothing."""
    alone = np.zeros_like(weights)
    index = (slice(None),) * (axis % weights.ndim) + (sample,)
    alone[index] = weights[index]
    return alone


def of_samples(target: Target, rows: slice | npt.NDArray[np.intp]) -> Target:
    """Returns the target for these samples alone; its index and contrast hold one position per sample."""
    index, contrast = (None if at is None else np.asarray(at)[rows] for at in (target.index, target.contrast))
    return replace(target, index=index, contrast=contrast)
