# SPDX-License-Identifier: Apache-2.0
"""Draws line charts as SVG, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean

# Okabe and Ito's colours, which colour-blind people can distinguish. Further lines repeat them with dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 64, 210, 36, 48
TICKS = 5  # on an axis, about
MIN_GAP = 13.0  # between two labels
LEADER = 18.0  # from the end of a line to its label


def line_chart(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    intervals: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """Returns one line for every name, labelled at its end. Colours follow the order of names.

    intervals: by name, half of each point's interval; drawn as a pale band behind the line.
    """
    values = [v for line in lines.values() for v in line if math.isfinite(v)]
    ticks = nice_ticks(min(values, default=0.0), max(values, default=1.0))
    low, high = ticks[0], ticks[-1]
    x_low, x_high = min(x), max(x) if max(x) > min(x) else min(x) + 1

    def at(a: float, b: float) -> tuple[float, float]:
        across = LEFT + (a - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (b - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 20, title, size=15)]
    parts += [_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, anchor="middle")]
    parts += [f'<g transform="rotate(-90 16 {HEIGHT / 2})">{_text(16, HEIGHT / 2, y_label, anchor="middle")}</g>']
    for tick in ticks:
        (start, y), (end, _) = at(x_low, tick), at(x_high, tick)
        parts += [_line([(start, y), (end, y)], "#dddddd", 1), _text(LEFT - 8, y + 4, f"{tick:g}", anchor="end")]
    parts += [_text(at(tick, low)[0], HEIGHT - BOTTOM + 18, f"{tick:g}", anchor="middle") for tick in _x_ticks(x)]
    styles = {name: (COLOURS[i % len(COLOURS)], "6 4" if i >= len(COLOURS) else "") for i, name in enumerate(lines)}
    for name, halves in (intervals or {}).items():
        edges = [[at(a, b + sign * h) for a, b, h in zip(x, lines[name], halves, strict=True)] for sign in (1, -1)]
        parts.append(_band([*edges[0], *reversed(edges[1])], styles[name][0]))
    ends = {}
    for name, line in lines.items():
        points = [at(a, b) for a, b in zip(x, line, strict=True) if math.isfinite(b)]
        parts.append(_line(points, styles[name][0], 2, styles[name][1]))
        if points:
            ends[name] = points[-1]
    for name, y in _spread_labels({name: y for name, (_, y) in ends.items()}).items():
        colour, dash = styles[name]
        parts.append(_line([ends[name], (ends[name][0] + LEADER, y)], colour, 1, dash))
        parts.append(_text(WIDTH - RIGHT + LEADER + 4, y + 4, name, colour=colour))
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    white = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">{white}{"".join(parts)}</svg>\n'


def nice_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers that enclose the range."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / TICKS
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(m * scale for m in (1, 2, 2.5, 5, 10) if m * scale >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _x_ticks(x: Sequence[float]) -> list[float]:
    return [float(v) for v in x] if len(x) <= 12 else nice_ticks(min(x), max(x))


def _spread_labels(labels: Mapping[str, float]) -> dict[str, float]:
    """Heights at which no label covers another, as close as possible to the desired ones (least squares)."""
    blocks: list[list[float]] = []  # blocks of labels that touch: where each label would place the first one
    for i, y in enumerate(sorted(labels.values())):
        blocks.append([y - i * MIN_GAP])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            lower = blocks.pop()
            blocks[-1] += lower
    starts = [fmean(block) for block in blocks for _ in block]
    names = sorted(labels, key=lambda name: labels[name])
    return {name: start + i * MIN_GAP for i, (name, start) in enumerate(zip(names, starts, strict=True))}


def _band(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polygon points="{path}" fill="{colour}" fill-opacity="0.12"/>'


def _line(points: Sequence[tuple[float, float]], colour: str, width: float, dash: str = "") -> str:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222222", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"'
    return f"<text {place}>{escape(text)}</text>"
