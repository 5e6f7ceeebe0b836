# SPDX-License-Identifier: Apache-2.0
"""A recurrent node: from the ONNX operator to the kernels of its directions and back."""

from __future__ import annotations

from abc import ABC
from collections.abc import Container, Mapping, Sequence
from typing import ClassVar

import numpy as np

from lstm_explain.cancellation import NEVER, raise_if_stopped, stop_flag
from lstm_explain.errors import InputError
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.kernels.compilation import NotCompiled
from lstm_explain.kernels.scalar_functions import DEFAULTS
from lstm_explain.methods import LRP
from lstm_explain.operators.direction import Direction, InPlaceOfKernels
from lstm_explain.operators.tape import (
    Back,
    BackwardResult,
    Lengths,
    Run,
    SavedTensors,
    Tape,
    all_of,
    longest_first,
    zeros,
)
from lstm_explain.threads import in_threads, threads


class Recurrent(ABC):
    """One recurrent node. Directions are run one after the other, each by the kernels of `Direction`."""

    gates: ClassVar[int]
    state_slots: ClassVar[tuple[int, ...]]  # inputs that hold initial states

    def __init__(self, node: Node, graph: Graph) -> None:
        weights = [graph.constants[node.inputs[slot]] for slot in (1, 2)]
        self.dtype = np.dtype(np.float64 if weights[0].dtype == np.float64 else np.float32)
        W, R = (np.asarray(w, self.dtype) for w in weights)
        directions, rows, self.features = W.shape
        self.hidden = rows // self.gates
        B = np.zeros((directions, 2 * rows)) if not node.input(3) else graph.constants[node.inputs[3]]
        self.node = node
        self.given = tuple(slot for slot in self.state_slots if node.input(slot))
        self.reads = tuple(slot for slot in (0, 4, *self.state_slots) if node.input(slot))
        self.named = [(slot, name) for slot, name in enumerate(node.outputs) if name]
        self.batch_first = node.attribute("layout", 0) == 1
        self.out_dtype = weights[0].dtype
        names = _activations(node, self.default_activations, directions)
        kind = node.attribute("direction", "forward")
        self.directions = []
        for d in range(directions):
            peepholes = np.zeros((0, self.hidden))
            if node.input(7):
                peepholes = graph.constants[node.inputs[7]][d].reshape(3, self.hidden)
            count = len(self.default_activations)
            self.directions.append(
                self.direction(
                    W[d],
                    R[d],
                    np.asarray(B[d], self.dtype),
                    np.asarray(peepholes, self.dtype),
                    names[d * count : (d + 1) * count],
                    node,
                    reverse=kind == "reverse" or d == 1,
                )
            )

    default_activations: ClassVar[tuple[str, ...]]
    direction: ClassVar[type[Direction]]
    in_place: ClassVar[InPlaceOfKernels]

    def forward_run(self, values: Mapping[int, Array], keep: SavedTensors) -> tuple[Run, Array]:
        """Returns the function of `ready` and its argument x. values: the node's inputs at `reads`, by slot. Raises
        InputError for shapes that do not fit.
        """
        x, lens, states = self._checked(values)
        return self.ready(len(x), lens, states, keep), x

    def predict(self, values: Mapping[int, Array], distance: int, wanted: Container[str]) -> dict[str, Array]:
        """Returns the outputs that are wanted, by name, and saves nothing.

        distance: between samples in a batch of copies that may begin alike; such prefixes run once.
        """
        x, lens, states = self._checked(values)
        steps, batch, _ = x.shape
        if not steps:
            return self.ready(steps, lens, states, SavedTensors.SLOPES)(x)[0]
        count, named = len(self.directions), [(slot, name) for slot, name in self.named if name in wanted]
        wants_all = any(slot == 0 for slot, _ in named)
        room = np.empty if lens.whole else np.zeros  # after the end of a sequence, and for one without steps
        hidden = [room((steps, batch, self.hidden) if wants_all else (0, 0, 0), self.dtype) for _ in range(count)]
        last = [[room((batch, self.hidden), self.dtype) for _ in self.state_slots] for _ in range(count)]
        stop = stop_flag()
        parts = np.array_split(neighbours(batch, distance), min(threads(), batch))

        def run(d: int, part: Array) -> None:
            arguments = x, states[d], lens, part, hidden[d], last[d]
            try:
                self.directions[d].predict(*arguments, stop)
            except NotCompiled:
                self.in_place.predict(self.directions[d], *arguments)

        in_threads(run, [(d, part) for d in range(count) for part in parts])
        raise_if_stopped()
        return {
            name: self._as_declared(
                _stack(hidden, axis=1) if slot == 0 else _stack([of[slot - 1] for of in last], axis=0), slot
            )
            for slot, name in named
        }

    def _as_declared(self, value: Array, slot: int) -> Array:
        """Returns an output in the layout and type of the node."""
        if self.batch_first:
            value = value.transpose(2, 0, 1, 3) if slot == 0 else value.swapaxes(0, 1)
        return value.astype(self.out_dtype, copy=False)

    def _checked(self, values: Mapping[int, Array]) -> tuple[Array, Lengths, list[list[Array]]]:
        """Returns the arguments of `ready`. x is contiguous and writable."""
        x = np.asarray(values[0], self.dtype)
        if x.ndim != 3 or x.shape[2] != self.features:
            raise self._misfit("X", x.shape, ("time", "batch", self.features))
        x = np.ascontiguousarray(x.swapaxes(0, 1) if self.batch_first else x)
        x = _writable(x)
        steps, batch, _ = x.shape
        if not batch:
            raise InputError(f"node {self.node.name!r} ({self.node.op}): X has shape {x.shape}, which holds no sample")
        lens = self._lengths(values.get(4), steps, batch)
        states = [self._state(values.get(slot), batch) for slot in self.state_slots]
        return x, lens, self._by_direction(states)

    def of_full_length(self, steps: int, batch: int, states: Mapping[int, Array]) -> tuple[Lengths, list[list[Array]]]:
        """Returns the arguments of `ready` for sequences of full length. states: the initial ones by slot; zeros where
        there is none.
        """
        initial = [self._state(states.get(slot), batch) for slot in self.state_slots]
        return all_of(steps, batch), self._by_direction(initial)

    def _by_direction(self, states: list[Array]) -> list[list[Array]]:
        return [[state[d] for state in states] for d in range(len(self.directions))]

    def ready(self, steps: int, lens: Lengths, states: list[list[Array]], keep: SavedTensors) -> Run:
        """Returns a function of x [T, B, D], which must be contiguous and writable. It returns every output that the
        node names, and one tape per direction.

        states: by direction, [B, H]. The arguments must have been checked.
        """
        runs = [direction.ready(steps, lens, keep) for direction in self.directions]
        named = self.named
        declared = not self.batch_first and self.dtype == self.out_dtype  # as the kernels return them

        def run(x: Array) -> tuple[dict[str, Array], list[Tape]]:
            stop = stop_flag()
            try:
                if len(runs) == 1:
                    ran = [runs[0](x, states[0], stop)]
                elif side_by_side(lens):
                    ran = in_threads(lambda d: runs[d](x, states[d], stop), [(0,), (1,)])
                else:
                    ran = [runs[0](x, states[0], stop), runs[1](x, states[1], stop)]
            except NotCompiled:
                ran = [
                    self.in_place.forward(direction, x, initial, lens, keep)
                    for direction, initial in zip(self.directions, states, strict=True)
                ]
            if stop is not NEVER:
                raise_if_stopped()
            outputs: dict[str, Array] = {}
            for slot, name in named:
                if slot:
                    value = _stack([last[slot - 1] for _, last in ran], axis=0)
                else:
                    value = _stack([tape.hidden for tape, _ in ran], axis=1)
                outputs[name] = value if declared else self._as_declared(value, slot)
            return outputs, [tape for tape, _ in ran]

        return run

    def _state(self, value: Array | None, batch: int) -> Array:
        expected = (len(self.directions), batch, self.hidden)
        if value is None:
            return zeros(expected, self.dtype)
        value = np.asarray(value, self.dtype)
        value = value.swapaxes(0, 1) if self.batch_first and value.ndim == 3 else value
        if value.shape != expected:
            raise self._misfit("initial state", value.shape, expected)
        return np.array(value, order="C")  # a writable copy

    def _lengths(self, value: Array | None, steps: int, batch: int) -> Lengths:
        """Checks the arguments that determine which memory the kernels access, since kernels do no bounds checks."""
        if value is None:
            return all_of(steps, batch)
        if value.shape != (batch,):
            raise self._misfit("sequence_lens", value.shape, (batch,))
        if value.min() < 0 or value.max() > steps:
            raise InputError(
                f"node {self.node.name!r} ({self.node.op}): sequence lengths from {value.min()} to {value.max()}, "
                f"expected 0 to {steps}"
            )
        lens = np.ascontiguousarray(value, np.int64)
        return Lengths(lens, bool((lens == steps).all()), longest_first(lens))

    def _misfit(self, what: str, actual: tuple[int, ...], expected: tuple[object, ...]) -> InputError:
        return InputError(f"node {self.node.name!r} ({self.node.op}): {what} has shape {actual}, expected {expected}")

    def ready_back(self, tapes: list[Tape], lrp: LRP | None, passes: int = 1) -> Back:
        """Returns a function of tapes like these and of the relevance that arrives at each output (None: none). It
        returns the relevance of the inputs; gradients without `lrp`.

        passes: from how many targets it begins; their samples lie one pass after the other.
        """
        lens = tapes[0].lens if passes == 1 else tapes[0].lengths_of(passes)
        dtype, steps, one = tapes[0].dtype, len(tapes[0].x), len(tapes) == 1
        backs = [direction.ready_back(steps, lens, dtype, lrp) for direction in self.directions]
        nothing, shape, whole = zeros((0, 0, 0), dtype), (len(lens.steps), self.hidden), lens.whole
        spreads = lrp is not None and lrp.bias_factor > 0  # states that start from zeros receive nothing otherwise
        states = [(slot, self.state_slots.index(slot)) for slot in (self.state_slots if spreads else self.given)]

        def of_direction(
            d: int, tape: Tape, arriving: list[Array | None], lost: Array, stop: Array
        ) -> tuple[Array, list[Array]]:
            y, *ends = arriving
            r_y, r_ends = nothing if y is None else _writable(np.ascontiguousarray(y[:, d], dtype)), []
            for end in ends:  # in arrays that a kernel may write to
                if end is None:
                    r_ends.append(np.zeros(shape, dtype))
                else:
                    r_ends.append((end[d] if whole else end[d] * (lens.steps > 0)[:, None]).astype(dtype, "C"))
            if tape.complete:
                try:
                    return backs[d](tape, r_y, r_ends, lost, stop), r_ends
                except NotCompiled:  # nothing has been overwritten
                    pass
            return self.in_place.backward(self.directions[d], lrp, tape, lens, r_y, r_ends, lost), r_ends

        def back(tapes: list[Tape], arriving: list[Array | None]) -> BackwardResult:
            stop = stop_flag()
            if self.batch_first:
                y, *ends = arriving
                arriving = [None if y is None else y.transpose(1, 2, 0, 3)]
                arriving += [None if e is None else e.swapaxes(0, 1) for e in ends]
            lost = [np.zeros(len(lens.steps)) for _ in tapes]
            if not one and side_by_side(lens):
                parts = in_threads(of_direction, [(d, tapes[d], arriving, lost[d], stop) for d in range(2)])
            else:
                parts = [of_direction(0, tapes[0], arriving, lost[0], stop)]
                if not one:
                    parts.append(of_direction(1, tapes[1], arriving, lost[1], stop))
            if stop is not NEVER:
                raise_if_stopped()
            inputs = {0: parts[0][0] if one else parts[0][0] + parts[1][0]}
            for slot, at in states:
                inputs[slot] = _stack([ends[at] for _, ends in parts], axis=0)
            absorbed = lost[0] if one else lost[0] + lost[1]
            if self.batch_first:
                inputs = {slot: r.swapaxes(0, 1) for slot, r in inputs.items()}
            return BackwardResult(inputs, absorbed if whole else absorbed + self._past_the_end(arriving, lens))

        return back

    def backward_together(
        self, tapes: list[Tape], arriving: list[list[Array | None]], lrp: LRP | None
    ) -> list[BackwardResult]:
        """Runs the backward pass from several targets, stacked as if they were further samples."""
        count, batch = len(arriving), len(tapes[0].lens.steps)
        if count == 1:
            return [self.ready_back(tapes, lrp)(tapes, arriving[0])]
        stacked = [self._side_by_side(parts, output) for output, parts in enumerate(zip(*arriving, strict=True))]
        flow = self.ready_back(tapes, lrp, count)(tapes, stacked)
        before = (slice(None),) * (0 if self.batch_first else 1)
        parts = [slice(start, start + batch) for start in range(0, count * batch, batch)]
        return [
            BackwardResult({slot: a[(*before, p)] for slot, a in flow.inputs.items()}, flow.absorbed[p]) for p in parts
        ]

    def _side_by_side(self, parts: Sequence[Array | None], output: int) -> Array | None:
        """Returns the relevance of all targets that arrives at one output."""
        there = [part for part in parts if part is not None]
        if not there:
            return None
        axis = 0 if self.batch_first else (2 if output == 0 else 1)
        return np.concatenate([np.zeros_like(there[0]) if part is None else part for part in parts], axis)

    def _past_the_end(self, arriving: list[Array | None], lens: Lengths) -> Array:
        """Returns an array [batch]: the relevance of outputs that are zero because their sequence has ended; no
        input can receive it.
        """
        lost, (y, *ends) = np.zeros(len(lens.steps), self.dtype), arriving
        if y is not None:
            y = np.ascontiguousarray(y)  # NumPy adds in another order where the layout differs
            lost += np.where(lens.over(len(y)), y.sum(axis=(1, 3)), 0).sum(axis=0)
        for end in ends:
            if end is not None:
                lost += np.where(lens.steps == 0, np.ascontiguousarray(end).sum(axis=(0, 2)), 0)
        return lost


