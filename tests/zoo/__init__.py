"""The zoo: recurrent ONNX models as real exporters write them, each with recorded numbers (see README.md)."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
SECOND = "s_"  # prefix of the second zoo

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """One folder of the zoo. Arrays are keyed by the ONNX tensor's name."""

    name: str
    path: Path  # model.onnx; external weights lie beside it
    meta: dict[str, Any]  # meta.json as it is
    inputs: Arrays  # what to feed
    outputs: Arrays  # what the source framework computed
    grads: Arrays  # gradient of the target (of its logit where `is_pre_activation`), per sample
    grad_post: Arrays  # gradient of the output itself, where it ends in Softmax or Sigmoid
    pre: Arrays  # the value before that Softmax or Sigmoid
    more: Arrays  # further inputs from the distribution that the model was trained on, without recorded numbers

    @property
    def target_output(self) -> str:
        return str(self.meta["target"]["output"])

    @property
    def target_index(self) -> tuple[int, ...]:
        """Index into the target output of one sample, after its batch axis is removed."""
        return tuple(self.meta["target"]["index"])

    @property
    def target_batch_axis(self) -> int:
        return int(self.meta["batch_axis"][self.target_output])

    @property
    def is_pre_activation(self) -> bool:
        return bool(self.meta["pre_activation_target"])

    @property
    def embedding_tensor(self) -> str | None:
        """For models over tokens: the looked-up vectors, at which the gradient is recorded."""
        return self.meta["embedding_tensor"] or None

    @property
    def rtol(self) -> float:
        return float(self.meta["tolerance"]["rtol"])

    @property
    def atol(self) -> float:
        return float(self.meta["tolerance"]["atol"])

    def batch_axis(self, tensor: str) -> int:
        """Batch axis of an input, an output or the embedding tensor."""
        if tensor == self.embedding_tensor and tensor not in self.meta["batch_axis"]:
            return int(self.meta.get("embedding_batch_axis", self._token_batch_axis()))
        return int(self.meta["batch_axis"][tensor])

    def _token_batch_axis(self) -> int:
        return int(self.meta["batch_axis"][next(iter(self.inputs))])


@functools.cache
def load(name: str) -> Case:
    """Read one case by its folder's name."""
    folder = HERE / name
    groups: dict[str, Arrays] = {"input": {}, "output": {}, "grad": {}, "grad_post": {}, "pre": {}, "more": {}}
    with np.load(folder / "case.npz") as stored:
        for key in stored.files:
            group, _, tensor = key.partition(":")  # tensor names may hold colons themselves
            groups[group][tensor] = stored[key]
    return Case(
        name=name,
        path=folder / "model.onnx",
        meta=json.loads((folder / "meta.json").read_text(encoding="utf-8")),
        inputs=groups["input"],
        outputs=groups["output"],
        grads=groups["grad"],
        grad_post=groups["grad_post"],
        pre=groups["pre"],
        more=groups["more"],
    )


def names() -> list[str]:
    """The names of the first zoo, sorted: usable as pytest parameters and ids without reading any model."""
    return sorted(path.parent.name for path in HERE.glob("*/meta.json") if not path.parent.name.startswith(SECOND))


def second_names() -> list[str]:
    """The names of the second zoo. Its graphs are large, so tests of what does not depend on cells leave it out."""
    return sorted(path.parent.name for path in HERE.glob(f"{SECOND}*/meta.json"))


def cases() -> list[Case]:
    return [load(name) for name in names()]
