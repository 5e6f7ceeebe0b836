# SPDX-License-Identifier: Apache-2.0
"""Draws the same pictures for the terminal, as rich renderables.

Terminals with colours show colours. The marks + and − (more marks for larger values) are always present, so that output
without colour (NO_COLOR, a file, a pipe) can be read too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from rich import box
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lstm_explain_client.render.account import entries
from lstm_explain_client.render.grid import Grid, Step, grid, ticks
from lstm_explain_client.render.scale import AGAINST, FAINT, FOR, MINUS, clean, largest, number, rgb, share
from lstm_explain_client.render.tables import percent

# The widths of a heatmap in characters: the label of a row, its sum, and the columns between them.
MOST_LABEL, MOST_NUMBER, MOST_COLUMNS = 24, 10, 64


def words(tokens: Sequence[str], relevance: npt.ArrayLike, *, scale: float | None = None, legend: bool = True) -> Text:
    """Draw a sentence, each word on the colour of its relevance and followed by marks; arguments as `render.words`."""
    values = np.asarray(relevance, dtype=np.float64)
    if values.shape != (len(tokens),):
        raise ValueError(f"{len(tokens)} tokens and relevance of shape {values.shape}")
    top = scale or largest(values)
    line = Text()
    for token, value in zip(tokens, values, strict=True):
        if token:
            part = share(float(value), top)
            line.append(clean(token), _on(part))
            line.append(f"{_marks(part)} ", _ink(part))
    return line.append_text(Text("\n").append_text(legend_line(top))) if legend else line


def warnings(messages: Iterable[str]) -> Text:
    """Return the warnings of an answer, one per line."""
    lines = (Text("Warning: ", "bold yellow").append(clean(message), "not bold") for message in messages)
    return Text("\n").join(lines)


def legend_line(scale: float) -> Text:
    """Draw the scale: colours and marks with their meaning."""
    line = Text()
    for part, mark in ((-1.0, MINUS * 3), (-0.5, MINUS * 2), (-0.2, MINUS)):
        line.append(f" {mark} ", _on(part))
    line.append(" against · for ", "dim")
    for part, mark in ((0.2, "+"), (0.5, "++"), (1.0, "+++")):
        line.append(f" {mark} ", _on(part))
    return line.append(f"  full colour is ±{number(scale, signed=False)}", "dim")


def _on(part: float) -> Style:
    """Return the style of black or white text on the colour; plain text where there is hardly any relevance."""
    if abs(part) < FAINT:
        return Style.null()
    red, green, blue = rgb(part)
    ink = "#ffffff" if abs(part) >= 0.6 else "#000000"
    return Style.parse(f"{ink} on #{red:02x}{green:02x}{blue:02x}") + Style(bold=abs(part) >= 0.5)


def _ink(part: float) -> Style:
    """Return the colour of a mark: neither dark nor light, so that it is visible on light and on dark backgrounds."""
    red, green, blue = ((c + 255) // 2 if c < 100 else c for c in (FOR if part > 0 else AGAINST))
    return Style.parse(f"#{red:02x}{green:02x}{blue:02x}")


def _marks(part: float) -> str:
    size = abs(part)
    count = 0 if size < FAINT else 1 if size < 1 / 3 else 2 if size < 2 / 3 else 3
    return ("+" if part > 0 else MINUS) * count


def matrix(
    relevance: npt.ArrayLike,
    features: Sequence[str] | None = None,
    *,
    steps: Sequence[Step] | None = None,
    scale: float | None = None,
    width: int = MOST_COLUMNS,
    most_features: int = 16,
    legend: bool = True,
) -> Table:
    """Draw features by time, one character per column; sum longer series to `width` columns. See `render.matrix`.

    Without colour: ▲ and ▼ stand for at least half the scale, + and − for less, · for hardly anything.
    """
    table = grid(relevance, features, None, steps, most_features, width)
    top = scale if scale and table.every == 1 else largest(table.relevance[:, : table.kept])
    across = 1 if table.width > width // 2 else 2
    rows = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    rows.add_column(justify="right", no_wrap=True, max_width=MOST_LABEL)
    rows.add_column(no_wrap=True)
    rows.add_column(justify="right", no_wrap=True)
    for row, name in enumerate(table.names):
        cells = Text()
        for value in table.relevance[:, row]:
            part = share(float(value), top)
            cells.append(_glyph(part) * across, _on(part))
        rows.add_row(Text(clean(name)), cells, Text(number(float(np.nansum(table.relevance[:, row])))))
    rows.add_row("", _axis(table, across), Text("sum", "dim"))
    if legend:
        note = f", a column is {table.every} steps" if table.every > 1 else ""
        rows.add_row("", Text("▲ + for · ▼ − against", "dim"), "")
        rows.add_row("", Text(f"full colour is ±{number(top, signed=False)}{note}", "dim"), "")
    return rows


def _glyph(part: float) -> str:
    if abs(part) < FAINT:
        return "·"
    if abs(part) >= 0.5:
        return "▲" if part > 0 else "▼"
    return "+" if part > 0 else MINUS


def _axis(table: Grid, across: int) -> Text:
    """Return tick labels, as many as fit without touching."""
    line = ""
    for column, label in ticks(table, most=10):
        at = round(column * across)
        if at >= len(line) + (1 if line else 0) and at + len(label) <= table.width * across + 8:
            line = line.ljust(at) + clean(label)
    return Text(line, "dim")


def ledger(
    explained: float,
    shares: Mapping[str, float],
    by_node: Mapping[str, float] | None = None,
    *,
    method: str = "lrp",
    most_nodes: int = 6,
) -> Table:
    """Return the ledger of one sample; arguments as `render.ledger`."""
    table = Table(box=box.SIMPLE, pad_edge=False, title_justify="left", show_footer=True)
    table.add_column("where the explained value went", Text("explained value"))
    table.add_column("", Text(number(explained)), justify="right")
    table.add_column("", Text(percent(explained, explained)), justify="right")
    for key, label in entries(method):
        if key in shares:
            table.add_row(label, _amount(shares[key]), percent(shares[key], explained))
        if key == "absorbed":
            _nodes(table, by_node or {}, explained, most_nodes)
    return table


def _nodes(table: Table, by_node: Mapping[str, float], explained: float, most: int) -> None:
    order = sorted((name for name in by_node if by_node[name] != 0), key=lambda name: -abs(by_node[name]))
    for name in order[:most]:
        label = Text(f"  {clean(name)}", "dim")
        table.add_row(label, Text(number(by_node[name]), "dim"), Text(percent(by_node[name], explained), "dim"))
    if len(order) > most:
        rest = float(sum(by_node[name] for name in order[most:]))
        table.add_row(Text(f"  {len(order) - most} others", "dim"), Text(number(rest), "dim"), "")


def _amount(value: float) -> Text:
    return Text(number(value), _ink(value) if value else Style.null())
