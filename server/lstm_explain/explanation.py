"""One answer, as a caller gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError
from lstm_explain.inputs import TensorSpec
from lstm_explain.kernels import sums
from lstm_explain.ledger import Ledger
from lstm_explain.methods.propagation import Answer
from lstm_explain.rules.shares import in_dtype
from lstm_explain.spec.method import LRP, Method
from lstm_explain.target import Selection, Target

CLOSED = 1e-3  # of the explained value: what the ledger may leave over
DIVERGED = 1e4  # relevance of one element so many times the output: its sum is lost in what cancels
MOST_SINGLE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Explanation:
    """One answer, for a batch.

    relevance: by input, of the input's shape; an integer (token) input gets one number a token.
    outputs: by output, what the model predicted.
    explained: [batch], the scalars explained.
    captured: by tensor name, of the tensor's shape.
    ledger: the account of `explained`.
    method, target: as used, every default filled in.
    standard_error: by input, of the relevance, where the method draws samples (ShapleySampling).
    warnings: why the answer should not be relied on; empty where nothing speaks against it.
    explained_quantity: what `explained` is of the target's output: "output", the output itself; "logit" or "score", the
        value before its Softmax or Sigmoid, or before its LogSoftmax; "probability", the output through Softmax.
    """

    relevance: dict[str, npt.NDArray[Any]]
    outputs: dict[str, npt.NDArray[Any]]
    explained: npt.NDArray[Any]
    captured: dict[str, npt.NDArray[Any]]
    ledger: Ledger
    method: Method
    target: Target
    standard_error: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    explained_quantity: str = "output"


def explanation_of(
    answer: Answer,
    specs: Mapping[str, TensorSpec],
    values: Mapping[str, npt.NDArray[Any]],
    method: Method,
    target: Target,
    weights: npt.NDArray[Any],
    *,
    single: bool,
    quantity: str,
    standard_error: dict[str, npt.NDArray[Any]] | None = None,
) -> Explanation:
    """specs: of the outputs, whose values are among `values`. method, target: as used. weights: of the target's output.
    single: whether the model is of float32. quantity: what `explained` is of the target's output. Raises InputError
    where the relevance is not finite.
    """
    if not all(map(isfinite, answer.ledger.inputs.tolist())):
        raise InputError("on these inputs the model's values, or its relevance, overflow")
    suspect = method if isinstance(method, LRP) and not (method.product_rule == "all" and _closes(answer)) else None
    peaks = _peaks(answer.relevance, all_of_them=suspect is not None)
    warnings: tuple[str, ...] = ()
    if suspect and target.output:
        largest = max(peaks.values(), default=0.0)
        warnings = _diverged(suspect, answer.explained, largest, values[target.output], weights)
    return Explanation(
        _handed_out(answer.relevance, peaks, single=single),
        {name: in_dtype(values[name], spec.dtype) for name, spec in specs.items()},
        answer.explained,
        _handed_out(answer.captured, _peaks(answer.captured), single=single),
        answer.ledger,
        method,
        target,
        standard_error or {},
        warnings,
        quantity,
    )


def used(target: Target, output: str, selection: Selection) -> Target:
    """The target as it was resolved."""
    at = selection.index, target.batch_axis, selection.contrast
    return Target(output, *at, target.weights, target.pre_activation)


def _diverged(
    lrp: LRP,
    explained: npt.NDArray[Any],
    largest: float,
    output: npt.NDArray[Any],
    weights: npt.NDArray[Any],
) -> tuple[str, ...]:
    """Says so where relevance has grown far beyond what was explained, which then is but what is left of it.

    largest: the largest magnitude of relevance.
    """
    usual = _largest(explained)
    if largest > DIVERGED * usual:
        usual = max(usual, _largest(output) * _largest(weights))
    if largest <= DIVERGED * usual:
        return ()
    told = f"relevance diverges: {largest:.1e} at one element, where the output is {usual:.1e}"
    more = "" if lrp.product_rule == "all" else ", product rule 'all' avoids it"
    return (f"{told}; a larger epsilon damps it{more}",)


def _closes(answer: Answer) -> bool:
    residual, explained = answer.ledger.residual, answer.explained
    if len(residual) == 1:  # the usual request, which does without arrays
        return abs(residual.item()) <= CLOSED * abs(explained.item())
    return bool((np.abs(residual) <= CLOSED * np.abs(explained)).all())


def _peaks(arrays: dict[str, npt.NDArray[Any]], *, all_of_them: bool = False) -> dict[str, float]:
    """Of each the largest magnitude; unless of all, 0 for those that are in float32 already."""
    return {n: _largest(a) if all_of_them or a.dtype != np.float32 else 0.0 for n, a in arrays.items()}


def _handed_out(
    arrays: dict[str, npt.NDArray[Any]], peaks: dict[str, float], *, single: bool
) -> dict[str, npt.NDArray[Any]]:
    """single: in float32, but for arrays (LRP-prop can come to that) that it cannot hold. peaks: see `_peaks`."""
    # a sum over all axes is no array
    return {n: np.asarray(a, np.float32 if single and peaks[n] <= MOST_SINGLE else None) for n, a in arrays.items()}


def _largest(array: npt.NDArray[Any]) -> float:
    """The largest magnitude; 0 where there is nothing."""
    return sums.largest(array.ravel() if array.dtype.char in "fd" else array.astype(np.float64).ravel())
