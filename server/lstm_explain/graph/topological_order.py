"""Nodes in the order in which they can run. ONNX asks for it; runtimes do without, and so do tools that add nodes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from onnx import ModelProto, NodeProto

from lstm_explain.graph.protos import bodies_of, graphs_of


def put_in_order(model: ModelProto) -> None:
    """Those of bodies and functions too. Where values depend on each other in a circle, nothing changes."""
    for part in (*graphs_of(model), *model.functions):
        _sort(part.node)


def _sort(nodes: Any) -> None:
    """nodes: a repeated field. Of those that can run, the one that came first comes first."""
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    before = [{makers[name] for name in names_read(node) if name in makers} - {i} for i, node in enumerate(nodes)]
    if all(maker < i for i, needed in enumerate(before) for maker in needed):
        return
    behind: dict[int, list[int]] = {}
    for i, needed in enumerate(before):
        for maker in needed:
            behind.setdefault(maker, []).append(i)
    ready = [i for i, needed in enumerate(before) if not needed]
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for i in behind.get(order[-1], []):
            before[i].discard(order[-1])
            if not before[i]:
                heapq.heappush(ready, i)
    if len(order) == len(nodes):
        sorted_nodes = [_copy(nodes[i]) for i in order]
        del nodes[:]
        nodes.extend(sorted_nodes)


def _copy(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def names_read(node: NodeProto) -> Iterator[str]:
    """What the node reads, in its bodies too; names that a body makes itself hide those around it."""
    yield from node.input
    for body in bodies_of(node):
        own = {v.name for v in body.input} | {t.name for t in body.initializer}
        own |= {name for inner in body.node for name in inner.output}
        inside = (name for inner in body.node for name in names_read(inner))
        yield from (name for name in (*inside, *(o.name for o in body.output)) if name not in own)
