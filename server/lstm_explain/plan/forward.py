"""Runs a plan forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.plan import control
from lstm_explain.plan.compile import Plan, Segment
from lstm_explain.plan.live import values_by_slot
from lstm_explain.plan.small import fits
from lstm_explain.rules import Kind
from lstm_explain.rules.recurrent import Recurrent
from lstm_explain.watch import checkpoint


@dataclass
class Pass:
    """One forward pass: every kept value by name, and what our own nodes keep, by node name."""

    values: dict[str, Array]
    tapes: dict[str, Any] = field(default_factory=dict)


def run(plan: Plan, cells: Mapping[str, Recurrent], inputs: Mapping[str, Array]) -> Pass:
    """inputs: every input of the graph, checked. cells: our kernels by node name."""
    done = Pass({name: np.asarray(a) for name, a in inputs.items()})  # ONNX Runtime takes no NumPy scalars
    for step in plan.steps:
        checkpoint()
        if isinstance(step, Segment):
            if step.small is not None and fits(done.values, step.inputs):
                for function, source, output in step.small:
                    done.values[output] = function(done.values[source])
                continue
            feeds = {name: done.values[name] for name in step.inputs}
            done.values.update(zip(step.outputs, step.session.run(step.outputs, feeds), strict=True))
        elif step.kind is Kind.RECURRENT:
            cell = cells[step.node.name]
            outputs, tape = cell.forward(values_by_slot(step.node, plan.graph, done.values, cell.reads), plan.keep)
            done.tapes[step.node.name] = tape
            done.values.update(outputs)
        else:
            made, done.tapes[step.node.name] = control.run_node(step, plan, cells, done.values)
            done.values.update(made)
    for name in plan.constant_outputs:
        done.values[name] = plan.graph.constants[name]
    return done
