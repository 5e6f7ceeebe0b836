# SPDX-License-Identifier: Apache-2.0
"""Explanations of one batch for several targets, side by side: target by step, one panel per target, and their sum."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lstm_explain_client.shown import Shown

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.console import Group

One = TypeVar("One", bound=Shown)
Kind = Literal["targets", "each", "sum"]


class SideBySide(list[One]):
    """An explanation per target, in the order of the targets. They share the outputs, and can show themselves."""

    def plot(self, sample: int = 0, kind: Kind = "targets", *, steps: Sequence[Any] | None = None) -> Figure:
        """Plot one sample with matplotlib, and return the figure.

        kind: "targets" for target by time step (such as horizon by lag), summed over the features; "each" for a panel
        of features by time step per target; "sum" for features by time step, summed over the targets. steps: labels of
        the time axis. Raises ImportError without matplotlib, IndexError for a sample that does not exist, and
        ValueError if there are no targets.
        """
        from lstm_explain_client import figures_of_targets

        return figures_of_targets.figure(_some(self), sample, kind, steps)

    def to_html(
        self, path: str | os.PathLike[str] | None = None, *, title: str = "", steps: Sequence[Any] | None = None
    ) -> str:
        """Return a page with all samples and targets, and write it to `path`. `steps`: labels of the time axis."""
        from lstm_explain_client import views_of_targets

        page = views_of_targets.page(_some(self), title, steps)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def to_frame(self) -> pandas.DataFrame:
        """Return the data frames of the targets below each other, with a column `target`. Raises ImportError without
        pandas.
        """
        from lstm_explain_client import frames, naming

        return frames.concatenated(
            (naming.target_name(one, 0) if len(one) else "", frames.frame(one)) for one in _some(self)
        )

    def _repr_html_(self) -> str:
        from lstm_explain_client import views_of_targets

        return views_of_targets.notebook(self) if self else "no targets"

    def __rich__(self) -> Group:
        from lstm_explain_client import views_of_targets

        return views_of_targets.terminal(self)

    def print(self, sample: int | None = None) -> None:
        """Print target by time step of all samples, or of one, in the terminal."""
        from rich.console import Console

        from lstm_explain_client import views_of_targets

        Console().print(views_of_targets.terminal(self, sample))


def _some(explanations: SideBySide[One]) -> SideBySide[One]:
    if not explanations:
        raise ValueError("there are no targets to show")
    return explanations
