# SPDX-License-Identifier: Apache-2.0
"""Which units of a captured value matter for the target, in all and over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client.explained_batch import ExplainedBatch
from lstm_explain_client.extras import imported

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CapturedAxes:
    """Where samples and time steps lie in a captured value; None where that is not known, or there is no such axis."""

    batch: int | None
    time: int | None


@dataclass(frozen=True, eq=False)
class Neurons:
    """The relevance of the units of one captured value.

    relevance: [batch, steps, units]. The units of the second direction of a bidirectional node follow those of the
    first, as `through` counts them. explained: [batch].
    """

    name: str
    relevance: Array
    explained: Array

    def to_frame(self, sample: int = 0, top: int | None = None) -> pandas.DataFrame:
        """Return a row per unit, the most relevant first: unit, relevance (summed over time), share (of the explained
        value), peak_step (where its magnitude is largest). top: of how many. Raises ImportError without pandas.
        """
        pd = imported("pandas", "to_frame")
        own = self.relevance[sample].astype(np.float64)
        total = own.sum(axis=0)
        order = np.argsort(-np.abs(total), kind="stable")[:top]
        explained = float(self.explained[sample])
        found: pandas.DataFrame = pd.DataFrame(
            {
                "unit": order,
                "relevance": total[order],
                "share": total[order] / explained if explained else np.full(len(order), np.nan),
                "peak_step": np.abs(own).argmax(axis=0)[order],
            }
        )
        return found

    def plot(self, sample: int = 0, top: int = 20) -> Figure:
        """Plot the most relevant units over time: a row per unit. Raises ImportError without matplotlib."""
        from lstm_explain_client import figures

        own = self.relevance[sample]
        total = own.sum(axis=0)
        order = np.argsort(-np.abs(total), kind="stable")[:top]
        labels = [f"unit {unit} ({total[unit]:+.3g})" for unit in order]
        return figures.heatmap(own[:, order].T, labels, "step", f"relevance of {self.name}")


def neurons(result: ExplainedBatch, name: str | None) -> Neurons:
    """Return the units of a captured value; see Shown.neurons for the errors."""
    if name is None:
        if len(result.captured) != 1:
            raise ValueError(f"name a captured value: there are {', '.join(result.captured) or 'none'}")
        (name,) = result.captured
    if name not in result.captured:
        raise KeyError(f"{name!r} was not captured, there are {', '.join(result.captured) or 'none'}")
    array, axes, count = result.captured[name], result.captured_axes.get(name), len(result)
    batch = None if axes is None else axes.batch
    time = None if axes is None else axes.time
    if batch is None and count > 1:
        raise ValueError(f"where the samples lie in {name!r} is not known")
    if batch is None and time is None and array.ndim > 1:
        raise ValueError(f"where the time steps lie in {name!r} is not known")
    rows = array[None] if batch is None else np.moveaxis(array, batch, 0)
    if time is None:
        return Neurons(name, rows.reshape(count, 1, -1), result.explained)
    at = time + 1 if batch is None or time < batch else time
    ordered = np.moveaxis(rows, at, 1)
    return Neurons(name, ordered.reshape(count, ordered.shape[1], -1), result.explained)
