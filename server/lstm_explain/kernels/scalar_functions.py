# SPDX-License-Identifier: Apache-2.0
"""Scalar functions that the loop vectoriser can inline, for float32 and float64, and the activations of ONNX's cells.

NumPy's exp and tanh call into libm one element at a time, which costs more than a small cell's products. In float32,
approximations suffice: for exp the polynomial of Cephes, for tanh the rational function that Eigen and ONNX Runtime
use. In float64, both follow Cephes, to about 13 units in the last place.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.extending import intrinsic, overload, register_jitable

f32 = np.float32
# fastmath lets sums be reordered. NaN and infinities are refused before they reach the kernels.
FAST = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}
# Unless all arrays are known not to overlap (see LOOP), a loop is compiled in two versions, one of them for arrays that
# may overlap. If one version could fuse or replace operations and the other could not, an answer would depend on the
# addresses of its arrays.
STEADY = {"reassoc", "nnan", "ninf", "nsz"}
BARE = {**FAST, "_nrt": False}  # for functions that allocate no array: array references are not counted


class _Apart(CompilerBase):  # type: ignore[misc]
    """Compiles for arguments that do not overlap: none is written where another is read.

    Otherwise every loop would first check whether its arrays overlap, which is noticeable in small layers.
    """

    def define_pipelines(self):
        self.state.flags.noalias = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


LOOP = {**FAST, "pipeline_class": _Apart}  # a loop over time
STEP = {**LOOP, "_nrt": False}  # a helper that allocates no array
LINE = {"fastmath": True, "error_model": "numpy", "forceinline": True}


@intrinsic  # type: ignore[untyped-decorator]
def widest_vectors(typing: Any) -> Any:
    """Has the kernel that calls this use the processor's widest vectors, where LLVM would prefer narrower ones.

    On Intel's processors with AVX-512, LLVM prefers vectors of 256 bits, since the first of them slowed down for wider
    ones. The recurrent product has wide ones anyway (recurrent_matmul.py).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # their own `add` only takes the names that llvmlite knows
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return nb.void(), generate


def _bitcast(ctx, builder, signature, arguments):
    return builder.bitcast(arguments[0], ctx.get_value_type(signature.return_type))


@intrinsic
def from_bits(typingctx, bits):
    """The float32 with the bits of an int32, or the float64 with those of an int64."""
    return (nb.types.float32 if bits == nb.types.int32 else nb.types.float64)(bits), _bitcast


@intrinsic
def bits_of(typingctx, number):
    """The inverse of `from_bits`. Non-negative numbers compare as their bits do; NaN exceeds infinity."""
    return (nb.types.int32 if number == nb.types.float32 else nb.types.int64)(number), _bitcast


@register_jitable(**LINE)
def _exp32(x):
    """About 2 ulp."""
    x = min(max(x, f32(-87.0)), f32(88.0))
    n = np.floor(x * f32(1.44269504) + f32(0.5))
    r = x - n * f32(0.693359375) + n * f32(2.12194440e-4)
    p = f32(1.9875691500e-4) * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    return (p * r * r + r + f32(1)) * from_bits(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))


@register_jitable(**LINE)
def _tanh32(x):
    x = min(max(x, f32(-7.90531110763549805)), f32(7.90531110763549805))
    s = x * x
    p = s * f32(-2.76076847742355e-16) + f32(2.00018790482477e-13)
    p = s * p + f32(-8.60467152213735e-11)
    p = s * p + f32(5.12229709037114e-08)
    p = s * p + f32(1.48572235717979e-05)
    p = s * p + f32(6.37261928875436e-04)
    p = s * p + f32(4.89352455891786e-03)
    q = s * f32(1.19825839466702e-06) + f32(1.18534705686654e-04)
    q = s * q + f32(2.26843463243900e-03)
    q = s * q + f32(4.89352518554385e-03)
    return x * p / q


@register_jitable(**LINE)
def _exp64(x):
    x = min(max(x, -708.0), 709.0)
    n = np.floor(x * 1.4426950408889634073599 + 0.5)
    r = x - n * 6.93145751953125e-1 - n * 1.42860682030941723212e-6
    s = r * r
    p = (1.26177193074810590878e-4 * s + 3.02994407707441961300e-2) * s + 9.99999999999999999910e-1
    q = (3.00198505138664455042e-6 * s + 2.52448340349684104192e-3) * s + 2.27265548208155028766e-1
    q = q * s + 2.0
    p *= r
    return (1.0 + 2.0 * p / (q - p)) * from_bits((np.int64(n) + np.int64(1023)) << np.int64(52))


@register_jitable(**LINE)
def _tanh64(x):
    s = x * x
    p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3
    q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s + 4.84406305325125486048e3
    small = x + x * s * p / q
    large = 1.0 - 2.0 / (_exp64(2.0 * abs(x)) + 1.0)
    return small if abs(x) < 0.625 else (large if x > 0 else -large)


def exp(x):
    return math.exp(x)


def tanh(x):
    return math.tanh(x)


@overload(exp, jit_options=LINE)
def _exp(x):
    return (lambda x: _exp32(x)) if x == nb.types.float32 else (lambda x: _exp64(x))


