# SPDX-License-Identifier: Apache-2.0
"""Loops over time as Scan nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from lstm_explain.tracing.arrays import Trace, Traced

Step = Callable[[list[Any], list[Any]], tuple[list[Any], list[Any]]]
# What is smaller becomes zero, long before products in float32 are subnormal: many processors compute with such numbers
# some hundred times more slowly.
TINY = 1e-30


def scan(
    trace: Trace, step: Step, carried: Sequence[Any], read: Sequence[Any], *, backwards: bool
) -> tuple[list[Any], list[Any]]:
    """Runs `step` for each position of the first axis of `read`, last to first where `backwards`.

    step: (states, this position's elements) -> (states, further results of this position). Returns the last states, and
    the further results of all positions in the order of `read`.
    """
    writer, count = trace.writer, len(carried)
    carried, read = list(carried), list(read)
    own = [writer.fresh("state" if i < count else "step") for i in range(count + len(read))]
    outer = [x.name for x in (*carried, *read)]
    writer.open_body(own)
    states = [Traced(trace, x.values, name) for x, name in zip(carried, own, strict=False)]
    elements = [
        Traced(trace, tuple(v[0] if len(v) else np.zeros(v.shape[1:], v.dtype) for v in x.values), name)
        for x, name in zip(read, own[count:], strict=True)
    ]
    after, results = step(states, elements)
    made = [writer.hand_out(x.name) for x in (*after, *results)]
    body = helper.make_graph(
        writer.close_body(),
        writer.fresh("body"),
        [_info(name, x) for name, x in zip(own, (*states, *elements), strict=True)],
        [_info(name, x) for name, x in zip(made, (*after, *results), strict=True)],
    )
    names = writer.node(
        "Scan",
        outer,
        {
            "body": body,
            "num_scan_inputs": len(read),
            "scan_input_directions": [int(backwards)] * len(read),
            "scan_output_directions": [int(backwards)] * len(results) if results else None,
        },
        len(made),
    )
    lengths = [len(v) for v in read[0].values]
    last = [Traced(trace, x.values, name) for x, name in zip(after, names, strict=False)]
    stacked = [
        Traced(trace, tuple(np.zeros((n, *v.shape), v.dtype) for n, v in zip(lengths, x.values, strict=True)), name)
        for x, name in zip(results, names[count:], strict=True)
    ]
    return last, stacked


def _info(name: str, x: Traced) -> Any:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(x.dtype), [n if isinstance(n, int) else None for n in x.shape]
    )


def without_tiny_states(step: Step) -> Step:
    """Returns the step of a backward pass with zeros for numbers of its states below TINY. Relevance that fades passes
    them on the way to zero.
    """

    def rounded(states: list[Any], elements: list[Any]) -> tuple[list[Any], list[Any]]:
        after, results = step(states, elements)
        return [_without_tiny(x) for x in after], results

    return rounded


def _without_tiny(x: Traced) -> Traced:
    if x.dtype.kind != "f":
        return x
    return x.trace.apply(
        "Shrink", [x], lambda a: np.where(np.abs(a) > TINY, a, 0), {"lambd": TINY, "bias": 0.0}, dtype=x.dtype
    )
