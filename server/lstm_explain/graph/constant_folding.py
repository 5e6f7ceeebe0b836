"""Evaluates what no input reaches, once, and takes the branch of an If whose condition is known."""

from __future__ import annotations

import math

import numpy as np

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.graph.node_editing import make, renamed
from lstm_explain.graph.read import node_of
from lstm_explain.graph.session import session_of

# Larger results stay in the graph and are computed when asked for: a file of a few bytes must not fill the memory.
MOST_ELEMENTS = 1 << 24
RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
GROWING = {"ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Pad", "OneHot", "EyeLike", "Upsample"}

FRAMES = {"STFT"}  # checked before it runs, see recurrent_operands.py
SEQUENCES = {"SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SequenceErase", "SplitToSequence"}  # no arrays


def fold_constants(graph: Graph) -> Graph:
    """The same graph with every constant expression turned into a constant, in its bodies too."""
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
    wanted = [o for n in foldable for o in n.outputs if o]
    try:
        values = session_of(graph, foldable, [], wanted, optimise=False).run(None, {})
    except Exception:  # an operator that this runtime lacks stays in the graph and is reported where it is needed
        return
    graph.constants.update((name, np.asarray(value)) for name, value in zip(wanted, values, strict=True))
    gone = set(map(id, foldable))
    graph.nodes = [n for n in graph.nodes if id(n) not in gone]


def _is_foldable(graph: Graph, node: Node, known: set[str]) -> bool:
    if (
        node.op in RANDOM
        or node.op in SEQUENCES
        or node.op in FRAMES
        or node.bodies
        or not all(name in known for name in node.inputs if name)
    ):
        return False
    if node.op not in GROWING:
        return True
    sizes = [graph.type_of(o).static_shape for o in node.outputs if o]
    return all(s is not None and math.prod(s) <= MOST_ELEMENTS for s in sizes)


def _take_known_branches(graph: Graph) -> bool:
    """Replaces each If on a constant by the nodes of the branch it takes; tells whether there was one."""
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
    """The body's nodes, its own values renamed so that they cannot meet those of the graph."""
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
