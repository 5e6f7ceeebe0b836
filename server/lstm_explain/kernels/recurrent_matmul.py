# SPDX-License-Identifier: Apache-2.0
"""The recurrent product of the time loops: a few vectors, one per sample, times one matrix that is packed once.

BLAS packs the matrix again at every call, which is at every step, and a plain loop over the matrix waits for the sums
that it loads and stores. Here, sums stay in registers: tiles of WIDTH columns times a few vectors. They are written
with LLVM's vector types, because the loop vectoriser does not produce this code. The matrix is packed in the order in
which it is read: GROUP tiles side by side, row by row. A product with one vector is limited by the loading of weights,
and one long stream of weights loads faster than several.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba.extending import intrinsic

from lstm_explain.kernels.compilation import declared
from lstm_explain.kernels.scalar_functions import BARE, FAST

WIDTH, GROUP = 16, 4
MOST_SUMS = 8  # of float64 at once: each takes two registers of 512 bits
LINE = 64  # bytes of a cache line
INT = ir.IntType(64)


def pack(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Packs [K, N] into ceil(N / WIDTH) tiles of K rows, with zeros after column N. The size is [tiles, K, WIDTH].

    GROUP tiles are stored together, as [K, GROUP, WIDTH]; the remaining n tiles follow as [K, n, WIDTH]. The result is
    in float32 where that represents every weight exactly, whatever the type of the arithmetic: each step reads all
    weights, and loading them from the cache determines how long it takes.
    """
    single = matrix.astype(np.float32)
    lean = single if np.array_equal(single, matrix) else matrix
    K, N = lean.shape
    tiles = -(-N // WIDTH)
    padded = np.zeros((K, tiles * WIDTH), lean.dtype)
    padded[:, :N] = lean
    groups = [padded[:, at : at + GROUP * WIDTH].ravel() for at in range(0, tiles * WIDTH, GROUP * WIDTH)]
    packed = _aligned(padded.size, lean.dtype)
    np.concatenate(groups, out=packed)
    return packed.reshape(tiles, K, WIDTH)


def unpacked(packed: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the matrix that was packed, [K, columns with padding]."""
    K = packed.shape[1]
    flat, per_group = packed.reshape(-1), GROUP * K * WIDTH
    return np.concatenate([group.reshape(K, -1) for group in np.split(flat, range(per_group, flat.size, per_group))], 1)


def _aligned(size: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Allocates memory aligned to a cache line, so that no vector of weights crosses two lines."""
    room = np.empty(size * dtype.itemsize + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size * dtype.itemsize].view(dtype)


def _has_32_registers() -> bool:
    """Whether the target processor of the compilation (see cache.py) has 32 vector registers."""
    if nb.config.CPU_NAME:
        return bool(nb.config.CPU_NAME == "x86-64-v4")
    return bool(binding.get_host_cpu_features().get("avx512f", False))


def _tile(rows: int, tiles: int) -> Callable[..., None]:
    """out[first : first + rows, columns of the tiles] = vectors[first : first + rows] @ their columns of packed.

    Multiplies the tiles from number `index` on, in a group of `size` tiles that begins with tile `group`. Each element
    is one sum in the order of k, however many rows and tiles are processed at once. So the product of a sample is the
    same, to the last bit, whichever samples share its batch.
    """
    every_place = [(r, t) for r in range(rows) for t in range(tiles)]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vectors, packed, out = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        first, group, size, index = arguments[3:]
        given, weight, number = (context.get_value_type(kind.dtype) for kind in signature.args[:3])
        vector, weights = ir.VectorType(number, WIDTH), ir.VectorType(weight, WIDTH)
        every = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        K = builder.extract_value(builder.load(packed._get_ptr_by_name("shape")), 1)
        stride = builder.extract_value(builder.load(out._get_ptr_by_name("shape")), 1)
        width = ir.Constant(INT, WIDTH)
        before = builder.add(builder.mul(group, K), builder.sub(index, group))
        weights_from = builder.gep(packed.data, [builder.mul(before, width)])
        line = builder.mul(size, width)
        lines = [builder.add(first, ir.Constant(INT, r)) for r in range(rows)]
        starts = [builder.gep(vectors.data, [builder.mul(line, K)]) for line in lines]

        def read(k: Any, t: int) -> Any:
            at = builder.gep(weights_from, [builder.add(builder.mul(k, line), ir.Constant(INT, t * WIDTH))])
            w = builder.load(builder.bitcast(at, weights.as_pointer()), align=4)
            return w if weight == number else builder.fpext(w, vector)

        def spread(start: Any, k: Any) -> Any:
            value = builder.load(builder.gep(start, [k]))
            if given != number:
                value = builder.fpext(value, number)
            single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), every)

        def step(places: list[tuple[int, int]], k: Any, sums: list[Any]) -> list[Any]:
            ws, values = {t: read(k, t) for _, t in places}, [spread(start, k) for start in starts]
            terms = [builder.fmul(values[r], ws[t], flags=("contract",)) for r, t in places]
            return [builder.fadd(total, x, flags=("contract",)) for total, x in zip(sums, terms, strict=True)]

        zero = ir.Constant(vector, [0.0] * WIDTH)
        wide = rows * tiles > MOST_SUMS and number == ir.DoubleType()
        for places in [[(r, t) for r in range(rows)] for t in range(tiles)] if wide else [every_place]:
            sums = _loop(builder, ir.Constant(INT, 0), K, 1, [zero] * len(places), partial(step, places))
            for (r, t), total in zip(places, sums, strict=True):
                column = builder.mul(builder.add(index, ir.Constant(INT, t)), width)
                at = builder.gep(out.data, [builder.add(builder.mul(lines[r], stride), column)])
                builder.store(total, builder.bitcast(at, vector.as_pointer()), align=4)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(typing: Any, vectors: Any, packed: Any, out: Any, first: Any, group: Any, size: Any, index: Any) -> Any:
        return nb.types.none(vectors, packed, out, *[nb.types.int64] * 4), generate

    return tile


