# SPDX-License-Identifier: Apache-2.0
"""Ends processes with the one that started them, and names them, by the system call prctl of Linux."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def die_with_parent() -> None:
    """Tells the kernel to kill this process when its parent ends, even if it is busy or stopped. Linux only."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def name_process(name: str) -> None:
    """Gives this process, and those that it forks, a name of at most 15 characters. Linux only."""
    _prctl(_PR_SET_NAME, name.encode())


def _prctl(option: int, value: int | bytes) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(option, value)
