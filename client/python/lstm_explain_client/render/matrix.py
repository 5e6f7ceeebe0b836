# SPDX-License-Identifier: Apache-2.0
"""Draws a time-by-feature heatmap as one inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client.render.grid import Grid, Step, grid, ticks
from lstm_explain_client.render.html import fragment, legend_bar, text
from lstm_explain_client.render.scale import FAINT, MINUS, STRONG, colour, largest, number, share

Array = npt.NDArray[Any]

# Pixels of the drawing; it scales with the page.
_LEFT, _PLOT, _RIGHT = 132, 740, 88
_CELLS_UP_TO = 60  # steps that are drawn as cells with a mark each; longer series are strips with bars
_LEVELS = 24  # shades in a strip


def matrix(
    relevance: npt.ArrayLike,
    features: Sequence[str] | None = None,
    *,
    values: npt.ArrayLike | None = None,
    steps: Sequence[Step] | None = None,
    scale: float | None = None,
    most_features: int = 16,
    legend: bool = True,
    total: str = "all features",
) -> str:
    """Return the relevance of every feature at every time step, as an HTML fragment.

    relevance: [time, features] or [time]. features: the names. values: the input in this shape, shown above each row.
    steps: a label (date, str or int) per step; dates give an axis in months. scale: the magnitude with full colour;
    default the largest. Beyond `most_features` features, the smallest ones are summed into one row with its own scale;
    beyond 740 steps, spans of equal length are summed. total: what the sum over all rows is called. Raises ValueError
    if shapes do not match.
    """
    table = grid(relevance, features, values, steps, most_features, _PLOT)
    top = scale if scale and table.every == 1 else largest(table.relevance[:, : table.kept])
    rows = [*(_cell_rows if table.width <= _CELLS_UP_TO else _strip_rows)(table, top), *_sum_rows(table, total)]
    note = f'<div class="note">Each column is the sum of {table.every} steps.</div>' if table.every > 1 else ""
    return fragment(_drawing(table, rows), legend_bar(top) if legend else "", note)


def _drawing(table: Grid, rows: Sequence[tuple[int, str]]) -> str:
    """Stacks rows, each with its height and its content relative to its top, and adds the axis."""
    y, parts = 16, [_say(_LEFT + _PLOT + 10, 9, "sum", size=11, faded=True)]
    for height, content in rows:
        parts.append(f'<g transform="translate(0 {y})">{content}</g>')
        y += height
    parts.append(f'<g transform="translate(0 {y})">{_axis(table)}</g>')
    label = text(_summary(table))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _PLOT + _RIGHT} {y + 24}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _summary(table: Grid) -> str:
    """Returns the picture in words: sums by feature, and the largest single entries."""
    finite = np.nan_to_num(table.relevance)
    sums = (f"{name} {number(float(total))}" for name, total in zip(table.names, finite.sum(0), strict=True))
    order = np.argsort(-np.abs(finite), axis=None, kind="stable")[:5]
    peaks = (divmod(int(i), finite.shape[1]) for i in order)
    tops = (f"{table.names[f]} at {table.label(t)} {number(float(finite[t, f]))}" for t, f in peaks)
    return f"Relevance by feature: {', '.join(sums)}. Largest entries: {', '.join(tops)}."


def _cell_rows(table: Grid, top: float) -> Iterator[tuple[int, str]]:
    cell, height = _PLOT / table.width, 26
    for row, name in enumerate(table.names[: table.kept]):
        head, line = _head(table, row, 20)
        cells = (_cell(table, row, column, cell, head, height - 2, top) for column in range(table.width))
        yield head + height + 6, _row_label(table, row, head + height / 2, name) + line + "".join(cells)


def _cell(table: Grid, row: int, column: int, width: float, y: float, height: float, top: float) -> str:
    value = float(table.relevance[column, row])
    part = share(value, top)
    x = _LEFT + column * width
    title = f"{text(table.names[row])}, {text(table.label(column))}: {number(value)}"
    box = (
        f'<rect x="{x + 0.5:.4g}" y="{y}" width="{width - 1:.4g}" height="{height}" rx="2" style="fill:{colour(part)}" '
        f'stroke="currentColor" stroke-opacity=".18"/>'
    )
    return f"<g><title>{title}</title>{box}{_cell_mark(part, value, x + width / 2, y + height / 2, width)}</g>"


def _cell_mark(part: float, value: float, x: float, y: float, width: float) -> str:
    """Returns the number where it fits, otherwise a sign whose size grows with the value."""
    if abs(part) < FAINT:
        return ""
    shown, size = number(value), 11.0
    if len(shown) * 6.4 > width - 4:
        shown, size = ("+" if value > 0 else MINUS), 9 + 9 * abs(part)
    return _say(x, y + size * 0.36, shown, size=size, anchor="middle", white=abs(part) >= STRONG)


def _strip_rows(table: Grid, top: float) -> Iterator[tuple[int, str]]:
    for row, name in enumerate(table.names[: table.kept]):
        head, line = _head(table, row, 30)
        strip = _strip(table.relevance[:, row], top, head, 12)
        bars = _bars(table.relevance[:, row], top, head + 15, 34)
        label = _row_label(table, row, head + 20, name)
        yield head + 15 + 34 + 12, label + line + strip + bars


def _sum_rows(table: Grid, total: str) -> Iterator[tuple[int, str]]:
    """Yields the rows of sums over features: over those without a row of their own, and over all, which is called
    `total`.
    """
    for row in range(table.kept, len(table.names)):
        yield _sum_row(table.names[row], table.relevance[:, row])
    if len(table.names) > 1:
        yield _sum_row(total, table.relevance.sum(1))


def _sum_row(name: str, totals: Array) -> tuple[int, str]:
    """Returns a sum over features, as bars on its own scale, which is printed."""
    top = largest(totals)
    bars = _bars(totals, top, 6, 46)
    label = _say(_LEFT - 10, 28, name, anchor="end", bold=True)
    bounds = _say(_LEFT - 10, 42, f"±{number(top, signed=False)}", size=10.5, anchor="end", faded=True)
    whole = _say(_LEFT + _PLOT + 10, 33, number(float(np.nansum(totals))), bold=True)
    rule = f'<path d="M{_LEFT} 1H{_LEFT + _PLOT}" stroke="currentColor" stroke-opacity=".3"/>'
    return 58, rule + label + bounds + bars + whole


def _head(table: Grid, row: int, height: int) -> tuple[int, str]:
    """Returns the input series above a row: its height and its drawing."""
    if table.values is None:
        return 0, ""
    return height + 3, _line(table.values[:, row], height)


def _line(series: Array, height: float) -> str:
    """Returns a series as a line through the centres of its columns, with gaps where it is not a number."""
    finite = series[np.isfinite(series)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    span = (high - low) or 1.0
    width, pen, path = _PLOT / len(series), "M", []
    for i, value in enumerate(series):
        if not np.isfinite(value):
            pen = "M"
            continue
        y = height - 1 - (float(value) - low) / span * (height - 3) if high > low else height / 2
        path.append(f"{pen}{_LEFT + (i + 0.5) * width:.1f} {y:.1f}")
        pen = "L"
    drawn = "".join(path)
    return f'<path d="{drawn}" fill="none" stroke="currentColor" stroke-opacity=".72" stroke-width="1.1"/>'


def _strip(relevance: Array, top: float, y: float, height: float) -> str:
    """Returns a row of thin cells; one path for every shade."""
    shades: dict[int, list[tuple[int, int]]] = {}
    for start, end, level in _runs([round(share(float(value), top) * _LEVELS) for value in relevance]):
        if level:
            shades.setdefault(level, []).append((start, end))
    width = _PLOT / len(relevance)
    frame = f'<rect x="{_LEFT}" y="{y}" width="{_PLOT}" height="{height}" fill="none" stroke="currentColor" '
    drawn = (
        f'<path style="fill:{colour(level / _LEVELS)}" d="{_boxes(spans, width, y, height)}"/>'
        for level, spans in sorted(shades.items())
    )
    return f'{frame}stroke-opacity=".25"/>{"".join(drawn)}'


def _runs(levels: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yields start, end and value of every stretch of equal values."""
    start = 0
    for i in range(1, len(levels) + 1):
        if i == len(levels) or levels[i] != levels[start]:
            yield start, i, levels[start]
            start = i


