# SPDX-License-Identifier: Apache-2.0
"""A cell in a loop that reads from a list and appends to one is explained as the RNN operator that it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lstm_explain as lx

STEPS, BATCH, WIDTH, HIDDEN = 5, 3, 4, 2
RNG = np.random.default_rng(3)
WEIGHTS = {
    "W": RNG.normal(size=(1, HIDDEN, WIDTH)),
    "R": RNG.normal(size=(1, HIDDEN, HIDDEN)),
    "B": np.concatenate([RNG.normal(size=(1, HIDDEN)), np.zeros((1, HIDDEN))], axis=1),
}
CELL = {"Wt": WEIGHTS["W"][0].T, "Rt": WEIGHTS["R"][0].T, "b": WEIGHTS["B"][0, :HIDDEN]}
METHODS: list[lx.Method] = [lx.LRP(rule, 1e-3) for rule in ("all", "half", "prop", "abs")]  # type: ignore[arg-type]
METHODS += [lx.LRP(epsilon=1e-3, bias_factor=1.0), lx.LRP(), lx.LRP("half"), lx.Gradient()]

# How a step's input is read: nodes before the loop, and in it.
READING = {
    "the tensor": ("", "xt = Gather<axis = 0>(x, i)"),
    "steps": ("parts = SplitToSequence<axis = 0, keepdims = 0>(x)", "xt = SequenceAt(parts, i)"),
    "parts of one": (
        "parts = SplitToSequence<axis = 0>(x, one)",
        "part = SequenceAt(parts, i) xt = Squeeze(part, axes)",
    ),
    "parts of two": (
        "twice = Concat<axis = 1>(x, x) flat = Reshape(twice, doubled) parts = SplitToSequence<axis = 0>(flat, two)",
        "part = SequenceAt(parts, i) xt = Gather<axis = 0>(part, zero)",
    ),
}
# How the list is turned into [STEPS, N, HIDDEN] again.
WRITING = {
    "stacked": "y = ConcatFromSequence<axis = 0, new_axis = 1>(ys)",
    "stacked behind": "s = ConcatFromSequence<axis = -1, new_axis = 1>(ys) y = Transpose<perm = [2, 0, 1]>(s)",
    "in a row": "s = ConcatFromSequence<axis = -1>(ys) r = Reshape(s, rows) y = Transpose<perm = [1, 0, 2]>(r)",
}


def model(text: str) -> lx.Model:
    proto = onnx.parser.parse_model(text)
    integers = {
        "one": 1, "two": 2, "zero": 0, "last": STEPS - 1, "axes": [0], "doubled": [2 * STEPS, -1, WIDTH],
        "rows": [0, STEPS, HIDDEN],
    }  # fmt: skip
    arrays = {name: a.astype(np.float32) for name, a in (WEIGHTS | CELL).items()}
    arrays |= {name: np.array(value) for name, value in integers.items()}
    arrays |= {"yes": np.array(True), "start": np.zeros((BATCH, HIDDEN), np.float32)}
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
    return lx.load(proto)


def looped(read: str, write: str, *, backwards: bool = False) -> lx.Model:
    before, inside = READING[read]
    step, place = ("i = Sub(last, n)", ", zero") if backwards else ("i = Identity(n)", "")
    return model(f"""
        <ir_version: 8, opset_import: ["": 13]>
        looped (float[{STEPS}, {BATCH}, {WIDTH}] x) => (float[{STEPS}, {BATCH}, {HIDDEN}] y) {{
            {before}
            shape = Shape(x)
            count = Gather(shape, zero)
            empty = SequenceEmpty()
            h, ys = Loop(count, yes, start, empty) <body = body (
                int64 n, bool c, float[{BATCH}, {HIDDEN}] h, seq(float[{BATCH}, {HIDDEN}]) list
            ) => (bool d, float[{BATCH}, {HIDDEN}] g, seq(float[{BATCH}, {HIDDEN}]) longer) {{
                d = Identity(c)
                {step}
                {inside}
                p = MatMul(xt, Wt)
                q = MatMul(h, Rt)
                s = Add(p, q)
                z = Add(s, b)
                g = Tanh(z)
                longer = SequenceInsert(list, g{place})
            }}>
            {WRITING[write]}
        }}""")


def operator(direction: str) -> lx.Model:
    return model(f"""
        <ir_version: 8, opset_import: ["": 13]>
        operator (float[{STEPS}, {BATCH}, {WIDTH}] x) => (float[{STEPS}, {BATCH}, {HIDDEN}] y) {{
            r = RNN<hidden_size = {HIDDEN}, direction = "{direction}">(x, W, R, B)
            a = Constant<value_ints = [1]>()
            y = Squeeze(r, a)
        }}""")


def assert_alike(received: lx.Model, expected: lx.Model) -> None:
    rng = np.random.default_rng(4)
    feeds = {"x": rng.normal(size=(STEPS, BATCH, WIDTH)).astype(np.float32)}
    target = lx.Target(weights=rng.normal(size=(STEPS, HIDDEN)), batch_axis=1)
    for method in METHODS:
        a, b = (m.explain(feeds, method, target) for m in (received, expected))
        np.testing.assert_allclose(a.outputs["y"], b.outputs["y"], atol=1e-6)
        scale = np.abs(b.relevance["x"]).max()
        np.testing.assert_allclose(a.relevance["x"], b.relevance["x"], atol=2e-5 * scale, err_msg=str(method))


@pytest.mark.parametrize("read", READING)
def test_reads_from_a_list(read: str) -> None:
    assert_alike(looped(read, "stacked"), operator("forward"))


@pytest.mark.parametrize("write", WRITING)
def test_appends_to_a_list(write: str) -> None:
    assert_alike(looped("the tensor", write), operator("forward"))


def test_prepends_to_a_list() -> None:
    assert_alike(looped("steps", "stacked", backwards=True), operator("reverse"))


def test_a_list_with_initial_items_and_its_length() -> None:
    """The mean over the list, by its length, of a list that began with the input's first step."""
    text = f"""
        <ir_version: 8, opset_import: ["": 13]>
        begun (float[{STEPS}, {BATCH}, {WIDTH}] x) => (float[{BATCH}, {WIDTH}] y) {{
            shape = Shape(x)
            count = Gather(shape, zero)
            first = Gather(x, zero)
            begun = SequenceConstruct(first)
            all = Loop(count, yes, begun) <body = body (int64 n, bool c, seq(float[{BATCH}, {WIDTH}]) list)
                => (bool d, seq(float[{BATCH}, {WIDTH}]) longer) {{
                d = Identity(c)
                xt = Gather(x, n)
                longer = SequenceInsert(list, xt)
            }}>
            stack = ConcatFromSequence<axis = 0, new_axis = 1>(all)
            sum = ReduceSum<keepdims = 0>(stack, axes)
            length = SequenceLength(all)
            parts = Cast<to = 1>(length)
            y = Div(sum, parts)
        }}"""
    x = np.random.default_rng(5).normal(size=(STEPS, BATCH, WIDTH)).astype(np.float32)
    e = model(text).explain({"x": x}, lx.LRP(epsilon=0), lx.Target(weights=np.ones(WIDTH)))
    times = np.array([2, *[1] * (STEPS - 1)])[:, None, None]
    np.testing.assert_allclose(e.relevance["x"], x * times / (STEPS + 1), atol=1e-6)


def test_an_unsupported_use_of_a_list_in_a_loop_is_named() -> None:
    """One that is read while it grows."""
    text = f"""
        <ir_version: 8, opset_import: ["": 13]>
        grown (float[{BATCH}, {WIDTH}] x) => (float[{BATCH}, {WIDTH}] y) {{
            begun = SequenceConstruct(x)
            all = Loop(two, yes, begun) <body = body (int64 n, bool c, seq(float[{BATCH}, {WIDTH}]) list)
                => (bool d, seq(float[{BATCH}, {WIDTH}]) longer) {{
                d = Identity(c)
                before = SequenceAt(list, n)
                twice = Add(before, before)
                longer = SequenceInsert(list, twice)
            }}>
            y = SequenceAt(all, two)
        }}"""
    grown = model(text)
    x = np.ones((BATCH, WIDTH), np.float32)
    with pytest.raises(lx.UnsupportedOperator, match="Sequence"):
        grown.explain({"x": x}, lx.LRP(epsilon=1e-3), lx.Target(index=0))
    assert not grown.report().supported
    e = grown.explain({"x": x}, lx.Occlusion(), lx.Target(index=0))
    np.testing.assert_allclose(e.relevance["x"][:, 0], 4)