def _loop(
    builder: Any, start: Any, end: Any, by: int, values: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """for k in range(start, end, by): values = body(k, values). Returns the last values."""
    before = builder.block
    inside, behind = builder.append_basic_block("inside"), builder.append_basic_block("behind")
    builder.cbranch(builder.icmp_signed("<", start, end), inside, behind)
    builder.position_at_end(inside)
    k = builder.phi(INT)
    held = [builder.phi(value.type) for value in values]
    made = body(k, held)
    after = builder.add(k, ir.Constant(INT, by))
    k.add_incoming(start, before)
    k.add_incoming(after, builder.block)
    for phi, first, later in zip(held, values, made, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    last = builder.block
    builder.cbranch(builder.icmp_signed("<", after, end), inside, behind)
    builder.position_at_end(behind)
    results = []
    for first, later in zip(values, made, strict=True):
        phi = builder.phi(first.type)
        phi.add_incoming(first, before)
        phi.add_incoming(later, last)
        results.append(phi)
    return results


# The names contain the numbers of rows and tiles. At least eight sums accumulate at once where they can, because an
# addition has a latency of four cycles. Sixteen need fewer loads: with eight, every addition waits for its own.
_8x2, _8x1 = _tile(8, 2), _tile(8, 1)
_4x2, _4x1, _2x4, _2x2, _2x1 = (_tile(r, t) for r, t in ((4, 2), (4, 1), (2, 4), (2, 2), (2, 1)))
_1x4, _1x3, _1x2, _1x1 = (_tile(1, t) for t in (4, 3, 2, 1))
EIGHT = _has_32_registers()


def _types(given: nb.types.Type, weight: nb.types.Type, number: nb.types.Type) -> Any:
    """Inputs may be read-only."""
    vectors, packed = nb.types.Array(given, 2, "C", readonly=True), nb.types.Array(weight, 3, "C", readonly=True)
    return nb.void(vectors, packed, number[:, ::1], nb.int64, nb.int64)


_32, _64 = nb.float32, nb.float64


def _multiply_in_numpy(vectors: Any, packed: Any, out: Any, count: int, step: int) -> None:
    out[:count] = vectors[:count] @ unpacked(packed).astype(out.dtype)


@declared(
    [_types(_32, _32, _32), _types(_32, _32, _64), _types(_64, _32, _64), _types(_64, _64, _64)],
    _multiply_in_numpy,
    **BARE,
)
def multiply(vectors, packed, out, count, step):
    """out[:count] = vectors[:count] @ matrix. All arrays are contiguous: vectors [B, K], packed by `pack`, out [B, N
    padded].

    The arithmetic is in the type of `out`. Every other `step` processes the groups of the matrix from the last to the
    first: the groups that the previous step read last are still in a cache, even one that cannot hold all of them.
    """
    eights = count // 8 * 8 if EIGHT else 0
    fours = eights + (count - eights) // 4 * 4
    groups = (packed.shape[0] + GROUP - 1) // GROUP
    for n in range(groups):
        group = GROUP * (groups - 1 - n if step % 2 else n)
        size = min(GROUP, packed.shape[0] - group)
        end, pairs = group + size, group + size // 2 * 2
        if eights:
            for index in range(group, pairs, 2):
                for b in range(0, eights, 8):
                    _8x2(vectors, packed, out, b, group, size, index)
            if pairs < end:
                for b in range(0, eights, 8):
                    _8x1(vectors, packed, out, b, group, size, pairs)
        for b in range(eights, fours, 4):
            for index in range(group, pairs, 2):
                _4x2(vectors, packed, out, b, group, size, index)
            if pairs < end:
                _4x1(vectors, packed, out, b, group, size, pairs)
        if count - fours >= 2:
            if size == GROUP:
                _2x4(vectors, packed, out, fours, group, size, group)
            else:
                if pairs > group:
                    _2x2(vectors, packed, out, fours, group, size, group)
                if pairs < end:
                    _2x1(vectors, packed, out, fours, group, size, pairs)
        if count % 2:
            if size == GROUP:
                _1x4(vectors, packed, out, count - 1, group, size, group)
            elif size == 3:
                _1x3(vectors, packed, out, count - 1, group, size, group)
            elif size == 2:
                _1x2(vectors, packed, out, count - 1, group, size, group)
            else:
                _1x1(vectors, packed, out, count - 1, group, size, group)


@nb.njit(**{**FAST, "cache": False, "inline": "always"})
def width_of(packed):
    """The number of columns of a product with `packed`, padding included."""
    return packed.shape[0] * packed.shape[2]


def _dense_in_numpy(vectors: Any, packed: Any, bias: Any, out: Any) -> None:
    out[...] = vectors @ unpacked(packed)[:, : out.shape[1]].astype(out.dtype) + bias


def _dense_types(given: nb.types.Type, weight: nb.types.Type) -> Any:
    vectors, packed = nb.types.Array(given, 2, "C", readonly=True), nb.types.Array(weight, 3, "C", readonly=True)
    return nb.void(vectors, packed, nb.types.Array(given, 1, "C", readonly=True), given[:, ::1])


@declared([_dense_types(_32, _32), _dense_types(_64, _32), _dense_types(_64, _64)], _dense_in_numpy, **FAST)
def dense(vectors, packed, bias, out):
    """out [B, N] = vectors [B, K] @ matrix + bias [N]; packed: the matrix, packed by `pack`. Contiguous."""
    product = np.empty((out.shape[0], width_of(packed)), out.dtype)
    multiply(vectors, packed, product, out.shape[0], 0)
    for b in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[b, j] = product[b, j] + bias[j]
