# SPDX-License-Identifier: Apache-2.0
"""Under the rules by which gates pass relevance on, answers to a float32 model are those of the same model in float64.

With the relative stabiliser, they run in float32, and again in float64 where the ledger shows that this was not enough,
which is the case for some long texts under LRP-prop.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import lstm_explain as lx

SENTIMENT = Path(__file__).resolve().parents[2] / "models" / "sentiment" / "1" / "model.onnx"


@cache
def in_float64() -> lx.Model:
    """The model with the same weights, and all arithmetic in float64."""
    model = onnx.load(SENTIMENT)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            wide = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
            tensor.CopyFrom(wide)
    for value in (*model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return lx.load(model)


@pytest.mark.parametrize("steps", [30, 400])
@pytest.mark.parametrize("rule", ["half", "prop", "abs"])
def test_no_digits_are_lost(rule: str, steps: int) -> None:
    tokens = {"tokens": np.random.default_rng(0).integers(3, 3000, (4, steps))}
    method, target = lx.LRP(rule), lx.Target(index=3)
    ours = lx.load(SENTIMENT).explain(tokens, method, target).relevance["tokens"]
    expected = in_float64().explain(tokens, method, target).relevance["tokens"]
    largest = np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose(ours / largest, expected / largest, rtol=0, atol=1e-4)
