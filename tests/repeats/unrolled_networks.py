# SPDX-License-Identifier: Apache-2.0
"""Unrolled networks as exporters write them, with everything that may differ from step to step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import onnx

from tests.graph_builder import GraphBuilder

WIDTH, HIDDEN = 3, 5
Taking = Literal["gather", "gather one", "slice", "split"]
Cell = Callable[["Unrolled", str, str, str], str]  # the builder, the name of the weights, x_t, h -> h


class Unrolled(GraphBuilder):
    def __init__(self, steps: int, batch: int | str = "N", opset: int = 17) -> None:
        super().__init__(np.float32, opset)
        self.rng, self.steps, self.batch = np.random.default_rng(0), steps, batch
        self.x = self.input("x", [batch, steps, WIDTH])

    def weights(self, name: str, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape) / np.sqrt(shape[0]), name)

    def zeros(self) -> str:
        if self.batch != "N":
            return self.constant(np.zeros((int(self.batch), HIDDEN)), "zeros")
        rows = self.op("Gather", [self.op("Shape", [self.x]), self.ints(0)], axis=0)
        return self.op("ConstantOfShape", [self.op("Concat", [rows, self.ints(HIDDEN)], axis=0)])

    def steps_of(self, x: str, taking: Taking = "gather") -> list[str]:
        """Returns the steps of x [N, steps, …]."""
        if taking == "split":
            return [self.squeeze(part, 1) for part in self.split(x, self.steps, 1, axis=1)]
        return [self._step(x, t, taking) for t in range(self.steps)]

    def _step(self, x: str, t: int, taking: Taking) -> str:
        if taking == "gather":
            return self.op("Gather", [x, self.constant(np.array(t), f"step_{t}")], axis=1)
        if taking == "gather one":
            return self.squeeze(self.op("Gather", [x, self.ints(t)], axis=1), 1)
        return self.squeeze(self.op("Slice", [x, self.ints(t), self.ints(t + 1), self.ints(1), self.ints(1)]), 1)

    def run(self, cell: Cell, name: str, xs: list[str], h: str | None = None, backwards: bool = False) -> list[str]:
        """Returns the states after each step, in the order of time."""
        h, found = h or self.zeros(), list[str]()
        for x in xs[::-1] if backwards else xs:
            h = cell(self, name, x, h)
            found.append(h)
        return found[::-1] if backwards else found

    def stacked(self, steps: list[str]) -> str:
        return self.op("Concat", [self.unsqueeze(step, 1) for step in steps], axis=1)

    def with_head(self, h: str, width: int = HIDDEN) -> onnx.ModelProto:
        return self.model(self.op("MatMul", [h, self.weights("head", width, 2)]), [self.batch, 2])


def gated(g: Unrolled, name: str, x: str, h: str, width: int = WIDTH) -> str:
    """z h + (1 - z) tanh(x U + h R), with z = sigmoid(x V + h S + b)."""
    new = g.op("Tanh", [_sum(g, f"{name}_n", x, h, width)])
    gate = g.op("Sigmoid", [g.op("Add", [_sum(g, f"{name}_z", x, h, width), g.weights(f"{name}_b", HIDDEN)])])
    other = g.op("Sub", [g.constant(np.array(1.0), "one"), gate])
    return g.op("Add", [g.op("Mul", [gate, h]), g.op("Mul", [other, new])])


def _sum(g: Unrolled, name: str, x: str, h: str, width: int) -> str:
    products = [g.op("MatMul", [x, g.weights(f"{name}_x", width, HIDDEN)]),
                g.op("MatMul", [h, g.weights(f"{name}_h", HIDDEN, HIDDEN)])]  # fmt: skip
    return g.op("Add", products)


def upper(g: Unrolled, name: str, x: str, h: str) -> str:
    return gated(g, name, x, h, HIDDEN)


def joined(g: Unrolled, name: str, x: str, h: str) -> str:
    return gated(g, name, x, h, 2 * HIDDEN)


def solver(g: Unrolled, name: str, x: str, h: str) -> str:
    """Three steps of a solver, which use the same weights."""
    given = g.op("MatMul", [x, g.weights(f"{name}_x", WIDTH, HIDDEN)])
    for _ in range(3):
        moved = g.op("Tanh", [g.op("Add", [given, g.op("MatMul", [h, g.weights(f"{name}_h", HIDDEN, HIDDEN)])])])
        h = g.op("Add", [g.op("Mul", [h, g.constant(np.array(0.7), "kept")]), moved])
    return h


def plain(steps: int, taking: Taking, batch: int | str, opset: int) -> onnx.ModelProto:
    g = Unrolled(steps, batch, opset)
    return g.with_head(g.run(gated, "cell", g.steps_of(g.x, taking))[-1])


def layers(steps: int) -> onnx.ModelProto:
    """Step by step, and the mean over the states of both layers at the end."""
    g = Unrolled(steps)
    lower = g.run(gated, "lower", g.steps_of(g.x))
    both = [g.stacked(states) for states in (lower, g.run(upper, "upper", lower))]
    means = [g.reduce("mean", states, 1, f"mean_{i}") for i, states in enumerate(both)]
    return g.with_head(g.op("Concat", means, axis=1), 2 * HIDDEN)


def both_directions(steps: int, layered: bool = True) -> onnx.ModelProto:
    g = Unrolled(steps)
    xs = g.steps_of(g.x)
    forward, backward = g.run(gated, "f", xs), g.run(gated, "b", xs, backwards=True)
    if layered:
        xs = [g.op("Concat", pair, axis=1) for pair in zip(forward, backward, strict=True)]
        forward, backward = g.run(joined, "f2", xs), g.run(joined, "b2", xs, backwards=True)
    return g.with_head(g.op("Concat", [forward[-1], backward[0]], axis=1), 2 * HIDDEN)


def over_a_stack(steps: int) -> onnx.ModelProto:
    """The second layer reads its steps from the stacked states of the first, which runs from the end."""
    g = Unrolled(steps)
    stack = g.stacked(g.run(gated, "first", g.steps_of(g.x), backwards=True))
    return g.with_head(g.run(upper, "second", g.steps_of(stack))[-1])


def with_positions(steps: int) -> onnx.ModelProto:
    """Each step adds an encoding of its position and drops a part of the state."""
    g = Unrolled(steps)
    h = g.zeros()
    for t, x in enumerate(g.steps_of(g.x)):
        x = g.op("Add", [x, g.constant(np.sin(t + np.arange(WIDTH)), f"position_{t}")])
        h = g.op("Mul", [gated(g, "cell", x, h), g.constant(np.array(0.9 + 0.1 * (t % 2)), f"kept_{t}")])
    return g.with_head(h)


def towers(steps: int) -> onnx.ModelProto:
    """The same cell runs over x and over -x, their steps interleaved."""
    g = Unrolled(steps)
    xs, ys = g.steps_of(g.x), g.steps_of(g.op("Tanh", [g.x]))
    h, k = g.zeros(), g.zeros()
    for x, y in zip(xs, ys, strict=True):
        h, k = gated(g, "cell", x, h), gated(g, "cell", y, k)
    return g.with_head(g.op("Mul", [h, k]))


def solved(steps: int) -> onnx.ModelProto:
    g = Unrolled(steps)
    return g.with_head(g.run(solver, "cell", g.steps_of(g.x))[-1])


def every_step_read(steps: int) -> onnx.ModelProto:
    """Sums over some steps of what a dense layer reads of the state, at odd places."""
    g = Unrolled(steps)
    states = g.run(gated, "cell", g.steps_of(g.x))
    read = [g.op("MatMul", [h, g.weights("read", HIDDEN, HIDDEN)]) for h in states]
    total = read[0]
    for value in [*read[3:9:2], states[5], states[-2], *read[-1:]]:
        total = g.op("Add", [total, value])
    return g.with_head(total)


def one_step_differs(steps: int) -> onnx.ModelProto:
    """In the middle, one step multiplies by other weights."""
    g = Unrolled(steps)
    xs, half = g.steps_of(g.x), steps // 2
    before = g.run(gated, "cell", xs[:half])[-1]
    between = g.run(gated, "another", xs[half : half + 1], before)[-1]
    return g.with_head(g.run(gated, "cell", xs[half + 1 :], between)[-1])


def through_a_decoder(steps: int) -> onnx.ModelProto:
    """A decoder with other weights starts from the encoder's last state, which each of its steps reads too."""
    g = Unrolled(steps)
    xs = g.steps_of(g.x)
    context = g.run(gated, "encoder", xs)[-1]
    joined_inputs = [g.op("Add", [context, g.op("MatMul", [x, g.weights("in", WIDTH, HIDDEN)])]) for x in xs]
    return g.with_head(g.run(upper, "decoder", joined_inputs, context)[-1])


def gate_around(steps: int) -> onnx.ModelProto:
    """The input gate is computed once, from the mean over the steps, as in an entity-aware LSTM."""
    g = Unrolled(steps)
    gate = g.op("Sigmoid", [g.op("MatMul", [g.reduce("mean", g.x, 1, "mean"), g.weights("gate", WIDTH, HIDDEN)])])
    h = g.zeros()
    for x in g.steps_of(g.x):
        new = g.op("Tanh", [_sum(g, "cell", x, h, WIDTH)])
        h = g.op("Add", [g.op("Mul", [h, g.constant(np.array(0.7), "kept")]), g.op("Mul", [gate, new])])
    return g.with_head(h)


def masked(steps: int) -> onnx.ModelProto:
    """Where an input of bools says no, the state stays as it is."""
    g = Unrolled(steps)
    mask, h = g.input("mask", [g.batch, steps], onnx.TensorProto.BOOL), g.zeros()
    for t, x in enumerate(g.steps_of(g.x)):
        taken = g.unsqueeze(g.op("Gather", [mask, g.constant(np.array(t), f"step_{t}")], axis=1), 1)
        h = g.op("Where", [taken, gated(g, "cell", x, h), h])
    return g.with_head(h)
