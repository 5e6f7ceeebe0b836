# SPDX-License-Identifier: Apache-2.0
"""A job whose rows become the reference of its model, compared with the shares of its own rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.served_model import load_served
from tests.batch.data import DISCHARGE, in_this_process, results, weather, write


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DISCHARGE, tmp_path / "discharge"))


def test_rows_become_the_reference(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in.parquet", weather(150, longest=12))
    arguments = ("--model", model, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--shard-rows", 40) == 0
    assert not (model / "1" / "drift.json").exists()
    assert in_this_process(*arguments, "--shard-rows", 40, "--as-reference") == 0  # of the job that has finished
    assert "reference for drift written to drift.json" in capsys.readouterr().out
    reference = json.loads((model / "1" / "drift.json").read_text())
    size = [np.abs(np.array(row)) for row in results(tmp_path / "out")["relevance/weather"].to_pylist()]
    by_feature = np.array([row.sum(axis=0) / row.sum() for row in size])
    newest = np.array([row[-1].sum() / row.sum() for row in size])
    features, lags = reference["shares"]
    assert (reference["rows"], features["kind"], lags["kind"]) == (150, "feature", "lag")
    assert features["mean"] == pytest.approx(by_feature.mean(axis=0), rel=1e-6)
    assert features["std"] == pytest.approx(by_feature.std(axis=0), rel=1e-4)
    assert lags["mean"][0] == pytest.approx(newest.mean(), rel=1e-6)
    served = load_served(find_model(model))
    assert served.drift is not None
    assert served.drift.fits(served.default_method, served.default_target, served.model.default_output)


def test_long_jobs_are_sampled_evenly(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstm_explain.batch.drift.MAX_ROWS", 120)
    monkeypatch.setattr("lstm_explain.batch.drift.CHUNK_ROWS", 7)
    write(tmp_path / "in.parquet", weather(351, longest=5))
    arguments = ("--model", model, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--shard-rows", 40, "--as-reference") == 0
    reference = json.loads((model / "1" / "drift.json").read_text())
    size = [np.abs(np.array(row)) for row in results(tmp_path / "out")["relevance/weather"].to_pylist()][::3]
    assert reference["rows"] == len(size) == 117
    by_feature = np.array([row.sum(axis=0) / row.sum() for row in size])
    assert reference["shares"][0]["mean"] == pytest.approx(by_feature.mean(axis=0), rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "flags", "problem"),
    [
        (20, (), "needs 100 rows with relevance, there are 20"),
        (120, ("--targets", "0"), "a reference for drift is of one target, not of several"),
    ],
)
def test_a_job_that_makes_no_reference(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int, flags: tuple[str, ...], problem: str
) -> None:
    write(tmp_path / "in.parquet", weather(rows, longest=5))
    arguments = ("--model", model, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, *flags, "--as-reference") in (1, 2)
    assert problem in capsys.readouterr().err
    assert not (model / "1" / "drift.json").exists()


def test_a_model_without_a_folder_has_no_reference(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.onnx"
    shutil.copy(model / "1" / "model.onnx", bare)
    write(tmp_path / "in.parquet", weather(120, longest=5))
    arguments = ("--model", bare, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--as-reference") == 2
    assert "only a version in a folder of its own has a reference" in capsys.readouterr().err
