"""Baselines: what an input is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import MethodError
from lstm_explain.methods.base import Baseline

Array = npt.NDArray[Any]


def mean_baseline(samples: Mapping[str, Array], axes: Sequence[int] | int = 0) -> dict[str, Array]:
    """By input, the mean over `axes` of given samples: the samples' axis alone, or time too for a value a feature.

    The axes stay, with one entry, so that the mean fits inputs of any batch (and any length, if time is among them).
    """
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    mean = {n: np.asarray(a).mean(axis=tuple(x % np.ndim(a) for x in axes), keepdims=True) for n, a in samples.items()}
    return {name: array.astype(np.asarray(samples[name]).dtype, copy=False) for name, array in mean.items()}


def given_baselines(baseline: Baseline, inputs: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
    """Those that the caller gave, by input, of the input's type and shape. Raises MethodError.

    wanted: inputs that can be replaced; one baseline for all is meant for these.
    """
    given = by_input(baseline, wanted)
    for name in given:
        if name not in inputs:
            raise MethodError(f"baseline for {name!r}, the model has {', '.join(inputs)}", field="method.baseline")
    return {name: _fitting(name, value, inputs[name]) for name, value in given.items() if name in wanted}


def by_input(baseline: Baseline, wanted: Sequence[str]) -> Mapping[str, float | Array]:
    """What was given, by input; one baseline for all is meant for those `wanted`."""
    if baseline is None:
        return {}
    return baseline if isinstance(baseline, Mapping) else dict.fromkeys(wanted, baseline)


def _fitting(name: str, value: float | Array, like: Array) -> Array:
    array = np.asarray(value)
    problem = ""
    if array.dtype.kind not in "fiub":
        problem = f"has type {array.dtype}"
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        problem = "is not finite"
    elif like.dtype.kind != "f" and (array != np.rint(array)).any():
        problem = "is not of whole numbers"
    else:
        try:
            return np.ascontiguousarray(np.broadcast_to(array.astype(like.dtype), like.shape))
        except ValueError:
            problem = f"has shape {array.shape}"
    raise MethodError(
        f"the baseline of {name!r} {problem}, wanted {like.dtype} that broadcasts to {like.shape}",
        field="method.baseline",
    )
