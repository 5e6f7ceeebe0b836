# SPDX-License-Identifier: Apache-2.0
"""Explanations that show themselves: in the terminal, as a page, in a notebook, as a figure or a data frame.

`Result` and the engine's `Explanation` are subclasses. The drawing code is imported on first use, so that an
explanation that nobody looks at costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_explain_client.explained_batch import ExplainedBatch

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Group

    from lstm_explain_client.frequencies import Spectrogram, Spectrum
    from lstm_explain_client.neurons import Neurons


class Shown(ExplainedBatch):
    """An explanation of one batch that can show itself."""

    def to_frame(self) -> pandas.DataFrame:
        """Return a data frame with a row per input element: sample, input, step, feature, token, value, relevance.

        Raises ImportError without pandas.
        """
        from lstm_explain_client import frames

        return frames.frame(self)

    def group_frame(self) -> pandas.DataFrame:
        """Return a data frame with a row per group of a request with `groups`: sample, input, group, start, end,
        relevance, standard_error. Raises ImportError without pandas, and ValueError for a result without groups.
        """
        from lstm_explain_client import groups

        if not self.groups:
            raise ValueError("the request asked for no groups")
        return groups.frame(self.groups)

    def neurons(self, name: str | None = None) -> Neurons:
        """Return which units of a captured value matter, such as of `<node>.hidden` or of a recurrent node's output: a
        table (`to_frame`) and a heatmap over time (`plot`).

        name: by default the only one. Raises KeyError for a value that was not captured, and ValueError where there is
        not exactly one, or where it is not known where the samples or the time steps lie in it.
        """
        from lstm_explain_client import neurons

        return neurons.neurons(self, name)

    def plot(
        self, sample: int = 0, *, steps: Sequence[Any] | None = None, ax: Axes | Sequence[Axes] | None = None
    ) -> Figure:
        """Plot one sample with matplotlib, and return the figure.

        steps: labels of the time axis. ax: the axes to draw on, one per input with relevance; by default, those of a
        new figure of pyplot, which `plt.show()` shows. Raises ImportError without matplotlib, IndexError for a sample
        that does not exist, and ValueError if the number of axes is not that of the inputs, or for a sample that a
        condition left unexplained.
        """
        from lstm_explain_client import figures

        return figures.figure(self, sample, steps, ax)

    def replaced(self, sample: int = 0) -> dict[str, list[Any]]:
        """Return what a counterfactual replaced in one sample, by input: the positions of time steps (words), of
        features, or, for cells, tuples of both. Empty where the prediction could not be turned, or a condition left the
        sample out. Raises ValueError for another method.
        """
        from lstm_explain_client import counterfactuals

        return counterfactuals.replaced(self, sample)

    def spectrum(self, name: str | None = None, sample: int = 0, *, rate: float = 1.0) -> Spectrum:
        """Return the relevance of a time series by frequency, which adds up to its relevance by step.

        name: of an input of numbers over time; by default the only one. rate: steps per unit of time, for frequencies
        in cycles per that unit, such as Hz. Raises KeyError for an unknown input, IndexError for a sample that does not
        exist, and ValueError for an input without a time axis or whose values are not here. The source is DFT-LRP, see
        frequencies.py. It is meant for signals that oscillate around 0.
        """
        from lstm_explain_client import frequencies

        view = frequencies.series(self, name, sample)
        return frequencies.spectrum(view.name, view.values, view.relevance, view.features, frequencies.positive(rate))

    def spectrogram(
        self, name: str | None = None, sample: int = 0, *, window: int = 64, rate: float = 1.0
    ) -> Spectrogram:
        """Return the relevance of a time series by time and frequency. window: the steps of each window, an even
        number; windows overlap by half. Other arguments and errors as for `spectrum`.
        """
        from lstm_explain_client import frequencies

        view, rate = frequencies.series(self, name, sample), frequencies.positive(rate)
        return frequencies.spectrogram(view.name, view.values, view.relevance, view.features, rate, window)

    def to_html(
        self, path: str | os.PathLike[str] | None = None, *, title: str = "", steps: Sequence[Any] | None = None
    ) -> str:
        """Return a page with all samples, and write it to `path`. `steps`: dates or labels of the time axis."""
        from lstm_explain_client import views

        page = views.page(self, title, steps)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def sample_html(self, sample: int = 0, *, steps: Sequence[Any] | None = None) -> str:
        """Return one sample as an HTML fragment: prediction, heatmaps, ledger."""
        from lstm_explain_client import views

        return views.sample_html(self, sample, steps)

    def _repr_html_(self) -> str:
        from lstm_explain_client import views

        return views.notebook(self)

    def __rich__(self) -> Group:
        from lstm_explain_client import views

        return views.terminal(self)

    def print(self, sample: int | None = None) -> None:
        """Print all samples, or one, in the terminal."""
        from rich.console import Console

        from lstm_explain_client import views

        Console().print(views.terminal(self, sample))
