# SPDX-License-Identifier: Apache-2.0
"""Symbolic extents: lengths that are known when the file runs, and arithmetic with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union

import numpy as np

Size = Union[int, "Extent"]
Shape = tuple[Size, ...]


class UntraceableError(Exception):
    """A computation cannot be written down as ONNX nodes. The message says why."""


class Extent:
    """A symbolic extent: its size in each example, and its value in the graph. Comparisons hold for all inputs, so they
    are refused where the examples do not agree. open: whether it may be another one in every run although the examples
    agree, as a position is.
    """

    __array_ufunc__ = None

    def __init__(self, trace: Any, sizes: tuple[int, ...], source: Callable[[], Any], *, open_: bool = False) -> None:
        self.trace, self.sizes, self._source, self.open = trace, sizes, source, open_

    @property
    def traced(self) -> Any:
        """The array int64 [1] in the graph."""
        return self._source()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extent) and self.sizes == other.sizes

    def __hash__(self) -> int:
        return hash(self.sizes)

    def __bool__(self) -> bool:
        return True

    def __index__(self) -> int:
        raise UntraceableError("it needs a length that is known only when the file runs")

    __int__ = __float__ = __index__

    def __neg__(self) -> Size:
        return 0 - self

    def __truediv__(self, other: Any) -> Any:
        return self._number() / other

    if TYPE_CHECKING:  # assigned below, operator by operator

        def _arithmetic(self, other: Any) -> Any: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = _arithmetic
        __mod__ = __rmod__ = _arithmetic

        def _compares(self, other: Any) -> bool: ...

        __lt__ = __le__ = __gt__ = __ge__ = _compares

    def __rtruediv__(self, other: Any) -> Any:
        quotient = other / self._number()
        quotient.weak = isinstance(other, (int, float))
        return quotient

    def _number(self) -> Any:
        xp = self.trace.namespace
        number = xp.astype(xp.reshape(self.traced, ()), np.float64).copy()
        number.weak = True
        return number

    def _sizes(self, other: Any) -> tuple[int, ...]:
        return other.sizes if isinstance(other, Extent) else (int(other),) * len(self.sizes)


def _arithmetic(function: str, of_numbers: Callable[[int, int], int], *, swapped: bool = False) -> Any:
    def method(self: Extent, other: Any) -> Any:
        trace = self.trace
        if not isinstance(other, (int, np.integer, Extent)):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        sizes = tuple(
            of_numbers(a, b)
            for a, b in zip(
                *(e.sizes if isinstance(e, Extent) else (int(e),) * trace.examples for e in (left, right)), strict=True
            )
        )

        def source() -> Any:
            operands = [e.traced if isinstance(e, Extent) else trace.constant([int(e)]) for e in (left, right)]
            return getattr(trace.namespace, function)(*operands)

        if any(isinstance(e, Extent) and e.open for e in (left, right)):
            return Extent(trace, sizes, source, open_=True)
        return trace.extent(sizes, source)

    return method


def _comparison(of_numbers: Callable[[int, int], bool]) -> Callable[[Extent, Any], bool]:
    def method(self: Extent, other: Any) -> bool:
        found = {of_numbers(a, b) for a, b in zip(self.sizes, self._sizes(other), strict=True)}
        if len(found) > 1:
            raise UntraceableError("its rule depends on the length of the batch or of the sequence")
        return found.pop()

    return method


for _name, _function, _of in (
    ("add", "add", lambda a, b: a + b),
    ("sub", "subtract", lambda a, b: a - b),
    ("mul", "multiply", lambda a, b: a * b),
    ("floordiv", "floor_divide", lambda a, b: a // b),
    ("mod", "remainder", lambda a, b: a % b),
):
    setattr(Extent, f"__{_name}__", _arithmetic(_function, _of))
    setattr(Extent, f"__r{_name}__", _arithmetic(_function, _of, swapped=True))
for _name, _compares in (
    ("lt", lambda a, b: a < b), ("le", lambda a, b: a <= b), ("gt", lambda a, b: a > b), ("ge", lambda a, b: a >= b),
):  # fmt: skip
    setattr(Extent, f"__{_name}__", _comparison(_compares))
