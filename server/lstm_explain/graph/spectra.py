# SPDX-License-Identifier: Apache-2.0
"""Rewrites the spectrum of a real signal (STFT) as a convolution with cosines and sines."""

from __future__ import annotations

import numpy as np

from lstm_explain.graph.ir import ValueType
from lstm_explain.graph.node_writer import NodeWriter

MAX_WEIGHTS = 1 << 24


def _stft(w: NodeWriter) -> bool:
    """Maps [N, L] or [N, L, 1] to [N, frames, frequencies, 2]."""
    node, constants = w.node, w.graph.constants
    kind, step, window, length = w.graph.type_of(node.inputs[0]), *(node.input(i) for i in (1, 2, 3))
    complex_valued = kind.shape is None or (len(kind.shape) == 3 and kind.shape[2] != 1)
    if complex_valued or kind.dtype is None or any(name not in constants for name in (step, window, length) if name):
        return False
    size = int(constants[length].item()) if length else constants[window].size
    weight = constants[window].reshape(-1).astype(np.float64) if window else np.ones(size)
    count = size // 2 + 1 if node.attribute("onesided", 1) else size
    if size < 1 or weight.size != size or 2 * count * size > MAX_WEIGHTS:
        return False
    waves = np.exp(-2j * np.pi * np.outer(np.arange(count), np.arange(size)) / size) * weight
    kernel = np.concatenate([waves.real, waves.imag])[:, None].astype(kind.dtype)
    strides = [int(constants[step].item())]
    signal = w.reshaped(node.inputs[0], [0, 1, -1])
    flat = w.op("Conv", signal, w.constant(kernel), kind=ValueType(kind.dtype, (None,) * 3), strides=strides)
    parts = w.reshaped(flat, [0, 2, count, -1])
    w.op("Transpose", parts, output=node.outputs[0], perm=[0, 3, 2, 1])
    return True


REWRITES = {"STFT": _stft}
