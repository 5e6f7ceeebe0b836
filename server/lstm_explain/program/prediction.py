# SPDX-License-Identifier: Apache-2.0
"""Predicts many changed copies of a batch, and runs the recurrent nodes once for copies that begin alike."""

from __future__ import annotations

from collections.abc import Mapping

from lstm_explain.cancellation import FORWARD, checkpoint
from lstm_explain.errors import Error, InputError
from lstm_explain.graph.ir import Array
from lstm_explain.graph.session import runtime_message
from lstm_explain.operators import Kind
from lstm_explain.program.compile import Segment, steps_of
from lstm_explain.program.engine import Engine
from lstm_explain.program.head import Head
from lstm_explain.program.passes import ForwardPass
from lstm_explain.program.reachability import BackwardNode, live_values, path, values_by_slot
from lstm_explain.program.steps.segment import SegmentForward


class Prediction:
    """The graph cut at its recurrent nodes, whose kernels skip what copies have in common (kernels/prefixes.py). ONNX
    Runtime runs everything else.

    Safe to call from several threads. Raises what making ONNX Runtime's sessions raises.
    """

    def __init__(self, engine: Engine, head: Head) -> None:
        self.graph, self.cells = engine.graph, engine.cells
        nodes = recurrent_nodes(engine, head)
        wanted = dict.fromkeys([head.value, *head.keep(engine.graph)])
        steps = steps_of(engine.graph, [], nodes, wanted)
        self._steps = [SegmentForward(step) if isinstance(step, Segment) else step for step in steps]
        read = {name for node in engine.graph.nodes for name in (*node.inputs, *node.captured)}
        self._wanted = read.union(engine.graph.outputs, wanted)

    def __call__(self, inputs: Mapping[str, Array], distance: int) -> dict[str, Array]:
        """Returns the outputs and the explained value. Raises InputError.

        distance: how far apart the copies of a sample are in the batch, which is the number of samples without copies.
        """
        done = ForwardPass(dict(inputs))
        with FORWARD:
            for step in self._steps:
                checkpoint()
                try:
                    if isinstance(step, SegmentForward):
                        step(done)
                    else:
                        cell = self.cells[step.node.name]
                        values = values_by_slot(step.node, self.graph, done.values, cell.reads)
                        done.values.update(cell.predict(values, distance, self._wanted))
                except Error:
                    raise
                except Exception as error:  # ONNX Runtime's own types are not public
                    raise InputError(f"the model cannot run on these inputs: {runtime_message(error)}") from error
        constants = self.graph.constants
        return done.values | {name: constants[name].copy() for name in self.graph.outputs if name in constants}


def recurrent_nodes(engine: Engine, head: Head) -> list[BackwardNode]:
    """Returns the recurrent nodes that the explained value depends on and whose kernels can run, in order; not those
    inside the bodies of control-flow nodes.
    """
    graph = engine.graph
    nodes = path(graph, live_values(graph, graph.inputs), [head.value], strict=False)
    return [node for node in nodes if node.kind is Kind.RECURRENT and node.node.name in engine.cells]
