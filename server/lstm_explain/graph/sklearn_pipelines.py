"""What converters of scikit-learn write around a network, in ONNX's own operators."""

from __future__ import annotations

import numpy as np

from lstm_explain.graph.ir import ValueType
from lstm_explain.graph.node_writer import Spelling

DOMAIN = "ai.onnx.ml"
FLOAT = np.dtype(np.float32)


def _numbers(s: Spelling, attribute: str) -> np.ndarray:
    return np.asarray(s.node.attribute(attribute, []), FLOAT)


def _scaler(s: Spelling) -> bool:
    """(x - offset) * scale, each one number or one a feature."""
    x = s.cast(s.node.inputs[0], FLOAT)
    shift, scale = _numbers(s, "offset"), _numbers(s, "scale")
    s.op("Mul", s.op("Sub", x, s.constant(shift)), s.constant(scale), output=s.node.outputs[0])
    return bool(shift.size and scale.size)


def _linear_regressor(s: Spelling) -> bool:
    targets, weights, shift = s.node.attribute("targets", 1), _numbers(s, "coefficients"), _numbers(s, "intercepts")
    if s.node.attribute("post_transform", "NONE") != "NONE" or weights.size % targets:
        return False
    kind = ValueType(FLOAT, (None, targets))
    product = s.op("MatMul", s.cast(s.node.inputs[0], FLOAT), s.constant(weights.reshape(targets, -1).T), kind=kind)
    if shift.size:
        s.op("Add", product, s.constant(shift), output=s.node.outputs[0])
    else:
        s.op("Identity", product, output=s.node.outputs[0])
    return True


def _feature_extractor(s: Spelling) -> bool:
    places = s.graph.constants.get(s.node.inputs[1])
    if places is None:
        return False
    s.op("Gather", s.node.inputs[0], s.constant(places.reshape(-1)), output=s.node.outputs[0], axis=-1)
    return True


SPELLINGS = {
    f"{DOMAIN}::Scaler": _scaler,
    f"{DOMAIN}::LinearRegressor": _linear_regressor,
    f"{DOMAIN}::ArrayFeatureExtractor": _feature_extractor,
}
