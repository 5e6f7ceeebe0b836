# SPDX-License-Identifier: Apache-2.0
"""`lstm-explain batch` in this process: its inputs, its outputs and its errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lstm_explain as lx
from tests.batch.data import (
    DISCHARGE,
    MODEL,
    SENTIMENT,
    check_rows,
    check_same,
    in_this_process,
    pa,
    pq,
    results,
    table,
    weather,
    write,
)


def test_every_row_gets_the_answer_that_it_would_get_alone(tmp_path: Path) -> None:
    rows = weather(300)
    write(tmp_path / "in.parquet", rows)
    assert in_this_process("--model", DISCHARGE, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out") == 0
    check_rows(tmp_path / "out", {"in.parquet": rows})
    assert len(list((tmp_path / "out" / "rows").iterdir())) == 2  # shards of whole row groups
    assert not list((tmp_path / "out" / "errors").iterdir())


def test_files_of_every_format_in_one_folder(tmp_path: Path) -> None:
    rows = {f: weather(30, seed=i) for i, f in enumerate(["a.parquet", "sub/b.arrow", "c.npz", "d.feather"])}
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    write(data / "a.parquet", rows["a.parquet"], group=7)
    for name in ("sub/b.arrow", "d.feather"):
        with pa.ipc.new_file(data / name, table(rows[name]).schema) as file:
            file.write_table(table(rows[name]), max_chunksize=11)
    same = rows["c.npz"] = [np.random.default_rng(i).standard_normal((9, 5)).astype("f4") for i in range(30)]
    np.savez(data / "c.npz", weather=np.stack(same))
    (data / "_unfinished.parquet").write_text("not looked at")
    assert in_this_process("--model", MODEL, "--input", data, "--output", tmp_path / "out", "--shard-rows", 8) == 0
    check_rows(tmp_path / "out", rows)


@pytest.mark.parametrize("order", ["npy", "npz"])
def test_one_numpy_array_is_the_only_input(tmp_path: Path, order: str) -> None:
    x = np.random.default_rng(1).standard_normal((20, 6, 5))  # float64: comes to float32
    path = tmp_path / f"x.{order}"
    np.save(path, x) if order == "npy" else np.savez_compressed(path, weather=x)
    assert in_this_process("--model", MODEL, "--input", path, "--output", tmp_path / "out", "--shard-rows", 7) == 0
    check_rows(tmp_path / "out", {path.name: list(x.astype("f4"))})


def test_columns_by_other_names_flat_lists_and_a_key(tmp_path: Path) -> None:
    rows = weather(20)
    flat = pa.array([row.ravel().tolist() for row in rows], pa.list_(pa.float64()))
    pq.write_table(pa.table({"readings": flat, "station": [f"s{i}" for i in range(20)]}), tmp_path / "in.parquet")
    arguments = ("--model", MODEL, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--column", "weather=readings", "--key", "station") == 0
    check_rows(tmp_path / "out", {"in.parquet": rows})
    assert results(tmp_path / "out")["key"].to_pylist() == [f"s{i}" for i in range(20)]


def test_text_by_the_models_tokenizer(tmp_path: Path) -> None:
    texts = ["a great film", "no", "", "the acting is fine but the plot is awful", None]
    pq.write_table(pa.table({"tokens": texts}), tmp_path / "in.parquet")
    arguments = ("--model", SENTIMENT, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--target", 3) == 3
    found = results(tmp_path / "out").to_pylist()
    assert [row["tokens/tokens"] for row in found] == [texts[i].split() for i in (0, 1, 3)]
    assert [row["target"] for row in found] == [[3]] * 3
    assert all(len(row["relevance/tokens"]) == len(row["tokens/tokens"]) for row in found)
    failed = results(tmp_path / "out", "errors").to_pylist()
    assert [(row["row"], row["error"]) for row in failed] == [(2, "InputError"), (4, "InputError")]
    assert "no tokens" in failed[0]["reason"]
    assert "null" in failed[1]["reason"]


def test_several_targets_of_every_row(tmp_path: Path) -> None:
    texts = ["a fine film", "not bad", "far too long and dull"]
    pq.write_table(pa.table({"tokens": texts}), tmp_path / "in.parquet")
    arguments = ("--model", SENTIMENT, "--input", tmp_path / "in.parquet", "--workers", 0)
    many, again = tmp_path / "many", ("--output", tmp_path / "many", "--targets", "every class; negative")
    assert in_this_process(*arguments, *again) == 0
    found = results(many).to_pylist()
    assert [(row["row"], row["target_number"]) for row in found] == [(r, n) for r in range(3) for n in range(6)]
    assert [row["target"] for row in found] == [[0], [1], [2], [3], [4], [1]] * 3
    assert in_this_process(*arguments, "--output", tmp_path / "one", "--target", 3) == 0
    for one, row in zip(results(tmp_path / "one").to_pylist(), found[3::6], strict=True):
        assert one["relevance/tokens"] == pytest.approx(row["relevance/tokens"], rel=1e-6)
        assert one["explained"] == row["explained"]
        assert "target_number" not in one
    assert in_this_process(*arguments, *again) == 0  # resumes
    assert in_this_process(*arguments, "--output", many, "--targets", "every class") == 2  # another job


def test_rows_that_cannot_be_explained_do_not_stop_others(tmp_path: Path) -> None:
    rows = weather(40)
    bad = {3: rows[3].copy(), 11: np.zeros((0, 5), "f4"), 12: np.ones((4, 3), "f4")}
    bad[3][0, 2] = np.nan
    write(tmp_path / "in.parquet", [bad.get(i, row) for i, row in enumerate(rows)])
    arguments = ("--model", MODEL, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--key", "id")
    assert in_this_process(*arguments) == 3
    failed = {row["row"]: row for row in results(tmp_path / "out", "errors").to_pylist()}
    assert list(failed) == list(bad)
    assert {row["key"] for row in failed.values()} == {f"row {i}" for i in bad}
    for number, reason in ((3, "is nan at (0, 0, 2)"), (11, "has shape (1, 0, 0)"), (12, "expected (batch, time, 5)")):
        assert reason in failed[number]["reason"], failed[number]
    assert results(tmp_path / "out")["row"].to_pylist() == [i for i in range(40) if i not in bad]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["rows"], summary["failed"]) == (37, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--model": "nowhere.onnx"}, "nowhere.onnx"),
        ({"--input": "nowhere.parquet"}, "nowhere.parquet"),
        ({"--input": "README.md"}, "expected one of .parquet"),
        ({"--method": "magic"}, "unknown method"),
        ({"--param": "epsilon=-1"}, "epsilon"),
        ({"--target": "9"}, "outside output"),
        ({"--column": "weather=rain"}, "no column 'rain' for input 'weather'"),
        ({"--column": "weather=id"}, "contains text"),
        ({"--key": "name"}, "no column 'name'"),
    ],
    ids=str,
)
def test_mistakes_exit_with_2_and_leave_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], message: str
) -> None:
    write(tmp_path / "in.parquet", weather(5))
    flags = {"--model": MODEL, "--input": tmp_path / "in.parquet", "--output": tmp_path / "out", **changed}
    assert in_this_process(*(word for pair in flags.items() for word in pair)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_not_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in.parquet", weather(5))
    assert in_this_process("--model", MODEL, "--input", tmp_path / "in.parquet", "--output", tmp_path) == 2
    assert "contains files, but no job" in capsys.readouterr().err


def test_the_command_does_not_import_grpc() -> None:
    code = "import sys, lstm_explain.batch.command; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from lstm_explain.cli import main; main()"
    flags = ["batch", "--model", str(MODEL), "--input", "x", "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'lstm-explain[ray]'" in done.stderr


def test_the_method_of_the_model_keeps_its_other_parameters(tmp_path: Path) -> None:
    rows = weather(12, longest=6)
    write(tmp_path / "in.parquet", rows)
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(MODEL, folder / "model.onnx")
    (folder / "model.yaml").write_text("method: {name: lrp, product_rule: half, epsilon: 0.05}\n")
    arguments = ("--model", folder, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--method", "lrp", "--param", "stabiliser=0.1,0.01") == 0
    model = lx.load(MODEL)
    for row, x in zip(results(tmp_path / "out").to_pylist(), rows, strict=True):
        alone = model.explain({"weather": x[None]}, lx.LRP("half", stabiliser=(0.1, 0.01)))
        check_same(np.array(row["relevance/weather"]), alone.relevance["weather"][0])


def test_methods_with_parameters_of_their_own(tmp_path: Path) -> None:
    rows = weather(12, longest=6)
    write(tmp_path / "in.parquet", rows)
    arguments = ("--model", MODEL, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--method", "shapley_sampling", "--param", "permutations=3") == 0
    model = lx.load(MODEL)
    for row, x in zip(results(tmp_path / "out").to_pylist(), rows, strict=True):
        alone = model.explain({"weather": x[None]}, lx.ShapleySampling(permutations=3))
        check_same(np.array(row["relevance/weather"]), alone.relevance["weather"][0])
        check_same(np.array(row["standard_error/weather"]), alone.standard_error["weather"][0])


def test_a_background_set_and_rows_of_another_length(tmp_path: Path) -> None:
    """Rows that are not as long as the samples are recorded as errors; all others are explained."""
    samples = np.random.default_rng(3).standard_normal((6, 9, 5)).astype(np.float32)
    folder = tmp_path / "river"
    shutil.copytree(DISCHARGE, folder)
    np.savez(folder / "background.npz", weather=samples)
    rows = [np.random.default_rng(i).standard_normal((steps, 5)).astype("f4") for i, steps in enumerate((9, 7, 9, 9))]
    write(tmp_path / "in.parquet", rows)
    method = ("--method", "occlusion", "--param", "baseline=background(draws=3)")
    arguments = ("--model", folder, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, *method) == 3
    (error,) = results(tmp_path / "out", "errors").to_pylist()
    assert error["row"] == 1
    assert "have 9 time steps of 'weather', the input has 7" in error["reason"]
    found = {row["row"]: row for row in results(tmp_path / "out").to_pylist()}
    assert sorted(found) == [0, 2, 3]
    model = lx.load(MODEL)
    for number, row in found.items():
        background = lx.Background({"weather": samples}, draws=3)
        alone = model.explain({"weather": rows[number][None]}, lx.Occlusion(baseline=background))
        check_same(np.array(row["relevance/weather"]), alone.relevance["weather"][0])
        check_same(np.array(row["standard_error/weather"]), alone.standard_error["weather"][0])
