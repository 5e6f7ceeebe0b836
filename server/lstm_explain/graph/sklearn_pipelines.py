# SPDX-License-Identifier: Apache-2.0
"""Rewrites operators that converters of scikit-learn write around a network in ONNX's own operators."""

from __future__ import annotations

import numpy as np

from lstm_explain.graph.ir import ValueType
from lstm_explain.graph.node_writer import NodeWriter

DOMAIN = "ai.onnx.ml"
FLOAT = np.dtype(np.float32)


def _numbers(w: NodeWriter, attribute: str) -> np.ndarray:
    return np.asarray(w.node.attribute(attribute, []), FLOAT)


def _scaler(w: NodeWriter) -> bool:
    """Rewrites as (x - offset) * scale, each of them one number or one per feature."""
    x = w.cast(w.node.inputs[0], FLOAT)
    shift, scale = _numbers(w, "offset"), _numbers(w, "scale")
    w.op("Mul", w.op("Sub", x, w.constant(shift)), w.constant(scale), output=w.node.outputs[0])
    return bool(shift.size and scale.size)


def _linear_regressor(w: NodeWriter) -> bool:
    targets, weights, shift = w.node.attribute("targets", 1), _numbers(w, "coefficients"), _numbers(w, "intercepts")
    if w.node.attribute("post_transform", "NONE") != "NONE" or weights.size % targets:
        return False
    kind = ValueType(FLOAT, (None, targets))
    product = w.op("MatMul", w.cast(w.node.inputs[0], FLOAT), w.constant(weights.reshape(targets, -1).T), kind=kind)
    if shift.size:
        w.op("Add", product, w.constant(shift), output=w.node.outputs[0])
    else:
        w.op("Identity", product, output=w.node.outputs[0])
    return True


def _feature_extractor(w: NodeWriter) -> bool:
    positions = w.graph.constants.get(w.node.inputs[1])
    if positions is None:
        return False
    w.op("Gather", w.node.inputs[0], w.constant(positions.reshape(-1)), output=w.node.outputs[0], axis=-1)
    return True


REWRITES = {
    f"{DOMAIN}::Scaler": _scaler,
    f"{DOMAIN}::LinearRegressor": _linear_regressor,
    f"{DOMAIN}::ArrayFeatureExtractor": _feature_extractor,
}
