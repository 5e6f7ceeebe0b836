# SPDX-License-Identifier: Apache-2.0
"""`lstm-explain explain` shows a progress bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.serving.models import lstm
from tests.serving.running import command


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder: Path = tmp_path_factory.mktemp("bar")
    onnx.save(lstm(), str(folder / "lstm.onnx"))
    np.save(folder / "x.npy", np.ones((1, 6, 4), np.float32))
    return ["explain", str(folder / "lstm.onnx"), "--input", f"x={folder / 'x.npy'}", "--json"]


def on_a_terminal(arguments: list[str]) -> str:
    """What the command writes to stderr, where that is a terminal."""
    ours, theirs = pty.openpty()
    written = bytearray()

    def read() -> None:
        try:
            while piece := os.read(ours, 1 << 16):
                written.extend(piece)
        except OSError:  # Linux: the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run(
        command(*arguments), stdout=subprocess.PIPE, stderr=theirs, env=environment, timeout=120, check=True
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert done.stdout.startswith(b"{")
    return written.decode()


def test_a_bar_on_a_terminal(arguments: list[str]) -> None:
    sampled = ["--method", "shapley_sampling", "--param", "permutations=200", "--param", "exact_players=0"]
    shown = on_a_terminal([*arguments, *sampled])
    assert "shapley_sampling: runs of the model" in shown
    assert "1001/1001" in shown  # the baseline, and 200 orders of 6 steps without their ends


def test_no_bar_for_one_pass(arguments: list[str]) -> None:
    assert "runs of the model" not in on_a_terminal(arguments)


def test_silence_elsewhere(arguments: list[str]) -> None:
    done = subprocess.run(
        command(*arguments, "--method", "shapley_sampling", "--param", "permutations=200"),
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stderr == ""
