# SPDX-License-Identifier: Apache-2.0
"""In a compiled file, relevance that fades over a long sequence becomes zero without subnormal numbers on its way."""

from __future__ import annotations

import numpy as np
import pytest

import lstm_explain as lx
from bench.models import Shape, inputs_of, model_of
from tests.compiled.compiled_files import check_like_engine, run_file

TINY = float(np.finfo(np.float32).tiny)
TARGET = lx.Target(index=2)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("method", [lx.LRP(), lx.LRP("half", epsilon=0.1), lx.GradientTimesInput()], ids=str)
def test_no_relevance_is_subnormal(op: str, method: lx.Method) -> None:
    shape = Shape(6, 12, op=op, fading=True)
    model, x = model_of(shape), inputs_of(shape, 1500, 1)
    compiled = run_file(lx.compile(model, method=method, target=TARGET), {"x": x})
    expected = lx.load(model).explain({"x": x}, method, TARGET)
    check_like_engine(compiled, expected)
    sizes = np.abs(compiled.relevance["x"])
    assert (sizes == 0).any(), "the relevance does not fade"
    assert not ((sizes > 0) & (sizes < TINY)).any()
    large = np.abs(expected.relevance["x"]) > 1e-25
    np.testing.assert_allclose(compiled.relevance["x"][large], expected.relevance["x"][large], rtol=1e-2)
