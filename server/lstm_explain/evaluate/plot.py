"""Line charts as SVG, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

# Okabe and Ito's colours, which colour-blind people tell apart, and dashes for the second round.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 64, 210, 36, 48
LEAST_GAP = 13.0  # between two labels


def line_chart(
    x: Sequence[float], lines: Mapping[str, Sequence[float]], title: str = "", x_label: str = "", y_label: str = ""
) -> str:
    """A line for every name, labelled at its end."""
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
    parts += [_text(at(tick, low)[0], HEIGHT - BOTTOM + 18, f"{tick:g}", anchor="middle") for tick in _few(x)]
    labels = []
    for i, (name, line) in enumerate(lines.items()):
        colour, dash = COLOURS[i % len(COLOURS)], "6 4" if i >= len(COLOURS) else ""
        points = [at(a, b) for a, b in zip(x, line, strict=True) if math.isfinite(b)]
        parts.append(_line(points, colour, 2, dash))
        if points:
            labels.append((points[-1][1], name, colour))
    parts += [_text(WIDTH - RIGHT + 8, y + 4, name, colour=colour) for y, name, colour in _apart(labels)]
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    white = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">{white}{"".join(parts)}</svg>\n'


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that enclose the range."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / wanted
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(m * scale for m in (1, 2, 2.5, 5, 10) if m * scale >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _few(x: Sequence[float]) -> list[float]:
    return [float(v) for v in x] if len(x) <= 12 else nice_ticks(min(x), max(x))


def _apart(labels: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Moved down until none covers another."""
    placed: list[tuple[float, str, str]] = []
    for y, name, colour in sorted(labels):
        placed.append((max(y, placed[-1][0] + LEAST_GAP) if placed else y, name, colour))
    return placed


def _line(points: Sequence[tuple[float, float]], colour: str, width: float, dash: str = "") -> str:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222222", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"'
    return f"<text {place}>{escape(text)}</text>"
