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


def explanation_of(
    answer: Answer,
    specs: Mapping[str, TensorSpec],
    values: Mapping[str, npt.NDArray[Any]],
    method: Method,
    target: Target,
    output: str,
    selection: Selection,
    *,
    single: bool,
    standard_error: dict[str, npt.NDArray[Any]] | None = None,
) -> Explanation:
    """specs: of the outputs, whose values are among `values`. method: as used. single: whether the model is of float32.
    Raises InputError where the relevance is not finite.
    """
    if not all(map(isfinite, answer.ledger.inputs.tolist())):
        raise InputError("on these inputs the model's values, or its relevance, overflow")
    index, contrast = selection.index, selection.contrast
    return Explanation(
        _handed_out(answer.relevance, single=single),
        {name: in_dtype(values[name], spec.dtype) for name, spec in specs.items()},
        answer.explained,
        _handed_out(answer.captured, single=single) if answer.captured else {},
        answer.ledger,
        method,
        Target(output, index, target.batch_axis, contrast, target.weights, target.pre_activation),
        standard_error or {},
        _diverged(method, answer, values[output], selection.weights),
    )


def _diverged(method: Method, answer: Answer, output: npt.NDArray[Any], weights: npt.NDArray[Any]) -> tuple[str, ...]:
    """Says so where relevance has grown far beyond what was explained, which then is but what is left of it."""
    if not isinstance(method, LRP) or (method.product_rule == "all" and _closes(answer)):
        return ()
    usual = max(_largest(output) * _largest(weights), _largest(answer.explained))
    largest = max(map(_largest, answer.relevance.values()), default=0.0)
    if largest <= DIVERGED * usual:
        return ()
    told = f"relevance diverges: {largest:.1e} at one element, where the output is {usual:.1e}"
    more = "" if method.product_rule == "all" else ", product rule 'all' avoids it"
    return (f"{told}; a larger epsilon damps it{more}",)


def _closes(answer: Answer) -> bool:
    residual, explained = answer.ledger.residual, answer.explained
    if len(residual) == 1:  # the usual request, which does without arrays
        return abs(residual.item()) <= CLOSED * abs(explained.item())
    return bool((np.abs(residual) <= CLOSED * np.abs(explained)).all())


def _handed_out(arrays: dict[str, npt.NDArray[Any]], *, single: bool) -> dict[str, npt.NDArray[Any]]:
    """single: in float32, but for arrays (LRP-prop can come to that) that it cannot hold."""
    handed_out = {}
    for name, array in arrays.items():
        kind = np.float32 if single and not _beyond_single(array) else None
        handed_out[name] = np.asarray(array, kind)  # a sum over all axes is no array
    return handed_out


def _beyond_single(array: npt.NDArray[Any]) -> bool:
    return array.dtype != np.float32 and _largest(array) > MOST_SINGLE


def _largest(array: npt.NDArray[Any]) -> float:
    """The largest magnitude; 0 where there is nothing."""
    return sums.largest(array.ravel() if array.dtype.char in "fd" else array.astype(np.float64).ravel())
