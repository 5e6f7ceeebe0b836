"""The time loops of LSTM, GRU and RNN, compiled."""

from __future__ import annotations

import contextlib
from pathlib import Path


def _drop_stale() -> None:
    """Deletes outdated entries of Numba's cache, which only checks the file of a compiled function itself. Here, the
    functions that it calls are in other files.
    """
    folder = Path(__file__).parent
    newest = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for index in (folder / "__pycache__").glob("*.nbi"):
        with contextlib.suppress(OSError):  # another process was faster, or the folder is read-only
            if index.stat().st_mtime < newest:
                index.unlink()


_drop_stale()
