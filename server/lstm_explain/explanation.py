# SPDX-License-Identifier: Apache-2.0
"""The explanation that a caller receives: relevance, predictions and ledger of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError
from lstm_explain.grouping import Grouping, GroupRelevance
from lstm_explain.inputs import TensorSpec
from lstm_explain.kernels import reductions
from lstm_explain.labels import Labels
from lstm_explain.ledger import Ledger
from lstm_explain.methods.base import Method
from lstm_explain.operators.formulas import FLOAT32, in_dtype, in_single
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.axes import Axes
from lstm_explain.target import Target, resolved
from lstm_explain.verdict import Finding, judge
from lstm_explain_client.names import Names
from lstm_explain_client.shown import Shown
from lstm_explain_client.side_by_side import SideBySide


@dataclass(repr=False)  # not frozen: every request makes one, and a frozen one sets fields by a function call each
class Explanation(Shown):
    """One explanation of a batch. Like the client's `Result`, it can show itself: `print()`, `to_html()`, `plot()`,
    `to_frame()`, and as the last line of a notebook's cell.

    relevance: by input, of the input's shape; an integer (token) input gets one number per token.
    outputs: by output, what the model predicted.
    explained: [batch], the scalars that are explained.
    captured: by tensor name, of the tensor's shape.
    ledger: the account of `explained`.
    method, target: as used, with every default filled in.
    standard_error: by input, of the relevance, where the method draws samples.
    explained_quantity: how `explained` relates to the target's output. "output": the output itself; "logit" or "score":
        the value before its Softmax or Sigmoid, or before its LogSoftmax, Exp or Softplus; "probability": the output
        as a probability; "margin": see Counterfactual.
    captured_axes: by captured value, where samples and time steps lie, as far as that is known.
    groups: by input, the groups that were asked for and their relevance.
    steps_used: [batch], for IntegratedGradients the points on the line of each sample, for Counterfactual how often the
        model ran; otherwise None.
    not_explained: for an explanation with a condition, one text per sample: why it is not explained, or empty. The
        relevance and ledger of such a sample are NaN.
    findings: checks that samples fail (`verdict.py`). notes: warnings that concern all samples alike.
    inputs: the arrays that were explained. tokens: by input that was given as text instead, its tokens, in the shape
        of the relevance. axes, labels: the model's, for pictures and data frames.
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
    steps_used: npt.NDArray[np.int64] | None = None
    inputs: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    tokens: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    axes: Mapping[str, Axes] = field(default_factory=dict)
    groups: dict[str, GroupRelevance] = field(default_factory=dict)
    captured_axes: Mapping[str, Axes] = field(default_factory=dict)
    labels: Labels = Labels()  # noqa: RUF009 - frozen
    not_explained: tuple[str, ...] = ()

    def labelled(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        tokens: Mapping[str, npt.NDArray[Any]],
        axes: Mapping[str, Axes],
        labels: Labels,
    ) -> Explanation:
        """This explanation, with what its pictures show besides the numbers."""
        self.inputs = {name: array for name, array in inputs.items() if name not in tokens} if tokens else inputs
        self.tokens, self.axes, self.labels = tokens, axes, labels
        return self

    def grouped(self, grouping: Grouping) -> Explanation:
        """This explanation, with the relevance of groups of entries."""
        self.groups = {
            name: groups.relevance(self.relevance[name], self.standard_error.get(name))
            for name, groups in grouping.items()
        }
        return self

    @property
    def left_out(self) -> int:
        """The number of samples that a condition left unexplained."""
        return sum(map(bool, self.not_explained))

    @property
    def model(self) -> str:  # type: ignore[override]
        return self.labels.model

    @property
    def version(self) -> str:  # type: ignore[override]
        return self.labels.version

    @property
    def detail(self) -> Names:  # type: ignore[override]
        """Names, units and axes, as pictures read them."""

        def named(labels: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
            return {name: tuple(words) for name, words in labels.items()}

        return Names(
            class_names=named(self.labels.classes),
            feature_names=named(self.labels.features),
            units=named(self.labels.units),
            batch_axes={name: axes.batch for name, axes in self.axes.items() if axes.batch is not None},
            time_axes={name: axes.time for name, axes in self.axes.items() if axes.time is not None},
        )

    @property
    def batch_axes(self) -> dict[str, int | None]:  # type: ignore[override]
        known = any(axes.batch is not None for axes in self.axes.values())
        return {name: self.axes[name].batch for name in self.relevance if name in self.axes} if known else {}

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Why, and for which samples, the explanation should not be relied on; empty where it passes all checks."""
        return (*[f.text(self.method, len(self.explained)) for f in self.findings], *self.notes)

    def findings_of(self, start: int, end: int) -> tuple[Finding, ...]:
        """Returns the findings for the samples [start, end), as if they were a batch of their own."""
        return tuple(part for finding in self.findings if (part := finding.of(start, end)))

    def warnings_of(self, sample: int) -> tuple[str, ...]:
        """Returns the warnings that the sample would have if it were explained alone."""
        return (*[f.text(self.method, 1) for f in self.findings_of(sample, sample + 1)], *self.notes)


class Explanations(SideBySide[Explanation]):
    """An explanation per target, which share the outputs and can show themselves side by side."""

    def labelled(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        tokens: Mapping[str, npt.NDArray[Any]],
        axes: Mapping[str, Axes],
        labels: Labels,
    ) -> Explanations:
        """Returns these explanations, with what their pictures show besides the numbers."""
        for one in self:
            one.labelled(inputs, tokens, axes, labels)
        return self


def explanation_of(
    answer: Attribution,
    specs: Mapping[str, TensorSpec],
    method: Method,
    target: Target,
    output: str,
    *,
    single: bool,
) -> Explanation:
    """Builds an Explanation. Raises InputError where the relevance is not finite.

    specs: of the outputs. method: as used. output: the one that the target is in.
    single: whether to round the relevance to float32.
    """
    # Everything else adds up to the residual, the relevance included.
    if not answer.usual and not reductions.all_finite(answer.ledger.residual):
        raise InputError(_not_finite(method, answer))
    for name, array in answer.captured.items():
        if not np.isfinite(array).all():
            raise InputError(f"the relevance of {name!r} is not finite on these inputs", field="capture")
    selection = answer.selection
    return Explanation(
        _in_output_dtype(answer.relevance, single=single),
        outputs_of(answer.values, specs),
        answer.explained,
        _in_output_dtype(answer.captured, single=single) if answer.captured else {},
        answer.ledger,
        method,
        resolved(target, selection, output),
        answer.standard_error,
        answer.quantity,
        () if answer.usual else judge(method, answer),
        answer.notes,
        answer.steps_used,
    )


def outputs_of(values: Mapping[str, npt.NDArray[Any]], specs: Mapping[str, TensorSpec]) -> dict[str, npt.NDArray[Any]]:
    """Returns the outputs in their declared types, as arrays of their own: a view would change with the input that it
    views, or keep a whole sequence in memory. values: of a forward pass.
    """
    outputs = {}
    for name, spec in specs.items():
        array, dtype = values[name], spec.dtype
        if array.base is not None and isinstance(array.base, np.ndarray):
            array = array.copy()
        outputs[name] = array if array.dtype is dtype else in_dtype(from_bits(array, dtype), dtype)
    return outputs


def from_bits(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Returns an output in its declared type: ONNX Runtime (1.32) returns float8 as bytes."""
    bits = array.dtype == np.uint8 and dtype.itemsize == 1 and dtype.kind not in "biu"
    return array.view(dtype) if bits else array


def _not_finite(method: Method, answer: Attribution) -> str:
    """Returns the message that names the samples and what is not finite."""

    def samples(bad: npt.NDArray[np.bool_]) -> str:
        return f" (samples {np.flatnonzero(bad).tolist()})" if len(bad) > 1 else ""

    bad = ~np.isfinite(answer.explained)
    if bad.any():
        problem = f"the explained value is not finite on these inputs{samples(bad)}"
        return f"{problem}; use other inputs or other target weights"
    where = samples(~np.isfinite(answer.ledger.residual))
    problem = f"the model's inner values or its relevance overflow on these inputs{where}"
    return f"{problem}; {method.on_overflow}"


def _in_output_dtype(arrays: dict[str, npt.NDArray[Any]], *, single: bool) -> dict[str, npt.NDArray[Any]]:
    """single: whether to round to float32."""
    for array in arrays.values():
        if type(array) is not np.ndarray or (single and array.dtype is not FLOAT32):
            break
    else:
        return arrays
    # A sum over all axes is a scalar, not an array.
    return {n: in_single(np.asarray(a)) if single else np.asarray(a) for n, a in arrays.items()}
