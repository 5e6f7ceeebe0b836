# SPDX-License-Identifier: Apache-2.0
"""Several targets at once: a list, or every entry of an output along one of its axes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.cancellation import current_scope
from lstm_explain.errors import TargetError
from lstm_explain.target import Target, as_target, position_in, target_from_text

STEPS, CLASSES = 0, -1  # axes of the output of one sample
_WORDS = {"step": STEPS, "class": CLASSES, "steps": STEPS, "classes": CLASSES}
_FORM = re.compile(r"(?:(?P<all>every (?:step|class))|(?P<some>steps|classes) (?P<entries>.+?))(?: at (?P<at>.+))?")
EXPECTED = "such as 'every class', 'every step', 'steps 0,6,23', 'classes 0,2' or 'scores:every class at 5'"


@dataclass(frozen=True, eq=False)
class Every:
    """A target for every entry of an output along one of its axes.

    axis: counted in one sample's output (the output without its batch axis): -1, the last one, for classes; 0 for the
        steps of a forecast or of scores per step.
    entries: positions on the axis; default: all.
    target: what the targets have in common: output, batch axis, pre_activation and, as `index`, one position on the
        other axes. Without an index, each of the other axes must have one entry, except that the last one may have
        more: every target is then the largest entry on it, sample by sample.
    """

    axis: int = CLASSES
    entries: Sequence[int] | None = None
    target: Target = Target()  # noqa: RUF009 - frozen


TargetSet = Target | Every
TargetLike = Target | Every | int | tuple[int, ...] | str


def as_targets(
    given: Iterable[TargetLike] | str, outputs: Collection[str], classes: Mapping[str, Sequence[str]] | None = None
) -> list[TargetSet]:
    """Returns the targets of a list or of text, see `parse_targets`. Raises TargetError."""
    found: list[TargetSet] = []
    for one in [given] if isinstance(given, str) else given:
        if isinstance(one, str):
            found += parse_targets(one, outputs, classes)
        else:
            found.append(one if isinstance(one, Every) else as_target(one, outputs))
    return found


def parse_targets(
    text: str, outputs: Collection[str], classes: Mapping[str, Sequence[str]] | None = None
) -> list[TargetSet]:
    """Returns the targets that text lists, separated by semicolons.

    Each is a target as `parse_target` takes it, or one of `every class`, `every step`, `classes 0,2` and
    `steps 0,6,23`, which may be followed by `at 5` for the position on the other axes and preceded by an output and a
    colon. Classes may be given by name. Raises TargetError.
    """
    return [_parse(part.strip(), outputs, classes or {}) for part in text.split(";") if part.strip()]


def _parse(text: str, outputs: Collection[str], classes: Mapping[str, Sequence[str]]) -> TargetSet:
    output, words = next(((o, text[len(o) + 1 :]) for o in outputs if text.startswith(f"{o}:")), (None, text))
    found = _FORM.fullmatch(words.strip())
    if found is None:
        return target_from_text(text, outputs, classes)
    axis = _WORDS[found["some"] or found["all"].removeprefix("every ")]
    named = classes.get(output or next(iter(outputs)), ())
    entries = None if found["some"] is None else _numbers(found["entries"], named, text)
    at = None if found["at"] is None else _numbers(found["at"], named, text)
    return Every(axis, entries, Target(output, None if at is None else tuple(at)))


def _numbers(text: str, classes: Sequence[str], whole: str) -> list[int]:
    try:
        return [classes.index(p) if (p := part.strip()) in classes else int(p) for part in text.split(",")]
    except ValueError:
        raise TargetError(f"targets are {whole!r}, expected a target or words {EXPECTED}", field="target") from None


def with_target(given: TargetSet, **changes: Any) -> TargetSet:
    """Returns the same targets with other fields of what they have in common."""
    if isinstance(given, Target):
        return replace(given, **changes)
    return replace(given, target=replace(given.target, **changes))


def shared(given: TargetSet) -> Target:
    """Returns the target itself, or what the targets of an Every have in common."""
    return given.target if isinstance(given, Every) else given


def expand(every: Every, output: npt.NDArray[Any], name: str) -> list[Target]:
    """Returns the targets on the actual output called `name`. Raises TargetError."""
    common = every.target
    if common.contrast is not None or common.weights is not None:
        raise TargetError("every entry of an axis is explained alone: no contrast, no weights", field="target.contrast")
    if common.measure is not None and common.measure.linear:
        raise TargetError(
            f"{common.measure.kind} is of a whole sample: there is none per entry", field="target.measure"
        )
    batch = common.batch_axis
    if batch is not None and not -output.ndim <= batch < output.ndim:
        problem = f"output {name!r} has shape {output.shape}: it has no axis {batch} for the batch"
        raise TargetError(problem, field="target.batch_axis")
    samples = output[None] if batch is None else np.moveaxis(output, batch, 0)
    shape = samples.shape[1:]
    if not -len(shape) <= every.axis < len(shape):
        problem = f"samples of output {name!r} have shape {shape}: there is no axis {every.axis}"
        raise TargetError(problem, field="target.axis")
    axis = every.axis % len(shape)
    entries = range(shape[axis]) if every.entries is None else every.entries
    for entry in entries:
        if not -shape[axis] <= entry < shape[axis]:
            problem = f"there is no entry {entry} on axis {every.axis} of output {name!r}, whose samples have shape"
            raise TargetError(f"{problem} {shape}", field="target.entries")
    others = (*shape[:axis], *shape[axis + 1 :])
    if common.index is None and any(n > 1 for n in others):
        if axis == len(shape) - 1 or any(n > 1 for n in others[:-1]):
            problem = f"samples of output {name!r} have shape {shape}: specify the position on the other axes"
            raise TargetError(problem, field="target.index")
        return [replace(common, output=name, index=_largest(samples, axis, entry % shape[axis])) for entry in entries]
    if isinstance(common.index, (np.ndarray, list)):
        raise TargetError("every entry of an axis takes one position for the whole batch", field="target.index")
    at = (0,) * len(others) if common.index is None else position_in(common.index, others, name)
    return [replace(common, output=name, index=(*at[:axis], entry % shape[axis], *at[axis:])) for entry in entries]


def _largest(samples: npt.NDArray[Any], axis: int, entry: int) -> npt.NDArray[np.int64]:
    """Returns an array [batch, axes]: the position of each sample's largest entry on the last axis, at `entry` of
    another axis. The axes besides these two have one entry.
    """
    found = np.zeros((len(samples), samples.ndim - 1), np.int64)
    found[:, axis] = entry
    found[:, -1] = samples.take(entry, 1 + axis).reshape(len(samples), -1).argmax(axis=1)
    return found


def each_target(
    given: Iterable[TargetSet], output_of: Callable[[Target], tuple[str, npt.NDArray[Any]]]
) -> list[Target]:
    """Returns every single target. output_of: name and value of the output that a target is in. Raises TargetError."""
    found: list[Target] = []
    for one in given:
        if isinstance(one, Every):
            name, output = output_of(one.target)
            found += expand(one, output, name)
        else:
            found.append(one)
    check_count(len(found))
    return found


def count_of(
    targets: Iterable[TargetSet], shapes: Mapping[str, Sequence[int | str]], extents: Mapping[str, int]
) -> int:
    """Returns how many targets there are, before the model has run.

    shapes: of the outputs, as declared. extents: of symbolic axes, as the inputs show them; others count once.
    """
    total = 0
    for one in targets:
        if not isinstance(one, Every):
            total += 1
        elif one.entries is not None:
            total += len(one.entries)
        else:
            total += _extent(one, list(shapes.get(one.target.output or next(iter(shapes)), ())), extents)
    return total


def _extent(every: Every, shape: list[int | str], extents: Mapping[str, int]) -> int:
    batch = every.target.batch_axis
    if batch is not None and -len(shape) <= batch < len(shape):
        del shape[batch]
    if not -len(shape) <= every.axis < len(shape):
        return 1
    extent = shape[every.axis]
    return extents.get(extent, 1) if isinstance(extent, str) else extent


def check_count(count: int, most: int | None = None) -> None:
    """Raises TargetError where there are more targets than `most`, or than the current scope allows."""
    if most is None and (scope := current_scope()) is not None:
        most = scope.max_targets
    if most is not None and count > most:
        raise TargetError(f"{count} targets, at most {most} are allowed", field="target")
