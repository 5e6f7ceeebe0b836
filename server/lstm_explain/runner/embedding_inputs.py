# SPDX-License-Identifier: Apache-2.0
"""Turns looked-up embeddings into inputs of the graph, so that token inputs can be varied continuously.

Where a value that depends on integer inputs becomes a floating-point number (usually the looked-up vectors), the new
graph has an input. Everything else that the integers determine (lengths, masks) stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lstm_explain.errors import UnsupportedOperator
from lstm_explain.graph.body_wiring import BODIES
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.methods import Gradient
from lstm_explain.operators import TABLE, BatchLayout
from lstm_explain.operators.tape import SavedTensors
from lstm_explain.program.compile import Purpose, compile_plan
from lstm_explain.program.engine import Engine
from lstm_explain.program.passes import BackwardPass
from lstm_explain.program.program import Program
from lstm_explain.program.reachability import live_values, reach


@dataclass(frozen=True)
class EmbeddingInputs:
    """The graph with embeddings as inputs.

    engine: of the new graph. entries: its inputs that can be varied. computed_entries: those that the graph computes.
    program: from the computed entries back to the integer inputs.
    """

    engine: Engine
    entries: tuple[str, ...]
    computed_entries: tuple[str, ...]
    program: Program | None

    def lookup(self, engine: Engine, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the values of the computed entries. engine: of the original graph."""
        if self.program is None:
            return {}
        values = self.program.forward(inputs).values
        return {entry: values[entry] for entry in self.computed_entries}

    def tokens(
        self, engine: Engine, inputs: Mapping[str, Array], at: Mapping[str, Array], *, norms: bool
    ) -> dict[str, Array]:
        """Returns the relevance of the integer inputs, given relevance at the computed entries: the sum over each
        vector, or its norm.
        """
        if self.program is None:
            return {}
        done = self.program.forward(inputs)
        dtype = np.promote_types(done.values[self.computed_entries[0]].dtype, np.float32)
        back = BackwardPass(self.program.plan, done, 1, dtype)
        for entry in self.computed_entries:
            back.send(entry, None, **{"density" if norms else "relevance": at[entry].astype(dtype, copy=False)})
        self.program.backward(back)
        arrived = {name: self.program.arrived(back, name) for name in engine.graph.inputs}
        return {name: array for name, array in arrived.items() if array is not None}

    def token_layouts(
        self, engine: Engine, inputs: Mapping[str, Array], at: Mapping[str, BatchLayout], batch: int
    ) -> dict[str, BatchLayout]:
        """Returns where the samples lie in the integer inputs, given where they lie in the entries. Raises
        SamplesMixed.
        """
        if self.program is None:
            return {}
        done = self.program.forward(inputs)
        back = BackwardPass(self.program.plan, done, batch, np.dtype(np.float32))
        for entry in self.computed_entries:
            if entry in at:
                back.send(entry, at[entry], np.zeros(done.values[entry].shape, np.float32))
        self.program.backward(back)
        layouts = {
            name: message.layout for name in engine.graph.inputs if (message := back.messages.get(name)) is not None
        }
        return {name: layout for name, layout in layouts.items() if layout is not None}


def with_embedding_inputs(engine: Engine, value: str) -> EmbeddingInputs:
    """Builds the graph for everything that leads to `value`. Raises UnsupportedOperator where a body looks tokens
    up.
    """
    graph = engine.graph
    live = live_values(graph, graph.inputs)
    computed_entries = []
    for node in _ancestors(graph, value):
        reached = reach(node, live)
        carrying = [*(node.inputs[slot] for slot in reached.slots), *reached.captured]
        if any(_is_float(graph, name) for name in carrying):
            continue
        converted = [o for o in reached.outputs if _is_float(graph, o)]
        if converted and node.op in BODIES:
            raise UnsupportedOperator(
                node.name, node.op, "tokens are looked up inside its body, where they cannot be varied"
            )
        if converted and TABLE.get(node.op) is not None:
            computed_entries += converted
    floats = [name for name in graph.inputs if _is_float(graph, name)]
    if not computed_entries:
        return EmbeddingInputs(engine, tuple(floats), (), None)
    remaining = [node for node in graph.nodes if not set(computed_entries).intersection(node.outputs)]
    embedding_inputs = replace(graph, nodes=remaining, inputs=[*graph.inputs, *computed_entries])
    plan = compile_plan(
        replace(graph, outputs=list(computed_entries)),
        computed_entries,
        Purpose(gradient=True, keep=SavedTensors.SLOPES),
    )
    program = Program(plan, engine.cells, Gradient())
    return EmbeddingInputs(Engine(embedding_inputs), (*floats, *computed_entries), tuple(computed_entries), program)


def _ancestors(graph: Graph, value: str) -> list[Node]:
    needed, kept = {value}, []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update((*node.inputs, *node.captured))
    return kept[::-1]


def _is_float(graph: Graph, value: str) -> bool:
    dtype = graph.type_of(value).dtype
    return dtype is None or dtype.kind == "f"
