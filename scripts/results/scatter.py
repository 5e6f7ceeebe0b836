# SPDX-License-Identifier: Apache-2.0
"""Draws points of several classes as SVG, one panel next to the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
COLOURS = ("#2166ac", "#67a9cf", "#bdbdbd", "#ef8a62", "#b2182b")  # from negative to positive
SIDE, GAP, TOP, BOTTOM = 360, 20, 30, 30


def scatter(panels: Mapping[str, Array], classes: Array, names: Sequence[str]) -> str:
    """panels: by title, points [n, 2]. classes [n]: the colour of each point, one of those of `names`."""
    width = len(panels) * (SIDE + GAP) + GAP
    parts = []
    for number, (title, points) in enumerate(panels.items()):
        left = GAP + number * (SIDE + GAP)
        frame = f'x="{left}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999999"'
        parts.append(f'<text x="{left}" y="20" font-size="15">{escape(title)}</text><rect {frame}/>')
        low, high = np.quantile(points, (0.002, 0.998), axis=0)
        at = np.clip((points - low) / (high - low), 0, 1) * (SIDE - 16) + 8
        parts += [_dots(at[classes == k] + (left, TOP), COLOURS[k]) for k in _drawing_order(len(names))]
    left = float(GAP)
    for name, colour in zip(names, COLOURS, strict=True):
        y = TOP + SIDE + BOTTOM / 2
        parts.append(f'<circle cx="{left + 4:g}" cy="{y + 4:g}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{left + 14:g}" y="{y + 8:g}" font-size="12">{escape(name)}</text>')
        left += 34 + 7 * len(name)
    height = TOP + SIDE + BOTTOM
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    white = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">{white}{"".join(parts)}</svg>\n'


def _drawing_order(count: int) -> list[int]:
    """The classes in the middle first, so that the ends stay visible."""
    return sorted(range(count), key=lambda k: abs(k - (count - 1) / 2))


def _dots(points: Array, colour: str) -> str:
    """All points of a class as one path of lines without length, whose round ends are the dots."""
    path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in points)
    return f'<path d="{path}" stroke="{colour}" stroke-width="4" stroke-linecap="round" stroke-opacity="0.7"/>'