def neighbours(batch: int, distance: int) -> Array:
    """Returns the samples in an order in which those at this distance are neighbours."""
    numbers = np.arange(batch)
    return np.ascontiguousarray(numbers.reshape(-1, distance).T).ravel() if batch % distance == 0 else numbers


def side_by_side(lens: Lengths) -> bool:
    """Returns whether both directions run in parallel, because there are too few samples to occupy all threads."""
    return threads() > 1 and len(lens.parts) == 1


def _writable(array: Array) -> Array:
    """Makes the array writable, since the kernels are compiled for writable arrays."""
    return array if array.flags.writeable else array.copy()


def _stack(parts: list[Array], axis: int) -> Array:
    """Does what `np.stack` does, in half the time, and without a copy where there is only one part."""
    if len(parts) == 1:
        return parts[0][None] if axis == 0 else parts[0][:, None]
    return np.concatenate([part[None] if axis == 0 else part[:, None] for part in parts], axis)


def _activations(node: Node, default: tuple[str, ...], directions: int) -> list[tuple[str, float, float]]:
    """Returns name, alpha and beta of each activation, for all directions one after the other.

    ONNX lists alphas and betas in order, only for the activations that take one.
    """
    names = [n.lower() for n in node.attribute("activations") or default * directions]
    alphas, betas = (list(node.attribute(a) or []) for a in ("activation_alpha", "activation_beta"))
    result = []
    for name in names:
        alpha, beta = DEFAULTS.get(name, (0.0, 0.0))
        if name in DEFAULTS and alphas:
            alpha = alphas.pop(0)
        if name in ("affine", "scaledtanh", "hardsigmoid") and betas:
            beta = betas.pop(0)
        result.append((name, float(alpha), float(beta)))
    return result
