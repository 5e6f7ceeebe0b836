"""Float64 where float32 is not enough: which samples need it, and its answers in the place of theirs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.cancellation import may_take_long
from lstm_explain.graph.float64 import to_float64
from lstm_explain.ledger import Ledger
from lstm_explain.methods import LRP, Method
from lstm_explain.operators import BatchLayout
from lstm_explain.program.account import rows_of
from lstm_explain.program.axes import Axes
from lstm_explain.program.engine import Engine, Passes, Question, in_float64
from lstm_explain.program.passes import ForwardPass, bytes_of
from lstm_explain.program.program import Program
from lstm_explain.program.propagation import Attribution, joined
from lstm_explain.target import Selection, Target, of_samples

WORST_RESIDUAL = 5e-5  # share of the explained value that float32 may leave unaccounted for
BEYOND_DOUBLE = 1e7  # a residual so many times the explained value means cancellation that float64 cannot follow either
OF_DOUBLE = 1e-11  # share of what cancels that float64 may leave
# What float64 may take for the samples for which float32 was not enough, and how many times a float32 pass that is:
# numbers twice as wide, and what is made on the way back.
MOST_BYTES, TIMES = 64 << 20, 3
Array = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]
NOBODY: Rows = np.zeros(0, np.intp)
Answers = tuple[Mapping[str, Array], list[tuple[Selection, Attribution]]]  # values of the forward pass; one per target


class Precision:
    """Explains in float32, and in float64 what that leaves wrong. Safe to call from several threads.

    single: whether the model is of float32; another one has all that there is. axes: of the inputs.
    """

    def __init__(self, engine: Engine, axes: Mapping[str, Axes], *, single: bool) -> None:
        self.engine, self.axes, self.single = engine, axes, single
        self._lock = threading.Lock()
        self._double: dict[bool, Engine] = {}

    def explain(self, inputs: Mapping[str, Array], question: Question) -> Answers:
        if self.starts_in_double(question.method):
            found = self._in_double(inputs, question)
            if found is not None:
                return found
        done, answers = self.engine.explain(inputs, question)
        if not self.single or not isinstance(question.method, LRP):
            return done.values, answers
        rows = [wanting(question.method, answer) for _, answer in answers]
        if not any(map(len, rows)):
            return done.values, answers
        values, each = self._kept(done, answers[0][0])
        del done  # what float64 takes comes in the place of it
        passes: Passes = {}
        for number, of in enumerate(rows):
            if len(of):
                answers[number] = self._mended(inputs, question, number, answers[number], of, each, passes)
        return values, answers

    def explain_one(
        self, program: Program, inputs: Mapping[str, Array], target: Target, output: str
    ) -> tuple[Mapping[str, Array], Selection, Attribution]:
        """As `explain`, by a program of float32's."""
        method = program.method
        done, selection, answer = self.engine.explain_one(program, inputs, target, output)
        if not self.single or not len(rows := wanting(method, answer)):
            return done.values, selection, answer
        assert program.head is not None
        values, each = self._kept(done, selection)
        del done
        question = Question(method, output, program.head, (target,), ())
        return values, *self._mended(inputs, question, 0, (selection, answer), rows, each, {})

    def _kept(self, done: ForwardPass, selection: Selection) -> tuple[dict[str, Array], int]:
        """What is handed out of a pass that float32 was not enough for, and the bytes that it took per sample."""
        return {name: done.values[name] for name in self.engine.graph.outputs}, bytes_of(done) // selection.batch

    def starts_in_double(self, method: Method) -> bool:
        """Whether float32 is not worth a try: gates divide what they receive by pre-activations, which may be small.

        Kernels that keep those in float64 are.
        """
        return self.single and isinstance(method, LRP) and method.product_rule != "all" and not self.engine.finer

    def engine_for(self, method: Method) -> Engine:
        """The engine that the method is tried with first."""
        return self._in_float64(method) if self.starts_in_double(method) else self.engine

    def _mended(
        self,
        inputs: Mapping[str, Array],
        question: Question,
        number: int,
        found: tuple[Selection, Attribution],
        rows: Rows,
        each: int,
        passes: Passes,
    ) -> tuple[Selection, Attribution]:
        """With float64's answer for these samples, and for no other: which one gets must not depend on its company.

        each: bytes that a sample's pass took in float32. As many samples go together as memory allows; all of them
        where samples cannot be taken from the batch.
        """
        selection, answer = found
        target = replace(question.targets[number], index=selection.index, contrast=selection.contrast)
        axes = batch_axes(self.axes, inputs, selection.batch)
        most, mended = max(1, MOST_BYTES // (TIMES * max(each, 1))), answer
        separable = axes is not None and not question.capture and target.batch_axis is not None
        if separable and axes is not None and min(len(rows), most) < selection.batch:
            for start in range(0, len(rows), most):
                some = rows[start : start + most]
                few = {name: np.ascontiguousarray(array.take(some, axes[name])) for name, array in inputs.items()}
                again = self._in_double(few, question._replace(targets=[of_samples(target, some)]))
                if again is None or not same_values(again[1][0][1].explained, answer.explained[some]):
                    break
                mended = put(mended, some, again[1][0][1], {name: BatchLayout(axis) for name, axis in axes.items()})
            else:
                return selection, mended
        again = self._in_double(inputs, question._replace(targets=[target]), passes)
        return selection, answer if again is None else of_all(answer, rows, again[1][0][1])

    def _in_double(
        self, inputs: Mapping[str, Array], question: Question, passes: Passes | None = None
    ) -> Answers | None:
        """The explanations in float64; None where ONNX Runtime cannot compute this model so.

        Relevance that cancels can be many orders of magnitude above the value explained (LRP-prop divides by gate +
        signal, which may be next to nothing), and float32 then loses that value.
        """
        may_take_long()
        try:
            done, answers = self._in_float64(question.method).explain(in_float64(inputs), question, passes)
        except Exception:  # whatever float64 lacks, the answer in float32 stands, its ledger open to see
            return None
        return done.values, answers

    def _in_float64(self, method: Method) -> Engine:
        with self._lock:
            im2col = not (isinstance(method, LRP) and method.bias_factor)
            if im2col not in self._double:
                self._double[im2col] = Engine(to_float64(self.engine.graph, im2col=im2col), self.engine.gates)
            return self._double[im2col]


def wanting(method: Method, answer: Attribution) -> Rows:
    """Samples of which float32 left more than rounding over, and no more than float64 can mend."""
    if not isinstance(method, LRP):
        return NOBODY
    if len(answer.explained) == 1:  # NumPy takes ten times as long over one number
        residual, value = float(answer.ledger.residual[0]), float(answer.explained[0])
        if abs(residual) <= WORST_RESIDUAL * abs(value):
            return NOBODY
    left, explained = np.abs(answer.ledger.residual), np.abs(answer.explained)
    mendable = (WORST_RESIDUAL * explained < left) & (left <= BEYOND_DOUBLE * explained)
    if method.product_rule != "all":  # the way back was in float64: what cancelled there cancels again
        ledger = answer.ledger
        mendable &= left > OF_DOUBLE * np.maximum(np.abs(ledger.inputs), np.abs(ledger.absorbed))
    return np.flatnonzero(~np.isfinite(left) | mendable)


def batch_axes(axes: Mapping[str, Axes], inputs: Mapping[str, Array], batch: int) -> dict[str, int] | None:
    """By input, where the samples lie; None where that is not so of every input."""
    found = {name: axes[name].batch for name in inputs}
    known = {n: a for n, a in found.items() if a is not None and a < inputs[n].ndim and inputs[n].shape[a] == batch}
    return known if len(known) == len(inputs) else None


def same_values(finer: Array, coarse: Array) -> bool:
    """Whether some samples alone have the explained values that they had in the batch."""
    known = np.isfinite(coarse)
    largest = float(np.abs(coarse[known]).max(initial=0.0))
    return bool(np.allclose(finer[known], coarse[known], rtol=1e-2, atol=1e-3 * largest))


def of_all(answer: Attribution, rows: Rows, finer: Attribution) -> Attribution:
    """The answer, with that of `finer`, of the same batch, for the samples `rows`."""
    if len(rows) == len(answer.explained):
        return finer
    if answer.apart and finer.apart:
        chosen = set(rows.tolist())
        return joined([finer.apart[n] if n in chosen else alone for n, alone in enumerate(answer.apart)])
    layouts = {name: layout for name, layout in answer.layouts.items() if layout is not None}
    return put(answer, rows, _taken(finer, rows, layouts), layouts)


def _taken(answer: Attribution, rows: Rows, layouts: Mapping[str, BatchLayout]) -> Attribution:
    """The part of these samples."""

    def few(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {n: _by_sample(a, layouts[n], batch)[:, rows] if n in layouts else a for n, a in arrays.items()}

    batch, ledger = len(answer.explained), answer.ledger
    inputs, states, absorbed, residual = (
        amounts[rows] for amounts in (ledger.inputs, ledger.initial_states, ledger.absorbed, ledger.residual)
    )
    by_node = {name: amounts[rows] for name, amounts in ledger.by_node.items()}
    return replace(
        answer,
        relevance=few(answer.relevance),
        captured=few(answer.captured),
        explained=answer.explained[rows],
        ledger=Ledger(inputs, states, absorbed, residual, by_node),
        peaks={name: np.asarray(peaks)[rows] for name, peaks in answer.peaks.items()},
    )


def _by_sample(array: Array, layout: BatchLayout, batch: int) -> Array:
    """A view [before, batch, after] of a contiguous array."""
    return array.reshape(rows_of(array.shape, layout, batch))


def put(answer: Attribution, rows: Rows, finer: Attribution, layouts: Mapping[str, BatchLayout]) -> Attribution:
    """The answer, with that of `finer`, which is of the samples `rows` alone, in their places.

    Relevance in which samples have no places is zero: nothing has reached it.
    """
    batch = len(answer.explained)

    def placed(old: Mapping[str, Array], new: Mapping[str, Array]) -> dict[str, Array]:
        made = {}
        for name, array in old.items():
            made[name] = np.array(array, np.float64, order="C")
            if name in layouts:
                there = _by_sample(made[name], layouts[name], batch)
                there[:, rows] = new[name].reshape(len(there), len(rows), -1)
        return made

    def in_place(old: Any, new: Any) -> Array:
        made = np.zeros(batch) if old is None else np.array(old, np.float64)
        made[rows] = 0.0 if new is None else new
        return made

    mine, theirs = answer.ledger, finer.ledger
    nodes = dict.fromkeys([*mine.by_node, *theirs.by_node])
    ledger = Ledger(
        in_place(mine.inputs, theirs.inputs),
        in_place(mine.initial_states, theirs.initial_states),
        in_place(mine.absorbed, theirs.absorbed),
        in_place(mine.residual, theirs.residual),
        {name: in_place(mine.by_node.get(name), theirs.by_node.get(name)) for name in nodes},
    )
    inputs = dict.fromkeys([*answer.peaks, *finer.peaks])
    return replace(
        answer,
        relevance=placed(answer.relevance, finer.relevance),
        explained=in_place(answer.explained, finer.explained),
        captured=placed(answer.captured, finer.captured),
        ledger=ledger,
        peaks={name: in_place(answer.peaks.get(name), finer.peaks.get(name)) for name in inputs},
    )
