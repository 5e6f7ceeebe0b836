# SPDX-License-Identifier: Apache-2.0
"""One explanation on several threads: the same answers, whatever the setting."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lstm_explain as lx
from bench.models import Shape, inputs_of, model_of
from lstm_explain.threads import in_threads, threads


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    threads.cache_clear()
    yield
    threads.cache_clear()


METHODS = [lx.LRP(), lx.LRP("abs"), lx.LRP(bias_factor=1.0), lx.GradientTimesInput()]


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch", [1, 5, 16])
def test_threads_change_no_answer(monkeypatch: pytest.MonkeyPatch, op: str, bidirectional: bool, batch: int) -> None:
    shape = Shape(6, 10, bidirectional, op)
    x = inputs_of(shape, 9, batch)
    answers = []
    for count in ("1", "3"):
        monkeypatch.setenv("LSTM_EXPLAIN_THREADS", count)
        threads.cache_clear()
        model = lx.load(model_of(shape))
        answers.append([model.explain({"x": x}, method, lx.Target(index=2)) for method in METHODS])
    for alone, shared in zip(*answers, strict=True):
        scale = np.abs(alone.relevance["x"]).max()
        np.testing.assert_allclose(shared.relevance["x"], alone.relevance["x"], atol=2e-5 * scale)
        np.testing.assert_allclose(shared.explained, alone.explained, rtol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_the_setting_overrides_the_variables_of_blas() -> None:
    count = "import numpy, os; print(len(os.listdir('/proc/self/task')))"
    code = f"from lstm_explain.cli.serve import allow_threads; allow_threads(1); {count}"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    received = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(received.stdout) == 1


def test_parts_run_in_parallel_and_return_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_EXPLAIN_THREADS", "3")
    together = threading.Barrier(3, timeout=30)  # breaks unless all three are at work at once

    def work(part: int) -> int:
        together.wait()
        return part * part

    assert in_threads(work, [(1,), (2,), (3,)]) == [1, 4, 9]


def test_parts_of_parts_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_EXPLAIN_THREADS", "2")
    assert in_threads(lambda a: sum(in_threads(lambda b: a * b, [(1,), (2,), (3,)])), [(1,), (2,), (3,), (4,)]) == [
        6,
        12,
        18,
        24,
    ]


def test_an_error_of_a_part_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_EXPLAIN_THREADS", "2")
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda n: 1 // n, [(1,), (0,)])
    assert in_threads(lambda n: n, [(1,), (2,)]) == [1, 2]
