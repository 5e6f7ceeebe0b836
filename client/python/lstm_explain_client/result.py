"""Results: arrays, the ledger that accounts for them, and pictures."""

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
from lstm_explain_client.methods import from_wire_method
from lstm_explain_client.models import ModelDetail
from lstm_explain_client.target import Target, from_wire_target
from lstm_explain_client.tensors import from_wire
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.console import Group

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ledger:
    """explained = inputs + initial_states + absorbed + residual, for every sample. Every array has shape [batch].

    inputs: relevance of all inputs of the request. initial_states: relevance of constant initial states.
    absorbed: for LRP, the relevance that biases, constants and stabilisers absorb; for a method with a baseline, the
    value of the baseline. residual: for LRP, rounding; otherwise, the amount by which the relevance misses the
    explained value.
    by_node: `absorbed`, split by node.
    """

    inputs: Array
    initial_states: Array
    absorbed: Array
    residual: Array
    by_node: dict[str, Array] = field(default_factory=dict)

    def sample(self, index: int) -> dict[str, float]:
        """Return the four entries of one sample, by name."""
        names = ("inputs", "initial_states", "absorbed", "residual")
        return {name: float(getattr(self, name)[index]) for name in names if getattr(self, name).size > index}

    def nodes(self, index: int) -> dict[str, float]:
        """Return what each node absorbed of one sample."""
        return {name: float(share[index]) for name, share in self.by_node.items()}


@dataclass(frozen=True, eq=False)
class Result:
    """The explanation of one batch.

    relevance: input name to an array in the shape of the input; for token ids and text, one number per token.
    outputs: output name to the prediction.
    explained: [batch] the explained value of each sample.
    captured: relevance of the inner values that the request captures.
    ledger: accounts for all of `explained`.
    standard_error: standard error of the relevance, in its shape, for methods that draw samples (ShapleySampling).
    warnings: reasons not to rely on the answer, one sentence each; if empty, the answer can be acted on.
    explained_quantity: how `explained` relates to the output of the target: "output" (the output itself), "logit" (the
        value before its Softmax or Sigmoid), "score" (before LogSoftmax, Exp or Softplus) or "probability" (the output
        converted to a probability). Empty if the server is older than this field.
    steps_used: for IntegratedGradients, the number of points on the line that each sample needed.
    tokens: the tokens of inputs sent as text, in the shape of the relevance; padding is the empty string.
    method, target: those that the server used. model, version: the model that answered.
    inputs: the arrays that were sent. detail: the description of the model, from `with_names`.
    batch_axes: input name to the batch axis, or None. `with_names` fills it in; without an entry, the first axis of
        the size of the batch is used.
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
    steps_used: tuple[int, ...] = ()

    def __len__(self) -> int:
        return int(self.explained.size)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.relevance.items())
        warned = f", warnings={len(self.warnings)}" if self.warnings else ""
        return (
            f"Result(model={self.model!r}, version={self.version!r}, samples={len(self)}, relevance: {shapes}{warned})"
        )

    def with_names(self, detail: ModelDetail) -> Result:
        """Return a copy with the model's names, units and axes, which pictures and data frames then use."""
        told = {name: detail.batch_axes.get(name) for name in self.relevance} if detail.batch_axes else {}
        return replace(self, detail=detail, batch_axes={**told, **self.batch_axes})

    def to_frame(self) -> pandas.DataFrame:
        """Return a data frame with a row per input element: sample, input, step, feature, token, value, relevance.

        Raises ImportError without pandas.
        """
        return views.frame(self)

    def plot(self, sample: int = 0, *, steps: Sequence[Any] | None = None) -> Figure:
        """Plot one sample with matplotlib; `steps` labels the time axis. Raises ImportError without matplotlib."""
        return views.figure(self, sample, steps)

    def to_html(
        self, path: str | os.PathLike[str] | None = None, *, title: str = "", steps: Sequence[Any] | None = None
    ) -> str:
        """Return a page with all samples, and write it to `path`. `steps`: dates or labels of the time axis."""
        page = views.page(self, title, steps)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def sample_html(self, sample: int = 0, *, steps: Sequence[Any] | None = None) -> str:
        """Return one sample as an HTML fragment: prediction, heatmaps, ledger."""
        return views.sample_html(self, sample, steps)

    def _repr_html_(self) -> str:
        return views.notebook(self)

    def __rich__(self) -> Group:
        return views.terminal(self)

    def print(self, sample: int | None = None) -> None:
        """Print all samples, or one, in the terminal."""
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


def read_result(response: explanation_pb2.ExplainResponse, inputs: Mapping[str, Array]) -> Result:
    """Read the result from a response; `inputs` are the arrays that were sent."""
    explained = from_wire(response.explained)
    return Result(
        relevance=_arrays(response.relevance),
        outputs=_arrays(response.outputs),
        explained=explained,
        captured=_arrays(response.captured),
        ledger=_ledger(response.ledger),
        tokens=_arrays(response.tokens),
        standard_error=_arrays(response.standard_error),
        method=from_wire_method(response.method),
        target=from_wire_target(response.target, explained.size),
        model=response.model,
        version=response.version,
        inputs=dict(inputs),
        warnings=tuple(response.warnings),
        explained_quantity=response.explained_quantity,
        steps_used=tuple(response.steps_used),
    )


def _arrays(tensors: Any) -> dict[str, Array]:
    return {tensor.name: from_wire(tensor) for tensor in tensors}


def _ledger(message: explanation_pb2.Ledger) -> Ledger:
    return Ledger(
        inputs=from_wire(message.inputs),
        initial_states=from_wire(message.initial_states),
        absorbed=from_wire(message.absorbed),
        residual=from_wire(message.residual),
        by_node={share.node: from_wire(share.absorbed) for share in message.by_node},
    )
