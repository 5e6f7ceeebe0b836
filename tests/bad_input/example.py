# SPDX-License-Identifier: Apache-2.0
"""A model and valid inputs, which the tests of invalid input change."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.builders import recurrent_model

BUILT = recurrent_model(np.random.default_rng(61), sequence_lens=True, initial_states="input", head="Y_h")
FEEDS = BUILT.feeds(np.random.default_rng(62), T=5)
BYTES = BUILT.model.SerializeToString()


def tiny(node: onnx.NodeProto, domains: Any = ()) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 4]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), *domains]
    return helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=8)
