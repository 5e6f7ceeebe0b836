# SPDX-License-Identifier: Apache-2.0
"""Keeps processes from outliving the one that started them."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Tells the kernel to kill this process when its parent ends, even if it is busy or stopped. Linux only."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
