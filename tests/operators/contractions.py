# SPDX-License-Identifier: Apache-2.0
"""Matrix products, reductions and normalisations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tests.operators.case import BATCH, AnyArray, Case, ints, normal, positive, smooth


def products() -> list[Case]:
    two = (0, 1)

    def case(op: str, *inputs: AnyArray | None, live: tuple[int, ...] = two, **more: Any) -> Case:
        opset, batch = more.pop("opset", 17), more.pop("batch", True)
        return Case(op, inputs, more, opset=opset, live=live, batch=batch)

    x = normal(BATCH, 4, 5)
    vector, matrix, batched = normal(5, seed=1), normal(5, 2, seed=1), normal(BATCH, 5, 2, seed=1)
    heads, keys = normal(BATCH, 2, 4, 5), normal(BATCH, 2, 5, 3, seed=1)
    flat, wide = normal(BATCH, 5), normal(BATCH, 4, seed=1)
    return [
        case("MatMul", x, matrix, live=(0,), opset=7),
        case("MatMul", matrix.T, batched, live=(1,)),
        case("MatMul", x, vector, live=(0,)),
        case("MatMul", normal(5, 4), normal(4, seed=1), live=(1,), batch=False),
        case("MatMul", x, batched),
        case("MatMul", heads, keys, opset=9),
        case("MatMul", x[:1], batched, batch=False),
        case("MatMul", x, matrix, batch=False),
        case("MatMul", x, vector, batch=False),
        case("MatMul", vector, batched, batch=False),
        case("MatMul", vector, vector, batch=False),
        case("Gemm", flat, matrix, normal(2, seed=2), live=(0,), opset=7),
        case("Gemm", flat, matrix.T.copy(), normal(BATCH, 2, seed=2), live=(0, 2), transB=1, alpha=0.5, beta=2.0),
        case("Gemm", flat, matrix.T.copy(), normal(BATCH, 2, seed=2), live=(0, 2), transB=1, alpha=-0.5, beta=-2.0),
        case("Gemm", flat.T.copy(), matrix, live=(0,), transA=1, batch=False),
        case("Gemm", matrix, normal(4, 5, seed=2), live=(1,), transA=1, transB=1, batch=False),
        case("Gemm", flat, normal(2, 5, seed=2), normal(2, seed=3), transB=1, alpha=0.5, beta=2.0, batch=False),
        case("Gemm", normal(5, 3), normal(5, 2, seed=2), None, transA=1, batch=False),
        case("Einsum", x, matrix, live=(0,), equation="bik,kj->bij", opset=12),
        case("Einsum", matrix, x, live=(1,), equation="kj,b...k->b...j"),
        case("Einsum", x, live=(0,), equation="bij->bj"),
        case("Einsum", x, live=(0,), equation="bij->jbi", batch=False),
        case("Einsum", x, normal(6, seed=2), live=(0,), equation="bij,k->bi"),
        case("Einsum", x, batched, equation="bik,bkj->bij"),
        case("Einsum", heads, keys, equation="bhtd,bhds->bhts"),
        case("Einsum", flat, matrix, live=(0,), equation="ij,jk"),
        case("Einsum", flat, wide, equation="bi,bj->bij"),
        case("Einsum", flat, wide, equation="bi,bj->bj"),
        case("Einsum", x, x + 1, equation="bij,bij->b"),
        case("Einsum", x, flat, equation="bij,bj->bi"),
        case("Einsum", x, matrix, normal(2, 3, seed=4), live=(0,), equation="...ij,jk,kl->...il"),
        case("Einsum", x, batched, normal(2, 3, seed=4), equation="bij,bjk,kl", batch=False),
        case("Einsum", x, x + 1, normal(BATCH, 4, 5, seed=4), live=(0, 1, 2), equation="bij,bij,bij->bj"),
        case("Einsum", normal(BATCH, 4, 4), live=(0,), equation="bii->bi", opset=12),
        case("Einsum", normal(BATCH, 4, 4), live=(0,), equation="bii"),
        case("Einsum", normal(4, 4), live=(0,), equation="ii->i", batch=False),
        case("Einsum", normal(BATCH, 4, 5, 4), normal(4, 2, seed=1), live=(0,), equation="biji,ik->bjk"),
        case("Einsum", normal(BATCH, 4, 4), normal(BATCH, 4, 5, seed=2), equation="bii,bij->bj"),
        case("Einsum", normal(BATCH, 4, 4), flat, wide, live=(0, 1, 2), equation="bii,bj,bk->bijk"),
    ]


def reductions() -> list[Case]:
    x, one_zero = smooth(BATCH, 4, 5), smooth(BATCH, 4, 5)
    one_zero[0, 1, 2] = 0
    cases = [
        Case(op, [x], {"axes": [1, 2], "keepdims": k}, opset=7 + 4 * k)
        for k in (0, 1)
        for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
    ]
    newest = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd")
    cases += [Case(op, [x, ints(-2)], {"keepdims": 0}, opset=18) for op in (*newest, "ReduceSum")]
    cases += [
        Case("ReduceSum", [x, ints()], {"noop_with_empty_axes": 1}, opset=13),
        Case("ReduceSum", [x], opset=13, batch=False),
        Case("ReduceL2", [x], opset=13, batch=False),
        Case("ReduceLogSumExp", [x], {"axes": [2]}, opset=13, closed=False),
        Case("ReduceLogSumExp", [x, ints(-2)], {"keepdims": 0}, opset=18, closed=False),
        Case("ReduceLogSum", [positive(BATCH, 4, 5)], {"axes": [1]}, opset=13),
        Case("ReduceLogSum", [positive(BATCH, 4, 5), ints(1, 2)], opset=18),
        Case("ReduceProd", [one_zero], {"axes": [1, 2]}, opset=13, closed=False),
        Case("ReduceProd", [one_zero], {"axes": [2], "keepdims": 0}, opset=13),
    ]
    for reverse in (0, 1):
        for exclusive in (0, 1):
            cases += [Case("CumSum", [x, np.int64(1)], {"reverse": reverse, "exclusive": exclusive}, opset=11)]
    cases += [Case("CumSum", [x, ints(-1)], opset=14), Case("CumSum", [x, np.int64(0)], opset=14, batch=False)]
    return [dataclasses.replace(c, step=2e-3) for c in cases]


def normalisations() -> list[Case]:
    x = normal(BATCH, 4, 5)
    scale, shift, mean, variance = normal(4, seed=1), normal(4, seed=2), normal(4, seed=3), positive(4, seed=4)
    cases = [
        Case("BatchNormalization", [x, scale, shift, mean, variance], {"epsilon": 1e-2}, o) for o in (7, 9, 14, 15)
    ]
    cases += [Case("BatchNormalization", [normal(BATCH, 4), scale, shift, mean, variance])]
    last, two = normal(5, seed=5), normal(4, 5, seed=6)
    cases += [
        Case("LayerNormalization", [x, last, normal(5, seed=7)]),
        Case("LayerNormalization", [x, last], {"axis": -1, "epsilon": 1e-2}),
        Case("LayerNormalization", [x, two, two], {"axis": 1}),
        Case("LayerNormalization", [x, two, two], {"axis": -2}, outputs=("y", "mean", "inverse")),
        Case("RMSNormalization", [x, last], {"axis": -1}, opset=23),
        Case("RMSNormalization", [x, two], {"axis": 1}, opset=24),
        Case("InstanceNormalization", [x, scale, shift]),
        Case("InstanceNormalization", [normal(BATCH, 4, 3, 2), scale, shift], {"epsilon": 1e-2}, opset=7),
        Case("GroupNormalization", [normal(BATCH, 4, 3, 2), scale, shift], {"num_groups": 2}, opset=21),
        Case("GroupNormalization", [normal(BATCH, 4, 3, 2), scale[:2], shift[:2]], {"num_groups": 2}, opset=18),
        Case("MeanVarianceNormalization", [x], {"axes": [1, 2]}, opset=13),
        Case("MeanVarianceNormalization", [normal(BATCH, 4, 3, 2)], opset=9, batch=False),
        Case("LpNormalization", [x]),
        Case("LpNormalization", [smooth(BATCH, 4, 5)], {"axis": 1, "p": 1}, opset=22),
    ]
    return [dataclasses.replace(c, step=5e-3) for c in cases]
