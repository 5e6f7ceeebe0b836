"""The straight way to an explanation, for requests of a kind that has come before.

One sample, one position of one output, a method that walks back, inputs of shapes seen before: then everything that
does not depend on the numbers is known, and what is left is little more than the kernels. Whatever is unusual (bad
input, a residual that float64 should mend) is left to the general way, `Model.explain`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.engine import Engine
from lstm_explain.explanation import Explanation, explanation_of
from lstm_explain.finer import wanting
from lstm_explain.inputs import TensorSpec, sound
from lstm_explain.kernels import sums
from lstm_explain.ledger import Ledger
from lstm_explain.methods.propagation import Answer, Context, walked
from lstm_explain.plan.compile import Plan
from lstm_explain.plan.forward import Advance, Pass, go, written_out
from lstm_explain.plan.head import Head
from lstm_explain.plan.replay import Replay, replay_of
from lstm_explain.plan.terms import Terms, scale, terms
from lstm_explain.spec.method import LRP, Gradient, GradientTimesInput, Method
from lstm_explain.target import Target, select
from lstm_explain.watch import part

MOST_KINDS = 512  # sequences of so many lengths, by one method
Array = npt.NDArray[Any]


def kind_of(specs: Mapping[str, TensorSpec], inputs: Any, method: Method, target: Target) -> Hashable:
    """What the way depends on; None for what has none."""
    try:
        if target.batch_axis != 0 or target.contrast is not None or target.weights is not None:
            return None
        return (method, target.output, target.pre_activation, *[inputs[name].shape for name in specs])
    except (AttributeError, KeyError, TypeError):  # not what it should be: the general way tells what is wrong
        return None


class Ways:
    """The straight ways of one model, by kind of request. A kind gets one when it comes a second time."""

    def __init__(self) -> None:
        self._ways: dict[Hashable, Straight | None] = {}
        self._seen: set[Hashable] = set()

    def get(self, kind: Hashable) -> Straight | None:
        try:
            return self._ways.get(kind)
        except TypeError:  # a method may hold arrays, and has no hash
            return None

    def wants(self, kind: Hashable) -> bool:
        """Whether `kind` has come before, and nobody has looked for its way."""
        try:
            if kind is None or kind in self._ways:
                return False
        except TypeError:
            return False
        if len(self._seen) >= MOST_KINDS:
            self._ways.clear()
            self._seen.clear()
        before = kind in self._seen
        self._seen.add(kind)
        return before

    def put(self, kind: Hashable, way: Straight | None) -> None:
        self._ways[kind] = way


@dataclass(frozen=True)
class Asked:
    """inputs, outputs: of the model; single: whether those are of float32. head: what is explained for `output`."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    single: bool
    method: Method
    output: str
    head: Head


@dataclass(frozen=True, eq=False)
class Straight:
    """One kind of request. width: of the output, [1, width]. dtype: of the way back. terms: by position."""

    asked: Asked
    plan: Plan
    advances: Sequence[Advance]
    replay: Replay
    width: int
    dtype: np.dtype[np.floating[Any]]
    terms: dict[int, Terms] = field(default_factory=dict)

    def explain(self, inputs: Mapping[str, Array], target: Target) -> Explanation | None:
        """inputs: arrays of the shapes of this way's kind. None: the general way has to be gone."""
        asked, at = self.asked, target.index
        if len(inputs) != len(asked.inputs):
            return None
        if at is not None:
            at = _whole_number(at)
            if at is None or not -self.width <= at < self.width:
                return None
        for name, spec in asked.inputs.items():
            if inputs[name].dtype != spec.dtype or not sound(inputs[name]):
                return None
        with np.errstate(all="ignore"):
            try:
                done = self._forward(inputs)
            except Exception:  # the general way tells what is wrong
                return None
            output = done.values[asked.output]
            if output.shape != (1, self.width):
                return None
            at = int(output.argmax()) if at is None else at % self.width
            answer = self._back(done, at)
            if answer is None or len(wanting(asked.method, answer)):
                return None
        resolved = Target(asked.output, np.array([[at]]), 0, None, None, target.pre_activation)
        return explanation_of(
            answer,
            asked.outputs,
            done.values,
            asked.method,
            resolved,
            single=asked.single,
            quantity=asked.head.quantity,
        )

    @part("forward")
    def _forward(self, inputs: Mapping[str, Array]) -> Pass:
        return go(self.plan, self.advances, inputs)

    @part("backward")
    def _back(self, done: Pass, at: int) -> Answer | None:
        head, method = self.asked.head.value, self.asked.method
        value = done.values[head]
        number = value[0, at].item()
        seed = np.zeros(value.shape, self.dtype)
        seed[0, at] = number if isinstance(method, LRP) else 1
        course = self.replay.run(done, head, seed)
        if course is None:
            return None
        relevance, peaks, total = {}, {}, 0.0
        for name in self.asked.inputs:
            array = course.arrived.get(name)
            if array is None:
                relevance[name] = np.zeros(done.values[name].shape, self.dtype)
                continue
            if isinstance(method, GradientTimesInput):
                array = array * done.values[name]
            relevance[name] = array = np.asarray(array, order="C")
            flat = array.ravel()
            peaks[name] = (sums.largest(flat),)
            total += sums.total(flat)
        states = 0.0 if course.states is None else course.states.item()
        absorbed = sum([kept.item() for kept in course.absorbed.values()])
        account = (total, states, absorbed, number - total - states - absorbed)
        ledger = Ledger(*[np.array((amount,)) for amount in account], course.absorbed)  # type: ignore[call-arg, arg-type]
        return Answer(relevance, np.array((number,)), {}, ledger, peaks, lambda: self._scale(done, at))

    def _scale(self, done: Pass, at: int) -> Array:
        """As `scale`, of terms that are looked up where they do not depend on the request."""
        head, values, known = self.asked.head.value, done.values, self.terms.get(at)
        if known is not None:
            return np.maximum(known.magnitude(values, 1), sums.largest(values[head].ravel()))
        weights = np.zeros((1, self.width), values[head].dtype)
        weights[0, at] = 1
        with suppress(KeyError, AssertionError):
            found = terms(self.plan, values, head, weights, None, 1)
            if found.steady and len(self.terms) < MOST_KINDS:
                self.terms[at] = found
        return scale(self.plan, values, head, weights, None, 1)


def _whole_number(index: Any) -> int | None:
    """A position on the one axis that is not the batch's, as a number; None: it is no single one."""
    if type(index) is int:
        return index
    try:
        array = np.asarray(index)
    except ValueError:  # ragged
        return None
    return int(array.item()) if array.size == 1 and array.dtype.kind in "iu" else None


def way_of(asked: Asked, engine: Engine, inputs: Mapping[str, Array], target: Target) -> Straight | None:
    """The way of requests like this one, which has been answered; inputs: as `check_inputs` gives them."""
    method, head, output = asked.method, asked.head, asked.output
    if head.views or not isinstance(method, (LRP, Gradient, GradientTimesInput)):
        return None
    with np.errstate(all="ignore"):
        plan = engine.plan(head, method, ())
        done = engine.forward(plan, inputs)
        shown = done.values[output]
        if shown.ndim != 2 or len(shown) != 1 or shown.shape != done.values[head.value].shape:
            return None
        context = Context(plan, head, engine.cells, done, list(inputs), [])
        walk = walked(context, method, select(target, shown, output))
    replay = replay_of(walk)
    if replay is None:
        return None
    return Straight(asked, plan, written_out(plan, engine.cells, done), replay, shown.shape[1], walk.dtype)
