# SPDX-License-Identifier: Apache-2.0
"""Sorts nodes topologically. ONNX demands this order, but runtimes do not, and tools that add nodes violate it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from onnx import ModelProto, NodeProto

from lstm_explain.graph.protos import bodies_of, copy_of, graphs_of


def sort_nodes(model: ModelProto) -> None:
    """Sorts the nodes of every graph, body and function, in place. Cyclic graphs stay as they are."""
    for part in (*graphs_of(model), *model.functions):
        _sort(part.node)


def _sort(nodes: Any) -> None:
    """nodes: a repeated field. Among the nodes that can run, the first one stays first."""
    producers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    dependencies = [{producers[name] for name in names_read(n) if name in producers} - {i} for i, n in enumerate(nodes)]
    if all(producer < i for i, needed in enumerate(dependencies) for producer in needed):
        return
    order = order_of(dependencies)
    if order is not None:
        sorted_nodes = [copy_of(nodes[i]) for i in order]
        del nodes[:]
        nodes.extend(sorted_nodes)


def order_of(dependencies: list[set[int]]) -> list[int] | None:
    """Returns an order in which each comes after what it depends on, and otherwise the first one stays first; None
    where there is none. dependencies: emptied.
    """
    consumers: dict[int, list[int]] = {}
    for i, needed in enumerate(dependencies):
        for producer in needed:
            consumers.setdefault(producer, []).append(i)
    ready = [i for i, needed in enumerate(dependencies) if not needed]
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for i in consumers.get(order[-1], []):
            dependencies[i].discard(order[-1])
            if not dependencies[i]:
                heapq.heappush(ready, i)
    return order if len(order) == len(dependencies) else None


def names_read(node: NodeProto) -> Iterator[str]:
    """Yields the names that the node and its bodies read. A name that a body defines itself hides the one in an
    enclosing graph.
    """
    yield from node.input
    for body in bodies_of(node):
        own = {v.name for v in body.input} | {t.name for t in body.initializer}
        own |= {name for inner in body.node for name in inner.output}
        inside = (name for inner in body.node for name in names_read(inner))
        yield from (name for name in (*inside, *(o.name for o in body.output)) if name not in own)
