"""The recurrent product of the time loops: a few vectors, one a sample, times one matrix that is packed once.

BLAS lays out the matrix anew at every call, so of every step, and a loop over the matrix is held up by the sums that it
reads and writes. Here sums stay in registers: a tile of WIDTH columns times up to ROWS vectors, written in LLVM's own
vectors since no loop is turned into this. The matrix is packed tile by tile, so that it is read in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba.extending import intrinsic

from lstm_explain.kernels.scalar import FAST

WIDTH = 16
SUMS = 8  # at work at once, at least: an addition takes four cycles, and a new one can start in each
INT = ir.IntType(64)


def pack(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[K, N] to [ceil(N / WIDTH), K, WIDTH], zeros past N.

    In float32 where that holds every weight exactly, whatever the arithmetic: each step reads all of them, and takes as
    long as they take to come from the cache.
    """
    single = matrix.astype(np.float32)
    lean = single if np.array_equal(single, matrix) else matrix
    K, N = lean.shape
    padded = np.zeros((K, -(-N // WIDTH) * WIDTH), lean.dtype)
    padded[:, :N] = lean
    return np.ascontiguousarray(padded.reshape(K, -1, WIDTH).swapaxes(0, 1))


def _has_32_registers() -> bool:
    """Of the processor that is compiled for (see kernel_cache)."""
    if nb.config.CPU_NAME:
        return bool(nb.config.CPU_NAME == "x86-64-v4")
    return bool(binding.get_host_cpu_features().get("avx512f", False))


def _tile(rows: int) -> Callable[..., None]:
    """out[first : first + rows, columns of the tile] = vectors[first : first + rows] @ packed[tile]."""
    unroll = -(-SUMS // rows)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vectors, packed, out = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        first, tile = arguments[3:]
        number = context.get_value_type(signature.args[0].dtype)
        weight = context.get_value_type(signature.args[1].dtype)
        vector, weights = ir.VectorType(number, WIDTH), ir.VectorType(weight, WIDTH)
        K = builder.extract_value(builder.load(packed._get_ptr_by_name("shape")), 1)
        stride = builder.extract_value(builder.load(out._get_ptr_by_name("shape")), 1)
        of_tile = builder.gep(packed.data, [builder.mul(builder.mul(tile, K), ir.Constant(INT, WIDTH))])
        lines = [builder.add(first, ir.Constant(INT, r)) for r in range(rows)]
        starts = [builder.gep(vectors.data, [builder.mul(line, K)]) for line in lines]

        def step(k: Any, sums: list[Any]) -> list[Any]:
            at = builder.gep(of_tile, [builder.mul(k, ir.Constant(INT, WIDTH))])
            w = builder.load(builder.bitcast(at, weights.as_pointer()), align=4)
            if weight != number:
                w = builder.fpext(w, vector)
            made = []
            for start, total in zip(starts, sums, strict=True):
                value = builder.load(builder.gep(start, [k]))
                single = builder.insert_element(
                    ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
                )
                every = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
                spread = builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), every)
                term = builder.fmul(spread, w, flags=("contract",))
                made.append(builder.fadd(total, term, flags=("contract",)))
            return made

        zero = ir.Constant(vector, [0.0] * WIDTH)
        whole = builder.sub(K, builder.urem(K, ir.Constant(INT, unroll)))
        # `unroll` steps at once, each into sums of its own; then the steps that are left
        groups = _loop(builder, ir.Constant(INT, 0), whole, unroll, [zero] * (rows * unroll), lambda k, sums: [
            total for u in range(unroll)
            for total in step(builder.add(k, ir.Constant(INT, u)), sums[u * rows : (u + 1) * rows])
        ])  # fmt: skip
        sums = groups[:rows]
        for u in range(1, unroll):
            sums = [builder.fadd(a, b) for a, b in zip(sums, groups[u * rows : (u + 1) * rows], strict=True)]
        sums = _loop(builder, whole, K, 1, sums, step)
        column = builder.mul(tile, ir.Constant(INT, WIDTH))
        for line, total in zip(lines, sums, strict=True):
            at = builder.gep(out.data, [builder.add(builder.mul(line, stride), column)])
            builder.store(total, builder.bitcast(at, vector.as_pointer()), align=4)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(typing: Any, vectors: Any, packed: Any, out: Any, first: Any, index: Any) -> Any:
        return nb.types.none(vectors, packed, out, nb.types.int64, nb.types.int64), generate

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


_eight, _four, _two, _one = (_tile(rows) for rows in (8, 4, 2, 1))
EIGHT = _has_32_registers()


def _types(number: nb.types.Type, weight: nb.types.Type) -> Any:
    """Inputs may be read-only."""
    vectors, packed = nb.types.Array(number, 2, "C", readonly=True), nb.types.Array(weight, 3, "C", readonly=True)
    return nb.void(vectors, packed, number[:, ::1], nb.int64)


@nb.njit(
    [_types(nb.float32, nb.float32), _types(nb.float64, nb.float32), _types(nb.float64, nb.float64)],
    **FAST,
)
def multiply(vectors, packed, out, count):
    """out[:count] = vectors[:count] @ matrix. vectors [B, K], packed as by `pack`, out [B, N padded]; contiguous."""
    for tile in range(packed.shape[0]):
        b = 0
        if EIGHT:
            while b + 8 <= count:
                _eight(vectors, packed, out, b, tile)
                b += 8
        while b + 4 <= count:
            _four(vectors, packed, out, b, tile)
            b += 4
        if b + 2 <= count:
            _two(vectors, packed, out, b, tile)
            b += 2
        if b < count:
            _one(vectors, packed, out, b, tile)


@nb.njit(**{**FAST, "cache": False, "inline": "always"})
def width_of(packed):
    """Columns of a product with `packed`, padding included."""
    return packed.shape[0] * packed.shape[2]
