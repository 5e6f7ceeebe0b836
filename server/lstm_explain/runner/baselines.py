# SPDX-License-Identifier: Apache-2.0
"""Resolves baselines, the values that inputs are compared with, to arrays per input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import MethodError
from lstm_explain.methods.background import FIELD, Background
from lstm_explain.methods.base import Baseline

Array = npt.NDArray[Any]


def mean_baseline(samples: Mapping[str, Array], axes: Sequence[int] | int = 0) -> dict[str, Array]:
    """Returns the mean of given samples over `axes`, by input: over the samples' axis alone, or over time too for one
    value per feature.

    The axes keep extent 1, so that the mean fits inputs of any batch size (and any length, if time is among the axes).
    """
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    mean = {n: np.asarray(a).mean(axis=tuple(x % np.ndim(a) for x in axes), keepdims=True) for n, a in samples.items()}
    return {name: array.astype(np.asarray(samples[name]).dtype, copy=False) for name, array in mean.items()}


def resolve_baselines(baseline: Baseline, inputs: Mapping[str, Array], replaceable: Sequence[str]) -> dict[str, Array]:
    """Returns the baselines that the caller gave, by input, of the input's type and shape. Raises MethodError.

    replaceable: inputs that can be replaced; a single baseline applies to all of these.
    """
    baselines = baseline_by_input(baseline, replaceable)
    for name in baselines:
        if name not in inputs:
            raise MethodError(f"baseline for {name!r}, the model has {', '.join(inputs)}", field="method.baseline")
    return {name: _broadcast(name, value, inputs[name]) for name, value in baselines.items() if name in replaceable}


def baseline_by_input(baseline: Baseline, replaceable: Sequence[str]) -> Mapping[str, float | Array]:
    """Returns the baseline by input; a single one applies to all inputs that are `replaceable`.

    Raises MethodError for a background set, which is several baselines.
    """
    if isinstance(baseline, Background):
        raise MethodError("a background set is given where a single baseline is expected", field=FIELD)
    if baseline is None:
        return {}
    return baseline if isinstance(baseline, Mapping) else dict.fromkeys(replaceable, baseline)


def _broadcast(name: str, value: float | Array, like: Array) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        problem = f"has type {array.dtype}"
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        problem = "is not finite"
    elif like.dtype.kind != "f" and (array != np.rint(array)).any():
        problem = "does not consist of whole numbers"
    else:
        try:
            return np.ascontiguousarray(np.broadcast_to(array.astype(like.dtype), like.shape))
        except ValueError:
            problem = f"has shape {array.shape}"
    raise MethodError(
        f"the baseline of {name!r} {problem}, expected {like.dtype} that broadcasts to {like.shape}",
        field="method.baseline",
    )
