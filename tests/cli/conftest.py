# SPDX-License-Identifier: Apache-2.0
"""Files for the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.graph.test_integer_division import dividing
from tests.graph.test_recurrent_operands import model, recurrent, right_shapes
from tests.serving.models import lstm, outside_its_folder, without_rule


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    onnx.save(lstm(), str(folder / "good.onnx"))
    onnx.save(without_rule(), str(folder / "no-rule.onnx"))
    (folder / "truncated.onnx").write_bytes((folder / "good.onnx").read_bytes()[:500])
    onnx.save(model(recurrent("LSTM", right_shapes("LSTM") | {"W": [1, 15, 3]})), str(folder / "short.onnx"))
    onnx.save(dividing("Div", np.int64, [7], [0], "ab"), str(folder / "zero.onnx"))
    onnx.save(dividing("Div", np.int64, [-(2**63)], [-1], "ab"), str(folder / "smallest.onnx"))
    (folder / "a" / "b").mkdir(parents=True)
    onnx.save(outside_its_folder(), str(folder / "a" / "b" / "outside.onnx"))
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.standard_normal((2, 6, 4)).astype("f4"))
    np.save(folder / "huge.npy", rng.standard_normal((2, 6, 4)) * 1e300)
    np.save(folder / "square.npy", rng.standard_normal((1, 2, 2)).astype("f4"))
    np.savez(folder / "several.npz", a=np.ones(1), b=np.ones(1))
    (folder / "text.npy").write_text("not an array")
    return folder
