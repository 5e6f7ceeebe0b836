# SPDX-License-Identifier: Apache-2.0
"""Memory of the time loops is reused, but never while an array refers to it."""

from __future__ import annotations

import gc

import numpy as np

from lstm_explain.kernels import buffer_pool


def place(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_a_block_returns_to_the_pool_with_its_last_view() -> None:
    make = buffer_pool.maker((3, buffer_pool.LARGE), np.float32)
    array = make()
    view, first = array[1:, ::7], place(array)
    del array
    gc.collect()
    other = make()
    assert place(other) != first
    view[:], other[:] = 1, 2
    assert (view == 1).all()
    del view
    again = make()
    assert place(again) == first


def test_arrays_equal_numpys() -> None:
    for shape in ((3, 4), (3, buffer_pool.LARGE)):
        for kind in (np.float32, np.float64):
            array, zeros = buffer_pool.maker(shape, kind)(), buffer_pool.maker_of_zeros(shape, kind)()
            for made in (array, zeros):
                assert (type(made), made.shape, made.dtype) == (np.ndarray, shape, np.dtype(kind))
                assert made.flags.c_contiguous
                assert made.flags.writeable
            assert not zeros.any()


def test_copies_of_a_lease_are_not_blocks() -> None:
    array = buffer_pool.maker((buffer_pool.LARGE,), np.uint8)()
    lease = array.base
    assert isinstance(lease, np.ndarray)
    copy, part = lease.copy(), lease[5:]
    first = place(array)
    del array, lease, copy
    other = buffer_pool.maker((buffer_pool.LARGE,), np.uint8)()
    assert place(other) != first
    assert part.size
