# SPDX-License-Identifier: Apache-2.0
"""The cases from public reports, compiled: ONNX Runtime explains their inputs by the file alone."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import lstm_explain as lx
from tests import cases
from tests.compiled.compiled_files import check_like_engine, run_file


@functools.cache
def load(name: str) -> cases.Case:
    return cases.load(name)


@pytest.mark.parametrize("method", ["lrp", "gradient_times_input"])
@pytest.mark.parametrize("name", cases.names())
def test_cases(name: str, method: str) -> None:
    case = load(name)
    target = lx.Target(index=0)
    proto = lx.compile(case.model, method, target)
    check_like_engine(run_file(proto, case.inputs), case.model.explain(case.inputs, method, target))


def test_samples_that_are_sorted_by_length_are_explained_one_by_one() -> None:
    """The ledger too is that of each sample, in any order of the batch."""
    (name,) = (name for name in cases.names() if name.startswith("packed_bilstm_sorted"))
    case = load(name)
    proto = lx.compile(case.model, target=0)
    together = run_file(proto, case.inputs)
    order = np.random.default_rng(0).permutation(len(together.explained))
    axes = {n: case.model.axes[n].batch or 0 for n in case.inputs}
    moved = run_file(proto, {n: a.take(order, axes[n]) for n, a in case.inputs.items()})
    np.testing.assert_allclose(moved.ledger.inputs, together.ledger.inputs[order], rtol=1e-4)
    with pytest.raises(lx.UnsupportedOperator, match="Gather"):
        lx.compile(case.model, "integrated_gradients", 0)
