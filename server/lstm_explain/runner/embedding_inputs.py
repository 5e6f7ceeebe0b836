"""The graph opened behind its embeddings, so that token inputs can be varied continuously.

Where a value that depends on integer inputs becomes a floating-point number (the looked-up vectors, as a rule), the
opened graph has an input. Whatever else the integers decide (lengths, masks) stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lstm_explain.errors import UnsupportedOperator
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.methods import Gradient
from lstm_explain.operators import TABLE, BatchLayout
from lstm_explain.operators.recurrent import SavedTensors
from lstm_explain.program.body_wiring import BODIES
from lstm_explain.program.compile import Purpose, compile_plan
from lstm_explain.program.engine import Engine
from lstm_explain.program.passes import BackwardPass
from lstm_explain.program.program import Program
from lstm_explain.program.reachability import live_values, reach


@dataclass(frozen=True)
class EmbeddingInputs:
    """engine: of the opened graph. entries: its inputs that can be varied. doors: those that the graph computes.
    program: from the doors back to the integer inputs."""

    engine: Engine
    entries: tuple[str, ...]
    computed_entries: tuple[str, ...]
    program: Program | None

    def looked_up(self, engine: Engine, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The doors' values. engine: of the graph that is not opened."""
        if self.program is None:
            return {}
        values = self.program.forward(inputs).values
        return {door: values[door] for door in self.computed_entries}

    def tokens(
        self, engine: Engine, inputs: Mapping[str, Array], at: Mapping[str, Array], *, norms: bool
    ) -> dict[str, Array]:
        """Numbers of the inputs behind the doors, given numbers at the doors: sums over vectors, or their norms."""
        if self.program is None:
            return {}
        done = self.program.forward(inputs)
        dtype = np.promote_types(done.values[self.computed_entries[0]].dtype, np.float32)
        back = BackwardPass(self.program.plan, done, 1, dtype)
        for door in self.computed_entries:
            back.send(door, None, **{"density" if norms else "relevance": at[door].astype(dtype, copy=False)})
        self.program.backward(back)
        arrived = {name: self.program.arrived(back, name) for name in engine.graph.inputs}
        return {name: array for name, array in arrived.items() if array is not None}

    def token_layouts(
        self, engine: Engine, inputs: Mapping[str, Array], at: Mapping[str, BatchLayout], batch: int
    ) -> dict[str, BatchLayout]:
        """Where the samples lie in the entries, given where they lie in the inputs. Raises SamplesMixed."""
        if self.program is None:
            return {}
        done = self.program.forward(inputs)
        back = BackwardPass(self.program.plan, done, batch, np.dtype(np.float32))
        for door in self.computed_entries:
            if door in at:
                back.send(door, at[door], np.zeros(done.values[door].shape, np.float32))
        self.program.backward(back)
        layouts = {
            name: message.layout for name in engine.graph.inputs if (message := back.messages.get(name)) is not None
        }
        return {name: layout for name, layout in layouts.items() if layout is not None}


def with_embedding_inputs(engine: Engine, value: str) -> EmbeddingInputs:
    """The part of the graph before `value`, opened. Raises UnsupportedOperator: tokens looked up inside a body."""
    graph = engine.graph
    live = live_values(graph, graph.inputs)
    computed_entries = []
    for node in _before(graph, value):
        reached = reach(node, live)
        carrying = [*(node.inputs[slot] for slot in reached.slots), *reached.captured]
        if any(_is_float(graph, name) for name in carrying):
            continue
        opens = [o for o in reached.outputs if _is_float(graph, o)]
        if opens and node.op in BODIES:
            raise UnsupportedOperator(node.name, node.op, "tokens become numbers inside its body, where no line leads")
        if opens and TABLE.get(node.op) is not None:
            computed_entries += opens
    floats = [name for name in graph.inputs if _is_float(graph, name)]
    if not computed_entries:
        return EmbeddingInputs(engine, tuple(floats), (), None)
    shut = [node for node in graph.nodes if not set(computed_entries).intersection(node.outputs)]
    embedding_inputs = replace(graph, nodes=shut, inputs=[*graph.inputs, *computed_entries])
    plan = compile_plan(
        replace(graph, outputs=list(computed_entries)),
        computed_entries,
        Purpose(gradient=True, keep=SavedTensors.SLOPES),
    )
    program = Program(plan, engine.cells, Gradient())
    return EmbeddingInputs(Engine(embedding_inputs), (*floats, *computed_entries), tuple(computed_entries), program)


def _before(graph: Graph, value: str) -> list[Node]:
    needed, kept = {value}, []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update((*node.inputs, *node.captured))
    return kept[::-1]


def _is_float(graph: Graph, value: str) -> bool:
    dtype = graph.type_of(value).dtype
    return dtype is None or dtype.kind == "f"
