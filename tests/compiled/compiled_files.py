# SPDX-License-Identifier: Apache-2.0
"""Runs compiled files by ONNX Runtime alone, and returns what they say in the form of an explanation."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

import lstm_explain as lx

AnyArray = npt.NDArray[Any]
LEDGER = ("inputs", "initial_states", "absorbed", "residual")


def run_file(proto: onnx.ModelProto, feeds: Mapping[str, AnyArray]) -> Any:
    """relevance, explained, ledger and outputs, named as in an Explanation."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    found = dict(zip(names, session.run(names, dict(feeds)), strict=True))
    relevance = {n.removeprefix("relevance/"): a for n, a in found.items() if n.startswith("relevance/")}
    added = {"explained", *(f"relevance/{n}" for n in relevance), *(f"ledger/{n}" for n in LEDGER)}
    return SimpleNamespace(
        relevance=relevance,
        explained=found["explained"],
        ledger=SimpleNamespace(**{n: found[f"ledger/{n}"] for n in LEDGER}),
        outputs={n: a for n, a in found.items() if n not in added},
    )


def check_like_engine(found: Any, expected: lx.Explanation, tolerance: float = 1e-4) -> None:
    """Relevance within `tolerance` of the largest entry over all inputs, and the ledger of what it adds up."""
    largest = max(float(np.abs(r).max(initial=0)) for r in expected.relevance.values())
    amounts = sum(float(np.abs(r).sum()) for r in expected.relevance.values()) + float(np.abs(expected.explained).max())
    assert list(found.relevance) == list(expected.relevance)
    for name, r in expected.relevance.items():
        assert found.relevance[name].shape == r.shape
        assert np.abs(found.relevance[name] - r).max(initial=0) <= tolerance * largest + 1e-9, name
    for name in ("inputs", "initial_states", "absorbed"):
        other = getattr(found.ledger, name)
        assert other.shape == expected.explained.shape
        amounts += float(np.abs(getattr(expected.ledger, name)).max())
        assert np.abs(other - getattr(expected.ledger, name)).max() <= tolerance * amounts, name
    total = found.ledger.inputs + found.ledger.initial_states + found.ledger.absorbed + found.ledger.residual
    assert np.abs(total - found.explained).max() <= 1e-5 * amounts
    np.testing.assert_allclose(found.explained, expected.explained, rtol=1e-4, atol=1e-5)
    assert list(found.outputs) == list(expected.outputs)
    for name, array in expected.outputs.items():
        np.testing.assert_allclose(found.outputs[name], array, rtol=1e-5, atol=1e-5)
