# SPDX-License-Identifier: Apache-2.0
"""Writes methods and targets as JSON, by which files say what their numbers belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.methods import Method
from lstm_explain.methods.background import Background
from lstm_explain.target import Target
from lstm_explain.target_sets import TargetSet


def method_as_json(method: Method) -> dict[str, Any]:
    """Returns the name and every parameter."""
    return {"name": method.name, **{key: _plain(value) for key, value in method.parameters().items()}}


def target_as_json(target: TargetSet) -> dict[str, Any]:
    values = {f.name: getattr(target, f.name) for f in fields(target)}
    return {
        name: target_as_json(value) if isinstance(value, Target) else _plain(value) for name, value in values.items()
    }


def _plain(value: Any) -> Any:
    """Returns the value in terms of JSON; for an array, its digest."""
    if isinstance(value, Background):
        return {"draws": value.draws, "seed": value.seed, "samples": _plain(value.samples)}
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "sha256": hashlib.sha256(value.tobytes()).hexdigest()}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def listed(array: npt.NDArray[Any]) -> Any:
    """Returns nested lists, with None for NaN, which JSON does not have."""
    if array.dtype.kind != "f" or not np.isnan(array).any():
        return array.tolist()
    numbers = array.astype(object)
    numbers[np.isnan(array)] = None
    return numbers.tolist()
