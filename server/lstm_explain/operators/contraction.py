# SPDX-License-Identifier: Apache-2.0
"""Contractions of two live operands, as in attention, and Einsum.

A contraction has a label per axis, as in Einsum: `ik,kj->ij`. Every term of a sum is a product a * s: the epsilon rule
distributes relevance over the terms, then the product rule divides each term's relevance between its factors.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import STABILISER, Array, Node
from lstm_explain.methods import LRP
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import einsum, gather_at, is_numpy, namespace, scatter_add
from lstm_explain.operators.formulas import At, Shares, settle, shared
from lstm_explain.operators.operator import (
    BatchLayout,
    Kind,
    NodeContext,
    Operator,
    SamplesMixed,
    Trait,
    add,
    unbroadcast,
)

Shape = tuple[int, ...]
MAX_TERMS = 1 << 21  # terms in memory at once, where the rule needs each term by itself


@dataclass(frozen=True)
class Contraction:
    """Labels of the axes of the operands and of the output, and their extents."""

    operands: tuple[str, ...]
    out: str
    extents: Mapping[str, int]

    def vjp(self, slot: int, g: Array, others: list[Array | None]) -> Array:
        """Return the gradient of one operand, given the others, with None in its own place."""
        given = [(labels, x) for labels, x in zip(self.operands, others, strict=True) if x is not None]
        known = set(self.out).union(*(labels for labels, _ in given))
        target = self.operands[slot]
        reached = "".join(c for c in target if c in known)
        equation = f"{','.join([self.out, *(labels for labels, _ in given)])}->{reached}"
        r = einsum(equation, g, *(x for _, x in given), optimize=True)
        return self.broadcast(r, reached, target)

    def spread(self, slot: int, amount: Array) -> Array:
        """Distribute each output's amount equally over the units of one operand that feed it."""
        target = self.operands[slot]
        reached = "".join(c for c in target if c in self.out)
        r = einsum(f"{self.out}->{reached}", amount)
        return self.broadcast(r, reached, target) / self.fan_in(slot)

    def fan_in(self, slot: int) -> float:
        return float(math.prod(self.extents[c] for c in self.operands[slot] if c not in self.out))

    def _extent(self, label: str) -> int:
        return self.extents.get(label, 1)

    def broadcast(self, r: Array, labels: str, target: str) -> Array:
        """Broadcast along the axes that the array lacks."""
        index = tuple(slice(None) if c in labels else None for c in target)
        return namespace(r).broadcast_to(r[index], tuple(self.extents[c] for c in target))

    def shares(
        self, r: Array, p: Array, a: Array, s: Array, gate: int | None, lrp: LRP, field: str = "layers"
    ) -> tuple[list[Array | None], Array]:
        """Return the relevance of both operands, and what the stabilisers of the output and of the terms absorb.

        field: of `Stabiliser`, the one that holds the beta of the sum.
        """
        relative = lrp.relative
        at = At(lrp.epsilon or 0.0)
        if relative is not None:
            at = At(0.0, getattr(relative, field), self.magnitude(a, s))
        density, kept = settle(r, p, at)
        summed = [c for c in self.extents if c not in self.out] or ["_"]  # without summed axes, one of extent 1
        each = kept * (lrp.bias_factor / math.prod(self._extent(c) for c in summed))  # per term
        absorbed = kept * (1 - lrp.bias_factor)
        if lrp.gate_rule in ("all", "half"):
            return self._fixed_shares(density, each, a, s, gate, lrp), absorbed
        parts, lost_in_terms = self._shares_by_term(summed, density, each, (a, s), gate, lrp)
        return list(parts), absorbed + lost_in_terms

    def magnitude(self, a: Array, s: Array) -> Array:
        """Return the sum of the absolute terms, of the output's shape."""
        xp = namespace(a)
        return einsum(f"{self.operands[0]},{self.operands[1]}->{self.out}", xp.abs(a), xp.abs(s))

    def _fixed_shares(
        self, density: Array, each: Array, a: Array, s: Array, gate: int | None, lrp: LRP
    ) -> list[Array | None]:
        """Compute shares that are the same fraction of every term, without the terms themselves."""
        weight = [0.5, 0.5] if lrp.gate_rule == "half" or gate is None else [float(gate == 1), float(gate == 0)]
        parts, xp = list[Array | None](), namespace(density)
        for slot, (x, other) in enumerate(((a, s), (s, a))):
            others: list[Array | None] = [None, other] if slot == 0 else [other, None]
            if weight[slot] == 0:
                parts.append(None)
                continue
            terms = x * self.vjp(slot, density, others)
            if lrp.bias_factor:
                terms = terms + self.vjp(slot, each, [None if o is None else xp.ones_like(o) for o in others])
            parts.append(terms * weight[slot])
        return parts

    def _shares_by_term(
        self, summed: list[str], density: Array, each: Array, factors: tuple[Array, Array], gate: int | None, lrp: LRP
    ) -> tuple[list[Array], Array]:
        """Divide each term between its two factors, for a block of the summed axes at a time."""
        labels = "".join(summed) + self.out
        views = [self._aligned(x, own, labels) for x, own in zip(factors, self.operands, strict=True)]
        if not is_numpy(density):
            return self._shares_of_all_terms(labels, density, each, views, gate, lrp)
        extents = [self._extent(c) for c in summed]
        count = math.prod(extents)
        rows = max(1, MAX_TERMS // max(density.size, 1))
        xp = namespace(density)
        totals, absorbed = [xp.zeros(x.shape, dtype=x.dtype) for x in factors], xp.zeros_like(density)
        for start in range(0, count, rows):
            indices = np.unravel_index(np.arange(start, min(start + rows, count)), extents)
            picked = [gather_at(v, tuple(at % n for at, n in zip(indices, v.shape, strict=False))) for v in views]
            parts, lost = shared(lrp, picked[0] * picked[1] * density + each, picked[0], picked[1], gate)
            absorbed = absorbed + xp.sum(lost, axis=0)
            for total, part, own in zip(totals, parts, self.operands, strict=True):
                self._add(total, part, own, summed, indices)
        return totals, absorbed

    def _shares_of_all_terms(
        self, labels: str, density: Array, each: Array, views: list[Array], gate: int | None, lrp: LRP
    ) -> tuple[list[Array], Array]:
        """Return the same with every term in memory at once."""
        xp, summed = namespace(density), len(labels) - len(self.out)
        parts, lost = shared(lrp, views[0] * views[1] * density + each, views[0], views[1], gate)
        totals = []
        for part, own in zip(parts, self.operands, strict=True):
            kept = "".join(c for c in labels if c in own)
            total = xp.sum(part, axis=tuple(i for i, c in enumerate(labels) if c not in own))
            totals.append(xp.permute_dims(total, tuple(kept.index(c) for c in own)))
        return totals, xp.sum(lost, axis=tuple(range(summed)))

    def _aligned(self, x: Array, own: str, labels: str) -> Array:
        """Return a view with an axis per label in their order, of extent 1 where the operand lacks the label."""
        order = [own.index(c) for c in labels if c in own]
        return namespace(x).permute_dims(x, tuple(order))[tuple(slice(None) if c in own else None for c in labels)]

    def _add(self, total: Array, part: Array, own: str, summed: list[str], indices: tuple[Array, ...]) -> None:
        """Add parts of terms [indices, *out] to the elements of the operand that they come from."""
        kept = "".join(c for c in self.out if c in own)
        axes = tuple(1 + i for i, c in enumerate(self.out) if c not in own)
        xp = namespace(part)
        part = xp.sum(part, axis=axes)
        inner = [c for c in summed if c in own]
        view = xp.permute_dims(total, tuple(own.index(c) for c in [*inner, *kept]))
        where = tuple(at for at, c in zip(indices, summed, strict=True) if c in own)
        if where:
            scatter_add(view, where, part)
        else:
            view += xp.sum(part, axis=0)


# --- MatMul of two live values -----------------------------------------------------------------------------------


class Matrices(Contraction):
    """`...ik,...kj->...ij`"""

    def vjp(self, slot: int, g: Array, others: list[Array | None]) -> Array:
        other = others[1 - slot]
        assert other is not None
        return g @ other.mT if slot == 0 else other.mT @ g

    def magnitude(self, a: Array, s: Array) -> Array:
        xp = namespace(a)
        return xp.asarray(xp.abs(a) @ xp.abs(s))


def _broadcast(a: Shape, b: Shape) -> Shape:
    """Do what `np.broadcast_shapes` does, for symbolic extents too. The shapes are known to fit."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    return tuple(other if own == 1 else own for own, other in pairs)


def share_matmul(ctx: NodeContext, r: Array, gate: int | None, lrp: LRP) -> Shares:
    """Return the product rule of MatMul: vectors become matrices and batch axes broadcast, as in np.matmul."""
    a, b = ctx.x(0), ctx.x(1)
    left, right = (a[None, :] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    batch = _broadcast(left.shape[:-2], right.shape[:-2])
    labels = "".join(chr(ord("A") + i) for i in range(len(batch)))
    extents = dict(zip(f"{labels}ikj", (*batch, *left.shape[-2:], right.shape[-1]), strict=True))
    matrices = Matrices((f"{labels}ik", f"{labels}kj"), f"{labels}ij", extents)
    out = (*batch, left.shape[-2], right.shape[-1])
    xp = namespace(r)
    factors = [xp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (left, right)]
    field = ctx.node.metadata(STABILISER) or "layers"
    whole = (xp.reshape(r, out), xp.reshape(ctx.y(), out))
    parts, absorbed = matrices.shares(*whole, factors[0], factors[1], gate, lrp, field)
    narrow = [
        None if part is None else xp.reshape(unbroadcast(part, x.shape), own.shape)
        for part, x, own in zip(parts, (left, right), (a, b), strict=True)
    ]
    return narrow, xp.reshape(absorbed, r.shape)


# --- Einsum ------------------------------------------------------------------------------------------------------


def _labels(equation: str, ranks: list[int]) -> tuple[tuple[str, ...], str]:
    """Return labels of every axis, with letters for an ellipsis; the default output has the labels that occur once."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = "".join(chr(c) for c in range(ord("\N{GREEK SMALL LETTER ALPHA}"), ord("\N{GREEK SMALL LETTER ALPHA}") + 9))
    widths = [
        rank - len(term.replace("...", "")) if "..." in term else 0 for term, rank in zip(terms, ranks, strict=True)
    ]
    most = max(widths)
    operands = tuple(term.replace("...", spare[most - width : most]) for term, width in zip(terms, widths, strict=True))
    if arrow:
        return operands, out.replace("...", spare[:most])
    once = sorted({c for c in "".join(operands) if "".join(operands).count(c) == 1 and c not in spare})
    return operands, spare[:most] + "".join(once)


def _contraction(ctx: NodeContext) -> Contraction:
    """Return the contraction without repeated labels in an operand, whose diagonal takes the operand's place."""
    labels, out = _ascii_labels(ctx)
    shapes = [ctx.shape(i) for i in range(len(labels))]
    extents = {c: n for term, shape in zip(labels, shapes, strict=True) for c, n in zip(term, shape, strict=True)}
    return Contraction(tuple("".join(dict.fromkeys(term)) for term in labels), out, extents)


def _ascii_labels(ctx: NodeContext) -> tuple[tuple[str, ...], str]:
    """Return the labels as ASCII letters, which NumPy requires."""
    operands, out = _labels(ctx.attribute("equation"), [len(ctx.shape(i)) for i in range(len(ctx.node.inputs))])
    names = {c: chr(ord("a") + i) for i, c in enumerate(dict.fromkeys("".join(operands)))}
    return tuple("".join(names[c] for c in term) for term in operands), "".join(names[c] for c in out)


def _diagonal(ctx: NodeContext, slot: int, x: Array) -> Array:
    """Return a view of the elements where all axes of a repeated label have the same index."""
    labels = _ascii_labels(ctx)[0][slot]
    kept = "".join(dict.fromkeys(labels))
    return x if kept == labels else einsum(f"{labels}->{kept}", x)


def _on_diagonal(ctx: NodeContext, slot: int, r: Array) -> Array:
    """Write the diagonal back to an operand of zeros."""
    shape = ctx.shape(slot)
    if r.ndim == len(shape):
        return r
    labels, xp = _ascii_labels(ctx)[0][slot], namespace(r)
    first = [labels.index(c) for c in labels]
    spread = r[tuple(slice(None) if i == axis else None for i, axis in enumerate(first))]
    position = [xp.reshape(xp.arange(n), (1,) * i + (n,) + (1,) * (len(shape) - i - 1)) for i, n in enumerate(shape)]
    here = [position[i] == position[axis] for i, axis in enumerate(first) if i != axis]
    return xp.where(functools.reduce(operator.and_, here), xp.broadcast_to(spread, shape), 0)


def _einsum_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.PRODUCT if len(live) > 1 else Kind.MAP


def _einsum(ctx: NodeContext, slot: int, g: Array) -> Array:
    others = [None if i == slot else _diagonal(ctx, i, ctx.x(i)) for i in range(len(ctx.node.inputs))]
    return _on_diagonal(ctx, slot, _contraction(ctx).vjp(slot, g, others))


def _einsum_share(ctx: NodeContext, r: Array, gate: int | None, lrp: LRP) -> Shares:
    factors = [_diagonal(ctx, i, ctx.x(i)) for i in (0, 1)]
    parts, absorbed = _contraction(ctx).shares(r, ctx.y(), factors[0], factors[1], gate, lrp)
    return [None if part is None else _on_diagonal(ctx, i, part) for i, part in enumerate(parts)], absorbed


def _einsum_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    operands, out_labels = _ascii_labels(ctx)
    label, own = out_labels[layout.axis], operands[slot]
    if label not in own:
        raise SamplesMixed
    return BatchLayout(own.index(label), layout.inner)


add(
    "Einsum",
    Operator(
        _einsum_kind,
        _einsum,
        Trait.NOT_IN_PLACE,
        saved=("shape", "shapes", "others"),
        spread=lambda ctx, slot, amount: _on_diagonal(ctx, slot, _contraction(ctx).spread(slot, amount)),
        fan_in=lambda ctx, slot: _contraction(ctx).fan_in(slot),
        layout=_einsum_layout,
        axes=axis_rules.contracted,
        product_rule=_einsum_share,
        numpy_only=("einsum",),
        note="contracts two operands at a time; two live operands as in MatMul",
    ),
)
