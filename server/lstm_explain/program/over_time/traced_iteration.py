# SPDX-License-Identifier: Apache-2.0
"""What a trace of one iteration does differently, because its nodes run for all iterations at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, numpy_helper

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import reductions
from lstm_explain.kernels.buffer_pool import maker
from lstm_explain.operators import BatchLayout
from lstm_explain.operators.formulas import At
from lstm_explain.program.traced_passes import TracedAccount
from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.graph_writer import GraphWriter
from lstm_explain.tracing.namespace import Namespace


@dataclass(frozen=True)
class Divisor:
    """The stabilised divisor of a sum. value, magnitude: names of saved values; no magnitude is empty."""

    value: str
    magnitude: str
    epsilon: float
    beta: float

    @property
    def names(self) -> tuple[str, str]:
        """The values that `over_time` computes."""
        own = f"{self.value}::{self.epsilon}::{self.beta}"
        return f"divisor::{own}", f"share::{own}"

    def over_time(self, value: Array, magnitude: Array | None) -> tuple[Array, Array]:
        """Returns by what to divide relevance, and what share of it the stabiliser absorbs, at every element."""
        make = maker(value.shape, value.dtype)
        found = make(), make()
        terms = At(self.epsilon, self.beta, magnitude).terms(value.dtype)
        flat = np.ascontiguousarray(value).reshape(-1)
        reductions.settling(flat, self.epsilon, terms, self.beta, found[0].reshape(-1), found[1].reshape(-1))
        return found


class IterationNamespace(Namespace):
    """Divides by stabilised sums that are computed beforehand, for all iterations, where they are saved values."""

    def __init__(self, trace: Trace, saved: dict[str, str]) -> None:
        super().__init__(trace)
        self.saved = saved  # the names of saved values, by their names in the trace
        self.divisors: dict[Divisor, tuple[Traced, Traced]] = {}
        self.settle = self._settle

    def _settle(self, r: Traced, z: Traced, stabiliser: At) -> tuple[Traced, Traced]:
        terms: Any = stabiliser.magnitude
        value, magnitude = self._saved(z, r), "" if terms is None else self._saved(terms, r)
        if value is None or magnitude is None:
            return self._settled(r, self.astype(z, r.dtype), stabiliser)
        divisor = Divisor(value, magnitude, stabiliser.epsilon, stabiliser.beta)
        if divisor not in self.divisors:
            by, share = (Traced(self.trace, z.values, name) for name in divisor.names)
            self.divisors[divisor] = by, share
        by, share = self.divisors[divisor]
        return r / by, r * share

    def _settled(self, r: Traced, z: Traced, stabiliser: At) -> tuple[Traced, Traced]:
        """Computes the same in operators that are fast over time, where all numbers are finite. Without a stabiliser, a
        sum of zero is divided by the smallest normal number, so that it absorbs everything.
        """
        least = float(np.finfo(r.dtype).tiny)
        added: Any = max(stabiliser.epsilon, least)
        if stabiliser.magnitude is not None:
            over = self.astype(stabiliser.magnitude, r.dtype) - self.abs(z)
            added = self.maximum(stabiliser.epsilon + stabiliser.beta * self.maximum(over, 0.0), least)
        signed = self.sign(self.sign(z) + 0.5) * added  # with the sign of z, positive at zero
        density = r / (z + signed)
        return density, signed * density

    def _saved(self, x: Traced, r: Traced) -> str | None:
        """Returns the name of a saved value of the same type as the relevance; None for any other array."""
        return None if x.is_constant or x.zeros is not None or x.dtype != r.dtype else self.saved.get(x.name)


class NodeAccount(TracedAccount):
    """What each node absorbs in one iteration."""

    def __init__(self, trace: Trace, batch: int, dtype: Any) -> None:
        super().__init__(trace, batch, dtype)
        self.by_node: dict[str, Traced] = {}

    def keep(self, node: str, amounts: Traced) -> None:
        amounts = self.trace.namespace.astype(amounts, self.dtype)
        self.by_node[node] = self.by_node[node] + amounts if node in self.by_node else amounts

    def absorb(self, node: str, amounts: Any, layout: BatchLayout | None) -> None:
        self.keep(node, self.per_sample(amounts, layout))


def without_guards(writer: GraphWriter) -> tuple[list[NodeProto], dict[str, str]]:
    """Returns the nodes without those by which zero times infinity is zero, and what takes their place: whoever runs
    them looks for numbers that are not finite.
    """
    nodes: Sequence[NodeProto] = writer.levels[0].nodes
    zeros = {name for name, t in writer.initializers.items() if not numpy_helper.to_array(t).any()}
    made = {node.output[0]: node for node in nodes}
    same: dict[str, str] = {}
    kept = []
    for node in nodes:
        node.input[:] = [same.get(name, name) for name in node.input]
        condition, product = (made.get(node.input[i]) if node.op_type == "Where" else None for i in (0, 2))
        if (
            condition is not None
            and product is not None
            and condition.op_type == "Equal"
            and product.op_type == "Mul"
            and node.input[1] in zeros
            and condition.input[1] in zeros
            and condition.input[0] in product.input
        ):
            same[node.output[0]] = product.output[0]
        else:
            kept.append(node)
    return kept, same
