# SPDX-License-Identifier: Apache-2.0
"""Basic indexing of traced arrays: reading a part, and writing to one."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_explain.tracing.arrays import Traced
from lstm_explain.tracing.extents import Extent, Size, UntraceableError

END = 2**62  # stands for "to the end"


def read_at(x: Traced, index: Any) -> Traced:
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(p, (Traced, np.ndarray)) and p.ndim for p in parts):
        if not all(isinstance(p, (Traced, np.ndarray)) for p in parts):
            raise UntraceableError("it mixes slices with arrays of indices")
        return x.trace.namespace.gather_at(x, parts)
    whole = _spelled_out(x, parts)
    xp, axis, squeezed, inserted = x.trace.namespace, 0, list[int](), list[int]()
    slices: list[tuple[int, slice]] = []
    place = 0
    for part in whole:
        if part is None:
            inserted.append(place)
            place += 1
            continue
        if isinstance(part, slice):
            if part != slice(None):
                slices.append((axis, part))
            place += 1
        else:
            at = int(part)
            slices.append((axis, slice(at, END if at == -1 else at + 1)))
            squeezed.append(axis)
        axis += 1
    if slices:
        x = _sliced(x, slices)
    if squeezed:
        x = xp.squeeze(x, squeezed)
    return xp.expand_dims(x, axis=inserted) if inserted else x


def _spelled_out(x: Traced, parts: tuple[Any, ...]) -> list[Any]:
    """Returns the index with a part for every axis."""
    own = sum(p is not None and p is not Ellipsis for p in parts)
    filled: list[Any] = []
    for part in parts:
        filled += [slice(None)] * (x.ndim - own) if part is Ellipsis else [part]
    own = sum(p is not None for p in filled)
    return filled + [slice(None)] * (x.ndim - own)


def _sliced(x: Traced, slices: list[tuple[int, slice]]) -> Traced:
    trace, xp = x.trace, x.trace.namespace
    steps = [s.step or 1 for _, s in slices]
    firsts = [
        (-1 if step < 0 else 0) if s.start is None else s.start for (_, s), step in zip(slices, steps, strict=True)
    ]
    lasts = [
        (-END if step < 0 else END) if s.stop is None else s.stop for (_, s), step in zip(slices, steps, strict=True)
    ]
    axes = [axis for axis, _ in slices]

    def on_numpy(a: Any, starts: Any, ends: Any, *_: Any) -> Any:
        index = [slice(None)] * a.ndim
        for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
            index[axis] = slice(start, None if abs(end) >= END else end, step)
        return a[tuple(index)]

    if x.zeros is not None:
        shape = list[Size](x.zeros)
        for axis, part in slices:
            counts = [_count(part, v.shape[axis], k) for k, v in enumerate(x.values)]
            known = trace.extents.get(tuple(counts))
            if len(set(counts)) > 1 and known is None:
                break
            shape[axis] = counts[0] if known is None else trace.extent(tuple(counts), known.copy)
        else:
            return xp.zeros(tuple(shape), dtype=x.dtype)
    vectors = [trace.sizes(firsts), trace.sizes(lasts)]
    vectors += [trace.constant(np.array(numbers, np.int64)) for numbers in (axes, steps)]
    return trace.apply("Slice", [x, *vectors], on_numpy)


def _count(part: slice, extent: int, example: int) -> int:
    """Returns how many elements of an axis the slice takes in an example."""
    start, stop = _sizes_at([0 if n is None else n for n in (part.start, part.stop)], example)
    ends = (None if part.start is None else start, None if part.stop is None or abs(stop) >= END else stop)
    return len(range(*slice(*ends, part.step).indices(extent)))


def _sizes_at(sizes: list[Size], example: int) -> list[int]:
    return [s.sizes[example] if isinstance(s, Extent) else int(s) for s in sizes]


def write_at(x: Traced, index: Any, value: Any) -> Traced:
    """x with `value` at the index, whose slices have a positive step or reverse a whole axis."""
    xp, parts = x.trace.namespace, index if isinstance(index, tuple) else (index,)
    if any(isinstance(p, (Traced, np.ndarray)) and p.ndim for p in parts):
        return xp.scatter(x, parts, value)
    whole = [p for p in _spelled_out(x, parts) if p is not None]
    value = xp.astype(xp.traced(value, x.dtype), x.dtype)
    for axis, part in enumerate(whole):
        if not isinstance(part, slice):
            value = xp.expand_dims(value, axis=axis) if value.ndim < x.ndim else value
    inside = _sliced(
        x, [(a, _as_slice(p)) for a, p in enumerate(whole) if _as_slice(p) != slice(None)] or [(0, slice(None))]
    )
    value = xp.broadcast_to(value, inside.shape)
    if x.zeros is not None:
        return _spread(x, whole, value)
    mask = _spread(xp.zeros(x.shape, dtype=np.float32), whole, xp.ones_like(value, dtype=np.float32))
    return xp.where(mask > 0, _spread(x, whole, value), x)


def _as_slice(part: Any) -> slice:
    return part if isinstance(part, slice) else slice(part, END if part == -1 else part + 1)


def _spread(x: Traced, whole: list[Any], value: Traced) -> Traced:
    """Zeros of the shape of x with `value` at the index."""
    xp, trace = x.trace.namespace, x.trace
    befores: list[Size] = [0] * x.ndim
    afters: list[Size] = [0] * x.ndim
    for axis, part in enumerate(whole):
        part = _as_slice(part)
        if part == slice(None):
            continue
        step, extent = part.step or 1, x.shape[axis]
        if step < 0:
            value = xp.flip(value, axis=axis)
            part, step = _forwards(part, value.shape[axis], extent), -step
        if step > 1:
            value = _dilated(value, axis, step)
        start = 0 if part.start is None else part.start
        start = start + extent if not isinstance(start, Extent) and start < 0 else start
        befores[axis] = start
        afters[axis] = extent - start - value.shape[axis]
    if all(not isinstance(n, Extent) and n == 0 for n in (*befores, *afters)):
        return value
    pads = trace.sizes([*befores, *afters])
    values = tuple(
        np.pad(v, list(zip(_sizes_at(befores, k), _sizes_at(afters, k), strict=True)))
        for k, v in enumerate(value.values)
    )
    if value.zeros is not None:
        return xp.zeros(x.shape, dtype=x.dtype)
    if value.is_constant and pads.is_constant:
        return trace.constant(values[0])
    (name,) = trace.writer.node("Pad", [value.name, pads.name])
    return Traced(trace, values, name)


def _forwards(part: slice, count: Size, extent: Size) -> slice:
    """Returns where the last element of a slice with a negative step lies."""
    first = extent - 1 if part.start is None else part.start
    return slice(first + (count - 1) * part.step, None)


def _dilated(value: Traced, axis: int, step: int) -> Traced:
    """`value` with step - 1 zeros between its elements."""
    xp, shape = value.trace.namespace, value.shape
    wide = xp.expand_dims(value, axis=axis + 1)
    gap = xp.zeros((*shape[: axis + 1], step - 1, *shape[axis + 1 :]), dtype=value.dtype)
    joined = xp.reshape(xp.concat([wide, gap], axis=axis + 1), (*shape[:axis], shape[axis] * step, *shape[axis + 1 :]))
    index = [slice(None)] * value.ndim
    index[axis] = slice(0, shape[axis] * step - (step - 1))
    return joined[tuple(index)]
