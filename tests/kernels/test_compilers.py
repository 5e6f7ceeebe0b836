# SPDX-License-Identifier: Apache-2.0
"""The processes that compile kernels, and what becomes of orders at which they are killed."""

from __future__ import annotations

import logging
import os
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

    def next_process(**how: bool) -> object:
        started.append(1)
        return own(**how)

    own, compilers._next_process = compilers._next_process, next_process  # type: ignore[method-assign, assignment]
    with caplog.at_level(logging.WARNING):
        end = time.monotonic() + 120
        while not caplog.messages and time.monotonic() < end:
            compilers.order(("deadly", "", None), urgent=False)
            time.sleep(0.05)
    assert caplog.messages == [f"the kernel deadly is not compiled: {MOST_ORDERS} processes were killed at it"]
    compilers.order(("deadly", "", None), urgent=False)
    assert len(started) == MOST_ORDERS


NICENESS = """
import os
from pathlib import Path

Path(__file__).with_suffix(".txt").write_text(str(os.nice(0)))
"""


def test_only_what_is_urgent_is_compiled_at_normal_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(background, "most_processes", lambda: 1)
    compilers, modules = Compilers(), [tmp_path / f"{name}.py" for name in ("quick", "slow")]
    for module, urgent in zip(modules, (True, False), strict=True):
        module.write_text(NICENESS)
        compilers.order((module.stem, "", None), urgent=urgent)
    end = time.monotonic() + 60
    while not compilers.compiled() and time.monotonic() < end:
        time.sleep(0.05)
    before, after = (int(module.with_suffix(".txt").read_text()) for module in modules)
    assert before == os.nice(0)
    assert after == background.NICENESS
