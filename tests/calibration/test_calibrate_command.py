# SPDX-License-Identifier: Apache-2.0
"""`lstm-explain calibrate`, from a data file to the model.yaml that a server reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.calibration.data import read_samples
from lstm_explain.cli import main
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.served_model import load_served
from tests.builders import recurrent_model

MODELS = Path(__file__).parents[2] / "models"
TEXTS = """a masterful film with wonderful acting
the plot is dull and the jokes are not funny
not bad at all , but far too long
i loved every minute of this charming story
a tedious , lifeless and badly written mess
the cast is great , the script is terrible
an unforgettable and moving portrait
nothing here works , least of all the ending
"""


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def sentiment(tmp_path: Path) -> Path:
    shutil.copytree(MODELS / "sentiment", tmp_path / "sentiment")
    (tmp_path / "texts.txt").write_text(TEXTS)
    return tmp_path / "sentiment"


def without_method(card: str) -> list[str]:
    return [line for line in card.splitlines() if not line.startswith(("# calibrated: ", "method:"))]


def test_the_choice_is_written_to_model_yaml_with_what_was_measured(
    sentiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = (sentiment / "model.yaml").read_text()
    assert run("calibrate", sentiment, "--data", tmp_path / "texts.txt", "--budget", "20", "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    edited = (sentiment / "model.yaml").read_text()
    assert without_method(edited) == without_method(card)
    assert f"# calibrated: {found['verdict']}" in edited
    served = load_served(find_model(sentiment))
    assert {k: served.default_method.parameters()[k] for k in found["method"] if k != "name"} == {
        k: v for k, v in found["method"].items() if k != "name"
    }
    assert found["samples"] == {"race": 4, "held_out": 4, "refused": 0}
    assert {"epsilon=0.001", "default", "occlusion", "random order"} <= found["held_out"].keys()
    report = (sentiment / "calibration.html").read_text()
    assert found["verdict"] in report
    assert report.count("<svg") == 2
    assert f"<b>{found['label']}</b>" in report


def test_a_dry_run_leaves_the_card_alone(sentiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = (sentiment / "model.yaml").read_text()
    page = tmp_path / "page.html"
    flags = ("--data", tmp_path / "texts.txt", "--budget", "1", "--dry-run", "--html", page)
    assert run("calibrate", sentiment, *flags) == 0
    assert (sentiment / "model.yaml").read_text() == card
    assert not (sentiment / "calibration.html").exists()
    assert "Measured on held-out samples" in page.read_text()
    assert "chosen: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "nowhere.npz"), "nowhere.npz: No such file or directory"),
        (("--data", "few.npz"), "no array 'x' for input 'x', few.npz has 'other'"),
        (("--data", "few.npz", "--column", "x=other"), "there are 2 samples, expected at least 4"),
        (("--data", "flat.npy"), "input 'x' has shape (7,), expected 3 axes"),
        (("--data", "pickled.npy"), "pickled.npy cannot be read as .npy: it holds Python objects, expected numbers"),
        (("--data", "texts.txt"), "texts.txt: the model does not take a text as its only input"),
        (("--data", "few.npz", "--over", "words"), "--over 'words' is not one of steps, features, cells"),
        (("--data", "few.csv"), "few.csv: expected one of"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(recurrent_model(np.random.default_rng(0), batch_first=True).model, "model.onnx")
    model = lx.load("model.onnx")
    shape = [2 if isinstance(n, str) else n for n in model.inputs["x"].shape]
    np.savez("few.npz", other=np.zeros(shape, np.float32))
    np.save("flat.npy", np.zeros(7, np.float32))
    np.save("pickled.npy", np.array([None]), allow_pickle=True)
    Path("texts.txt").write_text("one\ntwo\n")
    Path("few.csv").write_text("x\n1\n")
    assert run("calibrate", "model.onnx", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("model.yaml").exists()


def test_a_card_that_cannot_be_edited_is_refused_before_the_work(
    sentiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sentiment / "model.yaml").write_text("{target: {output: logits}}\n")
    assert run("calibrate", sentiment, "--data", tmp_path / "missing.txt") == 2
    assert "written as one flow mapping" in capsys.readouterr().err


def test_rows_of_different_lengths_come_from_parquet(sentiment: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs the extra [ray]")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra [ray]")
    rows = [[5, 6, 7], [8, 9], None, [10, 11, 12, 13]]
    pq.write_table(pa.table({"words": pa.array(rows, pa.list_(pa.int64()))}), tmp_path / "rows.parquet")
    served = load_served(find_model(sentiment))
    read = read_samples(served, tmp_path / "rows.parquet", {"tokens": "words"}, 100, 0)
    assert sorted(sample["tokens"].tolist() for sample in read) == [[[5, 6, 7]], [[8, 9]], [[10, 11, 12, 13]]]
    assert len(read_samples(served, tmp_path / "rows.parquet", {"tokens": "words"}, 2, 0)) <= 2


def test_arrays_are_split_along_the_axis_of_samples(tmp_path: Path) -> None:
    """The model takes [steps, samples, features]."""
    onnx.save(recurrent_model(np.random.default_rng(0), D=4).model, str(tmp_path / "model.onnx"))
    served = load_served(find_model(tmp_path / "model.onnx"))
    axes = served.model.axes["x"]
    assert (axes.time, axes.batch) == (0, 1)
    x = np.random.default_rng(1).normal(size=(6, 3, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, labels=np.zeros(3))
    read = read_samples(served, tmp_path / "data.npz", {}, 100, 0)
    assert sorted(sample["x"].tobytes() for sample in read) == sorted(x[:, i : i + 1].tobytes() for i in range(3))
