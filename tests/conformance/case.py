# SPDX-License-Identifier: Apache-2.0
"""The parts that cases consist of: requests, tensors with a tolerance, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.conformance import models

Array = npt.NDArray[Any]
Case = dict[str, Any]
Score = Callable[[Array], Array]  # x to what is explained, [batch]

PATIENCE = 20_000  # milliseconds, for a machine with much else to do
# Of the largest number expected. float32 keeps seven digits; the way back loses some.
RELATIVE = 1e-5
HEAVY = {
    "name": "shapley_sampling",
    "parameters": {"permutations": 8000, "exact_players": 0},
}  # several seconds of work
LRP = {"name": "lrp", "parameters": {"product_rule": "all", "epsilon": 0.001, "bias_factor": 0.0}}


def tensor(array: Array, tolerance: float | None = None) -> dict[str, Any]:
    """An array in the form of a case. A float32 that is written as the shortest decimal of its float64 is read back
    exactly.
    """
    name = "string" if array.dtype == object else array.dtype.name
    fields: dict[str, Any] = {"dtype": name, "shape": list(array.shape), "data": array.ravel().tolist()}
    return fields if tolerance is None else {**fields, "tolerance": tolerance}


def near(array: Array, dtype: str = "float32") -> dict[str, Any]:
    """An array that is expected within rounding. The file has all digits of the textbook, whatever the type on the
    wire.
    """
    scale = max(1.0, float(np.abs(array).max(initial=0.0)))
    tolerance = (RELATIVE if dtype == "float32" else 1e-11) * scale
    return {**tensor(np.asarray(array, np.float64), tolerance), "dtype": dtype}


def scalars(array: Array) -> dict[str, Any]:
    """One number per sample, for the ledger and the explained value: float32 or float64, depending on the method."""
    return {**near(array), "dtype": "float"}


def ask(model: str, inputs: Mapping[str, Array], **rest: Any) -> dict[str, Any]:
    """A request. Fields of `rest` with the value None are omitted."""
    fields = {"model": model, "inputs": {name: tensor(array) for name, array in inputs.items()}}
    return {**fields, **{key: value for key, value in {"deadline_ms": PATIENCE, **rest}.items() if value is not None}}


def case(name: str, about: str, request: dict[str, Any], **rest: Any) -> Case:
    return {"name": name, "about": about, "call": "explain", "request": request, **rest}


def refused(name: str, about: str, request: dict[str, Any], code: str, field: str = "", word: str = "") -> Case:
    error = {"code": code, "field": field} if field else {"code": code}
    return case(name, about, request, expect_error={**error, "word": word} if word else error)


def feeds_of(name: str, T: int, B: int) -> dict[str, Array]:
    return models.recurrent(name).feeds(np.random.default_rng(100 + T), T, B)


EXPLAINER = "conformance-explainer"
MANAGER = "conformance-manager"
