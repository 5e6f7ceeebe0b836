"""Finds the part of a graph that computes with logarithms, where relevance is the first-order share.

A sum of logarithms is a product, and the exponential of it is a weight. The epsilon rule has no meaning there: log a +
log b may be zero or negative while a * b is neither, and another unit of a adds a constant. What keeps its meaning is
the density (the gradient of the explained value): an exponential turns the relevance R of y = exp u into the density R
at u, which is R / y times dy/du; sums and LogSumExp pass it on by the chain rule; and a logarithm turns the density G
of log z into the relevance G of z, which is z times G / z. Any other value u receives u times its density. A constant
term is a factor, not one of the units of a sum: its share is absorbed, whatever the bias factor is.

Parallel scans in log space (Heinsen 2023, arXiv 2311.06281; minGRU: Feng et al. 2024, arXiv 2410.01201, appendix B) and
the forward algorithm of a conditional random field compute in this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lstm_explain.graph.ir import Node
from lstm_explain.operators.operator import TABLE, Kind, Operator, Trait

SUMS = (Kind.SUM, Kind.SCALE, Kind.ROUTING)
TAKES_DENSITIES = (*SUMS, Kind.MAP, Kind.FIRST_ORDER)


class LogSpace:
    """Visits the nodes that relevance passes, from the outputs to the inputs.

    found: the values known to be in log space: those given, those whose exponential is taken, sums of exponentials
    whose logarithm is taken, and the terms of all of these.
    """

    def __init__(self, producers: Mapping[str, Node], given: Iterable[str] = ()) -> None:
        self.producers = producers
        self.found = set(given)

    def visit(self, node: Node, op: Operator, kind: Kind, live: tuple[int, ...]) -> Kind:
        """Return the kind of the node: FIRST_ORDER where an activation enters or leaves log space, else `kind`."""
        inside = not self.found.isdisjoint(node.outputs)
        enters = Trait.EXPONENTIAL in op.traits or (
            Trait.LOGARITHM in op.traits and self._sums_exponentials(node.inputs[0])
        )
        if kind is Kind.ACTIVATION and (enters or (inside and Trait.LOGARITHM in op.traits)):
            kind = Kind.FIRST_ORDER
        sums = kind in SUMS or (kind is Kind.MAP and _adds_elements(node, op, live))
        if (inside and sums) or (enters and kind is Kind.FIRST_ORDER):
            self.found.update(node.inputs[slot] for slot in live)
        return kind

    def _sums_exponentials(self, value: str) -> bool:
        """Return whether the value is a sum with an exponential among its terms."""
        waiting, seen = [value], set[str]()
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is None or node.name in seen:
                continue
            seen.add(node.name)
            traits = TABLE.traits(node.op)
            if traits & (Trait.EXPONENTIAL | Trait.LOGARITHM) is Trait.EXPONENTIAL:
                return True
            if node.op in ("Add", "Sum") or traits & (Trait.SUM_OR_MEAN | Trait.VIEW):
                waiting += node.inputs
        return False


def _adds_elements(node: Node, op: Operator, live: tuple[int, ...]) -> bool:
    """Return whether a linear map has no weights, as ReduceSum and CumSum have none."""
    return all(slot in live or slot in op.nondifferentiable for slot, name in enumerate(node.inputs) if name)
