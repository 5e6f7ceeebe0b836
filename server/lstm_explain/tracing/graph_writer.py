# SPDX-License-Identifier: Apache-2.0
"""Writes ONNX nodes: names values, shares equal nodes, and places a node in the outermost graph that has its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from lstm_explain.graph.ir import Array

PREFIX = "explain/"  # of every value and node that the compiler adds


@dataclass
class Level:
    """One graph that is being written: the main graph, or the body of a Scan.

    known: outputs by what computes them. handed_out: values of its own nodes that are outputs of the body.
    """

    nodes: list[NodeProto] = field(default_factory=list)
    known: dict[object, list[str]] = field(default_factory=dict)
    handed_out: set[str] = field(default_factory=set)


class GraphWriter:
    """A graph and the bodies that are open inside it, innermost last.

    A node whose inputs all come from an enclosing graph is written there, so that no body repeats what does not change
    from step to step.
    """

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self.levels = [Level()]
        self.initializers: dict[str, TensorProto] = {}
        self._depth: dict[str, int] = {}  # of values that are not in the main graph
        self._constants: dict[object, str] = {}
        self._taken = set(taken)
        self._count = 0

    def fresh(self, hint: str) -> str:
        """Returns a name that no value has."""
        while True:
            self._count += 1
            name = f"{PREFIX}{hint}_{self._count}"
            if name not in self._taken:
                return name

    def constant(self, array: Array) -> str:
        """Returns the initializer with these numbers; equal ones are shared."""
        key = (array.dtype.str, array.shape, array.tobytes())
        name = self._constants.get(key)
        if name is None:
            name = self._constants[key] = self.fresh("constant")
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def node(
        self, op: str, inputs: Sequence[str], attributes: Mapping[str, Any] | None = None, count: int = 1
    ) -> list[str]:
        """Returns the outputs of a node, of which there is one for equal operators, inputs and attributes."""
        given = {k: v for k, v in (attributes or {}).items() if v is not None}
        bodies = any(isinstance(v, GraphProto) for v in given.values())
        captured = [name for v in given.values() if isinstance(v, GraphProto) for name in captured_by(v)]
        depth = max((self._depth.get(name, 0) for name in (*inputs, *captured)), default=0)
        key = None if bodies else (op, tuple(inputs), tuple(sorted((k, _frozen(v)) for k, v in given.items())), count)
        if key is not None:
            for level in self.levels[: depth + 1]:
                if key in level.known:
                    return level.known[key]
        outputs = [self.fresh(op) for _ in range(count)]
        proto = helper.make_node(op, list(inputs), outputs, name=outputs[0], **given)
        self.levels[depth].nodes.append(proto)
        for name in outputs:
            self._depth[name] = depth
        if key is not None:
            self.levels[depth].known[key] = outputs
        return outputs

    # --- bodies -----------------------------------------------------------------------------------------------------

    def open_body(self, inputs: Sequence[str]) -> None:
        """Begins the body of a control-flow node; `inputs` are its own inputs."""
        self.levels.append(Level())
        for name in inputs:
            self._depth[name] = len(self.levels) - 1

    def hand_out(self, name: str) -> str:
        """Returns a value of the innermost body, as one of its outputs, each of which a node of its own must make."""
        level = self.levels[-1]
        if name not in level.handed_out and any(name in node.output for node in level.nodes):
            level.handed_out.add(name)
            return name
        made = self.fresh("result")
        self.levels[-1].nodes.append(helper.make_node("Identity", [name], [made], name=made))
        return made

    def close_body(self) -> list[NodeProto]:
        """Returns the nodes of the innermost body, which ends."""
        return self.levels.pop().nodes

    def add(self, nodes: Sequence[NodeProto]) -> None:
        """Adds nodes to the innermost graph that is open, as they are."""
        self.levels[-1].nodes.extend(nodes)
        self._depth.update((name, len(self.levels) - 1) for node in nodes for name in node.output)


def captured_by(graph: GraphProto) -> list[str]:
    """Returns the values that a body reads from the graphs around it."""
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    found: dict[str, None] = {}
    for node in graph.node:
        read = list(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                read += captured_by(attribute.g)
        found.update((name, None) for name in read if name and name not in own)
        own.update(node.output)
    found.update((v.name, None) for v in graph.output if v.name not in own)
    return list(found)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