def _boxes(spans: Iterable[tuple[int, int]], width: float, y: float, height: float) -> str:
    return "".join(
        f"M{_LEFT + start * width:.2f} {y}h{(end - start) * width:.2f}v{height}h{(start - end) * width:.2f}z"
        for start, end in spans
    )


def _bars(relevance: Array, top: float, y: float, height: float) -> str:
    """Bars around a line in the middle: upward for positive values, downward for negative ones."""
    middle, width = y + height / 2, _PLOT / len(relevance)
    paths: dict[bool, list[str]] = {True: [], False: []}
    for i, value in enumerate(relevance):
        length = share(float(value), top) * height / 2
        if abs(length) >= 0.05:
            paths[length > 0].append(
                f"M{_LEFT + i * width + width * 0.06:.2f} {middle}v{-length:.2f}h{width * 0.88:.2f}v{length:.2f}z"
            )
    sides = (("for", paths[True]), ("against", paths[False]))
    drawn = "".join(f'<path class="{side}" d="{"".join(path)}"/>' for side, path in sides if path)
    zero = f'<path d="M{_LEFT} {middle}H{_LEFT + _PLOT}" stroke="currentColor" stroke-opacity=".45" stroke-width=".7"/>'
    return f'<g stroke="currentColor" stroke-opacity=".25" stroke-width=".4">{drawn}</g>{zero}'


