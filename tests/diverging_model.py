# SPDX-License-Identifier: Apache-2.0
"""A model in which two large terms cancel, so that relevance can diverge."""

from __future__ import annotations

import numpy as np
import onnx

from tests.graph_builder import GraphBuilder

# Of `diverging_model`: an input of which two large entries cancel, and one of which none do. Inside, the two
# are 1e5 and 25/32 - 1e5, which float32 holds exactly.
CANCELLING, CALM = (1000.0, -999.9921875), (0.02, 0.03)

INNER, OUTER = np.array([[100.0], [100.0]]), np.array([[1.0, 0.5, -1.0]])


def diverging_model(activation: str = "") -> onnx.ModelProto:
    """x float32 [B, 2] to `logits` [B, 3], or through the activation to `p`: two linear layers of one unit and three.

    The sum that cancels lies inside, so that the output itself is of ordinary size.
    """
    g = GraphBuilder(np.float32, 17)
    inner = g.op("MatMul", [g.input("x", ["B", 2]), g.constant(INNER, "inner")])
    logits = g.op("MatMul", [inner, g.constant(OUTER, "outer")])
    if activation:
        return g.model(g.op(activation, [logits]), ["B", 3], rename="p")
    return g.model(logits, ["B", 3], rename="logits")
