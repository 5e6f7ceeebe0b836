# SPDX-License-Identifier: Apache-2.0
"""Resize and Upsample."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.operators.case import BATCH, AnyArray, Case, ints, normal

ANTIALIASED = [("linear", 1), ("cubic", 1), ("linear", 0), ("cubic", 0)]


def resizing() -> list[Case]:
    """Every coordinate transformation, filter and kind of size that ONNX Runtime supports, up and down."""
    line, plane = normal(BATCH, 2, 1, 7), normal(BATCH, 2, 5, 4)
    sizes, scales = ints(1, 11), np.float32([1, 1, 1, 0.62])
    grown = np.float32([1, 1, 2.3, 1.5])
    where = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")

    def case(x: AnyArray, mode: str, scales: Any = None, sizes: Any = None, opset: int = 19, **more: Any) -> Case:
        if "coordinate" in more:
            more["coordinate_transformation_mode"] = more.pop("coordinate")
        roi, batch = more.pop("roi", None), more.pop("batch", True)
        more |= {} if sizes is None else {"axes": [2, 3]}
        return Case("Resize", [x, roi, scales, sizes], {"mode": mode, **more}, opset, batch=batch)

    cases = [
        case(x, mode, scale, size, coordinate=at)
        for at in where
        for mode in ("nearest", "linear", "cubic")
        for x, scale, size in ((line, None, sizes), (line, scales, None), (plane, grown, None))
    ]
    cases += [case(plane, "nearest", grown, nearest_mode=m) for m in ("round_prefer_ceil", "floor", "ceil")]
    cases += [
        case(
            line,
            "nearest",
            scales,
            coordinate="tf_half_pixel_for_nn",
            nearest_mode="floor",
            roi=np.float32([]),
            opset=11,
        )
    ]
    cases += [case(line, m, scales, opset=13) for m in ("nearest", "linear", "cubic")]
    cases += [case(line, "cubic", scales, exclude_outside=1, cubic_coeff_a=-0.5)]
    cases += [case(plane, m, np.float32([1, 1, 0.4, 1]), antialias=1, exclude_outside=e) for m, e in ANTIALIASED]
    cases += [case(plane, "linear", None, ints(3, 7), keep_aspect_ratio_policy="not_larger", opset=18)]
    cases += [case(plane, "nearest", None, ints(3, 7), keep_aspect_ratio_policy="not_smaller")]
    cases += [
        case(
            plane, mode, np.float32([1, 1, 2, 1.5]), roi=np.float32([0, 0, 0.2, -0.25, 1, 1, 0.9, 1.2]),
            coordinate="tf_crop_and_resize", extrapolation_value=0.7,
        )
        for mode in ("nearest", "linear")
    ]  # fmt: skip
    cases += [case(normal(4, 5), "linear", np.float32([2, 1.4]), batch=False)]
    cases += [
        Case("Resize", [line if s is scales else plane, s], {"mode": m}, 10)
        for m in ("nearest", "linear")
        for s in (grown, scales)
    ]
    cases += [Case("Upsample", [plane, np.float32([1, 1, 2, 3])], {"mode": m}, 9) for m in ("nearest", "linear")]
    cases += [Case("Upsample", [plane], {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 1.5]}, 7)]
    return cases
