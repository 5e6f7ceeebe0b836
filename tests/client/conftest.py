# SPDX-License-Identifier: Apache-2.0
"""A real server in a process of its own, with small models, for the tests that need one."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import pytest

ZOO = Path(__file__).parent.parent / "zoo"
WORDS = ["", "not", "a", "bad", "film", "the", "plot", "is", "thin", "[UNK]"]
READY = re.compile(r"lstm-explain ready on (\S+)")


@dataclass(frozen=True)
class Case:
    """One model of the zoo on the server, with an input for it."""

    name: str
    input: str
    x: np.ndarray
    output: str
    y: np.ndarray


@dataclass(frozen=True)
class Server:
    address: str
    process: subprocess.Popen[str]


def _case(name: str, folder: str) -> Case:
    arrays: Any = np.load(ZOO / folder / "case.npz")
    (given,) = (key for key in arrays.files if key.startswith("input:"))
    (expected,) = (key for key in arrays.files if key.startswith("output:"))
    return Case(name, given.partition(":")[2], arrays[given], expected.partition(":")[2], arrays[expected])


NUMBERS = _case("numbers", "t_lstm_last_legacy17")
WORDS_CASE = _case("words", "t_emb_lstm_legacy17")


@pytest.fixture
def numbers() -> Case:
    """x float32 [3, 10, 5] to y float32 [3, 3]."""
    return NUMBERS


@pytest.fixture
def words() -> Case:
    """tokens int64 [3, 9] to y float32 [3, 3]."""
    return WORDS_CASE


def _fill(models: Path) -> None:
    """`numbers` as a bare file, `words` with a tokenizer."""
    shutil.copy(ZOO / "t_lstm_last_legacy17" / "model.onnx", models / "numbers.onnx")
    (models / "numbers.yaml").write_text(
        f"units: {{{NUMBERS.input}: [mm, mm, °C, °C, m/s], {NUMBERS.output}: m3/s}}\n"
        f"features: {{{NUMBERS.input}: [rain, snow, least, most, wind]}}\n"
    )
    version = models / "words" / "1"
    version.mkdir(parents=True)
    shutil.copy(ZOO / "t_emb_lstm_legacy17" / "model.onnx", version / "model.onnx")
    (models / "words" / "model.yaml").write_text(
        f"tokenizer: {{file: tokenizer.json, input: {WORDS_CASE.input}}}\n"
        f"classes: {{{WORDS_CASE.output}: [bad, fair, good]}}\n"
    )
    tokenizer = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(WORDS) if w}, "unk_token": "[UNK]"},
        "pre_tokenizer": {"type": "Whitespace"},
    }
    blank = ("truncation", "padding", "normalizer", "post_processor", "decoder")
    full = {**dict.fromkeys(blank), "added_tokens": [], **tokenizer}
    (models / "words" / "tokenizer.json").write_text(json.dumps(full))


def start(models: Path, *flags: str) -> Server:
    """A server that is ready. If it is not ready within a minute, the test fails with its output."""
    command = [sys.executable, "-m", "lstm_explain.cli", "serve", "--models", str(models), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    lines: Queue[str] = Queue()
    threading.Thread(target=_drain, args=(process, lines), daemon=True).start()
    messages = []
    try:
        while not (ready := READY.search(messages[-1] if messages else "")):
            messages.append(lines.get(timeout=60))
            if messages[-1] == "":
                break
    except Empty:
        pass
    if ready is None:
        process.kill()
        pytest.fail(f"the server did not become ready: {''.join(messages)}")
    return Server(ready.group(1), process)


def _drain(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests."""
    if importlib.util.find_spec("lstm_explain") is None:
        pytest.skip("the server is not installed")
    models = tmp_path_factory.mktemp("models")
    _fill(models)
    running = start(models, "--metrics-listen", "127.0.0.1:0")
    yield running
    running.process.terminate()
    running.process.wait(timeout=30)
