"""Small models of the kinds in public reports. Each folder holds the model as two exporters write it, and inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import lstm_explain as lx

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """name: that of the folder. model: the loaded model. inputs: by the name of the ONNX input."""

    name: str
    model: lx.Model
    inputs: dict[str, npt.NDArray[Any]]


def names() -> list[str]:
    """Folder and export of every case: `han/legacy`."""
    return sorted(f"{p.parent.name}/{p.name.split('.')[1]}" for p in HERE.glob("*/model.*.onnx"))


def load(name: str) -> Case:
    folder, _, export = name.partition("/")
    model = lx.load(HERE / folder / f"model.{export}.onnx")
    with np.load(HERE / folder / "input.npz") as stored:
        return Case(folder, model, {i: stored[i] for i in model.inputs})
