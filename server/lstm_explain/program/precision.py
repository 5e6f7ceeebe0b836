# SPDX-License-Identifier: Apache-2.0
"""Detects samples for which float32 is not precise enough, and replaces their answers by answers in float64."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.cancellation import may_take_long
from lstm_explain.errors import Error
from lstm_explain.graph.float64 import to_float64
from lstm_explain.methods import Method
from lstm_explain.operators import BatchLayout
from lstm_explain.program.attribution import Attribution, Rows, put, take_samples, with_samples
from lstm_explain.program.axes import Axes
from lstm_explain.program.engine import Engine, Passes, Question, in_float64
from lstm_explain.program.limits import WORST_RESIDUAL
from lstm_explain.program.passes import bytes_of
from lstm_explain.target import of_samples, resolved

BEYOND_DOUBLE = 1e7  # a residual this many times the explained value means cancellation that exceeds float64, too
OF_DOUBLE = 1e-11  # share of the cancelling relevance that float64 may leave unaccounted for
# The memory that float64 may take for the samples for which float32 was not enough, and its multiple of a float32 pass:
# numbers are twice as wide, and the backward pass allocates more.
MOST_BYTES, TIMES = 64 << 20, 3
Array = npt.NDArray[Any]
NOBODY: Rows = np.zeros(0, np.intp)
# ONNX Runtime may lack a kernel for float64, a loop may exceed its memory limit in float64, and weights that are twice
# as wide may be too large.
NO_DOUBLE = (Error, MemoryError)


class Precision:
    """Explains in float32, and again in float64 the samples for which float32 is not precise enough. Safe to call from
    several threads.

    single: whether the model is in float32; no higher precision exists for other models. axes: those of the inputs.
    """

    def __init__(self, engine: Engine, axes: Mapping[str, Axes], *, single: bool) -> None:
        self.engine, self.axes, self.single = engine, axes, single
        self._lock = threading.Lock()
        self._double: dict[bool, Engine] = {}

    def explain(
        self, inputs: Mapping[str, Array], question: Question, passes: Passes | None = None
    ) -> list[Attribution]:
        """The answer for each target, of several or with captures. inputs: checked. passes: earlier forward passes on
        these inputs, of the engine that runs the method first.
        """
        if self.starts_in_double(question.method):
            found = self._in_double(inputs, question)
            if found is not None:
                return found
        answers = self.engine.explain(inputs, question, passes)
        wanted = [self.wanting(question.method, answer) for answer in answers]
        finer: Passes = {}
        for number, rows in enumerate(wanted):
            if len(rows):
                one = question._replace(targets=[question.targets[number]])
                answers[number] = self.mended(inputs, one, answers[number], rows, finer)
        return answers

    def wanting(self, method: Method, answer: Attribution) -> Rows:
        """Samples for which float32 leaves more than rounding unaccounted for, but not more than float64 corrects."""
        return wanting(method, answer) if not answer.usual and self.single and method.rules is not None else NOBODY

    def starts_in_double(self, method: Method) -> bool:
        """Whether to skip float32. Kernels that keep pre-activations in float64 do not need that."""
        return self.single and method.needs_float64 and not self.engine.finer

    def engine_for(self, method: Method) -> Engine:
        """The engine that runs the method first."""
        return self._in_float64(method) if self.starts_in_double(method) else self.engine

    def mended(
        self, inputs: Mapping[str, Array], question: Question, answer: Attribution, rows: Rows, passes: Passes
    ) -> Attribution:
        """Answers the question for its one target, in float64 for these samples and no others: the precision of a
        sample must not depend on the rest of its batch. passes: forward passes on the whole batch; the function adds to
        it.

        Runs as many samples together as memory allows, or all of them where samples cannot be taken from the batch.
        """
        (target,), selection = question.targets, answer.selection
        each = bytes_of([answer.values, answer.tapes]) // selection.batch
        outputs = {name: answer.values[name] for name in self.engine.graph.outputs}
        answer = replace(answer, values=outputs, tapes={})  # float64 reuses the memory of the float32 pass
        target = resolved(target, selection, target.output)
        axes = batch_axes(self.axes, inputs, selection.batch)
        most, mended = max(1, MOST_BYTES // (TIMES * max(each, 1))), answer
        if (
            axes is not None
            and not question.capture
            and not question.through
            and target.batch_axis is not None
            and min(len(rows), most) < selection.batch
        ):
            layouts = {name: BatchLayout(axis) for name, axis in axes.items()}
            for start in range(0, len(rows), most):
                some = rows[start : start + most]
                few = take_samples(inputs, axes, some)
                again = self._in_double(few, question._replace(targets=[of_samples(target, some)]))
                if again is None or not same_values(again[0].explained, answer.explained[some]):
                    break
                mended = put(mended, some, again[0], layouts)
            else:
                return mended
        again = self._in_double(inputs, question._replace(targets=[target]), passes)
        return answer if again is None else with_samples(answer, rows, again[0])

    def _in_double(
        self, inputs: Mapping[str, Array], question: Question, passes: Passes | None = None
    ) -> list[Attribution] | None:
        """Returns the explanations in float64; None where the model, or these inputs, cannot be computed in float64.

        Relevance that cancels can be many orders of magnitude larger than the explained value (LRP-prop divides by gate
        + signal, which may be close to zero). Float32 then loses the explained value.
        """
        may_take_long()
        try:
            return self._in_float64(question.method).explain(in_float64(inputs), question, passes)
        except NO_DOUBLE:  # the answer in float32 remains, and its ledger shows the residual
            return None

    def _in_float64(self, method: Method) -> Engine:
        with self._lock:
            im2col = method.rules is None or not method.rules.bias_factor
            if im2col not in self._double:
                self._double[im2col] = Engine(to_float64(self.engine.graph, im2col=im2col), self.engine.gates)
            return self._double[im2col]


def wanting(method: Method, answer: Attribution) -> Rows:
    """Does the same as `Precision.wanting`, for a method with rules and a model in float32."""
    left, explained = np.abs(answer.ledger.residual), np.abs(answer.explained)
    mendable = (WORST_RESIDUAL * explained < left) & (left <= BEYOND_DOUBLE * explained)
    if method.needs_float64:  # the backward pass was in float64 already and would cancel again
        ledger = answer.ledger
        mendable &= left > OF_DOUBLE * np.maximum(np.abs(ledger.inputs), np.abs(ledger.absorbed))
    return np.flatnonzero(~np.isfinite(left) | mendable)


def batch_axes(axes: Mapping[str, Axes], inputs: Mapping[str, Array], batch: int) -> dict[str, int] | None:
    """By input, the axis of samples; None unless every input has one."""
    found = {name: axes[name].batch for name in inputs}
    known = {n: a for n, a in found.items() if a is not None and a < inputs[n].ndim and inputs[n].shape[a] == batch}
    return known if len(known) == len(inputs) else None


def same_values(finer: Array, coarse: Array) -> bool:
    """Whether these samples have the same explained values alone as in the batch."""
    known = np.isfinite(coarse)
    largest = float(np.abs(coarse[known]).max(initial=0.0))
    return bool(np.allclose(finer[known], coarse[known], rtol=1e-2, atol=1e-3 * largest))
