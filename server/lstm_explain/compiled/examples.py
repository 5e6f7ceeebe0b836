# SPDX-License-Identifier: Apache-2.0
"""Inputs on which a model is traced and a compiled file is checked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_explain.errors import Error, ModelError
from lstm_explain.graph.ir import Array
from lstm_explain.model import Model

BATCHES = ((2, 3), (4, 1))  # traced with, checked with
LENGTHS = ((7, 10), (13, 6)), ((19, 26), (31, 22)), ((67, 74), (81, 70)), ((3, 4), (5, 2)), ((130, 146), (162, 138))
TOKENS = (1000, 100, 20, 5, 2)  # numbers of different integers to try, largest first
Inputs = dict[str, Array]
Sizes = Mapping[str, tuple[int, int]]


def examples_of(model: Model, given: Mapping[str, Array] | None = None) -> tuple[list[Inputs], list[Inputs]]:
    """Returns the inputs to trace with and inputs to check with, two of each, whose symbolic extents differ.

    given: inputs on which the model runs, for one on which made-up inputs fail. Raises ModelError.
    """
    reason = ""
    for traced, checked in _candidates(model, given):
        try:
            for inputs in (*traced, *checked):
                model.predict(inputs)
        except Error as error:
            reason = reason or str(error)
            continue
        return traced, checked
    hint = "give inputs on which it runs" if given is None else "the given ones do not run either"
    raise ModelError(f"the model runs on none of the inputs that were made up for it ({hint}): {reason}")


def _candidates(model: Model, given: Mapping[str, Array] | None) -> Iterator[tuple[list[Inputs], list[Inputs]]]:
    if given is not None:
        given = {name: np.asarray(array) for name, array in given.items()}
        for cuts in _cuts(model, given):
            yield [_cut(model, given, cuts, k) for k in (0, 1)], [_cut(model, given, cuts, k) for k in (2, 3)]
        return
    for lengths, tokens in itertools.product(LENGTHS, TOKENS):
        sizes = [_sizes(model, BATCHES[k], lengths[k]) for k in (0, 1)]
        yield tuple(  # type: ignore[misc]
            [_made_up(model, {s: pair[k] for s, pair in sizes[which].items()}, tokens, which * 2 + k) for k in (0, 1)]
            for which in (0, 1)
        )


def _sizes(model: Model, batch: tuple[int, int], length: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Returns the sizes of every symbol: one for batches, and others for lengths."""
    batches = batch_symbols(model)
    sizes: dict[str, tuple[int, int]] = {}
    for spec in model.inputs.values():
        for symbol in spec.shape:
            if isinstance(symbol, str) and symbol not in sizes:
                further = sum(s not in batches for s in sizes)
                sizes[symbol] = batch if symbol in batches else (length[0] + further, length[1] + 2 * further)
    return sizes


def batch_symbols(model: Model) -> set[object]:
    return {model.inputs[name].shape[axes.batch] for name, axes in model.axes.items() if axes.batch is not None}


def _made_up(model: Model, sizes: Mapping[str, int], tokens: int, seed: int) -> Inputs:
    rng, made = np.random.default_rng(seed), dict[str, Array]()
    for name, spec in model.inputs.items():
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in spec.shape)
        if spec.dtype.kind == "f":
            made[name] = rng.standard_normal(shape).astype(spec.dtype)
        else:
            made[name] = rng.integers(0, 2 if spec.dtype.kind == "b" else tokens, shape).astype(spec.dtype)
    for lengths, of in model.lengths.items():
        axis = model.axes[of].time
        if axis is not None:
            longest = made[of].shape[axis]
            counts = rng.integers(1, longest + 1, made[lengths].shape)
            counts.reshape(-1)[:1] = longest
            made[lengths] = counts.astype(made[lengths].dtype)
    return made


def _cuts(model: Model, given: Mapping[str, Array]) -> Iterator[dict[str, Sequence[int]]]:
    """By symbol, the sizes of four examples that the given inputs are cut or repeated to: first with other lengths,
    then with the given one.
    """
    batches, whole = batch_symbols(model), dict[str, int]()
    for name, spec in model.inputs.items():
        for symbol, size in zip(spec.shape, given[name].shape, strict=True):
            if isinstance(symbol, str):
                whole[symbol] = size
    for free in (True, False):
        yield {
            s: (n, n + 1, n + 2, 1) if s in batches else (n, n - 1, n - 2, n) if free and n > 3 else (n,) * 4
            for s, n in whole.items()
        }


def _cut(model: Model, given: Mapping[str, Array], sizes: Mapping[str, Sequence[int]], which: int) -> Inputs:
    made: Inputs = {}
    for name, spec in model.inputs.items():
        array: Any = given[name]
        for axis, symbol in enumerate(spec.shape):
            if isinstance(symbol, str):
                array = np.take(array, np.arange(sizes[symbol][which]) % array.shape[axis], axis)
        made[name] = array.astype(spec.dtype)
    for lengths, of in model.lengths.items():
        time = model.axes[of].time
        if time is not None:
            made[lengths] = np.minimum(made[lengths], made[of].shape[time])
    return made
