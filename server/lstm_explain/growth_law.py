# SPDX-License-Identifier: Apache-2.0
"""Laws of growth: bytes as polynomials of extents, found by doubling one extent at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Monomials = dict[tuple[int, ...], float]


@dataclass(frozen=True)
class Law:
    """Bytes as a polynomial of extents: a coefficient for each tuple of exponents.

    first: the extents that the polynomial is relative to.
    """

    first: tuple[int, ...]
    monomials: Monomials

    def at(self, extents: Sequence[int]) -> float:
        ratios = [e / f for e, f in zip(extents, self.first, strict=True)]
        return sum(
            c * math.prod(r**p for r, p in zip(ratios, powers, strict=True)) for powers, c in self.monomials.items()
        )


def law_of(first: tuple[int, ...], size: float, doubled: Sequence[float]) -> Law:
    """Returns the law from the size at `first`, and with each extent doubled separately."""
    monomials: Monomials = {(): size}
    for twice in doubled:
        grown: Monomials = {}
        for power, share in _shares(twice / size if size else 1.0):
            for powers, coefficient in monomials.items():
                grown[(*powers, power)] = grown.get((*powers, power), 0.0) + share * coefficient
        monomials = grown
    return Law(first, monomials)


def _shares(growth: float) -> list[tuple[int, float]]:
    """Powers of an extent that explain the growth when it doubles, with their shares: one power, and perhaps a
    constant.
    """
    power = 0 if growth <= 1.02 else max(1, round(math.log2(growth)))
    if power == 0:
        return [(0, 1.0)]
    share = (growth - 1) / (2**power - 1)
    return [(power, share)] if abs(share - 1) < 0.02 else [(power, share), (0, 1 - share)]


def total(laws: Iterable[Law]) -> Law:
    laws = list(laws)
    monomials: Monomials = {}
    for law in laws:
        for powers, coefficient in law.monomials.items():
            monomials[powers] = monomials.get(powers, 0.0) + coefficient
    return Law(laws[0].first if laws else (), monomials)
