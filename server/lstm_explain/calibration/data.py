# SPDX-License-Identifier: Apache-2.0
"""Reads the samples of a calibration, and groups them into batches of equal shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lstm_explain.errors import Error, InputError
from lstm_explain.evaluate.data import Array, Batch
from lstm_explain.evaluate.summary import split
from lstm_explain.model import Model
from lstm_explain.npy_files import reason
from lstm_explain.program.axes import fixed_batch

if TYPE_CHECKING:
    from lstm_explain.repository.served_model import ServedModel

TEXT = (".txt",)
NUMPY = (".npy", ".npz")


def read_samples(served: ServedModel, path: Path, columns: Mapping[str, str], limit: int, seed: int) -> list[Batch]:
    """Returns at most `limit` samples of a file or folder, drawn at random, each a batch of one.

    NumPy files hold arrays in the model's own layout (rows along the first axis for a model without a batch axis);
    Parquet and Arrow files a row per sample, as `lstm-explain batch` takes them; text files a text per line. columns:
    by input, the name in the data, where the two differ. Raises InputError, OSError, and ImportError where pyarrow is
    needed and not installed.
    """
    rng = np.random.default_rng(seed)
    if path.suffix in NUMPY:
        samples = list(_of_numpy(served.model, path, columns))
        return [samples[i] for i in _drawn(rng, len(samples), limit)]
    if path.suffix in TEXT:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return _of_texts(served, path, [lines[i] for i in _drawn(rng, len(lines), limit)])
    return _of_rows(served, path, columns, limit, rng)


def singles(model: Model, batch: Batch) -> list[Batch]:
    """Returns the samples of a batch, each a batch of its own; blocks of samples where the model takes no fewer."""
    block = _fixed_batch(model) or 1
    pieces = split(model, batch, block)
    return [piece for piece in pieces if _extent(model, piece) == block]


def batches_of(model: Model, samples: Sequence[Batch], size: int) -> Iterator[Batch]:
    """Yields the samples in batches of at most `size` with equal shapes, in the order in which batches get full."""
    groups: dict[object, list[Batch]] = {}
    for sample in samples:
        key = tuple(np.shape(sample[name]) for name in model.inputs)
        group = groups.setdefault(key, [])
        group.append(sample)
        if len(group) == (1 if _fixed_batch(model) else size):
            yield _stacked(model, groups.pop(key))
    for group in groups.values():
        yield _stacked(model, group)


def _fixed_batch(model: Model) -> int | None:
    return fixed_batch(model.axes, {name: spec.shape for name, spec in model.inputs.items()})


def _extent(model: Model, batch: Batch) -> int:
    axes = {name: model.axes[name].batch for name in model.inputs}
    return min((batch[name].shape[axis] for name, axis in axes.items() if axis is not None), default=1)


def _stacked(model: Model, group: Sequence[Batch]) -> Batch:
    if len(group) == 1:
        return group[0]
    axes = {name: model.axes[name].batch for name in model.inputs}
    return {name: np.concatenate([sample[name] for sample in group], axis) for name, axis in axes.items()}


def _drawn(rng: np.random.Generator, count: int, limit: int) -> list[int]:
    drawn: list[int] = rng.permutation(count)[:limit].tolist()
    return drawn


def _of_numpy(model: Model, path: Path, columns: Mapping[str, str]) -> Iterator[Batch]:
    try:
        loaded = np.load(path, allow_pickle=False)
        named: dict[str, Array] = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as {path.suffix}: {reason(error)}", field="input") from error
    if list(named) == [""] and len(model.inputs) == 1:
        named = {next(iter(model.inputs)): named[""]}
    arrays = {}
    for name in model.inputs:
        column = columns.get(name, name)
        if column not in named:
            listed = ", ".join(map(repr, sorted(named)))
            raise InputError(f"no array {column!r} for input {name!r}, {path} has {listed}", field="input")
        arrays[name] = named[column]
    ranks = {name: arrays[name].ndim - len(spec.shape) for name, spec in model.inputs.items()}
    if set(ranks.values()) == {0}:
        yield from singles(model, arrays)
    elif set(ranks.values()) == {1} and all(model.axes[name].batch is None for name in arrays):
        for i in range(min(map(len, arrays.values()))):
            yield {name: array[i] for name, array in arrays.items()}
    else:
        name = next(name for name, more in ranks.items() if more)
        expected = len(model.inputs[name].shape)
        raise InputError(
            f"input {name!r} has shape {arrays[name].shape}, expected {expected} axes", field=f"inputs.{name}"
        )


def _of_texts(served: ServedModel, path: Path, lines: Iterable[str]) -> list[Batch]:
    if len(served.model.inputs) != 1 or not served.text_inputs:
        raise InputError(f"{path}: the model does not take a text as its only input", field="input")
    (name, text), *_ = served.text_inputs.items()
    samples: list[Batch] = []
    problem: Error | None = None
    for line in lines:
        try:
            samples.append({name: text.encode(np.array([line], object))[0]})
        except Error as error:  # A text that is too long, for example.
            problem = problem or error
    if problem is not None and not samples:
        raise problem
    return samples


def _of_rows(
    served: ServedModel, path: Path, columns: Mapping[str, str], limit: int, rng: np.random.Generator
) -> list[Batch]:
    """Returns the usable rows among those drawn."""
    from lstm_explain.batch.feed import feed_of
    from lstm_explain.batch.source import find_data, open_data

    files = [open_data(one) for one in find_data(path)]
    feed = feed_of(served, columns, files[0].columns)
    chosen = set(_drawn(rng, sum(file.rows for file in files), limit))
    samples: list[Batch] = []
    problems: list[str] = []
    first = 0
    for file in files:
        needed = list(feed.columns.values())
        for chunk in file.read(0, file.rows, needed):
            rows = feed.rows(chunk)
            for i in range(len(rows)):
                if first + i in chosen:
                    row = rows[i]
                    problems += [row.problem] if row.problem else []
                    samples += [] if row.problem else [feed.stack([row])]
            first += len(rows)
    if not samples:
        raise InputError(f"{path}: there are no usable rows{f': {problems[0]}' if problems else ''}", field="input")
    return [samples[i] for i in rng.permutation(len(samples))]
