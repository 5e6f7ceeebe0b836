# SPDX-License-Identifier: Apache-2.0
"""Integer division at the extremes: results wrap around, and the process survives.

Every model runs in a process of its own, since the processor answers the smallest integer divided by -1 with a signal.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx

KINDS = {np.int32: TensorProto.INT32, np.int64: TensorProto.INT64}
DIVISORS = (-1, 1, -3, 2)
WAYS = ("Div", "Mod", "fmod")


def expected(way: str, dividends: Iterable[int], divisors: Iterable[int], bits: int) -> list[int]:
    """Python's exact integers: Div rounds to zero, Mod takes the divisor's sign and fmod the dividend's."""
    results = []
    for dividend, divisor in zip(dividends, divisors, strict=True):
        quotient = abs(dividend) // abs(divisor) * (1 if (dividend < 0) == (divisor < 0) else -1)
        value = {"Div": quotient, "Mod": dividend % divisor, "fmod": dividend - quotient * divisor}[way]
        results.append((value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1))
    return results


def dividing(
    way: str, dtype: Any, a: list[int], b: list[int], constant: str = "", around: str = "", opset: int = 18
) -> onnx.ModelProto:
    """y = x * quotient, with the quotient as a second output. constant: which of "a" and "b" are."""
    kind = KINDS[dtype]
    given = [helper.make_tensor_value_info(n, kind, [len(a)]) for n in "ab" if n not in constant]
    constants = [numpy_helper.from_array(np.array(v, dtype), n) for n, v in (("a", a), ("b", b)) if n in constant]
    node = helper.make_node(
        "Mod" if way == "fmod" else way, ["a", "b"], ["q"], name="divide", **({"fmod": 1} if way == "fmod" else {})
    )
    nodes = [node]
    if around == "If":
        body = helper.make_graph([node], "body", [], [helper.make_tensor_value_info("q", kind, [len(a)])])
        other = helper.make_graph(
            [helper.make_node("Identity", ["a"], ["same"])],
            "other",
            [],
            [helper.make_tensor_value_info("same", kind, None)],
        )
        yes = (
            helper.make_node("Less", ["x", "large"], ["less"]),
            helper.make_node("ReduceMin", ["as_int"], ["least"], keepdims=0),
        )
        nodes = [
            yes[0],
            helper.make_node("Cast", ["less"], ["as_int"], to=TensorProto.INT32),
            yes[1],
            helper.make_node("Cast", ["least"], ["yes"], to=TensorProto.BOOL),
            helper.make_node("If", ["yes"], ["q"], name="if", then_branch=body, else_branch=other),
        ]
        constants.append(numpy_helper.from_array(np.float32(1e30), "large"))
    if around == "contrib":  # of a type that only ONNX Runtime knows
        node.input[0] = "grown"
        constants.append(numpy_helper.from_array(np.array(0, np.int32), "axis"))
        nodes.insert(0, helper.make_node("ExpandDims", ["a", "axis"], ["grown"], domain="com.microsoft"))
    nodes += [helper.make_node("Cast", ["q"], ["f"], to=TensorProto.FLOAT), helper.make_node("Mul", ["x", "f"], ["y"])]
    given.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", len(a)]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", len(a)]), onnx.ValueInfoProto(name="q")]
    outputs[1].type.tensor_type.elem_type = kind
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(
        helper.make_graph(nodes, "g", given, outputs, constants), opset_imports=opsets, ir_version=8
    )


ATTEMPT = """
import json, pickle, sys
import numpy as np
import lstm_explain as lx
for proto, feeds in pickle.load(sys.stdin.buffer):
    try:
        model = lx.load(proto)
        feeds = {name: array for name, array in feeds.items() if name in model.inputs}
        said = model.predict(feeds)["q"].reshape(-1).tolist()
        if model.report().supported:
            explained = model.explain(feeds, lx.LRP(), lx.Target("y", index=0))
            assert explained.outputs["q"].reshape(-1).tolist() == said
    except lx.Error as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps(said), flush=True)
"""


def answers(cases: list[tuple[onnx.ModelProto, dict[str, Any]]]) -> list[Any]:
    cargo = pickle.dumps([(proto.SerializeToString(), feeds) for proto, feeds in cases])
    done = subprocess.run([sys.executable, "-c", ATTEMPT], input=cargo, capture_output=True, timeout=600)
    received = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{done.returncode} at case {len(received)}: {done.stderr.decode()[-500:]}"
    return received


def operands(dtype: Any) -> tuple[list[int], list[int]]:
    limits = np.iinfo(dtype)
    pairs = [(a, b) for a in (int(limits.min), int(limits.max), -7, 7, 0) for b in DIVISORS]
    pairs.append(pairs[0])  # once more behind those that vector instructions take together, which do not trap
    return [a for a, _ in pairs], [b for _, b in pairs]


@pytest.mark.parametrize("around", ["", "If", "contrib"])
@pytest.mark.parametrize("dtype", KINDS)
def test_quotients_and_remainders_at_the_extremes(dtype: Any, around: str) -> None:
    a, b = operands(dtype)
    feeds = {"a": np.array(a, dtype), "b": np.array(b, dtype), "x": np.ones((1, len(a)), np.float32)}
    variants = [(way, constant) for way in WAYS for constant in ("", "a", "b", "ab")]
    received = answers([(dividing(way, dtype, a, b, constant, around), feeds) for way, constant in variants])
    for (way, constant), numbers in zip(variants, received, strict=True):
        assert numbers == expected(way, a, b, np.iinfo(dtype).bits), (way, constant)


@pytest.mark.parametrize("opset", [7, 11, 14])
def test_older_opsets_too(opset: int) -> None:
    a, b = operands(np.int32)
    feeds = {"a": np.array(a, np.int32), "b": np.array(b, np.int32), "x": np.ones((1, len(a)), np.float32)}
    cases = [(dividing("Div", np.int32, a, b, constant, opset=opset), feeds) for constant in ("", "b", "ab")]
    assert answers(cases) == [expected("Div", a, b, 32)] * 3


@pytest.mark.parametrize("way", WAYS)
def test_division_by_zero_is_an_error_that_names_the_node(way: str) -> None:
    feeds = {"a": np.array([7, 7]), "b": np.array([1, 0]), "x": np.ones((1, 2), np.float32)}
    by_request, by_model = answers([(dividing(way, np.int64, [7, 7], [1, 0], c), feeds) for c in ("", "b")])
    assert by_request.startswith("InputError")
    assert by_model.startswith("ModelError")
    for message in (by_request, by_model):
        assert "divide" in message


def test_divisions_that_cannot_trap_are_unchanged() -> None:
    a, b = [1, 2], [2, -3]
    for proto in (dividing("Div", np.int64, a, b, "b"), dividing("Div", np.int64, a, [-1, -1], "a")):
        assert len(lx.load(proto).proto.graph.node) == len(proto.graph.node)
