# SPDX-License-Identifier: Apache-2.0
"""Draws explanations for several targets with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lstm_explain_client import naming
from lstm_explain_client.explained_batch import ExplainedBatch
from lstm_explain_client.extras import imported
from lstm_explain_client.figures import plain, shown_once
from lstm_explain_client.render.scale import largest
from lstm_explain_client.target_tables import Table, by_target, explained, summed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ACROSS = 4  # panels of small multiples next to each other
MOST_TICKS = 12

Several = Sequence[ExplainedBatch]


def figure(explanations: Several, sample: int, kind: str, steps: Sequence[Any] | None) -> Figure:
    """Draw the picture; see SideBySide.plot."""
    if not (kept := explained(explanations, sample)):
        raise ValueError(f"sample {sample} is not explained for any target: {explanations[0].why_not(sample)}")
    kinds = {"targets": _tables, "sum": _tables, "each": _multiples}
    if kind not in kinds:
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(kinds)}")
    return kinds[kind](kept, sample, kind, steps)


def _tables(explanations: Several, sample: int, kind: str, steps: Sequence[Any] | None) -> Figure:
    """Return one heatmap per input: targets, or features summed over the targets, by time step."""
    tables = list((by_target if kind == "targets" else summed)(explanations, sample, steps))
    heights = [max(2.2, 0.24 * len(table.rows) + 1) for table in tables]
    drawing = _new(explanations, (10, sum(heights) + 0.8), _title(explanations, sample, kind))
    panels = drawing.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, table in zip(panels, tables, strict=True):
        shown = _heatmap(axes, table, largest(table.relevance))
        drawing.colorbar(shown, ax=axes, label="relevance")
    return drawing


def _multiples(explanations: Several, sample: int, kind: str, steps: Sequence[Any] | None) -> Figure:
    """Return one small panel per target and input: features by time step, all on one scale."""
    each = [list(summed([one], sample, steps)) for one in explanations]
    count = len(each) * len(each[0])
    across = min(MOST_ACROSS, count)
    down = -(-count // across)
    height = max(1.6, 0.2 * max(len(table.rows) for tables in each for table in tables) + 0.9)
    drawing = _new(explanations, (3.2 * across, height * down + 0.8), _title(explanations, sample, kind))
    panels = drawing.subplots(down, across, squeeze=False).ravel()
    scale = largest(*(table.relevance for tables in each for table in tables))
    pairs = [(one, table) for one, tables in zip(explanations, each, strict=True) for table in tables]
    for place, (axes, (one, table)) in enumerate(zip(panels, pairs, strict=False)):
        shown = _heatmap(axes, table, scale, named=place % across == 0)
        beside = f", {table.name}" if len(each[0]) > 1 else ""
        axes.set_title(plain(naming.target_name(one, sample) + beside), fontsize=9)
    for axes in panels[count:]:
        axes.set_visible(False)
    drawing.colorbar(shown, ax=panels.tolist(), label="relevance")
    return drawing


def _heatmap(axes: Any, table: Table, scale: float, *, named: bool = True) -> Any:
    """Return the colour: red if positive, blue if negative, white at zero. named: whether the rows have labels."""
    shown = axes.imshow(
        table.relevance.T, aspect="auto", cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest"
    )
    axes.set_yticks(range(len(table.rows)) if named else [], [plain(row) for row in table.rows] if named else [])
    axes.tick_params(labelsize=8)
    if table.steps is None:
        axes.set_xlabel("step", fontsize=8)
    else:
        places = range(0, len(table.steps), max(1, -(-len(table.steps) // MOST_TICKS)))
        axes.set_xticks(places, [plain(str(table.steps[i])) for i in places], rotation=45, ha="right")
    return shown


def _new(explanations: Several, size: tuple[float, float], title: str) -> Any:
    """Return a new figure of pyplot, with the warnings of all targets."""
    pyplot = imported("matplotlib.pyplot", "plot")
    drawing = pyplot.figure(figsize=size, layout="constrained", FigureClass=shown_once())
    drawing.suptitle(plain(title))
    warned = dict.fromkeys(warning for one in explanations for warning in one.warnings)
    if warned:
        text = "\n".join(f"Warning: {plain(warning)}" for warning in warned)
        drawing.supxlabel(text, fontsize=8, wrap=True, color="#8a4b00")
    return drawing


def _title(explanations: Several, sample: int, kind: str) -> str:
    which = f"Sample {sample}: " if len(explanations[0]) > 1 else ""
    summed_up = {"targets": ", features summed", "sum": ", summed", "each": ""}[kind]
    return f"{which}relevance for {len(explanations)} targets{summed_up}"
