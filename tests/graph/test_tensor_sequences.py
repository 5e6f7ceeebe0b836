# SPDX-License-Identifier: Apache-2.0
"""Lists of tensors, as PyTorch writes them: explained as the values that they contain."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

import lstm_explain as lx
from tests.graph_builder import run

RNG = np.random.default_rng(81)
X = RNG.normal(size=(3, 4, 2)).astype(np.float32)

# What is done with x [B, 4, 2], and the same without sequences; `y` is [B, 4 numbers].
PAIRS = {
    "steps": (
        """s = SplitToSequence<axis=1, keepdims=0>(x)
           a = SequenceAt(s, zero)
           b = SequenceAt(s, last)
           y = Concat<axis=1>(a, b)""",
        """a = Gather<axis=1>(x, zero)
           b = Gather<axis=1>(x, last)
           y = Concat<axis=1>(a, b)""",
    ),
    "steps that keep their axis": (
        """s = SplitToSequence<axis=1>(x)
           a = SequenceAt(s, one)
           y = Flatten(a)""",
        """a = Gather<axis=1>(x, one)
           y = Flatten(a)""",
    ),
    "parts of given sizes": (
        """s = SplitToSequence<axis=1>(x, sizes)
           a = SequenceAt(s, one)
           y = Flatten(a)""",
        """p, a = Split<axis=1>(x, sizes)
           y = Flatten(a)""",
    ),
    "parts of one size": (
        """s = SplitToSequence<axis=1>(x, three)
           a = SequenceAt(s, zero)
           b = SequenceAt(s, one)
           c = Concat<axis=1>(b, a)
           y = Flatten(c)""",
        """b, a = Split<axis=1>(x, threeone)
           c = Concat<axis=1>(a, b)
           y = Flatten(c)""",
    ),
    "put together again": (
        """s = SplitToSequence<axis=1, keepdims=0>(x)
           n = SequenceLength(s)
           a = SequenceAt(s, zero)
           h = Tanh(a)
           e = SequenceEmpty()
           s1 = SequenceInsert(e, h)
           s2 = SequenceInsert(s1, a)
           s3 = SequenceInsert(s2, a, zero)
           s4 = SequenceErase(s3, last)
           c = ConcatFromSequence<axis=1, new_axis=1>(s4)
           f = Flatten(c)
           m = Cast<to=1>(n)
           y = Mul(f, m)""",
        """a = Gather<axis=1>(x, zero)
           h = Tanh(a)
           f = Concat<axis=1>(a, h)
           y = Mul(f, four)""",
    ),
    "side by side": (
        """a = Gather<axis=1>(x, zero)
           h = Relu(a)
           s = SequenceConstruct(h, a)
           y = ConcatFromSequence<axis=1>(s)""",
        """a = Gather<axis=1>(x, zero)
           h = Relu(a)
           y = Concat<axis=1>(h, a)""",
    ),
}
CONSTANTS = {
    "zero": np.array(0),
    "one": np.array(1),
    "last": np.array(-1),
    "three": np.array(3),
    "sizes": np.array([1, 3]),
    "threeone": np.array([3, 1]),
    "four": np.array(4, np.float32),
}


def model(nodes: str, opset: int) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["": {opset}]> g (float[B, 4, 2] x) => (float[B, N] y) {{ {nodes} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, name) for name, v in CONSTANTS.items())
    return proto


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("what", PAIRS)
def test_a_sequence_changes_nothing(what: str, opset: int) -> None:
    listed, plain = (model(nodes, opset) for nodes in PAIRS[what])
    target = lx.Target(index=2 if what == "put together again" else 1)
    loaded = lx.load(listed)
    assert loaded.report().supported
    assert not any("Sequence" in node.op for node in loaded.report().nodes)
    for how in (lx.LRP(), lx.LRP(bias_factor=1.0), lx.GradientTimesInput()):
        received, expected = (lx.load(m).explain({"x": X}, how, target) for m in (listed, plain))
        np.testing.assert_allclose(received.outputs["y"], run(listed, {"x": X})[0], rtol=1e-6)
        np.testing.assert_allclose(received.relevance["x"], expected.relevance["x"], rtol=1e-5, atol=1e-7)
        assert np.abs(received.relevance["x"]).max() > 0


def test_a_sequence_with_an_unknown_position_is_refused_by_name() -> None:
    nodes = """t = Neg(x)
               s = SequenceConstruct(x, t)
               m = ReduceMax<keepdims=0>(x)
               i = Cast<to=7>(m)
               y = SequenceAt(s, i)"""
    loaded = lx.load(model(nodes, 17))
    assert not loaded.report().supported
    with pytest.raises(lx.UnsupportedOperator, match="Sequence"):
        loaded.explain({"x": X}, target=lx.Target(index=(1, 0)))
    assert loaded.explain({"x": X * 0}, lx.Occlusion(), lx.Target(index=(1, 0))).relevance["x"].shape == X.shape
