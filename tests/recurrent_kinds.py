# SPDX-License-Identifier: Apache-2.0
"""Recurrent cells of many kinds, written in primitive operators: unrolled over time, or as the body of a Scan.

A cell maps its builder, the input of a step and its states to the new states, of which the first is read, or to the new
states and the value that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graph_builder import AnyArray, GraphBuilder

WIDTH, HIDDEN, KEYS = 6, 8, 4
Form = Literal["unrolled", "scan", "loop"]


@dataclass(frozen=True)
class Sizes:
    """width: features of a step. hidden: units. keys: states of a selective scan per unit."""

    width: int = WIDTH
    hidden: int = HIDDEN
    keys: int = KEYS


class CellBuilder(GraphBuilder):
    """Writes the operators of a cell. A constant is drawn once for each name, so that all steps share it."""

    def __init__(self, seed: int, sizes: Sizes, prefix: str = "") -> None:
        super().__init__(np.float32, 20)
        self.prefix = prefix  # of the names of its nodes
        self.rng = np.random.default_rng(seed)
        self.drawn: dict[str, AnyArray] = {}
        self.width, self.hidden, self.keys = sizes.width, sizes.hidden, sizes.keys

    def ops(
        self, op_type: str, inputs: Sequence[str], count: int, name: str | None = None, **attributes: Any
    ) -> list[str]:
        return super().ops(
            op_type, inputs, count, name or f"{self.prefix}{op_type.lower()}_{len(self.nodes)}", **attributes
        )

    def draw(self, name: str, make: Callable[[np.random.Generator], AnyArray]) -> str:
        if name not in self.drawn:
            self.drawn[name] = make(self.rng)
        return self.constant(self.drawn[name], name)

    def number(self, value: float) -> str:
        return self.constant(np.array(value), f"number_{value}")

    def weights(self, name: str, rows: int, columns: int) -> str:
        return self.draw(name, lambda rng: rng.standard_normal((rows, columns)) / np.sqrt(rows))

    def vector(self, name: str, size: int, mean: float = 0.0) -> str:
        return self.draw(name, lambda rng: mean + 0.3 * rng.standard_normal(size))

    def times(self, x: str, name: str, rows: int | None = None, columns: int | None = None) -> str:
        """rows: default `width`. columns: default `hidden`."""
        return self.op("MatMul", [x, self.weights(name, rows or self.width, columns or self.hidden)])

    def dense(self, x: str, name: str, rows: int | None = None, columns: int | None = None, bias: float = 0.0) -> str:
        weighted = self.times(x, name, rows, columns)
        return self.op("Add", [weighted, self.vector(f"{name}_bias", columns or self.hidden, bias)])

    def both(self, x: str, h: str, name: str, bias: float = 0.0) -> str:
        """A pre-activation of the input and the hidden state."""
        recurrent = self.times(h, f"{name}_h", self.hidden)
        return self.op(
            "Add", [self.op("Add", [self.times(x, name), recurrent]), self.vector(f"{name}_b", self.hidden, bias)]
        )

    def mul(self, a: str, b: str) -> str:
        return self.op("Mul", [a, b])

    def add(self, a: str, b: str) -> str:
        return self.op("Add", [a, b])

    def sub(self, a: str, b: str) -> str:
        return self.op("Sub", [a, b])

    def of(self, function: str, x: str, **attributes: Any) -> str:
        return self.op(function, [x], **attributes)

    def complement(self, x: str) -> str:
        return self.sub(self.number(1.0), x)

    def blend(self, gate: str, new: str, old: str) -> str:
        return self.add(self.mul(gate, new), self.mul(self.complement(gate), old))


Step = Callable[[CellBuilder, str, list[str]], "tuple[list[str], str]"]


def lstm(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    h, c = states
    i, f, o = (g.of("Sigmoid", g.both(x, h, name, bias)) for name, bias in (("i", 0.0), ("f", 1.0), ("o", 0.0)))
    c = g.add(g.mul(f, c), g.mul(i, g.of("Tanh", g.both(x, h, "g"))))
    h = g.mul(o, g.of("Tanh", c))
    return [h, c], h


def gru(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    z, r = g.of("Sigmoid", g.both(x, states[0], "z")), g.of("Sigmoid", g.both(x, states[0], "r"))
    new = g.of("Tanh", g.both(x, g.mul(r, states[0]), "n"))
    h = g.blend(z, states[0], new)
    return [h], h


def mogrifier(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """Melis et al. 2020 (arXiv 1909.01792): input and state scale each other by 2 sigmoid before the LSTM."""
    h, c = states
    x = g.mul(g.mul(g.number(2.0), g.of("Sigmoid", g.dense(h, "q", g.hidden, g.width))), x)
    h = g.mul(g.mul(g.number(2.0), g.of("Sigmoid", g.dense(x, "r"))), h)
    return lstm(g, x, [h, c])


def multiplicative(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """Wu et al. 2016 (arXiv 1606.06630): pre-activations multiply what comes from the input and from the state."""
    h, c = states

    def pre(name: str, bias: float = 0.0) -> str:
        own, recurrent = g.times(x, name), g.times(h, f"{name}_h", g.hidden)
        met = g.mul(g.vector(f"{name}_alpha", g.hidden, 0.5), g.mul(own, recurrent))
        own, recurrent = (g.mul(g.vector(f"{name}_{v}", g.hidden, 0.7), z) for v, z in (("1", own), ("2", recurrent)))
        return g.add(g.add(met, g.add(own, recurrent)), g.vector(f"{name}_b", g.hidden, bias))

    i, f, o = g.of("Sigmoid", pre("i")), g.of("Sigmoid", pre("f", 1.0)), g.of("Sigmoid", pre("o"))
    c = g.add(g.mul(f, c), g.mul(i, g.of("Tanh", pre("g"))))
    h = g.mul(o, g.of("Tanh", c))
    return [h, c], h


def complex_diagonal(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """LRU (Orvieto et al. 2023, arXiv 2303.06349) and S4D: states are complex, as pairs of real numbers."""
    real, imaginary = states
    size = g.draw("size", lambda rng: rng.uniform(0.7, 0.97, g.hidden))
    angle = g.draw("angle", lambda rng: rng.uniform(0, 1, g.hidden))
    a = g.constant(g.drawn[size] * np.cos(g.drawn[angle]), "a")
    b = g.constant(g.drawn[size] * np.sin(g.drawn[angle]), "b")
    u, v = g.times(x, "u"), g.times(x, "v")
    real, imaginary = (
        g.add(g.sub(g.mul(real, a), g.mul(imaginary, b)), u),
        g.add(g.add(g.mul(real, b), g.mul(imaginary, a)), v),
    )
    read = g.sub(g.times(real, "c_real", g.hidden), g.times(imaginary, "c_imaginary", g.hidden))
    return [real, imaginary], g.of("Gelu", g.add(read, g.times(x, "skip")))


def stabilised(g: CellBuilder, m: str, i: str, f: str) -> tuple[str, str, str]:
    """The exponential gates of xLSTM (Beck et al. 2024, arXiv 2405.04517) in log space: stabiliser, input and forget
    gate.
    """
    log_f = g.of("Neg", g.of("Softplus", g.of("Neg", f)))
    most = g.op("Max", [g.add(log_f, m), i])
    return most, g.of("Exp", g.sub(i, most)), g.of("Exp", g.sub(g.add(log_f, m), most))


def slstm(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    h, c, n, m = states
    m, i, f = stabilised(g, m, g.both(x, h, "i", -1.0), g.both(x, h, "f", 2.0))
    c = g.add(g.mul(f, c), g.mul(i, g.of("Tanh", g.both(x, h, "z"))))
    n = g.add(g.mul(f, n), i)
    h = g.mul(g.of("Sigmoid", g.both(x, h, "o")), g.op("Div", [c, g.op("Max", [n, g.number(1e-6)])]))
    return [h, c, n, m], h


def mlstm(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    matrix, n, m = states
    q, v = g.dense(x, "q"), g.dense(x, "v")
    k = g.mul(g.dense(x, "k"), g.number(g.hidden**-0.5))
    m, i, f = stabilised(g, m, g.dense(x, "i", g.width, 1, -1.0), g.dense(x, "f", g.width, 1, 2.0))
    outer = g.op("MatMul", [g.unsqueeze(v, 2), g.unsqueeze(k, 1)])
    matrix = g.add(g.mul(g.unsqueeze(f, 2), matrix), g.mul(g.unsqueeze(i, 2), outer))
    n = g.add(g.mul(f, n), g.mul(i, k))
    read = g.squeeze(g.op("MatMul", [matrix, g.unsqueeze(q, 2)]), 2)
    total = g.with_axes("ReduceSum", g.mul(n, q), [1], since=13, keepdims=1)
    size = g.op("Max", [g.of("Abs", total), g.of("Exp", g.of("Neg", m))])
    return [matrix, n, m], g.mul(g.of("Sigmoid", g.dense(x, "o")), g.op("Div", [read, size]))


def minlstm(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """Feng et al. 2024 (arXiv 2410.01201): the gates are f / (f + i) and i / (f + i)."""
    f, i = g.of("Sigmoid", g.dense(x, "f", bias=1.0)), g.of("Sigmoid", g.dense(x, "i"))
    total = g.add(f, i)
    kept = g.mul(g.op("Div", [f, total]), states[0])
    h = g.add(kept, g.mul(g.op("Div", [i, total]), g.dense(x, "h")))
    return [h], h


def real_gated(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """RG-LRU (De et al. 2024, arXiv 2402.19427): h = a h + sqrt(1 - a^2) i x, with a = exp(-c r)."""
    r, i = g.of("Sigmoid", g.dense(x, "r")), g.of("Sigmoid", g.dense(x, "i"))
    log_a = g.mul(g.draw("c", lambda rng: -0.2 - np.abs(rng.standard_normal(g.hidden))), r)
    squared = g.of("Exp", g.mul(g.number(2.0), log_a))
    fresh = g.mul(g.of("Sqrt", g.complement(squared)), g.mul(i, g.dense(x, "u")))
    h = g.add(g.mul(g.of("Exp", log_a), states[0]), fresh)
    return [h], h


def exponential_decay(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """h + (1 - exp(-a)) (u - h) with a = softplus(...), as a step over an interval of time."""
    a = g.of("Exp", g.of("Neg", g.of("Softplus", g.dense(x, "a", bias=-1.0))))
    h = g.add(states[0], g.mul(g.complement(a), g.sub(g.dense(x, "u"), states[0])))
    return [h], h


def selective_scan(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """Mamba (Gu and Dao 2023, arXiv 2312.00752), without its convolution."""
    step, u = g.of("Softplus", g.dense(x, "step", bias=-1.0)), g.dense(x, "u")
    write, read = g.dense(x, "write", g.width, g.keys), g.dense(x, "read", g.width, g.keys)
    rates = g.constant(-0.3 * np.ones((g.hidden, 1)) * np.arange(1, g.keys + 1), "rates")
    decay = g.of("Exp", g.mul(g.unsqueeze(step, 2), rates))
    fresh = g.mul(g.mul(g.unsqueeze(step, 2), g.unsqueeze(write, 1)), g.unsqueeze(u, 2))
    h = g.add(g.mul(decay, states[0]), fresh)
    y = g.squeeze(g.op("MatMul", [h, g.unsqueeze(read, 2)]), 2)
    z = g.dense(x, "z")
    return [h], g.mul(g.add(y, g.mul(g.vector("skip", g.hidden, 1.0), u)), g.mul(z, g.of("Sigmoid", z)))


def delta_rule(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """RWKV-7 (Peng et al. 2025, arXiv 2503.14456), without its token shift."""
    r, k, v = (g.dense(x, name) for name in "rkv")
    k, rate = g.of("LpNormalization", k, axis=-1, p=2), g.of("Sigmoid", g.dense(x, "a"))
    decay = g.of("Exp", g.mul(g.number(-0.6), g.of("Sigmoid", g.dense(x, "w"))))
    erased = g.mul(g.op("MatMul", [states[0], g.unsqueeze(k, 2)]), g.unsqueeze(g.mul(rate, k), 1))
    kept = g.sub(g.mul(states[0], g.unsqueeze(decay, 1)), erased)
    state = g.add(kept, g.mul(g.unsqueeze(v, 2), g.unsqueeze(k, 1)))
    return [state], g.squeeze(g.op("MatMul", [state, g.unsqueeze(r, 2)]), 2)


def quasi_recurrent(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """QRNN with fo-pooling (Bradbury et al. 2017, arXiv 1611.01576)."""
    pair = g.op("Concat", [states[1], x], axis=-1)
    z, f, o = (g.dense(pair, name, 2 * g.width, bias=bias) for name, bias in (("z", 0.0), ("f", 1.0), ("o", 0.0)))
    c = g.blend(g.of("Sigmoid", f), states[0], g.of("Tanh", z))
    return [c, g.of("Identity", x)], g.mul(g.of("Sigmoid", o), c)


def simple_recurrent_unit(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """SRU (Lei et al. 2018, arXiv 1709.02755)."""
    gates = []
    for name, bias in (("f", 1.0), ("r", 0.0)):
        own = g.mul(g.vector(f"{name}_v", g.hidden), states[0])
        gates.append(g.of("Sigmoid", g.add(g.dense(x, name, bias=bias), own)))
    c = g.blend(gates[0], states[0], g.times(x, "t"))
    return [c], g.blend(gates[1], c, g.times(x, "highway"))


def decaying_gru(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """GRU-D (Che et al. 2018, arXiv 1606.01865): the state decays by exp(-relu(...)) of the time since the last step,
    which the second half of the features holds.
    """
    half = g.width // 2
    values, since = g.ops("Split", [x, g.ints(half, half)], 2, axis=1)
    decay = g.of("Exp", g.of("Neg", g.of("Relu", g.dense(g.of("Abs", since), "decay", half))))
    h = g.mul(decay, states[0])

    def pre(name: str, state: str) -> str:
        return g.add(g.dense(values, name, half), g.times(state, f"{name}_h", g.hidden))

    z, r = g.of("Sigmoid", pre("z", h)), g.of("Sigmoid", pre("r", h))
    h = g.blend(z, h, g.of("Tanh", pre("t", g.mul(r, h))))
    return [h], h


def liquid(g: CellBuilder, x: str, states: list[str]) -> tuple[list[str], str]:
    """A liquid time-constant cell (Hasani et al. 2021, arXiv 2006.04439), one fused step of its solver."""
    f = g.of("Sigmoid", g.both(x, states[0], "f"))
    reversal = g.draw("reversal", lambda rng: rng.standard_normal(g.hidden))
    moved = g.add(states[0], g.mul(g.number(0.3), g.mul(f, reversal)))
    h = g.op("Div", [moved, g.add(g.number(1.0), g.mul(g.number(0.3), g.add(g.number(1.0), f)))])
    return [h], h


@dataclass(frozen=True)
class Kind:
    """step: the cell. states: the shape of each state, without the samples, by `Sizes` or as numbers. fills: what each
    starts from.
    """

    step: Step
    states: tuple[tuple[str | int, ...], ...]
    fills: tuple[float, ...] = (0.0,) * 4

    def shapes(self, sizes: Sizes) -> list[tuple[int, ...]]:
        return [tuple(n if isinstance(n, int) else getattr(sizes, n) for n in shape) for shape in self.states]


VECTOR, MATRIX = ("hidden",), ("hidden", "hidden")
KINDS = {
    "lstm": Kind(lstm, (VECTOR, VECTOR)),
    "gru": Kind(gru, (VECTOR,)),
    "mogrifier": Kind(mogrifier, (VECTOR, VECTOR)),
    "multiplicative": Kind(multiplicative, (VECTOR, VECTOR)),
    "complex_diagonal": Kind(complex_diagonal, (VECTOR, VECTOR)),
    "slstm": Kind(slstm, (VECTOR,) * 4, (0.0, 0.0, 0.0, -10.0)),
    "mlstm": Kind(mlstm, (MATRIX, VECTOR, (1,))),
    "minlstm": Kind(minlstm, (VECTOR,)),
    "real_gated": Kind(real_gated, (VECTOR,)),
    "exponential_decay": Kind(exponential_decay, (VECTOR,)),
    "selective_scan": Kind(selective_scan, (("hidden", "keys"),)),
    "delta_rule": Kind(delta_rule, (MATRIX,)),
    "quasi_recurrent": Kind(quasi_recurrent, (VECTOR, ("width",))),
    "simple_recurrent_unit": Kind(simple_recurrent_unit, (VECTOR,)),
    "decaying_gru": Kind(decaying_gru, (VECTOR,)),
    "liquid": Kind(liquid, (VECTOR,)),
}


def recurrent_kind(
    name: str, form: Form, steps: int | str = 12, seed: int = 0, sizes: Sizes | None = None
) -> onnx.ModelProto:
    """x [N, steps, width] -> the cell -> a dense layer on what the last step reads -> y [N, 2]."""
    sizes = sizes or Sizes()
    kind, g = KINDS[name], CellBuilder(seed, sizes)
    x = g.input("x", ["N", steps, sizes.width])
    samples = g.op("Shape", [x], start=0, end=1)
    states = []
    for shape, fill in zip(kind.shapes(sizes), kind.fills, strict=False):
        whole = g.op("Concat", [samples, g.ints(*shape)], axis=0)
        value = numpy_helper.from_array(np.array([fill], np.float32))
        states.append(g.op("ConstantOfShape", [whole], value=value))
    read = ""
    if form == "unrolled":
        assert isinstance(steps, int)
        for t in range(steps):
            states, read = kind.step(g, g.op("Gather", [x, g.constant(np.array(t), f"step_{t}")], axis=1), states)
    else:
        outputs = [*(f"last_{i}" for i in range(len(states))), "sequence"]
        if form == "scan":
            body = _body(kind, seed, sizes, [], "x_t")
            node = helper.make_node("Scan", [*states, x], outputs, name="scan", body=body, num_scan_inputs=1,
                                    scan_input_axes=[1], scan_output_axes=[1])  # fmt: skip
        else:
            body = _body(kind, seed, sizes, ["t", "going"], "")
            counts = [g.constant(np.array(steps), "steps"), g.constant(np.array(True), "yes")]
            node = helper.make_node("Loop", [*counts, *states], outputs, name="loop", body=body)
        g.nodes.append(node)
        read = g.op("Gather", ["sequence", g.constant(np.array(-1), "last")], axis=1 if form == "scan" else 0)
    head = np.random.default_rng(seed + 1).standard_normal((sizes.hidden, 2)) / np.sqrt(sizes.hidden)
    return g.model(g.op("MatMul", [read, g.constant(head, "head")]), ["N", 2])


def _body(kind: Kind, seed: int, sizes: Sizes, counters: list[str], taken: str) -> onnx.GraphProto:
    """counters: the number of the iteration, and whether it runs, for a Loop. taken: the input of a step, for a Scan; a
    Loop reads x.
    """
    g = CellBuilder(seed, sizes, "cell_")
    states = [f"state_{i}" for i in range(len(kind.states))]
    x = taken or g.op("Gather", ["x", counters[0]], axis=1)
    new, read = kind.step(g, x, states)
    new = [g.of("Identity", state) for state in new]
    read = g.of("Identity", read)

    def values(names: list[str], shapes: list[tuple[int, ...]]) -> list[onnx.ValueInfoProto]:
        pairs = zip(names, shapes, strict=True)
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]) for name, shape in pairs]

    shapes = kind.shapes(sizes)
    inputs, outputs = values(states, shapes), values([*new, read], [*shapes, (sizes.hidden,)])
    if taken:
        inputs += values([taken], [(sizes.width,)])
    else:
        kinds = (TensorProto.INT64, TensorProto.BOOL)
        given = [helper.make_tensor_value_info(name, k, []) for name, k in zip(counters, kinds, strict=True)]
        inputs = [*given, *inputs]
        outputs = [helper.make_tensor_value_info(g.of("Identity", counters[1]), kinds[1], []), *outputs]
    return helper.make_graph(g.nodes, "cell", inputs, outputs, list(g.initializers.values()))
