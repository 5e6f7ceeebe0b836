# SPDX-License-Identifier: Apache-2.0
"""Finds the group of every entry of the inputs: windows, words or segments of steps, times groups of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError
from lstm_explain.grouping import PADDING, ChangePoints, Grouping, Groups, InputGroups
from lstm_explain.labels import Labels
from lstm_explain.methods.parameters import is_number, is_whole
from lstm_explain.program.axes import Axes
from lstm_explain.runner.change_points import change_points

Array = npt.NDArray[Any]
OTHER = "other features"


@dataclass(frozen=True)
class Words:
    """The words of an input that was given as text. numbers: [batch, steps], the word of each token, -1 for padding.
    tokens: [batch, steps], as text.
    """

    numbers: Array
    tokens: Array


def words_of(numbers: Mapping[str, Array], tokens: Mapping[str, Array]) -> dict[str, Words]:
    """numbers, tokens: by input that was given as text."""
    return {name: Words(own, tokens[name]) for name, own in numbers.items()}


def find_groups(
    groups: Groups,
    inputs: Mapping[str, Array],
    axes: Mapping[str, Axes],
    labels: Labels,
    words: Mapping[str, Words],
) -> Grouping:
    """Returns the groups of every input. inputs: checked. words: by input that was given as text.

    Raises InputError.
    """
    _check(groups, inputs, words)
    features = _features_by_input(groups, inputs, axes, labels)
    return {
        name: _of_input(name, array, axes[name], _steps(groups, name, array, axes[name], words), features.get(name))
        for name, array in inputs.items()
    }


def _check(groups: Groups, inputs: Mapping[str, Array], words: Mapping[str, Words]) -> None:
    chosen = [name for name in ("window", "words", "change_points") if getattr(groups, name)]
    if len(chosen) > 1:
        raise _error(f"{' and '.join(chosen)} exclude each other")
    window, cuts = groups.window, groups.change_points
    if window is not None and not (is_whole(window) and window >= 1):
        raise _error(f"window is {window!r}, expected a whole number of at least 1", "window")
    if window is None and not chosen and not groups.features:
        raise _error("expected a window, words, change points or features")
    if groups.words and not words:
        raise _error(f"words are those of text, but no input came as text: {', '.join(inputs)}", "words")
    if cuts is None:
        return
    if not isinstance(cuts, ChangePoints):
        raise _error(f"change_points is {cuts!r}, expected ChangePoints", "change_points")
    if not is_whole(cuts.segments) or cuts.segments < 1:
        problem = f"segments is {cuts.segments!r}, expected a whole number of at least 1"
        raise _error(problem, "change_points.segments")
    if cuts.penalty is not None and not (is_number(cuts.penalty) and cuts.penalty >= 0):
        raise _error(f"penalty is {cuts.penalty!r}, expected a number of at least 0", "change_points.penalty")


# --- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """How the steps of an input are divided. numbers: [rows, steps], from 0 in each row. names: of each row, may be
    empty. bounds: of each row, the first step of each part and the step after its last one.
    """

    numbers: Array
    names: list[list[str]]
    bounds: list[list[tuple[int, int]]]


def _steps(groups: Groups, name: str, array: Array, axes: Axes, words: Mapping[str, Words]) -> _Parts:
    steps = 1 if axes.time is None else array.shape[axes.time]
    rows = 1 if axes.batch is None else array.shape[axes.batch]
    if axes.time is not None and groups.window:
        one = _cut([list(range(0, steps, groups.window))], steps)
        return _Parts(one.numbers.repeat(rows, axis=0), one.names * rows, one.bounds * rows)
    if groups.words and name in words:
        return _words(words[name])
    if axes.time is not None and groups.change_points is not None and array.dtype.kind == "f":
        cuts = groups.change_points
        ordered = np.moveaxis(array, axes.time, 0)
        batch = None if axes.batch is None else axes.batch + (axes.batch < axes.time)
        samples = [ordered] if batch is None else list(np.moveaxis(ordered, batch, 0))
        return _cut([change_points(one.reshape(steps, -1), cuts.segments, cuts.penalty) for one in samples], steps)
    return _Parts(np.zeros((rows, steps), np.intp), [[""]] * rows, [[(0, steps)]] * rows)


def _cut(starts: Sequence[list[int]], steps: int) -> _Parts:
    """starts: of each row, the first step of each part."""
    bounds = [list(zip(row, [*row[1:], steps], strict=True)) for row in starts]
    numbers = [np.searchsorted(row, np.arange(steps), side="right") - 1 for row in starts]
    names = [[f"step {a}" if b == a + 1 else f"steps {a}-{b - 1}" for a, b in row] for row in bounds]
    return _Parts(np.array(numbers, np.intp), names, bounds)


def _words(words: Words) -> _Parts:
    steps = words.numbers.shape[1]
    starts = [np.flatnonzero(np.diff(row, prepend=-2)).tolist() for row in words.numbers]
    parts = _cut(starts, steps)
    names = [
        ["".join(tokens[a:b]).strip() or PADDING for a, b in row]
        for row, tokens in zip(parts.bounds, words.tokens.tolist(), strict=True)
    ]
    return _Parts(parts.numbers, names, parts.bounds)


# --- features --------------------------------------------------------------------------------------------------------


def _features_by_input(
    groups: Groups, inputs: Mapping[str, Array], axes: Mapping[str, Axes], labels: Labels
) -> dict[str, Mapping[str, Sequence[int]]]:
    """Returns the positions of the features of each group, by input and name. Raises InputError."""
    given: Any = groups.features
    if given is True:
        if not labels.feature_groups:
            raise _error("the model has no feature groups (feature_groups in model.yaml)", "model_features")
        given = labels.feature_groups
    elif not given:
        return {}
    elif not isinstance(given, Mapping):
        raise _error(f"features is {given!r}, expected a dict from the name of a group to its features", "features")
    elif not all(isinstance(value, Mapping) for value in given.values()):
        given = {_only_input(inputs, axes): given}
    found: dict[str, Mapping[str, Sequence[int]]] = {}
    for name, own in given.items():
        if name not in inputs:
            raise _error(f"there is no input {name!r}, only {', '.join(inputs)}", "features")
        count = _feature_count(inputs[name], axes[name])
        found[name] = positions_of(own, count, labels.features.get(name, ()), name)
    return found


def positions_of(
    groups: Mapping[str, Sequence[str | int]], count: int, names: Sequence[str], name: str
) -> dict[str, list[int]]:
    """Returns the positions of the features of each group. count: of features. names: of the features, may be empty.
    name: the input's. Raises InputError.
    """
    used: dict[int, str] = {}
    found: dict[str, list[int]] = {}
    for group, features in groups.items():
        if not group or not isinstance(group, str) or not _is_list(features) or not len(features):
            raise _error(f"group {group!r} of input {name!r} needs a name and a list of features", "features")
        for feature in features:
            position = _position(feature, count, names, name)
            if position in used:
                problem = f"feature {feature!r} of input {name!r} is in the groups {used[position]!r} and {group!r}"
                raise _error(problem, "features")
            used[position] = group
            found.setdefault(group, []).append(position)
    return found


def _is_list(features: object) -> bool:
    return isinstance(features, (Sequence, np.ndarray)) and not isinstance(features, str)


def _position(feature: str | int, count: int, names: Sequence[str], name: str) -> int:
    if isinstance(feature, str) and feature in names:
        return list(names).index(feature)
    text = str(feature)
    if not isinstance(feature, bool) and text.isdecimal() and int(text) < count:
        return int(text)
    known = f"{', '.join(names)} or a position" if names else "a position"
    raise _error(f"input {name!r} has no feature {feature!r}, expected {known} below {count}", "features")


def _only_input(inputs: Mapping[str, Array], axes: Mapping[str, Axes]) -> str:
    having = [name for name, array in inputs.items() if _feature_count(array, axes[name]) > 1]
    if len(having) == 1:
        return having[0]
    raise _error(f"name the input of the features: {', '.join(having) or 'none'} have several", "features")


def _feature_count(array: Array, axes: Axes) -> int:
    last = array.ndim - 1
    return array.shape[last] if last >= 0 and last not in (axes.batch, axes.time) else 1


# --- both ------------------------------------------------------------------------------------------------------------


def _of_input(
    name: str, array: Array, axes: Axes, parts: _Parts, features: Mapping[str, Sequence[int]] | None
) -> InputGroups:
    count = _feature_count(array, axes)
    of_feature, labels = _feature_numbers(features or {}, count)
    most = max(map(len, parts.names)) * len(labels)
    names = np.full((len(parts.names), most), "", object)
    steps = np.zeros((len(parts.names), most, 2), np.int64)
    written: dict[tuple[str, ...], list[str]] = {}  # samples usually have the same parts
    for row, (own, bounds) in enumerate(zip(parts.names, parts.bounds, strict=True)):
        if (key := tuple(own)) not in written:
            written[key] = [", ".join(filter(None, (part, label))) or name for part in own for label in labels]
        whole = written[key]
        names[row, : len(whole)] = whole
        steps[row, : len(whole)] = np.repeat(np.array(bounds), len(labels), axis=0)
    numbers = _placed(parts.numbers, array.shape, axes) * len(labels)
    if len(labels) > 1:
        numbers = numbers + of_feature  # along the last axis
    return InputGroups(np.broadcast_to(numbers, array.shape), names, steps, axes.batch)


def _feature_numbers(features: Mapping[str, Sequence[int]], count: int) -> tuple[Array, list[str]]:
    """Returns the group of each feature, [features], and the names of the groups."""
    if not features:
        return np.zeros(count, np.intp), [""]
    numbers, labels = np.full(count, len(features), np.intp), list(features)
    for number, positions in enumerate(features.values()):
        numbers[list(positions)] = number
    return numbers, [*labels, OTHER] if (numbers == len(features)).any() else labels


def _placed(numbers: Array, shape: tuple[int, ...], axes: Axes) -> Array:
    """Returns numbers [rows, steps] along the axes of samples and time of an input, with extent 1 along others."""
    expected = [1] * len(shape)
    for axis in (axes.batch, axes.time):
        if axis is not None:
            expected[axis] = shape[axis]
    swapped = axes.batch is not None and axes.time is not None and axes.time < axes.batch
    return (numbers.T if swapped else numbers).reshape(expected)


def _error(problem: str, key: str = "") -> InputError:
    return InputError(f"groups: {problem}", field=f"groups.{key}" if key else "groups")