def _row_label(table: Grid, row: int, y: float, name: str) -> str:
    """Returns the name on the left with the input's range below it, and the row's sum on the right."""
    short = name if len(name) <= 19 else name[:18] + "…"
    parts = [
        f"<g><title>{text(name)}</title>{_say(_LEFT - 10, y + 2, short, anchor='end')}</g>",
        _say(_LEFT + _PLOT + 10, y + 4, number(float(np.nansum(table.relevance[:, row])))),
    ]
    if table.values is not None:
        parts.append(_say(_LEFT - 10, y + 15, _range(table.values[:, row]), size=10.5, anchor="end", faded=True))
    return "".join(parts)


def _range(series: Array) -> str:
    finite = series[np.isfinite(series)]
    if not finite.size:
        return ""
    low, high = (number(float(bound), signed=False) for bound in (finite.min(), finite.max()))
    return low if low == high else f"{low} … {high}"


def _axis(table: Grid) -> str:
    width = _PLOT / table.width
    centred = width / 2 if table.width <= _CELLS_UP_TO else 0.0
    parts = []
    for column, label in ticks(table):
        x = _LEFT + column * width + centred
        parts.append(f'<path d="M{x:.2f} 0v4" stroke="currentColor" stroke-opacity=".6"/>')
        parts.append(_say(x, 16, label, size=11, anchor="middle" if centred else "start", faded=True))
    return "".join(parts)


def _say(
    x: float,
    y: float,
    words: str,
    *,
    size: float = 12.5,
    anchor: str = "start",
    bold: bool = False,
    faded: bool = False,
    white: bool = False,
) -> str:
    style = (' font-weight="650"' if bold else "") + (' opacity=".75"' if faded else "")
    ink = ' style="fill:#fff"' if white else ""
    return (
        f'<text x="{x:.4g}" y="{y:.4g}" font-size="{size:.3g}" text-anchor="{anchor}"{style}{ink}>{text(words)}</text>'
    )
