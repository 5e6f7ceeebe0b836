"""The engine's face: load a model, explain its predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from lstm_explain.ledger import Ledger
from lstm_explain.methods.spec import LRP, Method
from lstm_explain.target import Target


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: NumPy dtype, and a shape with str for symbolic extents."""

    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class NodeReport:
    """What will happen at one node. `rule` is the rule, or why there is none."""

    name: str
    op: str
    supported: bool
    rule: str


@dataclass(frozen=True)
class Report:
    supported: bool
    nodes: list[NodeReport]


@dataclass(frozen=True)
class Explanation:
    """One answer, for a batch.

    relevance: by input, of the input's shape; an integer (token) input gets one number a token.
    outputs: by output, what the model predicted.
    explained: [batch], the scalars explained.
    captured: by tensor name, of the tensor's shape.
    ledger: the account of `explained`.
    method, target: as used, every default filled in.
    """

    relevance: dict[str, npt.NDArray[Any]]
    outputs: dict[str, npt.NDArray[Any]]
    explained: npt.NDArray[Any]
    captured: dict[str, npt.NDArray[Any]]
    ledger: Ledger
    method: Method
    target: Target


class Model:
    """A loaded model. Safe to call from several threads."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    def report(self) -> Report:
        raise NotImplementedError

    def predict(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        raise NotImplementedError

    def explain(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        method: Method = LRP(),  # noqa: B008 - frozen
        target: Target = Target(),  # noqa: B008 - frozen
        capture: Sequence[str] = (),
    ) -> Explanation:
        raise NotImplementedError


def load(source: str | Path | bytes | onnx.ModelProto) -> Model:
    raise NotImplementedError
