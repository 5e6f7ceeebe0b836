# SPDX-License-Identifier: Apache-2.0
"""The processes that compile kernels, and what becomes of orders at which they are killed."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from lstm_explain.kernels import background, cache_folder
from lstm_explain.kernels.background import MOST_ORDERS, Compilers

DEADLY = "import os\nos.kill(os.getpid(), 9)  # as the kernel does where memory runs out\n"


def test_what_kills_its_process_is_not_ordered_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(background, "SECONDS_BETWEEN_ORDERS", 0.0)
    assert cache_folder.folder_of(Path(background.__file__).resolve()) is not None
    compilers, started = Compilers(), []

    def next_process() -> object:
        started.append(1)
        return own()

    own, compilers._next_process = compilers._next_process, next_process  # type: ignore[method-assign, assignment]
    with caplog.at_level(logging.WARNING):
        end = time.monotonic() + 120
        while not caplog.messages and time.monotonic() < end:
            compilers.order(("deadly", "", None))
            time.sleep(0.05)
    assert caplog.messages == [f"the kernel deadly is not compiled: {MOST_ORDERS} processes were killed at it"]
    compilers.order(("deadly", "", None))
    assert len(started) == MOST_ORDERS
