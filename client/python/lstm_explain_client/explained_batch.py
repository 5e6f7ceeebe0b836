# SPDX-License-Identifier: Apache-2.0
"""What pictures and data frames read of an explanation, whether a server or the engine in this process made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client.groups import GroupRelevance
from lstm_explain_client.names import Names

Array = npt.NDArray[Any]


class ExplainedBatch:
    """Base class of the explanations of one batch. `Result` describes the attributes.

    The types of ledger, method and target are those of the subclass.
    """

    relevance: dict[str, Array]
    outputs: dict[str, Array]
    explained: Array
    ledger: Any
    method: Any
    target: Any
    explained_quantity: str
    warnings: tuple[str, ...]
    tokens: Mapping[str, Array]
    inputs: Mapping[str, Array]
    model: str
    version: str
    detail: Names | None
    batch_axes: Mapping[str, int | None]
    groups: dict[str, GroupRelevance]
    captured: dict[str, Array]
    captured_axes: Mapping[str, Any]
    not_explained: tuple[str, ...]

    def why_not(self, sample: int) -> str:
        """Return why a condition left the sample unexplained; empty where it is explained."""
        return self.not_explained[sample] if self.not_explained else ""

    def __len__(self) -> int:
        return int(self.explained.size)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.relevance.items())
        said = [f"model={self.model!r}"] if self.model else []
        said += [f"version={self.version!r}"] if self.version else []
        said += [f"method={self.method.name!r}"] if self.method else []
        said += [f"samples={len(self)}", f"relevance: {shapes}"]
        said += [f"warnings={len(self.warnings)}"] if self.warnings else []
        return f"{type(self).__name__}({', '.join(said)})"

    def samples_of(self, name: str, array: Array) -> Array:
        """`array`, of the shape of input `name`, with samples along the first axis (added where the model has none)."""
        axis = self._batch_axis(name, array)
        if axis is not None:
            return np.moveaxis(array, axis, 0)
        return np.broadcast_to(array, (len(self), *array.shape))

    def _batch_axis(self, name: str, array: Array) -> int | None:
        if name in self.batch_axes:
            return self.batch_axes[name]
        if self.target is not None and self.target.batch_axis is None:
            return None
        fitting = (axis for axis, extent in enumerate(array.shape[:2]) if extent == len(self))
        return next(fitting, None)
