# SPDX-License-Identifier: Apache-2.0
"""Operators that the engine rewrites as others."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.operators.case import BATCH, Case, ints, normal, positive, smooth

UP = {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}
TURNED = {"transBatchA": 1, "transBatchB": 1, "transB": 0}


def spectra() -> list[Case]:
    signal, window, step = normal(BATCH, 20), np.hanning(8).astype(np.float32), np.int64(3)
    real, waves = normal(BATCH, 6, 1), normal(BATCH, 5, 4, 2, seed=1)
    return [
        Case("DFT", [real]),
        Case("DFT", [real], {"onesided": 1}),
        Case("DFT", [real, np.int64(9)], {"onesided": 1}),
        Case("DFT", [real, np.int64(4)], opset=20),
        Case("DFT", [waves, None, np.int64(1)], opset=20),
        Case("DFT", [waves], {"axis": 2, "inverse": 1}),
        Case("DFT", [waves, np.int64(7)], {"inverse": 1}, opset=20),
        Case("STFT", [signal, step, window]),
        Case("STFT", [signal, step, window, np.int64(8)], {"onesided": 0}),
        Case("STFT", [signal[..., None], step, None, np.int64(8)]),
    ]


def fused() -> list[Case]:
    """Fused operators of ONNX Runtime, and pooling by a norm."""
    flat, x, W = normal(BATCH, 5), normal(BATCH, 4, 5), normal(5, 2, seed=1)
    gamma, beta, bias = normal(5, seed=2), normal(5, seed=3), normal(5, seed=4)
    ours: dict[str, Any] = {"domain": "com.microsoft"}
    row, lp = normal(1, 4, 5, seed=5), (smooth(BATCH, 2, 9), smooth(BATCH, 2, 5, 6))
    return [
        Case("FusedMatMul", [x, W], {"alpha": 0.5}, **ours),
        Case("FusedMatMul", [x, W.T.copy()], {"transB": 1, "alpha": 2.0}, **ours),
        Case("FusedMatMul", [x, normal(BATCH, 4, 5, seed=6)], {"transA": 1}, live=(0, 1), **ours),
        Case("FusedMatMul", [normal(4, BATCH, 5), normal(5, BATCH, 2)], TURNED, live=(0, 1), batch=False, **ours),
        Case("FusedGemm", [flat, W, normal(2)], {"activation": "Tanh"}, **ours),
        Case("FusedGemm", [flat, W, normal(2)], {"activation": "LeakyRelu", "activation_alpha": 0.3}, **ours),
        Case("FusedGemm", [flat, W.T.copy()], {"activation": "Relu", "transB": 1, "alpha": 0.5}, **ours),
        Case("SkipLayerNormalization", [x, x[::-1].copy(), gamma, beta], live=(0, 1), closed=False, **ours),
        Case("SkipLayerNormalization", [x, row, gamma, beta, bias], {"epsilon": 1e-3}, closed=False, **ours),
        Case("SkipSimplifiedLayerNormalization", [x, x[::-1].copy(), gamma], live=(0, 1), closed=False, **ours),
        Case("LpPool", [lp[0]], {"kernel_shape": [3], "p": 1}, step=1e-3),
        Case("LpPool", [lp[0]], {"kernel_shape": [3], "p": 3, "strides": [2], "pads": [1, 1]}, step=1e-3),
        Case("LpPool", [lp[1]], {"kernel_shape": [2, 3], "pads": [0, 1, 1, 1]}, step=1e-3),
        Case("LpPool", [lp[1]], {"kernel_shape": [2, 2], "dilations": [2, 1]}, 22, step=1e-3),
        Case(
            "LpPool",
            [lp[0][..., :8].copy()],
            {"kernel_shape": [3], "strides": [2], "ceil_mode": 1},
            18,
            closed=False,
            step=1e-3,
        ),
        Case("LpPool", [smooth(BATCH, 2, 6, 5)], UP, 22, closed=False, step=1e-3),
        Case("GlobalLpPool", [lp[1]], {"p": 3}, step=1e-3),
        Case("GlobalLpPool", [lp[0]], step=1e-3),
    ]


def pipelines() -> list[Case]:
    """Operators that scikit-learn's converters write."""
    x, theirs = normal(BATCH, 5), {"domain": "ai.onnx.ml"}
    each = {"offset": normal(5, seed=1).tolist(), "scale": positive(5, seed=2).tolist()}
    weights = {"coefficients": normal(10, seed=3).tolist(), "intercepts": [0.5, -0.25], "targets": 2}
    return [
        Case("Scaler", [x], each, **theirs),
        Case("Scaler", [x], {"offset": [0.5], "scale": [2.0]}, **theirs),
        Case("LinearRegressor", [x], weights, **theirs),
        Case("LinearRegressor", [x], {"coefficients": weights["coefficients"][:5]}, **theirs),
        Case("ArrayFeatureExtractor", [x, ints(3, 0, 3).reshape(1, 3)], **theirs),
    ]


def attention() -> list[Case]:
    """Linear attention by every update rule, and the convolution that precedes it in such layers."""
    q, k, v = normal(BATCH, 3, 8), normal(BATCH, 3, 4, seed=1), normal(BATCH, 3, 6, seed=2)
    state, decay, rate = normal(BATCH, 2, 2, 3, seed=3), -positive(BATCH, 3, 4), positive(BATCH, 3, 2)
    heads: dict[str, Any] = {"q_num_heads": 4, "kv_num_heads": 2}
    x, W, bias, before = normal(BATCH, 2, 5), normal(2, 1, 3, seed=1), normal(2, seed=2), normal(BATCH, 2, 2, seed=3)
    attended = {
        "linear": ([q, k, v, state], (0, 1, 2, 3)),
        "gated": ([q, k, v, state, decay], (0, 1, 2, 3, 4)),
        "delta": ([q, k, v, None, None, rate], (0, 1, 2, 5)),
        "gated_delta": ([q, k, v, state, decay[..., :2].copy(), rate[..., :1].copy()], (0, 1, 2, 3, 4, 5)),
    }
    both = ("y", "last")
    return [
        *(
            Case("LinearAttention", inputs, {**heads, "update_rule": rule}, 27, live, False, outputs=both)
            for rule, (inputs, live) in attended.items()
        ),
        Case("CausalConvWithState", [x, W], {}, 27, outputs=both),
        Case("CausalConvWithState", [x, W, bias, before], {"activation": "silu"}, 27, live=(0, 3), outputs=both),
        Case("CausalConvWithState", [x, W, bias], {"activation": "swish"}, 27, outputs=both),
        Case("CausalConvWithState", [x[:, :, :1].copy(), W, None, before], {}, 27, live=(0, 3), outputs=both),
        Case("CausalConvWithState", [x, W[..., :1].copy()], {}, 27, outputs=both),
    ]
