# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of explanations: subnormal numbers are zero, and NumPy does not warn of numbers that are not finite,
because the answer is checked for them (`program/precision.py`, `explanation.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import numpy as np

from lstm_explain.kernels.flush_to_zero import begin, restore


def _silence() -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Returns the functions that begin and end what `np.errstate(all="ignore")` does.

    NumPy keeps its reaction to floating-point errors in a context variable. Setting the variable to a value made in
    advance takes a fifth of the time of `np.errstate`, which takes as long as a small dense layer.
    """
    with np.errstate(all="ignore"):
        found = [(variable, value) for variable, value in copy_context().items() if "numpy" in variable.name]
    if len(found) == 1:
        ((variable, silent),) = found
        return partial(variable.set, silent), variable.reset

    def begin_slowly() -> Any:  # for a NumPy that keeps it elsewhere
        state = np.errstate(all="ignore")
        state.__enter__()
        return state

    return begin_slowly, lambda state: state.__exit__(None, None, None)


_begin_silence, _end_silence = _silence()


class quiet_arithmetic:  # noqa: N801 - a context manager; contextlib's costs several times as much per request
    """Subnormal numbers are zero and NumPy does not warn, in the calling thread and within this context.

    Use each object once.
    """

    __slots__ = ("_before", "_silence")

    def __enter__(self) -> None:
        self._before, self._silence = begin(), _begin_silence()

    def __exit__(self, *_: object) -> None:
        _end_silence(self._silence)
        restore(self._before)
