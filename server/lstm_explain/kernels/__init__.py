"""The time loops of LSTM, GRU and RNN, compiled."""

from __future__ import annotations

import contextlib
from pathlib import Path


def _drop_stale() -> None:
    """Numba keeps compiled code as long as the function's own file stays; what it calls lies in another file here."""
    folder = Path(__file__).parent
    newest = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for index in (folder / "__pycache__").glob("*.nbi"):
        with contextlib.suppress(OSError):  # another process was faster, or nothing may be written here
            if index.stat().st_mtime < newest:
                index.unlink()


_drop_stale()
