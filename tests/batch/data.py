# SPDX-License-Identifier: Apache-2.0
"""Ragged rows in every file format, the engine's answer for each row alone, and the command that explains them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.repository.model_yaml import read_config
from tests.serving.running import command

pa = pytest.importorskip("pyarrow", reason="needs the extra [ray]")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra [ray]")

DISCHARGE, SENTIMENT = Path("models/discharge"), Path("models/sentiment")
MODEL = DISCHARGE / "1" / "model.onnx"


def weather(count: int, longest: int = 40, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Rows of one to `longest` steps, with five features each."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rng.integers(1, longest + 1), 5)).astype("f4") for _ in range(count)]


def table(rows: list[np.ndarray[Any, Any]], name: str = "weather") -> Any:
    column = pa.array([row.tolist() for row in rows], pa.list_(pa.list_(pa.float32())))
    return pa.table({"id": [f"row {i}" for i in range(len(rows))], name: column})


def write(path: Path, rows: list[np.ndarray[Any, Any]], group: int = 50, name: str = "weather") -> Path:
    pq.write_table(table(rows, name), path, row_group_size=group)
    return path


def batch(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    flags = command("batch", *map(str, arguments))
    env = {**os.environ, **environment}
    return subprocess.run(flags, capture_output=True, text=True, timeout=180, check=False, env=env)


def in_this_process(*arguments: object) -> int:
    """The exit code of the command in this process, without Ray."""
    from lstm_explain.cli import main

    try:
        main(["batch", *map(str, arguments), "--workers", "0"])
    except SystemExit as left:
        return int(left.code or 0)
    raise AssertionError("main() came back")


def results(output: Path, what: str = "rows") -> Any:
    return pq.read_table(output / what)


def array(value: Any) -> np.ndarray[Any, Any]:
    return np.array(value)


def card_method() -> lx.Method:
    """The method in the model.yaml of `discharge`."""
    return read_config(DISCHARGE / "model.yaml").config.default_method()


def check_rows(output: Path, rows: dict[str, list[np.ndarray[Any, Any]]], file: str = "") -> None:
    """Checks that every row of these files occurs once, in the order of its file, with the engine's answer for the row
    alone.
    """
    model, found, method = lx.load(MODEL), results(output).to_pylist(), card_method()
    assert sorted((r["file"], r["row"]) for r in found) == sorted((f, i) for f in rows for i in range(len(rows[f])))
    for row in found:
        x = rows[row["file"]][row["row"]]
        alone = model.explain({"weather": x[None]}, method)
        check_same(array(row["relevance/weather"]), alone.relevance["weather"][0])
        check_same(array(row["output/discharge"]), alone.outputs["discharge"][0])
        assert abs(row["explained"] - alone.explained[0]) <= 1e-6 * abs(alone.explained[0])
        entries = ("inputs", "initial_states", "absorbed", "residual")
        assert abs(row["explained"] - sum(row[f"ledger/{e}"] for e in entries)) <= 1e-9 * abs(row["explained"])


def check_same(received: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    """Checks equality within 1e-6 of the largest element."""
    assert received.shape == expected.shape
    assert np.abs(received - expected).max(initial=0) <= 1e-6 * np.abs(expected).max(initial=0)
