"""How many threads one explanation may use, and work shared out among them.

LSTM_EXPLAIN_THREADS says how many; ONNX Runtime, the time loops and (in the service) BLAS obey it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_here = threading.local()


@cache
def threads() -> int:
    """As set when first asked for."""
    return max(1, int(os.environ.get("LSTM_EXPLAIN_THREADS", "1")))


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="explain")


def in_threads(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """`work` of every part, at once where there are threads to spare; the caller's own takes the first part."""
    if len(parts) == 1:
        return [work(parts[0])]
    if threads() == 1 or getattr(_here, "busy", False):  # parts of parts would wait for each other
        return [work(part) for part in parts]

    def alone(part: T) -> R:
        _here.busy = True
        try:
            return work(part)
        finally:
            _here.busy = False

    later = [_pool(threads() - 1).submit(alone, part) for part in parts[1:]]
    try:
        first = alone(parts[0])
    finally:
        wait(later)  # they write to arrays of the caller's
    return [first, *(future.result() for future in later)]
