# SPDX-License-Identifier: Apache-2.0
"""Draws relevance over frequency, and over time and frequency, with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client.extras import imported
from lstm_explain_client.figures import plain, shown_once

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]


def spectrum(name: str, features: Sequence[str], frequencies: Array, amplitudes: Array, relevance: Array) -> Figure:
    """Draw bars of relevance and a line of amplitudes, both [frequencies, features], a panel per feature."""
    pyplot = imported("matplotlib.pyplot", "plot")
    count = len(features)
    drawing = pyplot.figure(figsize=(10, 2.4 * count + 0.8), layout="constrained", FigureClass=shown_once())
    drawing.suptitle(plain(f"Relevance of {name} by frequency"))
    panels = drawing.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    width = 0.8 * float(frequencies[1])
    for k, (axes, feature) in enumerate(zip(panels, features, strict=True)):
        heights = relevance[:, k]
        axes.bar(frequencies, heights, width=width, color=["#b2182b" if value > 0 else "#1b5ca8" for value in heights])
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_ylabel("relevance")
        axes.set_title(plain(feature), fontsize=9)
        other = axes.twinx()
        other.plot(frequencies, amplitudes[:, k], color="#777777", linewidth=1)
        other.set_ylim(bottom=0)
        other.set_ylabel("amplitude", color="#777777")
    panels[-1].set_xlabel("frequency")
    result: Figure = drawing
    return result


def spectrogram(title: str, steps: Array, frequencies: Array, amplitudes: Array, relevance: Array) -> Figure:
    """Draw two matrices [windows, frequencies]. steps: the middle of each window."""
    pyplot = imported("matplotlib.pyplot", "plot")
    drawing = pyplot.figure(figsize=(10, 5.5), layout="constrained", FigureClass=shown_once())
    drawing.suptitle(plain(title))
    upper, lower = drawing.subplots(2, 1, sharex=True)
    largest = float(np.abs(relevance).max()) or 1.0
    _matrix(upper, steps, frequencies, amplitudes, "amplitude", cmap="Greys", vmin=0)
    _matrix(lower, steps, frequencies, relevance, "relevance", cmap="RdBu_r", vmin=-largest, vmax=largest)
    lower.set_xlabel("step")
    result: Figure = drawing
    return result


def _matrix(axes: Any, steps: Array, frequencies: Array, array: Array, label: str, **colors: Any) -> None:
    shown = axes.pcolormesh(steps, frequencies, array.T, shading="nearest", **colors)
    axes.set_ylabel("frequency")
    axes.figure.colorbar(shown, ax=axes, label=label)
