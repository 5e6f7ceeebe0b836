"""What comes back: arrays, the account of them, and pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client import views
from lstm_explain_client.method_base import Method
from lstm_explain_client.models import ModelDetail
from lstm_explain_client.target import Target

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.console import Group

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ledger:
    """explained = inputs + initial_states + absorbed + residual, for every sample. Every array has shape [batch].

    inputs: relevance of all inputs of the request. initial_states: of initial states that are constants of the model.
    absorbed: with LRP what biases, constants and stabilisers kept, with a method that has a baseline what the baseline
    scores. residual: what is left; with LRP rounding, else by how much the relevance misses the explained value.
    by_node: `absorbed`, a node each.
    """

    inputs: Array
    initial_states: Array
    absorbed: Array
    residual: Array
    by_node: dict[str, Array] = field(default_factory=dict)

    def sample(self, index: int) -> dict[str, float]:
        """The four shares of one sample, by name."""
        names = ("inputs", "initial_states", "absorbed", "residual")
        return {name: float(getattr(self, name)[index]) for name in names if getattr(self, name).size > index}

    def nodes(self, index: int) -> dict[str, float]:
        """What each node absorbed of one sample."""
        return {name: float(share[index]) for name, share in self.by_node.items()}


@dataclass(frozen=True, eq=False)
class Result:
    """One batch, explained.

    relevance: input name to an array of the input's shape; for token ids (and text) one number a token.
    outputs: output name to what the model predicted.
    explained: [batch] the scalar explained, a sample each.
    captured: relevance of the inner values asked for.
    ledger: where all of `explained` went.
    standard_error: of the relevance, of its shape, where the method draws samples (ShapleySampling).
    warnings: why the answer should not be relied on, a sentence each; empty: it can be acted on.
    explained_quantity: what `explained` is of the target's output: "output", the output itself; "logit" or "score", the
        value before its Softmax or Sigmoid, or before its LogSoftmax; "probability", the output made one. Empty: the
        server is older than this field.
    tokens: for inputs sent as text: the tokens, of the relevance's shape; padding is the empty string.
    method, target: as the server used them. model, version: which model answered.
    inputs: the arrays that were sent. detail: the model's description, if `with_names` was given one.
    batch_axes: input name to the axis along which samples lie, or None. `with_names` fills it in; without an entry the
        first axis of the batch's size is taken.
    """

    relevance: dict[str, Array]
    outputs: dict[str, Array]
    explained: Array
    captured: dict[str, Array]
    ledger: Ledger
    tokens: dict[str, Array] = field(default_factory=dict)
    method: Method | None = None
    target: Target | None = None
    model: str = ""
    version: str = ""
    inputs: dict[str, Array] = field(default_factory=dict)
    detail: ModelDetail | None = None
    batch_axes: Mapping[str, int | None] = field(default_factory=dict)
    standard_error: dict[str, Array] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    explained_quantity: str = ""

    def __len__(self) -> int:
        return int(self.explained.size)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.relevance.items())
        warned = f", warnings={len(self.warnings)}" if self.warnings else ""
        return (
            f"Result(model={self.model!r}, version={self.version!r}, samples={len(self)}, relevance: {shapes}{warned})"
        )

    def with_names(self, detail: ModelDetail) -> Result:
        """The same with the model's names, units and axes, which pictures and frames then use."""
        told = {name: detail.batch_axes.get(name) for name in self.relevance} if detail.batch_axes else {}
        return replace(self, detail=detail, batch_axes={**told, **self.batch_axes})

    def to_frame(self) -> pandas.DataFrame:
        """One row for each element of each input: sample, input, step, feature, token, value, relevance.

        Needs pandas (ImportError without).
        """
        return views.frame(self)

    def plot(self, sample: int = 0, *, steps: Sequence[Any] | None = None) -> Figure:
        """One sample as a matplotlib figure; `steps` labels the time axis. Needs matplotlib (ImportError without)."""
        return views.figure(self, sample, steps)

    def to_html(
        self, path: str | os.PathLike[str] | None = None, *, title: str = "", steps: Sequence[Any] | None = None
    ) -> str:
        """A complete page with every sample; also written to `path`. `steps`: dates or labels of the time axis."""
        page = views.page(self, title, steps)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def sample_html(self, sample: int = 0, *, steps: Sequence[Any] | None = None) -> str:
        """One sample as an HTML fragment: prediction, heatmaps, ledger."""
        return views.sample_html(self, sample, steps)

    def _repr_html_(self) -> str:
        return views.notebook(self)

    def __rich__(self) -> Group:
        return views.terminal(self)

    def print(self, sample: int | None = None) -> None:
        """Every sample, or one, in the terminal."""
        from rich.console import Console

        Console().print(views.terminal(self, sample))

    def samples_of(self, name: str, array: Array) -> Array:
        """`array`, of the shape of input `name`, with samples along the first axis (added where the model has none)."""
        return _samples_first(array, len(self), self._batch_axis(name, array))

    def _batch_axis(self, name: str, array: Array) -> int | None:
        if name in self.batch_axes:
            return self.batch_axes[name]
        if self.target is not None and self.target.batch_axis is None:
            return None
        fitting = (axis for axis, extent in enumerate(array.shape[:2]) if extent == len(self))
        return next(fitting, None)


def _samples_first(array: Array, batch: int, axis: int | None) -> Array:
    if axis is not None:
        return np.moveaxis(array, axis, 0)
    return np.broadcast_to(array, (batch, *array.shape))
