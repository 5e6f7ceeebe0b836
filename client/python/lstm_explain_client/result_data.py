"""The arrays of a result, the ledger that accounts for them, and how the samples lie in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lstm_explain_client.method_base import Method
from lstm_explain_client.models import ModelDetail
from lstm_explain_client.target import Target

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
class ResultData:
    """The explanation of one batch.

    relevance: input name to an array in the shape of the input; for token ids and text, one number per token.
    outputs: output name to the prediction.
    explained: [batch] the explained value of each sample.
    captured: relevance of the inner values that the request captures.
    ledger: accounts for all of `explained`.
    standard_error: standard error of the relevance, in its shape, for answers that draw samples (ShapleySampling,
        GradientShap, and draws from a background set).
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
        arrays = f"samples={len(self)}, relevance: {shapes}{warned}"
        return f"{type(self).__name__}(model={self.model!r}, version={self.version!r}, {arrays})"

    def with_names(self, detail: ModelDetail) -> Self:
        """Return a copy with the model's names, units and axes, which pictures and data frames then use."""
        described = {name: detail.batch_axes.get(name) for name in self.relevance} if detail.batch_axes else {}
        return replace(self, detail=detail, batch_axes={**described, **self.batch_axes})

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
