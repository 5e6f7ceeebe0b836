# SPDX-License-Identifier: Apache-2.0
"""Aggregates and drift, against NumPy's own means; memory while the data grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.batch.data import DISCHARGE, batch, in_this_process, pq, results, weather, write
from tests.diverging_model import CALM, CANCELLING, diverging_model
from tests.serving.models import write_version

FEATURES = ["prcp", "srad", "tmax", "tmin", "vp"]


def run(folder: Path, rows: list[np.ndarray[Any, Any]], *flags: object) -> dict[tuple[str, int], dict[str, Any]]:
    """The aggregates of a run in `folder`, by kind and position."""
    folder.mkdir()
    write(folder / "in.parquet", rows)
    arguments = ("--model", DISCHARGE, "--input", folder / "in.parquet", "--output", folder / "out")
    assert in_this_process(*arguments, "--shard-rows", 30, *flags) == 0
    lines = pq.read_table(folder / "out" / "aggregates.parquet").to_pylist()
    return {(line["kind"], line["position"]): line for line in lines}


def test_means_per_feature_and_lag(tmp_path: Path) -> None:
    lines = run(tmp_path / "a", weather(100, longest=12))
    relevance = [np.abs(np.array(r["relevance/weather"])) for r in results(tmp_path / "a" / "out").to_pylist()]
    by_feature = np.array([r.mean(axis=0) for r in relevance])
    for i, name in enumerate(FEATURES):
        line = lines["feature", i]
        assert (line["name"], line["rows"], line["drift"]) == (name, 100, None)
        assert line["mean"] == pytest.approx(by_feature[:, i].mean(), rel=1e-6)
        assert line["std"] == pytest.approx(by_feature[:, i].std(), rel=1e-5)
    for lag in range(12):
        values = [r[-1 - lag].mean() for r in relevance if len(r) > lag]
        assert lines["lag", lag]["rows"] == len(values)
        assert lines["lag", lag]["mean"] == pytest.approx(np.mean(values), rel=1e-6)
    explained = results(tmp_path / "a" / "out")["explained"].to_numpy()
    assert lines["explained", 0]["mean"] == pytest.approx(explained.mean(), rel=1e-9)


def test_drift_against_another_run(tmp_path: Path) -> None:
    """Rain that doubles shows as drift; a run does not drift from itself."""
    rows = weather(100, longest=12)
    before = run(tmp_path / "a", rows)
    same = run(tmp_path / "b", rows, "--reference", tmp_path / "a" / "out")
    assert {line["drift"] for line in same.values() if line["std"]} == {0.0}
    wet = [row * np.array([2, 1, 1, 1, 1], "f4") for row in rows]
    after = run(tmp_path / "c", wet, "--reference", tmp_path / "a" / "out")
    for key, line in after.items():
        old = before[key]
        assert (line["reference_mean"], line["reference_std"]) == (old["mean"], old["std"])
        if old["std"]:
            assert line["drift"] == pytest.approx((line["mean"] - old["mean"]) / old["std"], abs=1e-9)
    assert max(FEATURES, key=lambda f: abs(after["feature", FEATURES.index(f)]["drift"])) == "prcp"
    page = (tmp_path / "c" / "out" / "report.html").read_text()
    assert "largest drift" in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # needs nothing from elsewhere
    for name in FEATURES:
        assert name in page


def test_rows_with_a_warning_and_what_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_version(tmp_path, "likely", diverging_model("Softmax"))
    np.save(tmp_path / "x.npy", np.array([CALM, CANCELLING, CALM], np.float32))
    given = ("--model", tmp_path / "likely", "--input", tmp_path / "x.npy", "--output", tmp_path / "out")
    rule = ("--method", "lrp", "--param", "product_rule=half", "--target", "0")
    for _ in range(2):  # the second time every shard is done already
        assert in_this_process(*given, *rule) == 0
        assert "\nrows with a warning: 1," in capsys.readouterr().out
    calm, warned, again = results(tmp_path / "out").to_pylist()
    assert (calm["warning"], again["warning"]) == (None, None)
    assert "relevance diverges" in warned["warning"]
    assert {row["explained_quantity"] for row in (calm, warned, again)} == {"logit"}
    assert calm["explained"] == pytest.approx(5.0, rel=1e-3)  # 100 (0.02 + 0.03)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["warned"], summary["quantity"]) == (1, "logit")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<th>rows with a warning</th><td>1</td>" in page
    assert "the logit: the value before the output&#x27;s Softmax" in page


def test_a_reference_that_is_not_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in.parquet", weather(5))
    arguments = ("--model", DISCHARGE, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--reference", tmp_path / "nowhere") == 2
    assert "not a finished run" in capsys.readouterr().err


def test_memory_stays_flat_while_the_data_grows_tenfold(tmp_path: Path) -> None:
    """The file has one row group, so that small row groups do not bound the memory. Larger runs: `python -m bench.batch
    memory`.
    """
    peaks = []
    for count in (2_000, 20_000):
        write(tmp_path / f"{count}.parquet", weather(count, longest=60), group=count)
        flags = ("--model", DISCHARGE, "--input", tmp_path / f"{count}.parquet", "--output", tmp_path / f"out{count}")
        done = batch(*flags, "--workers", 0, "--json")
        assert done.returncode == 0, done.stderr
        peaks.append(json.loads(done.stdout)["memory"])
    assert peaks[1] < 1.15 * peaks[0]
