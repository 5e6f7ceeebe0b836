# SPDX-License-Identifier: Apache-2.0
"""Keeps metrics in files that the parent reads, at almost the cost of metrics in memory.

An update of prometheus_client's own multi-process values takes about 2 microseconds, and a request makes some twenty.
Most of that is finding the value in the file and checking whether the process has forked. Here each value remembers its
place in the file; workers never fork.
"""

from __future__ import annotations

import struct
import time
from threading import Lock
from typing import Any

from prometheus_client import values
from prometheus_client.multiprocess import MultiProcessCollector

ATTEMPTS, PAUSE = 20, 0.05  # seconds between two attempts to read the files


class SharedValues(MultiProcessCollector):
    """Reads the values of all processes. A file that a process is just creating or removing is read again."""

    def collect(self) -> Any:
        for _ in range(ATTEMPTS - 1):
            try:
                return super().collect()  # type: ignore[no-untyped-call]
            except (struct.error, FileNotFoundError):  # prometheus_client creates a file empty, and then extends it
                time.sleep(PAUSE)
        return super().collect()  # type: ignore[no-untyped-call]


def use() -> None:
    """Call it before any metric is created. PROMETHEUS_MULTIPROC_DIR names the folder of the files."""
    base: Any = values.MultiProcessValue()  # type: ignore[no-untyped-call]

    class SharedValue(base):  # type: ignore[misc]
        """A number in the file, at the place that the base class has given it."""

        _value: float

        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self._own = Lock()
            try:
                at = self._file._positions[self._key]
                self._cell = memoryview(self._file._m)[at : at + 8].cast("d")
            except (AttributeError, KeyError):  # another release of prometheus_client
                self.__dict__.update(inc=super().inc, set=super().set, get=super().get)

        def inc(self, amount: float) -> None:
            with self._own:
                self._value = self._cell[0] = self._value + amount

        def set(self, value: float, timestamp: float | None = None) -> None:
            with self._own:
                self._value = self._cell[0] = value

        def get(self) -> float:
            return float(self._value)

    values.ValueClass = SharedValue
