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
from lstm_explain.ledger import Ledger
from lstm_explain.methods.base import Method
from lstm_explain.operators.formulas import in_dtype, in_single
from lstm_explain.program.attribution import Attribution
from lstm_explain.target import Target
from lstm_explain.verdict import Finding, judge


@dataclass(frozen=True)
class Explanation:
    """One answer, for a batch.

    relevance: by input, of the input's shape; an integer (token) input gets one number per token.
    outputs: by output, what the model predicted.
    explained: [batch], the scalars explained.
    captured: by tensor name, of the tensor's shape.
    ledger: the account of `explained`.
    method, target: as used, every default filled in.
    standard_error: by input, of the relevance, where the method draws samples (ShapleySampling).
    explained_quantity: what `explained` is of the target's output: "output", the output itself; "logit" or "score", the
        value before its Softmax or Sigmoid, or before its LogSoftmax; "probability", the output made one.
    findings: checks that samples do not pass (`verdict.py`). notes: warnings that are for all samples alike.
    """

    relevance: dict[str, npt.NDArray[Any]]
    outputs: dict[str, npt.NDArray[Any]]
    explained: npt.NDArray[Any]
    captured: dict[str, npt.NDArray[Any]]
    ledger: Ledger
    method: Method
    target: Target
    standard_error: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    explained_quantity: str = "output"
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the answer should not be relied on, and for which samples; empty where nothing speaks against it."""
        return (*[f.text(self.method, len(self.explained)) for f in self.findings], *self.notes)

    def findings_of(self, start: int, end: int) -> tuple[Finding, ...]:
        """For the samples [start, end) as a batch of their own."""
        return tuple(part for finding in self.findings if (part := finding.of(start, end)))

    def warnings_of(self, sample: int) -> tuple[str, ...]:
        """The warnings as they are where the sample is explained alone."""
        return (*[f.text(self.method, 1) for f in self.findings_of(sample, sample + 1)], *self.notes)


def explanation_of(
    answer: Attribution,
    specs: Mapping[str, TensorSpec],
    method: Method,
    target: Target,
    output: str,
    *,
    single: bool,
) -> Explanation:
    """specs: of the outputs. method: as used. output: the one that the target is in. single: whether relevance is
    rounded to float32. Raises InputError where the relevance is not finite.
    """
    if not all(map(isfinite, answer.ledger.residual.tolist())):  # of all the others, the relevance's sum among them
        raise InputError(_not_finite(method, answer))
    for name, array in answer.captured.items():
        if not np.isfinite(array).all():
            raise InputError(f"the relevance of {name!r} is not finite on these inputs", field="capture")
    selection, outputs = answer.selection, {}
    for name, spec in specs.items():
        array, dtype = answer.values[name], spec.dtype
        outputs[name] = array if array.dtype is dtype else in_dtype(from_bits(array, dtype), dtype)
    return Explanation(
        _handed_out(answer.relevance, single=single),
        outputs,
        answer.explained,
        _handed_out(answer.captured, single=single) if answer.captured else {},
        answer.ledger,
        method,
        Target(output, selection.index, target.batch_axis, selection.contrast, target.weights, target.pre_activation),
        answer.standard_error,
        answer.quantity,
        judge(method, answer),
        answer.notes,
    )


def from_bits(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An output as it is declared: ONNX Runtime (1.32) hands out float8 as bytes."""
    bits = array.dtype == np.uint8 and dtype.itemsize == 1 and dtype.kind not in "biu"
    return array.view(dtype) if bits else array


def _not_finite(method: Method, answer: Attribution) -> str:
    """Which samples, and what is not finite of them."""

    def samples(bad: npt.NDArray[np.bool_]) -> str:
        return f" (samples {np.flatnonzero(bad).tolist()})" if len(bad) > 1 else ""

    bad = ~np.isfinite(answer.explained)
    if bad.any():
        told = f"the value to be explained is not finite on these inputs{samples(bad)}"
        return f"{told}; only other inputs, or other target weights, can help"
    where = samples(~np.isfinite(answer.ledger.residual))
    problem = f"the model's inner values, or its relevance, are not finite on these inputs{where}: they overflow"
    return f"{problem}; {method.on_overflow}"


def _handed_out(arrays: dict[str, npt.NDArray[Any]], *, single: bool) -> dict[str, npt.NDArray[Any]]:
    """single: rounded to float32."""
    # a sum over all axes is no array
    return {n: in_single(np.asarray(a)) if single else np.asarray(a) for n, a in arrays.items()}
