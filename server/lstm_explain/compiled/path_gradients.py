# SPDX-License-Identifier: Apache-2.0
"""Integrated gradients as a file: a Scan over the points between the baseline and the input.

The engine places the points where the score changes fast, and takes more of them until the integral is precise. A file
has the same points for all inputs: as many as the method's `steps`, in panels of equal width. `ledger/residual` shows
by how much they miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstm_explain.compiled.forward import Forward, copied, forward_part, traced_pass
from lstm_explain.compiled.walk import Walk, named_results, traced_program, walk_back
from lstm_explain.errors import MethodError
from lstm_explain.graph.ir import Array
from lstm_explain.methods import Gradient, IntegratedGradients
from lstm_explain.methods.integrated_gradients import PANEL_POINTS, quadrature
from lstm_explain.model import Model
from lstm_explain.program.head import Head
from lstm_explain.program.passes import Message
from lstm_explain.program.traced_passes import TracedAccount, TracedPass
from lstm_explain.runner.baselines import baseline_by_input
from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.scan import scan


class PathGradients:
    """What the file of one model takes from the examples. examples: inputs."""

    def __init__(
        self, model: Model, method: IntegratedGradients, head: Head, examples: Sequence[Mapping[str, Array]], opset: int
    ) -> None:
        self.model, self.method, self.head, self.examples = model, method, head, examples
        self.embeddings = model.runner.embedding_inputs(head.value)
        self.program = self.embeddings.engine.program(head, Gradient())
        looked_up = [self.embeddings.lookup(model.engine, example) for example in examples]
        self.inputs = [{**example, **vectors} for example, vectors in zip(examples, looked_up, strict=True)]
        self.passes = [self.program.forward(inputs) for inputs in self.inputs]
        self.forward = forward_part(self.program, self.passes, opset)
        self.token_passes = []
        if self.embeddings.program is not None:
            self.token_passes = [self.embeddings.program.forward(example) for example in examples]

    def results(self, walk: Walk, method: Any) -> dict[str, Traced]:
        """By the name of the output. walk: one of plain gradients at the input. method: with this number of steps."""
        trace, xp, entries = walk.trace, walk.trace.namespace, self.embeddings.entries
        back = walk.begun()
        walk_back(walk.program, back)  # where the samples lie in each input
        at = {name: self._entry(trace, name) for name in entries}
        start = {name: self._start(trace, name, at[name]) for name in entries}
        difference = {name: at[name] - start[name] for name in entries}
        weights: Any = back.messages[self.head.value].density
        kind, edges = weights.dtype, np.linspace(0, 1, -(-method.steps // PANEL_POINTS) + 1)[:, None]
        places, shares = (trace.constant(a[:, 0].astype(kind)) for a in quadrature(edges, method.steps))

        def step(states: list[Any], read: list[Any]) -> tuple[list[Any], list[Any]]:
            place, share = read
            points = {name: start[name] + place * difference[name] for name in entries}
            gradients = self._gradients(trace, points, weights)
            return [s if g is None else s + share * g for s, g in zip(states, gradients, strict=True)], []

        totals, _ = scan(
            trace, step, [xp.zeros_like(difference[n]) for n in entries], [places, shares], backwards=False
        )
        parts = {name: difference[name] * total for name, total in zip(entries, totals, strict=True)}
        found = self._by_input(trace, parts)
        account, own = TracedAccount(trace, back.batch, kind), dict[str, Traced]()
        total = account.per_sample(0.0, None)
        for name in self.examples[0]:
            relevance = found.get(name)
            if relevance is None:
                relevance = xp.zeros(walk.value(name).shape, dtype=kind)
            else:
                total = total + account.per_sample(relevance, self._layout(back, name))
            own[f"relevance/{name}"] = relevance
        explained: Any = back.explained
        baseline = account.per_sample(weights * self._value_at(trace, start), back.messages[self.head.value].layout)
        nothing = account.initial_states
        return named_results(own, explained, (total, nothing, baseline, explained - total - baseline), kind)

    def _layout(self, back: TracedPass, name: str) -> Any:
        message = back.messages.get(name)
        return None if message is None else message.layout

    def _entry(self, trace: Trace, name: str) -> Traced:
        return Traced(trace, tuple(np.asarray(inputs[name]) for inputs in self.inputs), name)

    def _start(self, trace: Trace, name: str, at: Traced) -> Any:
        reachable = self.model.runner.reachable(self.head.value)
        given = baseline_by_input(self.method.baseline, reachable)
        if set(given) - set(self.embeddings.entries) and isinstance(self.method.baseline, Mapping):
            raise MethodError("a baseline of tokens cannot be compiled", field="method.baseline")
        if name not in given:
            return trace.namespace.zeros_like(at)
        return trace.namespace.broadcast_to(trace.namespace.asarray(np.asarray(given[name], at.dtype)), at.shape)

    def _gradients(self, trace: Trace, points: Mapping[str, Traced], weights: Any) -> list[Any]:
        """By entry, the gradient at these points; None where it is zero."""
        rename = copied(trace.writer, self.forward, "point/", {name: x.name for name, x in points.items()})
        done = traced_pass(trace, self.program, self.passes, rename)
        program, account = traced_program(self.program), TracedAccount(trace, 1, weights.dtype)
        back = TracedPass(trace, program.plan, done, 1, weights.dtype, account)
        back.messages[self.head.value] = Message(None, weights, None, None)
        walk_back(program, back)
        return [program.arrived(back, name) for name in points]

    def _value_at(self, trace: Trace, entries: Mapping[str, Traced]) -> Traced:
        """Returns the value that is explained, with these entries."""
        rename = copied(trace.writer, self.forward, "baseline/", {name: x.name for name, x in entries.items()})
        return Traced(trace, tuple(p.values[self.head.value] for p in self.passes), rename(self.head.value))

    def _by_input(self, trace: Trace, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the relevance at the inputs: a token gets the sum over its vector."""
        found = {name: part for name, part in parts.items() if name in self.examples[0]}
        lookup = self.embeddings.program
        if lookup is None:
            return found
        program, done = traced_program(lookup), traced_pass(trace, lookup, self.token_passes)
        kind = next(iter(parts.values())).dtype
        back = TracedPass(trace, program.plan, done, 1, kind, TracedAccount(trace, 1, kind))
        for entry in self.embeddings.computed_entries:
            back.send(entry, None, parts[entry])
        walk_back(program, back)
        for name in self.examples[0]:
            arrived: Any = program.arrived(back, name)
            if arrived is not None:
                found[name] = arrived + found[name] if name in found else arrived
        return found

    def further_nodes(self, opset: int) -> Forward | None:
        """Returns the nodes that look tokens up, and what the way back through them reads."""
        if self.embeddings.program is None:
            return None
        return forward_part(self.embeddings.program, self.token_passes, opset)