@overload(tanh, jit_options=LINE)
def _tanh(x):
    return (lambda x: _tanh32(x)) if x == nb.types.float32 else (lambda x: _tanh64(x))


# Activation codes. By ONNX's names; alpha and beta have ONNX's defaults.
CODES = {
    "sigmoid": 0,
    "tanh": 1,
    "relu": 2,
    "affine": 3,
    "leakyrelu": 4,
    "thresholdedrelu": 5,
    "scaledtanh": 6,
    "hardsigmoid": 7,
    "elu": 8,
    "softsign": 9,
    "softplus": 10,
}
DEFAULTS = {
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, 0.0),
    "thresholdedrelu": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
}


@nb.njit(**FAST)
def activate(code, alpha, beta, clip, z, out):
    """out = f(z), z bounded to [-clip, clip] first where clip > 0; both [H]."""
    one = z.dtype.type(1)
    if clip > 0:
        for j in range(z.size):
            out[j] = min(max(z[j], -clip), clip)
    else:
        for j in range(z.size):
            out[j] = z[j]
    if code == 0:
        for j in range(z.size):
            out[j] = one / (one + exp(-out[j]))
    elif code == 1:
        for j in range(z.size):
            out[j] = tanh(out[j])
    elif code == 2:
        for j in range(z.size):
            out[j] = max(out[j], one - one)
    else:
        for j in range(z.size):
            out[j] = _rare(code, alpha, beta, out[j])


@nb.njit(**FAST)
def _rare(code, alpha, beta, v):
    zero = v - v
    one = zero + f32(1)
    if code == 3:
        return alpha * v + beta
    if code == 4:
        return v if v >= zero else alpha * v
    if code == 5:
        return v if v > alpha else zero
    if code == 6:
        return alpha * tanh(beta * v)
    if code == 7:
        return min(max(alpha * v + beta, zero), one)
    if code == 8:
        return v if v >= zero else alpha * (exp(v) - one)
    if code == 9:
        return v / (one + abs(v))
    return max(v, zero) + np.log(one + exp(-abs(v)))


@nb.njit(**FAST)
def multiply_by_slope(code, alpha, beta, clip, z, y, g):
    """g *= f'(z), given y = f(z); all [H]."""
    one = z.dtype.type(1)
    if code == 0:
        for j in range(z.size):
            g[j] *= y[j] * (one - y[j])
    elif code == 1:
        for j in range(z.size):
            g[j] *= one - y[j] * y[j]
    else:
        for j in range(z.size):
            g[j] *= _rare_slope(code, alpha, beta, z[j], y[j])
    if clip > 0:
        for j in range(z.size):
            if abs(z[j]) > clip:
                g[j] = 0


@nb.njit(**FAST)
def _rare_slope(code, alpha, beta, v, y):
    zero = v - v
    one = zero + f32(1)
    if code == 2:
        return one if v > zero else zero
    if code == 3:
        return alpha
    if code == 4:
        return one if v >= zero else alpha
    if code == 5:
        return one if v > alpha else zero
    if code == 6:
        return beta * (alpha - y * y / alpha)
    if code == 7:
        inner = alpha * v + beta
        return alpha if zero < inner and inner < one else zero
    if code == 8:
        return one if v >= zero else alpha * exp(v)
    if code == 9:
        return (one - abs(y)) * (one - abs(y))
    return one / (one + exp(-v))


@nb.njit(**{**FAST, "fastmath": STEADY}, forceinline=True)
def settle(r, z, bias, eps):
    """The epsilon rule at one sum z of relevance r: r / stab(z), and the part of r that bias and stabiliser absorb.

    Without a stabiliser a sum of zero keeps everything.
    """
    return settle_by(r, z, bias, eps if z >= 0 else -eps)


@nb.njit(**{**FAST, "fastmath": STEADY}, forceinline=True)
def settle_by(r, z, bias, signed):
    """Does the same as `settle`, but for a stabiliser that adds `signed` to z."""
    safe = z + signed
    density = r / safe if safe != 0 else r - r
    return density, ((bias + signed) * density if safe != 0 else r)


@nb.njit(**{**FAST, "fastmath": STEADY}, forceinline=True)
def share(rule, gate, signal, r, eps, delta, beta=None):
    """How the relevance r of a product splits: the parts of gate and signal, and what the stabiliser absorbs.

    rule: 0 all, 1 half, 2 prop, 3 abs; the last two are the epsilon rule over the two values (or their magnitudes).
    beta: that of the relative stabiliser, which replaces eps.
    """
    if rule == 0:
        return r - r, r, r - r
    half = r * f32(0.5)
    if rule == 1:
        return half, half, r - r
    if rule == 3:
        gate, signal = abs(gate), abs(signal)
    if beta is None:
        density, kept = settle(r, gate + signal, r - r, eps)
    else:
        over = beta * (abs(gate) + abs(signal) - abs(gate + signal))
        density, kept = settle_by(r, gate + signal, r - r, over if gate + signal >= 0 else -over)
    part = delta * kept * f32(0.5)
    return gate * density + part, signal * density + part, kept - delta * kept
