# SPDX-License-Identifier: Apache-2.0
"""Draws an explanation with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_explain_client import naming
from lstm_explain_client.explained_batch import ExplainedBatch
from lstm_explain_client.extras import imported
from lstm_explain_client.render.scale import clean, largest
from lstm_explain_client.views import View, pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(
    result: ExplainedBatch, sample: int, steps: Sequence[Any] | None, ax: Axes | Sequence[Axes] | None
) -> Figure:
    """Draw one panel per input; see Shown.plot."""
    if 0 <= sample < len(result) and (why := result.why_not(sample)):
        raise ValueError(f"sample {sample} is not explained: {why}")
    views = pictures(result, sample)
    scale = largest(*(view.relevance for view in views))
    panels = _new_panels(result, sample, views) if ax is None else _given_panels(result, sample, views, ax)
    for axes, view in zip(panels, views, strict=True):
        (_plot_words if view.tokens is not None else _plot_matrix)(axes, view, scale, steps)
    drawing: Any = panels[0].get_figure()
    return drawing


def _new_panels(result: ExplainedBatch, sample: int, views: Sequence[View]) -> Sequence[Axes]:
    """Return the axes of a new figure of pyplot, with the heading and the warnings."""
    pyplot = imported("matplotlib.pyplot", "plot")
    heights = [max(2.2, 0.35 * len(view.features) + 1) for view in views]
    drawing = pyplot.figure(figsize=(10, sum(heights) + 0.8), layout="constrained", FigureClass=shown_once())
    drawing.suptitle(plain(naming.heading(result, sample)))
    if result.warnings:
        text = "\n".join(f"Warning: {plain(warning)}" for warning in result.warnings)
        drawing.supxlabel(text, fontsize=8, wrap=True, color="#8a4b00")
    panels: Sequence[Axes] = drawing.subplots(len(views), 1, squeeze=False, height_ratios=heights)[:, 0]
    return panels


def heatmap(values: Any, labels: Sequence[str], over: str, title: str) -> Figure:
    """Draw values [rows, columns]: red if positive, blue if negative. over: what the columns are."""
    pyplot = imported("matplotlib.pyplot", "plot")
    height = max(2.5, 0.25 * len(labels) + 1.2)
    drawing = pyplot.figure(figsize=(10, height), layout="constrained", FigureClass=shown_once())
    axes, scale = drawing.subplots(), largest(values)
    shown = axes.imshow(values, aspect="auto", cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
    axes.set_yticks(range(len(labels)), [plain(label) for label in labels])
    axes.set_xlabel(over)
    axes.set_title(plain(title))
    drawing.colorbar(shown, ax=axes, label="relevance")
    found: Figure = drawing
    return found


def shown_once() -> type[Figure]:
    """Return the class of our figures. A notebook shows what a cell returns, and at its end every open figure of
    pyplot; a figure that is both would be shown twice, so the first time closes it.
    """
    pyplot, base = imported("matplotlib.pyplot", "plot"), imported("matplotlib.figure", "plot").Figure

    class ShownOnce(base):  # type: ignore[misc,valid-type]
        def _ipython_display_(self) -> None:
            if "inline" in pyplot.get_backend():
                pyplot.close(self)
            raise NotImplementedError  # IPython then shows it as any other figure

    return ShownOnce


def _given_panels(
    result: ExplainedBatch, sample: int, views: Sequence[View], ax: Axes | Sequence[Axes]
) -> Sequence[Axes]:
    """Return the caller's axes, with the heading and the warnings as the title of the first."""
    panels: Sequence[Any] = np.asarray(ax, dtype=object).ravel().tolist()
    if len(panels) != len(views):
        names = ", ".join(view.name for view in views)
        raise ValueError(f"ax has {len(panels)} axes, expected one for each of the inputs {names}")
    warned = [f"Warning: {plain(warning)}" for warning in result.warnings]
    panels[0].set_title("\n".join([plain(naming.heading(result, sample)), *warned]), wrap=True)
    return panels


def _plot_words(axes: Any, view: View, scale: float, steps: Sequence[Any] | None) -> None:
    """Draw one bar per word: upward if positive, downward if negative."""
    pairs = [(t, float(r)) for t, r in zip(view.tokens or [], view.relevance.ravel(), strict=True) if t]
    heights = [value for _, value in pairs]
    axes.bar(range(len(pairs)), heights, color=["#b2182b" if value > 0 else "#1b5ca8" for value in heights])
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks(range(len(pairs)), [plain(token) for token, _ in pairs], rotation=60)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(-1.05 * scale, 1.05 * scale)
    axes.set_ylabel("relevance")


def _plot_matrix(axes: Any, view: View, scale: float, steps: Sequence[Any] | None) -> None:
    """A heatmap: red if positive, blue if negative, white at zero."""
    shown = axes.imshow(
        view.relevance.T, aspect="auto", cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest"
    )
    axes.set_yticks(range(len(view.features)), [plain(name) for name in view.labels])
    steps = view.steps or steps
    if steps is not None and len(steps) == len(view.relevance):
        places = range(0, len(steps), max(1, len(steps) // 10))
        axes.set_xticks(places, [str(steps[i]) for i in places], rotation=30)
    elif view.unit == "features":
        axes.set_xticks([0], ["all steps"])
    else:
        axes.set_xlabel("step")
    axes.figure.colorbar(shown, ax=axes, label="relevance")


def plain(text: str) -> str:
    """Escapes text that matplotlib would interpret as a formula."""
    return clean(text).replace("$", r"\$")
