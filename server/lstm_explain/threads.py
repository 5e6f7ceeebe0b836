# SPDX-License-Identifier: Apache-2.0
"""Limits the number of threads that one explanation may use, and distributes work among them.

LSTM_EXPLAIN_THREADS sets the limit; ONNX Runtime, the time loops and (in the service) BLAS obey it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial
from typing import TypeVar, TypeVarTuple

from lstm_explain.kernels.flush_to_zero import restore, state_of_thread

T = TypeVarTuple("T")
R = TypeVar("R")
_local = threading.local()


@cache
def threads() -> int:
    """Returns the setting, read when it is first needed."""
    return max(1, int(os.environ.get("LSTM_EXPLAIN_THREADS", "1")))


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="explain")


def in_threads(work: Callable[[*T], R], parts: Sequence[tuple[*T]]) -> list[R]:
    """Returns `work(*part)` of every part, in parallel where threads are available; the caller's thread takes the first
    part.

    Every thread has a floating-point state of its own: all parts run in the caller's (kernels/flush_to_zero.py).
    """
    if len(parts) == 1:
        return [work(*parts[0])]
    if threads() == 1 or getattr(_local, "busy", False):  # Parts of parts would wait for each other.
        return [work(*part) for part in parts]

    state = state_of_thread()

    def run(part: tuple[*T]) -> R:
        restore(state)
        _local.busy = True
        try:
            return work(*part)
        finally:
            _local.busy = False

    futures = [_pool(threads() - 1).submit(run, part) for part in parts[1:]]
    try:
        first = run(parts[0])
    finally:
        wait(futures)  # They write to arrays of the caller.
    return [first, *(future.result() for future in futures)]


def each_of(calls: Sequence[Callable[..., object]]) -> Callable[..., object]:
    """Returns a function that calls all of these with its arguments, as `in_threads` does."""
    return calls[0] if len(calls) == 1 else partial(_in_each, calls)


def _in_each(calls: Sequence[Callable[..., object]], *arguments: object) -> None:
    in_threads(lambda call: call(*arguments), [(call,) for call in calls])
