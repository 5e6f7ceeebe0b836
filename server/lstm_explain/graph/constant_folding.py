# SPDX-License-Identifier: Apache-2.0
"""Evaluates expressions that no input reaches, and replaces an If by its branch where the condition is constant."""

from __future__ import annotations

import math

import numpy as np

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.graph.node_editing import make, renamed
from lstm_explain.graph.read import node_of
from lstm_explain.graph.session import session_of

# Larger results are not folded and are computed when they are needed: a file of a few bytes must not fill the memory.
MAX_ELEMENTS = 1 << 24
RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
GROWING = {"ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Pad", "OneHot", "EyeLike", "Upsample"}

FRAMES = {"STFT"}  # recurrent_operands.py checks these before they run.
SEQUENCES = {
    "SequenceEmpty",
    "SequenceConstruct",
    "SequenceInsert",
    "SequenceErase",
    "SplitToSequence",
}  # their results are not arrays


def fold_constants(graph: Graph) -> Graph:
    """Turns every constant expression of the graph and its bodies into a constant, in place."""
    while True:
        _fold_nodes(graph)
        if not _take_known_branches(graph):
            break
    for node in graph.nodes:
        for body in node.bodies.values():
            body.constants |= {name: graph.constants[name] for name in body.captured if name in graph.constants}
            fold_constants(body)
    return graph


def _fold_nodes(graph: Graph) -> None:
    foldable: list[Node] = []
    known = set(graph.constants)
    for node in graph.nodes:
        if _is_foldable(graph, node, known):
            foldable.append(node)
            known.update(o for o in node.outputs if o)
    if not foldable:
        return
    outputs = [o for n in foldable for o in n.outputs if o]
    try:
        values = session_of(graph, foldable, [], outputs, optimise=False, flush=False).run(None, {})
    except Exception:  # An operator that this runtime lacks stays in the graph and is reported where it is needed.
        return
    graph.constants.update((name, np.asarray(value)) for name, value in zip(outputs, values, strict=True))
    folded = set(map(id, foldable))
    graph.nodes = [n for n in graph.nodes if id(n) not in folded]


def _is_foldable(graph: Graph, node: Node, known: set[str]) -> bool:
    if (
        is_random(graph, node)
        or node.op in SEQUENCES
        or node.op in FRAMES
        or node.bodies
        or not all(name in known for name in node.inputs if name)
    ):
        return False
    if node.op not in GROWING:
        return True
    sizes = [graph.type_of(o).static_shape for o in node.outputs if o]
    return all(s is not None and math.prod(s) <= MAX_ELEMENTS for s in sizes)


def is_random(graph: Graph, node: Node) -> bool:
    """Returns whether the node may return something else for the same operands. Dropout does in training mode."""
    if node.op != "Dropout" or not node.input(2):
        return node.op in RANDOM
    training = graph.constants.get(node.input(2))
    return training is None or bool(training.any())


def _take_known_branches(graph: Graph) -> bool:
    """Replaces each If with a constant condition by the nodes of the branch that it takes. Returns whether there was
    one.
    """
    nodes: list[Node] = []
    changed = False
    for node in graph.nodes:
        condition = graph.constants.get(node.input(0)) if node.op == "If" else None
        if condition is None or condition.size != 1:
            nodes.append(node)
            continue
        changed = True
        nodes += _inlined(graph, node, node.bodies["then_branch" if condition.reshape(-1)[0] else "else_branch"])
    graph.nodes = nodes
    return changed


def _inlined(graph: Graph, node: Node, body: Graph) -> list[Node]:
    """Returns the nodes of the body. The values that the body itself computes are renamed so that they do not collide
    with those of the graph.
    """
    own_constants = [name for name in body.constants if body.constants[name] is not graph.constants.get(name)]
    own = [o for n in body.nodes for o in n.outputs if o] + own_constants
    names = {name: f"{node.name}/{name}" for name in own}
    for name, new in names.items():
        graph.types[new] = body.type_of(name)
        if name in body.constants:
            graph.constants[new] = body.constants[name]
    copies = [node_of(graph, renamed(inner.proto, names, f"{node.name}/")) for inner in body.nodes]
    for inner_name, outer in zip(body.outputs, node.outputs, strict=True):
        if outer:
            copies.append(make("Identity", [names.get(inner_name, inner_name)], [outer], node.opset))
    return copies
