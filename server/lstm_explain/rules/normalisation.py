"""Normalisation by statistics of training. The kinds that measure their own input are rewritten: graph/canonical.py."""

from __future__ import annotations

import numpy as np

from lstm_explain.graph.ir import Array, Node
from lstm_explain.rules.op import Kind, Op, Site, add


def _channels(s: Site, a: Array) -> Array:
    rank = len(s.shape(0))
    return a.reshape(1, -1, *(1,) * (rank - 2)) if rank > 1 else a


def _factor(s: Site) -> Array:
    variance = s.x(4)
    return s.x(1) / np.sqrt(variance + variance.dtype.type(s.attribute("epsilon", 1e-5)))


def _batch_norm(s: Site, slot: int, g: Array) -> Array:
    return g * _channels(s, _factor(s))


def _batch_norm_shift(s: Site) -> Array:
    return _channels(s, s.x(2) - s.x(3) * _factor(s))


def _batch_norm_check(node: Node) -> str:
    if node.attribute("training_mode", 0) or len([o for o in node.outputs if o]) > 1:
        return "it normalises by its own batch (training mode), so samples have no prediction of their own"
    return "" if node.attribute("spatial", 1) else "spatial=0 has no rule"


# Scale and shift, one unit an output: the sum that decomposed graphs write as Mul and Add.
add(
    "BatchNormalization",
    Op(
        Kind.SUM,
        _batch_norm,
        carries=(0,),
        reads=("s", "others"),
        bias=_batch_norm_shift,
        spread=lambda s, slot, amount: amount,
        check=_batch_norm_check,
    ),
)
