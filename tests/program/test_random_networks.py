# SPDX-License-Identifier: Apache-2.0
"""Random chains of operators around an LSTM obey the laws of the single operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx

AnyArray = npt.NDArray[Any]
TIME, FEATURES, BATCH = 5, 4, 3
FIXED = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


class Chain:
    """A model of x [N, TIME, FEATURES]; every value on the way is [N, TIME, something].

    nodes_for_constants: constants as Constant nodes instead of initializers. gemm: dense layers as Gemm over rows.
    cells: a bidirectional LSTM in the middle as "one" node, as "two" of one direction, or "unrolled"; one direction
    where it is not given. time_first: x is [TIME, N, FEATURES].
    """

    def __init__(
        self,
        opset: int,
        *,
        nodes_for_constants: bool = False,
        gemm: bool = False,
        cells: str = "",
        time_first: bool = False,
    ) -> None:
        self.opset, self.nodes_for_constants, self.gemm = opset, nodes_for_constants, gemm
        self.cells, self.time_first = cells, time_first
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(1)

    def const(self, array: AnyArray) -> str:
        name = f"c{len(self.nodes)}_{len(self.constants)}"
        tensor = numpy_helper.from_array(array, name)
        if self.nodes_for_constants:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.constants.append(tensor)
        return name

    def weights(self, *shape: int) -> str:
        return self.const((self.rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def op(self, op: str, *inputs: str, count: int = 1, **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        outputs = [name + (f":{k}" if k else "") for k in range(count)]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        return name

    def reduced(self, op: str, x: str, axis: int, keepdims: int = 1) -> str:
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.op(op, x, self.ints(axis), keepdims=keepdims)
        return self.op(op, x, axes=[axis], keepdims=keepdims)

    def dense(self, x: str, width: int, units: int) -> str:
        W, b = self.weights(width, units), self.weights(units)
        if not self.gemm:
            return self.op("Add", self.op("MatMul", x, W), b)
        rows = self.op("Reshape", x, self.ints(-1, width))
        return self.op("Reshape", self.op("Gemm", rows, W, b), self.ints(-1, TIME, units))

    def over_channels(self, x: str, op: str, *more: str, **attributes: Any) -> str:
        turned = self.op(op, self.op("Transpose", x, perm=[0, 2, 1]), *more, **attributes)
        return self.op("Transpose", turned, perm=[0, 2, 1])

    def lstm(self, x: str, width: int, units: int = 3) -> str:
        time_first = self.op("Transpose", x, perm=[1, 0, 2])
        W = self.const(self.rng.standard_normal((1, 4 * units, width)).astype(np.float32) / 2)
        R = self.const(self.rng.standard_normal((1, 4 * units, units)).astype(np.float32) / 2)
        B = self.const(self.rng.standard_normal((1, 8 * units)).astype(np.float32) / 2)
        y = self.op("LSTM", time_first, W, R, B, hidden_size=units)
        turned = self.op("Transpose", y, perm=[2, 0, 1, 3])
        return self.op("Reshape", turned, self.ints(0, 0, -1))

    def bilstm(self, x: str, width: int, units: int = 3) -> str:
        shapes = [(2, 4 * units, width), (2, 4 * units, units), (2, 8 * units)]
        arrays = [self.rng.standard_normal(shape).astype(np.float32) / 2 for shape in shapes]
        if self.cells == "unrolled":
            return self.op("Concat", *(self.unrolled(x, [a[d] for a in arrays], units, d) for d in (0, 1)), axis=2)
        time_first = self.op("Transpose", x, perm=[1, 0, 2])
        ways = [("bidirectional", slice(0, 2))]
        if self.cells == "two":
            ways = [("forward", slice(0, 1)), ("reverse", slice(1, 2))]
        parts = []
        for direction, which in ways:
            weights = [self.const(a[which]) for a in arrays]
            y = self.op("LSTM", time_first, *weights, hidden_size=units, direction=direction)
            parts.append(self.op("Reshape", self.op("Transpose", y, perm=[2, 0, 1, 3]), self.ints(0, 0, -1)))
        return self.op("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]

    def unrolled(self, x: str, weights: Sequence[AnyArray], units: int, backwards: int) -> str:
        """One direction of an LSTM, step by step; gates in the order i, o, f, c."""
        W, R, bias = (self.const(a) for a in (weights[0].T, weights[1].T, weights[2].reshape(2, -1).sum(axis=0)))
        h = c = self.const(np.zeros((1, units), np.float32))
        outputs = [""] * TIME
        for t in range(TIME)[::-1] if backwards else range(TIME):
            z = self.op("MatMul", self.op("Gather", x, self.const(np.array(t)), axis=1), W)
            z = self.op("Add", self.op("Add", z, self.op("MatMul", h, R)), bias)
            i, o, f, g = (
                self.op("Slice", z, self.ints(k * units), self.ints((k + 1) * units), self.ints(1)) for k in range(4)
            )
            new = self.op("Mul", self.op("Sigmoid", i), self.op("Tanh", g))
            c = self.op("Add", self.op("Mul", self.op("Sigmoid", f), c), new)
            h = outputs[t] = self.op("Mul", self.op("Sigmoid", o), self.op("Tanh", c))
        steps = [self.op("Reshape", y, self.ints(-1, 1, units)) for y in outputs]
        return self.op("Concat", *steps, axis=1)

    def model(self, y: str) -> bytes:
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [
                helper.make_tensor_value_info(
                    "x", TensorProto.FLOAT, [TIME, "N", FEATURES] if self.time_first else ["N", TIME, FEATURES]
                )
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
            self.constants,
        )
        ir = 8 if self.opset < 21 else 10
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir)
        return bytes(model.SerializeToString())


Step = Callable[[Chain, str, int], tuple[str, int]]


def _same_width(step: Callable[[Chain, str, int], str]) -> Step:
    return lambda c, x, n: (step(c, x, n), n)


def _attention(c: Chain, x: str, n: int) -> str:
    keys = c.op("Transpose", c.dense(x, n, n), perm=[0, 2, 1])
    return c.op("MatMul", c.op("Softmax", c.op("MatMul", x, keys), axis=2), x)


def _gate(c: Chain, x: str, n: int) -> str:
    return c.op("Mul", c.op("Sigmoid", c.dense(x, n, n)), x)


def _split(c: Chain, x: str, n: int) -> str:
    attributes: dict[str, Any] = {"split": [2, 3]} if c.opset < 13 else {}
    inputs = [x] if c.opset < 13 else [x, c.ints(2, 3)]
    first = c.op("Split", *inputs, count=2, axis=1, **attributes)
    return c.op("Concat", f"{first}:1", first, axis=1)


def _layer_norm(c: Chain, x: str, n: int) -> str:
    if c.opset >= 17:
        return c.op("LayerNormalization", x, c.weights(n), c.weights(n), epsilon=1e-2)
    centred = c.op("Sub", x, c.reduced("ReduceMean", x, 2))
    power = c.op("Add", c.reduced("ReduceMean", c.op("Mul", centred, centred), 2), c.const(np.float32(1e-2)))
    return c.op("Mul", c.op("Div", centred, c.op("Sqrt", power)), c.weights(n))


def _batch_norm(c: Chain, x: str, n: int) -> str:
    variance = c.const(np.abs(c.rng.standard_normal(n)).astype(np.float32) + 0.5)
    return c.over_channels(x, "BatchNormalization", c.weights(n), c.weights(n), c.weights(n), variance)


def _pool(c: Chain, x: str, op: str) -> str:
    return c.over_channels(x, op, kernel_shape=[3], pads=[1, 1])


SMOOTH: dict[str, Step] = {
    "dense": lambda c, x, n: (c.dense(x, n, 5), 5),
    "conv": lambda c, x, n: (c.over_channels(x, "Conv", c.weights(6, n, 3), c.weights(6), pads=[2, 0]), 6),
    "average pool": _same_width(lambda c, x, n: _pool(c, x, "AveragePool")),
    "batch norm": _same_width(_batch_norm),
    "layer norm": _same_width(_layer_norm),
    "tanh": _same_width(lambda c, x, n: c.op("Tanh", x)),
    "residual": _same_width(lambda c, x, n: c.op("Add", x, c.op("Tanh", c.dense(x, n, n)))),
    "gate": _same_width(_gate),
    "attention": _same_width(_attention),
    "scale": _same_width(lambda c, x, n: c.op("Mul", x, c.weights(n))),
    "concat": lambda c, x, n: (c.op("Concat", x, c.op("Tanh", x), axis=2), 2 * n),
    "split": _same_width(_split),
    "cumsum": _same_width(lambda c, x, n: c.op("CumSum", x, c.const(np.int64(1)))),
    "gather": lambda c, x, n: (c.op("Gather", x, c.ints(n - 1, 0, 0), axis=2), 3),
    "mean beside": _same_width(lambda c, x, n: c.op("Sub", x, c.reduced("ReduceMean", x, 1))),
    "lstm": lambda c, x, n: (c.lstm(x, n), 3),
}
KINKED: dict[str, Step] = {
    "relu": _same_width(lambda c, x, n: c.op("Relu", x)),
    "max pool": _same_width(lambda c, x, n: _pool(c, x, "MaxPool")),
    "max": _same_width(lambda c, x, n: c.op("Max", x, c.dense(x, n, n))),
    "norm beside": lambda c, x, n: (c.op("Concat", x, c.reduced("ReduceL2", x, 2), axis=2), n + 1),
    "top": _same_width(lambda c, x, n: c.op("Add", x, c.op("TopK", x, c.ints(1), count=2, axis=2))),
}
# Steps that change nothing.
NEUTRAL: dict[str, Step] = {
    "identity": _same_width(lambda c, x, n: c.op("Identity", x)),
    "transposes": _same_width(lambda c, x, n: c.op("Transpose", c.op("Transpose", x, perm=[2, 0, 1]), perm=[1, 2, 0])),
    "reshapes": _same_width(lambda c, x, n: c.op("Reshape", c.op("Reshape", x, c.ints(-1, n)), c.ints(-1, TIME, n))),
    "flat": _same_width(lambda c, x, n: c.op("Reshape", c.op("Flatten", x), c.ints(-1, TIME, n))),
    "casts": _same_width(lambda c, x, n: c.op("Cast", c.op("Cast", x, to=TensorProto.DOUBLE), to=TensorProto.FLOAT)),
    "slices": _same_width(
        lambda c, x, n: c.op(
            "Concat",
            c.op("Slice", x, c.ints(0), c.ints(2), c.ints(1)),
            c.op("Slice", x, c.ints(2), c.ints(99), c.ints(1)),
            axis=1,
        )
    ),
    "dropout": _same_width(lambda c, x, n: c.op("Dropout", x)),
}
STEPS = SMOOTH | KINKED


def built(steps: Sequence[str], opset: int = 17, **variant: Any) -> lx.Model:
    """A model of these steps, with an LSTM in the middle, then the mean over time and a dense layer."""
    chain, x, width = Chain(opset, **variant), "x", FEATURES
    if chain.time_first:
        x = chain.op("Transpose", x, perm=[1, 0, 2])
    table = STEPS | NEUTRAL
    half = len([s for s in steps if s not in NEUTRAL]) // 2
    passed = 0
    for name in steps:
        if name not in NEUTRAL:
            if passed == half:
                x, width = (chain.bilstm(x, width), 6) if chain.cells else (chain.lstm(x, width), 3)
            passed += 1
        x, width = table[name](chain, x, width)
    y = chain.reduced("ReduceMean", chain.dense(x, width, 2), 1, keepdims=0)
    return lx.load(chain.model(y))


def feed() -> dict[str, AnyArray]:
    return {"x": np.random.default_rng(3).standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)}


def chains(names: Sequence[str], most: int = 5) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(list(names)), min_size=1, max_size=most)


TARGET = lx.Target(index=1)
LRPS = [lx.LRP(rule, 1e-3, f) for rule in ("all", "half", "abs") for f in (0.0, 0.3, 1.0)]
LRPS += [lx.LRP(), lx.LRP("half", bias_factor=0.3)]


@FIXED
@given(chains(list(STEPS)), st.sampled_from([11, 13, 17, 18, 21, 22, 23, 24]))
def test_relevance_is_conserved(steps: list[str], opset: int) -> None:
    model = built(steps, opset)
    for method in LRPS:
        e = model.explain(feed(), method, TARGET)
        scale = np.abs(e.explained) + np.abs(e.relevance["x"]).sum(axis=(1, 2)) + np.abs(e.ledger.absorbed)
        assert (np.abs(e.ledger.residual) <= 1e-5 * scale).all(), (method, e.ledger)
        if method.bias_factor == 1:
            assert (np.abs(e.ledger.absorbed) <= 1e-5 * scale).all(), (method, e.ledger)


@FIXED
@given(chains(list(STEPS)))
def test_a_sample_is_explained_alike_alone_and_in_a_batch(steps: list[str]) -> None:
    model, x = built(steps), feed()["x"]
    for method in (lx.LRP("half", bias_factor=1.0), lx.LRP("abs"), lx.Gradient()):
        together = model.explain({"x": x}, method, TARGET).relevance["x"]
        for b in range(BATCH):
            alone = model.explain({"x": x[b : b + 1]}, method, TARGET).relevance["x"][0]
            np.testing.assert_allclose(together[b], alone, atol=2e-5 * max(1.0, np.abs(alone).max()))


@FIXED
@given(chains(list(SMOOTH)), st.integers(0, 5))
def test_gradient_is_the_slope_in_any_direction(steps: list[str], seed: int) -> None:
    model, x = built(steps), feed()["x"]
    gradient = model.explain({"x": x}, lx.Gradient(), TARGET).relevance["x"].astype(np.float64)
    direction = np.random.default_rng(seed).standard_normal(x.shape).astype(np.float32)
    step = np.float32(3e-3)
    ends = [model.predict({"x": x + sign * step * direction})["y"][:, 1].astype(np.float64) for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * float(step))
    size = np.sqrt((gradient**2).sum(axis=(1, 2)) * (direction.astype(np.float64) ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose((gradient * direction).sum(axis=(1, 2)), slope, atol=3e-3 * size.max() + 3e-4)


def assert_same(models: Sequence[lx.Model], methods: Sequence[lx.Method] = (*LRPS, lx.Gradient())) -> None:
    """As far as float32's forward pass allows: under rules other than "all", gates divide by pre-activations that may
    be small, and an LSTM node goes forward in float32 where its unrolled cell, without a node to keep sums, does in
    float64.
    """
    for method in methods:
        share = 5e-5 if not isinstance(method, lx.LRP) or method.product_rule == "all" else 5e-4
        first, *others = (m.explain(feed(), method, TARGET).relevance["x"] for m in models)
        for other in others:
            np.testing.assert_allclose(other, first, atol=share * np.abs(first).max(), err_msg=str(method))


@FIXED
@given(
    chains(list(STEPS), 4),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(list(NEUTRAL))), min_size=1, max_size=3),
)
def test_identities_change_no_relevance(steps: list[str], extra: list[tuple[int, str]]) -> None:
    more = list(steps)
    for place, name in extra:
        more.insert(min(place, len(more)), name)
    assert_same([built(steps, 11), built(more, 11)])


@FIXED
@given(chains(list(STEPS), 4))
def test_equivalent_operators_give_equal_relevance(steps: list[str]) -> None:
    """MatMul and Add or Gemm, initializers or Constant nodes."""
    assert_same([built(steps), built(steps, gemm=True), built(steps, nodes_for_constants=True)])


@FIXED
@given(chains(list(STEPS), 4))
def test_a_bidirectional_node_equals_two_nodes_and_their_unrolled_cells(steps: list[str]) -> None:
    one, two, unrolled = (built(steps, cells=cells) for cells in ("one", "two", "unrolled"))
    assert_same([one, two])
    # An initial state has units in the operator, of which a bias_factor gives each a part; as a constant it has none.
    # An unrolled cell has no ceiling, and its two biases are two terms for the relative stabiliser.
    absolute = [m for m in LRPS if not m.bias_factor and m.epsilon is not None]
    assert_same([one, unrolled], [*absolute, lx.Gradient()])


@FIXED
@given(chains(list(STEPS), 4))
def test_time_first_or_batch_first(steps: list[str]) -> None:
    batch_first, time_first = built(steps), built(steps, time_first=True)
    x = feed()["x"]
    for method in (*LRPS, lx.Gradient()):
        a = batch_first.explain({"x": x}, method, TARGET).relevance["x"]
        b = time_first.explain({"x": x.swapaxes(0, 1).copy()}, method, TARGET).relevance["x"].swapaxes(0, 1)
        np.testing.assert_allclose(b, a, atol=5e-5 * np.abs(a).max(), err_msg=str(method))
